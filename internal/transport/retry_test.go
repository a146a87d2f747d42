package transport

import (
	"context"
	"errors"
	"io"
	"math"
	"net"
	"net/http"
	"strconv"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestRetryAfter(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		now := time.Now().UTC()
		at := func(d time.Duration) string { return now.Add(d).Format(http.TimeFormat) }
		for _, tt := range []struct {
			status     int
			hint, date string
			want       time.Duration
		}{
			{status: 429, hint: "20", want: 20 * time.Second},
			{status: 503, hint: "20", want: 20 * time.Second},
			{status: 429, hint: " 20 ", want: 20 * time.Second},
			{status: 429, hint: "0", want: 0},
			{status: 429, hint: "9223372036", want: 9223372036 * time.Second},
			{status: 429, hint: "9223372037", want: math.MaxInt64},
			{status: 429, hint: "99999999999", want: math.MaxInt64},
			{status: 429, hint: "99999999999999999999999999", want: math.MaxInt64},
			{status: 429, hint: at(30 * time.Second), want: 30 * time.Second},
			{
				status: 429, hint: now.Add(30 * time.Second).Format(time.RFC850),
				want: 30 * time.Second,
			},
			// This machine's clock is wrong, so the hint is compared with the Date header.
			{
				status: 429, hint: at(time.Hour), date: at(time.Hour - 5*time.Second),
				want: 5 * time.Second,
			},
			{
				status: 429, hint: at(30 * time.Second), date: "yesterday",
				want: 30 * time.Second,
			},
			{status: 429, hint: at(-time.Minute), want: 0},
			{status: 429, hint: "-1", want: 0},
			{status: 429, hint: "0.5", want: 0},
			{status: 429, hint: "soon", want: 0},
			{status: 429, hint: "", want: 0},
			{status: 500, hint: "20", want: 0},
			{status: 404, hint: "20", want: 0},
		} {
			header := http.Header{}
			header.Set("Retry-After", tt.hint)
			header.Set("Date", tt.date)
			assert.Equal(t, tt.want, retryAfter(tt.status, header), "%d %q", tt.status, tt.hint)
		}
	})
}

func FuzzRetryAfter(f *testing.F) {
	for _, seed := range []string{
		"1", "0.5", "-1", "99999999999", "Fri, 31 Dec 2099 23:59:59 GMT",
		"NaN", "",
	} {
		f.Add(seed, "")
	}
	f.Fuzz(func(t *testing.T, hint, date string) {
		header := http.Header{"Retry-After": {hint}, "Date": {date}}
		got := retryAfter(http.StatusTooManyRequests, header)
		assert.GreaterOrEqual(t, got, time.Duration(0))
		if seconds, err := strconv.ParseUint(hint, 10, 31); err == nil {
			assert.Equal(t, time.Duration(seconds)*time.Second, got)
		}
	})
}

