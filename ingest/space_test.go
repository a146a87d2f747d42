package ingest_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strconv"
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

// bounded is a store with room for so many bytes, of which each record takes some more.
type bounded struct {
	*store.Memory

	mu      sync.Mutex
	max     uint64
	refused int
}

const overhead = 100

func (b *bounded) Usage(ctx context.Context) (store.Usage, error) {
	u, err := b.Memory.Usage(ctx)
	u.Bytes += u.Records * overhead
	u.MaxBytes = b.max
	return u, err
}

func (b *bounded) Put(ctx context.Context, e store.Entry, ttl time.Duration) (uint64, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	u, err := b.Usage(ctx)
	if err == nil && u.Bytes+uint64(len(e.Value))+overhead > b.max {
		err = store.ErrFull
		b.refused++
	}
	if err != nil {
		return 0, err
	}
	return b.Memory.Put(ctx, e, ttl)
}

// However fast several processes submit accounts, those that are taken come to their end.
// What is done and forgotten makes room within seconds, and what is there may be submitted again.
func TestAFullStoreTakesNoMoreThanItCanEnd(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		const accounts = 600
		there, here := fleet(accounts)
		shared := &bounded{Memory: store.NewMemory(), max: 1 << 20}
		b := newBench(t, ingest.Config{Memory: true}, ricloudtest.WithAccounts(there...),
			ricloudtest.WithDelays(delays()))
		require.NoError(t, b.engine.Close())
		engines := make([]*ingest.Engine, 3)
		for i := range engines {
			var err error
			engines[i], err = ingest.OpenOn(t.Context(), ingest.Config{Memory: true}, shared)
			require.NoError(t, err)
		}
		b.engine = engines[0]
		b.client = b.sandbox.Client(ricloud.WithPacer(b.engine.Pacer()))
		var taken []ingest.Account
		for i, a := range here {
			err := engines[i%3].Submit(t.Context(), a)
			if err == nil {
				taken = append(taken, a)
				continue
			}
			require.ErrorIs(t, err, ingest.ErrStoreFull)
		}
		assert.Greater(t, len(taken), 250)
		assert.Less(t, len(taken), accounts)
		stats, err := engines[1].Stats(t.Context())
		require.NoError(t, err)
		assert.True(t, stats.Full)
		b.submit(taken[0]) // it is there

		stop := b.run(b.handlers())
		b.wait(len(taken), ingest.Done)
		for _, a := range taken {
			require.NoError(t, b.engine.Forget(t.Context(), a.Key))
		}
		<-time.NewTimer(2 * time.Second).C
		b.submit(here[accounts-1])
		stats, err = b.engine.Stats(t.Context())
		require.NoError(t, err)
		assert.False(t, stats.Full)
		b.wait(1, ingest.Done)
		stop()
		require.NoError(t, engines[1].Close())
		require.NoError(t, engines[2].Close())
	})
}

// While the store refuses writes for want of room, no login is begun, and Stats and the log say so.
// Once there is room, the work goes on.
func TestNoLoginIsBegunInAFullStore(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		there, here := fleet(20)
		shared := &bounded{Memory: store.NewMemory(), max: 1 << 20}
		b := newBench(t, ingest.Config{Memory: true}, ricloudtest.WithAccounts(there...),
			ricloudtest.WithDelays(delays()))
		require.NoError(t, b.engine.Close())
		var err error
		b.engine, err = ingest.OpenOn(t.Context(), ingest.Config{Memory: true}, shared)
		require.NoError(t, err)
		b.client = b.sandbox.Client(ricloud.WithPacer(b.engine.Pacer()))
		b.submit(here...)
		filler := store.Entry{Key: "filler", Value: make([]byte, 1<<20-20*600)}
		filler.Revision, err = shared.Memory.Put(t.Context(), filler, 0)
		require.NoError(t, err)
		var logged strings.Builder
		h := b.handlers()
		h.Logger = slog.New(slog.NewTextHandler(&logged, nil))
		stop := b.run(h)
		<-time.NewTimer(10 * time.Minute).C
		assert.Less(t, b.sandbox.CountCalls("Sessions.Create"), 20)
		stats, err := b.engine.Stats(t.Context())
		require.NoError(t, err)
		assert.True(t, stats.Full)
		require.NoError(t, shared.Remove(t.Context(), filler.Key, filler.Revision))
		b.wait(20, ingest.Done)
		stop()
		assert.Contains(t, logged.String(), "the store is full")
		assert.Equal(t, 20, b.sandbox.CountCalls("Sessions.Create"))
	})
}

