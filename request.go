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
	"strings"

	"github.com/reincubate/ricloud-go/internal/transport"
)

// request is one call as a service makes it.
type request struct {
	op    transport.Operation
	id    ID         // for the path's {id}
	url   string     // instead of the operation's path
	list  listParams // a list's, or nil
	query url.Values // over those of list; may be nil
	body  any        // params, may be nil

	background bool // a wait's own request: it yields to the caller's
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
	if len(resp.Body) == 0 && r.op.MayBeEmpty() {
		return v, nil
	}
	if err := c.decodeAnswer(r.op.Name, resp, v); err != nil {
		if r.op.Method == http.MethodGet {
			return nil, err
		}
		return nil, &CallError{
			Operation: r.op.Name, Attempts: attempts(resp.Attempts), Duration: resp.Duration, Err: err,
			maybeApplied: true, replayable: !r.op.Once(),
		}
	}
	return v, nil
}

// decodeAnswer decodes resp into v. Its error quotes from the answer only what
// is left after the call's secrets are masked.
func (c *Client) decodeAnswer(operation string, resp *transport.Response, v any) error {
	err := c.decode(operation, resp.Body, v)
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
		maybeApplied: true, replayable: !r.op.Once(),
	}
}

// build checks r and makes the transport's request of it.
func (r *request) build(o callOptions) (*transport.Request, error) {
	fail := func(err error) (*transport.Request, error) { return nil, forOperation(r.op.Name, err) }
	if o.awaitSet && !r.op.Awaits() {
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
	if strings.Contains(r.op.Path, "{id}") {
		if r.id == "" || r.id == "." || r.id == ".." {
			return fail(invalid("id", fmt.Sprintf("must be the ID of a resource, is %q", string(r.id))))
		}
		treq.ID = string(r.id)
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
		maybeApplied: f.MaybeApplied, replayable: !op.Once(),
	}
	if f.Last != nil {
		e.last = newError(op.Name, f.Last)
	}
	return e
}
