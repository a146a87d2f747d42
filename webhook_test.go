package ricloud_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/jarcoal/httpmock"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	ricloud "github.com/reincubate/ricloud-go"
)

func TestWebhookHandlerAnswers(t *testing.T) {
	t.Parallel()
	good := eventBody("e1")
	for name, tt := range map[string]struct {
		change func(*http.Request)
		body   []byte
		want   int
	}{
		"good": {change: nil, body: good, want: 200},
		"no type": {
			change: func(r *http.Request) { r.Header.Del("Content-Type") },
			body:   good,
			want:   200,
		},
		"type with charset": {change: func(r *http.Request) {
			r.Header.Set("Content-Type", "application/json; charset=utf-8")
		}, body: good, want: 200},
		"vendor type": {change: func(r *http.Request) {
			r.Header.Set("Content-Type", "application/vnd.ricloud+json")
		}, body: good, want: 200},
		"unknown event": {
			change: nil,
			body:   []byte(`{"id":"1","type":"comet","action":"seen","data":[1]}`),
			want:   200,
		},
		"string of JSON": {
			change: nil,
			body:   []byte(`"{\"id\":\"1\",\"type\":\"poll\"}"`),
			want:   200,
		},
		"not JSON": {change: nil, body: []byte(`id=1`), want: 400},
		"empty":    {change: nil, body: nil, want: 400},
		"no event": {change: nil, body: []byte(`{}`), want: 400},
		"signed inside": {
			change: signedInside,
			body:   []byte(`"{\"id\":\"1\",\"type\":\"poll\"}"`),
			want:   200,
		},
		"form type": {change: func(r *http.Request) {
			r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		}, body: good, want: 200},
		"charset cut short": {change: func(r *http.Request) {
			r.Header.Set("Content-Type", "application/json; charset")
		}, body: good, want: 200},
		"text": {
			change: func(r *http.Request) { r.Header.Set("Content-Type", "text/plain") },
			body:   good,
			want:   200,
		},
		"bad type": {
			change: func(r *http.Request) { r.Header.Set("Content-Type", "json;;=") }, body: good,
			want: 200,
		},
		"said compressed": {
			change: func(r *http.Request) { r.Header.Set("Content-Encoding", "gzip") }, body: good,
			want: 200,
		},
		"blank in header": {
			change: func(r *http.Request) { blankAfterComma(r.Header) },
			body:   good,
			want:   200,
		},
		"odd fields": {
			change: nil,
			body: []byte(`{"id":"1","type":"poll","action":null,"state":7,"retries":"5",` +
				`"date_created":"soon",` +
				`"date_delivered":[1]}`), want: 200,
		},
		"body that breaks": {
			change: func(r *http.Request) { r.Body = io.NopCloser(brokenReader{}) },
			body:   good,
			want:   400,
		},
		"no signature": {
			change: func(r *http.Request) { r.Header.Del(ricloud.SignatureHeader) },
			body:   good,
			want:   401,
		},
		"garbage signature": {
			change: func(r *http.Request) { r.Header.Set(ricloud.SignatureHeader, "\x00,,=,") },
			body:   good, want: 401,
		},
		"another's": {change: func(r *http.Request) {
			r.Header.Set(ricloud.SignatureHeader, sign("x", time.Now(), good))
		}, body: good, want: 401},
		"stale": {change: func(r *http.Request) {
			r.Header.Set(ricloud.SignatureHeader, sign(webhookSecret, time.Unix(1e9, 0), good))
		}, body: good, want: 401},
		"unsigned, no event": {
			change: func(r *http.Request) { r.Header.Del(ricloud.SignatureHeader) },
			body:   []byte(`{}`), want: 401,
		},
		"get": {
			change: func(r *http.Request) { r.Method = http.MethodGet },
			body:   good,
			want:   405,
		},
		"put": {
			change: func(r *http.Request) { r.Method = http.MethodPut },
			body:   good,
			want:   405,
		},
		"large": {change: nil, body: bytes.Repeat([]byte(" "), 2001), want: 413},
		"large, of no length": {change: func(r *http.Request) {
			r.ContentLength, r.Body = -1, io.NopCloser(io.LimitReader(endless{}, 1<<40))
		}, body: good, want: 413},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			calls := 0
			h := newWebhook(t, func(context.Context, *ricloud.Event) error { calls++; return nil },
				ricloud.WithWebhookMaxBody(2000))
			r := delivery(t, tt.body)
			if tt.change != nil {
				tt.change(r)
			}
			w := serve(h, r)
			assert.Equal(t, tt.want, w.Code, w.Body.String())
			assert.Equal(t, tt.want == http.StatusOK, calls == 1, "fn is called for good deliveries only")
			assert.Equal(t, tt.want == http.StatusMethodNotAllowed,
				w.Header().Get("Allow") == http.MethodPost)
			assert.NotContains(t, w.Body.String(), string(webhookSecret))
			assert.NotContains(t, w.Body.String(), sign(webhookSecret, time.Now(), tt.body)[15:])
		})
	}
}

