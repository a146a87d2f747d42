package transport

import (
	"context"
	"net/http"
	"net/url"
	"time"

	"github.com/hashicorp/go-retryablehttp"

	"github.com/reincubate/ricloud-go/internal/backoff"
)

// call is the state of one Do; only one of the links works on it at a time. It
// is the caller's context, in which they find it.
type call struct {
	context.Context //nolint:containedctx // it is one

	client *Client
	req    *Request
	began  time.Time
	now    time.Time // at the begin, then after each attempt and each wait
	url    url.URL
	header http.Header           // as sent
	http   retryablehttp.Request // what the next attempt sends

	guard *guard // of this attempt, or the next
	sent  bool   // this attempt was handed to the transport

	turnWait time.Duration // this attempt waited for its turn
	ended    func(Attempt) // tells the observer how this attempt ended; may be nil

	attempts     []Attempt
	maybeApplied bool      // an attempt's outcome is unknown
	last         *Response // the last answer of 400 or more
	answer       *Response // the answer that ends the call
	cause        error     // or what ends it without one

	first struct { // most calls need no second
		guard   guard
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

// deadline is where the budget of the whole call ends.
func (c *call) deadline() time.Time { return c.began.Add(c.client.cfg.CallTimeout) }

// left is what remains until the call must end, by its budget or its context.
func (c *call) left() time.Duration {
	end := c.deadline()
	if deadline, ok := c.Deadline(); ok && deadline.Before(end) {
		end = deadline
	}
	return time.Until(end)
}

// judge is go-retryablehttp's CheckRetry: it records the attempt, decides
// whether there is another, and waits for it: the library's own wait knows
// neither the call nor the cause of its context's end. It never returns an
// error, which would replace what happened.
func judge(ctx context.Context, resp *http.Response, err error) (bool, error) {
	return callFrom(ctx).judge(resp, err), nil //nolint:contextcheck // the call is the context
}

func (c *call) judge(resp *http.Response, err error) bool {
	if !c.sent { // its turn did not come
		c.guard.finish()
		c.cause = c.clean(err)
		return false
	}
	c.sent = false
	c.attempts = append(c.attempts, Attempt{})
	attempt := &c.attempts[len(c.attempts)-1]
	answer, err := c.read(resp, err, attempt)
	c.guard.finish() // before Close, which may wait for the end of the request
	if resp != nil {
		_ = resp.Body.Close()
		resp.Body = http.NoBody
	}
	start := c.now
	c.now = time.Now()
	attempt.Duration = c.now.Sub(start)
	attempt.Err = err

	again := c.repeats(attempt, answer)
	c.client.counters.end(attempt)
	c.observed(attempt)
	c.log(attempt, again)
	if again {
		err := c.sleep(attempt.Wait)
		switch {
		case err == nil:
			c.guard = new(guard)
			c.http.Request = c.http.Request.WithContext(c.guard.begin(c))
			c.http.Header = c.client.unsigned
			return true
		case c.Err() != nil:
			c.cause = err
			return false
		}
		attempt.Wait = 0 // logging has taken the time that was left for it
	}
	if c.answer = answer; answer == nil {
		c.cause = attempt.Err
	}
	return false
}

// read takes the whole answer off the wire, so that one that is cut short can
// be asked for again like one that never came.
func (c *call) read(resp *http.Response, err error, attempt *Attempt) (*Response, error) {
	unknown := false
	if err == nil {
		attempt.StatusCode = resp.StatusCode
		var body []byte
		if c.req.Operation.Method == http.MethodHead {
			resp.ContentLength = 0 // it is that of the body which does not come
		}
		body, err = readBody(resp, c.client.cfg.MaxBody)
		if err == nil {
			answer := new(Response)
			if len(c.attempts) == 1 {
				answer = &c.first.answer
			}
			*answer = Response{StatusCode: resp.StatusCode, Header: resp.Header, Body: body, call: c}
			return c.accept(answer), nil
		}
		unknown = true // a success, for all the client can see of it
	}
	if c.req.Operation.Method != http.MethodGet && (unknown || !unsent(err)) {
		c.maybeApplied = true
	}
	return nil, c.clean(err)
}

// accept notes what an answer says about the call as a whole.
func (c *call) accept(answer *Response) *Response {
	status, method := answer.StatusCode, c.req.Operation.Method
	if status < http.StatusBadRequest {
		return answer
	}
	if gone := status == http.StatusNotFound || status == http.StatusGone; gone && method == http.MethodDelete && c.maybeApplied {
		answer.StatusCode, answer.Body = http.StatusNoContent, nil // an earlier attempt did it
		return answer
	}
	if method != http.MethodGet && !untouched(status) {
		c.maybeApplied = true
	}
	answer.Body = c.mask(answer.Body)
	answer.Body = answer.Body[:min(len(answer.Body), maxErrorBody)]
	answer.RetryAfter = retryAfter(status, answer.Header)
	if status == http.StatusTooManyRequests {
		c.client.pacer.pause(min(answer.RetryAfter, c.client.cfg.RetryAfterMax))
	}
	c.last = answer
	return answer
}

// repeats decides whether there is another attempt, and how long to wait for it.
func (c *call) repeats(attempt *Attempt, answer *Response) bool {
	cfg, replay := &c.client.cfg, !c.req.Operation.Once() || c.req.Replay
	var hint time.Duration
	switch {
	case len(c.attempts) > cfg.MaxRetries, c.Err() != nil:
		return false
	case answer == nil:
		unacted := attempt.StatusCode == 0 && unsent(attempt.Err)
		if permanent(attempt.Err) || !replay && !unacted {
			return false
		}
	default:
		hint = answer.RetryAfter
		if !transient(answer.StatusCode) || !replay && answer.StatusCode != http.StatusTooManyRequests {
			return false
		}
	}
	wait := max(hint, backoff.Jitter(len(c.attempts)-1, cfg.RetryWaitMin, cfg.RetryWaitMax))
	if hint > cfg.RetryAfterMax || wait >= c.left() {
		return false
	}
	attempt.Wait = wait
	return true
}

// end says how the call ended.
func (c *call) end() (*Response, error) {
	duration := c.now.Sub(c.began)
	if c.answer != nil {
		c.answer.Attempts, c.answer.Duration = c.attempts, duration
		c.answer.MaybeApplied = c.maybeApplied && c.answer.StatusCode >= http.StatusBadRequest
		return c.answer, nil
	}
	if c.Err() != nil {
		c.cause = backoff.Cause(c.Context)
	}
	if c.last != nil {
		c.last.Attempts, c.last.Duration, c.last.MaybeApplied = c.attempts, duration, c.maybeApplied
	}
	return nil, &Failure{
		Cause:        c.cause,
		Last:         c.last,
		Attempts:     c.attempts,
		Duration:     duration,
		MaybeApplied: c.maybeApplied,
	}
}
