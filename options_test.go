package ricloud

import (
	"bytes"
	"context"
	"errors"
	"io"
	"log/slog"
	"math"
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

// hang does not answer until the client gives up.
func hang(r *http.Request) (*http.Response, error) {
	<-r.Context().Done()
	return nil, r.Context().Err()
}

// silence is a body that never sends anything.
type silence struct{ request *http.Request }

func (s silence) Read([]byte) (int, error) {
	<-s.request.Context().Done()
	return 0, s.request.Context().Err()
}

// stall sends headers and no body.
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

// Each option limits the number of requests and the duration of a call as documented, in virtual
// time.
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
			name: "WithAttemptTimeout", respond: hang,
			opts:  []Option{WithAttemptTimeout(2 * time.Second), WithRetries(0)},
			calls: 1, atLeast: 2 * time.Second, atMost: 2 * time.Second,
		},
		{
			name: "WithCallTimeout", respond: hang,
			opts:  []Option{WithCallTimeout(7 * time.Second), WithRetries(0)},
			calls: 1, atLeast: 7 * time.Second, atMost: 7 * time.Second,
		},
		{
			name: "WithStallTimeout", respond: stall,
			opts:  []Option{WithStallTimeout(3 * time.Second), WithRetries(0)},
			calls: 1, atLeast: 3 * time.Second, atMost: 3 * time.Second,
		},
		{
			name: "WithRetries", respond: unavailable, opts: []Option{WithRetries(2)},
			calls: 3, atLeast: 0, atMost: 2 * time.Second,
		},
		{
			name: "WithRetries none", respond: unavailable, opts: []Option{WithRetries(0)},
			calls: 1, atLeast: 0, atMost: 0,
		},
		{
			name: "WithRetryWait", respond: unavailable,
			opts:  []Option{WithRetryWait(time.Millisecond, 2*time.Millisecond)},
			calls: 5, atLeast: 0, atMost: 7 * time.Millisecond,
		},
		{
			name: "WithMaxRetryAfter waits", respond: retryAfter("9"),
			opts: []Option{
				WithMaxRetryAfter(10 * time.Second),
				WithRetries(1),
			},
			calls: 2, atLeast: 9 * time.Second, atMost: 10 * time.Second,
		},
		{
			name: "WithMaxRetryAfter gives up", respond: retryAfter("11"),
			opts:  []Option{WithMaxRetryAfter(10 * time.Second)},
			calls: 1, atLeast: 0, atMost: 0,
		},
		{
			name:    "WithMaxBody",
			respond: httpmock.NewStringResponder(http.StatusOK, `{"id": "123456"}`),
			opts:    []Option{WithMaxBody(10)},
			calls:   1, atLeast: 0, atMost: 0,
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

// A method that makes several calls refuses what does not apply to it before the first of them.
func TestMethodsOfSeveralCallsRefuseOptionsAtOnce(t *testing.T) {
	t.Parallel()
	c, api := newTestClient(t)
	webhook := WebhookConfigEnsureParams{URL: "https://me.example/"}
	key, err := CredentialsFromKey("id", NewSecret("key"))
	require.NoError(t, err)
	storage := StorageConfigEnsureParams{URL: "s3://b/p", Credentials: key}
	poll := &Poll{ID: "p", Session: "s", Source: "1"}
	files := func(opts ...CallOption) error {
		_, err := last(c.Polls.Files(t.Context(), poll, []ID{"f"}, opts...))
		return err
	}
	for name, err := range map[string]error{
		"WithReplay, webhook": result(c.WebhookConfigs.Ensure(t.Context(), webhook, WithReplay())),
		"WithReplay, storage": result(c.StorageConfigs.Ensure(t.Context(), storage, WithReplay())),
		"WithFiles":           files(WithFiles()),
		"WithAwait":           files(WithAwait(time.Second)),
	} {
		param, ok := errors.AsType[*ParamError](err)
		require.True(t, ok, "%s: %v", name, err)
		option, _, _ := strings.Cut(name, ",")
		assert.Equal(t, option, param.Field)
		assert.NotEmpty(t, param.Operation)
	}
	assert.Empty(t, api.all())
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

// A RoundTripper must not edit the request, but a recording one might. Later requests still carry
// the token.
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

// turnstile is a Pacer that records the priority of each request.
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
	refused := func(t *testing.T, field, token string, opts ...Option) {
		t.Helper()
		c, err := NewClient(token, opts...)
		param, ok := errors.AsType[*ParamError](err)
		require.True(t, ok, "%v", err)
		assert.Nil(t, c)
		assert.Equal(t, "NewClient", param.Operation)
		assert.Equal(t, field, param.Field)
		assert.NotContains(t, err.Error(), "canary")
		assert.NotContains(t, err.Error(), "\n")
	}
	for _, token := range []string{"", "canary 7f3a", "canary-ü", "canary-7f3a\n", "[redacted]"} {
		refused(t, "token", token)
	}
	for _, tc := range []struct {
		name  string
		opts  []Option
		field string
	}{
		{name: "a nil option", opts: []Option{nil}, field: "opts"},
		{
			name: "plain http", opts: []Option{WithBaseURL("http://example.com")},
			field: "WithBaseURL",
		},
		{name: "no host", opts: []Option{WithBaseURL("https://")}, field: "WithBaseURL"},
		{name: "not a URL", opts: []Option{WithBaseURL("::")}, field: "WithBaseURL"},
		{name: "empty URL", opts: []Option{WithBaseURL("")}, field: "WithBaseURL"},
		{
			name: "another scheme", opts: []Option{WithBaseURL("ftp://example.com")},
			field: "WithBaseURL",
		},
		{
			name: "a password in the URL",
			opts: []Option{WithBaseURL("https://u:canary@example.com")}, field: "WithBaseURL",
		},
		{name: "nil transport", opts: []Option{WithTransport(nil)}, field: "WithTransport"},
		{
			name: "typed nil transport", opts: []Option{WithTransport((*http.Transport)(nil))},
			field: "WithTransport",
		},
		{name: "nil proxy", opts: []Option{WithProxy(nil)}, field: "WithProxy"},
		{
			name:  "proxy and transport",
			opts:  []Option{WithProxy(proxy), WithTransport(&http.Transport{})},
			field: "WithProxy",
		},
		{
			name: "header in the user agent", opts: []Option{WithUserAgent("x\r\nEvil: 1")},
			field: "WithUserAgent",
		},
		{
			name: "tab in the user agent", opts: []Option{WithUserAgent("x\ty")},
			field: "WithUserAgent",
		},
		{
			name: "user agent that is not ASCII", opts: []Option{WithUserAgent("müller/1")},
			field: "WithUserAgent",
		},
		{name: "empty user agent", opts: []Option{WithUserAgent("")}, field: "WithUserAgent"},
		{name: "nil logger", opts: []Option{WithLogger(nil)}, field: "WithLogger"},
		{
			name: "no attempt timeout", opts: []Option{WithAttemptTimeout(0)},
			field: "WithAttemptTimeout",
		},
		{
			name: "negative attempt timeout", opts: []Option{WithAttemptTimeout(-1)},
			field: "WithAttemptTimeout",
		},
		{name: "no call timeout", opts: []Option{WithCallTimeout(0)}, field: "WithCallTimeout"},
		{
			name: "negative call timeout", opts: []Option{WithCallTimeout(-1)},
			field: "WithCallTimeout",
		},
		{
			name: "no stall timeout", opts: []Option{WithStallTimeout(0)},
			field: "WithStallTimeout",
		},
		{name: "negative retries", opts: []Option{WithRetries(-1)}, field: "WithRetries"},
		{
			name: "no retry wait", opts: []Option{WithRetryWait(0, time.Second)},
			field: "WithRetryWait",
		},
		{
			name: "crossed retry waits",
			opts: []Option{WithRetryWait(time.Minute, time.Second)}, field: "WithRetryWait",
		},
		{
			name: "negative Retry-After", opts: []Option{WithMaxRetryAfter(-1)},
			field: "WithMaxRetryAfter",
		},
		{name: "no body", opts: []Option{WithMaxBody(0)}, field: "WithMaxBody"},
		{name: "no handler", opts: []Option{WithLogger(&slog.Logger{})}, field: "WithLogger"},
		{name: "negative body", opts: []Option{WithMaxBody(-1)}, field: "WithMaxBody"},
		{name: "no rate", opts: []Option{WithRateLimit(0, time.Hour)}, field: "WithRateLimit"},
		{
			name: "negative rate", opts: []Option{WithRateLimit(-5, time.Hour)},
			field: "WithRateLimit",
		},
		{name: "no period", opts: []Option{WithRateLimit(10, 0)}, field: "WithRateLimit"},
		{name: "nil pacer", opts: []Option{WithPacer(nil)}, field: "WithPacer"},
		{
			name: "typed nil pacer", opts: []Option{WithPacer((*turnstile)(nil))},
			field: "WithPacer",
		},
		{
			name:  "pacer and rate",
			opts:  []Option{WithPacer(&turnstile{}), WithRateLimit(1, time.Second)},
			field: "WithPacer",
		},
		{name: "crossed polling", opts: []Option{WithPolling(2, 1)}, field: "WithPolling"},
		{name: "no pause in polling", opts: []Option{WithPolling(0, 1)}, field: "WithPolling"},
		{name: "nil opener", opts: []Option{WithStorage("s3", nil)}, field: "WithStorage"},
		{
			name: "typed nil opener", opts: []Option{WithStorage("s3", noOpener)},
			field: "WithStorage",
		},
		{
			name: "scheme with its separator",
			opts: []Option{WithStorage("s3://", &failingOpener{})}, field: "WithStorage",
		},
		{
			name: "no scheme", opts: []Option{WithStorage("", &failingOpener{})},
			field: "WithStorage",
		},
		{
			name: "digit first", opts: []Option{WithStorage("3s", &failingOpener{})},
			field: "WithStorage",
		},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			refused(t, tc.field, good, tc.opts...)
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
		{name: "nil", opt: nil, field: "opts"},
		{
			name: "await above the API's limit", opt: WithAwait(20 * time.Second),
			field: "WithAwait",
		},
		{name: "negative await", opt: WithAwait(-1), field: "WithAwait"},
		{
			name: "await on a call that has none", opt: WithAwait(time.Second),
			field: "WithAwait",
		},
		{name: "files on a call that has none", opt: WithFiles(), field: "WithFiles"},
		{name: "nil response", opt: WithResponse(nil), field: "WithResponse"},
		{name: "query without a name", opt: WithQuery("", "x"), field: "WithQuery"},
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

func TestWithoutRetryAfterNoHintIsWaitedFor(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		requests, began := 0, time.Now()
		c := clientOf(t, func(*http.Request) (*http.Response, error) {
			requests++
			resp, err := answer(429, "")
			resp.Header = http.Header{"Retry-After": {"1"}}
			return resp, err
		}, WithMaxRetryAfter(0))
		_, err := c.Users.Get(t.Context(), "1")
		require.ErrorIs(t, err, ErrRateLimited)
		assert.Equal(t, 1, requests)
		assert.Zero(t, time.Since(began))
	})
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

// The largest values that Go has mean "no limit": no sum of them overflows.
func TestTheLargestSettingsAreNoLimits(t *testing.T) {
	t.Parallel()
	const forever = time.Duration(math.MaxInt64)
	synctest.Test(t, func(t *testing.T) {
		calls := 0
		api := RoundTripFunc(func(*http.Request) (*http.Response, error) {
			if calls++; calls == 1 {
				return httpmock.NewStringResponse(http.StatusTooManyRequests, `{"error":"slow"}`), nil
			}
			return httpmock.NewStringResponse(http.StatusOK, `{"id":"1","state":"active"}`), nil
		})
		client, err := NewClient("token", WithTransport(api), WithMaxBody(math.MaxInt64),
			WithCallTimeout(forever), WithAttemptTimeout(forever), WithStallTimeout(forever),
			WithMaxRetryAfter(forever), WithRetryWait(time.Second, forever),
			WithPolling(time.Second, forever))
		require.NoError(t, err)
		_, err = client.Users.Get(t.Context(), "1")
		require.NoError(t, err)
		_, err = client.Sessions.Wait(t.Context(), "1")
		require.NoError(t, err)
		assert.Equal(t, 3, calls)
	})
}

// An error of the Pacer's own ends a call, and a wait goes on.
func TestAPacersOwnErrorEndsTheCallAndNoWait(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		broken := &brokenPacer{failures: 3}
		c, api := newTestClient(t, WithPacer(broken))
		api.RegisterNoResponder(jsonResponder(200, `{"id":"p","state":"completed"}`))
		_, err := c.Polls.Get(t.Context(), "p")
		require.ErrorIs(t, err, errQuotaAway)
		require.ErrorContains(t, err, "ricloud: Polls.Get: not sent: the Pacer gave no turn: ")
		assert.Empty(t, api.all())
		_, err = c.Polls.Wait(t.Context(), "p")
		require.NoError(t, err)
		assert.Len(t, api.all(), 1)
	})
}

var errQuotaAway = errors.New("the quota's server is away")

// brokenPacer has no turn a few times.
type brokenPacer struct{ failures int }

func (p *brokenPacer) Wait(context.Context, Priority) error {
	if p.failures == 0 {
		return nil
	}
	p.failures--
	return errQuotaAway
}

func (*brokenPacer) Pause(time.Duration) {}
