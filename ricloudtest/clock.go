package ricloudtest

import (
	"container/heap"
	"math/rand/v2"
	"time"
)

// Delay is how long one kind of work takes: drawn evenly between Min and Max
// from the server's seed, or exactly Min where Max is not greater.
type Delay struct{ Min, Max time.Duration }

// Fixed is a Delay that always takes d.
func Fixed(d time.Duration) Delay { return Delay{Min: d, Max: d} }

func (d Delay) draw(r *rand.Rand) time.Duration {
	if d.Max <= d.Min {
		return d.Min
	}
	return d.Min + time.Duration(r.Int64N(int64(d.Max-d.Min)+1))
}

// Delays is the time each kind of work takes. WithSpeed divides all of them.
type Delays struct {
	Session      Delay // a session: pending to active or failed
	Poll         Delay // a poll: pending to processing
	Task         Delay // each task of a poll: processing to its end
	Suspend      Delay // how long a task of Account.Suspend stays suspended
	Config       Delay // the test task of a storage or webhook config
	Subscription Delay // a subscription: pending to active
	Delivery     Delay // from an event to its first delivery
}

func defaultDelays() Delays {
	return Delays{
		Session:      Fixed(50 * time.Millisecond),
		Poll:         Fixed(10 * time.Millisecond),
		Task:         Delay{20 * time.Millisecond, 60 * time.Millisecond},
		Suspend:      Fixed(50 * time.Millisecond),
		Config:       Fixed(20 * time.Millisecond),
		Subscription: Fixed(20 * time.Millisecond),
	}
}

// job is work that falls due. Jobs of one moment run in the order they were
// scheduled, so that a seed decides everything.
type job struct {
	due time.Time
	seq int
	run func()
}

type jobs []job //nolint:recvcheck // as heap.Interface wants it

func (j jobs) Len() int      { return len(j) }
func (j jobs) Swap(a, b int) { j[a], j[b] = j[b], j[a] }
func (j jobs) Less(a, b int) bool {
	if j[a].due.Equal(j[b].due) {
		return j[a].seq < j[b].seq
	}
	return j[a].due.Before(j[b].due)
}

// Push and Pop are heap.Interface's.
func (j *jobs) Push(x any) { *j = append(*j, x.(job)) } //nolint:forcetypeassert // only after pushes

func (j *jobs) Pop() any {
	last := len(*j) - 1
	popped := (*j)[last]
	(*j)[last] = job{}
	*j = (*j)[:last]
	return popped
}

// clock runs jobs when they are due, all on one timer. The server's mutex
// guards it, and is held while a job runs.
type clock struct {
	jobs   jobs
	seq    int
	timer  *time.Timer
	offset time.Duration // what Advance added to the real time
	speed  float64
}

func (c *clock) now() time.Time { return time.Now().Add(c.offset) }

// after runs fn, with s.mu held, once d has passed at the server's speed.
func (s *Server) after(d time.Duration, fn func()) {
	if s.closed {
		return
	}
	d = time.Duration(float64(d) / s.clock.speed)
	s.clock.seq++
	heap.Push(&s.clock.jobs, job{s.clock.now().Add(d), s.clock.seq, fn})
	s.arm()
}

// arm sets the timer to the earliest job.
func (s *Server) arm() {
	if s.closed || len(s.clock.jobs) == 0 {
		return
	}
	wait := s.clock.jobs[0].due.Sub(s.clock.now())
	if s.clock.timer == nil {
		s.clock.timer = time.AfterFunc(wait, s.tick)
		return
	}
	s.clock.timer.Reset(wait)
}

// tick runs everything that is due.
func (s *Server) tick() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.runUntil(s.clock.now())
	s.arm()
}

func (s *Server) runUntil(end time.Time) {
	for len(s.clock.jobs) > 0 && !s.closed && !s.clock.jobs[0].due.After(end) {
		next, ok := heap.Pop(&s.clock.jobs).(job)
		if !ok {
			return
		}
		if ahead := next.due.Sub(s.clock.now()); ahead > 0 {
			s.clock.offset += ahead
		}
		next.run()
	}
}

// Advance moves the server's clock d ahead and does, in order and before it
// returns, all work that falls due on the way. Deliveries and writes to a
// Publisher run beside it and may end a little later.
func (s *Server) Advance(d time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	end := s.clock.now().Add(d)
	s.runUntil(end)
	s.clock.offset += max(0, end.Sub(s.clock.now()))
	s.arm()
}
