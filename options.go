package ricloud

import (
	"cmp"
	"context"
	"errors"
	"log/slog"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/reincubate/ricloud-go/internal/transport"
	"github.com/reincubate/ricloud-go/internal/watch"
)

// Option configures a Client.
type Option func(*config)

type config struct {
	transport.Config
	polling watch.Rhythm
	storage map[string]ObjectOpener
	hooks   []Hook

	local          string // the folder of WithLocalFiles
	localSet       bool
	privateStorage bool
}

// WithBaseURL sets the address of the API; a path prefix is kept. The default
// is DefaultBaseURL. Plain http:// is accepted for loopback hosts only, see
// WithInsecureHTTP.
func WithBaseURL(base string) Option { return func(c *config) { c.BaseURL = base } }

// WithInsecureHTTP allows a plain http:// base URL on any host: the token then
// travels in the clear.
func WithInsecureHTTP() Option { return func(c *config) { c.AllowHTTP = true } }

// WithTransport sets what sends requests, to the API and to storage: a proxy,
// instrumentation, or the sandbox. Timeouts, retries and the token stay the
// Client's. The default is a net/http transport of the Client's own.
func WithTransport(rt http.RoundTripper) Option { return func(c *config) { c.Transport = rt } }

// WithUserAgent adds product, such as "acme-safety/2.1", to the User-Agent.
func WithUserAgent(product string) Option {
	return func(c *config) { c.UserAgent = userAgent + " " + product }
}

// WithLogger logs every attempt at debug and every retry at warn. Records hold
// operation, path template, status, attempt, wait, duration and host, never a
// body, a header value or a query. The default is silence.
func WithLogger(l *slog.Logger) Option { return func(c *config) { c.Logger = l } }

// WithAttemptTimeout bounds one attempt, from connecting to the answer's
// headers. Waits between attempts do not count; an Await value is added. The
// default is 30 seconds.
func WithAttemptTimeout(d time.Duration) Option { return func(c *config) { c.AttemptTimeout = d } }

// WithCallTimeout bounds one whole call: attempts, waits and body. The default
// is 2 minutes. The context of the call may end it sooner.
func WithCallTimeout(d time.Duration) Option { return func(c *config) { c.CallTimeout = d } }

// WithStallTimeout bounds the silence while a body is read. The default is 30
// seconds.
func WithStallTimeout(d time.Duration) Option { return func(c *config) { c.StallTimeout = d } }

// WithRetries sets how many times a call is tried again after the first
// attempt. The default is 4; 0 turns retries off. Creates are not sent twice
// whatever the number, see WithReplay.
func WithRetries(n int) Option {
	return func(c *config) {
		c.MaxRetries = n
		if n <= 0 {
			c.MaxRetries = -1
		}
	}
}

// WithRetryWait sets the ceilings of the first and of the longest wait between
// attempts, which are drawn at random below a ceiling that doubles (full
// jitter). The defaults are 500 milliseconds and 30 seconds.
func WithRetryWait(first, longest time.Duration) Option {
	return func(c *config) { c.RetryWaitMin, c.RetryWaitMax = first, longest }
}

// WithMaxRetryAfter sets the longest Retry-After that is waited for; beyond
// it, the call returns its *Error at once. The default is 1 minute. After a 429
// with a hint, all calls of the Client wait for it, up to this long.
func WithMaxRetryAfter(d time.Duration) Option { return func(c *config) { c.RetryAfterMax = d } }

// WithMaxBody bounds the body of an answer in bytes, after decompression. The
// default is 32 MiB. Result files are not bounded by it.
func WithMaxBody(n int64) Option { return func(c *config) { c.MaxBody = n } }

// WithRateLimit paces all requests of the Client, retries included, to n a
// period per: evenly, at most a second's worth at once, first come first
// served. The reads of a wait yield to other calls, and a call whose turn would
// come after its deadline fails at once, unsent. The API allows an organisation
// 10,000 an hour. The default is no pacing.
func WithRateLimit(n int, per time.Duration) Option {
	return func(c *config) { c.RateLimit, c.RatePer = n, per }
}

// Priority says which of two waiting requests goes first.
type Priority int

