package ricloudtest_test

import (
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"net/http"
	"os"
	"path"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	ricloud "github.com/reincubate/ricloud-go"
	"github.com/reincubate/ricloud-go/ricloudtest"
)

// The vendor's own client created these signatures.
func TestSignWebhook(t *testing.T) {
	t.Parallel()
	raw, err := os.ReadFile("testdata/webhook-signatures.json")
	require.NoError(t, err)
	var vectors []struct {
		Name      string `json:"name"`
		Secret    string `json:"secret"`
		Header    string `json:"header"`
		Timestamp int64  `json:"timestamp"`
		Body      string `json:"body_hex"`
	}
	require.NoError(t, json.Unmarshal(raw, &vectors))
	require.NotEmpty(t, vectors)
	for _, v := range vectors {
		body, err := hex.DecodeString(v.Body)
		require.NoError(t, err)
		assert.Equal(t, v.Header, ricloudtest.SignWebhook(v.Secret, time.Unix(v.Timestamp, 0), body),
			v.Name)
	}
}

// inbox is a receiver that stores what it receives, and answers with status.
type inbox struct {
	mu     sync.Mutex
	status int
	got    []received
}

type received struct {
	slug, id, signature string
	path                string
	body                []byte
	at                  time.Time
}

func (i *inbox) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, _ := readAll(&http.Response{Body: r.Body})
	var event struct {
		ID     string `json:"id"`
		Type   string `json:"type"`
		Action string `json:"action"`
	}
	_ = json.Unmarshal(body, &event)
	i.mu.Lock()
	defer i.mu.Unlock()
	i.got = append(i.got, received{
		event.Type + "." + event.Action, event.ID,
		r.Header.Get("Ricloud-Signature"), r.URL.Path, body, time.Now(),
	})
	w.WriteHeader(i.status)
}

func (i *inbox) take() []received {
	i.mu.Lock()
	defer i.mu.Unlock()
	got := i.got
	i.got = nil
	return got
}

func (i *inbox) answer(status int) {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.status = status
}

// subscribe returns a server that delivers its events to an inbox.
func subscribe(
	ctx context.Context, t *testing.T, opts ...ricloudtest.Option,
) (*ricloudtest.Server, *inbox, *ricloud.WebhookConfig) {
	t.Helper()
	in := &inbox{status: http.StatusOK}
	srv := newServer(t, append(opts, ricloudtest.WithReceiver(receiver, in))...)
	config, err := srv.Client().WebhookConfigs.Create(ctx,
		ricloud.WebhookConfigCreateParams{URL: receiver + "/"})
	require.NoError(t, err)
	pass(time.Second)
	return srv, in, config
}

func pass(d time.Duration) {
	time.Sleep(d) //nolint:forbidigo // virtual time
	synctest.Wait()
}

func TestDeliveries(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		ctx := t.Context()
		srv, in, config := subscribe(ctx, t)
		test := in.take()
		require.Len(t, test, 2, "the test itself, and that its task succeeded")
		assert.Equal(t, "webhook_config.test", test[0].slug)

		c := srv.Client()
		session := john(ctx, t, c)
		_, err := c.Polls.Create(ctx, ricloud.PollCreateParams{
			Session: session.ID,
			Payload: ricloud.PollPayload{DataTypes: []string{"callkit.calls"}},
		})
		require.NoError(t, err)
		pass(time.Minute)
		require.NoError(t, srv.ExpireSession(session.ID, "service"))
		pass(time.Minute)
		var slugs []string
		for _, r := range in.take() {
			slugs = append(slugs, r.slug)
			assert.Equal(t, "/webhooks/"+r.id, r.path)
			seconds, err := strconv.ParseInt(strings.TrimPrefix(strings.Split(r.signature, ",")[0], "t="),
				10, 64)
			require.NoError(t, err)
			assert.Equal(t, ricloudtest.SignWebhook(config.Secret.Reveal(), time.Unix(seconds, 0), r.body),
				r.signature)
			assert.InDelta(t, r.at.Unix(), seconds, 1)
		}
		assert.ElementsMatch(t, []string{
			"task.created", "task.succeeded", "poll.created", "task.created",
			"task.succeeded", "poll.completed", "session.expired",
		}, slugs)
		events, err := c.Events.List(ctx, ricloud.EventListParams{State: "delivered"})
		require.NoError(t, err)
		assert.Len(t, events.Data, len(slugs)+2)
	})
}

// After five failed attempts, the event has failed.
func TestDeliveriesAreRetried(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		ctx := t.Context()
		srv, in, _ := subscribe(ctx, t)
		in.take()
		in.answer(http.StatusInternalServerError)
		id, err := srv.Deliver("poll", "completed", map[string]any{"id": "p"})
		require.NoError(t, err)
		pass(5 * time.Hour)
		got := in.take()
		require.Len(t, got, 5)
		event, err := srv.Client().Events.Get(ctx, id)
		require.NoError(t, err)
		assert.Equal(t, ricloud.EventState("failed"), event.State)
		assert.Equal(t, 4, event.Retries)

		id, err = srv.Deliver("poll", "completed", nil)
		require.NoError(t, err)
		synctest.Wait()
		in.answer(http.StatusNoContent)
		pass(2 * time.Minute)
		event, err = srv.Client().Events.Get(ctx, id)
		require.NoError(t, err)
		assert.Equal(t, ricloud.EventState("delivered"), event.State)
	})
}

