package transport

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"time"
)

// pace is the pacer's link in the chain: every attempt waits for its turn.
type pace struct {
	pacer *pacer
	next  http.RoundTripper
}

func (p pace) RoundTrip(req *http.Request) (*http.Response, error) {
	call := callFrom(req.Context())
	waiting := &call.client.counters.turnsWanted
	waiting.Add(1)
	err := call.takeTurn(p.pacer) //nolint:contextcheck // the call is the context
	waiting.Add(-1)
	if err != nil {
		call.held = p.pacer.holding()
		if req.Body != nil {
			err = errors.Join(err, req.Body.Close())
		}
		return nil, err
	}
	return p.next.RoundTrip(req)
}

// takeTurn waits until the call may send a request. The wait costs the caller's
// context alone: the call timeout stands still.
func (c *call) takeTurn(p *pacer) error {
	wanted := c.now
	defer func() {
		c.now = time.Now()
		c.turnWait = c.now.Sub(wanted)
		c.waited += c.turnWait
	}()
	latest, err := c.latestTurn(wanted)
	if err != nil {
		return err
	}
	priority := Foreground
	if c.req.Background {
		priority = Background
	}
	if err := p.wait(c, priority, latest); err != nil {
		return err
	}
	if p.outer != nil {
		if err := c.outerTurn(p.outer, priority, latest); err != nil {
			p.done()
			return err
		}
	}
	c.hasTurn = true
	return nil
}

// latestTurn returns until when a turn is of use: the answer must arrive
// before the call must end. It is zero where nothing bounds the wait.
func (c *call) latestTurn(now time.Time) (time.Time, error) {
	await := c.req.await()
	if left := c.deadline().Sub(now); left <= await {
		return time.Time{}, c.noTime(left, await)
	}
	deadline, bounded := c.Deadline()
	if !bounded {
		return time.Time{}, nil
	}
	left := deadline.Sub(now)
	if left <= await {
		return time.Time{}, c.noTime(left, await)
	}
	// An answer takes a while after the work that is awaited. Where the caller
	// leaves little time in all, half of that is kept for it.
	return deadline.Add(-await - min(c.client.answers.typical(), (left-await)/2)), nil
}

func (c *call) noTime(left, await time.Duration) error {
	if await == 0 {
		return ErrTooLate
	}
	return fmt.Errorf("the API may hold its answer back for %v (Ricloud-Await), and the call must end in %v: %w",
		await, left.Round(time.Millisecond), ErrTooLate)
}

// outerTurn waits for a turn of the caller's Pacer.
func (c *call) outerTurn(outer Pacer, priority Priority, latest time.Time) error {
	ctx := context.Context(c)
	if !latest.IsZero() {
		left := time.Until(latest)
		var cancel context.CancelFunc
		ctx, cancel = context.WithDeadlineCause(ctx, latest, tooLate(left, left))
		defer cancel()
	}
	err := outer.Wait(ctx, priority)
	switch {
	case err == nil && (latest.IsZero() || !time.Now().After(latest)):
		return nil
	case c.Err() == nil && (err == nil || errors.Is(err, context.DeadlineExceeded)):
		return fmt.Errorf("the Pacer has no turn that leaves time for an answer: %w", ErrTooLate)
	case c.Err() != nil:
		return context.Cause(c)
	}
	return fmt.Errorf("the Pacer gave no turn: %w", err)
}
