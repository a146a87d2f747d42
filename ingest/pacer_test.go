package ingest

import (
	"context"
	"encoding/json"
	"fmt"
	"math"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	ricloud "github.com/reincubate/ricloud-go"
	"github.com/reincubate/ricloud-go/ingest/internal/store"
)

// pacers starts the pacers of n processes that share one store.
func pacers(ctx context.Context, wg *sync.WaitGroup, n, requests int, per time.Duration) []*pacer {
	shared := store.NewMemory()
	all := make([]*pacer, n)
	for i := range all {
		all[i] = newPacer(shared, fmt.Sprint("process-", i), requests, per)
		wg.Go(func() { all[i].run(ctx) })
		wg.Go(func() { all[i].watchPause(ctx) })
	}
	return all
}

// worst returns the largest number of times within any window of the given length.
func worst(times []time.Time, window time.Duration) (most int) {
	slices.SortFunc(times, time.Time.Compare)
	first := 0
	for i, t := range times {
		for t.Sub(times[first]) >= window {
			first++
		}
		most = max(most, i-first+1)
	}
	return most
}

// Several processes share one quota: no window of its length contains more requests, nearly all of
// the quota can be used, and each process gets its share.
func TestOneQuotaForAllProcesses(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name      string
		processes int
		requests  int
		per       time.Duration
	}{
		{name: "the API's own", processes: 5, requests: 10_000, per: time.Hour},
		{name: "small", processes: 3, requests: 10, per: time.Minute},
		{name: "one", processes: 2, requests: 1, per: time.Minute},
		{name: "fast", processes: 8, requests: 500, per: time.Second},
		{name: "slow", processes: 2, requests: 20, per: 30 * 24 * time.Hour},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				ctx, cancel := context.WithCancel(t.Context())
				var running, senders sync.WaitGroup
				var mu sync.Mutex
				var sent []time.Time
				fair := make([]int, c.processes)
				for i, p := range pacers(ctx, &running, c.processes, c.requests, c.per) {
					for range 10 {
						senders.Go(func() {
							for p.Wait(ctx, ricloud.Foreground) == nil {
								mu.Lock()
								sent = append(sent, time.Now())
								fair[i]++
								mu.Unlock()
							}
						})
					}
				}
				time.Sleep(3 * c.per) //nolint:forbidigo // virtual time
				cancel()
				senders.Wait()
				running.Wait()
				assert.LessOrEqual(t, worst(sent, c.per), c.requests)
				assert.GreaterOrEqual(t, len(sent), c.requests*5/2, "hardly any of the quota is lost")
				assert.LessOrEqual(t, slices.Max(fair)-slices.Min(fair), 2*maxSlots, "%v", fair)
			})
		})
	}
}

// Unused quota is not saved: a burst after a silence stays within the quota.
func TestSilenceSavesNothingUp(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		var running sync.WaitGroup
		p := pacers(ctx, &running, 1, 10_000, time.Hour)[0]
		require.NoError(t, p.Wait(ctx, ricloud.Foreground))
		time.Sleep(10 * time.Hour) //nolint:forbidigo // virtual time
		began := time.Now()
		for range 100 {
			require.NoError(t, p.Wait(ctx, ricloud.Foreground))
		}
		assert.Greater(t, time.Since(began), 33*time.Second)
		cancel()
		running.Wait()
	})
}

// A 429 that one process receives pauses all of them, including requests that already wait.
func TestAPauseReachesAllProcesses(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		var running sync.WaitGroup
		all := pacers(ctx, &running, 3, 100, time.Minute)
		synctest.Wait()
		began := time.Now()
		all[0].Pause(40 * time.Second)
		synctest.Wait()
		for _, p := range all {
			require.NoError(t, p.Wait(ctx, ricloud.Foreground))
			assert.GreaterOrEqual(t, time.Since(began), 40*time.Second)
		}
		cancel()
		running.Wait()
	})
}

// Foreground requests go first, and background requests still get one turn in five.
func TestForegroundGoesFirst(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		var running, senders sync.WaitGroup
		p := pacers(ctx, &running, 1, 60, time.Minute)[0]
		var mu sync.Mutex
		count := map[ricloud.Priority]int{}
		for _, priority := range []ricloud.Priority{ricloud.Foreground, ricloud.Background} {
			for range 5 {
				senders.Go(func() {
					for p.Wait(ctx, priority) == nil {
						mu.Lock()
						count[priority]++
						mu.Unlock()
					}
				})
			}
		}
		time.Sleep(100 * time.Second) //nolint:forbidigo // virtual time
		cancel()
		senders.Wait()
		running.Wait()
		total := count[ricloud.Foreground] + count[ricloud.Background]
		assert.InDelta(t, 0.2, float64(count[ricloud.Background])/float64(total), 0.05)
	})
}

