// Package transport makes one call to the API: it paces, signs, sends, times
// out, retries and reads, and says plainly how it ended. One link a file.
package transport

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"net/url"
	"time"
)

// Config is everything a Client needs. Zero durations and sizes take the
// defaults below; a Client has no call without limits.
type Config struct {
	BaseURL   string            // scheme, host and an optional path prefix, which is kept
	AllowHTTP bool              // allow http:// to a host that is not loopback
	Authorize func(http.Header) // sets the credentials; called for requests to BaseURL's host only
	UserAgent string
	Transport http.RoundTripper // nil: an own net/http transport with bounded dial, TLS and header times
	Logger    *slog.Logger      // nil: silent

	AttemptTimeout time.Duration // one attempt, from connect to headers; an Await value is added
	CallTimeout    time.Duration // the whole call: attempts, waits and body
	StallTimeout   time.Duration // the longest silence while a body is read
	MaxRetries     int           // after the first attempt; negative: none
	RetryWaitMin   time.Duration // ceiling of the first back-off
	RetryWaitMax   time.Duration // ceiling of every back-off
	RetryAfterMax  time.Duration // longest server hint that is waited for
	MaxBody        int64         // bytes of a success body, after decompression

	RateLimit int           // calls per RatePeriod; 0: unpaced
	RatePer   time.Duration // the period of RateLimit
}

// Request is one call.
type Request struct {
	Operation  Operation
	Params     []string // values for the path's "{id}"s, in order; escaped here
	URL        string   // instead of Operation.Path: a URL relative to the base, as lists carry it
	Query      url.Values
	Header     http.Header
	Body       []byte        // JSON, or nil for none
	Await      time.Duration // Ricloud-Await, sent only where the operation honours it
	Replay     bool          // the caller allows a replay the operation does not
	Background bool          // yields to calls that are not when the rate limit is short
	Secrets    []string      // masked wherever the answer of an error repeats them
}

// Response is an answer of any status, read whole.
type Response struct {
	StatusCode int
	Header     http.Header
	Body       []byte        // error bodies are cut at 64 KiB
	RetryAfter time.Duration // the server's hint; 0: none
	Attempts   []Attempt
	Duration   time.Duration // from the call's begin to the last byte
}

// Attempt is one request that was tried.
type Attempt struct {
	StatusCode int           // 0: no answer
	Err        error         // why there was no usable answer
	Duration   time.Duration // from send to headers or failure
	Wait       time.Duration // how long was waited after it before the next
}

// Failure is a call without a usable answer.
type Failure struct {
	Cause        error     // the context's cause, or what broke the last attempt
	Last         *Response // the last answer of 400 or more, if there was one
	Attempts     []Attempt
	Duration     time.Duration
	MaybeApplied bool // the server may have acted on the request
}

// Error names the cause only: Cause never carries a URL's query or a header.
func (f *Failure) Error() string { return f.Cause.Error() }

// Unwrap returns the cause.
func (f *Failure) Unwrap() error { return f.Cause }

// Client makes calls. It is safe for concurrent use.
type Client struct{ cfg Config }

// New checks cfg and returns a Client. It does no I/O.
func New(cfg Config) (*Client, error) { return &Client{cfg: cfg}, nil }

// Do makes one call. An answer of any status is a Response; everything else
// is a *Failure, or an error that names the field of req that is wrong, before
// anything was sent.
func (c *Client) Do(ctx context.Context, req *Request) (*Response, error) {
	_, _ = ctx, req
	return nil, errors.New("the call is not wired yet")
}

// Close closes idle connections of a transport the Client made itself.
func (c *Client) Close() {}
