package transport

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"time"

	"github.com/hashicorp/go-retryablehttp"

	"github.com/reincubate/ricloud-go/internal/backoff"
	"github.com/reincubate/ricloud-go/internal/download"
)

// call is the state of one Do. It is also the context of its requests: the
// caller's, with the call itself as a value, so that every link finds it. Only
// one link uses it at a time.
type call struct {
	context.Context //nolint:containedctx // it is one

	client *Client
	req    *Request
	began  time.Time
	now    time.Time     // the time at the start, after each attempt, and after each wait
	waited time.Duration // the time spent waiting for turns, which no call timeout counts
	url    url.URL
	header http.Header           // as sent
	http   retryablehttp.Request // what the next attempt sends

	timer    *attemptTimer // of this attempt, or the next
	delivery *delivery     // of this attempt, if it may not be repeated blindly
	hasTurn  bool          // this attempt has a turn that has not ended
	sent     bool          // this attempt was handed to the transport
	hopeless bool          // when the call began, the API had not answered for long

	turnWait time.Duration // this attempt waited for its turn
	ended    func(Attempt) // tells the observer how this attempt ended; may be nil

	attempts     []Attempt
	unacted      bool      // this attempt failed, and it is proven that the server did not act
	maybeSent    bool      // an attempt may have been sent
	maybeApplied bool      // an attempt's outcome is unknown
	last         *Response // the last answer of 400 or more
	held         *Response // the 429 that kept the call from being sent
	answer       *Response // the answer that ends the call
	cause        error     // why the call ends without an answer

	first struct { // the first attempt's; most calls need no second, and allocate nothing
		timer   attemptTimer
		attempt [1]Attempt
		answer  Response
	}
}

type callKey struct{}

// Value makes the call its own context's value.
func (c *call) Value(key any) any {
	if key == (callKey{}) {
		return c
	}
	return c.Context.Value(key)
}

func callFrom(ctx context.Context) *call {
	c, _ := ctx.Value(callKey{}).(*call) // Do has put it there
	return c
}

// deadline is where the call timeout ends, unless the call waits for a turn.
func (c *call) deadline() time.Time { return c.began.Add(c.client.cfg.CallTimeout + c.waited) }

// left returns the time until the call must end, by its timeout or its context.
func (c *call) left() time.Duration {
	end := c.deadline()
	if deadline, ok := c.Deadline(); ok && deadline.Before(end) {
		end = deadline
	}
	return time.Until(end)
}

// once reports whether a request of unknown outcome must not be sent again.
func (c *call) once() bool { return c.req.Operation.Once() && !c.req.Replay }

// changes reports whether the request may change something.
func (c *call) changes() bool { return c.req.Operation.Method != http.MethodGet }

// checkRetry is go-retryablehttp's CheckRetry. It never returns an error, which
// would replace what happened.
func checkRetry(ctx context.Context, resp *http.Response, err error) (bool, error) {
	return callFrom(ctx).retry(resp, err), nil //nolint:contextcheck // the call is the context
}

// retry ends an attempt. It returns true once it is time for another. Otherwise
// it records in the call how the call ended. It waits itself, because the
// library's own wait does not know the call, nor the cause of its context.
func (c *call) retry(resp *http.Response, err error) bool {
	// No turn, no attempt.
	if !c.sent {
		c.endTurn()
		c.cause = c.clean(err)
		return false
	}

	// Read the answer, and note what it says about the client and the call.
	answer, attempt := c.endAttempt(resp, err)

	// Decide.
	wait := c.retryWait(attempt, answer)
	again := wait >= 0
	if again {
		attempt.Wait = wait
	}
	c.client.counters.end(attempt)
	c.observed(attempt)
	c.log(attempt, again)

	// Wait, unless logging has taken the time that was left for it.
	if again && wait < c.left() {
		c.cause = backoff.Sleep(c, wait)
		c.now = time.Now()
		if c.cause == nil {
			c.begin(new(attemptTimer))
		}
		return c.cause == nil
	}
	if again {
		attempt.Wait, c.now = 0, time.Now()
	}
	if c.answer = answer; answer == nil {
		c.cause = attempt.Err
	}
	return false
}

// begin prepares the next attempt.
func (c *call) begin(timer *attemptTimer) {
	c.timer, c.delivery = timer, nil
	c.http.Request = c.http.Request.WithContext(timer.begin(c))
	c.http.Header = c.client.unsigned
}

// endTurn lets other requests have their turn.
func (c *call) endTurn() {
	c.timer.finish()
	if c.hasTurn {
		c.hasTurn = false
		c.client.pacer.done()
	}
}

// endAttempt records the attempt. It reads the whole answer first, so that an
// answer that is cut short is retried like one that never came.
func (c *call) endAttempt(resp *http.Response, err error) (*Response, *Attempt) {
	c.sent, c.unacted = false, false
	sent := c.now
	c.attempts = append(c.attempts, Attempt{})
	attempt := &c.attempts[len(c.attempts)-1]
	answer, err := c.read(resp, err, attempt)
	switch {
	case answer == nil:
	case answer.StatusCode == http.StatusTooManyRequests:
		c.client.pacer.limited(answer, sent, c.client.cfg.RetryAfterMax)
	default:
		c.client.pacer.answered()
	}
	c.endTurn() // before Close, which may wait for the end of the request
	if resp != nil {
		_ = resp.Body.Close()
		resp.Body = http.NoBody
	}
	c.now = time.Now()
	c.noteOutage(answer)
	attempt.Duration = c.now.Sub(sent)
	attempt.Err = err
	if answer != nil {
		c.client.answers.add(attempt.Duration - c.req.await())
	}
	return answer, attempt
}

