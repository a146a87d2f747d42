package transport

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"sync"
	"time"

	"golang.org/x/time/rate"
)

// ErrTooLate is the cause of a Failure that was not sent because its turn
// would have come after its deadline. It is a context.DeadlineExceeded.
var ErrTooLate = fmt.Errorf("the request's turn comes too late: %w", context.DeadlineExceeded)

// Priority says which of two waiting requests goes first.
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

// pacer decides when a Client's requests may go.
type pacer struct {
	outer   Pacer         // nil: none
	limiter *rate.Limiter // nil: unpaced
	every   time.Duration // between two requests

	mu     sync.Mutex
	paused time.Time // the server wants no request before
}

// newPacer spreads n requests evenly over each period, letting at most a
// second's worth go at once: no window of that length holds more than n plus that.
func newPacer(n int, per time.Duration) pacer {
	if n == 0 {
		return pacer{}
	}
	every := rate.Every(per / time.Duration(n))
	return pacer{limiter: rate.NewLimiter(every, max(1, int(every))), every: per / time.Duration(n)}
}

// pause holds all requests back for d.
func (p *pacer) pause(d time.Duration) {
	if d <= 0 {
		return
	}
	if p.outer != nil {
		p.outer.Pause(d)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if until := time.Now().Add(d); until.After(p.paused) {
		p.paused = until
	}
}

func (p *pacer) pauseLeft() time.Duration {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.paused.IsZero() {
		return 0
	}
	return time.Until(p.paused)
}

// wait returns when call may send a request, first come, first served. A
// background call goes when a token is left over: the calls that wait for one
// have taken it in advance.
func (p *pacer) wait(call *call) error {
	for left := p.pauseLeft(); left > 0; left = p.pauseLeft() {
		if err := call.sleep(left); err != nil {
			return err
		}
	}
	if p.outer != nil {
		return p.outerTurn(call)
	}
	if p.limiter == nil {
		return nil
	}
	if call.req.Background {
		for !p.limiter.Allow() {
			if err := call.sleep(p.every); err != nil {
				return err
			}
		}
		return nil
	}
	turn := p.limiter.Reserve()
	if err := call.sleep(turn.Delay()); err != nil {
		turn.Cancel()
		return err
	}
	return nil
}

// outerTurn waits for a turn of the caller's Pacer, until the call must end.
func (p *pacer) outerTurn(call *call) error {
	defer func() { call.now = time.Now() }()
	ctx, cancel := context.WithTimeoutCause(call, call.left(), ErrTooLate)
	defer cancel()
	priority := Foreground
	if call.req.Background {
		priority = Background
	}
	err := p.outer.Wait(ctx, priority)
	if err != nil && ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return err
}

// sleep waits for d, unless the call's context ends first. It never sleeps into
// the call's end.
func (c *call) sleep(d time.Duration) error {
	defer func() { c.now = time.Now() }()
	if d <= 0 {
		return nil
	}
	if left := c.left(); d >= left {
		return fmt.Errorf("%w, in %v, with %v left", ErrTooLate, d.Round(time.Millisecond), left.Round(time.Millisecond))
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-c.Done():
		return context.Cause(c)
	}
}

// pace is the pacer's link in the chain: every attempt waits for its turn.
type pace struct {
	pacer *pacer
	next  http.RoundTripper
}

func (p pace) RoundTrip(req *http.Request) (*http.Response, error) {
	call := callFrom(req.Context())
	began, waiting := call.now, &call.client.counters.turnsWanted
	waiting.Add(1)
	err := p.pacer.wait(call) //nolint:contextcheck // the call is the context
	waiting.Add(-1)
	call.turnWait = call.now.Sub(began)
	if err != nil {
		if req.Body != nil {
			err = errors.Join(err, req.Body.Close())
		}
		return nil, err
	}
	return p.next.RoundTrip(req)
}
