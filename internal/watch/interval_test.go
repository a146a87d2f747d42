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
