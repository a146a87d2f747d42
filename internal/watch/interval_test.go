package watch

import (
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
)

func TestInterval(t *testing.T) {
	t.Parallel()
	for age, want := range map[time.Duration]time.Duration{
		0: time.Second, 4 * time.Second: time.Second, 20 * time.Second: 5 * time.Second,
		time.Hour: 10 * time.Second,
	} {
		assert.Equal(t, want, rhythm.interval(age, false), "after %s", age)
		assert.Equal(t, 15*time.Second, rhythm.interval(age, true), "after %s, while events flow", age)
	}
}

// The time to the next read never exceeds the longest interval or, while events arrive, the
// interval between reads with events.
func TestDraw(t *testing.T) {
	t.Parallel()
	for d, bounds := range map[time.Duration][2]time.Duration{
		time.Second:      {800 * time.Millisecond, 1200 * time.Millisecond},
		9 * time.Second:  {7200 * time.Millisecond, 10 * time.Second},
		10 * time.Second: {8 * time.Second, 10 * time.Second},
		18 * time.Second: {14400 * time.Millisecond, 18 * time.Second},
	} {
		var least, most time.Duration = time.Hour, 0
		for range 2000 {
			drawn := rhythm.draw(d)
			least, most = min(least, drawn), max(most, drawn)
		}
		assert.GreaterOrEqual(t, least, bounds[0])
		assert.LessOrEqual(t, most, bounds[1])
		assert.Greater(t, most-least, (bounds[1]-bounds[0])*9/10, "it is drawn from all of them")
	}
}

// List pages are a little further apart than the mean interval, but they put off no young wait by
// more than nine tenths of the longest interval, and nothing by more than the longest, or than the
// mean where the waits have events.
func TestTogether(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct{ mean, shortest, least, most time.Duration }{
		"all young": {
			mean: time.Second, shortest: time.Second,
			least: 950 * time.Millisecond, most: 1450 * time.Millisecond,
		},
		"some young":      {mean: 9 * time.Second, shortest: time.Second, least: 6e9, most: 9e9},
		"all old":         {mean: 10 * time.Second, shortest: 10 * time.Second, least: 8e9, most: 10e9},
		"all with events": {mean: 15 * time.Second, shortest: 15 * time.Second, least: 12e9, most: 15e9},
	} {
		for range 200 {
			apart := rhythm.together(tc.mean, tc.shortest)
			assert.GreaterOrEqual(t, apart, tc.least, name)
			assert.LessOrEqual(t, apart, tc.most, name)
		}
	}
}
