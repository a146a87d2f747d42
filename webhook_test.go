package ricloud_test

import (
	"bytes"
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/jarcoal/httpmock"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	ricloud "github.com/reincubate/ricloud-go"
)

// vector is a signature that the vendor's own client created.
type vector struct {
	Name   string         `json:"name"`
	Secret ricloud.Secret `json:"secret"`
	Body   string         `json:"body_hex"`
	Header string         `json:"header"`
}

func (v vector) body(t *testing.T) []byte {
	t.Helper()
	body, err := hex.DecodeString(v.Body)
	require.NoError(t, err)
	return body
}

func vectors(t *testing.T) []vector {
	t.Helper()
	raw, err := os.ReadFile("testdata/webhook-signatures.json")
	require.NoError(t, err)
	var all []vector
	require.NoError(t, json.Unmarshal(raw, &all))
	require.NotEmpty(t, all)
	return all
}

// ageless returns a verifier that accepts signatures of any age.
func ageless(secrets ...ricloud.Secret) ricloud.WebhookVerifier {
	return ricloud.WebhookVerifier{Secrets: secrets, Past: 200 * 365 * 24 * time.Hour}
}

func TestVerifyWebhookVectors(t *testing.T) {
	t.Parallel()
	for _, v := range vectors(t) {
		require.NoError(t, ageless(v.Secret).Verify(v.Header, v.body(t)), v.Name)
		require.ErrorIs(t, ricloud.VerifyWebhook(v.Header, v.body(t), v.Secret),
			ricloud.ErrSignatureTooOld, v.Name)
	}
}

// flips yields every string that differs from s in one bit.
func flips(s string) func(func(string) bool) {
	return func(yield func(string) bool) {
		b := []byte(s)
		for i := range b {
			for bit := range 8 {
				b[i] ^= 1 << bit
				if !yield(string(b)) {
					return
				}
				b[i] ^= 1 << bit
			}
		}
	}
}

func TestVerifyWebhookRefusesEveryOneBitChange(t *testing.T) {
	t.Parallel()
	for _, v := range vectors(t) {
		body := v.body(t)
		for header := range flips(v.Header) {
			require.ErrorIs(t, ageless(v.Secret).Verify(header, body), ricloud.ErrSignature, "%s: header",
				v.Name)
		}
		for changed := range flips(string(body)) {
			require.ErrorIs(t, ageless(v.Secret).Verify(v.Header, []byte(changed)),
				ricloud.ErrSignatureMismatch, "%s: body", v.Name)
		}
		for secret := range flips(v.Secret.Reveal()) {
			require.ErrorIs(t, ageless(ricloud.NewSecret(secret)).Verify(v.Header, body),
				ricloud.ErrSignatureMismatch, "%s: secret", v.Name)
		}
	}
}

func TestVerifyWebhookHeader(t *testing.T) {
	t.Parallel()
	body := []byte(`{"id":"1"}`)
	now := time.Now()
	good := sign(webhookSecret, now, body)
	ts, sig, _ := strings.Cut(good, ",")

	for header, want := range map[string]error{
		good:                                  nil,
		sig + "," + ts:                        nil,
		"v=2," + good + ",x=a=b=,next=":       nil,
		"":                                    ricloud.ErrSignatureMissing,
		"garbage":                             ricloud.ErrSignatureMalformed,
		",":                                   ricloud.ErrSignatureMalformed,
		ts:                                    ricloud.ErrSignatureMalformed,
		sig:                                   ricloud.ErrSignatureMalformed,
		ts + ", " + sig:                       nil,
		ts + " ,\t" + sig + " ":               nil,
		" t = " + ts[2:] + ", s = " + sig[2:]: nil,
		good + ",":                            nil,
		good + ",beta":                        nil,
		good + "," + ts:                       ricloud.ErrSignatureMalformed,
		good + "," + sig:                      ricloud.ErrSignatureMalformed,
		strings.ToUpper(ts) + "," + sig:       ricloud.ErrSignatureMalformed,
		"t=-1," + sig:                         ricloud.ErrSignatureMalformed,
		"t=+1," + sig:                         ricloud.ErrSignatureMalformed,
		"t=1e9," + sig:                        ricloud.ErrSignatureMalformed,
		"t=99999999999999999999," + sig:       ricloud.ErrSignatureMalformed,
		"t=4611686018427387903," + sig:        ricloud.ErrSignatureMismatch,
		"t=0," + sig:                          ricloud.ErrSignatureMismatch,
		ts + ",s=":                            ricloud.ErrSignatureMalformed,
		strings.TrimSuffix(good, "="):         ricloud.ErrSignatureMalformed,
		good + "=":                            ricloud.ErrSignatureMalformed,
		good[:len(good)-4] + "\r\n\n=":        ricloud.ErrSignatureMismatch,
		strings.Repeat("a=b,", 1e5) + "t":     ricloud.ErrSignatureMalformed,
	} {
		err := ricloud.VerifyWebhook(header, body, ricloud.NewSecret(webhookSecret))
		if want == nil {
			require.NoError(t, err, "%.80q", header)
			continue
		}
		require.ErrorIs(t, err, want, "%.80q", header)
		require.ErrorIs(t, err, ricloud.ErrSignature)
		assert.NotContains(t, err.Error(), sig[2:12], "no error holds a signature")
		assert.NotContains(t, err.Error(), string(webhookSecret), "no error holds a secret")
	}
}