// Polls with more results than the store has room for wait for each other, and all are handled. No
// write is refused meanwhile: those that are handled could not be written down otherwise.
func TestResultsThatDoNotFitAtOnce(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		const accounts, results = 22, 8
		there, here := fleet(accounts)
		for i := range here {
			for n := range results - 1 {
				here[i].Poll.DataTypes = append(here[i].Poll.DataTypes,
					fmt.Sprint("type.", n, strings.Repeat("x", 500)))
			}
		}
		shared := &bounded{Memory: store.NewMemory(), max: 320 << 10}
		b := newBench(t, ingest.Config{Memory: true}, ricloudtest.WithAccounts(there...))
		require.NoError(t, b.engine.Close())
		var err error
		b.engine, err = ingest.OpenOn(t.Context(), ingest.Config{Memory: true}, shared)
		require.NoError(t, err)
		b.client = b.sandbox.Client(ricloud.WithPacer(b.engine.Pacer()))
		h := b.handlers()
		h.Concurrency = 2
		h.Result = func(ctx context.Context, r *ingest.Result) error {
			after(time.Second)
			return b.handlers().Result(ctx, r)
		}
		stop := b.run(h)
		b.submit(here...)
		b.wait(accounts, ingest.Done)
		stop()
		assert.Zero(t, shared.refused)
		assert.Len(t, b.handled.results, accounts*results)
		for id, n := range b.handled.results {
			assert.Equal(t, 1, n, id)
		}
	})
}

// Results that do not fit wait for room, and say so.
func TestResultsThatDoNotFitAtAll(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		there, here := fleet(1)
		for n := range 20 {
			here[0].Poll.DataTypes = append(here[0].Poll.DataTypes, fmt.Sprint("type.", n))
		}
		shared := &bounded{Memory: store.NewMemory(), max: 10 << 10}
		b := newBench(t, ingest.Config{Memory: true}, ricloudtest.WithAccounts(there...))
		require.NoError(t, b.engine.Close())
		var err error
		b.engine, err = ingest.OpenOn(t.Context(), ingest.Config{
			Memory: true, ReadEvery: time.Minute,
		}, shared)
		require.NoError(t, err)
		b.client = b.sandbox.Client(ricloud.WithPacer(b.engine.Pacer()))
		stop := b.run(b.handlers())
		b.submit(here...)
		after(10 * time.Minute)
		status, err := b.engine.Account(t.Context(), here[0].Key)
		require.NoError(t, err)
		assert.Equal(t, ingest.Polling, status.State)
		assert.Contains(t, status.Reason, "the store is full")
		shared.mu.Lock()
		assert.Zero(t, shared.refused)
		shared.max = 1 << 20
		shared.mu.Unlock()
		b.wait(1, ingest.Done)
		stop()
	})
}

// An account that has ended needs no more room, and one on its way does.
func TestWhatHasEndedNeedsNoRoom(t *testing.T) {
	t.Parallel()
	for state, full := range map[ingest.State]bool{
		ingest.Done: false, ingest.Dead: false, ingest.Submitted: true, ingest.Handling: true,
	} {
		t.Run(string(state), func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				shared := &bounded{Memory: store.NewMemory(), max: 1 << 20}
				for i := range 440 { // which would all but fill it, if they grew
					_, err := shared.Put(t.Context(), store.Entry{
						Key: fmt.Sprint("acct.", i), Value: fmt.Appendf(nil, `{"state":%q}`, state),
					}, 0)
					require.NoError(t, err)
				}
				engine, err := ingest.OpenOn(t.Context(), ingest.Config{Memory: true}, shared)
				require.NoError(t, err)
				stats, err := engine.Stats(t.Context())
				require.NoError(t, err)
				assert.Equal(t, full, stats.Full)
				_, here := fleet(1)
				if err = engine.Submit(t.Context(), here[0]); full {
					require.ErrorIs(t, err, ingest.ErrStoreFull)
				} else {
					require.NoError(t, err)
				}
				require.NoError(t, engine.Close())
			})
		})
	}
}

// fullOnce is a store that has no room for one write of an account.
type fullOnce struct {
	*store.Memory

	left atomic.Int32 // it is the write that makes this 0
}

func (f *fullOnce) Put(ctx context.Context, e store.Entry, ttl time.Duration) (uint64, error) {
	if strings.HasPrefix(e.Key, "acct.") && e.Revision != 0 && f.left.Add(-1) == 0 {
		return 0, store.ErrFull
	}
	return f.Memory.Put(ctx, e, ttl)
}

