package ingest_test

import (
	"context"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
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

// requests returns the number of requests that count towards the quota. Reads of stored objects do
// not.
func requests(s *ricloudtest.Server) float64 {
	return float64(s.CountCalls("") - s.CountCalls(ricloudtest.StorageGet))
}

const fullFleet = 1000

// The requests of an account are for its user, its session, its poll, and its share of the reads
// and acknowledgements that one process does for all accounts.
func TestRequestsAnAccount(t *testing.T) {
	t.Parallel()
	// With the race detector, a smaller fleet shares the same reads, so each account needs more. The
	// limits are checked for the full fleet only, without the detector.
	accounts := fullFleet
	if raceDetector {
		accounts = fullFleet / 4
	}
	for _, c := range []struct {
		name     string
		webhooks bool
		noise    ricloudtest.WebhookFaults
		atMost   float64
	}{
		{name: "without webhooks", atMost: 3.7},
		{name: "with webhooks", webhooks: true, atMost: 3.3},
		{
			name: "with webhooks, a fifth dropped, doubled, late", webhooks: true, atMost: 3.3,
			noise: ricloudtest.WebhookFaults{Drop: 0.2, Duplicate: 0.2, Reorder: 0.2},
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				there, here := fleet(accounts)
				b := newBench(t, ingest.Config{Memory: true}, ricloudtest.WithAccounts(there...),
					ricloudtest.WithDelays(delays()),
					ricloudtest.WithSeed(7), ricloudtest.WithWebhookFaults(c.noise),
					ricloudtest.WithRateLimit(10_000, time.Hour))
				if c.webhooks {
					b.receive()
				}
				b.poll = time.Minute
				b.sandbox.ResetCalls()
				stop := b.run(b.handlers())
				began := time.Now()
				b.submit(here...)
				b.wait(accounts, ingest.Done)
				took := time.Since(began)
				stop()
				each := requests(b.sandbox) / float64(accounts)
				t.Logf("%v, %.2f requests an account: %v", took, each, b.sandbox.CallCounts())
				shared := requests(b.sandbox) - float64(3*accounts)
				assert.LessOrEqual(t, shared, (c.atMost-3)*fullFleet)
				assert.Equal(t, accounts, b.sandbox.CountCalls("Sessions.Create"), "no login is made twice")
				assert.Len(t, b.handled.results, accounts, "every result is handled")
				for id, n := range b.handled.results {
					assert.Equal(t, 1, n, id)
				}
			})
		})
	}
}

// Of the accounts that wait for their login, the leader keeps some in memory, and reads on when
// these are under way.
func TestMoreAccountsThanTheMemoryHolds(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		const accounts = 60
		there, here := fleet(accounts)
		b := newBench(t, ingest.Config{Memory: true}, ricloudtest.WithAccounts(there...),
			ricloudtest.WithDelays(delays()))
		require.NoError(t, b.engine.Close())
		var err error
		b.engine, err = ingest.OpenSmall(t.Context(), ingest.Config{Memory: true}, 10)
		require.NoError(t, err)
		b.client = b.sandbox.Client(ricloud.WithPacer(b.engine.Pacer()))
		b.submit(here[:40]...) // before and after the leader reads them
		stop := b.run(b.handlers())
		<-time.NewTimer(time.Second).C
		b.submit(here[40:]...)
		b.wait(accounts, ingest.Done)
		stop()
		assert.Len(t, b.handled.results, accounts)
		assert.Equal(t, accounts, b.sandbox.CountCalls("Sessions.Create"))
	})
}

// In embedded mode, the state is in a folder. It survives the process, contains no secret, and is
// not available to a second process.
func TestEmbedded(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	there, here := fleet(50)
	cfg := ingest.Config{Dir: dir, Requests: 500, Per: time.Second, ReadEvery: 200 * time.Millisecond}
	b := newBench(t, cfg, ricloudtest.WithAccounts(there...), ricloudtest.WithDelays(delays()),
		ricloudtest.WithSpeed(200))
	b.poll = 100 * time.Millisecond
	b.receive()
	_, err := ingest.Open(t.Context(), cfg)
	require.ErrorContains(t, err, "another process uses the folder "+dir)
	stop := b.run(b.handlers())
	b.submit(here[:25]...)
	b.wait(10, ingest.Done)
	stop()

	b.open(cfg)
	stop = b.run(b.handlers())
	b.submit(here...)
	b.wait(50, ingest.Done)
	stop()
	assert.Equal(t, 50, b.sandbox.CountCalls("Sessions.Create"))
	assert.Len(t, b.handled.results, 50)
	require.NoError(t, filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		content, err := os.ReadFile(path) //nolint:gosec // a folder of this test alone
		assert.NotContains(t, string(content), password, path)
		assert.NotContains(t, string(content), "signature=", path)
		assert.NotContains(t, string(content), b.secret.Reveal(), path)
		return err
	}))
}

