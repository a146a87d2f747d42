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
	if !r.Operation.Awaits() {
		return 0
	}
	return min(MaxAwait, (r.Await + time.Second - 1).Truncate(time.Second))
}

// timeouts bounds each attempt: first the time to the headers, anew for each
// redirect that is followed, then each silence in the body, and all of it by
// what is left of the whole call.
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
	call.guard.set(limit, now)
	resp, err := t.next.RoundTrip(req)
	switch {
	case err != nil:
		return nil, call.guard.name(err)
	case resp == nil:
		return nil, errors.New("the transport returned neither an answer nor an error")
	case resp.Body == nil: // as net/http lets a RoundTripper do
		resp.Body = http.NoBody
	}
	call.guard.body, resp.Body = resp.Body, call.guard
	return resp, nil
}

// guard ends one attempt when it reaches its limit. It stands in for the body
// of the answer, where each read has a limit of its own.
type guard struct {
	call   *call
	ctx    context.Context //nolint:containedctx // the attempt's own
	cancel context.CancelCauseFunc
	body   io.ReadCloser

	mu    sync.Mutex
	limit *Timeout // in force now
	end   time.Time
	timer *time.Timer // nil until the attempt is sent
	rings time.Time   // not after end
}

// begin makes the attempt's context.
func (g *guard) begin(call *call) context.Context {
	g.call = call
	g.ctx, g.cancel = context.WithCancelCause(call)
	return g.ctx
}

// set puts a limit in force, now. The timer is touched only to ring earlier;
// one that rings too early is set anew then, so that a body that flows costs no
// timers.
func (g *guard) set(limit *Timeout, now time.Time) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.limit, g.end = limit, now.Add(limit.After)
	if deadline := g.call.deadline(); deadline.Before(g.end) {
		g.limit, g.end = g.call.client.callTimeout, deadline
	}
	switch {
	case g.timer == nil:
		g.timer = time.AfterFunc(g.end.Sub(now), g.ring)
	case g.end.Before(g.rings):
		g.timer.Reset(g.end.Sub(now))
	default:
		return
	}
	g.rings = g.end
}

func (g *guard) ring() {
	g.mu.Lock()
	defer g.mu.Unlock()
	switch left := time.Until(g.end); {
	case g.ctx.Err() != nil: // finish came first
	case left > 0:
		g.rings = g.end
		g.timer.Reset(left)
	default:
		g.cancel(g.limit)
	}
}

// finish releases what the attempt held.
func (g *guard) finish() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.cancel(nil)
	if g.timer != nil {
		g.timer.Stop()
	}
}

// name returns the limit that ended the attempt in place of what it broke.
func (g *guard) name(err error) error {
	if timeout, ok := context.Cause(g.ctx).(*Timeout); ok { //nolint:errorlint // the cause is stored bare, by ring
		return timeout
	}
	return err
}

func (g *guard) Read(p []byte) (int, error) {
	g.set(g.call.client.stallTimeout, time.Now())
	n, err := g.body.Read(p)
	if err != nil && !errors.Is(err, io.EOF) {
		err = g.name(err)
	}
	return n, err
}

func (g *guard) Close() error { return g.body.Close() }
