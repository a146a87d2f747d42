package ricloud

import (
	"bytes"
	"context"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/jarcoal/httpmock"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// hang answers nothing until the request is given up.
func hang(r *http.Request) (*http.Response, error) {
	<-r.Context().Done()
	return nil, r.Context().Err()
}

// silence is a body that never comes.
type silence struct{ request *http.Request }

func (s silence) Read([]byte) (int, error) {
	<-s.request.Context().Done()
	return 0, s.request.Context().Err()
}

// stall answers headers and no body.
func stall(r *http.Request) (*http.Response, error) {
	return &http.Response{
		StatusCode: http.StatusOK, ContentLength: -1, Body: io.NopCloser(silence{r}),
	}, nil
}

func retryAfter(seconds string) httpmock.Responder {
	return httpmock.NewStringResponder(http.StatusTooManyRequests, `{}`).HeaderSet(
		http.Header{"Retry-After": {seconds}},
	)
}

// Each option bounds what it says it bounds: how often the API is asked, and
// for how long, in virtual time.
func TestOptionsBoundACall(t *testing.T) {
	t.Parallel()
	unavailable := httpmock.NewStringResponder(http.StatusServiceUnavailable, `{}`)
	for _, tc := range []struct {
		name    string
		respond httpmock.Responder
		opts    []Option
		calls   int
		atLeast time.Duration
		atMost  time.Duration
	}{
		{
			"WithAttemptTimeout", hang,
			[]Option{WithAttemptTimeout(2 * time.Second), WithRetries(0)},
			1,
			2 * time.Second, 2 * time.Second,
		},
		{
			"WithCallTimeout", hang,
			[]Option{WithCallTimeout(7 * time.Second), WithRetries(0)},
			1,
			7 * time.Second, 7 * time.Second,
		},
		{
			"WithStallTimeout", stall,
			[]Option{WithStallTimeout(3 * time.Second), WithRetries(0)},
			1,
			3 * time.Second, 3 * time.Second,
		},
		{"WithRetries", unavailable, []Option{WithRetries(2)}, 3, 0, 2 * time.Second},
		{"WithRetries none", unavailable, []Option{WithRetries(0)}, 1, 0, 0},
		{
			"WithRetryWait", unavailable,
			[]Option{WithRetryWait(time.Millisecond, 2*time.Millisecond)},
			5,
			0, 7 * time.Millisecond,
		},
		{"WithMaxRetryAfter waits", retryAfter("9"), []Option{
			WithMaxRetryAfter(10 * time.Second),
			WithRetries(1),
		}, 2, 9 * time.Second, 10 * time.Second},
		{
			"WithMaxRetryAfter gives up", retryAfter("11"),
			[]Option{WithMaxRetryAfter(10 * time.Second)},
			1,
			0, 0,
		},
		{
			"WithMaxBody", httpmock.NewStringResponder(http.StatusOK, `{"id": "123456"}`),
			[]Option{WithMaxBody(10)},
			1, 0, 0,
		},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				c, api := newTestClient(t, tc.opts...)
				api.RegisterNoResponder(tc.respond)
				start := time.Now()
				_, err := c.Organisation.Get(t.Context())
				require.Error(t, err)
				assert.Len(t, api.all(), tc.calls)
				assert.GreaterOrEqual(t, time.Since(start), tc.atLeast)
				assert.LessOrEqual(t, time.Since(start), tc.atMost)
			})
		})
	}
}

func TestWithRateLimitPacesCalls(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		c, _ := newTestClient(t, WithRateLimit(1, time.Second))
		start := time.Now()
		for range 4 {
			_, err := c.Organisation.Get(t.Context())
			require.NoError(t, err)
		}
		assert.Equal(t, 3*time.Second, time.Since(start))
	})
}

