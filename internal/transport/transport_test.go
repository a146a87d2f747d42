package transport

import (
	"context"
	"crypto/tls"
	"errors"
	"net"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/jarcoal/httpmock"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestDoSendsTheCall(t *testing.T) {
	t.Parallel()
	mock := play(status(http.StatusOK))
	req := &Request{
		Operation: SessionsCreate,
		Body:      []byte(`{"a":1}`),
		Await:     2500 * time.Millisecond,
	}
	resp, err := newClient(t, mock).Do(t.Context(), req)
	require.NoError(t, err)
	assert.Equal(t, http.StatusOK, resp.StatusCode)
	assert.JSONEq(t, `{"message":"said so"}`, string(resp.Body))
	assert.Len(t, resp.Attempts, 1)
	assert.False(t, resp.MaybeApplied)

	require.Len(t, mock.seen, 1)
	sent := mock.seen[0]
	assert.Equal(t, http.MethodPost, sent.Method)
	assert.Equal(t, testBase+"/sessions", sent.URL.String())
	assert.Equal(t, http.Header{
		"Accept":        {"application/json"},
		"Authorization": {"Token " + testToken},
		"Content-Type":  {"application/json"},
		"Ricloud-Await": {"3"},
		"User-Agent":    {"ricloud-go/test"},
	}, sent.Header)
	assert.EqualValues(t, len(req.Body), sent.ContentLength)
}

func TestAwaitIsSentOnlyWhereItIsHonouredAndNoLongerThanAllowed(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		op    Operation
		await time.Duration
		want  string
	}{
		{op: SessionsCreate, await: time.Hour, want: "10"},
		{op: SessionsCreate, await: time.Nanosecond, want: "1"},
		{op: SessionsCreate, await: 3 * time.Second, want: "3"},
		{op: SessionsCreate, await: 0, want: ""},
		{op: PollsCreate, await: 3 * time.Second, want: ""},
	} {
		mock := play(status(http.StatusOK))
		req := request(tt.op)
		req.Await = tt.await
		_, err := newClient(t, mock).Do(t.Context(), req)
		require.NoError(t, err)
		assert.Equal(t, tt.want, mock.seen[0].Header.Get("Ricloud-Await"))
	}
}

// outcome is one way in which an attempt can fail, and what it proves.
type outcome struct {
	name    string
	respond httpmock.Responder
	again   bool // repeated if the operation allows a replay
	unacted bool // proves that the server did not act: if again is set, every operation is repeated
}

func outcomes() []outcome {
	return []outcome{
		{
			name:    "refused connection",
			respond: fails(&net.OpError{Op: "dial", Err: errors.New("connection refused")}),
			again:   true, unacted: true,
		},
		{
			name:    "proxy refused",
			respond: fails(&net.OpError{Op: "proxyconnect", Err: errors.New("connection refused")}),
			again:   true, unacted: true,
		},
		{
			name:    "no such host",
			respond: fails(&net.OpError{Op: "dial", Err: &net.DNSError{IsNotFound: true}}),
			again:   false, unacted: true,
		},
		{
			name:    "bad certificate",
			respond: fails(&tls.CertificateVerificationError{Err: errors.New("expired")}),
			again:   false, unacted: true,
		},
		{
			name: "no TLS there", respond: fails(http.ErrSchemeMismatch),
			again: false, unacted: true,
		},
		{
			name: "reset", respond: fails(&net.OpError{Op: "read", Err: errReset}),
			again: true, unacted: false,
		},
		{name: "attempt timeout", respond: hangs, again: true, unacted: false},
		{name: "cut short", respond: cutShort, again: true, unacted: false},
		{
			name:    "redirect elsewhere",
			respond: status(http.StatusFound, "Location", "https://elsewhere.test/"),
			again:   false, unacted: false,
		},
		{name: "400", respond: status(400), again: false, unacted: true},
		{name: "401", respond: status(401), again: false, unacted: true},
		{name: "403", respond: status(403), again: false, unacted: true},
		{name: "404", respond: status(404), again: false, unacted: true},
		{name: "408", respond: status(408), again: true, unacted: false},
		{name: "409", respond: status(409), again: false, unacted: true},
		{name: "429", respond: status(429), again: true, unacted: true},
		{name: "400 of a proxy", respond: page(400), again: false, unacted: false},
		{name: "401 of a proxy", respond: page(401), again: false, unacted: false},
		{name: "403 of a proxy", respond: page(403), again: false, unacted: false},
		{name: "404 of a proxy", respond: page(404), again: false, unacted: false},
		{name: "407 of a proxy", respond: page(407), again: false, unacted: false},
		{name: "400 that is a list", respond: says(400, `[]`), again: false, unacted: false},
		{name: "403 that is a word", respond: says(403, `"no"`), again: false, unacted: false},
		{name: "404 cut short", respond: says(404, `{"error":`), again: false, unacted: false},
		{name: "409 after white space", respond: says(409, "\n {}"), again: false, unacted: true},
		{name: "410 without words", respond: says(410, ""), again: false, unacted: false},
		{name: "429 of a proxy", respond: page(429), again: true, unacted: false},
		{name: "429 without words", respond: says(429, " "), again: true, unacted: true},
		{name: "451 of a proxy", respond: page(451), again: false, unacted: false},
		{name: "500", respond: status(500), again: true, unacted: false},
		{name: "501", respond: status(501), again: false, unacted: false},
		{name: "502", respond: status(502), again: true, unacted: false},
		{name: "503", respond: status(503), again: true, unacted: false},
		{name: "504", respond: status(504), again: true, unacted: false},
	}
}

