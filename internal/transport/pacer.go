package transport

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/reincubate/ricloud-go/internal/backoff"
)

// Priority says which of two requests that wait for a turn goes first.
type Priority int

// The priorities, highest first.
const (
	Foreground Priority = iota
	Background
)

// Pacer decides when a request may be sent.
type Pacer interface {
	// Wait returns nil when one request may be sent, and ctx's error, giving
	// the turn back, when ctx ends first.
	Wait(ctx context.Context, p Priority) error
	// Pause holds every request back for d, those that already wait included.
	Pause(d time.Duration)
}

const (
	// backgroundShare says how often a background request goes first when both
	// kinds wait: at every fifth turn.
	backgroundShare = 5
	// pauseSpread is by how much a pause differs from client to client.
	pauseSpread = 0.2
	// widestWindow is the number of requests in flight at which the client has
	// recovered from a 429 without a hint.
	widestWindow = 64
	// windowPeriod is how often the window grows by one even without an answer,
	// because an answer may take long.
	windowPeriod = time.Second
	// oldSlowdown is the age at which a slowdown no longer counts.
	oldSlowdown = time.Minute
)

// ErrTooLate is the cause of a Failure that was not sent because its answer
// could not have arrived in time. It is a context.DeadlineExceeded.
var ErrTooLate = fmt.Errorf("too late to be answered: %w", context.DeadlineExceeded)

// pacer decides when the requests of a Client are sent. They keep their order
// and the rate limit. None is sent while the API has asked for a pause, and only
// a few at a time after a 429 that did not say how long to wait. A request takes
// its turn only when it is sent, so a request that is cancelled in the queue
// costs nothing, and a pause stops all that still wait.
type pacer struct {
	outer Pacer         // the caller's; asked after this one; nil: none
	every time.Duration // between two turns; 0: no rate limit
	burst time.Duration // how much earlier than its time a turn may be taken

	// A 429 that does not say how long to wait pauses the client for first,
	// then twice as long each time, up to longest.
	first, longest time.Duration

	mu     sync.Mutex
	next   time.Time  // when the next turn is due
	queues [2][]*turn // those that wait, by priority, first come first
	ahead  int        // foreground turns since the last background one that had to wait
	timer  *time.Timer

	paused    time.Time // no request is sent before this time
	cause     *Response // the 429 that paused or slowed the client; nil: neither
	inFlight  int
	window    int       // most requests in flight after a bare 429; 0: no limit
	grown     time.Time // when the window grew without an answer
	slowed    time.Time // when the last slowdown began
	slowdowns int       // the slowdowns since the last success
}

// turn is a request that waits.
type turn struct {
	ready  chan struct{} // closed when it may go, or is refused
	latest time.Time     // a later turn is of no use; zero: any time
	err    error         // why it may not go
}

// newPacer spreads the requests of the rate limit evenly over its period,
// letting at most a second's worth go at once: no window of that length holds
// more than the limit plus that. The pauses follow the waits between attempts.
func newPacer(cfg *Config) *pacer {
	p := &pacer{outer: cfg.Pacer, first: 2 * cfg.RetryWaitMin, longest: max(cfg.RetryWaitMax/2, 1)}
	if n := cfg.RateLimit; n > 0 {
		p.every = max(1, cfg.RatePer/time.Duration(n))
		p.burst = max(0, time.Second-time.Second%p.every-p.every)
	}
	return p
}

// wait returns nil when a request may go, at latest or before; done must then
// be called. A zero latest is any time.
func (p *pacer) wait(ctx context.Context, priority Priority, latest time.Time) error {
	p.mu.Lock()
	now := time.Now()
	p.grow(now)
	if len(p.queues[Foreground])+len(p.queues[Background]) == 0 && p.take(now) {
		p.mu.Unlock()
		return nil
	}
	if turn := p.estimate(priority, now); !latest.IsZero() && turn.After(latest) {
		defer p.mu.Unlock()
		return tooLate(turn.Sub(now), latest.Sub(now))
	}
	t := &turn{ready: make(chan struct{}), latest: latest}
	p.queues[priority] = append(p.queues[priority], t)
	p.dispatch(now)
	p.mu.Unlock()

	if !latest.IsZero() {
		var cancel context.CancelFunc
		ctx, cancel = context.WithDeadlineCause(ctx, latest, tooLate(latest.Sub(now), latest.Sub(now)))
		defer cancel()
	}
	select {
	case <-t.ready:
		return t.err
	case <-ctx.Done():
		return p.leave(t, priority, backoff.Cause(ctx))
	}
}

func tooLate(turn, left time.Duration) error {
	if left < 0 {
		return fmt.Errorf("its turn came %v too late for an answer in time: %w",
			-left.Round(time.Millisecond), ErrTooLate)
	}
	return fmt.Errorf("its turn comes in %v, and must come within %v for an answer in time: %w",
		turn.Round(time.Millisecond), left.Round(time.Millisecond), ErrTooLate)
}

// leave takes a request out of the queue, or gives back the turn that it got
// at the same moment.
func (p *pacer) leave(t *turn, priority Priority, why error) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if i := slices.Index(p.queues[priority], t); i >= 0 {
		p.queues[priority] = slices.Delete(p.queues[priority], i, i+1)
	} else if t.err == nil {
		p.untake()
	}
	p.dispatch(time.Now())
	return why
}

// giveBack gives a turn back that was not used.
func (p *pacer) giveBack() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.untake()
	p.dispatch(time.Now())
}

func (p *pacer) untake() {
	p.next = p.next.Add(-p.every)
	p.inFlight--
}

