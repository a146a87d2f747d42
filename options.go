package ricloud

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/url"
	"reflect"
	"strings"
	"time"

	"github.com/reincubate/ricloud-go/internal/transport"
	"github.com/reincubate/ricloud-go/internal/watch"
)

// Option configures a Client. NewClient returns a *ParamError for an option
// whose setting cannot work, and for a nil Option.
type Option func(*config)

type config struct {
	transport.Config

	polling watch.Rhythm
	storage map[string]ObjectOpener
	hooks   []Hook
	refused *ParamError // the first setting that cannot work

	fallbackProxy func(*http.Request) (*url.URL, error) // unless WithProxy sets one

	local          string // the folder of WithLocalFiles
	privateStorage bool
}

// refuse notes the first option that cannot work.
func (c *config) refuse(option, reason string) {
	if c.refused == nil {
		c.refused = &ParamError{Field: option, Reason: reason}
	}
}

// positive sets a duration that must be more than 0.
func (c *config) positive(option string, to *time.Duration, d time.Duration) {
	if d <= 0 {
		c.refuse(option, fmt.Sprintf("must be more than 0, is %v", d))
	}
	*to = d
}

// present refuses nil, and an interface that holds a nil.
func (c *config) present(option string, v any) bool {
	if isNil(v) {
		c.refuse(option, "must not be nil")
		return false
	}
	return true
}

// isNil reports whether v is nil, or an interface that holds a nil.
func isNil(v any) bool {
	if v == nil {
		return true
	}
	switch r := reflect.ValueOf(v); r.Kind() {
	case reflect.Pointer, reflect.Func, reflect.Map, reflect.Slice, reflect.Chan, reflect.Interface:
		return r.IsNil()
	default:
		return false
	}
}

// WithBaseURL sets the address of the API. A path prefix is kept. The default
// is DefaultBaseURL. Plain http:// is accepted for loopback hosts only, unless
// WithInsecureHTTP is set.
func WithBaseURL(base string) Option { return func(c *config) { c.BaseURL = base } }

// WithInsecureHTTP allows a plain http:// base URL on any host. The token and
// all data then travel unencrypted.
func WithInsecureHTTP() Option { return func(c *config) { c.AllowHTTP = true } }

// WithTransport sets what sends requests, to the API and to storage: a proxy
// with its own rules, a recorder for tests, or the sandbox. The Client adds
// timeouts, retries and the token before the transport gets a request.
//
// A transport sees everything that is secret: the token in the header, the
// passwords and codes in bodies, and the signed URLs of result files. Do not
// use it for traces, metrics or logs. An instrumented transport such as
// otelhttp's records whole URLs, signed ones included, and knows neither the
// operation nor the number of an attempt. [WithHooks], the module otel and
// [WithLogger] are made for that.
//
// An http.Transport of your own keeps only the words of a proxy's refusal. The Client
// understands the usual ones, such as "Forbidden", and takes any others for a failure
// that may pass.
//
// The default is a net/http transport of the Client's own, with bounded
// connection times and with HTTP/2 pings that find a dead connection within
// seconds. It uses no proxy, see WithProxy.
func WithTransport(rt http.RoundTripper) Option {
	return func(c *config) {
		if c.present("WithTransport", rt) {
			c.Transport = rt
		}
	}
}

// WithProxy sets the proxy of the Client's own transport: http.ProxyURL(u) for
// a fixed one, or http.ProxyFromEnvironment to obey HTTPS_PROXY and NO_PROXY.
// NewClient reads no environment by itself; NewClientFromEnv does. WithProxy
// and WithTransport exclude each other.
func WithProxy(proxy func(*http.Request) (*url.URL, error)) Option {
	return func(c *config) {
		if c.present("WithProxy", proxy) {
			c.Proxy = proxy
		}
	}
}

// WithUserAgent adds product, such as "acme-safety/2.1", to the User-Agent.
func WithUserAgent(product string) Option {
	return func(c *config) {
		switch {
		case product == "":
			c.refuse("WithUserAgent", "must not be empty")
		case strings.ContainsFunc(product, func(r rune) bool { return r < ' ' || r > '~' }):
			c.refuse("WithUserAgent", "must be printable ASCII on one line")
		}
		c.UserAgent = userAgent + " " + product
	}
}

