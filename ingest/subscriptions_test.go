package ingest_test

import (
	"context"
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

// subscribed opens an engine for n accounts that are polled every hour.
func subscribed(
	t *testing.T, n int, opts ...ricloudtest.Option,
) (b *bench, shared *store.Memory, there []ricloudtest.Account, here []ingest.Account) {
	t.Helper()
	there, here = fleet(n)
	for i := range here {
		here[i].Every = time.Hour
	}
	b = newBench(t, ingest.Config{Memory: true}, append(opts, ricloudtest.WithAccounts(there...))...)
	require.NoError(t, b.engine.Close())
	b.hookWithoutEvents()
	shared = store.NewMemory()
	b.openOn(shared)
	b.submit(here...)
	return b, shared, there, here
}

// hookWithoutEvents gives the API a webhook config, which a subscription requires. Its events are
// lost.
func (b *bench) hookWithoutEvents() {
	b.t.Helper()
	b.open(ingest.Config{Memory: true})
	b.receive()
	b.hook.Store(nil)
	require.NoError(b.t, b.engine.Close())
}

func (b *bench) openOn(shared *store.Memory) {
	b.t.Helper()
	var err error
	b.engine, err = ingest.OpenOn(b.t.Context(),
		ingest.Config{Memory: true, Lease: time.Minute}, shared)
	require.NoError(b.t, err)
	b.client = b.sandbox.Client(ricloud.WithPacer(b.engine.Pacer()),
		ricloud.WithStorage("s3", b.sandbox))
}

// unhandled returns how many results of an hour ago or earlier were not handled.
func (b *bench) unhandled() (n int) {
	b.t.Helper()
	for p, err := range b.sandbox.Client().Polls.All(b.t.Context(), ricloud.PollListParams{}) {
		require.NoError(b.t, err)
		for i := range p.Results.Data {
			r := &p.Results.Data[i]
			if time.Since(r.DateCreated) > time.Hour && r.State == ricloud.ResultAvailable {
				n++
			}
		}
	}
	return n
}

func after(d time.Duration) { <-time.NewTimer(d).C }

// Polls that end while no process runs, however long, are handled by the next.
func TestPollsOfALongPause(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b, shared, _, _ := subscribed(t, 3, ricloudtest.WithDelays(delays()))
		stop := b.run(b.handlers())
		b.wait(3, ingest.Subscribed)
		stop()
		after(40 * time.Hour)
		require.GreaterOrEqual(t, b.unhandled(), 100)
		b.openOn(shared)
		stop = b.run(b.handlers())
		after(30 * time.Minute)
		assert.Zero(t, b.unhandled())
		for id, n := range b.handled.results {
			assert.Equal(t, 1, n, id)
		}
		stop()
	})
}

// A poll that takes hours is handled although others have come and gone since, and the process that
// saw it begin has ended.
func TestPollsThatTakeHours(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b, shared, _, _ := subscribed(t, 4, ricloudtest.WithDelays(ricloudtest.Delays{
			Poll: ricloudtest.Delay{Min: time.Minute, Max: 3 * time.Hour},
		}))
		stop := b.run(b.handlers())
		after(3 * time.Hour)
		stop()
		b.openOn(shared)
		stop = b.run(b.handlers())
		after(3 * time.Hour)
		assert.Zero(t, b.unhandled())
		assert.GreaterOrEqual(t, len(b.handled.results), 8)
		stop()
	})
}

// When the session of a subscription ends, the account is logged in to again. No event tells of it.
func TestSessionsOfSubscriptionsExpire(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b, _, _, here := subscribed(t, 2, ricloudtest.WithDelays(delays()),
			ricloudtest.WithSessionLifetime(3*time.Hour))
		stop := b.run(b.handlers())
		after(8*time.Hour + 30*time.Minute)
		b.wait(2, ingest.Subscribed)
		status, err := b.engine.Account(t.Context(), here[0].Key)
		require.NoError(t, err)
		assert.Less(t, time.Since(status.History[len(status.History)-1].Time), 2*time.Hour)
		assert.GreaterOrEqual(t, len(b.handled.results), 6)
		assert.Zero(t, b.unhandled())
		stop()
	})
}

