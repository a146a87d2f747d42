package ricloud_test

import (
	"context"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	ricloud "github.com/reincubate/ricloud-go"
	"github.com/reincubate/ricloud-go/ricloudtest"
)

// ledger counts how often each event took effect.
type ledger struct {
	mu      sync.Mutex
	effects map[ricloud.ID]int
}

func (l *ledger) handle(_ context.Context, e *ricloud.Event) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.effects[e.ID]++
	return nil
}

// Deliveries are doubled, reordered, wrongly signed or too old, and an outage outlasts every retry.
// Each event on the API's record still takes effect exactly once.
func TestEveryEventTakesEffectOnce(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		l := &ledger{effects: map[ricloud.ID]int{}}
		handler, err := ricloud.NewWebhookHandler(l.handle)
		require.NoError(t, err)
		down := make(chan struct{})
		receiver := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			select {
			case <-down:
				w.WriteHeader(http.StatusBadGateway)
			default:
				handler.ServeHTTP(w, r)
			}
		})
		srv := ricloudtest.NewServer(
			ricloudtest.WithReceiver(receiverURL, receiver), ricloudtest.WithoutUndeliveredEvents(),
			ricloudtest.WithWebhookFaults(ricloudtest.WebhookFaults{
				Duplicate: .3, Reorder: .3,
				WrongSignature: .2, OldTimestamp: .2,
			}),
		)
		defer srv.Close()
		ctx, client := t.Context(), srv.Client()
		_, err = client.WebhookConfigs.Ensure(ctx,
			ricloud.WebhookConfigEnsureParams{URL: receiverURL, BeforeTest: handler.SetSecrets})
		require.NoError(t, err)
		session, err := login(ctx, client)
		require.NoError(t, err)
		polls := func() {
			for range 20 {
				_, err := client.Polls.Create(ctx, ricloud.PollCreateParams{
					Session: session.ID, Payload: ricloud.PollPayload{DataTypes: []string{"callkit.calls"}},
				})
				require.NoError(t, err)
			}
			time.Sleep(24 * time.Hour) //nolint:forbidigo // virtual: longer than the API tries
		}
		polls()
		outage := time.Now()
		close(down)
		polls()

		handled, err := client.Events.Replay(ctx, outage, handler.Handle)
		require.NoError(t, err)
		assert.Greater(t, handled, 20)
		n, err := client.Events.Replay(ctx, time.Time{}, handler.Handle)
		require.NoError(t, err)
		assert.Zero(t, n, "what was handled before does not count")

		events := 0
		for event, err := range client.Events.All(ctx, ricloud.EventListParams{}) {
			require.NoError(t, err)
			assert.Equal(t, 1, l.effects[event.ID], "%s %s", event.Name(), event.State)
			events++
		}
		assert.Len(t, l.effects, events)
		assert.Greater(t, events, 100)
	})
}

// The handler works over real connections behind a reverse proxy that strips a prefix.
func TestWebhookHandlerBehindAProxy(t *testing.T) {
	t.Parallel()
	l := &ledger{effects: map[ricloud.ID]int{}}
	backend := httptest.NewServer(newWebhook(t, l.handle))
	defer backend.Close()
	target, err := url.Parse(backend.URL)
	require.NoError(t, err)
	transport := &http.Transport{}
	defer transport.CloseIdleConnections()
	proxy := &httputil.ReverseProxy{
		Rewrite:   func(r *httputil.ProxyRequest) { r.SetURL(target) },
		Transport: transport,
	}
	front := httptest.NewServer(http.StripPrefix("/public/prefix", proxy))
	defer front.Close()

	body := eventBody("e1")
	for range 2 {
		r := delivery(t, body)
		r.RequestURI = ""
		r.URL, err = url.Parse(front.URL + "/public/prefix/webhooks/e1")
		require.NoError(t, err)
		res, err := transport.RoundTrip(r)
		require.NoError(t, err)
		require.NoError(t, res.Body.Close())
		assert.Equal(t, http.StatusOK, res.StatusCode)
	}
	assert.Equal(t, map[ricloud.ID]int{"e1": 1}, l.effects)
}
