package natsstore_test

import (
	"context"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/reincubate/ricloud-go/ingest/internal/natsstore"
	"github.com/reincubate/ricloud-go/ingest/internal/store"
)

// What begins while the store is closed ends, too, although its context has no end.
func TestCloseEndsWhatIsJustBeginning(t *testing.T) {
	t.Parallel()
	url := serve(t)
	for i := range 100 {
		s, err := natsstore.Connect(t.Context(), url, options())
		require.NoError(t, err)
		var following sync.WaitGroup
		for _, follow := range []func(context.Context) error{
			func(ctx context.Context) error { return s.Watch(ctx, "a.b", func(store.Entry) {}) },
			func(ctx context.Context) error { return s.Watch(ctx, "a.", func(store.Entry) {}) },
			func(ctx context.Context) error { return s.Listen(ctx, "a", func([]byte) {}) },
			func(ctx context.Context) error {
				return s.Answer(ctx, "a", func([]byte) []byte { return nil })
			},
		} {
			following.Go(func() {
				assert.ErrorIs(t, follow(context.WithoutCancel(t.Context())), store.ErrClosed)
			})
		}
		following.Go(func() {
			<-time.NewTimer(time.Duration(i) * 50 * time.Microsecond).C // at each moment of the beginning
			assert.NoError(t, s.Close())
		})
		following.Wait()
	}
}
