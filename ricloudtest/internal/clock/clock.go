// Package clock runs the sandbox's scheduled work. A job is data rather than a function, so that
// the state of a sandbox can be written to a file and read back.
package clock

import (
	"container/heap"
	"slices"
	"time"
)

// Job is work that falls due. Jobs of one moment run in the order in which they were scheduled, so
// the same seed gives the same run.
type Job[T any] struct {
	Due  time.Time `json:"due"`
	Seq  int       `json:"seq"`
	Work T         `json:"work"`
}

// Clock holds the jobs and wakes its owner when one falls due. It has no lock: the owner's mutex
// must be held during every call.
type Clock[T any] struct {
	jobs   queue[T]
	seq    int
	offset time.Duration // what Advance added to the real time
	timer  *time.Timer
	wake   func()
	closed bool
}

// New returns a clock that calls wake, on a goroutine of its own, when a job falls due.
func New[T any](wake func()) *Clock[T] { return &Clock[T]{wake: wake} }

// Now returns the time of the clock: the real time plus what Advance added.
func (c *Clock[T]) Now() time.Time { return time.Now().Add(c.offset) }

// Offset returns how far Advance has moved the clock ahead of the real time.
func (c *Clock[T]) Offset() time.Duration { return c.offset }

// After schedules work to run once d has passed.
func (c *Clock[T]) After(d time.Duration, work T) {
	if c.closed {
		return
	}
	c.seq++
	heap.Push(&c.jobs, Job[T]{Due: c.Now().Add(d), Seq: c.seq, Work: work})
	c.arm()
}

// Run runs every job that is due.
func (c *Clock[T]) Run(run func(T)) {
	c.runUntil(c.Now(), run)
	c.arm()
}

// Advance moves the clock ahead by d and runs, in order, every job that falls due on the way.
func (c *Clock[T]) Advance(d time.Duration, run func(T)) {
	end := c.Now().Add(d)
	c.runUntil(end, run)
	c.offset += max(0, end.Sub(c.Now()))
	c.arm()
}

func (c *Clock[T]) runUntil(end time.Time, run func(T)) {
	for len(c.jobs) > 0 && !c.closed && !c.jobs[0].Due.After(end) {
		next, ok := heap.Pop(&c.jobs).(Job[T])
		if !ok {
			return
		}
		if ahead := next.Due.Sub(c.Now()); ahead > 0 {
			c.offset += ahead
		}
		run(next.Work)
	}
}

// arm sets the timer to the earliest job.
func (c *Clock[T]) arm() {
	if c.closed || len(c.jobs) == 0 {
		return
	}
	wait := c.jobs[0].Due.Sub(c.Now())
	if c.timer == nil {
		c.timer = time.AfterFunc(wait, c.wake)
		return
	}
	c.timer.Reset(wait)
}

// Close stops the timer. No job runs afterwards.
func (c *Clock[T]) Close() {
	c.closed = true
	if c.timer != nil {
		c.timer.Stop()
	}
}

// Jobs returns the waiting jobs, the earliest first.
func (c *Clock[T]) Jobs() []Job[T] {
	return slices.SortedFunc(slices.Values(c.jobs), func(a, b Job[T]) int {
		if order := a.Due.Compare(b.Due); order != 0 {
			return order
		}
		return a.Seq - b.Seq
	})
}

// Restore replaces the jobs and the offset. Jobs that are overdue run at once.
func (c *Clock[T]) Restore(offset time.Duration, jobs []Job[T]) {
	c.offset, c.jobs, c.seq = offset, nil, 0
	for _, job := range jobs {
		c.seq = max(c.seq, job.Seq)
		heap.Push(&c.jobs, job)
	}
	if c.timer != nil {
		c.timer.Stop()
	}
	c.arm()
}

// queue is a heap of jobs.
type queue[T any] []Job[T]

// Len implements heap.Interface.
func (q queue[T]) Len() int { return len(q) }

// Swap implements heap.Interface.
func (q queue[T]) Swap(a, b int) { q[a], q[b] = q[b], q[a] }

// Less implements heap.Interface.
func (q queue[T]) Less(a, b int) bool {
	if q[a].Due.Equal(q[b].Due) {
		return q[a].Seq < q[b].Seq
	}
	return q[a].Due.Before(q[b].Due)
}

// Push implements heap.Interface.
func (q *queue[T]) Push(x any) {
	if job, ok := x.(Job[T]); ok {
		*q = append(*q, job)
	}
}

// Pop implements heap.Interface.
func (q *queue[T]) Pop() any {
	last := len(*q) - 1
	popped := (*q)[last]
	(*q)[last] = Job[T]{}
	*q = (*q)[:last]
	return popped
}