// signedInside signs as the API did when events were JSON strings: the signature covers the JSON
// inside the string.
func signedInside(r *http.Request) {
	r.Header.Set(ricloud.SignatureHeader,
		sign(webhookSecret, time.Now(), []byte(`{"id":"1","type":"poll"}`)))
}

func blankAfterComma(h http.Header) {
	h.Set(ricloud.SignatureHeader, strings.Replace(h.Get(ricloud.SignatureHeader), ",", ", ", 1))
}

type brokenReader struct{}

func (brokenReader) Read([]byte) (int, error) { return 0, errors.New("the connection broke") }

type endless struct{}

func (endless) Read(b []byte) (int, error) { return len(b), nil }

func TestWebhookHandlerHandsOverTheEvent(t *testing.T) {
	t.Parallel()
	type key struct{}
	var got *ricloud.Event
	h := newWebhook(t, func(ctx context.Context, e *ricloud.Event) error {
		got = e
		assert.Equal(t, "value", ctx.Value(key{}), "the request's context reaches fn")
		return nil
	})
	r := delivery(t, eventBody("e1"))
	require.Equal(t, http.StatusOK,
		serve(h, r.WithContext(context.WithValue(r.Context(), key{}, "value"))).Code)
	assert.Equal(t, ricloud.ID("e1"), got.ID)
	poll, err := got.Poll()
	require.NoError(t, err)
	assert.Equal(t, ricloud.ID("p1"), poll.ID)
}

func TestWebhookHandlerHandlesAnEventOnce(t *testing.T) {
	t.Parallel()
	calls := 0
	h := newWebhook(t, func(context.Context, *ricloud.Event) error { calls++; return nil })
	for range 3 {
		assert.Equal(t, http.StatusOK, serve(h, delivery(t, eventBody("e1"))).Code)
	}
	require.NoError(t, h.Handle(t.Context(), &ricloud.Event{ID: "e1"}),
		"nor does a replay handle it again")
	assert.Equal(t, 1, calls)

	var p *ricloud.ParamError
	require.ErrorAs(t, h.Handle(t.Context(), &ricloud.Event{}), &p,
		"without an id events cannot be told apart")
}

func TestWebhookHandlerLetsAFailedEventComeAgain(t *testing.T) {
	t.Parallel()
	calls := 0
	var logged bytes.Buffer
	h := newWebhook(t, func(context.Context, *ricloud.Event) error {
		switch calls++; calls {
		case 1:
			return errors.New("database-canary")
		case 2:
			panic("panic-canary")
		}
		return nil
	}, ricloud.WithWebhookLogger(slog.New(slog.NewTextHandler(&logged, nil))))

	for _, want := range []int{500, 500, 200, 200} {
		w := serve(h, delivery(t, eventBody("e1")))
		assert.Equal(t, want, w.Code)
		assert.NotContains(t, w.Body.String(), "canary", "the sender is not told what fn says")
	}
	assert.Equal(t, 3, calls)
	assert.Contains(t, logged.String(), "database-canary")
	assert.Contains(t, logged.String(), "panic-canary")
	assert.Contains(t, logged.String(), "webhook_test.go", "a panic is logged with its stack")
	assert.Contains(t, logged.String(), "event=e1")
}

