package ricloud

import (
	"context"
	"fmt"
	"net/http"
	"os"
	"strings"
	"sync/atomic"

	"github.com/reincubate/ricloud-go/internal/transport"
)

// Version is the version of this module, as the User-Agent carries it.
const Version = "0.2.0"

// DefaultBaseURL is the address of the live API.
const DefaultBaseURL = "https://ricloud-api.reincubate.com"

const userAgent = "ricloud-go/" + Version

// Client is the way to the API: a service a resource. It is safe for
// concurrent use; make one for a token and keep it.
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
	oddities  *oddities
	hooks     *hooks
}

// service is what every service is: a view of its client.
type service struct{ client *Client }

// NewClient returns a client that authenticates with token, a key's token. It
// reads no environment and does no I/O. It returns a *ParamError for a token
// or an option that cannot work.
func NewClient(token string, opts ...Option) (*Client, error) {
	if token == "" {
		return nil, &ParamError{Operation: "NewClient", Field: "token", Reason: "is required"}
	}
	if strings.ContainsFunc(token, func(r rune) bool { return r <= ' ' || r > '~' }) {
		return nil, &ParamError{Operation: "NewClient", Field: "token", Reason: "holds a space or a character that no token has"}
	}
	cfg := config{
		Config:  transport.Config{BaseURL: DefaultBaseURL, UserAgent: userAgent},
		polling: defaultPolling,
	}
	for _, opt := range opts {
		opt(&cfg)
	}
	// The token lives in this closure alone: a dump of the Client cannot show it.
	authorization := "Token " + token
	cfg.Authorize = func(h http.Header) { h["Authorization"] = []string{authorization} }
	if p := cfg.polling; p.Shortest <= 0 || p.Longest < p.Shortest {
		return nil, &ParamError{Operation: "NewClient", Field: "WithPolling", Reason: "needs 0 < shortest <= longest"}
	}
	if cfg.Pacer != nil && cfg.RateLimit != 0 {
		return nil, &ParamError{Operation: "NewClient", Field: "WithPacer", Reason: "excludes WithRateLimit"}
	}
	observers, err := newHooks(cfg.hooks, cfg.Logger)
	if err != nil {
		return nil, forOperation("NewClient", err)
	}
	cfg.Observe = observers.observe()
	if cfg.localSet && cfg.local == "" {
		return nil, &ParamError{Operation: "NewClient", Field: "WithLocalFiles", Reason: "is no folder"}
	}
	t, err := transport.New(cfg.Config)
	if err != nil {
		return nil, fmt.Errorf("ricloud: NewClient: %w", err)
	}
	c := &Client{transport: t, noBatch: new(atomic.Bool), downloads: newDownloads(cfg, t.Bare()), hooks: observers}
	c.oddities = newOddities(cfg.Logger)
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

// NewClientFromEnv is NewClient with the vendor's own variables: RICLOUD_TOKEN
// and, if set, RICLOUD_URL. Options come after them. The Client's own transport
// then uses the proxy that HTTPS_PROXY and NO_PROXY name, too.
func NewClientFromEnv(opts ...Option) (*Client, error) {
	token := os.Getenv("RICLOUD_TOKEN")
	if token == "" {
		return nil, &ParamError{Operation: "NewClientFromEnv", Field: "RICLOUD_TOKEN", Reason: "is not set"}
	}
	env := []Option{func(c *config) { c.Proxy = http.ProxyFromEnvironment }}
	if base := os.Getenv("RICLOUD_URL"); base != "" {
		env = append(env, WithBaseURL(base))
	}
	return NewClient(token, append(env, opts...)...)
}

// Close closes idle connections. Calls in flight are not disturbed, and the
// Client can still be used. Only a program that makes clients for a while
// needs it.
func (c *Client) Close() { c.transport.Close() }

// Call makes a request to an endpoint this SDK does not know: the way out. The
// path is relative to the base URL and taken as it is, escaped. body is sent
// as JSON unless nil; the answer is decoded into out unless that is nil. GET
// and DELETE are retried like other calls, anything else only WithReplay. Its
// errors are those of every call. A Secret in body is sent as [redacted]:
// convert it to a string.
func (c *Client) Call(ctx context.Context, method, path string, body, out any, opts ...CallOption) error {
	op := transport.Custom("Call "+method+" "+pathOf(path), method, path)
	resp, err := c.send(ctx, request{op: op, url: path, body: body}, opts)
	if err != nil || out == nil || len(resp.Body) == 0 {
		return err
	}
	return c.decodeAnswer(op.Name, resp, out)
}

// pathOf leaves out what may be secret in a URL.
func pathOf(raw string) string {
	path, _, _ := strings.Cut(raw, "?")
	return path
}
