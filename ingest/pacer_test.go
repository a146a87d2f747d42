package ingest

import (
	"context"
	"fmt"
	"math"
	"slices"
	"sync"
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
