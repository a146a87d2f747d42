package ricloud

import (
	"context"
	"math"
	"net/http"
	"os"
	"reflect"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/reincubate/ricloud-go/internal/login"
	"github.com/reincubate/ricloud-go/internal/transport"
)

// Version is the version of this module. The User-Agent carries it.
const Version = "0.2.0"

// DefaultBaseURL is the address of the live API.
const DefaultBaseURL = "https://ricloud-api.reincubate.com"

const userAgent = "ricloud-go/" + Version

// A Client calls the ricloud API. Each field is the service for one kind of
// resource. It is safe for concurrent use: make one per token and keep it. NewClient
// makes one; the calls of a zero Client return a *ParamError.
type Client struct {
	Organisation   *OrganisationService
	Keys           *KeysService
	Permissions    *PermissionsService
	Users          *UsersService
	Sources        *SourcesService
	Sessions       *SessionsService
	Polls          *PollsService
	Tasks          *TasksService
	Results        *ResultsService
	Subscriptions  *SubscriptionsService
	Events         *EventsService
	StorageConfigs *StorageConfigsService
	WebhookConfigs *WebhookConfigsService

	transport *transport.Client
	waits     waits
	noBatch   *atomic.Bool // the API has no POST /results/ack
	downloads downloads
	cascades  *sync.Map // by the *Result that it yielded, a *cascade in progress
	clock     *login.Clock
	oddities  *oddities
	hooks     *hooks
	counts    *counts
	quota     int64 // requests an hour
}

// service gives the methods of each service their client.
type service struct{ client *Client }

// clientFor returns the client of a service. A service without one, such as each
// of a zero Client, gets a client that refuses every call.
func clientFor[S ~struct{ client *Client }](s *S) *Client {
	if s != nil && service(*s).client != nil {
		return service(*s).client
	}
	c, _ := NewClient("none") // cannot fail
	c.transport = nil
	return c
}

// check refuses a Client that NewClient did not make.
func (c *Client) check() error {
	if c == nil || c.transport == nil {
		return invalid("Client", "is zero: make one with NewClient")
	}
	return nil
}

// NewClient returns a client that authenticates with token, the token of a
// key. It does no I/O and reads no environment variable. It returns a
// *ParamError for a token or an option that cannot work.
func NewClient(token string, opts ...Option) (*Client, error) {
	return newClient("NewClient", token, opts)
}

// NewClientFromEnv is NewClient with the vendor's own environment variables:
// RICLOUD_TOKEN, which is required, and RICLOUD_URL, the base URL. The
// Client's own transport uses the proxy that HTTPS_PROXY and NO_PROXY name.
// Options override all of these.
func NewClientFromEnv(opts ...Option) (*Client, error) {
	const operation = "NewClientFromEnv"
	token := os.Getenv("RICLOUD_TOKEN")
	if token == "" {
		return nil, &ParamError{Operation: operation, Field: "RICLOUD_TOKEN", Reason: "is not set"}
	}
	env := []Option{func(c *config) { c.fallbackProxy = http.ProxyFromEnvironment }}
	if base := os.Getenv("RICLOUD_URL"); base != "" {
		env = append(env, WithBaseURL(base))
	}
	return newClient(operation, token, append(env, opts...))
}

func newClient(operation, token string, opts []Option) (*Client, error) {
	cfg := config{
		Config:  transport.Config{BaseURL: DefaultBaseURL, UserAgent: userAgent},
		polling: defaultPolling,
	}
	cfg.checkToken(token)
	for _, opt := range opts {
		if opt == nil {
			cfg.refuse("opts", "must not hold a nil Option")
			continue
		}
		opt(&cfg)
	}
	cfg.checkCombinations()
	if cfg.refused != nil {
		cfg.refused.Operation = operation
		return nil, cfg.refused
	}
	// The token lives in this closure alone: a dump of the Client cannot show it.
	authorization := "Token " + token
	cfg.Authorize = func(h http.Header) { h["Authorization"] = []string{authorization} }
	observers, err := newHooks(cfg.hooks, cfg.Logger)
	if err != nil {
		return nil, forOperation(operation, err)
	}
	cfg.Observe = observers.observe()
	t, err := transport.New(cfg.Config)
	if err != nil {
		return nil, &ParamError{
			Operation: operation, Field: "opts",
			Reason: "do not work: " + err.Error(),
		}
	}
	c := &Client{
		transport: t, downloads: newDownloads(cfg, t.Bare()), hooks: observers,
		noBatch: new(atomic.Bool), cascades: new(sync.Map), clock: new(login.Clock),
		oddities: new(oddities), counts: new(counts),
		quota: int64(min(cfg.quota(), math.MaxInt32)),
	}
	c.waits = newWaits(c, cfg)
	s := service{c}
	c.Organisation = (*OrganisationService)(&s)
	c.Keys = (*KeysService)(&s)
	c.Permissions = (*PermissionsService)(&s)
	c.Users = (*UsersService)(&s)
	c.Sources = (*SourcesService)(&s)
	c.Sessions = (*SessionsService)(&s)
	c.Polls = (*PollsService)(&s)
	c.Tasks = (*TasksService)(&s)
	c.Results = (*ResultsService)(&s)
	c.Subscriptions = (*SubscriptionsService)(&s)
	c.Events = (*EventsService)(&s)
	c.StorageConfigs = (*StorageConfigsService)(&s)
	c.WebhookConfigs = (*WebhookConfigsService)(&s)
	return c, nil
}