// page answers with what a proxy puts in the place of the API's answer.
func page(code int) httpmock.Responder {
	return says(code, "<html>{} blocked</html>")
}

func says(code int, body string) httpmock.Responder {
	return httpmock.NewStringResponder(code, body)
}

func cutShort(*http.Request) (*http.Response, error) {
	resp := httpmock.NewStringResponse(http.StatusOK, `{"id":`)
	resp.ContentLength = 100
	return resp, nil
}

// TestNothingIsDoneTwice runs every operation into every failure and counts the requests that the
// server received.
func TestNothingIsDoneTwice(t *testing.T) {
	t.Parallel()
	for _, op := range Operations() {
		for _, out := range outcomes() {
			for _, optIn := range []bool{false, true} {
				t.Run(op.Name+"/"+out.name, func(t *testing.T) {
					t.Parallel()
					synctest.Test(t, func(t *testing.T) {
						mock := play(out.respond)
						client := newClient(t, mock, func(c *Config) { c.CallTimeout = time.Hour })
						req := &Request{Operation: op, Replay: optIn}
						if hasID(op) {
							req.ID = "1"
						}
						resp, err := client.Do(t.Context(), req)

						want := 1
						if out.again && (!op.Once() || optIn || out.unacted) {
							want = 1 + DefaultMaxRetries
						}
						assert.Len(t, mock.seen, want, "requests the server saw")
						maybe := op.Method != http.MethodGet && !out.unacted
						if err != nil {
							f := failure(t, err)
							assert.Equal(t, maybe, f.MaybeApplied)
							assert.Len(t, f.Attempts, want)
						} else {
							assert.Equal(t, maybe, resp.MaybeApplied)
							assert.Len(t, resp.Attempts, want)
							assert.GreaterOrEqual(t, resp.StatusCode, 400)
						}
					})
				})
			}
		}
	}
}

func hasID(op Operation) bool {
	return strings.Contains(op.Path, "{id}")
}

func TestAReplayOnceUnknownStaysUnknown(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		mock := play(fails(errReset),
			fails(&net.OpError{Op: "dial", Err: errors.New("connection refused")}))
		_, err := newClient(t, mock).Do(t.Context(), requestWithID(SessionsDelete, "1"))
		f := failure(t, err)
		assert.True(t, f.MaybeApplied, "the first attempt may have been the one")
		require.Len(t, f.Attempts, 5)
		require.ErrorIs(t, f.Attempts[0].Err, errReset)
	})
}

func TestAnAnswerAfterAnUnknownAttemptKeepsTheDoubt(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		req := request(PollsCreate)
		req.Replay = true
		resp, err := newClient(t, play(fails(errReset), status(400))).Do(t.Context(), req)
		require.NoError(t, err)
		assert.Equal(t, 400, resp.StatusCode)
		assert.True(t, resp.MaybeApplied)

		resp, err = newClient(t, play(fails(errReset), status(201))).Do(t.Context(), req)
		require.NoError(t, err)
		assert.False(t, resp.MaybeApplied, "a success is no doubt")
	})
}

func TestDeleteFindsItsWorkDone(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name  string
		op    Operation
		steps []httpmock.Responder
		want  int
	}{
		{
			name: "404 after a reset", op: SessionsDelete,
			steps: []httpmock.Responder{fails(errReset), status(404)},
			want:  204,
		},
		{
			name: "410 after a 502", op: SessionsDelete,
			steps: []httpmock.Responder{status(502), status(410)},
			want:  204,
		},
		{
			name: "404 at once", op: SessionsDelete, steps: []httpmock.Responder{status(404)},
			want: 404,
		},
		{
			name: "404 after a 429", op: SessionsDelete,
			steps: []httpmock.Responder{status(429), status(404)},
			want:  404,
		},
		{
			name: "403 after a reset", op: SessionsDelete,
			steps: []httpmock.Responder{fails(errReset), status(403)},
			want:  403,
		},
		{
			name: "404 of a read", op: SessionsGet,
			steps: []httpmock.Responder{fails(errReset), status(404)},
			want:  404,
		},
		{
			name: "404 of an update", op: UsersUpdate,
			steps: []httpmock.Responder{fails(errReset), status(404)},
			want:  404,
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				resp, err := newClient(t, play(tt.steps...)).Do(t.Context(), requestWithID(tt.op, "1"))
				require.NoError(t, err)
				assert.Equal(t, tt.want, resp.StatusCode)
				assert.Equal(t, tt.want == 204, len(resp.Body) == 0)
			})
		})
	}
}