// WithLogger logs each request to the API and each read of storage, once it has
// ended, as "ricloud attempt": at warn level if it will be tried again, and
// otherwise at debug level. The names of its fields are stable:
//
//	operation  "Sessions.Create"; "Call" for Client.Call
//	method     "POST"
//	path       the template, "/sessions/{id}"; empty for Call, absent for storage
//	host       "api.example.com:8443"; for an ObjectOpener, the bucket
//	attempt    1 for the first of a call or a download
//	status     0: there was no answer
//	duration   of the attempt; of storage, until the object was open
//	offset     only for storage: the first byte that was asked for
//	turn_wait  how long it waited for its turn, if for a millisecond or more
//	wait       before the next attempt, if there is one
//	cause      why there was no usable answer, if so
//
// A connection to storage that broke and is resumed is logged at warn level as
// "ricloud resume", with operation, method, host, attempt, offset, wait and
// cause. A field of an answer that had an odd type is logged at warn level as
// "ricloud odd value", with operation, path and reason. A hook that panics is
// logged at error level as "ricloud hook panicked". If the key may not list
// resources, waits are slow, and one record at warn level says so.
//
// No record holds a body, a header value or a query. The attributes of l are
// in every record: give each client l.With("tenant", name) to tell clients
// apart. The context of a call reaches l's handler. By default, nothing is
// logged.
func WithLogger(l *slog.Logger) Option {
	return func(c *config) {
		if c.present("WithLogger", l) {
			c.Logger = l
			if l.Handler() == nil {
				c.refuse("WithLogger", "has no handler")
			}
		}
	}
}

// WithAttemptTimeout bounds one attempt, from connecting to the headers of the
// answer. The duration of WithAwait is added to it. The default is 30 seconds.
func WithAttemptTimeout(d time.Duration) Option {
	return func(c *config) { c.positive("WithAttemptTimeout", &c.AttemptTimeout, d) }
}

// WithCallTimeout bounds a whole call: attempts, the waits between them, and
// reading the answer. Time spent waiting for a turn, with WithRateLimit or
// WithPacer or while the API has asked for a pause, does not count. The context
// of the call bounds all of it. The default is 2 minutes.
func WithCallTimeout(d time.Duration) Option {
	return func(c *config) { c.positive("WithCallTimeout", &c.CallTimeout, d) }
}

// WithStallTimeout bounds the silence while the body of an answer is read. The
// default is 30 seconds.
func WithStallTimeout(d time.Duration) Option {
	return func(c *config) { c.positive("WithStallTimeout", &c.StallTimeout, d) }
}

// WithRetries sets how many times a call is tried again after the first
// attempt. The default is 4; 0 turns retries off. A create whose outcome is
// unknown is never sent again, unless WithReplay allows it. One that was not
// sent, because there was no connection, is.
//
// What a retry cannot change ends the call at once: a certificate that is not
// valid, a host name that does not exist, and a proxy that refuses to connect
// with a status of 3xx or 4xx, such as 403 or 407.
//
// Retries are for short failures. While the API has answered no request of the
// Client for 30 seconds, a call makes one attempt only. Where the waits between
// the attempts of one call can add up to more than 7.5 seconds, it is four times
// their sum instead of 30 seconds.
func WithRetries(n int) Option {
	return func(c *config) {
		if n < 0 {
			c.refuse("WithRetries", fmt.Sprintf("must not be negative, is %d", n))
		}
		c.MaxRetries = n
		if n == 0 {
			c.MaxRetries = -1
		}
	}
}

// WithRetryWait bounds the waits between attempts. They are drawn at random
// below a ceiling that starts at first, doubles, and stops at longest. The
// defaults are 500 milliseconds and 30 seconds. When the API answers 429 without
// a Retry-After, the whole Client pauses. The first pause is 2 × first. Each
// further one is twice as long as the one before, up to longest / 2. After a
// pause, the Client starts again slowly.
func WithRetryWait(first, longest time.Duration) Option {
	return func(c *config) {
		c.positive("WithRetryWait", &c.RetryWaitMin, first)
		c.positive("WithRetryWait", &c.RetryWaitMax, longest)
		if longest < first {
			c.refuse("WithRetryWait", fmt.Sprintf("needs first <= longest, got %v and %v", first, longest))
		}
	}
}