// With WithWebhookTransport, deliveries to any URL go to that transport, and are retried as
// WithWebhookRetries says.
func TestWebhookTransportAndRetries(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var hosts []string
		var mu sync.Mutex
		answer := http.StatusOK
		srv := newServer(t,
			ricloudtest.WithWebhookRetries(time.Second, time.Minute),
			ricloudtest.WithWebhookTransport(roundTrip(func(r *http.Request) (*http.Response, error) {
				mu.Lock()
				defer mu.Unlock()
				hosts = append(hosts, r.URL.Host)
				return &http.Response{StatusCode: answer, Body: http.NoBody, Request: r}, nil
			})),
		)
		_, err := srv.Client().WebhookConfigs.Create(t.Context(),
			ricloud.WebhookConfigCreateParams{URL: "https://elsewhere.example/hooks"})
		require.NoError(t, err)
		pass(time.Second)
		mu.Lock()
		assert.Contains(t, hosts, "elsewhere.example")
		hosts, answer = nil, http.StatusInternalServerError
		mu.Unlock()
		require.NoError(t, srv.ExpireSession(john(t.Context(), t, srv.Client()).ID, "service"))
		pass(time.Hour)
		events, err := srv.Client().Events.List(t.Context(), ricloud.EventListParams{Type: "session"})
		require.NoError(t, err)
		require.Len(t, events.Data, 1)
		assert.Equal(t, ricloud.EventFailed, events.Data[0].State)
		assert.Equal(t, 2, events.Data[0].Retries, "one for each pause")
	})
}

// refusing is a network on which nothing listens.
type refusing struct{}

func (refusing) RoundTrip(*http.Request) (*http.Response, error) {
	return nil, errors.New("connection refused")
}

type roundTrip func(*http.Request) (*http.Response, error)

func (f roundTrip) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

func TestWebhookFaults(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		faults ricloudtest.WebhookFaults
		want   int
	}{
		"dropped":    {faults: ricloudtest.WebhookFaults{Drop: 1}, want: 0},
		"duplicated": {faults: ricloudtest.WebhookFaults{Duplicate: 1}, want: 4},
		"held back": {
			faults: ricloudtest.WebhookFaults{Reorder: 1, HoldBack: time.Hour},
			want:   0,
		},
		"wrong signature": {faults: ricloudtest.WebhookFaults{WrongSignature: 1}, want: 2},
		"old timestamp":   {faults: ricloudtest.WebhookFaults{OldTimestamp: 1}, want: 2},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				ctx := t.Context()
				srv, in, config := subscribe(ctx, t, ricloudtest.WithWebhookFaults(test.faults))
				in.take()
				awaitSession(ctx, t, srv)
				pass(10 * time.Second)
				got := in.take()
				require.Len(t, got, test.want)
				for _, r := range got {
					good := ricloudtest.SignWebhook(config.Secret.Reveal(), r.at, r.body) == r.signature
					assert.Equal(t, test.faults.WrongSignature == 0 && test.faults.OldTimestamp == 0, good)
				}
			})
		})
	}
}

// A failed test makes a webhook config invalid, and a successful one makes it valid again.
func TestWebhookConfigStates(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		ctx := t.Context()
		srv, in, config := subscribe(ctx, t)
		c := srv.Client()
		for status, want := range map[int]ricloud.ConfigState{
			http.StatusNotFound: "invalid",
			http.StatusOK:       "valid",
		} {
			in.answer(status)
			task, err := c.WebhookConfigs.Test(ctx, config.ID)
			require.NoError(t, err)
			_, err = c.Tasks.Wait(ctx, task.ID)
			assert.Equal(t, status != http.StatusOK, err != nil)
			config, err = c.WebhookConfigs.Get(ctx, config.ID)
			require.NoError(t, err)
			assert.Equal(t, want, config.State)
		}
	})
}

// Events are delivered over loopback, where the vendor's own receiver listens.
func TestDeliveryOverLoopback(t *testing.T) {
	t.Parallel()
	in := &inbox{status: http.StatusOK}
	backend := newServer(t) // any local server would do, and this one needs no import
	srv := newServer(t, ricloudtest.WithReceiver("http://receiver.invalid", in))
	c := srv.Client()
	config, err := c.WebhookConfigs.Create(t.Context(),
		ricloud.WebhookConfigCreateParams{URL: backend.URL()})
	require.NoError(t, err)
	task, err := c.WebhookConfigs.Test(t.Context(), config.ID)
	require.NoError(t, err)
	_, err = c.Tasks.Wait(t.Context(), task.ID)
	require.Error(t, err, "a ricloud API is no receiver: 404")
	calls := backend.Calls()
	require.NotEmpty(t, calls)
	assert.Equal(t, http.MethodPost, calls[0].Method)
	assert.Equal(t, "/", path.Dir(calls[0].Path))
	assert.Empty(t, in.take())
}
