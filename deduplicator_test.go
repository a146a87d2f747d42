package ricloud_test

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	ricloud "github.com/reincubate/ricloud-go"
)

func TestMemoryDeduplicator(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		ctx, d := t.Context(), ricloud.NewMemoryDeduplicator(2, time.Hour)
		begin := func(id ricloud.ID) error {
			_, err := d.Begin(ctx, id)
			return err
		}
		handle := func(id ricloud.ID) {
			lease, err := d.Begin(ctx, id)
			require.NoError(t, err)
			require.NoError(t, d.Done(ctx, lease))
		}
		first, err := d.Begin(ctx, "a")
		require.NoError(t, err)
		require.ErrorIs(t, begin("a"), ricloud.ErrEventInProgress)
		require.NoError(t, d.Failed(ctx, first))
		handle("a")
		require.ErrorIs(t, begin("a"), ricloud.ErrEventDone)
		require.ErrorIs(t, d.Failed(ctx, first), ricloud.ErrLeaseLost)
		require.ErrorIs(t, d.Done(ctx, first), ricloud.ErrLeaseLost)
		require.ErrorIs(t, d.Failed(ctx, ricloud.Lease{Event: "a"}), ricloud.ErrLeaseLost)
		require.ErrorIs(t, begin("a"), ricloud.ErrEventDone, "done stays done")

		require.NoError(t, begin("slow"))
		handle("b")
		handle("c")
		require.ErrorIs(t, begin("c"), ricloud.ErrEventDone)
		require.ErrorIs(t, begin("b"), ricloud.ErrEventDone)
		handle("a") // at most two are remembered, so the oldest is forgotten

		time.Sleep(time.Hour + 1) //nolint:forbidigo // virtual
		handle("c")               // older than the maximum age
		require.ErrorIs(t, begin("slow"), ricloud.ErrEventInProgress,
			"what is being handled is never forgotten")
	})
}

func TestMemoryDeduplicatorZeroValue(t *testing.T) {
	t.Parallel()
	var d ricloud.MemoryDeduplicator
	lease, err := d.Begin(t.Context(), "a")
	require.NoError(t, err)
	require.NoError(t, d.Done(t.Context(), lease))
	_, err = d.Begin(t.Context(), "a")
	require.ErrorIs(t, err, ricloud.ErrEventDone)
}

// A lease that was released is not valid for a later lease of the same event.
func TestMemoryDeduplicatorTellsLeasesApart(t *testing.T) {
	t.Parallel()
	ctx, d := t.Context(), ricloud.NewMemoryDeduplicator(0, 0)
	first, err := d.Begin(ctx, "a")
	require.NoError(t, err)
	require.NoError(t, d.Failed(ctx, first))
	second, err := d.Begin(ctx, "a")
	require.NoError(t, err)
	require.ErrorIs(t, d.Failed(ctx, first), ricloud.ErrLeaseLost)
	require.ErrorIs(t, d.Done(ctx, first), ricloud.ErrLeaseLost)
	_, err = d.Begin(ctx, "a")
	require.ErrorIs(t, err, ricloud.ErrEventInProgress, "the second still has it")
	require.NoError(t, d.Done(ctx, second))
}

// Events that Replay would read again are remembered, however old they are.
func TestMemoryDeduplicatorRemembersBackToItsCursor(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		ctx, d := t.Context(), ricloud.NewMemoryDeduplicator(0, time.Hour)
		begun := time.Now()
		require.NoError(t, d.SetCursor(ctx, begun.Add(-time.Minute)))
		require.NoError(t, d.SetCursor(ctx, begun.Add(-time.Hour)))
		position, err := d.Cursor(ctx)
		require.NoError(t, err)
		assert.True(t, position.Equal(begun.Add(-time.Minute)), "it never moves back")

		lease, err := d.Begin(ctx, "a")
		require.NoError(t, err)
		require.NoError(t, d.Done(ctx, lease))
		time.Sleep(48 * time.Hour) //nolint:forbidigo // virtual
		_, err = d.Begin(ctx, "a")
		require.ErrorIs(t, err, ricloud.ErrEventDone)
		require.NoError(t, d.SetCursor(ctx, begun.Add(time.Hour)))
		_, err = d.Begin(ctx, "a")
		require.ErrorIs(t, err, ricloud.ErrEventDone, "the API's clock may be an hour ahead")
		require.NoError(t, d.SetCursor(ctx, begun.Add(time.Hour+time.Second)))
		_, err = d.Begin(ctx, "a")
		require.NoError(t, err, "no replay reads it again")
	})
}

