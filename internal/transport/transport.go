// Package transport makes one call to the API. It waits for a turn, adds the
// credentials, sends the request, bounds its time, retries it, and reads the
// answer.
//
// go-retryablehttp runs the attempts; call.retry decides whether there is
// another. Each attempt passes the links of chain; every link has a file of its
// own.
package transport

import (
	"context"
	"fmt"
	"math"
	"net/http"
	"net/url"
	"time"

	"github.com/hashicorp/go-retryablehttp"
)

// Request is one call.
type Request struct {
	Operation  Operation
	ID         string // for the path's "{id}"; escaped here
	URL        string // instead of Operation.Path: a URL relative to the base, as lists carry it
	Query      url.Values
	Body       []byte        // JSON, or nil for none
	Await      time.Duration // Ricloud-Await, sent only where the operation honours it
	Replay     bool          // the caller allows a replay the operation does not
	Single     bool          // one attempt, whatever the operation allows
	Background bool          // other calls go first when turns are scarce
	Secrets    []string      // values masked in error bodies and causes, should the server echo them
	Redirected func()        // called for each request that follows a redirect; may be nil
}

// Response is an answer of any status, read whole.
type Response struct {
	Operation  string // whose answer it is
	StatusCode int
	Header     http.Header
	Body       []byte        // error bodies are cut at 64 KiB, with secrets masked
	RetryAfter time.Duration // the server's hint on a 429 or 503; 0: none
	Attempts   []Attempt
	Duration   time.Duration // from the start of the call to the last byte
	Ended      time.Time     // when the last byte came

	// MaybeApplied says, of an answer of 400 or more, that the server may have
	// acted on this attempt or an earlier one. Always false for a GET.
	MaybeApplied bool

	call *call
}

// Masked returns the body with the call's secrets and the queries of URLs masked,
// for an error that quotes from it.
func (r *Response) Masked() []byte {
	return []byte(WithoutQueries(string(r.call.mask(r.Body))))
}

// Attempt is one request that was tried.
type Attempt struct {
	StatusCode int           // 0: no answer
	Err        error         // why there was no usable answer
	Duration   time.Duration // from sending to the last byte, or to the failure
	Wait       time.Duration // before the next attempt; shorter if the context ended
}

// Failure is a call without a usable answer.
type Failure struct {
	Cause        error     // the context's cause, or what broke the last attempt
	Last         *Response // the last answer of 400 or more, if there was one
	Attempts     []Attempt
	Duration     time.Duration
	NotSent      bool // no attempt was sent, as far as its error or delivery proves
	MaybeApplied bool // the server may have acted on the request; always false for a GET
}

// Error names the cause only: Cause never carries a URL's query or a header.
func (f *Failure) Error() string { return f.Cause.Error() }

// Unwrap returns the cause.
func (f *Failure) Unwrap() error { return f.Cause }

// Client makes calls. It is safe for concurrent use.
type Client struct {
	cfg      Config
	base     *url.URL
	prefix   string               // base's path, escaped
	loop     retryablehttp.Client // runs the attempts; checkRetry says how many
	pacer    *pacer
	answers  answerTimes
	counters counters
	outage   outage
	bare     http.RoundTripper
	own      *http.Transport // nil when the caller brought one

	attemptTimeout, callTimeout, stallTimeout *Timeout

	header   http.Header // of every request; its values are shared
	unsigned http.Header // empty: what http.Client gets, and only reads
}