func TestOnlyWithReplayIsACreateSentAgain(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		c, api := newTestClient(t, WithRetries(1))
		api.RegisterNoResponder(httpmock.NewErrorResponder(errors.New("connection reset")))

		_, err := c.Keys.Create(t.Context(), KeyCreateParams{})
		lost, ok := errors.AsType[*CallError](err)
		require.True(t, ok, "%v", err)
		assert.True(t, lost.MaybeApplied())
		assert.Len(t, api.all(), 1)

		_, err = c.Keys.Create(t.Context(), KeyCreateParams{}, WithReplay())
		require.Error(t, err)
		assert.Len(t, api.all(), 3)

		for _, err := range []error{
			result(c.Sessions.Get(t.Context(), "s", WithReplay())),
			result(c.Sessions.Wait(t.Context(), "s", WithReplay())),
			result(c.Sessions.List(t.Context(), SessionListParams{}, WithReplay())),
			result(c.Users.Create(t.Context(), UserCreateParams{Identifier: "x"}, WithReplay())),
		} {
			param, ok := errors.AsType[*ParamError](err)
			require.True(t, ok, "%v", err)
			assert.Equal(t, "WithReplay", param.Field)
		}
		assert.Len(t, api.all(), 3)
	})
}

func TestWithLoggerHearsOfEveryAttempt(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var log bytes.Buffer
		logger := slog.New(slog.NewTextHandler(&log, &slog.HandlerOptions{Level: slog.LevelDebug}))
		c, api := newTestClient(t, WithLogger(logger), WithRetries(1))
		api.RegisterNoResponder(httpmock.NewStringResponder(http.StatusServiceUnavailable, `{}`))

		_, err := c.Organisation.Get(t.Context(), WithQuery("q", "canary"))
		require.Error(t, err)
		assert.Equal(t, 1, strings.Count(log.String(), "level=WARN"), "the attempt that is repeated")
		assert.Equal(t, 1, strings.Count(log.String(), "level=DEBUG"), "the last one")
		assert.Contains(t, log.String(), "operation=Organisation.Get")
		assert.NotContains(t, log.String(), "test-token")
		assert.NotContains(t, log.String(), "canary")
	})
}

// A RoundTripper should not, but a recorder may, edit what it is given.
func TestACallDoesNotSeeWhatWasDoneToAnothersToken(t *testing.T) {
	t.Parallel()
	c, api := newTestClient(t)
	api.RegisterResponder(http.MethodGet, "=~.*", func(req *http.Request) (*http.Response, error) {
		assert.Equal(t, []string{"Token test-token"}, req.Header["Authorization"])
		req.Header["Authorization"][0] = redacted
		return httpmock.NewStringResponse(http.StatusOK, `{"id":"1"}`), nil
	})
	for range 2 {
		_, err := c.Users.Get(t.Context(), "1")
		require.NoError(t, err)
	}
}

// turnstile is a Pacer that remembers who asked.
type turnstile struct{ asked []Priority }

func (p *turnstile) Wait(_ context.Context, priority Priority) error {
	p.asked = append(p.asked, priority)
	return nil
}

func (*turnstile) Pause(time.Duration) {}

func TestWithPacerIsAskedBeforeEachRequest(t *testing.T) {
	t.Parallel()
	pacer := &turnstile{}
	c, _ := newTestClient(t, WithPacer(pacer))
	_, err := c.Users.Get(t.Context(), "1")
	require.NoError(t, err)
	assert.Equal(t, []Priority{Foreground}, pacer.asked)
}