// Only the canonical base64 spelling is accepted, although a lenient decoder accepts others.
func TestVerifyWebhookTakesOneSpellingOnly(t *testing.T) {
	t.Parallel()
	const alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
	body := []byte("{}")
	good := sign(webhookSecret, time.Now(), body)
	last := len(good) - 2 // the last digit before the padding, whose low two bits are unused
	digit := strings.IndexByte(alphabet, good[last])
	for low := 1; low < 4; low++ {
		alias := good[:last] + string(alphabet[digit^low]) + "="
		require.ErrorIs(t, ricloud.VerifyWebhook(alias, body, ricloud.NewSecret(webhookSecret)),
			ricloud.ErrSignatureMismatch)
	}
}

func TestVerifyWebhookRotation(t *testing.T) {
	t.Parallel()
	body := []byte("{}")
	header := sign(webhookSecret, time.Now(), body)
	require.NoError(t,
		ricloud.VerifyWebhook(header, body, ricloud.NewSecret("next"), ricloud.NewSecret(webhookSecret)))
	require.NoError(t, ricloud.VerifyWebhook(header, body, ricloud.NewSecret(webhookSecret),
		ricloud.NewSecret("former")))
	require.ErrorIs(t, ricloud.VerifyWebhook(header, body, ricloud.NewSecret("next"),
		ricloud.NewSecret("former")), ricloud.ErrSignatureMismatch)
}

func TestVerifyWebhookRefusesAnEmptySecret(t *testing.T) {
	t.Parallel()
	body := []byte("{}")
	for _, secrets := range [][]ricloud.Secret{
		nil,
		{},
		{ricloud.NewSecret("")},
		{ricloud.NewSecret(webhookSecret), ricloud.NewSecret("")},
	} {
		err := ricloud.VerifyWebhook(sign("", time.Now(), body), body, secrets...)
		var p *ricloud.ParamError
		require.ErrorAs(t, err, &p)
		assert.NotContains(t, err.Error(), string(webhookSecret))
	}
}

func TestVerifyWebhookTolerance(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		body, now := []byte("{}"), time.Now()
		custom := ricloud.WebhookVerifier{
			Secrets: []ricloud.Secret{ricloud.NewSecret(webhookSecret)},
			Past:    time.Hour, Future: time.Second,
		}
		for _, tt := range []struct {
			verify func(string, []byte) error
			at     time.Duration
			want   error
		}{
			{verify: verifyDefault, at: -10 * time.Minute, want: nil},
			{
				verify: verifyDefault,
				at:     -10*time.Minute - time.Second,
				want:   ricloud.ErrSignatureTooOld,
			},
			{verify: verifyDefault, at: time.Minute, want: nil},
			{
				verify: verifyDefault,
				at:     time.Minute + time.Second,
				want:   ricloud.ErrSignatureTooNew,
			},
			{verify: verifyDefault, at: 1e6 * time.Second, want: ricloud.ErrSignatureTooNew},
			{verify: custom.Verify, at: -time.Hour, want: nil},
			{
				verify: custom.Verify,
				at:     -time.Hour - time.Second,
				want:   ricloud.ErrSignatureTooOld,
			},
			{verify: custom.Verify, at: time.Second, want: nil},
			{verify: custom.Verify, at: 2 * time.Second, want: ricloud.ErrSignatureTooNew},
		} {
			err := tt.verify(sign(webhookSecret, now.Add(tt.at), body), body)
			require.ErrorIs(t, err, tt.want, "signed %s from now", tt.at)
			err = tt.verify(sign("another", now.Add(tt.at), body), body)
			require.ErrorIs(t, err, ricloud.ErrSignatureMismatch, "what the API did not sign has no age")
		}
	})
}

