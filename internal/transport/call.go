package transport

import (
	"context"
	"errors"
	"net/http"
	"time"

	"github.com/hashicorp/go-retryablehttp"
)

// call is the state of one Do. The links find it through the context; only one
// of them runs at a time.
type call struct {
	client *Client
	req    *Request
	began  time.Time
	header http.Header           // as sent
	http   retryablehttp.Request // what every attempt sends
	loop   retryablehttp.Client  // in here, like http, to save an allocation

	sent  bool // this attempt was handed to the transport
	start time.Time

	attempts     []Attempt
	first        [1]Attempt // most calls need no more
	maybeApplied bool       // an attempt's outcome is unknown
	last         *Response  // the last answer of 400 or more
	answer       *Response  // the answer that ends the call
	cause        error      // or what ends it without one
}

type callKey struct{}

func callFrom(ctx context.Context) *call {
	c, _ := ctx.Value(callKey{}).(*call) // Do has put it there
	return c
}

// deadline is where the budget of the whole call ends.
func (c *call) deadline() time.Time { return c.began.Add(c.client.cfg.CallTimeout) }

// left is what remains until the call must end, by its budget or its context.
func (c *call) left(ctx context.Context) time.Duration {
	end := c.deadline()
	if deadline, ok := ctx.Deadline(); ok && deadline.Before(end) {
		end = deadline
	}
	return time.Until(end)
}

// judge is go-retryablehttp's CheckRetry: it records the attempt and decides
// whether there is another. It never returns an error, which would replace
// what happened.
func (c *call) judge(ctx context.Context, resp *http.Response, err error) (bool, error) {
	if !c.sent { // its turn did not come
		c.cause = c.clean(err)
		return false, nil
	}
	c.sent = false
	c.attempts = append(c.attempts, Attempt{})
	attempt := &c.attempts[len(c.attempts)-1]
	answer, err := c.read(resp, err, attempt)
	attempt.Duration = time.Since(c.start)
	attempt.Err = err

	again := c.repeats(ctx, attempt, answer)
	switch {
	case again:
	case answer != nil:
		c.answer = answer
	default:
		c.cause = err
	}
	c.log(ctx, attempt, again)
	return again, nil
}

// read takes the whole answer off the wire, so that one that is cut short can
// be asked for again like one that never came.
func (c *call) read(resp *http.Response, err error, attempt *Attempt) (*Response, error) {
	unknown := false
	if err == nil {
		attempt.StatusCode = resp.StatusCode
		var body []byte
		body, err = readBody(resp, c.client.cfg.MaxBody)
		resp.Body = http.NoBody
		if err == nil {
			return c.accept(&Response{StatusCode: resp.StatusCode, Header: resp.Header, Body: body, call: c}), nil
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
func (c *call) repeats(ctx context.Context, attempt *Attempt, answer *Response) bool {
	cfg, replay := &c.client.cfg, c.req.Operation.Replay || c.req.Replay
	var hint time.Duration
	switch {
	case len(c.attempts) > cfg.MaxRetries, ctx.Err() != nil:
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
	wait := max(hint, fullJitter(len(c.attempts)-1, cfg.RetryWaitMin, cfg.RetryWaitMax))
	if hint > cfg.RetryAfterMax || wait >= c.left(ctx) {
		return false
	}
	attempt.Wait = wait
	return true
}

// backoff is go-retryablehttp's Backoff: the wait that repeats has chosen.
func (c *call) backoff(_, _ time.Duration, _ int, _ *http.Response) time.Duration {
	return c.attempts[len(c.attempts)-1].Wait
}

// end says how the call ended.
func (c *call) end(ctx context.Context) (*Response, error) {
	duration := time.Since(c.began)
	if c.answer != nil {
		c.answer.Attempts, c.answer.Duration = c.attempts, duration
		c.answer.MaybeApplied = c.maybeApplied && c.answer.StatusCode >= http.StatusBadRequest
		return c.answer, nil
	}
	if ctx.Err() != nil {
		c.cause = Ended(ctx)
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

// Ended says why ctx ended: its cause, which still is a context.Canceled or a
// context.DeadlineExceeded where the caller chose another cause.
func Ended(ctx context.Context) error {
	cause, err := context.Cause(ctx), ctx.Err()
	if errors.Is(cause, err) {
		return cause
	}
	return &ended{cause, err}
}

type ended struct{ cause, err error }

func (e *ended) Error() string   { return e.cause.Error() }
func (e *ended) Unwrap() []error { return []error{e.cause, e.err} }