// Any positive quota works.
func TestQuotasWithoutAnInterval(t *testing.T) {
	t.Parallel()
	for _, requests := range []int{1, 10_000, math.MaxInt} {
		for _, per := range []time.Duration{1, time.Microsecond, math.MaxInt64 / 4} {
			synctest.Test(t, func(t *testing.T) {
				ctx, cancel := context.WithCancel(t.Context())
				var running sync.WaitGroup
				p := pacers(ctx, &running, 1, requests, per)[0]
				require.NoError(t, p.Wait(ctx, ricloud.Foreground))
				cancel()
				running.Wait()
			})
		}
	}
}

// A Wait whose context ends returns its turn.
func TestACancelledWaitCostsNothing(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		var running sync.WaitGroup
		p := pacers(ctx, &running, 1, 60, time.Minute)[0]
		short, stop := context.WithTimeout(ctx, 100*time.Millisecond)
		defer stop()
		for range 3 { // the first gets its turn immediately
			_ = p.Wait(short, ricloud.Foreground)
		}
		var waiting sync.WaitGroup
		for range 60 {
			waiting.Go(func() {
				short, stop := context.WithTimeout(ctx, time.Second)
				defer stop()
				_ = p.Wait(short, ricloud.Foreground)
			})
		}
		waiting.Wait()
		began := time.Now()
		require.NoError(t, p.Wait(ctx, ricloud.Foreground))
		assert.Less(t, time.Since(began), 3*time.Second, "60 that gave up do not hold it up")
		cancel()
		running.Wait()
	})
}

// skewed makes the clock of a process differ from all others.
func skewed(by time.Duration) func() time.Time {
	return func() time.Time { return time.Now().Add(by) }
}

// The clocks of processes may differ by any time: no process holds another up, and no window
// contains more requests than the quota.
func TestClocksThatDiffer(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		const requests, per = 600, 10 * time.Minute
		var running, senders sync.WaitGroup
		shared := store.NewMemory()
		var mu sync.Mutex
		var sent []time.Time
		skews := []time.Duration{
			0, time.Minute, -time.Minute, 5 * time.Minute, -5 * time.Minute, time.Hour, -24 * time.Hour,
		}
		own := make([]int, len(skews))
		all := make([]*pacer, len(skews))
		for i, skew := range skews {
			p := newPacer(shared, fmt.Sprint("process-", i), requests, per)
			p.now, all[i] = skewed(skew), p
			running.Go(func() { p.run(ctx) })
			running.Go(func() { p.watchPause(ctx) })
			for range 3 {
				senders.Go(func() {
					for p.Wait(ctx, ricloud.Foreground) == nil {
						mu.Lock()
						sent = append(sent, time.Now())
						own[i]++
						mu.Unlock()
					}
				})
			}
		}
		time.Sleep(3 * per) //nolint:forbidigo // virtual time
		mu.Lock()
		assert.LessOrEqual(t, worst(slices.Clone(sent), per), requests)
		assert.GreaterOrEqual(t, len(sent), requests*5/2, "hardly any of the quota is lost")
		assert.LessOrEqual(t, slices.Max(own)-slices.Min(own), 2*maxSlots, "%v", own)
		mu.Unlock()

		for i, paused := range []time.Duration{40 * time.Second, time.Minute, 59 * time.Minute} {
			all[i].Pause(paused)
			synctest.Wait()
			mu.Lock()
			before, began := len(sent), time.Now()
			mu.Unlock()
			time.Sleep(paused + 5*time.Second) //nolint:forbidigo // virtual time
			mu.Lock()
			require.Greater(t, len(sent), before, "no longer than it was told")
			slices.SortFunc(sent, time.Time.Compare)
			assert.WithinDuration(t, began.Add(paused), sent[before], 3*time.Second)
			mu.Unlock()
		}
		cancel()
		senders.Wait()
		running.Wait()
	})
}