func verifyDefault(header string, body []byte) error {
	return ricloud.VerifyWebhook(header, body, ricloud.NewSecret(webhookSecret))
}

func FuzzVerifyWebhook(f *testing.F) {
	body := []byte(`{"id":"1","type":"poll"}`)
	at := time.Unix(1_600_000_000, 0)
	good := sign(webhookSecret, at, body)
	_, signature, _ := strings.Cut(good, ",")
	f.Add(good, body)
	f.Add("s=,t=", body)
	f.Add(strings.Repeat("t=1,", 100)+"s==", []byte{})
	f.Fuzz(func(t *testing.T, header string, content []byte) {
		err := ageless(ricloud.NewSecret(webhookSecret)).Verify(header, content)
		if err != nil {
			require.ErrorIs(t, err, ricloud.ErrSignature)
			return
		}
		// Only the content of the valid header may pass.
		require.True(t, bytes.Equal(content, body), "a body that nobody signed")
		require.Contains(t, header, signature)
	})
}

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

func TestWebhookHandlerTolerance(t *testing.T) {
	t.Parallel()
	h := newWebhook(t, ignore, ricloud.WithWebhookTolerance(time.Hour, 2*time.Hour))
	for ago, want := range map[time.Duration]int{
		59 * time.Minute: http.StatusOK, 61 * time.Minute: http.StatusUnauthorized,
		-119 * time.Minute: http.StatusOK, -121 * time.Minute: http.StatusUnauthorized,
	} {
		r := delivery(t, eventBody("e"+ago.String()))
		r.Header.Set(ricloud.SignatureHeader,
			sign(webhookSecret, time.Now().Add(-ago), eventBody("e"+ago.String())))
		assert.Equal(t, want, serve(h, r).Code, "signed %s ago", ago)
	}
}

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