// read reads the answer. Its error is safe to print.
func (c *call) read(resp *http.Response, err error, attempt *Attempt) (*Response, error) {
	if err != nil {
		err = connectRefusal(c.client.bare, err)
		unsent := c.notSent(err)
		c.unacted = unsent || isRefusedStream(download.WithoutURLError(err))
		c.maybeSent = c.maybeSent || !unsent
		c.maybeApplied = c.maybeApplied || c.changes() && !c.unacted
		return nil, c.clean(err)
	}
	c.maybeSent = true
	attempt.StatusCode = resp.StatusCode
	if c.req.Operation.Method == http.MethodHead {
		resp.ContentLength = 0 // it announces a body that does not come
	}
	body, err := c.readBody(resp)
	if err != nil { // the status may have been a success
		c.maybeApplied = c.maybeApplied || c.changes()
		return nil, c.clean(err)
	}
	answer := new(Response)
	if len(c.attempts) == 1 {
		answer = &c.first.answer
	}
	*answer = Response{
		Operation: c.req.Operation.Name, StatusCode: resp.StatusCode, Header: resp.Header,
		Body: body, call: c,
	}
	return c.accept(answer), nil
}

// readBody reads the body of an answer, unless its status cannot have one.
func (c *call) readBody(resp *http.Response) ([]byte, error) {
	switch {
	case resp.StatusCode < http.StatusOK:
		// The body of a 101 is the connection itself, which no limit would end.
		return nil, fmt.Errorf("the status %d %s does not answer the request",
			resp.StatusCode, http.StatusText(resp.StatusCode))
	case resp.StatusCode >= http.StatusBadRequest:
		c.timer.bound(min(maxErrorTime, c.client.cfg.StallTimeout))
	}
	return readBody(resp, c.client.cfg.MaxBody)
}

// accept notes what an answer says about the call as a whole.
func (c *call) accept(answer *Response) *Response {
	status := answer.StatusCode
	if status < http.StatusBadRequest {
		return answer
	}
	c.unacted = provesNoAction(status, answer.Body)
	gone := status == http.StatusNotFound || status == http.StatusGone
	gone = gone && (c.unacted || len(answer.Body) == 0) // a proxy's page says nothing of the resource
	if gone && c.req.Operation.Method == http.MethodDelete && c.maybeApplied {
		answer.StatusCode, answer.Body = http.StatusNoContent, nil // an earlier attempt deleted it
		return answer
	}
	c.maybeApplied = c.maybeApplied || c.changes() && !c.unacted
	answer.Body = answer.Masked()
	answer.Body = answer.Body[:min(len(answer.Body), maxErrorBody)]
	answer.RetryAfter = retryAfter(status, answer.Header)
	c.last = answer
	return answer
}

// retryWait returns how long to wait for another attempt, or -1 for none.
func (c *call) retryWait(attempt *Attempt, answer *Response) time.Duration {
	cfg := &c.client.cfg
	if c.req.Single || c.hopeless || len(c.attempts) > cfg.MaxRetries || c.Err() != nil {
		return -1
	}
	var hint time.Duration
	if answer == nil {
		if permanent(attempt.Err) || c.once() && !c.unacted {
			return -1
		}
	} else {
		hint = answer.RetryAfter
		limited := answer.StatusCode == http.StatusTooManyRequests && c.unacted
		if !transient(answer.StatusCode) || c.once() && !limited {
			return -1
		}
	}
	wait := max(hint, backoff.Jitter(len(c.attempts)-1, cfg.RetryWaitMin, cfg.RetryWaitMax))
	if hint > cfg.RetryAfterMax || wait+c.req.await() >= c.left() {
		return -1
	}
	return wait
}

// notSent reports whether it is proven that the request was not sent. Once there
// was a connection, the kind of an error proves nothing: what a proxy injects
// into it can look like a failed handshake.
func (c *call) notSent(err error) bool {
	switch {
	case c.delivery.notSent(), c.client.own != nil && c.delivery.noConnection():
		return true
	case c.delivery.hasConnection():
		return false
	}
	return notSent(download.WithoutURLError(err))
}

// end returns how the call ended.
func (c *call) end() (*Response, error) {
	duration := c.now.Sub(c.began)
	if c.answer != nil {
		c.answer.Attempts, c.answer.Duration, c.answer.Ended = c.attempts, duration, c.now
		c.answer.MaybeApplied = c.maybeApplied && c.answer.StatusCode >= http.StatusBadRequest
		return c.answer, nil
	}
	if c.Err() != nil && !errors.Is(c.cause, ErrTooLate) {
		c.cause = backoff.Cause(c.Context)
	}
	if c.last != nil {
		c.last.Attempts, c.last.Duration, c.last.MaybeApplied = c.attempts, duration, c.maybeApplied
	} else {
		c.last = c.held
	}
	return nil, &Failure{
		Cause:        c.cause,
		Last:         c.last,
		Attempts:     c.attempts,
		Duration:     duration,
		NotSent:      !c.maybeSent,
		MaybeApplied: c.maybeApplied,
	}
}
