package ingest

import (
	"context"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/reincubate/ricloud-go/ingest/internal/store"
)

// A process whose lease is over is taken for dead half a lease after its last answer, however long
// ago its lease ended, and only when it has left two questions unanswered.
func TestAMissingProcessIsLostAfterItsLastAnswer(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		const lease = 10 * time.Second
		shared := store.NewMemory()
		e := &Engine{cfg: settings{lease: lease}, store: shared}
		l := &leader{runner: &runner{Engine: e}}
		m := &missing{since: time.Now()}
		ctx, die := context.WithCancel(t.Context())
		var answering sync.WaitGroup
		answering.Go(func() {
			yes := func([]byte) []byte { return []byte("yes") }
			assert.NoError(t, shared.Answer(ctx, aliveSubject+"x", yes))
		})
		time.Sleep(time.Hour) //nolint:forbidigo // virtual time
		l.ask(t.Context(), "x", m)
		die()
		answering.Wait()
		for range 2 {
			assert.False(t, l.isLost(m))
			time.Sleep(lease / 5) //nolint:forbidigo // virtual time
			l.ask(t.Context(), "x", m)
		}
		assert.False(t, l.isLost(m), "it answered less than half a lease ago")
		time.Sleep(lease/2 - 2*lease/5) //nolint:forbidigo // virtual time
		assert.True(t, l.isLost(m))
		require.NoError(t, shared.Close())
	})
}