// A subscription that is deleted at the API makes a dead letter, and Retry makes another.
func TestSubscriptionsThatEnd(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b, _, _, here := subscribed(t, 1, ricloudtest.WithDelays(delays()))
		stop := b.run(b.handlers())
		after(150 * time.Minute)
		plain := b.sandbox.Client()
		for s, err := range plain.Subscriptions.All(t.Context(), ricloud.SubscriptionListParams{}) {
			require.NoError(t, err)
			_, err = plain.Subscriptions.Delete(t.Context(), s.ID)
			require.NoError(t, err)
		}
		b.wait(1, ingest.Dead)
		status, err := b.engine.Account(t.Context(), here[0].Key)
		require.NoError(t, err)
		assert.Contains(t, status.Reason, "has ended at the API")
		before := len(b.handled.results)
		require.NoError(t, b.engine.Retry(t.Context(), here[0].Key))
		after(3 * time.Hour)
		b.wait(1, ingest.Subscribed)
		assert.Greater(t, len(b.handled.results), before)
		stop()
	})
}

// Retry of a dead letter that was subscribed goes on with its subscription, and handles what came
// meanwhile.
func TestRetryOfASubscription(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b, _, there, here := subscribed(t, 1, ricloudtest.WithDelays(delays()))
		stop := b.run(b.handlers())
		after(150 * time.Minute)
		broken := there[0]
		broken.Fail = map[string]string{"callkit.calls": "service-error"}
		require.NoError(t, b.sandbox.AddAccount(broken))
		b.wait(1, ingest.Dead)
		require.NoError(t, b.sandbox.AddAccount(there[0]))
		after(5 * time.Hour)
		before := len(b.handled.results)
		require.NoError(t, b.engine.Retry(t.Context(), here[0].Key))
		after(time.Hour)
		b.wait(1, ingest.Subscribed)
		assert.GreaterOrEqual(t, len(b.handled.results), before+5)
		assert.Zero(t, b.unhandled())
		assert.Equal(t, 1, b.sandbox.CountCalls("Subscriptions.Create"))
		stop()
	})
}

// Half an hour without creates, with the pages of a proxy, or without storage makes no dead letter,
// and nothing twice.
func TestOutagesOfAPart(t *testing.T) {
	t.Parallel()
	page := func(operation string, status int) ricloudtest.Fault {
		return ricloudtest.Fault{
			Operation: operation, Status: status, Body: "<html>not the API</html>", Count: -1,
		}
	}
	for name, fault := range map[string]ricloudtest.Fault{
		"logins 503":    {Operation: "Sessions.Create", Status: 503, Count: -1},
		"logins reset":  {Operation: "Sessions.Create", Reset: true, Count: -1},
		"logins 404":    page("Sessions.Create", 404),
		"users 403":     page("Users.Create", 403),
		"polls 503":     {Operation: "Polls.Create", Status: 503, Count: -1},
		"polls 404":     page("Polls.Create", 404),
		"storage 503":   {Operation: ricloudtest.StorageGet, Status: 503, Count: -1},
		"storage reset": {Operation: ricloudtest.StorageGet, Reset: true, Count: -1},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				there, here := fleet(5)
				b := newBench(t, ingest.Config{Memory: true}, ricloudtest.WithAccounts(there...),
					ricloudtest.WithDelays(delays()), ricloudtest.WithFaults(fault))
				stop := b.run(b.handlers())
				b.submit(here...)
				after(30 * time.Minute)
				require.NoError(t, b.sandbox.SetFaults())
				b.wait(5, ingest.Done)
				stop()
				for operation, all := range map[string]func(context.Context) int{
					"sessions": func(ctx context.Context) (n int) {
						for _, err := range b.sandbox.Client().Sessions.All(ctx, ricloud.SessionListParams{}) {
							require.NoError(t, err)
							n++
						}
						return n
					},
					"polls": func(ctx context.Context) (n int) {
						for _, err := range b.sandbox.Client().Polls.All(ctx, ricloud.PollListParams{}) {
							require.NoError(t, err)
							n++
						}
						return n
					},
				} {
					assert.Equal(t, 5, all(t.Context()), operation)
				}
			})
		})
	}
}
