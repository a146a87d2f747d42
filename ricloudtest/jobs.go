package ricloudtest

import (
	"math/rand/v2"
	"time"
)

// Delay is how long one kind of work takes: drawn evenly between Min and Max from the server's
// seed, or exactly Min where Max is not greater.
type Delay struct{ Min, Max time.Duration }

// Fixed returns a Delay that always takes d.
func Fixed(d time.Duration) Delay { return Delay{Min: d, Max: d} }

func (d Delay) draw(r *rand.Rand) time.Duration {
	if d.Max <= d.Min {
		return d.Min
	}
	return d.Min + time.Duration(r.Int64N(int64(d.Max-d.Min)+1))
}

// Delays is how long each kind of work takes. WithSpeed divides all of them.
type Delays struct {
	Session      Delay // a session: from pending to active or failed
	Poll         Delay // a poll: from pending to processing
	Task         Delay // each task of a poll: from processing to its end
	Suspend      Delay // how long a task of Account.Suspend stays suspended
	Config       Delay // the test of a storage or webhook config
	FirstTest    Delay // the test that creating a config starts; Config if zero
	Subscription Delay // a subscription: from pending to active
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

// firstTest is the delay of the test that creating a config starts.
func (d Delays) firstTest() Delay {
	if d.FirstTest == (Delay{}) {
		return d.Config
	}
	return d.FirstTest
}

// namedDelays lists the delays by the names that scenarios use.
func namedDelays(d *Delays) map[string]*Delay {
	return map[string]*Delay{
		"session": &d.Session, "poll": &d.Poll, "task": &d.Task, "suspend": &d.Suspend,
		"config": &d.Config, "first_test": &d.FirstTest, "subscription": &d.Subscription,
		"delivery": &d.Delivery,
	}
}

func (d Delays) check() error {
	for name, delay := range namedDelays(&d) {
		if delay.Min < 0 || delay.Max < 0 {
			return refuse("delay of %s: %v to %v is negative", name, delay.Min, delay.Max)
		}
	}
	return nil
}

// verb is what a job does.
type verb string

const (
	settleSession     verb = "settle session"
	expireSession     verb = "expire session"
	runPoll           verb = "run poll"
	endTask           verb = "end task"
	suspendTask       verb = "suspend task"
	resumeTask        verb = "resume task"
	startSubscription verb = "start subscription"
	pollSubscription  verb = "poll subscription"
	endToken          verb = "end token"
	testStorage       verb = "test storage"
	testWebhook       verb = "test webhook"
	deliverEvent      verb = "deliver event"
	repeatEvent       verb = "repeat event"
)

// job is work that falls due: what to do, and the resources to do it with.
type job struct {
	Do    verb   `json:"do"`
	ID    string `json:"id"`
	Other string `json:"other,omitempty"`
	// Remaining is how long a suspended task still works after it resumes.
	Remaining time.Duration `json:"rest,omitempty"`
}

// after schedules a job once d has passed at the server's speed. s.mu is held.
func (s *Server) after(d time.Duration, j job) { s.clock.After(s.scale(d), j) }

// scale divides a duration by the server's speed.
func (s *Server) scale(d time.Duration) time.Duration {
	return time.Duration(float64(d) / s.speed)
}

// tick runs everything that is due.
func (s *Server) tick() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.closed {
		s.clock.Run(s.perform)
	}
}

// longestAdvance bounds the work of one Advance.
const longestAdvance = 366 * 24 * time.Hour

// Advance moves the server's clock ahead by d, a year at most, and does all work that falls due on
// the way, in order and before it returns. Deliveries and writes to a Publisher happen on other
// goroutines and may end a little later. A d of 0 or less does nothing.
func (s *Server) Advance(d time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if d > 0 && !s.closed {
		s.clock.Advance(min(d, longestAdvance), s.perform)
	}
}

// perform does one job. Resources that are gone in the meantime are skipped. s.mu is held.
func (s *Server) perform(j job) {
	if j.Do == endToken {
		delete(s.tokens, j.ID)
		return
	}
	if x, ok := s.sessions.Lookup(j.ID); ok {
		s.performOnSession(x, j)
	} else if p, ok := s.polls.Lookup(j.ID); ok {
		s.run(p)
	} else if t, ok := s.tasks.Lookup(j.ID); ok {
		s.performOnTask(t, j)
	} else if x, ok := s.subscriptions.Lookup(j.ID); ok {
		if j.Do == startSubscription {
			s.activate(x)
		} else {
			s.pollFor(x)
		}
	} else if e, ok := s.events.Lookup(j.ID); ok {
		s.performOnEvent(e, j)
	}
}

func (s *Server) performOnSession(x *session, j job) {
	if j.Do == expireSession {
		s.expire(x, "api")
		return
	}
	if t, ok := s.tasks.Lookup(j.Other); ok {
		s.settle(x, t)
	}
}

func (s *Server) performOnTask(t *task, j job) {
	switch j.Do {
	case endTask:
		s.conclude(t)
	case suspendTask:
		s.suspend(t, j.Remaining)
	case resumeTask:
		s.resume(t, j.Remaining)
	case testStorage:
		s.runStorageTest(t)
	case testWebhook:
		s.runWebhookTest(t)
	default:
	}
}

func (s *Server) performOnEvent(e *event, j job) {
	to, ok := s.webhooks.Lookup(j.Other)
	switch {
	case !ok && e.State == statePending:
		e.State = stateFailed
	case !ok:
	case j.Do == repeatEvent:
		s.post(e, to, delivery{}, func(bool) {})
	default:
		s.attempt(e, to)
	}
}

// signal tells waiters that something ended. The zero value is ready for use.
type signal struct {
	ch   chan struct{}
	done bool
}

func (s *signal) wait() <-chan struct{} {
	if s.ch == nil {
		s.ch = make(chan struct{})
		if s.done {
			close(s.ch)
		}
	}
	return s.ch
}

func (s *signal) end() {
	if s.done {
		return
	}
	s.done = true
	if s.ch != nil {
		close(s.ch)
	}
}