// The size limit does not apply to events that the next Replay would read, as long as Replay is
// used. If such events had to be forgotten, Cursor fails, because the next Replay would handle them
// twice.
func TestMemoryDeduplicatorNeverHandlesTwiceWhatReplayReaches(t *testing.T) {
	t.Parallel()
	const size, day = 3, 24 * time.Hour
	sleep := func(d time.Duration) { time.Sleep(d) } //nolint:forbidigo // virtual
	handle := func(t *testing.T, d *ricloud.MemoryDeduplicator, ids ...string) {
		t.Helper()
		for _, id := range ids {
			lease, err := d.Begin(t.Context(), ricloud.ID(id))
			require.NoError(t, err)
			require.NoError(t, d.Done(t.Context(), lease))
		}
	}
	many := []string{"a", "b", "c", "d", "e", "f"} // more than size
	known := func(t *testing.T, d *ricloud.MemoryDeduplicator) (n int) {
		t.Helper()
		for _, id := range many {
			if _, err := d.Begin(t.Context(), ricloud.ID(id)); errors.Is(err, ricloud.ErrEventDone) {
				n++
			}
		}
		return n
	}
	tests := []struct {
		name    string
		use     func(t *testing.T, d *ricloud.MemoryDeduplicator)
		want    int
		refused bool
	}{
		{name: "no Replay yet", use: func(t *testing.T, d *ricloud.MemoryDeduplicator) {
			handle(t, d, many...)
		}, want: size, refused: true},
		{name: "a Replay that found no date", use: func(t *testing.T, d *ricloud.MemoryDeduplicator) {
			_, err := d.Cursor(t.Context())
			require.NoError(t, err)
			handle(t, d, many...)
		}, want: len(many)},
		{name: "Replay on a timer", use: func(t *testing.T, d *ricloud.MemoryDeduplicator) {
			for range 10 {
				require.NoError(t, d.SetCursor(t.Context(), time.Now().Add(-day)))
				sleep(day / 4)
			}
			handle(t, d, many...)
			sleep(day)
		}, want: len(many)},
		{name: "Replay at the start only", use: func(t *testing.T, d *ricloud.MemoryDeduplicator) {
			require.NoError(t, d.SetCursor(t.Context(), time.Now().Add(-day)))
			sleep(8 * day)
			handle(t, d, many...)
		}, want: size, refused: true},
		{name: "forgotten, out of reach", use: func(t *testing.T, d *ricloud.MemoryDeduplicator) {
			handle(t, d, many...)
			sleep(8 * day)
		}, want: size},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				d := ricloud.NewMemoryDeduplicator(size, 0)
				tt.use(t, d)
				_, err := d.Cursor(t.Context())
				if tt.refused {
					require.ErrorContains(t, err, "has forgotten events")
				} else {
					require.NoError(t, err)
				}
				assert.Equal(t, tt.want, known(t, d))
			})
		})
	}
}

// The handler's function gets what it needs to record the event in its own transaction.
func TestTheHandlersFunctionFindsItsLease(t *testing.T) {
	t.Parallel()
	var found ricloud.Lease
	handler, err := ricloud.NewWebhookHandler(func(ctx context.Context, _ *ricloud.Event) error {
		lease, ok := ricloud.LeaseFromContext(ctx)
		assert.True(t, ok)
		found = lease
		return nil
	})
	require.NoError(t, err)
	event, err := ricloud.ParseEvent([]byte(`{"id":"e1","type":"poll","action":"completed",` +
		`"data":{"id":"p1"}}`))
	require.NoError(t, err)
	require.NoError(t, handler.Handle(t.Context(), event))
	assert.Equal(t, ricloud.ID("e1"), found.Event)
	_, ok := ricloud.LeaseFromContext(t.Context())
	assert.False(t, ok)
}

// hangingStore is a store that does not answer.
type hangingStore struct{ *ricloud.MemoryDeduplicator }

func (hangingStore) Begin(ctx context.Context, _ ricloud.ID) (ricloud.Lease, error) {
	<-ctx.Done()
	return ricloud.Lease{}, ctx.Err()
}

func TestAStoreThatHangsHoldsNoDelivery(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		h, err := ricloud.NewWebhookHandler(func(context.Context, *ricloud.Event) error { return nil },
			ricloud.WithWebhookSecrets(ricloud.NewSecret("whsec_one")),
			ricloud.WithWebhookDeduplicator(hangingStore{ricloud.NewMemoryDeduplicator(1, time.Hour)}))
		require.NoError(t, err)
		began := time.Now()
		err = h.Handle(t.Context(), &ricloud.Event{ID: "1", Type: "poll", Data: ricloud.Raw("{}")})
		require.ErrorIs(t, err, context.DeadlineExceeded)
		assert.Equal(t, 10*time.Second, time.Since(began))
	})
}