func TestWebhookHandlerShedsLoad(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		h := newWebhook(t, func(ctx context.Context, _ *ricloud.Event) error {
			<-ctx.Done()
			return ctx.Err()
		}, ricloud.WithWebhookMaxConcurrent(2), ricloud.WithWebhookTimeout(time.Minute))
		codes := make(chan int, 2)
		for _, id := range []string{"e1", "e2"} {
			go func() { codes <- serve(h, delivery(t, eventBody(id))).Code }()
		}
		synctest.Wait()
		w := serve(h, delivery(t, eventBody("e3")))
		assert.Equal(t, http.StatusServiceUnavailable, w.Code)
		assert.NotEmpty(t, w.Header().Get("Retry-After"))
		assert.Equal(t, http.StatusInternalServerError, <-codes, "the limit of time ends fn's context")
		assert.Equal(t, http.StatusInternalServerError, <-codes)
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

// Refusals that do not depend on the body are sent before it is read.
func TestWebhookHandlerRefusesBeforeItReads(t *testing.T) {
	t.Parallel()
	begun, release := make(chan struct{}), make(chan struct{})
	busy := newWebhook(t, func(context.Context, *ricloud.Event) error {
		close(begun)
		<-release
		return nil
	}, ricloud.WithWebhookMaxConcurrent(1))
	var handling sync.WaitGroup
	handling.Go(func() { serve(busy, delivery(t, eventBody("slow"))) })
	<-begun
	defer func() { close(release); handling.Wait() }()

	unready, err := ricloud.NewWebhookHandler(ignore)
	require.NoError(t, err)
	ready := newWebhook(t, ignore, ricloud.WithWebhookMaxBody(1000))
	for name, tt := range map[string]struct {
		handler http.Handler
		change  func(*http.Request)
		want    int
	}{
		"method": {
			handler: ready,
			change:  func(r *http.Request) { r.Method = http.MethodGet },
			want:    405,
		},
		"length": {
			handler: ready,
			change:  func(r *http.Request) { r.ContentLength = 1001 },
			want:    413,
		},
		"missing signature": {
			handler: ready,
			change:  func(r *http.Request) { r.Header.Del(ricloud.SignatureHeader) },
			want:    401,
		},
		"empty signature": {handler: ready, change: func(r *http.Request) {
			r.Header.Set(ricloud.SignatureHeader, "")
		}, want: 401},
		"malformed signature": {handler: ready, change: func(r *http.Request) {
			r.Header.Set(ricloud.SignatureHeader, "t=1")
		}, want: 401},
		"no secret": {handler: unready, change: nil, want: 503},
		"busy":      {handler: busy, change: nil, want: 503},
	} {
		r := delivery(t, eventBody("e1"))
		r.Body = io.NopCloser(unreadable{t})
		if tt.change != nil {
			tt.change(r)
		}
		assert.Equal(t, tt.want, serve(tt.handler, r).Code, name)
	}
}

// unreadable fails the test if it is read.
type unreadable struct{ t *testing.T }

func (u unreadable) Read([]byte) (int, error) {
	u.t.Error("the body is read")
	return 0, io.EOF
}

// Bodies that never end use a bounded amount of memory, leave room for signed deliveries, and are
// cut off in the end.
//
//nolint:paralleltest // it measures memory
func TestWebhookHandlerBoundsUnfinishedBodies(t *testing.T) {
	const senders, maxBody = 100, 1 << 20
	h := newWebhook(t, ignore, ricloud.WithWebhookMaxConcurrent(4),
		ricloud.WithWebhookMaxBody(maxBody))
	sent := make([]byte, maxBody-1) // all but the last byte
	before := heapInUse()
	synctest.Test(t, func(t *testing.T) {
		codes := make(chan int, senders)
		var pipes []*io.PipeWriter
		for range senders {
			body, sender := io.Pipe()
			pipes = append(pipes, sender)
			r := delivery(t, nil)
			r.Header.Set(ricloud.SignatureHeader, sign("wrong", time.Now(), nil))
			r.ContentLength, r.Body = -1, body
			go func() { codes <- serve(h, r).Code }()
			go func() { _, _ = sender.Write(sent) }()
		}
		synctest.Wait()
		assert.Less(t, heapInUse()-before, int64(8<<20), "the bodies of %d senders", senders)
		assert.Equal(t, http.StatusOK, serve(h, delivery(t, eventBody("e1"))).Code,
			"a signed delivery gets through")
		for _, sender := range pipes {
			require.NoError(t, sender.Close())
		}
		answers := map[int]int{}
		for range senders {
			answers[<-codes]++
		}
		assert.Positive(t, answers[http.StatusServiceUnavailable], "%v", answers)
		assert.Equal(t, senders, answers[http.StatusServiceUnavailable]+answers[http.StatusUnauthorized],
			"%v", answers)
		assert.Equal(t, http.StatusOK, serve(h, delivery(t, eventBody("e2"))).Code,
			"what was reserved is free again")
	})
}

// The default limit accepts the largest known events.
func TestWebhookHandlerTakesLargeEvents(t *testing.T) {
	t.Parallel()
	padding := strings.Repeat("x", 5<<20)
	body := fmt.Appendf(nil,
		`{"id":"e1","type":"poll","action":"completed","data":{"id":"p1","padding":%q}}`, padding)
	var got *ricloud.Event
	h := newWebhook(t, func(_ context.Context, e *ricloud.Event) error { got = e; return nil })
	for _, length := range []int64{int64(len(body)), -1} {
		got = nil
		body = bytes.Replace(body, []byte(`"e1"`), fmt.Appendf(nil, `"e%d"`, length), 1)
		r := delivery(t, body)
		r.ContentLength = length
		require.Equal(t, http.StatusOK, serve(h, r).Code)
		require.NotNil(t, got)
		assert.Len(t, got.Body, len(body))
		body = bytes.Replace(body, fmt.Appendf(nil, `"e%d"`, length), []byte(`"e1"`), 1)
	}
}

// logOf returns a request that belongs to a server, and the log of that server.
func logOf(r *http.Request) (*http.Request, *bytes.Buffer) {
	var logged bytes.Buffer
	server := &http.Server{ErrorLog: log.New(&logged, "", 0)}
	return r.WithContext(context.WithValue(r.Context(), http.ServerContextKey, server)), &logged
}

// If the clock is wrong, the log and the answer say so.
func TestWebhookHandlerNamesTheClock(t *testing.T) {
	t.Parallel()
	for offset, want := range map[time.Duration]string{
		2 * time.Minute: `dated in the future: by 2m[01]s,` +
			` and 1m0s are allowed; this machine's clock is probably slow`,
		-20 * time.Minute: `too old: it is 20m[01]s old and 10m0s are allowed; unless .* this ` +
			`machine's clock is fast`,
	} {
		r, logged := logOf(delivery(t, eventBody("e1")))
		r.Header.Set(ricloud.SignatureHeader,
			sign(webhookSecret, time.Now().Add(offset), eventBody("e1")))
		w := serve(newWebhook(t, ignore), r)
		assert.Equal(t, http.StatusUnauthorized, w.Code)
		assert.Contains(t, w.Body.String(), "clock")
		assert.Regexp(t, want, logged.String())

		r, logged = logOf(delivery(t, eventBody("e1")))
		r.Header.Set(ricloud.SignatureHeader, sign("wrong", time.Now().Add(offset), eventBody("e1")))
		serve(newWebhook(t, ignore), r)
		assert.NotContains(t, logged.String(), "clock", "an unsigned date is not trusted")
	}
}

// By default, refusals are logged where net/http logs: each reason once a minute. Answers do not
// contain what is logged.
func TestWebhookHandlerLogsRefusals(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		h := newWebhook(t, func(context.Context, *ricloud.Event) error { return errors.New("fn-canary") })
		var logged bytes.Buffer
		server := &http.Server{ErrorLog: log.New(&logged, "", 0)}
		send := func(change func(*http.Request)) string {
			r := delivery(t, eventBody("e1"))
			change(r)
			ctx := context.WithValue(r.Context(), http.ServerContextKey, server)
			return serve(h, r.WithContext(ctx)).Body.String()
		}
		unsigned := func(r *http.Request) { r.Header.Del(ricloud.SignatureHeader) }
		broken := func(r *http.Request) { r.Body = io.NopCloser(brokenReader{}) }
		for range 50 {
			send(unsigned)
			assert.NotContains(t, send(broken), "connection broke", "the sender learns no inner error")
			assert.NotContains(t, send(func(*http.Request) {}), "canary")
		}
		assert.Equal(t, 3, strings.Count(logged.String(), "\n"), logged.String())
		assert.Contains(t, logged.String(),
			"401: webhook signature: the Ricloud-Signature header is missing")
		assert.Contains(t, logged.String(), "400: cannot read the body: the connection broke")
		assert.Contains(t, logged.String(), "event e1 (poll.completed): fn-canary")

		logged.Reset()
		time.Sleep(time.Minute) //nolint:forbidigo // virtual
		send(unsigned)
		assert.Equal(t, 1, strings.Count(logged.String(), "\n"))
		assert.Contains(t, logged.String(), "49 more")
	})
}

