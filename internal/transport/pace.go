package transport

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"time"
)

// pace is the pacer's link in the chain: every attempt waits for its turn.
type pace struct{ next http.RoundTripper }

func (p pace) RoundTrip(req *http.Request) (*http.Response, error) {
	call := callFrom(req.Context())
	pacer, waiting := call.client.pacer, &call.client.counters.turnsWanted
	waiting.Add(1)
	err := call.takeTurn(pacer) //nolint:contextcheck // the call is the context
	waiting.Add(-1)
	if err != nil {
		call.held = pacer.holding()
		if req.Body != nil {
			err = errors.Join(err, req.Body.Close())
		}
		return nil, err
	}
	return p.next.RoundTrip(req)
}

// takeTurn waits until the call may send a request. Only the caller's context
// limits the wait: the call timeout does not count it.
func (c *call) takeTurn(p *pacer) error {
	wanted := c.now
	defer func() {
		c.now = time.Now()
		c.turnWait = c.now.Sub(wanted)
		c.waited += c.turnWait
	}()
	left, err := c.leftForTurn(wanted)
	if err != nil {
		return err
	}
	priority := Foreground
	if c.req.Background {
		priority = Background
	}
	latest := c.latestTurn(left)
	if err := p.wait(c, priority, latest); err != nil {
		return err
	}
	if p.outer != nil {
		if err := c.outerTurn(p.outer, priority, latest); err != nil {
			p.giveBack()
			return err
		}
	}
	// Answers may take longer now than when the call began to wait.
	if now := time.Now(); !latest.IsZero() && now.After(wanted) {
		if latest = c.latestTurn(left); now.After(latest) {
			p.giveBack()
			return tooLate(0, latest.Sub(now))
		}
	}
	c.hasTurn = true
	return nil
}

// takeNextTurn ends the turn of a request that was redirected, counts it, and waits
// for the turn of the one that follows. Both are part of one attempt, which does not
// count the wait.
func (c *call) takeNextTurn() error {
	c.timer.hold()
	c.hasTurn = false
	c.client.pacer.done()
	began, waited, turnWait := c.now, c.waited, c.turnWait
	c.now = time.Now()
	c.client.counters.redirected(c.now)
	err := c.takeTurn(c.client.pacer)
	c.now = began.Add(c.waited - waited)
	c.turnWait += turnWait
	if err == nil && c.req.Redirected != nil {
		c.req.Redirected()
	}
	return err
}

// leftForTurn returns how much time the caller's context leaves for the turn
// and the answer. It returns an error if that is less than the API is asked to
// await.
func (c *call) leftForTurn(now time.Time) (time.Duration, error) {
	await := c.req.await()
	left := c.deadline().Sub(now)
	if left <= await {
		return 0, c.noTime(left, await)
	}
	if deadline, bounded := c.Deadline(); bounded {
		if left = deadline.Sub(now); left <= await {
			return 0, c.noTime(left, await)
		}
	}
	return left, nil
}

// latestTurn returns the latest time at which a turn still leaves time for an
// answer before the context ends. left is the time for the turn and the answer
// together. If it is short, half of it is kept for the answer. The result is
// zero if the context has no deadline.
func (c *call) latestTurn(left time.Duration) time.Time {
	deadline, bounded := c.Deadline()
	if !bounded {
		return time.Time{}
	}
	await := c.req.await()
	return deadline.Add(-await - min(c.client.answers.typical(), (left-await)/2))
}

func (c *call) noTime(left, await time.Duration) error {
	if await == 0 {
		return ErrTooLate
	}
	return fmt.Errorf("the API may hold its answer back for %v (Ricloud-Await), and the call must "+
		"end in %v: %w",
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