// Without a logger, a panic is logged where net/http logs panics of handlers.
func TestWebhookHandlerPanicReachesTheServersLog(t *testing.T) {
	t.Parallel()
	var logged bytes.Buffer
	h := newWebhook(t, func(context.Context, *ricloud.Event) error { panic("panic-canary") })
	r := delivery(t, eventBody("e1"))
	server := &http.Server{ErrorLog: log.New(&logged, "", 0)}
	w := serve(h, r.WithContext(context.WithValue(r.Context(), http.ServerContextKey, server)))
	assert.Equal(t, http.StatusInternalServerError, w.Code)
	assert.Contains(t, logged.String(), "panic-canary")
}

func TestWebhookHandlerGivesBackWhatGoexitLeaves(t *testing.T) {
	t.Parallel()
	exit := true
	h := newWebhook(t, func(context.Context, *ricloud.Event) error {
		if exit {
			runtime.Goexit()
		}
		return nil
	})
	gone := make(chan struct{})
	go func() {
		defer close(gone)
		serve(h, delivery(t, eventBody("e1")))
	}()
	<-gone
	exit = false
	assert.Equal(t, http.StatusOK, serve(h, delivery(t, eventBody("e1"))).Code)
}

// Parallel deliveries of one event call fn once. The others are answered with 503, and not with
// 200, because the first one may still fail.
func TestWebhookHandlerParallelDeliveries(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var calls, ok, busy atomic.Int64
		h := newWebhook(t, func(context.Context, *ricloud.Event) error {
			<-time.After(time.Second) //nolint:forbidigo // virtual
			calls.Add(1)
			return nil
		})
		for range 10 {
			go func() {
				switch w := serve(h, delivery(t, eventBody("e1"))); w.Code {
				case http.StatusOK:
					ok.Add(1)
				case http.StatusServiceUnavailable:
					assert.NotEmpty(t, w.Header().Get("Retry-After"))
					busy.Add(1)
				}
			}()
		}
		synctest.Wait()
		require.ErrorIs(t, h.Handle(t.Context(), &ricloud.Event{ID: "e1"}), ricloud.ErrEventInProgress)
		time.Sleep(2 * time.Second) //nolint:forbidigo // virtual
		assert.Equal(t, []int64{1, 1, 9}, []int64{calls.Load(), ok.Load(), busy.Load()})
		assert.Equal(t, http.StatusOK, serve(h, delivery(t, eventBody("e1"))).Code)
		assert.EqualValues(t, 1, calls.Load())
	})
}

func TestWebhookHandlerSecrets(t *testing.T) {
	t.Parallel()
	h, err := ricloud.NewWebhookHandler(ignore)
	require.NoError(t, err)
	assert.Equal(t, http.StatusServiceUnavailable, serve(h, delivery(t, eventBody("e1"))).Code,
		"no secret, nothing to verify with")

	require.NoError(t, h.SetSecrets(ricloud.NewSecret("former")))
	assert.Equal(t, http.StatusUnauthorized, serve(h, delivery(t, eventBody("e1"))).Code)
	require.NoError(t, h.SetSecrets(ricloud.NewSecret("former"), ricloud.NewSecret(webhookSecret)))
	assert.Equal(t, http.StatusOK, serve(h, delivery(t, eventBody("e1"))).Code)

	var p *ricloud.ParamError
	require.ErrorAs(t, h.SetSecrets(), &p)
	require.ErrorAs(t, h.SetSecrets(ricloud.NewSecret(webhookSecret), ricloud.NewSecret("")), &p)
	assert.Equal(t, http.StatusOK, serve(h, delivery(t, eventBody("e2"))).Code,
		"what is refused changes nothing")

	for _, verb := range []string{"%v", "%+v", "%#v"} {
		assert.NotContains(t, fmt.Sprintf(verb, h)+fmt.Sprintf(verb, newWebhook(t, ignore)),
			string(webhookSecret))
	}
}