// WithMaxRetryAfter sets the longest Retry-After that is waited for. A call
// that is told to wait longer returns its *Error at once. After a 429 with a
// Retry-After, all calls of the Client wait for it, up to this long. The
// default is 1 minute; 0 waits for none.
func WithMaxRetryAfter(d time.Duration) Option {
	return func(c *config) {
		if d < 0 {
			c.refuse("WithMaxRetryAfter", fmt.Sprintf("must not be negative, is %v", d))
		}
		c.RetryAfterMax = max(d, 1) // the transport reads 0 as the default; a hint has whole seconds
	}
}

// WithMaxBody bounds the body of an answer, in bytes after decompression. The
// default is 32 MiB. It does not bound result files.
func WithMaxBody(n int64) Option {
	return func(c *config) {
		if n <= 0 {
			c.refuse("WithMaxBody", fmt.Sprintf("must be more than 0, is %d", n))
		}
		c.MaxBody = n
	}
}

// WithRateLimit paces all requests of the Client, retries included, to n in
// each period per, spread evenly. After a pause, as many as one second allows
// may go at once, so a period can hold that many more than n: WithRateLimit(5,
// time.Second) lets 5 go at once and then one every 200 milliseconds.
//
// Requests go in the order in which they were made. Of the requests that wait,
// your calls go before the reads of Wait and Watch, which keep every fifth
// turn. A call waits for its turn as long as its context allows. When its turn
// would come too late for an answer, it fails at once and is not sent.
//
// The API allows an organisation 10,000 requests an hour. By default, requests
// are not paced.
func WithRateLimit(n int, per time.Duration) Option {
	return func(c *config) {
		if n <= 0 || per <= 0 {
			c.refuse("WithRateLimit",
				fmt.Sprintf("needs a number and a period above 0, got %d and %v", n, per))
		}
		c.RateLimit, c.RatePer = n, per
	}
}

// Priority says which of two requests that wait for a turn goes first.
type Priority int

// The priorities of a request, highest first.
const (
	Foreground Priority = iota // a call that your program made
	Background                 // a read for a Wait or a Watch
)

// Pacer decides when a request may be sent. WithPacer sets one, so that
// several clients or processes can share one quota. It must be safe for
// concurrent use.
type Pacer interface {
	// Wait returns nil when one request may be sent. When ctx ends first, Wait
	// gives the turn back and returns ctx's error. A Pacer that knows that the
	// turn comes after ctx's deadline can return context.DeadlineExceeded at
	// once.
	Wait(ctx context.Context, p Priority) error
	// Pause holds every request back for d, those that already wait included.
	// The Client calls it when the API answers 429. It must not block.
	Pause(d time.Duration)
}

// WithPacer asks p for a turn before each request of the Client, retries
// included. The ctx that p.Wait gets ends early enough for an answer to arrive
// before the call must end. WithPacer replaces WithRateLimit; NewClient refuses
// both together.
//
// If p.Wait returns an error while ctx has not ended, the call ends with it at
// once: it is not sent and not retried, and errors.Is finds the error in the
// *CallError. A context.DeadlineExceeded means that there is no turn in time.
// Wait and Watch try again, as after a failed read.
func WithPacer(p Pacer) Option {
	return func(c *config) {
		if c.present("WithPacer", p) {
			c.Pacer = turns{p}
		}
	}
}

// turns is a Pacer as the transport calls it.
type turns struct{ pacer Pacer }

func (t turns) Wait(ctx context.Context, p transport.Priority) error {
	return t.pacer.Wait(ctx, Priority(p))
}

func (t turns) Pause(d time.Duration) { t.pacer.Pause(d) }

// WithPolling sets the shortest and the longest interval at which a wait reads
// its resource. The intervals begin with the shortest and grow to a quarter of
// the time that the wait has lasted, up to the longest. Each interval varies at
// random by up to a fifth, but is never above the longest. The defaults are 1
// and 10 seconds.
//
// Many waits share their requests. If these would take more than a fifth of the
// quota, the intervals grow further. The quota is that of WithRateLimit.
// Without it, the quota is 10,000 requests an hour, or more in proportion if
// shortest is below a second: 100,000 for 100 milliseconds. While events about
// a resource reach [Client.Notify], its reads are up to one and a half times the
// longest interval apart.
func WithPolling(shortest, longest time.Duration) Option {
	return func(c *config) {
		if shortest <= 0 || longest < shortest {
			c.refuse("WithPolling",
				fmt.Sprintf("needs 0 < shortest <= longest, got %v and %v", shortest, longest))
		}
		c.polling = watch.Rhythm{Shortest: shortest, Longest: longest}
	}
}