func TestNewClientRefusesWhatCannotWork(t *testing.T) {
	t.Parallel()
	const good = "canary-7f3a"
	proxy := http.ProxyURL(&url.URL{Scheme: "http", Host: "proxy.test"})
	var noOpener *failingOpener
	for _, tc := range []struct {
		name, token string
		opts        []Option
		field       string
	}{
		{"no token", "", nil, "token"},
		{"a space in the token", "canary 7f3a", nil, "token"},
		{"a token that is not ASCII", "canary-ü", nil, "token"},
		{"a newline in the token", "canary-7f3a\n", nil, "token"},
		{"a masked token", "[redacted]", nil, "token"},
		{"a nil option", good, []Option{nil}, "opts"},
		{"plain http", good, []Option{WithBaseURL("http://example.com")}, "WithBaseURL"},
		{"no host", good, []Option{WithBaseURL("https://")}, "WithBaseURL"},
		{"not a URL", good, []Option{WithBaseURL("::")}, "WithBaseURL"},
		{"empty URL", good, []Option{WithBaseURL("")}, "WithBaseURL"},
		{"another scheme", good, []Option{WithBaseURL("ftp://example.com")}, "WithBaseURL"},
		{
			"a password in the URL", good,
			[]Option{WithBaseURL("https://u:canary@example.com")},
			"WithBaseURL",
		},
		{"nil transport", good, []Option{WithTransport(nil)}, "WithTransport"},
		{"typed nil transport", good, []Option{WithTransport((*http.Transport)(nil))}, "WithTransport"},
		{"nil proxy", good, []Option{WithProxy(nil)}, "WithProxy"},
		{
			"proxy and transport", good,
			[]Option{WithProxy(proxy), WithTransport(&http.Transport{})},
			"WithProxy",
		},
		{"header in the user agent", good, []Option{WithUserAgent("x\r\nEvil: 1")}, "WithUserAgent"},
		{"tab in the user agent", good, []Option{WithUserAgent("x\ty")}, "WithUserAgent"},
		{"user agent that is not ASCII", good, []Option{WithUserAgent("müller/1")}, "WithUserAgent"},
		{"empty user agent", good, []Option{WithUserAgent("")}, "WithUserAgent"},
		{"nil logger", good, []Option{WithLogger(nil)}, "WithLogger"},
		{"no attempt timeout", good, []Option{WithAttemptTimeout(0)}, "WithAttemptTimeout"},
		{"negative attempt timeout", good, []Option{WithAttemptTimeout(-1)}, "WithAttemptTimeout"},
		{"no call timeout", good, []Option{WithCallTimeout(0)}, "WithCallTimeout"},
		{"negative call timeout", good, []Option{WithCallTimeout(-1)}, "WithCallTimeout"},
		{"no stall timeout", good, []Option{WithStallTimeout(0)}, "WithStallTimeout"},
		{"negative retries", good, []Option{WithRetries(-1)}, "WithRetries"},
		{"no retry wait", good, []Option{WithRetryWait(0, time.Second)}, "WithRetryWait"},
		{"crossed retry waits", good, []Option{WithRetryWait(time.Minute, time.Second)}, "WithRetryWait"},
		{"negative Retry-After", good, []Option{WithMaxRetryAfter(-1)}, "WithMaxRetryAfter"},
		{"no body", good, []Option{WithMaxBody(0)}, "WithMaxBody"},
		{"negative body", good, []Option{WithMaxBody(-1)}, "WithMaxBody"},
		{"no rate", good, []Option{WithRateLimit(0, time.Hour)}, "WithRateLimit"},
		{"negative rate", good, []Option{WithRateLimit(-5, time.Hour)}, "WithRateLimit"},
		{"no period", good, []Option{WithRateLimit(10, 0)}, "WithRateLimit"},
		{"nil pacer", good, []Option{WithPacer(nil)}, "WithPacer"},
		{"typed nil pacer", good, []Option{WithPacer((*turnstile)(nil))}, "WithPacer"},
		{
			"pacer and rate", good,
			[]Option{WithPacer(&turnstile{}), WithRateLimit(1, time.Second)},
			"WithPacer",
		},
		{"crossed polling", good, []Option{WithPolling(2, 1)}, "WithPolling"},
		{"no pause in polling", good, []Option{WithPolling(0, 1)}, "WithPolling"},
		{"nil opener", good, []Option{WithStorage("s3", nil)}, "WithStorage"},
		{"typed nil opener", good, []Option{WithStorage("s3", noOpener)}, "WithStorage"},
		{
			"scheme with its separator", good,
			[]Option{WithStorage("s3://", &failingOpener{})},
			"WithStorage",
		},
		{"no scheme", good, []Option{WithStorage("", &failingOpener{})}, "WithStorage"},
		{"digit first", good, []Option{WithStorage("3s", &failingOpener{})}, "WithStorage"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			c, err := NewClient(tc.token, tc.opts...)
			param, ok := errors.AsType[*ParamError](err)
			require.True(t, ok, "%v", err)
			assert.Nil(t, c)
			assert.Equal(t, "NewClient", param.Operation)
			assert.Equal(t, tc.field, param.Field)
			assert.NotContains(t, err.Error(), "canary")
			assert.NotContains(t, err.Error(), "\n")
		})
	}
	for _, opts := range [][]Option{
		{WithBaseURL("http://example.com"), WithInsecureHTTP()},
		{WithBaseURL("http://127.0.0.1:1")},
		{WithPolling(time.Second, time.Second)},
		{
			WithRetries(0), WithMaxRetryAfter(0), WithProxy(proxy),
			WithUserAgent("acme/1 (+https://acme.test)"),
		},
		{WithStorage("S3", &failingOpener{}), WithStorage("x-y.z+1", &failingOpener{})},
	} {
		_, err := NewClient(good, opts...)
		require.NoError(t, err)
	}
}