func TestTheLastAnswerSurvivesAContextThatEndsInAWait(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		cause := errors.New("the user left")
		ctx, cancel := context.WithCancelCause(t.Context())
		time.AfterFunc(7*time.Second, func() { cancel(cause) })
		began := time.Now()
		_, err := newClient(t, play(status(503, "Retry-After", "20"))).Do(ctx, request(PollsList))
		assert.Equal(t, 7*time.Second, time.Since(began), "cancelling returns at once")
		f := failure(t, err)
		require.ErrorIs(t, err, cause)
		require.NotNil(t, f.Last)
		assert.Equal(t, 503, f.Last.StatusCode)
		assert.Equal(t, 20*time.Second, f.Last.RetryAfter)
		assert.Equal(t, 20*time.Second, f.Attempts[0].Wait)
		assert.Equal(t, 7*time.Second, f.Duration)
	})
}

func TestAContextThatHasEndedSendsNothing(t *testing.T) {
	t.Parallel()
	mock, cause := play(status(200)), errors.New("too late")
	_, err := newClient(t, mock).Do(cancelled(cause), request(PollsCreate))
	require.ErrorIs(t, err, cause)
	assert.False(t, failure(t, err).MaybeApplied)
	assert.Empty(t, mock.seen)
}

func TestConfigIsChecked(t *testing.T) {
	t.Parallel()
	for name, edit := range map[string]func(*Config){
		"attempt timeout must": func(c *Config) { c.AttemptTimeout = -1 },
		"call timeout must":    func(c *Config) { c.CallTimeout = -1 },
		"stall timeout must":   func(c *Config) { c.StallTimeout = -1 },
		"retry wait min must":  func(c *Config) { c.RetryWaitMin = -1 },
		"retry wait max must":  func(c *Config) { c.RetryWaitMax = -1 },
		"retry after max must": func(c *Config) { c.RetryAfterMax = -1 },
		"retry wait max 1s is less than": func(c *Config) {
			c.RetryWaitMin, c.RetryWaitMax = 2*time.Second, time.Second
		},
		"max body must":                      func(c *Config) { c.MaxBody = -1 },
		"rate limit must":                    func(c *Config) { c.RateLimit = -1 },
		"rate limit needs a positive period": func(c *Config) { c.RateLimit = 1 },
	} {
		cfg := Config{BaseURL: testBase}
		edit(&cfg)
		_, err := New(cfg)
		assert.ErrorContains(t, err, name)
	}
}

func TestARetryWaitAboveTheDefaultCeilingRaisesIt(t *testing.T) {
	t.Parallel()
	client := newClient(t, play(status(200)), func(c *Config) { c.RetryWaitMin = time.Minute })
	assert.Equal(t, time.Minute, client.cfg.RetryWaitMax)
}

func TestACallerMistakeIsNamedBeforeAnythingIsSent(t *testing.T) {
	t.Parallel()
	for want, req := range map[string]*Request{
		"Polls.Get: id is empty":                         requestWithID(PollsGet, ""),
		`Polls.Get: id ".." is not the ID of a resource`: requestWithID(PollsGet, ".."),
		"Polls.List: await must not be negative":         {Operation: PollsList, Await: -1},
		`Call: method "G ET" is not valid`:               {Operation: Custom("Call", "G ET", "/x")},
		"Polls.List: url points away from the API": {
			Operation: PollsList, URL: "https://elsewhere.test/polls",
		},
	} {
		mock := play(status(200))
		_, err := newClient(t, mock).Do(t.Context(), req)
		require.ErrorContains(t, err, want)
		assert.NotContains(t, err.Error(), "secret")
		assert.Empty(t, mock.seen)
	}
}

// A stub's answer often has a body and a length of 0.
func TestABodyIsReadWhateverLengthAStubClaims(t *testing.T) {
	t.Parallel()
	body, err := read(strings.NewReader(`{"id":1}`), 0, 100)
	require.NoError(t, err)
	assert.JSONEq(t, `{"id":1}`, string(body))
}

func TestCloseKnowsWhoseTheTransportIs(t *testing.T) {
	t.Parallel()
	for _, rt := range []http.RoundTripper{nil, http.NewFileTransport(http.Dir(t.TempDir()))} {
		c, err := New(Config{BaseURL: "https://api.example.com", Transport: rt})
		require.NoError(t, err)
		assert.NotPanics(t, c.Close)
	}
}
