package transport

import (
	"context"
	"errors"
	"net/http"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// These tests check in virtual time what the pacer promises for a queue of calls.

// tally counts how calls ended.
type tally struct{ done, notSent, lost, limited atomic.Int64 }

func (n *tally) add(resp *Response, err error) {
	f, failed := errors.AsType[*Failure](err)
	switch {
	case !failed && resp.StatusCode < 400:
		n.done.Add(1)
	case !failed:
		n.limited.Add(1)
	case f.MaybeApplied:
		n.lost.Add(1)
	default:
		n.notSent.Add(1)
	}
}

// slow answers 200 after d.
func slow(d time.Duration) *concurrent {
	return &concurrent{respond: func(_ int, req *http.Request) (*http.Response, error) {
		return after(d, nil)(req)
	}}
}

// concurrent is like clocked, but does not hold a lock while it answers.
type concurrent struct {
	sent    atomic.Int64
	respond func(n int, req *http.Request) (*http.Response, error)
}

func (c *concurrent) RoundTrip(req *http.Request) (*http.Response, error) {
	return c.respond(int(c.sent.Add(1)), req)
}

func createAwaiting(d time.Duration) *Request {
	return &Request{Operation: SessionsCreate, Body: []byte("{}"), Await: d}
}

func TestAQueueOfCreatesLosesNone(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name    string
		timeout time.Duration // of the callers' contexts; 0: none
		answer  time.Duration
		await   time.Duration
		all     bool // whether every call must succeed
	}{
		{
			name:    "callers with time",
			timeout: 0,
			answer:  8 * time.Second,
			await:   10 * time.Second,
			all:     true,
		},
		{
			name:    "callers with two minutes",
			timeout: 2 * time.Minute,
			answer:  8 * time.Second,
			await:   10 * time.Second,
			all:     false,
		},
		{
			name:    "callers with half a minute and a full await",
			timeout: 30 * time.Second,
			answer:  10 * time.Second,
			await:   10 * time.Second, all: false,
		},
		{
			name:    "an API that takes long by itself",
			timeout: 2 * time.Minute,
			answer:  6 * time.Second,
			await:   0,
			all:     false,
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				mock := slow(tt.answer)
				client := newClient(t, mock, paced(10_000, time.Hour))
				ctx, cancel := context.WithCancel(t.Context())
				if tt.timeout > 0 {
					ctx, cancel = context.WithTimeout(t.Context(), tt.timeout)
				}
				defer cancel()
				var n tally
				var wg sync.WaitGroup
				for range 500 {
					wg.Go(func() { n.add(client.Do(ctx, createAwaiting(tt.await))) })
				}
				wg.Wait()
				assert.Zero(t, n.lost.Load(), "sent without the time for an answer")
				assert.Equal(t, mock.sent.Load(), n.done.Load())
				assert.EqualValues(t, 500, n.done.Load()+n.notSent.Load())
				assert.Positive(t, n.done.Load())
				assert.Equal(t, tt.all, n.notSent.Load() == 0)
			})
		})
	}
}

func TestWhatCannotBeAnsweredInTimeIsNotSent(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name    string
		timeout time.Duration
		edit    func(*Config)
	}{
		{name: "an await longer than the context", timeout: 5 * time.Second, edit: nil},
		{name: "an await as long as the context", timeout: 10 * time.Second, edit: nil},
		{name: "an await longer than the call timeout", timeout: time.Hour, edit: func(c *Config) {
			c.CallTimeout = 8 * time.Second
		}},
	} {
		synctest.Test(t, func(t *testing.T) {
			mock := slow(time.Second)
			edit := tt.edit
			if edit == nil {
				edit = func(*Config) {}
			}
			ctx, cancel := context.WithTimeout(t.Context(), tt.timeout)
			defer cancel()
			_, err := newClient(t, mock, edit).Do(ctx, createAwaiting(10*time.Second))
			require.ErrorIs(t, err, ErrTooLate, tt.name)
			require.ErrorContains(t, err, "Ricloud-Await")
			assert.False(t, failure(t, err).MaybeApplied)
			assert.Zero(t, mock.sent.Load())
		})
	}
	synctest.Test(t, func(t *testing.T) { // a short deadline suffices for a quick answer
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
		defer cancel()
		_, err := newClient(t, slow(5*time.Millisecond)).Do(ctx, request(PollsCreate))
		require.NoError(t, err)
	})
}

func TestTheCallTimeoutBeginsWithTheTurn(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		client := newClient(t,
			&concurrent{respond: func(n int, req *http.Request) (*http.Response, error) {
				if n == 2 {
					return status(503)(req) // the retry waits for a turn as well
				}
				return after(8*time.Second, nil)(req)
			}}, paced(1, 10*time.Minute), func(c *Config) { c.CallTimeout = 10 * time.Second })
		began := time.Now()
		for range 2 {
			_, err := client.Do(t.Context(), request(PollsList))
			require.NoError(t, err)
		}
		assert.Equal(t, 20*time.Minute+8*time.Second, time.Since(began))
	})
}