func TestNewWebhookHandlerRefuses(t *testing.T) {
	t.Parallel()
	for field, opt := range map[string]ricloud.WebhookOption{
		"secret":                   ricloud.WithWebhookSecrets(ricloud.NewSecret("")),
		"secret is req":            ricloud.WithWebhookSecrets(),
		"WithWebhookMaxBody":       ricloud.WithWebhookMaxBody(0),
		"WithWebhookTimeout":       ricloud.WithWebhookTimeout(-1),
		"WithWebhookMaxConcurrent": ricloud.WithWebhookMaxConcurrent(-1),
		"WithWebhookTolerance":     ricloud.WithWebhookTolerance(-1, 0),
		"must not be negative":     ricloud.WithWebhookTolerance(0, -1),
		"WithWebhookDeduplicator":  ricloud.WithWebhookDeduplicator(nil),
		"Deduplicator":             ricloud.WithWebhookDeduplicator((*fakeDeduplicator)(nil)),
		"WithWebhookClient":        ricloud.WithWebhookClient(nil),
		"WithWebhookLogger":        ricloud.WithWebhookLogger(nil),
		"a nil WebhookOption":      nil,
	} {
		h, err := ricloud.NewWebhookHandler(ignore, opt)
		require.ErrorContains(t, err, field)
		assert.Nil(t, h)
	}
	_, err := ricloud.NewWebhookHandler(nil)
	require.ErrorContains(t, err, "fn")
}

// The API appends the event's ID to the URL of the config, so the handler accepts any path.
func TestWebhookHandlerMounts(t *testing.T) {
	t.Parallel()
	h := newWebhook(t, ignore)
	mux := http.NewServeMux()
	mux.Handle("/webhooks/", h)
	mux.Handle("POST /exact/{id}", h)
	mux.Handle("/behind/proxy/", http.StripPrefix("/behind/proxy", h))
	for _, path := range []string{"/webhooks/e1", "/webhooks/", "/exact/e1", "/behind/proxy/e1"} {
		r := delivery(t, eventBody("e1"))
		r.URL.Path = path
		assert.Equal(t, http.StatusOK, serve(mux, r).Code, path)
	}
}

// fakeDeduplicator returns the errors that the test sets.
type fakeDeduplicator struct {
	ricloud.Deduplicator
	begin, done error
	settled     []string
}

func (d *fakeDeduplicator) Begin(_ context.Context, id ricloud.ID) (ricloud.Lease, error) {
	return ricloud.Lease{Event: id, Owner: "me"}, d.begin
}

func (d *fakeDeduplicator) Done(ctx context.Context, _ ricloud.Lease) error {
	d.settled = append(d.settled, fmt.Sprint("done ", ctx.Err()))
	return d.done
}

func (d *fakeDeduplicator) Failed(ctx context.Context, _ ricloud.Lease) error {
	d.settled = append(d.settled, fmt.Sprint("failed ", ctx.Err()))
	return nil
}

func TestWebhookHandlerDeduplicatorFailures(t *testing.T) {
	t.Parallel()
	var logged bytes.Buffer
	d := &fakeDeduplicator{begin: errors.New("no database")}
	h := newWebhook(t, ignore, ricloud.WithWebhookDeduplicator(d),
		ricloud.WithWebhookLogger(slog.New(slog.NewTextHandler(&logged, nil))))
	assert.Equal(t, http.StatusInternalServerError, serve(h, delivery(t, eventBody("e1"))).Code)
	assert.Contains(t, logged.String(), "no database")
	assert.Empty(t, d.settled, "no lease, so nothing to settle")

	d.begin, d.done = nil, errors.New("disk full")
	assert.Equal(t, http.StatusOK, serve(h, delivery(t, eventBody("e1"))).Code,
		"the event took effect: the API must not send it again")
	assert.Contains(t, logged.String(), "disk full")
}