// The priorities of a request, highest first.
const (
	Foreground Priority = iota // a call of the program
	Background                 // a read that a wait makes
)

// Pacer decides when a request may be sent. It is safe for concurrent use.
// WithPacer sets one, so that several processes can share one quota.
type Pacer interface {
	// Wait returns nil when one request may be sent. When ctx ends first it
	// returns ctx's error and gives the turn back.
	Wait(ctx context.Context, p Priority) error
	// Pause holds every request back for d, those that already wait included.
	// The Client calls it when the API answers 429. It must not block.
	Pause(d time.Duration)
}

// WithPacer asks p for a turn before each request of the Client, retries
// included. It replaces WithRateLimit; NewClient refuses both together.
func WithPacer(p Pacer) Option {
	return func(c *config) {
		c.Pacer = nil
		if p != nil {
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

// WithPolling sets the shortest and the longest interval at which a wait asks
// for the state of a resource, each drawn from a fifth less to a fifth more: a
// wait begins with the shortest, and asks every quarter of the time that it has
// lasted. Many waits share their requests, and
// stretch the interval where those would take more than a fifth of the quota:
// of WithRateLimit, or else of 10,000 an hour, or as many times that as the
// shortest is shorter than a second. While events flow to [Client.Notify],
// waits ask every six times the longest. The defaults are 1 and 10 seconds.
func WithPolling(shortest, longest time.Duration) Option {
	return func(c *config) { c.polling = watch.Rhythm{Shortest: shortest, Longest: longest} }
}

// WithStorage sets what reads the objects of results whose URL begins with
// scheme: "s3", "gs" or one of your own. The modules storage/s3 and storage/gcs
// hold openers for the two. It comes before a result's signed URL.
func WithStorage(scheme string, opener ObjectOpener) Option {
	return func(c *config) {
		if c.storage == nil {
			c.storage = map[string]ObjectOpener{}
		}
		c.storage[strings.ToLower(scheme)] = opener
	}
}

// CallOption changes one call.
type CallOption func(*callOptions)

type callOptions struct {
	query    url.Values
	await    time.Duration
	awaitSet bool
	replay   bool
	files    bool
	response *Response
}

func newCallOptions(opts []CallOption) callOptions {
	var o callOptions
	for _, opt := range opts {
		opt(&o)
	}
	return o
}

// WithQuery adds a query parameter: filters of a list that the contract does
// not show, for instance. It may be repeated.
func WithQuery(name, value string) CallOption {
	return func(o *callOptions) {
		if o.query == nil {
			o.query = url.Values{}
		}
		o.query.Add(name, value)
	}
}

// WithAwait asks the API to hold its answer back for up to d, whole seconds, at
// most 10 seconds, until the work is done. Sessions.Create,
// StorageConfigs.Test and WebhookConfigs.Test know it; other calls refuse it.
// The answer may still be pending.
func WithAwait(d time.Duration) CallOption {
	return func(o *callOptions) { o.await, o.awaitSet = d, true }
}

// withoutAwait takes WithAwait back, for the calls that follow a create.
func withoutAwait(o *callOptions) { o.await, o.awaitSet = 0, false }

// WithReplay lets a create be sent again after a failure that leaves open
// whether it happened. It may then happen twice.
func WithReplay() CallOption { return func(o *callOptions) { o.replay = true } }

// WithResponse fills r with the raw answer of the call, of the last one where
// the call makes several, whatever its status. A call that ends without an
// answer shows its attempts, and the last answer of 400 or more that one of
// them had.
func WithResponse(r *Response) CallOption { return func(o *callOptions) { o.response = r } }

// Response is an answer as it came.
type Response struct {
	StatusCode int // 0: no answer
	Header     http.Header
	Body       Raw
	Attempts   []Attempt
	Duration   time.Duration // from the call's begin to the last byte
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

// Attempt is one request that was tried within a call.
type Attempt struct {
	StatusCode int           // 0: no answer
	Err        error         // why there was no usable answer
	Duration   time.Duration // from sending to the last byte, or to the failure
	Wait       time.Duration // before the next; cut short where the context ended
}

func attempts(from []transport.Attempt) []Attempt {
	to := make([]Attempt, len(from))
	for i, a := range from {
		to[i] = Attempt(a)
	}
	return to
}