func TestCancelledCallsGiveTheirTurnBack(t *testing.T) {
	t.Parallel()
	for _, priority := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			mock := clock()
			client := newClient(t, mock, paced(10, time.Second))
			ctx, cancel := context.WithCancel(t.Context())
			var wg sync.WaitGroup
			for range 70 {
				wg.Go(func() {
					req := request(PollsList)
					req.Background = priority
					_, _ = client.Do(ctx, req)
				})
			}
			synctest.Wait()
			sent := len(mock.sent)
			cancel()
			wg.Wait()
			assert.Equal(t, 10, sent)
			_, err := client.Do(t.Context(), request(PollsList))
			require.NoError(t, err)
			assert.LessOrEqual(t, mock.sent[len(mock.sent)-1], 100*time.Millisecond)
		})
	}
}

func TestAPauseStopsWhatWaitsForATurn(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		mock := clock()
		mock.respond = func(n int, req *http.Request) (*http.Response, error) {
			if n == 5 {
				return status(429, "Retry-After", "3")(req)
			}
			return status(200)(req)
		}
		client := newClient(t, mock, paced(20, time.Second))
		var wg sync.WaitGroup
		for range 100 {
			wg.Go(func() {
				_, err := client.Do(t.Context(), request(PollsList))
				assert.NoError(t, err)
			})
		}
		wg.Wait()
		during := 0
		for _, at := range mock.sent[20:] { // the first 20 were sent at once, before the pause
			if at > 0 && at < 3*time.Second {
				during++
			}
		}
		assert.Zero(t, during, "requests during the pause")
		assert.Len(t, mock.sent, 101)
	})
}

// overloaded answers 429 for a time, and then 200.
func overloaded(d time.Duration, header ...string) *concurrent {
	began := time.Now()
	return &concurrent{respond: func(_ int, req *http.Request) (*http.Response, error) {
		if time.Since(began) < d {
			return status(429, header...)(req)
		}
		return status(200)(req)
	}}
}

func TestABare429SlowsTheClientDownUntilItRecovers(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name string
		edit func(*Config)
		most int64 // requests in total
	}{
		{name: "unpaced", edit: func(*Config) {}, most: 500 + 500 + 20},
		{name: "paced", edit: paced(10_000, time.Hour), most: 500 + 20},
		{
			name: "a pacer of the caller's",
			edit: func(c *Config) { c.Pacer = &outsidePacer{} },
			most: 500 + 500 + 20,
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				mock := overloaded(30 * time.Second)
				client := newClient(t, mock, tt.edit)
				began := time.Now()
				var n tally
				var wg sync.WaitGroup
				for range 500 {
					wg.Go(func() { n.add(client.Do(t.Context(), request(PollsCreate))) })
				}
				time.Sleep(1500 * time.Millisecond) //nolint:forbidigo // virtual
				burst := mock.sent.Load()
				time.Sleep(28 * time.Second) //nolint:forbidigo // virtual
				assert.LessOrEqual(t, mock.sent.Load()-burst, int64(20), "requests while the API has no room")
				wg.Wait()
				assert.EqualValues(t, 500, n.done.Load(), "it recovers by itself")
				assert.LessOrEqual(t, mock.sent.Load(), tt.most)
				took := time.Since(began)
				if tt.name == "unpaced" {
					assert.Less(t, took, time.Minute)
				}

				before := mock.sent.Load()
				for range 100 { // the client is as fast as before
					wg.Go(func() { n.add(client.Do(t.Context(), request(PollsList))) })
				}
				if client.cfg.RateLimit == 0 && client.cfg.Pacer == nil {
					synctest.Wait()
					assert.EqualValues(t, 100, mock.sent.Load()-before)
				}
				wg.Wait()
			})
		})
	}
}

// An hour of 429s costs few requests.
func TestAnHourOf429(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		mock := overloaded(time.Hour)
		client := newClient(t, mock, func(c *Config) {
			c.MaxRetries, c.CallTimeout = many, 1000*time.Hour
		})
		var wg sync.WaitGroup
		for range 20 {
			wg.Go(func() {
				resp, err := client.Do(t.Context(), request(PollsList))
				if assert.NoError(t, err) {
					assert.Equal(t, 200, resp.StatusCode)
				}
			})
		}
		wg.Wait()
		assert.Less(t, mock.sent.Load(), int64(20+3600/12+40))
	})
}

// many retries never run out.
const many = 1 << 30