// The outcome is recorded even if the API has closed the connection.
func TestWebhookHandlerSettlesAfterTheRequest(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancel(t.Context())
	d := &fakeDeduplicator{}
	h := newWebhook(t, func(ctx context.Context, e *ricloud.Event) error {
		cancel()
		if e.ID == "e1" {
			return nil
		}
		return ctx.Err()
	}, ricloud.WithWebhookDeduplicator(d))
	serve(h, delivery(t, eventBody("e1")).WithContext(ctx))
	serve(h, delivery(t, eventBody("e2")).WithContext(ctx))
	assert.Equal(t, []string{"done <nil>", "failed <nil>"}, d.settled)
}

func FuzzWebhookHandler(f *testing.F) {
	good := eventBody("e1")
	f.Add("POST", "application/json", "", good, true)
	f.Add("POST", "", sign(webhookSecret, time.Unix(1e9, 0), good), good, false)
	f.Add("GET", "text/plain; charset=\"", "t=1,s=", []byte(`"{}"`), true)
	f.Fuzz(func(t *testing.T, method, contentType, signature string, body []byte, signed bool) {
		called := false
		h := newWebhook(t, func(_ context.Context, e *ricloud.Event) error {
			called = true
			assert.NotEmpty(t, e.ID)
			_, _ = e.Resource() // must not panic, whatever was signed
			return nil
		})
		r := httptest.NewRequestWithContext(t.Context(), http.MethodPost, "/", bytes.NewReader(body))
		r.Method = method
		r.Header["Content-Type"] = []string{contentType}
		r.Header[ricloud.SignatureHeader] = []string{signature}
		if signed {
			r.Header.Set(ricloud.SignatureHeader, sign(webhookSecret, time.Now(), body))
		}
		w := serve(h, r)
		require.Contains(t, []int{200, 400, 401, 405, 413}, w.Code)
		require.Equal(t, w.Code == http.StatusOK, called)
		if !signed {
			require.False(t, called, "nobody signed this: %s", strings.ToValidUTF8(string(body), "?"))
		}
	})
}

// A handler with a client notifies the client's waits before it calls fn.
func TestWebhookHandlerNotifiesItsClient(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		api := httpmock.NewMockTransport()
		api.RegisterResponder(http.MethodGet, `=~/polls\b`,
			httpmock.NewStringResponder(http.StatusOK, `{"id":"p1","state":"processing"}`))
		client, err := ricloud.NewClient("token", ricloud.WithTransport(api))
		require.NoError(t, err)
		waited := make(chan error, 1)
		h := newWebhook(t, func(context.Context, *ricloud.Event) error {
			synctest.Wait()
			select {
			case err := <-waited:
				return err
			default:
				return errors.New("the wait goes on")
			}
		}, ricloud.WithWebhookClient(client))
		go func() {
			_, err := client.Polls.Wait(t.Context(), "p1")
			waited <- err
		}()
		time.Sleep(time.Minute) //nolint:forbidigo // virtual
		assert.Equal(t, http.StatusOK, serve(h, delivery(t, eventBody("e1"))).Code)
	})
}

func sandboxClient(t *testing.T) *ricloud.Client {
	t.Helper()
	client, err := ricloud.NewClient("token", ricloud.WithTransport(httpmock.NewMockTransport()))
	require.NoError(t, err)
	return client
}

// AddSecrets keeps the existing secrets.
func TestWebhookHandlerAddSecrets(t *testing.T) {
	t.Parallel()
	h, err := ricloud.NewWebhookHandler(ignore)
	require.NoError(t, err)
	known := ricloud.NewSecret(webhookSecret)
	require.NoError(t, h.AddSecrets(known))
	require.NoError(t, h.AddSecrets(ricloud.NewSecret("next"), known))
	for i, secret := range []string{webhookSecret, "next"} {
		body := eventBody(fmt.Sprint("e", i))
		r := delivery(t, body)
		r.Header.Set(ricloud.SignatureHeader, sign(secret, time.Now(), body))
		assert.Equal(t, http.StatusOK, serve(h, r).Code)
	}
}
