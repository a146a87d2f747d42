package clock_test

import (
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"

	"github.com/reincubate/ricloud-go/ricloudtest/internal/clock"
)

// owner uses a clock like the sandbox: when the clock wakes it, it runs the work that is due.
type owner struct {
	clock *clock.Clock[string]

	mu   sync.Mutex
	done []string
}

func newOwner() *owner {
	o := &owner{}
	o.clock = clock.New[string](func() { o.clock.Run(o.run) })
	return o
}

func (o *owner) run(work string) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.done = append(o.done, work)
}

func (o *owner) ran() []string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return slices.Clone(o.done)
}

func pass(d time.Duration) {
	time.Sleep(d) //nolint:forbidigo // virtual
	synctest.Wait()
}

func TestJobsRunWhenTheyAreDue(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		o := newOwner()
		o.clock.After(3*time.Second, "third")
		o.clock.After(time.Second, "first")
		o.clock.After(2*time.Second, "second")
		o.clock.After(2*time.Second, "second, scheduled later")
		pass(time.Second - 1)
		assert.Empty(t, o.ran())
		pass(1)
		assert.Equal(t, []string{"first"}, o.ran())
		pass(time.Second)
		assert.Equal(t, []string{"first", "second", "second, scheduled later"}, o.ran())
		pass(time.Second)
		assert.Equal(t, "third", o.ran()[3])
		assert.Empty(t, o.clock.Jobs())
		assert.Zero(t, o.clock.Offset(), "nothing moved the clock ahead")
	})
}

func TestAdvanceRunsTheJobsOnItsWay(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		o, begun := newOwner(), time.Now()
		at := map[string]time.Duration{}
		run := func(work string) {
			at[work] = o.clock.Now().Sub(begun)
			if work == "a" { // this work schedules more work
				o.clock.After(time.Minute, "b")
				o.clock.After(time.Hour, "too late")
			}
		}
		o.clock.After(time.Minute, "a")
		o.clock.Advance(10*time.Minute, run)
		assert.Equal(t, map[string]time.Duration{"a": time.Minute, "b": 2 * time.Minute}, at)
		assert.Equal(t, 10*time.Minute, o.clock.Offset())
		assert.Equal(t, begun.Add(10*time.Minute), o.clock.Now())
		assert.Equal(t, begun, time.Now(), "real time stands still")

		pass(51 * time.Minute)
		assert.Equal(t, []string{"too late"}, o.ran(), "what is left runs by itself, as much earlier")
		o.clock.Advance(0, run)
		assert.Equal(t, 10*time.Minute, o.clock.Offset())
	})
}

func TestNothingRunsAfterClose(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		o := newOwner()
		o.clock.After(time.Second, "before")
		o.clock.Close()
		o.clock.After(time.Second, "after")
		pass(time.Hour)
		o.clock.Advance(time.Hour, o.run)
		assert.Empty(t, o.ran())
		assert.Len(t, o.clock.Jobs(), 1)
		newOwner().clock.Close() // a clock can be closed without having been used
	})
}

// A clock can continue from another one, in another process and at a later time.
func TestRestore(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		former := newOwner()
		former.clock.Advance(time.Hour, former.run)
		for _, work := range []string{"a", "b", "c"} {
			former.clock.After(time.Minute, work)
		}
		former.clock.After(time.Second, "soon")
		jobs := former.clock.Jobs()
		assert.Equal(t, "soon", jobs[0].Work, "the earliest first")
		former.clock.Close()

		next := newOwner()
		next.clock.After(time.Second, "forgotten")
		next.clock.Restore(former.clock.Offset(), jobs)
		assert.Equal(t, time.Hour, next.clock.Offset())
		next.clock.After(time.Minute, "d")
		pass(time.Minute)
		assert.Equal(t, []string{"soon", "a", "b", "c", "d"}, next.ran())

		overdue := newOwner()
		overdue.clock.Restore(0, jobs[:1])
		pass(time.Hour)
		assert.Equal(t, []string{"soon"}, overdue.ran())
	})
}
