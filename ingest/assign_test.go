package ingest_test

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	ricloud "github.com/reincubate/ricloud-go"
	"github.com/reincubate/ricloud-go/ingest"
	"github.com/reincubate/ricloud-go/ingest/internal/store"
	"github.com/reincubate/ricloud-go/ricloudtest"
)

// counting is the store of one of several processes. It counts what that process is told of jobs
// and of signed URLs.
type counting struct {
	store.Store

	told *atomic.Int64 // of all processes
}

func (c counting) Watch(ctx context.Context, prefix string, fn func(store.Entry)) error {
	return c.Store.Watch(ctx, prefix, func(e store.Entry) {
		if strings.HasPrefix(e.Key, "work.") {
			c.told.Add(1)
		}
		fn(e)
	})
}

func (c counting) Listen(ctx context.Context, subject string, fn func([]byte)) error {
	return c.Store.Listen(ctx, subject, func(data []byte) {
		if data != nil {
			c.told.Add(1)
		}
		fn(data)
	})
}

// company is several processes on one state.
type company struct {
	*bench

	shared  *store.Memory
	engines []*ingest.Engine
	handled []int // results, by process
	mu      sync.Mutex
}

// newCompany opens n engines. wrap makes the store of each.
func newCompany(
	t *testing.T, n int, wrap func(i int, s store.Store) store.Store, opts ...ricloudtest.Option,
) *company {
	t.Helper()
	c := &company{
		bench:  &bench{t: t, poll: 10 * time.Second, patience: 6 * time.Hour},
		shared: store.NewMemory(), handled: make([]int, n),
	}
	c.sandbox = ricloudtest.NewServer(append(opts, ricloudtest.WithReceiver(hookURL, c.bench))...)
	t.Cleanup(c.sandbox.Close)
	for i := range n {
		engine, err := ingest.OpenOn(t.Context(), ingest.Config{Memory: true}, wrap(i, c.shared))
		require.NoError(t, err)
		c.engines = append(c.engines, engine)
	}
	c.engine = c.engines[n-1]
	c.client = c.sandbox.Client(ricloud.WithPacer(c.engine.Pacer()))
	return c
}

// start runs all engines, each a little after the one before, so that the first leads. It returns
// what ends them all.
func (c *company) start(handlers func(i int) ingest.Handlers) (stop func()) {
	ctx, cancel := context.WithCancel(c.t.Context())
	var running sync.WaitGroup
	for i, engine := range c.engines {
		h := handlers(i)
		result := h.Result
		h.Result = func(ctx context.Context, r *ingest.Result) error {
			err := result(ctx, r)
			if err == nil {
				c.mu.Lock()
				c.handled[i]++
				c.mu.Unlock()
			}
			return err
		}
		client := c.sandbox.Client(ricloud.WithPacer(engine.Pacer()))
		running.Go(func() {
			assert.NoError(c.t, engine.Run(ctx, client, h))
			assert.NoError(c.t, engine.Close())
		})
		<-time.NewTimer(time.Second).C
	}
	return func() { cancel(); running.Wait() }
}

func each(_ int, s store.Store) store.Store { return s }

// A job wakes the process that handles it and the one that leads, and no other. So what all
// processes are told together does not grow with their number.
func TestAJobWakesOneProcess(t *testing.T) {
	t.Parallel()
	const accounts = 60 // with fewer, chance moves the lists by more than is allowed
	messages := func(t *testing.T, processes int) (told int64, requests float64) {
		t.Helper()
		synctest.Test(t, func(t *testing.T) {
			there, here := fleet(accounts)
			var count atomic.Int64
			c := newCompany(t, processes, func(_ int, s store.Store) store.Store {
				return counting{s, &count}
			}, ricloudtest.WithAccounts(there...), ricloudtest.WithDelays(delays()))
			c.receive()
			c.sandbox.ResetCalls()
			stop := c.start(func(int) ingest.Handlers { return c.handlers() })
			c.submit(here...)
			c.wait(accounts, ingest.Done)
			requests = requestsOf(c.sandbox, accounts)
			stop()
			told = count.Load()
			for id, n := range c.bench.handled.results {
				assert.Equal(t, 1, n, id)
			}
			assert.Len(t, c.bench.handled.results, accounts)
		})
		return told, requests
	}
	one, requests := messages(t, 1)
	many, manyRequests := messages(t, 5)
	assert.InDelta(t, one, many, float64(one)/20)
	assert.InDelta(t, requests, manyRequests, requests/20)
}