// CallOption changes one call. A call returns a *ParamError, before any
// request, for an option that does not apply to it and for a nil CallOption.
type CallOption func(*callOptions)

type callOptions struct {
	query    url.Values
	await    time.Duration
	awaitSet bool
	replay   bool
	files    bool
	single   bool // one attempt
	response *Response
	refused  *ParamError // the first setting that cannot work

	manyCalls bool // not every call needs to know every option
}

func newCallOptions(opts []CallOption) callOptions {
	var o callOptions
	for _, opt := range opts {
		if opt == nil {
			o.refuse("opts", "must not hold a nil CallOption")
			continue
		}
		opt(&o)
	}
	return o
}

// refuse notes the first option that cannot work.
func (o *callOptions) refuse(option, reason string) {
	if o.refused == nil {
		o.refused = &ParamError{Field: option, Reason: reason}
	}
}

// WithQuery adds a query parameter, such as a filter that this package does not
// know. It may be repeated.
func WithQuery(name, value string) CallOption {
	return func(o *callOptions) {
		if name == "" {
			o.refuse("WithQuery", "needs a name")
		}
		if o.query == nil {
			o.query = url.Values{}
		}
		o.query.Add(name, value)
	}
}

// WithAwait asks the API to hold its answer back until the work is done, for at
// most d, rounded up to a whole second. d may be up to 10 seconds. The work may
// still be pending in the answer. Sessions.Create, StorageConfigs.Test and
// WebhookConfigs.Test accept it. The call is not sent if its context ends
// before d is over.
func WithAwait(d time.Duration) CallOption {
	return func(o *callOptions) {
		if d < 0 || d > transport.MaxAwait {
			o.refuse("WithAwait", fmt.Sprintf("must be from 0 to %v, is %v", transport.MaxAwait, d))
		}
		o.await, o.awaitSet = d, true
	}
}

// forManyCalls prepares the options of a method that makes several calls: none
// of them awaits, and WithReplay is for those that create.
func forManyCalls(o *callOptions) { o.await, o.awaitSet, o.manyCalls = 0, false, true }

// refuseReplay returns an error if there is a WithReplay, for methods whose first call
// would not refuse it.
func refuseReplay(opts []CallOption) error {
	if newCallOptions(opts).replay {
		return invalid("WithReplay", "does not apply to this call")
	}
	return nil
}

// oneAttempt makes each call one attempt, for callers that repeat it themselves.
func oneAttempt(o *callOptions) { o.single = true }

// WithReplay lets a create be sent again after a failure that leaves its
// outcome unknown. The create may then happen twice. Calls that are sent again
// anyway, such as every read and Users.Create, refuse it.
func WithReplay() CallOption { return func(o *callOptions) { o.replay = true } }

// WithResponse fills r with the raw answer of the call, whatever its status. If
// a method makes several calls, r holds the answer of the last. If a call has
// no usable answer, r holds its attempts, and the last answer with a status of
// 400 or more, if any.
func WithResponse(r *Response) CallOption {
	return func(o *callOptions) {
		if r == nil {
			o.refuse("WithResponse", "must not be nil")
		}
		o.response = r
	}
}

// Response is an answer of the API as it was received.
type Response struct {
	StatusCode int // 0: there was no answer
	Header     http.Header
	Body       Raw
	Attempts   []Attempt
	Duration   time.Duration // from the start of the call to the last byte
}

// newResponse shows how a call ended.
func newResponse(resp *transport.Response, err error) Response {
	if f, ok := errors.AsType[*transport.Failure](err); ok {
		resp = cmp.Or(f.Last, &transport.Response{Attempts: f.Attempts, Duration: f.Duration})
	}
	if resp == nil { // nothing was sent
		return Response{}
	}
	return Response{resp.StatusCode, resp.Header, resp.Body, attempts(resp.Attempts), resp.Duration}
}

// Attempt is one request that was made for a call.
type Attempt struct {
	StatusCode int           // 0: there was no answer
	Err        error         // why there was no usable answer
	Duration   time.Duration // from sending to the last byte, or to the failure
	Wait       time.Duration // before the next attempt, unless the context ended first
}

func attempts(from []transport.Attempt) []Attempt {
	to := make([]Attempt, len(from))
	for i, a := range from {
		to[i] = Attempt(a)
	}
	return to
}
