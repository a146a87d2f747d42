package transport

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"sync/atomic"
	"time"
)

// Timeout is a limit that was reached. It is a context.DeadlineExceeded.
type Timeout struct {
	Limit string // "attempt", "call" or "stall"
	After time.Duration
}

// Error names the limit and what it bounds.
func (t *Timeout) Error() string {
	switch t.Limit {
	case "attempt":
		return fmt.Sprintf("no answer within %v (attempt timeout)", t.After)
	case "stall":
		return fmt.Sprintf("the answer went silent for %v (stall timeout)", t.After)
	}
	return fmt.Sprintf("not done within %v (%s timeout)", t.After, t.Limit)
}

// Timeout makes it a net.Error's timeout.
func (t *Timeout) Timeout() bool { return true }

// Is reports that every Timeout is a context.DeadlineExceeded.
func (t *Timeout) Is(target error) bool { return target == context.DeadlineExceeded }

// await is the wait that is asked of the server: whole seconds, as the header carries them.
func (r *Request) await() time.Duration {
	if !r.Operation.Await {
		return 0
	}
	return min(MaxAwait, (r.Await + time.Second - 1).Truncate(time.Second))
}

// timeouts bounds each attempt: first the time to the headers, then each
// silence in the body, and both by what is left of the whole call.
type timeouts struct{ next http.RoundTripper }

func (t timeouts) RoundTrip(req *http.Request) (*http.Response, error) {
	call := callFrom(req.Context())
	ctx, cancel := context.WithCancelCause(req.Context())
	guard := &guard{call: call, ctx: ctx, cancel: cancel}
	limit := call.client.attemptTimeout
	if await := call.req.await(); await > 0 {
		limit = &Timeout{limit.Limit, limit.After + await}
	}
	guard.timer = time.AfterFunc(guard.next(limit), guard.expire)
	call.sent, call.start = true, time.Now()
	resp, err := t.next.RoundTrip(req.WithContext(ctx))
	if err != nil {
		guard.stop()
		return nil, guard.name(err)
	}
	guard.body, resp.Body = resp.Body, guard
	guard.timer.Reset(guard.next(call.client.stallTimeout))
	return resp, nil
}

// guard is a body that ends its attempt when it goes silent.
type guard struct {
	call   *call
	body   io.ReadCloser
	timer  *time.Timer
	limit  atomic.Pointer[Timeout] // what the timer stands for now
	ctx    context.Context         //nolint:containedctx // the attempt's own, which ends with the body
	cancel context.CancelCauseFunc
}

// next names the limit that is in force from now, and returns how long it lasts.
func (g *guard) next(limit *Timeout) time.Duration {
	after := limit.After
	if left := time.Until(g.call.deadline()); left < after {
		limit, after = g.call.client.callTimeout, left
	}
	g.limit.Store(limit)
	return after
}

func (g *guard) expire() { g.cancel(g.limit.Load()) }

// name returns the limit that ended the attempt in place of what it broke.
func (g *guard) name(err error) error {
	if timeout, ok := context.Cause(g.ctx).(*Timeout); ok { //nolint:errorlint // the cause is stored bare, by expire
		return timeout
	}
	return err
}

func (g *guard) stop() {
	g.timer.Stop()
	if g.ctx.Err() == nil {
		g.cancel(nil)
	}
}

func (g *guard) Read(p []byte) (int, error) {
	n, err := g.body.Read(p)
	if err == nil {
		g.timer.Reset(g.next(g.call.client.stallTimeout))
	} else if !errors.Is(err, io.EOF) {
		err = g.name(err)
	}
	return n, err
}

func (g *guard) Close() error {
	g.stop()
	return g.body.Close()
}