// Also with a logger, each refusal is logged once a minute, because anyone can cause it. A failure
// of fn follows a signed delivery, and is logged each time.
func TestWebhookLoggerIsNotFlooded(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var logged bytes.Buffer
		h := newWebhook(t, func(context.Context, *ricloud.Event) error { return errors.New("no disk") },
			ricloud.WithWebhookLogger(slog.New(slog.NewTextHandler(&logged, nil))))
		unsigned := delivery(t, eventBody("e1"))
		unsigned.Header.Del(ricloud.SignatureHeader)
		for range 50 {
			serve(h, unsigned)
			serve(h, delivery(t, eventBody("e1")))
		}
		assert.Equal(t, 1, strings.Count(logged.String(), "status=401"))
		assert.Equal(t, 50, strings.Count(logged.String(), "no disk"))

		time.Sleep(time.Minute) //nolint:forbidigo // virtual
		serve(h, unsigned)
		assert.Contains(t, logged.String(), "header is missing\" skipped=49")
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

// Secrets with which no delivery can be signed are refused immediately.
func TestWebhookSecretsThatCannotBeRight(t *testing.T) {
	t.Parallel()
	h, known := newWebhook(t, ignore), ricloud.NewSecret(webhookSecret)
	for _, secret := range []string{"", "x\n", "x\r\n", "\tx", " x", "x ", "\u00a0x", "[redacted]"} {
		s := ricloud.NewSecret(secret)
		var p *ricloud.ParamError
		require.ErrorAs(t, h.SetSecrets(s), &p, "%q", secret)
		require.ErrorAs(t, h.AddSecrets(known, s), &p, "%q", secret)
		require.ErrorAs(t, ricloud.VerifyWebhook("t=1,s=x", nil, s), &p, "%q", secret)
		_, err := ricloud.NewWebhookHandler(ignore, ricloud.WithWebhookSecrets(s))
		require.ErrorAs(t, err, &p, "%q", secret)
		_, err = sandboxClient(t).WebhookConfigs.Ensure(t.Context(), ricloud.WebhookConfigEnsureParams{
			URL: receiverURL, Secrets: []ricloud.Secret{s},
		})
		require.ErrorAs(t, err, &p, "%q", secret)
	}
	assert.Equal(t, http.StatusOK, serve(h, delivery(t, eventBody("e1"))).Code,
		"what is refused changes nothing")
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

// No formatting verb prints the secrets of a verifier.
func TestWebhookVerifierPrintsNoSecret(t *testing.T) {
	t.Parallel()
	v := ageless(ricloud.NewSecret(webhookSecret))
	type box struct {
		Value   ricloud.WebhookVerifier
		Pointer *ricloud.WebhookVerifier
		All     []*ricloud.WebhookVerifier
	}
	for verb := 'a'; verb <= 'z'; verb++ {
		for _, flag := range []string{"%", "%+", "%#"} {
			for _, x := range []any{
				v, &v,
				[]*ricloud.WebhookVerifier{&v},
				box{Value: v, Pointer: &v, All: []*ricloud.WebhookVerifier{&v}},
			} {
				printed := fmt.Sprintf(flag+string(verb), x)
				require.NotContains(t, printed, webhookSecret, flag+string(verb))
				require.NotContains(t, printed, fmt.Sprintf("%x", webhookSecret))
			}
		}
	}
}

// The older encoding is accepted as the vendor's 3.0.1 receiver did: the body is a JSON string, and
// the signature covers the bytes of the JSON inside it.
func TestVerifyWebhookOlderEncoding(t *testing.T) {
	t.Parallel()
	for name, inner := range map[string]string{
		"plain":   `{"id":"1","type":"poll"}`,
		"spaced":  " {\"id\":\"1\",\n\"type\":\"poll\"}\n",
		"unicode": `{"id":"1","type":"poll","data":{"name":"müller 日本 🎉"}}`,
	} {
		body, err := json.Marshal(inner)
		require.NoError(t, err)
		require.NoError(t, verifyDefault(sign(webhookSecret, time.Now(), []byte(inner)), body), name)
		event, err := ricloud.ParseEvent(body)
		require.NoError(t, err, name)
		assert.Equal(t, ricloud.ID("1"), event.ID)
		assert.Equal(t, string(body), string([]byte(event.Body)))
		for _, forged := range []string{
			strings.TrimSpace(inner) + "x", inner + " ",
			`{"id":"2","type":"poll"}`,
		} {
			other, err := json.Marshal(forged)
			require.NoError(t, err)
			require.ErrorIs(t, verifyDefault(sign(webhookSecret, time.Now(), []byte(inner)), other),
				ricloud.ErrSignatureMismatch, name)
		}
		require.ErrorIs(t, verifyDefault(sign("x", time.Now(), []byte(inner)), body),
			ricloud.ErrSignatureMismatch)
	}
}
