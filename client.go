package ricloud

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"net/url"
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
	t, err := transport.New(cfg.Config)
	if err != nil {
		return nil, fmt.Errorf("ricloud: NewClient: %w", err)
	}
	c := &Client{transport: t, noBatch: new(atomic.Bool), downloads: newDownloads(cfg, t.Bare())}
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
	op := transport.Operation{
		Name:   "Call " + method + " " + pathOf(path),
		Method: method,
		Path:   path,
		Replay: method == http.MethodGet || method == http.MethodDelete,
		Await:  true,
	}
	resp, err := c.send(ctx, request{op: op, url: path, body: body}, opts)
	if err != nil || out == nil || len(resp.Body) == 0 {
		return err
	}
	return decodeAnswer(op.Name, resp, out)
}

// pathOf leaves out what may be secret in a URL.
func pathOf(raw string) string {
	path, _, _ := strings.Cut(raw, "?")
	return path
}

// request is one call as a service makes it.
type request struct {
	op    transport.Operation
	ids   []ID       // for the path, in order
	url   string     // instead of the operation's path
	list  listParams // a list's, or nil
	query url.Values // over those of list; may be nil
	body  any        // params, may be nil

	background bool // a wait's own request: it yields to the caller's
	mayBeEmpty bool // an answer without a body is a success: 204
}

// params is what a body may do before it is sent.
type (
	checker interface{ check() error }      // refuse what cannot work
	wirer   interface{ wire() any }         // take another form, with secrets in the clear
	holder  interface{ secrets() []Secret } // name what no error may repeat
)

// do makes a call and decodes its answer into a new T.
func do[T any](ctx context.Context, c *Client, r request, opts []CallOption) (*T, error) {
	resp, err := c.send(ctx, r, opts)
	if err != nil {
		return nil, err
	}
	v := new(T)
	if len(resp.Body) == 0 && r.mayBeEmpty {
		return v, nil
	}
	if err := decodeAnswer(r.op.Name, resp, v); err != nil {
		if r.op.Method == http.MethodGet {
			return nil, err
		}
		return nil, &CallError{
			Operation: r.op.Name, Attempts: attempts(resp.Attempts), Duration: resp.Duration, Err: err,
			maybeApplied: true, replayable: r.op.Replay,
		}
	}
	return v, nil
}

// decodeAnswer decodes resp into v. Its error quotes from the answer only what
// is left after the call's secrets are masked.
func decodeAnswer(operation string, resp *transport.Response, v any) error {
	err := decode(operation, resp.Body, v)
	if err == nil {
		return nil
	}
	if masked := decode(operation, resp.Masked(), v); masked != nil {
		return masked
	}
	return &DecodeError{Operation: operation, Snapshot: redacted, Err: errors.New("a value that holds a secret does not fit")}
}

// send makes a call and turns every bad end of it into an error.
func (c *Client) send(ctx context.Context, r request, opts []CallOption) (*transport.Response, error) {
	o := newCallOptions(opts)
	treq, err := r.build(o)
	if err != nil {
		return nil, err
	}
	resp, err := c.transport.Do(ctx, treq)
	if o.response != nil {
		*o.response = newResponse(resp, err)
	}
	if err != nil {
		return nil, callError(r.op, err)
	}
	if resp.StatusCode < http.StatusBadRequest {
		return resp, nil
	}
	apiErr := newError(r.op.Name, resp)
	if !resp.MaybeApplied {
		return nil, apiErr
	}
	return nil, &CallError{
		Operation: r.op.Name, Attempts: attempts(resp.Attempts), Duration: resp.Duration, Err: apiErr,
		maybeApplied: true, replayable: r.op.Replay,
	}
}

// build checks r and makes the transport's request of it.
func (r *request) build(o callOptions) (*transport.Request, error) {
	fail := func(err error) (*transport.Request, error) { return nil, forOperation(r.op.Name, err) }
	if o.awaitSet && !r.op.Await {
		return fail(invalid("WithAwait", "is not known to this call"))
	}
	if o.await < 0 {
		return fail(invalid("WithAwait", "must not be negative"))
	}
	if c, ok := r.body.(checker); ok {
		if err := c.check(); err != nil {
			return fail(err)
		}
	}
	query := url.Values{}
	if r.list != nil {
		if err := r.list.check(); err != nil {
			return fail(err)
		}
		query = r.list.values()
	}
	maps.Copy(query, r.query) // a page's cursor over the caller's
	maps.Copy(query, o.query)
	treq := &transport.Request{
		Operation:  r.op,
		URL:        r.url,
		Query:      query,
		Await:      o.await,
		Replay:     o.replay,
		Background: r.background,
	}
	for _, id := range r.ids {
		if id == "" || id == "." || id == ".." {
			return fail(invalid("id", fmt.Sprintf("%q cannot be one", string(id))))
		}
		treq.Params = append(treq.Params, string(id))
	}
	if h, ok := r.body.(holder); ok {
		for _, s := range h.secrets() {
			treq.Secrets = append(treq.Secrets, string(s))
		}
	}
	if r.body != nil {
		body, err := encode(r.body)
		if err != nil {
			return fail(invalid("params", "cannot be encoded: "+err.Error()))
		}
		treq.Body = body
	}
	return treq, nil
}

// encode writes a body. Characters HTML minds stay as they are.
func encode(body any) ([]byte, error) {
	if w, ok := body.(wirer); ok {
		body = w.wire()
	}
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(body); err != nil {
		return nil, err
	}
	return bytes.TrimRight(b.Bytes(), "\n"), nil
}

// callError turns what the transport says into the caller's words.
func callError(op transport.Operation, err error) error {
	f, ok := errors.AsType[*transport.Failure](err)
	if !ok { // refused before anything was sent
		return fmt.Errorf("ricloud: %w; nothing was sent", err)
	}
	e := &CallError{
		Operation: op.Name, Attempts: attempts(f.Attempts), Duration: f.Duration, Err: f.Cause,
		maybeApplied: f.MaybeApplied, replayable: op.Replay,
	}
	if f.Last != nil {
		e.last = newError(op.Name, f.Last)
	}
	return e
}
