package ingest_test

import (
	"context"
	"errors"
	"log/slog"
	"strconv"
	"strings"
	"sync"
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

	mu  sync.Mutex
	max uint64
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

// A folder's server that takes no more writes, as on a full disk, ends Run, with words: it does not
// recover by itself. A cluster's may.
func TestRunEndsWithTheStoreOfItsFolder(t *testing.T) {
	t.Parallel()
	for i, cfg := range []ingest.Config{{Dir: "unused"}, {Memory: true}} {
		t.Run(strconv.Itoa(i), func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				f := &forgetful{Store: store.NewMemory()}
				b := newBench(t, ingest.Config{Memory: true})
				require.NoError(t, b.engine.Close())
				engine, err := ingest.OpenOn(t.Context(), cfg, f)
				require.NoError(t, err)
				client := b.sandbox.Client()
				ctx, cancel := context.WithCancelCause(t.Context())
				time.AfterFunc(time.Minute, func() { f.refuse.Store(true) })
				time.AfterFunc(time.Hour, func() { cancel(errors.New("an hour")) })
				err = engine.Run(ctx, client, b.handlers())
				if cfg.Memory {
					require.NoError(t, err)
				} else {
					require.ErrorContains(t, err, "is the disk full?")
				}
				assert.Equal(t, cfg.Memory, ctx.Err() != nil)
				cancel(nil)
				require.NoError(t, engine.Close())
			})
		})
	}
}
