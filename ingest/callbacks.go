package ingest

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"runtime/debug"
	"sync/atomic"
	"time"
)

const (
	observeTimeout = 2 * time.Minute // of a call of Handlers.Step or of a hook
	callbackGrace  = 5 * time.Second // beyond the end of its context
	maxLate        = 16              // calls of a callback that are no longer waited for
)

// callback counts the calls of a function of the user's that took too long and have not returned.
type callback struct {
	name string
	late atomic.Int32
}

var (
	errCallEnded = errors.New("ended its goroutine")
	errCallLate  = errors.New("did not return in time")
	errCallStuck = fmt.Errorf("is not called: %d of its calls have not returned", maxLate)
)

// call calls a function of the user's on a goroutine of its own, which it may end or hold up. It
// returns what waits for its result: for a time, and not much longer than ctx. Once maxLate calls
// have taken longer, no more are made until one of them returns.
func call[T any](
	ctx context.Context, r *runner, c *callback, atMost time.Duration, fn func() T,
) (wait func() (T, error)) {
	if c.late.Load() >= maxLate {
		return func() (none T, err error) { return none, errCallStuck }
	}
	timer, results := time.NewTimer(atMost), make(chan T, 1)
	var settled atomic.Bool // it has returned, or is late
	go func() {
		defer func() {
			close(results)
			if !settled.CompareAndSwap(false, true) {
				c.late.Add(-1)
			}
		}()
		r.contain(ctx, c.name, func() { results <- fn() })
	}()
	return func() (T, error) {
		defer timer.Stop()
		result, err := receive(ctx, results, timer.C)
		if !errors.Is(err, errCallLate) {
			return result, err
		}
		if late := c.late.Add(1); settled.CompareAndSwap(false, true) {
			r.log(ctx, "a call takes too long and is no longer waited for", slog.String("of", c.name),
				slog.Int("such calls", int(late)), slog.Int("until no more are made", maxLate))
		} else {
			c.late.Add(-1)
		}
		return result, err
	}
}

// receive waits for the result of a call until it is late, or until a moment after ctx has ended.
func receive[T any](
	ctx context.Context, results <-chan T, late <-chan time.Time,
) (none T, err error) {
	returned := func(result T, ok bool) (T, error) {
		if !ok {
			return none, errCallEnded
		}
		return result, nil
	}
	select { // it may have returned long ago
	case result, ok := <-results:
		return returned(result, ok)
	default:
	}
	select {
	case result, ok := <-results:
		return returned(result, ok)
	case <-late:
		return none, errCallLate
	case <-ctx.Done():
	}
	grace := time.NewTimer(callbackGrace)
	defer grace.Stop()
	select {
	case result, ok := <-results:
		return returned(result, ok)
	case <-late:
	case <-grace.C:
	}
	return none, errCallLate
}

// contain logs a panic and goes on. One of a hook must not lose a step, and one about something
// that is stored would end the process of every leader.
func (r *runner) contain(ctx context.Context, who string, call func()) {
	defer func() {
		if p := recover(); p != nil {
			r.log(ctx, "a panic", slog.String("in", who),
				slog.String("panic", maskedText(fmt.Sprint(p), r.passwords.all()...)),
				slog.String("stack", string(debug.Stack())))
		}
	}()
	call()
}
