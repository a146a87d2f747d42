package ingest_test

import (
	"context"
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

// silent is a store that does not answer writes while it is away, for as long as it may.
type silent struct {
	*store.Memory

	away atomic.Bool
}

func (s *silent) Put(ctx context.Context, e store.Entry, ttl time.Duration) (uint64, error) {
	if s.away.Load() {
		ctx, cancel := context.WithTimeout(ctx, 30*time.Second) // as NATS does
		defer cancel()
		<-ctx.Done()
		return 0, context.Cause(ctx)
	}
	return s.Memory.Put(ctx, e, ttl)
}

func (s *silent) Remove(ctx context.Context, key string, revision uint64) error {
	if s.away.Load() {
		_, err := s.Put(ctx, store.Entry{Key: key}, 0)
		return err
	}
	return s.Memory.Remove(ctx, key, revision)
}

// In whatever state accounts are, and whether the store answers or not, Run ends soon after its
// time to drain, and the next Run logs in to no account again.
func TestRunEndsInTimeInEveryState(t *testing.T) {
	t.Parallel()
	for name, away := range map[string]bool{"the store is there": false, "the store is away": true} {
		for seconds := 1; seconds < 700; seconds += 97 {
			t.Run(name, func(t *testing.T) {
				t.Parallel()
				synctest.Test(t, func(t *testing.T) {
					const accounts = 15
					there, here := fleet(accounts)
					b := newBench(t, ingest.Config{Memory: true}, ricloudtest.WithAccounts(there...),
						ricloudtest.WithDelays(delays()))
					shared := &silent{Memory: store.NewMemory()}
					open := func() {
						require.NoError(t, b.engine.Close())
						var err error
						b.engine, err = ingest.OpenOn(t.Context(), ingest.Config{
							Memory: true, Requests: 1000, Per: time.Minute,
						}, shared)
						require.NoError(t, err)
						b.client = b.sandbox.Client(ricloud.WithPacer(b.engine.Pacer()))
					}
					open()
					h := b.handlers()
					h.Result = func(ctx context.Context, r *ingest.Result) error {
						after(20 * time.Second) // ignores the end of its context
						return b.handlers().Result(ctx, r)
					}
					stop := b.run(h)
					b.submit(here...)
					after(time.Duration(seconds) * time.Second)
					shared.away.Store(away)
					after(time.Second)
					began := time.Now()
					stop()
					assert.Less(t, time.Since(began), 30*time.Second)
					after(time.Minute) // until the handlers have returned
					shared.away.Store(false)
					open()
					stop = b.run(b.handlers())
					b.wait(accounts, ingest.Done)
					stop()
					assert.Equal(t, accounts, b.sandbox.CountCalls("Sessions.Create"))
					assert.Len(t, b.handled.results, accounts)
				})
			})
		}
	}
}