// checkToken refuses what cannot be a token. The reason never repeats it.
func (c *config) checkToken(token string) {
	switch {
	case token == "":
		c.refuse("token", "is required")
	case token == redacted:
		c.refuse("token", isRedacted)
	case strings.ContainsFunc(token, func(r rune) bool { return r <= ' ' || r > '~' }):
		c.refuse("token", "holds a space or another character that a token cannot hold")
	}
}

// checkCombinations refuses options that cannot work together.
func (c *config) checkCombinations() {
	if _, err := transport.ParseBaseURL(c.BaseURL, c.AllowHTTP); err != nil {
		c.refuse("WithBaseURL", err.Error())
	}
	if c.Pacer != nil && c.RateLimit != 0 {
		c.refuse("WithPacer", "cannot be combined with WithRateLimit")
	}
	if c.Proxy != nil && c.Transport != nil {
		c.refuse("WithProxy", "cannot be combined with WithTransport")
	}
	if c.Proxy == nil {
		c.Proxy = c.fallbackProxy
	}
}

// Close closes idle connections. It does not disturb calls in progress, and
// the Client can still be used. Only a program that makes clients for a short
// time needs it.
func (c *Client) Close() {
	if c.check() == nil {
		c.transport.Close()
	}
}

// Call makes a request to an endpoint that this package does not know. path is
// relative to the base URL and must be escaped. Call sends body as JSON unless
// it is nil. It decodes the answer into out, a non-nil pointer, unless out is
// nil or the answer is empty. GET and DELETE are retried like other calls;
// other methods only with WithReplay.
//
// Call returns the same errors as every other call. Before any request, it
// returns a *ParamError for a method that HTTP does not permit, for an out that is
// not a non-nil pointer, and for a body with a Secret, which cannot be encoded:
// put what Reveal returns into the body. Errors mask what the body and the query
// hold under the names of secrets, such as password, token or code.
func (c *Client) Call(
	ctx context.Context, method, path string, body, out any, opts ...CallOption,
) error {
	r := request{
		op:  transport.Custom("Call "+method+" "+cutQuery(path), method, path),
		url: path, body: body, custom: true,
	}
	if v := reflect.ValueOf(out); out != nil && (v.Kind() != reflect.Pointer || v.IsNil()) {
		return &ParamError{
			Operation: r.op.Name, Field: "out",
			Reason: "must be a non-nil pointer, or nil for none",
		}
	}
	_, err := http.NewRequestWithContext(ctx, method, "/", http.NoBody)
	if err != nil || method == "" {
		return &ParamError{Operation: r.op.Name, Field: "method", Reason: "is not an HTTP method"}
	}
	return c.send(ctx, r, opts, out)
}

// Stats counts what a Client does and has done since it was made. See [Client.Stats].
type Stats struct {
	// Requests to the API, retries included, and what came of them.
	Sent         int64
	Retries      int64 // of those sent
	Succeeded    int64 // answers below 400
	Refused      int64 // answers of 400 or more, except the next two
	RateLimited  int64 // 429
	ServerErrors int64 // 500 and more
	NoAnswer     int64 // no usable answer came

	InFlight     int64 // requests to the API now
	TurnsWaiting int64 // requests that wait for their turn now

	// QuotaLeft is the rest of this hour's quota, if no other client uses it: 10,000
	// requests or what WithRateLimit allows in an hour, less those sent in the last 60 minutes.
	QuotaLeft int64

	Waits         int64 // in progress now
	ReadsByShare  int64 // reads that were saved because one request served several waits
	ReadsByEvents int64 // reads that were saved because an event or a create told the change

	Downloads       int64 // in progress now
	Verified        int64 // downloads that ended with the published size and MD5
	Unverified      int64 // downloads that ended in another way
	BytesDownloaded int64 // from storage
	Resumes         int64 // broken connections to storage that were resumed
}

// counts are the counters behind Stats that the transport does not keep.
type counts struct {
	waits, readsByEvents                      atomic.Int64
	downloads, verified, unverified, received atomic.Int64
	resumes                                   atomic.Int64
}

// quotaPerHour is what an organisation may send, by the API's own documentation.
const quotaPerHour = 10_000

// quota returns how many requests the Client may send in an hour.
func (c *config) quota() float64 {
	if c.RateLimit > 0 {
		return float64(c.RateLimit) / c.RatePer.Hours()
	}
	return quotaPerHour
}

// Stats returns the counts so far. It makes no request, is cheap, and is safe at any time. The
// fields are not all read at the same instant.
func (c *Client) Stats() Stats {
	if c.check() != nil {
		return Stats{}
	}
	t := c.transport.Stats()
	n := c.counts
	return Stats{
		Sent: t.Sent, Retries: t.Retries, Succeeded: t.Succeeded, Refused: t.Refused,
		RateLimited: t.RateLimited, ServerErrors: t.ServerError, NoAnswer: t.NoAnswer,
		InFlight: t.InFlight, TurnsWaiting: t.TurnsWanted, QuotaLeft: max(0, c.quota-t.LastHour),
		Waits: n.waits.Load(), ReadsByShare: c.waits.shared(), ReadsByEvents: n.readsByEvents.Load(),
		Downloads: n.downloads.Load(), Verified: n.verified.Load(), Unverified: n.unverified.Load(),
		BytesDownloaded: n.received.Load(), Resumes: n.resumes.Load(),
	}
}
