package transport

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// clocked answers requests and records when each was sent.
type clocked struct {
	mu      sync.Mutex
	began   time.Time
	sent    []time.Duration
	who     []string
	respond func(n int, req *http.Request) (*http.Response, error)
}

func (c *clocked) RoundTrip(req *http.Request) (*http.Response, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	// The limiter computes with floats, so round.
	c.sent = append(c.sent, time.Since(c.began).Round(time.Millisecond))
	c.who = append(c.who, req.URL.Query().Get("who"))
	if c.respond == nil {
		return status(200)(req)
	}
	return c.respond(len(c.sent), req)
}

// pause makes the client see a 429 with a hint.
func pause(client *Client, d time.Duration) {
	client.pacer.limited(&Response{Operation: "Users.Get", StatusCode: 429, RetryAfter: d}, time.Now(),
		time.Hour)
}

func clock() *clocked { return &clocked{began: time.Now()} }

func paced(n int, per time.Duration) func(*Config) {
	return func(c *Config) { c.RateLimit, c.RatePer = n, per }
}

func TestRateLimitPacesEveryAttempt(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		mock := clock()
		mock.respond = func(n int, req *http.Request) (*http.Response, error) {
			if n == 2 {
				return status(500)(req) // the retry needs its own turn
			}
			return status(200)(req)
		}
		client := newClient(t, mock, paced(6, time.Minute))
		for range 3 {
			_, err := client.Do(t.Context(), request(PollsList))
			require.NoError(t, err)
		}
		assert.Equal(t, []time.Duration{0, 10 * time.Second, 20 * time.Second, 30 * time.Second},
			mock.sent)
	})
}

func TestRateLimitLetsASecondsWorthGoAtOnce(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		mock := clock()
		client := newClient(t, mock, paced(10_000, time.Hour)) // the API's own example: 2.8 a second
		for range 4 {
			_, err := client.Do(t.Context(), request(PollsList))
			require.NoError(t, err)
		}
		assert.Equal(t, []time.Duration{0, 0, 360 * time.Millisecond, 720 * time.Millisecond}, mock.sent)
	})
}

// No period contains more than the limit plus the requests of one second.
func TestRateLimitHoldsInEachPeriod(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		n      int
		per    time.Duration
		atOnce int
	}{
		{n: 1, per: 10 * time.Second, atOnce: 1},
		{n: 60, per: time.Minute, atOnce: 1},
		{n: 1, per: time.Second, atOnce: 1},
		{n: 5, per: time.Second, atOnce: 5},
		{n: 3, per: time.Second, atOnce: 3},
		{n: 20, per: time.Second, atOnce: 20},
		{n: 10_000, per: time.Hour, atOnce: 2},
		{n: 5, per: 100 * time.Millisecond, atOnce: 50},
	} {
		t.Run(fmt.Sprint(tc.n, " in ", tc.per), func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				mock := clock()
				client := newClient(t, mock, paced(tc.n, tc.per))
				for range 4 * (tc.n%1000 + tc.atOnce) {
					_, err := client.Do(t.Context(), request(PollsList))
					require.NoError(t, err)
				}
				for i, from := range mock.sent {
					most := i + tc.n + tc.atOnce
					if most < len(mock.sent) {
						assert.GreaterOrEqual(t, mock.sent[most]-from, tc.per, "from request %d on", i)
					}
					if i == tc.atOnce {
						assert.Positive(t, from, "no more at once")
					} else if i < tc.atOnce {
						assert.Zero(t, from, "at once")
					}
				}
			})
		})
	}
}

func TestRateLimitIsFairAndCancellable(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		mock := clock()
		client := newClient(t, mock, paced(1, 10*time.Second))
		ctx, cancel := context.WithCancel(t.Context())
		contexts := map[string]context.Context{
			"a": t.Context(), "b": t.Context(), "gone": ctx,
			"c": t.Context(),
		}
		var wg sync.WaitGroup
		for _, who := range []string{"a", "b", "gone", "c"} {
			wg.Go(func() {
				req := request(PollsList)
				req.Query = url.Values{"who": {who}}
				_, err := client.Do(contexts[who], req)
				assert.Equal(t, who == "gone", errors.Is(err, context.Canceled))
			})
			synctest.Wait() // it waits in the queue before the next one does
		}
		cancel()
		wg.Wait()
		assert.Equal(t, []string{"a", "b", "c"}, mock.who, "first come, first served")
	})
}

