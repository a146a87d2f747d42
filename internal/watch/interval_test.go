package watch

import (
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
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

// Three failures without a success between them are an outage. A request that was sent before the
// last success says nothing about the time since, and one that was sent with it does.
func TestStreak(t *testing.T) {
	t.Parallel()
	at := func(s int) time.Time { return time.Unix(int64(s), 0) }
	s := streak{}
	s.reset(at(10))
	for i := range 5 {
		s.add(errDown, at(9), at(20+i), rhythm)
	}
	assert.Equal(t, streak{success: at(10)}, s, "they were sent before the success")
	s.add(errDown, at(10), at(30), rhythm)
	s.add(errBad, at(11), at(31), rhythm)
	assert.False(t, s.outage())
	assert.Zero(t, s.next)
	assert.False(t, s.reset(at(32)), "there was no outage")
	for i := range outageSize {
		s.add(errDown, at(40+i), at(50+i), rhythm)
	}
	s.add(errBad, at(60), at(61), rhythm)
	assert.True(t, s.outage())
	assert.Equal(t, at(50), s.since)
	require.ErrorIs(t, s.err, errBad, "the last one is told")
	assert.WithinDuration(t, at(63), s.next, time.Second)
	assert.False(t, s.reset(at(70)), "it affected the list alone")
	s = streak{n: outageSize, reads: 1}
	assert.True(t, s.reset(at(71)))
	assert.Equal(t, streak{success: at(71)}, s)
}
