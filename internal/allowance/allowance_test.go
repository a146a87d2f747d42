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

// During a pause nothing is permitted, and after it no more than may go at once.
func TestAPauseSavesNothingUp(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		const burst = 5
		until := time.Now().Add(time.Hour)
		a := New(1, burst).PauseWith(func(now time.Time) time.Duration { return max(0, until.Sub(now)) })
		s := a.Kind().Share()
		assert.Equal(t, time.Hour, s.Take(time.Now()))
		ctx, cancel := context.WithTimeout(t.Context(), time.Hour+100*time.Second)
		defer cancel()
		n := 0
		take(ctx, s, &n)
		assert.InDelta(t, 100+burst, n, 1)
	})
}

func TestUnlimited(t *testing.T) {
	t.Parallel()
	s := Unlimited()
	for range 1000 {
		assert.Zero(t, s.Take(time.Now()))
	}
}

// Waits use a fifth of the quota. A twentieth of that may go at once, but never more than 20.
func TestOfWaits(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		anHour float64
		period time.Duration
		rate   float64
		burst  int
	}{
		"the default":         {anHour: 10_000, period: time.Hour, rate: 2000. / 3600, burst: 20},
		"600 a minute":        {anHour: 36_000, period: time.Minute, rate: 2, burst: 6},
		"ten a second":        {anHour: 36_000, period: time.Second, rate: 2, burst: 6},
		"one a minute":        {anHour: 60, period: time.Minute, rate: 12. / 3600, burst: 1},
		"more than any needs": {anHour: 1e9, period: time.Hour, rate: 2e8 / 3600, burst: 20},
	}
	for name, tc := range tests {
		a := OfWaits(tc.anHour, tc.period)
		assert.InEpsilon(t, tc.rate, float64(a.limiter.Limit()), 1e-9, name)
		assert.Equal(t, tc.burst, a.limiter.Burst(), name)
	}
}
