package ricloud_test

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/reincubate/ricloud-go"
)

func TestMemoryDeduplicator(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		ctx, d := t.Context(), ricloud.NewMemoryDeduplicator(2, time.Hour)
		handle := func(id ricloud.ID) {
			require.NoError(t, d.Begin(ctx, id))
			require.NoError(t, d.Done(ctx, id))
		}
		require.NoError(t, d.Begin(ctx, "a"))
		require.ErrorIs(t, d.Begin(ctx, "a"), ricloud.ErrEventInProgress)
		require.NoError(t, d.Failed(ctx, "a"))
		handle("a")
		require.ErrorIs(t, d.Begin(ctx, "a"), ricloud.ErrEventDone)
		require.NoError(t, d.Failed(ctx, "a"))
		require.NoError(t, d.Done(ctx, "a"))
		require.ErrorIs(t, d.Begin(ctx, "a"), ricloud.ErrEventDone, "done stays done")

		require.NoError(t, d.Begin(ctx, "slow"))
		handle("b")
		handle("c")
		require.ErrorIs(t, d.Begin(ctx, "c"), ricloud.ErrEventDone)
		require.ErrorIs(t, d.Begin(ctx, "b"), ricloud.ErrEventDone)
		handle("a") // the oldest was forgotten: no more than two are remembered

		time.Sleep(time.Hour + 1) //nolint:forbidigo // virtual
		handle("c")               // too old
		require.ErrorIs(t, d.Begin(ctx, "slow"), ricloud.ErrEventInProgress, "what is being handled is never forgotten")
	})
}
