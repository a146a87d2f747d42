package allowance

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// take takes requests for a time and counts them.
func take(ctx context.Context, s *Share, n *int) {
	for s.Wait(ctx) == nil {
		*n++
	}
}

// Each kind has as much as any other, and each member of a kind as much as any other.
func TestWhatIsShortIsDividedFairly(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		a := New(1, 5)
		ctx, cancel := context.WithTimeout(t.Context(), 10_000*time.Second)
		defer cancel()
		counts := make([]int, 12)
		kind := a.Kind()
		many := kind.Share() // of 30 members, beside ten shares of one
		many.Add(30)
		go take(ctx, many, &counts[0])
		for i := range 10 {
			single := kind.Share()
			single.Add(1)
			go take(ctx, single, &counts[1+i])
		}
		other := a.Kind().Share()
		other.Add(1)
		go take(ctx, other, &counts[11])
		<-ctx.Done()
		synctest.Wait()
		assert.InDelta(t, 5000, counts[11], 100)
		assert.InDelta(t, 3750, counts[0], 100)
		for _, n := range counts[1:11] {
			assert.InDelta(t, 125, n, 10)
		}
		assert.Empty(t, a.wanting)
	})
}

// One that always charges more than it takes leaves the others their part.
func TestAChargeIsTheSharesOwn(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		a := New(1, 1)
		ctx, cancel := context.WithTimeout(t.Context(), 1000*time.Second)
		defer cancel()
		var greedy, modest int
		go func() {
			s := a.Kind().Share()
			for s.Wait(ctx) == nil {
				s.Charge()
				s.Charge()
				greedy += 3
			}
		}()
		go take(ctx, a.Kind().Share(), &modest)
		<-ctx.Done()
		synctest.Wait()
		assert.LessOrEqual(t, greedy+modest, 1010)
		assert.InDelta(t, 500, modest, 20)
	})
}

// A share that leaves makes nobody wait, and nor does one that never comes back.
func TestLeaving(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		a := New(1, 1)
		first, second := a.Kind().Share(), a.Kind().Share()
		require.NoError(t, first.Wait(t.Context()))
		assert.Equal(t, time.Second, first.Take(time.Now()))
		assert.Equal(t, 2*time.Second, second.Take(time.Now()))
		first.Leave()
		assert.Equal(t, time.Second, second.Take(time.Now()))
		ctx, cancel := context.WithTimeout(t.Context(), time.Millisecond)
		defer cancel()
		require.ErrorIs(t, second.Wait(ctx), context.DeadlineExceeded)
		assert.Empty(t, a.wanting)
	})
}

func TestUnlimited(t *testing.T) {
	t.Parallel()
	s := Unlimited()
	for range 1000 {
		assert.Zero(t, s.Take(time.Now()))
	}
}