// requestsOf returns the requests for each account.
func requestsOf(s *ricloudtest.Server, accounts int) float64 {
	return requests(s) / float64(accounts)
}

// While handlers take long, the jobs spread over the processes.
func TestJobsSpreadOverProcesses(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		const accounts = 40
		there, here := fleet(accounts)
		c := newCompany(t, 4, each, ricloudtest.WithAccounts(there...),
			ricloudtest.WithDelays(delays()))
		stop := c.start(func(int) ingest.Handlers {
			h := c.handlers()
			h.Result = func(ctx context.Context, r *ingest.Result) error {
				<-time.NewTimer(5 * time.Minute).C
				return read(ctx, r)
			}
			return h
		})
		c.submit(here...)
		c.wait(accounts, ingest.Done)
		stop()
		for i, n := range c.handled {
			assert.InDelta(t, accounts/4, n, 4, "process %d of %v", i, c.handled)
		}
	})
}

// stopped is the store of a process that can be stopped for a while, as SIGSTOP does: it writes and
// asks nothing.
type stopped struct {
	store.Store

	gate atomic.Pointer[chan struct{}]
}

func (s *stopped) stop() (resume func()) {
	gate := make(chan struct{})
	s.gate.Store(&gate)
	return func() { s.gate.Store(nil); close(gate) }
}

func (s *stopped) wait(ctx context.Context) error {
	if gate := s.gate.Load(); gate != nil {
		select {
		case <-*gate:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
	return nil
}

func (s *stopped) Put(ctx context.Context, e store.Entry, ttl time.Duration) (uint64, error) {
	if err := s.wait(ctx); err != nil {
		return 0, err
	}
	return s.Store.Put(ctx, e, ttl)
}

func (s *stopped) Ask(ctx context.Context, subject string, data []byte) ([]byte, error) {
	if err := s.wait(ctx); err != nil {
		return nil, err
	}
	return s.Store.Ask(ctx, subject, data)
}

func (s *stopped) Answer(ctx context.Context, subject string, fn func([]byte) []byte) error {
	return s.Store.Answer(ctx, subject, func(data []byte) []byte {
		_ = s.wait(ctx) // it goes on, or ends
		defer func() { _ = s.wait(ctx) }()
		return fn(data)
	})
}

// A process that stops in the middle of a handler loses its job to another. When it goes on, its
// handler is cancelled, and what it says is not taken for the outcome.
func TestAStoppedProcessLosesItsJobs(t *testing.T) {
	t.Parallel()
	for name, leads := range map[string]bool{"which leads": true, "which works": false} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				there, here := fleet(1)
				stores := make([]*stopped, 2)
				c := newCompany(t, 2, func(i int, s store.Store) store.Store {
					stores[i] = &stopped{Store: s}
					return stores[i]
				}, ricloudtest.WithAccounts(there...), ricloudtest.WithDelays(delays()))
				victim := 1
				if leads {
					victim = 0
				}
				began, cancelled := make(chan struct{}), make(chan error, 1)
				stop := c.start(func(i int) ingest.Handlers {
					h := c.handlers()
					if i != victim {
						h.Result = func(ctx context.Context, r *ingest.Result) error {
							select {
							case <-began:
								return read(ctx, r)
							default:
								return errors.New("the other is to have it")
							}
						}
						return h
					}
					h.Result = func(ctx context.Context, _ *ingest.Result) error {
						close(began)
						<-ctx.Done()
						cancelled <- context.Cause(ctx)
						return nil
					}
					return h
				})
				c.submit(here...)
				<-began
				resume := stores[victim].stop()
				c.wait(1, ingest.Done)
				resume()
				require.ErrorContains(t, <-cancelled, "taken the job over")
				stop()
				assert.Equal(t, 1, c.handled[1-victim])
				assert.Equal(t, 1, c.sandbox.CountCalls("Sessions.Create"))
				status, err := c.shared.Get(context.Background(), "acct.customer-0")
				require.NoError(t, err)
				assert.Contains(t, string(status.Value), `"state":"done"`)
			})
		})
	}
}