// A closed engine answers each call with an error, also for a context without an end, and so does a
// client that uses its pacer. A second Close does nothing.
func TestNothingHangsAfterClose(t *testing.T) {
	t.Parallel()
	for name, cfg := range map[string]ingest.Config{
		"memory": {Memory: true}, "folder": {Dir: t.TempDir()},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := newBench(t, cfg)
			_, here := fleet(2)
			b.submit(here[0])
			handler, err := b.engine.WebhookHandler()
			require.NoError(t, err)
			require.NoError(t, b.engine.Close())
			require.NoError(t, b.engine.Close())
			ctx, key := context.Background(), here[0].Key
			for name, call := range map[string]func() error{
				"Submit":  func() error { return b.engine.Submit(ctx, here[1]) },
				"Account": func() error { _, err := b.engine.Account(ctx, key); return err },
				"Accounts": func() error {
					for _, err := range b.engine.Accounts(ctx) {
						if err != nil {
							return err
						}
					}
					return nil
				},
				"Stats":          func() error { _, err := b.engine.Stats(ctx); return err },
				"Code":           func() error { return b.engine.Code(ctx, key, ricloud.NewSecret("731994")) },
				"Retry":          func() error { return b.engine.Retry(ctx, key) },
				"Forget":         func() error { return b.engine.Forget(ctx, key) },
				"Run":            func() error { return b.engine.Run(ctx, b.client, b.handlers()) },
				"client":         func() error { _, err := b.client.Organisation.Get(ctx); return err },
				"Replay":         func() error { _, err := handler.Replay(ctx, b.client); return err },
				"WebhookHandler": func() error { _, err := b.engine.WebhookHandler(); return err },
			} {
				require.ErrorContains(t, call(), "the store is closed", name)
			}
		})
	}
}

// If the store has no room for events, deliveries are answered with 503. The engine reads the lists
// instead, and a Replay after space is freed stores the events that the API gave up on.
func TestAFullStoreLosesNothing(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		const accounts = 20
		there, here := fleet(accounts)
		b := newBench(t, ingest.Config{Memory: true}, ricloudtest.WithAccounts(there...),
			ricloudtest.WithDelays(delays()))
		require.NoError(t, b.engine.Close())
		s := &boundedEvents{Memory: store.NewMemory()}
		s.room.Store(5)
		var err error
		b.engine, err = ingest.OpenOn(t.Context(), ingest.Config{Memory: true}, s)
		require.NoError(t, err)
		b.client = b.sandbox.Client(ricloud.WithPacer(b.engine.Pacer()))
		b.receive()
		stop := b.run(b.handlers())
		b.submit(here...)
		b.wait(accounts, ingest.Done)
		assert.Len(t, b.handled.results, accounts, "every result is handled without its event")
		assert.Equal(t, accounts, b.sandbox.CountCalls("Sessions.Create"))
		assert.Positive(t, s.refused.Load())
		b.answered.Range(func(status, _ any) bool {
			return assert.Contains(t, []any{http.StatusOK, http.StatusServiceUnavailable}, status)
		})
		_, refused := b.answered.Load(http.StatusServiceUnavailable)
		assert.True(t, refused)

		s.room.Store(1 << 20) // space becomes free
		_, err = b.hook.Load().Replay(t.Context(), b.client)
		require.NoError(t, err)
		events := 0
		for event, err := range b.client.Events.All(t.Context(), ricloud.EventListParams{}) {
			require.NoError(t, err)
			assert.True(t, s.has(event.ID), "%s %s is stored", event.Name(), event.ID)
			events++
		}
		assert.Positive(t, events)
		assert.Len(t, b.handled.results, accounts, "a replayed event changes nothing twice")
		stop()
	})
}

// boundedEvents is a store with room for a limited number of events.
type boundedEvents struct {
	*store.Memory

	room, refused atomic.Int64
	stored        sync.Map
}

func (b *boundedEvents) has(id ricloud.ID) bool {
	_, ok := b.stored.Load(store.Token(string(id)))
	return ok
}

func (b *boundedEvents) Publish(ctx context.Context, id string, data []byte) error {
	if _, known := b.stored.Load(id); !known && b.room.Add(-1) < 0 {
		b.refused.Add(1)
		return store.ErrFull
	}
	b.stored.Store(id, true)
	return b.Memory.Publish(ctx, id, data)
}