func TestACallWhoseTurnIsTooLateSaysSoAtOnce(t *testing.T) {
	t.Parallel()
	for _, background := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			mock := clock()
			client := newClient(t, mock, paced(1, time.Minute))
			_, err := client.Do(t.Context(), request(PollsList))
			require.NoError(t, err)

			ctx, cancel := context.WithTimeout(t.Context(), 59*time.Second)
			defer cancel()
			req := request(PollsCreate)
			req.Background = background
			began := time.Now()
			_, err = client.Do(ctx, req)
			assert.Zero(t, time.Since(began))
			require.ErrorIs(t, err, ErrTooLate)
			require.ErrorIs(t, err, context.DeadlineExceeded)
			require.ErrorContains(t, err, "its turn comes in 1m0s, and must come within 58s")
			f := failure(t, err)
			assert.False(t, f.MaybeApplied)
			assert.Empty(t, f.Attempts)
			assert.Len(t, mock.sent, 1)

			_, err = client.Do(t.Context(), request(PollsList))
			require.NoError(t, err)
			assert.Equal(t, []time.Duration{0, time.Minute}, mock.sent, "a turn not taken goes to the next")
		})
	}
}

func TestBackgroundYields(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		mock := clock()
		client := newClient(t, mock, paced(4, 40*time.Second))
		var wg sync.WaitGroup
		for _, who := range []string{"first", "background", "second", "third"} {
			wg.Go(func() {
				req := request(PollsList)
				req.Background = who == "background"
				req.Query = url.Values{"who": {who}}
				_, err := client.Do(t.Context(), req)
				assert.NoError(t, err)
			})
			synctest.Wait()
		}
		wg.Wait()
		assert.Equal(t, []string{"first", "second", "third", "background"}, mock.who)
		assert.LessOrEqual(t, mock.sent[3], 40*time.Second, "a turn that is left over is soon taken")
	})
}

func TestA429PausesTheWholeClient(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name, hint string
		status     int
		want       time.Duration // when another call is sent
	}{
		{name: "for the hint", hint: "20", status: 429, want: 20 * time.Second},
		{name: "no longer than the cap", hint: "3600", status: 429, want: time.Minute},
		{name: "not for a 503", hint: "20", status: 503, want: time.Second},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				mock := clock()
				mock.respond = func(n int, req *http.Request) (*http.Response, error) {
					if n == 1 {
						return status(tt.status, "Retry-After", tt.hint)(req)
					}
					return status(200)(req)
				}
				client := newClient(t, mock, func(c *Config) { c.MaxRetries = -1 })
				_, err := client.Do(t.Context(), request(PollsList))
				require.NoError(t, err)
				time.Sleep(time.Second) //nolint:forbidigo // virtual time
				assert.Equal(t, tt.want-time.Second, client.Paused(time.Now()))

				ctx, cancel := context.WithTimeout(t.Context(), 500*time.Millisecond)
				defer cancel()
				if tt.want > time.Second {
					_, err = client.Do(ctx, request(PollsList))
					require.ErrorIs(t, err, ErrTooLate, "a call that cannot wait is told so")
				}
				_, err = client.Do(t.Context(), request(PollsList))
				require.NoError(t, err)
				assert.Equal(t, []time.Duration{0, tt.want}, mock.sent)
			})
		})
	}
}

func TestAShorterHintDoesNotShortenAPause(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		mock := clock()
		client := newClient(t, mock)
		pause(client, 20*time.Second)
		pause(client, 5*time.Second)
		_, err := client.Do(t.Context(), request(PollsList))
		require.NoError(t, err)
		assert.Equal(t, []time.Duration{20 * time.Second}, mock.sent)
	})
}

func TestACallThatIsPausedCanBeCancelled(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		mock, cause := clock(), errors.New("gave up")
		client := newClient(t, mock)
		pause(client, time.Minute)
		ctx, cancel := context.WithCancelCause(t.Context())
		time.AfterFunc(3*time.Second, func() { cancel(cause) })
		_, err := client.Do(ctx, &Request{Operation: PollsCreate, Body: []byte("{}")})
		require.ErrorIs(t, err, cause)
		f := failure(t, err)
		assert.Equal(t, 3*time.Second, f.Duration)
		assert.False(t, f.MaybeApplied)
		assert.Empty(t, mock.sent)
	})
}

func TestAPauseThatEndsWithTheDeadlineIsTooLong(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		mock := clock()
		client := newClient(t, mock)
		pause(client, time.Minute)
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		_, err := client.Do(ctx, request(PollsList))
		require.ErrorIs(t, err, ErrTooLate)
		assert.Zero(t, time.Since(mock.began))
		assert.Empty(t, mock.sent)
	})
}

func TestAReplayWhoseTurnIsTooLateIsNoAttempt(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
		defer cancel()
		mock := play(status(500))
		_, err := newClient(t, mock, paced(1, time.Minute)).Do(ctx, request(PollsList))
		require.ErrorIs(t, err, ErrTooLate)
		f := failure(t, err)
		assert.Len(t, mock.seen, 1)
		assert.Len(t, f.Attempts, 1)
		require.NotNil(t, f.Last)
		assert.Equal(t, 500, f.Last.StatusCode)
	})
}

