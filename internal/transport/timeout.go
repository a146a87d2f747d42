package transport

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"sync"
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
		return fmt.Sprintf("the answer brought no byte for %v (stall timeout)", t.After)
	}
	return fmt.Sprintf("not done within %v (%s timeout)", t.After, t.Limit)
}

// Timeout implements net.Error.
func (t *Timeout) Timeout() bool { return true }

// Is reports that every Timeout is a context.DeadlineExceeded.
func (t *Timeout) Is(target error) bool { return target == context.DeadlineExceeded }

// await is the wait that the server is asked for, in the header's whole seconds.
func (r *Request) await() time.Duration {
	if !r.Operation.Awaits() {
		return 0
	}
	return min(MaxAwait, (r.Await + time.Second - 1).Truncate(time.Second))
}

// timeouts bounds each attempt: first the time to the headers, anew for each
// redirect that is followed, then each silence in the body, and all of it by
// the time that the call has left.
type timeouts struct{ next http.RoundTripper }

func (t timeouts) RoundTrip(req *http.Request) (*http.Response, error) {
	call := callFrom(req.Context())
	now := call.now
	if call.sent { // and redirected
		now = time.Now()
	}
	limit := call.client.attemptTimeout
	if await := call.req.await(); await > 0 {
		limit = &Timeout{limit.Limit, max(limit.After, limit.After+await)} // the sum may overflow
	}
	if !call.sent {
		call.client.counters.begin(now, len(call.attempts) > 0)
	}
	call.sent = true
	call.timer.set(limit, now)
	resp, err := t.next.RoundTrip(req)
	switch {
	case err != nil:
		return nil, call.timer.name(err)
	case resp == nil:
		return nil, errors.New("the transport returned neither an answer nor an error")
	case resp.Body == nil: // as net/http lets a RoundTripper do
		resp.Body = http.NoBody
	}
	call.timer.body, resp.Body = resp.Body, call.timer
	return resp, nil
}

// attemptTimer ends one attempt when it reaches its limit. It stands in for the body
// of the answer, where each read has a limit of its own.
type attemptTimer struct {
	call   *call
	ctx    context.Context //nolint:containedctx // the attempt's own
	cancel context.CancelCauseFunc
	body   io.ReadCloser

	mu    sync.Mutex
	fixed bool     // no later limit replaces the one in force
	limit *Timeout // the one in force
	end   time.Time
	timer *time.Timer // nil until the attempt is sent
	rings time.Time   // when timer fires: at end or before
}

// begin makes the attempt's context.
func (t *attemptTimer) begin(call *call) context.Context {
	t.call = call
	t.ctx, t.cancel = context.WithCancelCause(call)
	return t.ctx
}

// set puts a limit in force from now on. It resets the timer only to fire
// earlier. A timer that fires before the end is reset then, so that reading a
// body does not reset it each time.
func (t *attemptTimer) set(limit *Timeout, now time.Time) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.fixed {
		return
	}
	t.limit, t.end = limit, now.Add(limit.After)
	if deadline := t.call.deadline(); deadline.Before(t.end) {
		t.limit, t.end = t.call.client.callTimeout, deadline
	}
	switch {
	case t.timer == nil:
		t.timer = time.AfterFunc(t.end.Sub(now), t.ring)
	case t.end.Before(t.rings):
		t.timer.Reset(t.end.Sub(now))
	default:
		return
	}
	t.rings = t.end
}

// hold puts no limit in force until the next set.
func (t *attemptTimer) hold() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.end = time.Now().Add(longest)
}

// bound ends the attempt after d whatever it still reads.
func (t *attemptTimer) bound(d time.Duration) {
	t.set(&Timeout{"body", d}, time.Now())
	t.mu.Lock()
	defer t.mu.Unlock()
	t.fixed = true
}

func (t *attemptTimer) ring() {
	t.mu.Lock()
	defer t.mu.Unlock()
	switch left := time.Until(t.end); {
	case t.ctx.Err() != nil: // finish came first
	case left > 0:
		t.rings = t.end
		t.timer.Reset(left)
	default:
		t.cancel(t.limit)
	}
}

// finish releases what the attempt held.
func (t *attemptTimer) finish() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.cancel(nil)
	if t.timer != nil {
		t.timer.Stop()
	}
}

// name returns the limit that ended the attempt, if one did, instead of the error
// that this caused.
func (t *attemptTimer) name(err error) error {
	//nolint:errorlint // the cause is stored bare, by ring
	if timeout, ok := context.Cause(t.ctx).(*Timeout); ok {
		return timeout
	}
	return err
}

func (t *attemptTimer) Read(p []byte) (int, error) {
	t.set(t.call.client.stallTimeout, time.Now())
	n, err := t.body.Read(p)
	if err != nil && !errors.Is(err, io.EOF) {
		err = t.name(err)
	}
	return n, err
}

func (t *attemptTimer) Close() error { return t.body.Close() }