func TestCallOptionsThatCannotWorkAreRefusedUnsent(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		name  string
		opt   CallOption
		field string
	}{
		{"nil", nil, "opts"},
		{"await above the API's limit", WithAwait(20 * time.Second), "WithAwait"},
		{"negative await", WithAwait(-1), "WithAwait"},
		{"await on a call that has none", WithAwait(time.Second), "WithAwait"},
		{"files on a call that has none", WithFiles(), "WithFiles"},
		{"nil response", WithResponse(nil), "WithResponse"},
		{"query without a name", WithQuery("", "x"), "WithQuery"},
	} {
		c, api := newTestClient(t)
		for _, call := range []func() error{
			func() error { return result(c.Users.Get(t.Context(), "1", tc.opt)) },
			func() error { return result(c.Users.List(t.Context(), UserListParams{}, tc.opt)) },
			func() error { return result(c.Polls.Wait(t.Context(), "1", tc.opt)) },
		} {
			param, ok := errors.AsType[*ParamError](call())
			require.True(t, ok, tc.name)
			assert.Equal(t, tc.field, param.Field)
		}
		assert.Empty(t, api.all(), tc.name)
	}
}

func TestOnlyNewClientFromEnvReadsTheEnvironment(t *testing.T) {
	t.Setenv("HTTPS_PROXY", "http://proxy.test:1")
	t.Setenv("RICLOUD_TOKEN", "from-env")
	t.Setenv("RICLOUD_URL", "http://example.com")
	proxied := 0
	own := func(*http.Request) (*url.URL, error) { proxied++; return nil, errors.New("no proxy") }
	cfg := func(opts ...Option) (cfg config) {
		cfg.BaseURL = DefaultBaseURL
		for _, opt := range opts {
			opt(&cfg)
		}
		cfg.checkCombinations()
		return cfg
	}
	assert.Nil(t, cfg().Proxy)
	_, err := NewClient("t")
	require.NoError(t, err)

	_, err = NewClientFromEnv()
	require.ErrorContains(t, err,
		"ricloud: NewClientFromEnv: WithBaseURL would send the token unencrypted")
	c, err := NewClientFromEnv(WithBaseURL("https://127.0.0.1:1"), WithProxy(own), WithRetries(0))
	require.NoError(t, err, "options override the environment")
	defer c.Close()
	_, err = c.Organisation.Get(t.Context())
	require.Error(t, err)
	assert.Equal(t, 1, proxied)
}
