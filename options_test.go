package ricloud

import (
	"bytes"
	"context"
	"errors"
	"io"
	"log/slog"
	"net/http"
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
	return &http.Response{StatusCode: http.StatusOK, ContentLength: -1, Body: io.NopCloser(silence{r})}, nil
}

func retryAfter(seconds string) httpmock.Responder {
	return httpmock.NewStringResponder(http.StatusTooManyRequests, `{}`).HeaderSet(http.Header{"Retry-After": {seconds}})
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
		{"WithAttemptTimeout", hang, []Option{WithAttemptTimeout(2 * time.Second), WithRetries(0)}, 1, 2 * time.Second, 2 * time.Second},
		{"WithCallTimeout", hang, []Option{WithCallTimeout(7 * time.Second), WithRetries(0)}, 1, 7 * time.Second, 7 * time.Second},
		{"WithStallTimeout", stall, []Option{WithStallTimeout(3 * time.Second), WithRetries(0)}, 1, 3 * time.Second, 3 * time.Second},
		{"WithRetries", unavailable, []Option{WithRetries(2)}, 3, 0, 2 * time.Second},
		{"WithRetries none", unavailable, []Option{WithRetries(0)}, 1, 0, 0},
		{"WithRetryWait", unavailable, []Option{WithRetryWait(time.Millisecond, 2*time.Millisecond)}, 5, 0, 7 * time.Millisecond},
		{"WithMaxRetryAfter waits", retryAfter("9"), []Option{WithMaxRetryAfter(10 * time.Second), WithRetries(1)}, 2, 9 * time.Second, 10 * time.Second},
		{"WithMaxRetryAfter gives up", retryAfter("11"), []Option{WithMaxRetryAfter(10 * time.Second)}, 1, 0, 0},
		{"WithMaxBody", httpmock.NewStringResponder(http.StatusOK, `{"id": "123456"}`), []Option{WithMaxBody(10)}, 1, 0, 0},
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
		return httpmock.NewStringResponse(http.StatusOK, `{}`), nil
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

	_, err = NewClient("t", WithPacer(pacer), WithRateLimit(1, time.Second))
	require.EqualError(t, err, "ricloud: NewClient: WithPacer excludes WithRateLimit")
}