// keeping is a store that keeps the first job that is written.
type keeping struct {
	store.Store

	first sync.Once
	job   store.Entry
}

func (k *keeping) Put(ctx context.Context, e store.Entry, ttl time.Duration) (uint64, error) {
	if strings.HasPrefix(e.Key, "work.") {
		k.first.Do(func() { k.job = e })
	}
	return k.Store.Put(ctx, e, ttl)
}

// A process that led, and was stopped before it made a job, makes it when it goes on, although the
// job has been handled and removed. It is not handled again.
func TestAJobThatIsMadeTooLate(t *testing.T) {
	t.Parallel()
	for name, forget := range map[string]bool{"the account is done": false, "it is forgotten": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				there, here := fleet(1)
				var kept *keeping
				c := newCompany(t, 1, func(_ int, s store.Store) store.Store {
					kept = &keeping{Store: s}
					return kept
				}, ricloudtest.WithAccounts(there...), ricloudtest.WithDelays(delays()))
				stop := c.start(func(int) ingest.Handlers { return c.handlers() })
				c.submit(here...)
				c.wait(1, ingest.Done)
				if forget {
					require.NoError(t, c.engine.Forget(t.Context(), here[0].Key))
				}
				_, err := c.shared.Put(t.Context(), kept.job, 0)
				require.NoError(t, err)
				after(10 * time.Minute)
				_, err = c.shared.Get(t.Context(), kept.job.Key)
				require.ErrorIs(t, err, store.ErrNotFound)
				stop()
				assert.Equal(t, []int{1}, c.handled)
			})
		})
	}
}

// Code ends when the process that took the code is gone before it has answered, and says what is
// known. The next leader asks for another code if that one was not used.
func TestCodeEndsWithTheProcessThatTookIt(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		there, here := fleet(1)
		there[0].Code = "731994"
		first := new(stopped)
		c := newCompany(t, 2, func(i int, s store.Store) store.Store {
			if i != 0 {
				return s
			}
			first.Store = s
			return first
		}, ricloudtest.WithAccounts(there...), ricloudtest.WithDelays(delays()))
		resume := func() {}
		stop := c.start(func(i int) ingest.Handlers {
			h := c.handlers()
			if i == 0 {
				logins := 0
				h.Secret = func(ctx context.Context, key string) (ricloud.Secret, error) {
					if logins++; logins == 2 {
						resume = first.stop()
					}
					return secret(ctx, key)
				}
			}
			return h
		})
		c.submit(here...)
		c.wait(1, ingest.CodeNeeded)
		code := ricloud.NewSecret("731994")
		err := c.engine.Code(context.Background(), here[0].Key, code)
		require.ErrorContains(t, err, "the process that took the code is gone")
		<-time.NewTimer(30 * time.Second).C // the other leads by then
		require.NoError(t, c.engine.Code(t.Context(), here[0].Key, code))
		c.wait(1, ingest.Done)
		resume()
		stop()
		assert.Equal(t, 2, c.sandbox.CountCalls("Sessions.Create"))
	})
}

// forgetful is a store that takes no write of a process for a while, and then shows it the jobs as
// they were before: a cluster that has lost its leader, and a replica that lags behind.
type forgetful struct {
	store.Store

	err         error // of refused writes: nil for one that says so
	refuse, lag atomic.Bool
	mu          sync.Mutex
	first       map[string]store.Entry
}

func (f *forgetful) Put(ctx context.Context, e store.Entry, ttl time.Duration) (uint64, error) {
	if f.refuse.Load() {
		return 0, cmp.Or(f.err, errors.New("the store is away"))
	}
	return f.Store.Put(ctx, e, ttl)
}