func TestARefusalDuringAPauseKnowsThe429(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name   string
		header []string
	}{
		{name: "with a hint", header: []string{"Retry-After", "20"}},
		{name: "without one", header: nil},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				mock := overloaded(time.Hour, tt.header...)
				client := newClient(t, mock, func(c *Config) { c.MaxRetries = -1 })
				_, err := client.Do(t.Context(), request(UsersList))
				require.NoError(t, err)
				ctx, cancel := context.WithTimeout(t.Context(), 500*time.Millisecond)
				defer cancel()
				began := time.Now()
				_, err = client.Do(ctx, request(PollsList))
				assert.Zero(t, time.Since(began), "it says so at once")
				require.ErrorIs(t, err, context.DeadlineExceeded)
				f := failure(t, err)
				assert.False(t, f.MaybeApplied)
				require.NotNil(t, f.Last)
				assert.Equal(t, 429, f.Last.StatusCode)
				assert.Equal(t, "Users.List", f.Last.Operation)
				assert.EqualValues(t, 1, mock.sent.Load())
			})
		})
	}
}

// A pause also refuses calls that are already waiting, and appears in the error of a call that is
// cancelled in the queue.
func TestAPauseRefusesWhatAlreadyWaits(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		client := newClient(t, clock(), paced(1, 10*time.Second))
		_, err := client.Do(t.Context(), request(PollsList))
		require.NoError(t, err)
		began := time.Now()
		time.AfterFunc(2*time.Second, func() { pause(client, time.Minute) })
		var wg sync.WaitGroup
		wg.Go(func() {
			ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
			defer cancel()
			_, err := client.Do(ctx, request(PollsList))
			assert.Equal(t, 2*time.Second, time.Since(began))
			assert.Equal(t, 429, failure(t, err).Last.StatusCode)
		})
		wg.Go(func() {
			ctx, cancel := context.WithCancelCause(t.Context())
			gone := errors.New("gone")
			time.AfterFunc(3*time.Second, func() { cancel(gone) })
			_, err := client.Do(ctx, request(PollsList))
			assert.ErrorIs(t, err, gone) //nolint:testifylint // require is for the test's goroutine
			assert.Equal(t, 429, failure(t, err).Last.StatusCode)
		})
		wg.Wait()
		_, err = client.Do(t.Context(), request(PollsList))
		require.NoError(t, err)
		assert.Equal(t, 62*time.Second, time.Since(began), "neither cost a turn")
	})
}

func TestBackgroundKeepsAShare(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		mock := clock()
		client := newClient(t, mock, paced(10_000, time.Hour))
		ctx, cancel := context.WithTimeout(t.Context(), 30*time.Minute)
		defer cancel()
		var wg sync.WaitGroup
		for range 20 { // foreground calls take every turn that they get
			wg.Go(func() {
				for err := error(nil); err == nil; {
					_, err = client.Do(ctx, request(ResultsAcknowledgeAll))
				}
			})
		}
		reads := 0
		wg.Go(func() {
			for err := error(nil); err == nil; reads++ {
				req := request(PollsList)
				req.Background = true
				_, err = client.Do(ctx, req)
			}
		})
		wg.Wait()
		assert.InDelta(t, 5000/5, reads, 20)
		assert.InDelta(t, 5000, len(mock.sent), 20)
	})
}

// When little time is left for the turn and the answer, half of it is for the answer.
func TestHalfOfAShortTimeIsForTheTurn(t *testing.T) {
	t.Parallel()
	for limit, sent := range map[time.Duration]bool{
		250 * time.Millisecond: true, 150 * time.Millisecond: false,
	} {
		synctest.Test(t, func(t *testing.T) {
			client := newClient(t, clock(), paced(1, 100*time.Millisecond))
			client.pacer.burst = 0
			_, err := client.Do(t.Context(), request(PollsList))
			require.NoError(t, err)
			ctx, cancel := context.WithTimeout(t.Context(), limit)
			defer cancel()
			_, err = client.Do(ctx, request(PollsList))
			assert.Equal(t, sent, err == nil, "%v: %v", limit, err)
		})
	}
}

// A request that gives its turn back when it has it already lets the next one go.
func TestATurnThatIsGivenBackIsUsed(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		p := newPacer(&Config{RateLimit: 1, RatePer: time.Minute})
		began := time.Now()
		require.NoError(t, p.wait(t.Context(), Foreground, time.Time{}))
		var next sync.WaitGroup
		next.Go(func() {
			err := p.wait(t.Context(), Foreground, time.Time{})
			assert.Zero(t, time.Since(began))
			assert.NoError(t, err)
		})
		synctest.Wait()
		require.ErrorIs(t, p.leave(&turn{}, Foreground, errReset), errReset)
		next.Wait()
	})
}