// A store whose clock was ahead has left its times behind. They hold nobody up for longer than
// processes can have queued in truth, or for longer than the pause was when it was told.
func TestTimesThatAreAhead(t *testing.T) {
	t.Parallel()
	const every = 360 * time.Millisecond // about
	for _, c := range []struct {
		name         string
		next, paused time.Duration // from now
		length       time.Duration // of the pause
		least, most  time.Duration
	}{
		{name: "an hour", next: time.Hour, least: every, most: 2 * every},
		{
			name: "a minute", next: time.Minute, least: time.Minute, most: time.Minute + every,
		},
		{name: "five minutes", next: 5 * time.Minute, least: every, most: 2 * every},
		{name: "ten minutes", next: 10 * time.Minute, least: every, most: 2 * every},
		{name: "a year", next: 365 * 24 * time.Hour, least: every, most: 2 * every},
		{
			name: "what can be queued", next: 30 * time.Second, least: 30 * time.Second,
			most: 30*time.Second + every,
		},
		{
			name: "a pause", paused: time.Hour, length: 40 * time.Second,
			least: 40 * time.Second, most: 40*time.Second + every,
		},
		{
			name: "a pause of an hour", paused: time.Hour, length: time.Hour,
			least: time.Hour, most: time.Hour + every,
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				ctx, cancel := context.WithCancel(t.Context())
				shared := store.NewMemory()
				put := func(key string, v any) {
					value, err := json.Marshal(v)
					require.NoError(t, err)
					_, err = shared.Put(ctx, store.Entry{Key: key, Value: value}, 0)
					require.NoError(t, err)
				}
				began := time.Now()
				put(slotsKey, slots{Next: began.Add(c.next)})
				if c.paused > 0 {
					put(pauseKey, pause{Until: began.Add(c.paused), For: c.length})
				}
				p := newPacer(shared, "process", 10_000, time.Hour)
				var running sync.WaitGroup
				running.Go(func() { p.watchPause(ctx) })
				synctest.Wait()
				running.Go(func() { p.run(ctx) })
				require.NoError(t, p.Wait(ctx, ricloud.Foreground))
				assert.GreaterOrEqual(t, time.Since(began), c.least)
				assert.LessOrEqual(t, time.Since(began), c.most)
				cancel()
				running.Wait()
			})
		})
	}
}

// steppingClock is a store whose clock is set while processes use it.
type steppingClock struct {
	store.Store

	ahead atomic.Int64
}

func (s *steppingClock) Now(ctx context.Context) (time.Time, error) {
	now, err := s.Store.Now(ctx)
	return now.Add(time.Duration(s.ahead.Load())), err
}

// When the store's clock is set back, requests go on once the processes have read it, and no window
// contains more than the quota.
func TestTheStoresClockIsSetBack(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		const requests, per = 600, 10 * time.Minute
		shared := &steppingClock{Store: store.NewMemory()}
		shared.ahead.Store(int64(time.Hour))
		p := newPacer(shared, "process", requests, per)
		var running, senders sync.WaitGroup
		running.Go(func() { p.run(ctx) })
		var sent []time.Time
		senders.Go(func() {
			for p.Wait(ctx, ricloud.Foreground) == nil {
				sent = append(sent, time.Now())
			}
		})
		time.Sleep(per) //nolint:forbidigo // virtual time
		shared.ahead.Store(0)
		time.Sleep(per) //nolint:forbidigo // virtual time
		cancel()
		senders.Wait()
		running.Wait()
		assert.LessOrEqual(t, worst(sent, per), requests)
		assert.GreaterOrEqual(t, len(sent), 2*requests-20)
	})
}

// A process whose own clock stood still, as in a suspended machine, reads the store's clock again
// before it takes another's slots for those of a clock that was ahead.
func TestAClockThatStoodStill(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		shared := store.NewMemory()
		asleep := newPacer(shared, "asleep", 10_000, time.Hour)
		_, _, err := asleep.take(t.Context(), 1)
		require.NoError(t, err)
		time.Sleep(20 * time.Minute)           //nolint:forbidigo // virtual time
		asleep.now = skewed(-20 * time.Minute) // what it counts from now on
		other := newPacer(shared, "other", 10_000, time.Hour)
		others, _, err := other.take(t.Context(), maxSlots)
		require.NoError(t, err)
		own, _, err := asleep.take(t.Context(), 1)
		require.NoError(t, err)
		assert.WithinDuration(t, others[maxSlots-1].Add(other.every), own[0].Add(20*time.Minute),
			time.Millisecond)
	})
}

// However many processes there are, none takes a slot further ahead than another believes.
func TestTheQueueIsBounded(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		shared := store.NewMemory()
		began := time.Now()
		taken := 0
		for i := 0; ; i++ {
			p := newPacer(shared, fmt.Sprint("process-", i), 10_000, time.Hour)
			slots, wait, err := p.take(t.Context(), p.lease)
			require.NoError(t, err)
			if len(slots) == 0 {
				assert.Greater(t, wait, time.Duration(0))
				assert.LessOrEqual(t, wait, p.every)
				break
			}
			taken += len(slots)
			require.Less(t, slots[len(slots)-1].Sub(began), p.ahead)
		}
		assert.Greater(t, taken, 100)
		time.Sleep(time.Second) //nolint:forbidigo // virtual time
		p := newPacer(shared, "last", 10_000, time.Hour)
		slots, _, err := p.take(t.Context(), p.lease)
		require.NoError(t, err)
		assert.Len(t, slots, 2, "time goes on")
	})
}
