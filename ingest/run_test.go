package ingest_test

import (
	"context"
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

// An event that one process receives ends a wait in another process. The same is true for a second
// wait, which begins after a long time without waits.
func TestEventsReachTheWaitsOfEveryProcess(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		there, _ := fleet(1)
		shared := store.NewMemory()
		b := newBench(t, ingest.Config{Memory: true}, ricloudtest.WithAccounts(there...),
			ricloudtest.WithDelays(ricloudtest.Delays{
				Poll: ricloudtest.Delay{Min: 5 * time.Minute, Max: 5 * time.Minute},
			}))
		require.NoError(t, b.engine.Close())
		ctx, cancel := context.WithCancel(t.Context())
		var running sync.WaitGroup
		var client *ricloud.Client // of the second process; the first receives events
		for i := range 2 {
			engine, err := ingest.OpenOn(ctx, ingest.Config{Memory: true}, shared)
			require.NoError(t, err)
			client = b.sandbox.Client(ricloud.WithPacer(engine.Pacer()),
				ricloud.WithPolling(10*time.Hour, 20*time.Hour)) // polling alone would be too late
			if i == 0 {
				b.engine, b.client = engine, client
				b.receive()
			}
			own := client
			running.Go(func() {
				assert.NoError(t, engine.Run(ctx, own, b.handlers()))
				assert.NoError(t, engine.Close())
			})
		}
		user, err := client.Users.Create(ctx, ricloud.UserCreateParams{Identifier: "by hand"})
		require.NoError(t, err)
		session, err := client.Sessions.Login(ctx, ricloud.SessionCreateParams{
			Source: ricloud.SourceParams{
				User: user.ID, Type: ricloud.SourceICloudAccount, Identifier: there[0].Identifier,
			},
			Payload: ricloud.SessionPayload{Password: ricloud.NewSecret(password)},
		}, nil)
		require.NoError(t, err)
		for range 2 {
			<-time.NewTimer(time.Hour).C
			poll, err := client.Polls.Create(ctx, ricloud.PollCreateParams{
				Session: session.ID, Payload: ricloud.PollPayload{DataTypes: []string{"callkit.calls"}},
			})
			require.NoError(t, err)
			began := time.Now()
			_, err = client.Polls.Wait(ctx, poll.ID)
			require.NoError(t, err)
			assert.Less(t, time.Since(began), time.Hour)
		}
		cancel()
		running.Wait()
	})
}

// severed is a store whose connection is given up when cut is closed.
type severed struct {
	*store.Memory

	cut chan struct{}
}

func (s severed) Watch(ctx context.Context, prefix string, fn func(store.Entry)) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	go func() {
		select {
		case <-s.cut:
			cancel()
		case <-ctx.Done():
		}
	}()
	err := s.Memory.Watch(ctx, prefix, fn)
	select {
	case <-s.cut:
		return store.ErrClosed
	default:
		return err
	}
}

// When the connection to the store is given up, Run returns instead of waiting for it.
func TestRunEndsWithItsConnection(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, ingest.Config{Memory: true})
		require.NoError(t, b.engine.Close())
		s := severed{store.NewMemory(), make(chan struct{})}
		engine, err := ingest.OpenOn(t.Context(), ingest.Config{Memory: true}, s)
		require.NoError(t, err)
		client := b.sandbox.Client(ricloud.WithPacer(engine.Pacer()))
		ended := make(chan error, 1)
		go func() { ended <- engine.Run(t.Context(), client, b.handlers()) }()
		<-time.NewTimer(time.Minute).C
		close(s.cut)
		require.ErrorContains(t, <-ended, "the store is closed")
		require.NoError(t, engine.Close())
	})
}