// done says that a request which had its turn has ended.
func (p *pacer) done() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.inFlight--
	if p.window > 0 {
		p.dispatch(time.Now())
	}
}

// take takes a turn if one can be taken now.
func (p *pacer) take(now time.Time) bool {
	if p.due(now).After(now) || p.window > 0 && p.inFlight >= p.window {
		return false
	}
	if p.every > 0 {
		p.next = later(p.next, now).Add(p.every)
	}
	p.inFlight++
	return true
}

// due returns when the next turn can be taken, as far as the rate and the
// pause say.
func (p *pacer) due(now time.Time) time.Time {
	return later(later(now, p.paused), p.next.Add(-p.burst))
}

func later(a, b time.Time) time.Time {
	if b.After(a) {
		return b
	}
	return a
}

// estimate returns when a request that came now would have its turn, if no
// other left the queue.
func (p *pacer) estimate(priority Priority, now time.Time) time.Time {
	foreground, background := len(p.queues[Foreground]), len(p.queues[Background])
	const run = backgroundShare - 1 // foreground turns between two of background
	before := foreground + min(background, (p.ahead+foreground)/run)
	if priority == Background {
		before = background + min(foreground, max(0, run*(background+1)-p.ahead))
	}
	return p.due(now).Add(time.Duration(before) * p.every)
}

// dispatch lets go all that may go now, and sets the timer for the next.
func (p *pacer) dispatch(now time.Time) {
	p.grow(now)
	for {
		priority := p.nextPriority()
		queue := p.queues[priority]
		if len(queue) == 0 {
			return
		}
		if !p.take(now) {
			break
		}
		close(queue[0].ready)
		queue[0] = nil
		p.queues[priority] = queue[1:]
		switch {
		case priority == Background:
			p.ahead = 0
		case len(p.queues[Background]) > 0:
			p.ahead++
		}
	}
	again := p.due(now)
	if !again.After(now) { // the window is full
		again = p.grown.Add(windowPeriod)
	}
	if p.timer == nil {
		p.timer = time.AfterFunc(again.Sub(now), p.ring)
	} else {
		p.timer.Reset(again.Sub(now))
	}
}

// nextPriority returns the priority of the request that goes next.
func (p *pacer) nextPriority() Priority {
	switch {
	case len(p.queues[Background]) == 0:
		return Foreground
	case len(p.queues[Foreground]) == 0 || p.ahead >= backgroundShare-1:
		return Background
	}
	return Foreground
}

func (p *pacer) ring() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.dispatch(time.Now())
}

// limited notes a 429 and when its request was sent. All requests wait for its
// hint, but no longer than longestHint. A 429 without a hint, or with a longer
// one, pauses the client for longer each time; after the pause, one request at a
// time is sent. Answers to requests that were sent before the slowdown began
// are ignored.
func (p *pacer) limited(answer *Response, sent time.Time, longestHint time.Duration) {
	p.mu.Lock()
	now := time.Now()
	pause := min(answer.RetryAfter, longestHint)
	useful := answer.RetryAfter > 0 && answer.RetryAfter <= longestHint
	if !useful && sent.After(p.slowed) {
		slow := backoff.Spread(backoff.Ceiling(p.slowdowns, p.first, p.longest), pauseSpread)
		pause = max(pause, slow)
		p.slowdowns = min(p.slowdowns+1, 10) // past the longest pause
		p.window, p.slowed = 1, now
	}
	if until := now.Add(pause); pause > 0 && until.After(p.paused) {
		p.paused, p.grown = until, until
		p.cause = &Response{
			Operation: answer.Operation, StatusCode: answer.StatusCode, Header: answer.Header,
			Body: answer.Body, RetryAfter: answer.RetryAfter,
		}
		p.refuseLate(now)
		p.dispatch(now)
	}
	p.mu.Unlock()
	if p.outer != nil && pause > 0 {
		p.outer.Pause(pause)
	}
}

// refuseLate refuses the waiting requests for which a turn after the pause is
// too late.
func (p *pacer) refuseLate(now time.Time) {
	for priority, queue := range p.queues {
		p.queues[priority] = slices.DeleteFunc(queue, func(t *turn) bool {
			if t.latest.IsZero() || !p.paused.After(t.latest) {
				return false
			}
			t.err = tooLate(p.paused.Sub(now), t.latest.Sub(now))
			close(t.ready)
			return true
		})
	}
}

// answered notes an answer other than 429. The window grows with each, so that
// it doubles in the time that an answer takes.
func (p *pacer) answered() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.window == 0 {
		return
	}
	p.window++
	p.slowdowns = max(0, p.slowdowns-1)
	p.dispatch(time.Now())
}

// grow widens the window by one for each period without an answer, and ends
// the slowdown when it is wide or old.
func (p *pacer) grow(now time.Time) {
	if p.window == 0 {
		return
	}
	if periods := int(now.Sub(p.grown) / windowPeriod); periods > 0 {
		p.window += periods
		p.grown = p.grown.Add(time.Duration(periods) * windowPeriod)
	}
	if p.window >= widestWindow || now.Sub(p.slowed) > oldSlowdown {
		p.window, p.slowdowns = 0, 0
	}
}

// pausedFor returns how long no request is sent because the API has asked for a pause.
func (p *pacer) pausedFor(now time.Time) time.Duration {
	p.mu.Lock()
	defer p.mu.Unlock()
	return max(0, p.paused.Sub(now))
}

// holding returns the 429 that holds requests back now, or nil.
func (p *pacer) holding() *Response {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.window == 0 && !p.paused.After(time.Now()) {
		p.cause = nil
	}
	return p.cause
}