func TestWaitsObeyTheHintTheCapTheDeadlineAndTheBudget(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name    string
		status  int
		hint    string
		edit    func(*Config)
		timeout time.Duration // of the caller's context
		sent    int
		took    time.Duration
	}{
		{
			name: "the hint is waited for", status: 429, hint: "20",
			sent: 2, took: 20 * time.Second,
		},
		{name: "on a 503 too", status: 503, hint: "20", sent: 2, took: 20 * time.Second},
		{name: "up to the cap", status: 429, hint: "60", sent: 2, took: time.Minute},
		{name: "not beyond it", status: 429, hint: "61", sent: 1, took: 0},
		{
			name: "an absurd hint ends the call", status: 503, hint: "99999999999",
			sent: 1, took: 0,
		},
		{
			name: "the cap can be raised", status: 429, hint: "61",
			edit: func(c *Config) { c.RetryAfterMax = time.Hour },
			sent: 2, took: 61 * time.Second,
		},
		{
			name: "a wait that ends before the deadline", status: 429, hint: "20",
			timeout: 21 * time.Second,
			sent:    2, took: 20 * time.Second,
		},
		{
			name: "never into the deadline", status: 429, hint: "20", timeout: 20 * time.Second,
			sent: 1, took: 0,
		},
		{
			name: "never into the budget", status: 429, hint: "20",
			edit: func(c *Config) { c.CallTimeout = 20 * time.Second },
			sent: 1, took: 0,
		},
		{
			name: "no retries, no wait", status: 429, hint: "20",
			edit: func(c *Config) { c.MaxRetries = -1 },
			sent: 1, took: 0,
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				mock, edit := play(status(tt.status, "Retry-After", tt.hint), status(200)), tt.edit
				if edit == nil {
					edit = func(*Config) {}
				}
				ctx := t.Context()
				if tt.timeout > 0 {
					var cancel context.CancelFunc
					ctx, cancel = context.WithTimeout(ctx, tt.timeout)
					defer cancel()
				}
				began := time.Now()
				resp, err := newClient(t, mock, edit).Do(ctx, request(PollsList))
				require.NoError(t, err, "the real answer, not a deadline")
				assert.Len(t, mock.seen, tt.sent)
				assert.Equal(t, tt.took, time.Since(began))
				assert.Equal(t, tt.took, resp.Attempts[0].Wait)
				assert.Equal(t, tt.took, resp.Duration)
				if tt.sent == 1 {
					assert.Equal(t, tt.status, resp.StatusCode)
					assert.GreaterOrEqual(t, resp.RetryAfter, 20*time.Second)
				}
			})
		})
	}
}

func TestRetriesAreCounted(t *testing.T) {
	t.Parallel()
	for retries, want := range map[int]int{-1: 1, 1: 2, 3: 4, 0: 1 + DefaultMaxRetries} {
		synctest.Test(t, func(t *testing.T) {
			mock := play(status(500))
			resp, err := newClient(t, mock, func(c *Config) { c.MaxRetries = retries }).Do(t.Context(),
				request(PollsList))
			require.NoError(t, err)
			assert.Equal(t, 500, resp.StatusCode)
			assert.Len(t, mock.seen, want)
			for i, attempt := range resp.Attempts {
				assert.Equal(t, i == want-1, attempt.Wait == 0, "a wait follows every attempt but the last")
			}
		})
	}
}

func TestTheCeilingOfAWaitDoublesFromTheFirstOn(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var longest [DefaultMaxRetries]time.Duration
		for range 100 {
			client := newClient(t, play(status(500))) // one client would detect an outage
			resp, err := client.Do(t.Context(), request(PollsList))
			require.NoError(t, err)
			for i := range longest {
				longest[i] = max(longest[i], resp.Attempts[i].Wait)
			}
		}
		for i, got := range longest {
			ceiling := DefaultMinRetryWait << i
			assert.LessOrEqual(t, got, ceiling, "wait %d", i)
			assert.Greater(t, got, ceiling*3/4, "wait %d", i)
		}
	})
}

func TestAFailureThatCannotBeWaitedOutKeepsItsCause(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), time.Nanosecond)
		defer cancel()
		mock := play(fails(&net.OpError{Op: "dial", Err: io.ErrClosedPipe}))
		_, err := newClient(t, mock, func(c *Config) {
			c.RetryWaitMin = time.Hour
			c.CallTimeout = time.Minute
		}).Do(ctx, request(PollsList))
		require.ErrorIs(t, err, io.ErrClosedPipe)
		assert.False(t, errors.Is(err, ctx.Err()) && ctx.Err() != nil)
	})
}

func TestATransportsOwnErrorIsKept(t *testing.T) {
	t.Parallel()
	own := errors.New("own")
	_, err := newClient(t, play(fails(own))).Do(t.Context(), request(PollsCreate))
	require.ErrorIs(t, err, own)
	assert.True(t, failure(t, err).MaybeApplied)
	assert.Equal(t, "own", err.Error())
}
