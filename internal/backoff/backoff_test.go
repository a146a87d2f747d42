package backoff

import (
	"context"
	"errors"
	"math"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestJitterStaysBelowADoublingCeiling(t *testing.T) {
	t.Parallel()
	const first, longest = 500 * time.Millisecond, 30 * time.Second
	for n, ceiling := range []time.Duration{
		first, 2 * first, 4 * first, 8 * first, 16 * first, 32 * first, longest, longest,
	} {
		var least, most time.Duration = longest, 0
		for range 2000 {
			wait := Jitter(n, first, longest)
			least, most = min(least, wait), max(most, wait)
		}
		assert.LessOrEqual(t, most, ceiling)
		assert.Greater(t, most, ceiling*9/10, "the ceiling of retry %d is reached", n)
		assert.Less(t, least, ceiling/10, "and the floor is nothing")
		assert.Equal(t, ceiling, Ceiling(n, first, longest))
	}
	assert.Equal(t, longest, Ceiling(math.MaxInt, first, longest))
	assert.Equal(t, time.Second, Ceiling(0, time.Minute, time.Second), "never above the longest")
	assert.LessOrEqual(t, Ceiling(100, 1, math.MaxInt64), time.Duration(math.MaxInt64), "no overflow")
}

func TestSpreadStaysWithinItsShare(t *testing.T) {
	t.Parallel()
	var least, most time.Duration = time.Hour, 0
	for range 2000 {
		d := Spread(10*time.Second, 0.2)
		least, most = min(least, d), max(most, d)
	}
	assert.GreaterOrEqual(t, least, 8*time.Second)
	assert.Less(t, least, 8500*time.Millisecond)
	assert.LessOrEqual(t, most, 12*time.Second)
	assert.Greater(t, most, 11500*time.Millisecond)
}

func TestBetweenStaysThere(t *testing.T) {
	t.Parallel()
	var least, most time.Duration = time.Hour, 0
	for range 2000 {
		d := Between(8*time.Second, 10*time.Second)
		least, most = min(least, d), max(most, d)
	}
	assert.GreaterOrEqual(t, least, 8*time.Second)
	assert.Less(t, least, 8200*time.Millisecond)
	assert.LessOrEqual(t, most, 10*time.Second)
	assert.Greater(t, most, 9800*time.Millisecond)
}

func TestSleep(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		began := time.Now()
		require.NoError(t, Sleep(t.Context(), 3*time.Second))
		assert.Equal(t, 3*time.Second, time.Since(began))
		require.NoError(t, Sleep(t.Context(), 0))

		stopped := errors.New("stopped")
		ctx, cancel := context.WithCancelCause(t.Context())
		time.AfterFunc(time.Second, func() { cancel(stopped) })
		err := Sleep(ctx, time.Hour)
		assert.Equal(t, 4*time.Second, time.Since(began))
		require.ErrorIs(t, err, stopped)
		require.ErrorIs(t, err, context.Canceled)
		require.EqualError(t, err, "stopped")
	})
}

func TestCauseOfAnOrdinaryEnd(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	assert.Equal(t, context.Canceled, Cause(ctx))
}
