package download

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync/atomic"
	"time"
)

// Timeout is the limit that ended an attempt. It is
// context.DeadlineExceeded.
type Timeout struct {
	Limit string // what took too long
	After time.Duration
}

// Error says what took too long.
func (t *Timeout) Error() string { return fmt.Sprintf("%s for %s", t.Limit, t.After) }

// Is reports whether target is context.DeadlineExceeded.
func (t *Timeout) Is(target error) bool { return target == context.DeadlineExceeded }

// attempt is one open object. Each read from it has a timeout.
type attempt struct {
	object *Object
	ctx    context.Context //nolint:containedctx // ends with the attempt
	cancel context.CancelCauseFunc
	open   Timeout
	stall  Timeout
	limit  atomic.Pointer[Timeout] // what the timer is for: open or stall
	timer  *time.Timer
}

// open opens an object within the limits.
func (l Limits) open(ctx context.Context, file *File, req Request) (*attempt, error) {
	a := &attempt{
		open:  Timeout{"storage did not answer", l.Open},
		stall: Timeout{"storage was silent", l.Stall},
	}
	a.ctx, a.cancel = context.WithCancelCause(ctx)
	a.limit.Store(&a.open)
	a.timer = time.AfterFunc(l.Open, func() { a.cancel(a.limit.Load()) })
	var err error
	a.object, err = file.Open(a.ctx, req) //nolint:contextcheck // ctx with a limit
	a.timer.Stop()
	a.limit.Store(&a.stall)
	if err == nil && (a.object == nil || a.object.Body == nil) {
		err = errors.New("storage returned no object and no error")
	}
	if err != nil {
		err = a.explain(err)
		a.cancel(nil)
		return nil, err
	}
	return a, nil
}

// Read reads within the stall timeout. The time between reads is the caller's.
func (a *attempt) Read(p []byte) (int, error) {
	a.timer.Reset(a.stall.After)
	n, err := a.object.Body.Read(p)
	a.timer.Stop()
	if err != nil && err != io.EOF { //nolint:errorlint // an io.Reader returns io.EOF bare
		err = a.explain(err)
	}
	return n, err
}

// explain returns the limit that was reached in place of what it broke. The error
// does not show the URLs that a client of storage names.
func (a *attempt) explain(err error) error {
	if timeout, ok := errors.AsType[*Timeout](context.Cause(a.ctx)); ok {
		return timeout
	}
	return HideURLErrors(err)
}

func (a *attempt) close() {
	a.timer.Stop()
	a.cancel(nil)
	_ = a.object.Body.Close()
}