// New checks cfg and returns a Client. It does no I/O.
func New(cfg Config) (*Client, error) {
	base, err := ParseBaseURL(cfg.BaseURL, cfg.AllowHTTP)
	if err != nil {
		return nil, fmt.Errorf("base URL %w", err)
	}
	if err := cfg.complete(); err != nil {
		return nil, err
	}
	c := &Client{
		cfg:            cfg,
		base:           base,
		prefix:         base.EscapedPath(),
		pacer:          newPacer(&cfg),
		outage:         newOutage(&cfg),
		attemptTimeout: &Timeout{"attempt", cfg.AttemptTimeout},
		callTimeout:    &Timeout{"call", cfg.CallTimeout},
		stallTimeout:   &Timeout{"stall", cfg.StallTimeout},
		header:         http.Header{"Accept": {"application/json"}},
		unsigned:       http.Header{},
	}
	if cfg.UserAgent != "" {
		c.header["User-Agent"] = []string{cfg.UserAgent}
	}
	c.bare = cfg.Transport
	if c.bare == nil {
		c.own = newTransport(cfg.Proxy)
		c.bare = c.own
	}
	c.loop.HTTPClient = &http.Client{Transport: chain(c.bare)}
	c.loop.RetryMax = math.MaxInt // checkRetry counts the attempts
	c.loop.CheckRetry = checkRetry
	c.loop.Backoff = func(_, _ time.Duration, _ int, _ *http.Response) time.Duration {
		return 0 // checkRetry has waited
	}
	c.loop.ErrorHandler = retryablehttp.PassthroughErrorHandler
	return c, nil
}

// chain returns the links that each attempt passes on its way to base. They are
// written outermost first:
//
//   - sign gives the request its header, with the credentials.
//   - pace waits for a turn.
//   - observe shows the attempt, which has its turn, to the hooks.
//   - redirect follows a GET on the same host, and refuses other redirects.
//   - deliver records whether a create was sent, and keeps net/http from
//     repeating it.
//   - timeouts bounds the time to the headers, then each silence in the body.
//
// None of them has a CloseIdleConnections, so that go-retryablehttp, which calls
// it after every failed call, cannot flush the shared pool.
func chain(base http.RoundTripper) http.RoundTripper {
	return sign{pace{observe{redirect{deliver{timeouts{base}}}}}}
}

// Do makes one call. An answer of any status is a Response. Without an answer,
// the error is a *Failure. If a field of req is wrong, nothing is sent, and the
// error names the field.
//
// An attempt is repeated when its outcome is transient and repeating is safe:
// the operation or the request allows a replay, or it is proven that the
// server did not act (no connection was made, or it answered 429). A DELETE
// that finds nothing (404, 410) after an attempt of unknown outcome has done
// its work: its Response has status 204 and no body.
func (c *Client) Do(ctx context.Context, req *Request) (*Response, error) {
	now := time.Now()
	call := &call{Context: ctx, client: c, req: req, began: now, now: now}
	call.attempts = call.first.attempt[:0]
	call.hopeless = c.outage.lasts(now)
	if err := call.prepare(); err != nil { //nolint:contextcheck // the call is the context
		return nil, fmt.Errorf("%s: %w", req.Operation.Name, err)
	}
	if ctx.Err() != nil {
		return call.end()
	}
	// checkRetry has put the outcome into call, unless the context ended.
	if resp, _ := c.loop.Do(&call.http); resp != nil {
		_ = resp.Body.Close()
	}
	return call.end()
}

// prepare checks the request and builds what all attempts send.
func (c *call) prepare() (err error) {
	req := c.req
	if c.url, err = c.client.target(req); err != nil {
		return err
	}
	if !isToken(req.Operation.Method) {
		return fmt.Errorf("method %q is not valid", req.Operation.Method)
	}
	if req.Await < 0 {
		return fmt.Errorf("await must not be negative, is %v", req.Await)
	}
	c.header = c.client.headerOf(req)
	c.timer = &c.first.timer
	c.http.Request = (&http.Request{
		Method: req.Operation.Method,
		URL:    &c.url,
		Host:   c.url.Host,
		Header: c.client.unsigned,
	}).WithContext(c.timer.begin(c))
	if req.Body == nil {
		return nil
	}
	return c.http.SetBody(req.Body)
}

// Host returns the API's host, and its port if the base URL names one.
func (c *Client) Host() string { return c.base.Host }

// Paused returns how long no request is sent because the API has asked for a pause.
func (c *Client) Paused(now time.Time) time.Duration { return c.pacer.pausedFor(now) }

// Bare returns the transport below the links. It adds no credentials and does
// not retry. Result files are read through it.
func (c *Client) Bare() http.RoundTripper { return c.bare }

// Close closes idle connections of a transport the Client made itself.
func (c *Client) Close() {
	if c.own != nil {
		c.own.CloseIdleConnections()
	}
}