// outsidePacer allows one request each second, and records pauses.
type outsidePacer struct {
	mu     sync.Mutex
	waits  []Priority
	pauses []time.Duration
}

func (p *outsidePacer) Wait(ctx context.Context, priority Priority) error {
	p.mu.Lock()
	p.waits = append(p.waits, priority)
	p.mu.Unlock()
	select {
	case <-time.After(time.Second): //nolint:forbidigo // virtual time
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (p *outsidePacer) Pause(d time.Duration) { p.pauses = append(p.pauses, d) }

func TestAPacerOfTheCallersGetsEveryAttemptAndEveryPause(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		mock, pacer := clock(), &outsidePacer{}
		mock.respond = func(n int, req *http.Request) (*http.Response, error) {
			if n == 1 {
				return status(429, "Retry-After", "7")(req)
			}
			return status(200)(req)
		}
		client := newClient(t, mock, func(c *Config) { c.Pacer = pacer })
		req := request(PollsList)
		req.Background = true
		_, err := client.Do(t.Context(), req)
		require.NoError(t, err)
		assert.Equal(t, []time.Duration{time.Second, 9 * time.Second}, mock.sent)
		assert.Equal(t, []Priority{Background, Background}, pacer.waits)
		assert.Equal(t, []time.Duration{7 * time.Second}, pacer.pauses)
	})
}

// strictPacer refuses each turn with an error after a delay.
type strictPacer struct {
	after time.Duration
	err   error
}

func (p strictPacer) Wait(ctx context.Context, _ Priority) error {
	select {
	case <-time.After(p.after): //nolint:forbidigo // virtual time
		return p.err
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (strictPacer) Pause(time.Duration) {}

// If there is no turn, nothing is sent and the error says why.
func TestAPacerThatGivesNoTurn(t *testing.T) {
	t.Parallel()
	refused := errors.New("the quota server is away")
	cancelledByCaller := errors.New("the caller had enough")
	for name, test := range map[string]struct {
		pacer    strictPacer
		deadline time.Duration // of the caller's context
		cancel   time.Duration // when the caller cancels; 0: never
		is       error
		within   time.Duration
	}{
		"an error of its own": {
			pacer: strictPacer{err: refused}, is: refused,
		},
		"no turn in time": {
			pacer: strictPacer{after: time.Hour}, deadline: 10 * time.Second,
			is: ErrTooLate, within: 10 * time.Second,
		},
		"a turn that leaves no time": {
			pacer: strictPacer{after: 10 * time.Second}, deadline: 10*time.Second + time.Millisecond,
			is: ErrTooLate, within: 11 * time.Second,
		},
		"cancelled": {
			pacer: strictPacer{after: time.Hour}, cancel: time.Second,
			is: cancelledByCaller, within: time.Second,
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				mock := clock()
				client := newClient(t, mock, func(c *Config) { c.Pacer = test.pacer })
				ctx, cancel := context.WithCancelCause(t.Context())
				defer cancel(nil)
				if test.deadline > 0 {
					var done context.CancelFunc
					ctx, done = context.WithTimeout(ctx, test.deadline)
					defer done()
				}
				if test.cancel > 0 {
					time.AfterFunc(test.cancel, func() { cancel(cancelledByCaller) })
				}
				began := time.Now()
				_, err := client.Do(ctx, request(SessionsCreate))
				require.ErrorIs(t, err, test.is)
				assert.LessOrEqual(t, time.Since(began), test.within)
				assert.Empty(t, mock.sent)
				assert.False(t, failure(t, err).MaybeApplied)
			})
		})
	}
}

// What a 429 without a useful hint does to the client wears off.
func TestASlowdownEnds(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		p := newPacer(&Config{RetryWaitMin: time.Second, RetryWaitMax: time.Minute})
		limit := func(hint time.Duration) {
			<-time.NewTimer(time.Millisecond).C // answers from before the slowdown do not count
			p.limited(&Response{StatusCode: 429, RetryAfter: hint}, time.Now(), time.Minute)
		}
		limit(time.Second)
		assert.Zero(t, p.window, "a hint says enough")
		limit(time.Hour)
		assert.Equal(t, 1, p.window, "a hint that is not waited for does not")
		limit(0)
		assert.Equal(t, 2, p.slowdowns)
		p.answered()
		assert.Equal(t, 1, p.slowdowns)
		<-time.NewTimer(oldSlowdown + time.Millisecond).C
		p.grow(time.Now())
		assert.Zero(t, p.window)
		assert.Zero(t, p.slowdowns)
	})
}

// That a turn came too late says more than that the context has ended since.
func TestATurnThatCameTooLateIsNamed(t *testing.T) {
	t.Parallel()
	c := &call{Context: cancelled(errReset), cause: tooLate(0, -time.Second)}
	_, err := c.end()
	require.ErrorIs(t, err, ErrTooLate)
	require.ErrorContains(t, err, "its turn came 1s too late")
}