// newFullOnce returns a bench on a store that has no room for the nth write of an account.
func newFullOnce(t *testing.T, nth int32, accounts []ricloudtest.Account) (*bench, *fullOnce) {
	t.Helper()
	shared := &fullOnce{Memory: store.NewMemory()}
	shared.left.Store(nth)
	b := newBench(t, ingest.Config{Memory: true}, ricloudtest.WithAccounts(accounts...))
	require.NoError(t, b.engine.Close())
	var err error
	b.engine, err = ingest.OpenOn(t.Context(), ingest.Config{Memory: true}, shared)
	require.NoError(t, err)
	b.client = b.sandbox.Client(ricloud.WithPacer(b.engine.Pacer()))
	return b, shared
}

// After a write that was refused for want of room, no login is begun for a minute, though there may
// be room again: what is begun already needs it more.
func TestARefusedWriteHoldsLoginsBackForAMinute(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		there, here := fleet(3)
		b, shared := newFullOnce(t, 1, there)
		stop := b.run(b.handlers())
		after(time.Second)
		b.submit(here[0])
		synctest.Wait() // its first step is refused
		assert.LessOrEqual(t, shared.left.Load(), int32(0))
		b.submit(here[1:]...)
		after(59 * time.Second)
		assert.Zero(t, b.sandbox.CountCalls("Sessions.Create"))
		stats, err := b.engine.Stats(t.Context())
		require.NoError(t, err)
		assert.True(t, stats.Full)
		after(10 * time.Second)
		assert.Equal(t, 3, b.sandbox.CountCalls("Sessions.Create"))
		stats, err = b.engine.Stats(t.Context())
		require.NoError(t, err)
		assert.False(t, stats.Full)
		stop()
	})
}

// Whichever write of an account is refused for want of room, nothing is done twice, nothing is left
// behind, and no request is looked for that was not sent.
func TestARefusedWriteChangesNothing(t *testing.T) {
	t.Parallel()
	for nth := int32(1); nth <= 6; nth++ {
		t.Run(strconv.Itoa(int(nth)), func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				there, here := fleet(1)
				b, shared := newFullOnce(t, nth, there)
				stop := b.run(b.handlers())
				b.submit(here...)
				b.wait(1, ingest.Done)
				assert.LessOrEqual(t, shared.left.Load(), int32(0))
				status, err := b.engine.Account(t.Context(), here[0].Key)
				require.NoError(t, err)
				for _, step := range status.History {
					assert.NotContains(t, step.Note, "found")
				}
				after(time.Minute)
				usage, err := shared.Usage(t.Context())
				require.NoError(t, err)
				assert.LessOrEqual(t, usage.Records, uint64(4), "the account, the quota and two leases")
				for _, operation := range []string{"Users.Create", "Sessions.Create", "Polls.Create"} {
					assert.Equal(t, 1, b.sandbox.CountCalls(operation), operation)
				}
				assert.Len(t, b.handled.results, 1)
				stop()
			})
		})
	}
}

// A folder's server that takes no more writes, as on a full disk, ends Run, with words: it does not
// recover by itself. A cluster's may. So may a folder's that says that it is full: it answers.
func TestRunEndsWithTheStoreOfItsFolder(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		cfg  ingest.Config
		err  error
		ends bool
	}{
		"a folder's":    {cfg: ingest.Config{Dir: "unused"}, err: errors.New("no answer"), ends: true},
		"a cluster's":   {cfg: ingest.Config{Memory: true}, err: errors.New("no answer")},
		"a folder full": {cfg: ingest.Config{Dir: "unused"}, err: store.ErrFull},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				f := &forgetful{Store: store.NewMemory(), err: c.err}
				b := newBench(t, ingest.Config{Memory: true})
				require.NoError(t, b.engine.Close())
				engine, err := ingest.OpenOn(t.Context(), c.cfg, f)
				require.NoError(t, err)
				client := b.sandbox.Client()
				ctx, cancel := context.WithCancelCause(t.Context())
				time.AfterFunc(time.Minute, func() { f.refuse.Store(true) })
				time.AfterFunc(10*time.Minute, func() { cancel(errors.New("it goes on")) })
				err = engine.Run(ctx, client, b.handlers())
				if c.ends {
					require.ErrorContains(t, err, "is the disk full?")
				} else {
					require.NoError(t, err)
				}
				assert.Equal(t, c.ends, ctx.Err() == nil)
				cancel(nil)
				require.NoError(t, engine.Close())
			})
		})
	}
}