func (f *forgetful) Get(ctx context.Context, key string) (store.Entry, error) {
	e, err := f.Store.Get(ctx, key)
	f.mu.Lock()
	defer f.mu.Unlock()
	if old, ok := f.first[key]; ok && f.lag.Load() {
		return old, nil
	}
	if f.first == nil {
		f.first = map[string]store.Entry{}
	}
	if strings.HasPrefix(key, "work.") {
		f.first[key] = e
	}
	return e, err
}

// A result that a process has handled is not handled again while that process lives: not when the
// store takes nothing from it for an hour, and not when the store seems to say that the job is
// another's. What the handler did is written down once the store can be written to.
func TestAProcessThatLivesKeepsWhatItHasHandled(t *testing.T) {
	t.Parallel()
	for name, meanwhile := range map[string]func(f *forgetful){
		"away for seconds": func(*forgetful) { <-time.NewTimer(20 * time.Second).C },
		"away for an hour": func(*forgetful) { <-time.NewTimer(time.Hour).C },
		"and lags": func(f *forgetful) {
			<-time.NewTimer(20 * time.Second).C
			f.lag.Store(true)
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				there, here := fleet(1)
				f := new(forgetful)
				c := newCompany(t, 2, func(i int, s store.Store) store.Store {
					if i == 0 {
						return s // it leads
					}
					f.Store = s
					return f
				}, ricloudtest.WithAccounts(there...), ricloudtest.WithDelays(delays()))
				var calls atomic.Int32
				stop := c.start(func(i int) ingest.Handlers {
					h := c.handlers()
					h.Result = func(ctx context.Context, r *ingest.Result) error {
						if calls.Add(1); i == 0 {
							if calls.Load() == 1 {
								calls.Add(-1)
								return errors.New("the other is to have it")
							}
							return read(ctx, r)
						}
						f.refuse.Store(true)
						err := read(ctx, r)
						<-time.NewTimer(time.Minute).C // it has work to do beyond its lease
						return err
					}
					return h
				})
				c.submit(here...)
				for !f.refuse.Load() {
					<-time.NewTimer(time.Second).C
				}
				meanwhile(f)
				f.refuse.Store(false)
				c.wait(1, ingest.Done)
				stop()
				assert.EqualValues(t, 1, calls.Load())
			})
		})
	}
}

// Signed URLs that a process receives while nobody leads reach the next leader: the results cost no
// further request.
func TestURLsReachTheNextLeader(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		const accounts = 20
		there, here := fleet(accounts)
		c := newCompany(t, 2, each, ricloudtest.WithAccounts(there...),
			ricloudtest.WithDelays(ricloudtest.Delays{
				Session: ricloudtest.Delay{Min: 3 * time.Second, Max: 40 * time.Second},
				Poll:    ricloudtest.Delay{Min: 5 * time.Minute, Max: 5 * time.Minute},
			}))
		c.receive() // the second process receives
		second := c.engines[1]
		c.engines = c.engines[:1]
		stop := c.start(func(int) ingest.Handlers { return c.handlers() })
		c.submit(here...)
		c.wait(accounts, ingest.Polling)
		stop()
		<-time.NewTimer(6 * time.Minute).C // the polls end while nobody leads

		c.engines = []*ingest.Engine{second}
		c.handled = make([]int, 2)
		stop = c.start(func(int) ingest.Handlers { return c.handlers() })
		c.wait(accounts, ingest.Done)
		stop()
		assert.Zero(t, c.sandbox.CountCalls("Polls.Get"))
		assert.Zero(t, c.sandbox.CountCalls("Results.Get"))
	})
}

// change changes an account's record in the store.
func (c *company) change(key string, change func(record map[string]any)) {
	c.t.Helper()
	e, err := c.shared.Get(c.t.Context(), "acct."+store.Token(key))
	require.NoError(c.t, err)
	record := map[string]any{}
	require.NoError(c.t, json.Unmarshal(e.Value, &record))
	change(record)
	e.Value, err = json.Marshal(record)
	require.NoError(c.t, err)
	_, err = c.shared.Put(c.t.Context(), e, 0)
	require.NoError(c.t, err)
}
