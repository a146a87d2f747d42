package ricloud

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net/http"
	"net/url"
	"reflect"
	"strings"
	"sync"

	"github.com/reincubate/ricloud-go/internal/observer"
	"github.com/reincubate/ricloud-go/internal/transport"
	"github.com/reincubate/ricloud-go/internal/wire"
)

// request is one call as a service makes it.
type request struct {
	op    transport.Operation
	id    ID         // for the path's "{id}"
	url   string     // instead of the operation's path
	list  listParams // the filters and the page of a list; nil for other calls
	query url.Values // set over those of list; may be nil
	body  any        // the params; nil for none

	kind       string            // of a resource that is read as raw JSON
	needsList  bool              // null for the list does not prove that there are no items
	background bool              // a read for a wait, which yields to other calls
	custom     bool              // made by Client.Call: any JSON is an answer, and so is none
	waits      []context.Context // the waits that a background read is for, as hooks see them
	charge     func()            // called when the request is about to be made; may be nil
	redirected func()            // called for each request that follows a redirect; may be nil
}

// What a body may implement.
type (
	checker interface{ check() error }      // refuses what cannot work
	wirer   interface{ wire() any }         // is sent in another form, with secrets in clear
	holder  interface{ secrets() []Secret } // names what no error may repeat
)

// do makes a call and decodes its answer into a new T.
func do[T any](ctx context.Context, c *Client, r request, opts []CallOption) (*T, error) {
	v := new(T)
	if err := c.send(ctx, r, opts, v); err != nil {
		return nil, err
	}
	return v, nil
}

// send checks a request, makes the call, and decodes the answer into the
// pointer into, unless that is nil. It turns every answer of 400 or more and
// every failure into an error.
func (c *Client) send(ctx context.Context, r request, opts []CallOption, into any) error {
	o := newCallOptions(opts)
	err := c.check()
	var treq *transport.Request
	if err == nil {
		treq, err = r.build(o)
	}
	if err != nil {
		return forOperation(r.op.Name, err)
	}
	if r.charge != nil {
		r.charge()
	}
	ctx, ended := c.beginCall(ctx, &r)
	resp, err := c.transport.Do(ctx, treq)
	if o.response != nil {
		*o.response = newResponse(resp, err)
	}
	if err == nil && resp.StatusCode < http.StatusMultipleChoices {
		c.clock.Read(resp)
	}
	err = c.receive(ctx, &r, resp, err, into)
	if ended != nil {
		ended(callResult(resp, err))
	}
	return err
}

// receive decodes an answer, or returns the error of a call that has none that
// can be used.
func (c *Client) receive(
	ctx context.Context, r *request, resp *transport.Response, err error, into any,
) error {
	switch {
	case err != nil:
		return r.failure(err)
	case resp.StatusCode >= http.StatusBadRequest:
		apiErr := newError(r.op.Name, resp)
		if resp.MaybeApplied {
			return r.unknownOutcome(resp, apiErr)
		}
		return apiErr
	case into == nil, len(resp.Body) == 0 && (r.custom || r.op.MayBeEmpty()):
		return nil
	case r.custom && !json.Valid(resp.Body):
		// A type that decodes itself, such as json.RawMessage, takes any bytes.
		err = &DecodeError{
			Operation: r.op.Name, Snapshot: transport.Snapshot(resp.Masked()),
			Err: errors.New("the answer is not JSON"),
		}
	default:
		if err = c.decodeAnswer(ctx, r.op.Name, resp, into); err == nil {
			err = r.checkAnswer(resp, into)
		}
	}
	if err != nil {
		return r.undecodable(resp, err)
	}
	return nil
}

// checkAnswer refuses a success that is of another kind, or lacks what makes it
// one: the ID of its resource, as in "{}", null or a proxy's own JSON, the token
// of a new or rotated key, and the data of a list. Without it, the caller has
// nothing to go on with.
func (r *request) checkAnswer(resp *transport.Response, v any) error {
	first := !r.query.Has("after_id") && !r.query.Has("before_id") // page of a list
	missing, wanted, id := "", r.kind, ID("")
	resource, isResource := v.(identified)
	if isResource {
		wanted, id = resource.ident()
	}
	if other := otherKind(resp.Body, wanted); other != "" {
		return notTheResource(r.op.Name, "resource", other)
	}
	key, isKey := v.(*Key)
	list, isList := v.(interface {
		hasNoData() bool
		hidesItems() bool
	})
	switch {
	case r.op.MayBeEmpty():
		if !r.custom && saysError(resp.Body) {
			return &DecodeError{
				Operation: r.op.Name, Path: "error", Snapshot: transport.Snapshot(resp.Masked()),
				Err: errors.New("an error came with a status of success"),
			}
		}
	case isResource && !isID(id):
		missing = "id"
	case isKey && r.op.Once() && key.Token.IsZero():
		missing = "token"
	case isList && list.hasNoData() && (r.needsList || !holdsList(resp.Body)),
		isList && r.needsList && first && list.hidesItems():
		missing = "data"
	}
	if missing == "" {
		return nil
	}
	shown := transport.Snapshot(resp.Masked())
	if isKey { // it may hold the token under another name
		shown = redacted
	}
	return &DecodeError{
		Operation: r.op.Name, Path: missing, Snapshot: shown,
		Err: errors.New("it is missing from the answer"),
	}
}

// otherKind returns the kind of resource that an answer says it is, if the API has
// that kind and it is not the wanted one. Other words prove nothing.
func otherKind(body []byte, wanted string) string {
	var said struct {
		Resource string `json:"resource"`
	}
	if wanted == "" || json.Unmarshal(body, &said) != nil || said.Resource == wanted {
		return ""
	}
	switch said.Resource {
	case "session", "poll", "task", "result", "subscription", "source", "user", "event",
		"organisation", "key", "permissions", "webhook_config", "storage_config", "list", "error":
		return said.Resource
	}
	return ""
}

// saysError reports whether an answer is an error and no resource, or says that a
// part of a batch failed: either may come with the status 200.
func saysError(body []byte) bool {
	var said struct {
		ID     json.RawMessage `json:"id"`
		Data   json.RawMessage `json:"data"`
		Error  json.RawMessage `json:"error"`
		Errors json.RawMessage `json:"errors"`
		Failed json.RawMessage `json:"failed"`
	}
	if json.Unmarshal(body, &said) != nil || said.ID != nil || said.Data != nil {
		return false
	}
	for _, part := range []json.RawMessage{said.Error, said.Errors, said.Failed} {
		switch string(part) {
		case "", "null", "false", `""`, "{}", "[]", "0":
		default:
			return true
		}
	}
	return false
}

// holdsList reports whether an answer that decodes to no items is a list all the
// same: an object with a null for its data that says whether there is more, as the
// API's lists do. A null alone, or a proxy's own JSON, which often has a null for
// data, does not show that there are no items.
func holdsList(body []byte) bool {
	var list map[string]json.RawMessage
	_ = json.Unmarshal(body, &list)
	_, hasData := list["data"]
	_, hasMore := list["has_more"]
	return hasData && hasMore
}

// build checks r and returns it as the transport takes it.
func (r *request) build(o callOptions) (*transport.Request, error) {
	if err := r.check(o); err != nil {
		return nil, err
	}
	treq := &transport.Request{
		Operation:  r.op,
		ID:         string(r.id),
		URL:        r.url,
		Query:      r.queryWith(o.query),
		Await:      o.await,
		Replay:     o.replay,
		Single:     r.background || o.single, // a wait's hub is the loop
		Background: r.background,
		Redirected: r.redirected,
	}
	if h, ok := r.body.(holder); ok {
		for _, s := range h.secrets() {
			treq.Secrets = append(treq.Secrets, s.Reveal())
		}
	}
	if r.body != nil {
		var err error
		if treq.Body, err = encode(r.body); err != nil {
			return nil, err
		}
	}
	named := func(body []byte, query url.Values) {
		treq.Secrets = append(treq.Secrets, transport.NamedSecrets(body, query)...)
	}
	named(nil, o.query)
	if r.custom { // only the names say what is secret in it
		_, text, _ := strings.Cut(r.url, "?")
		query, _ := url.ParseQuery(text) // what does not parse is refused later
		named(treq.Body, query)
	}
	return treq, nil
}

// check refuses what cannot work.
func (r *request) check(o callOptions) error {
	switch {
	case o.refused != nil:
		return o.refused
	case o.awaitSet && !r.op.Awaits():
		return invalid("WithAwait", "does not apply to this call")
	case o.replay && !o.manyCalls && !r.op.Once():
		return invalid("WithReplay", "does not apply to this call")
	case o.files: // Polls.Results takes it away
		return invalid("WithFiles", "does not apply to this call")
	case strings.Contains(r.op.Path, "{id}") && !isID(r.id):
		return invalid("id", fmt.Sprintf("must be the ID of a resource, is %q", string(r.id)))
	}
	if r.list != nil {
		return r.list.check()
	}
	if c, ok := r.body.(checker); ok {
		return c.check()
	}
	return nil
}

// isID reports whether a resource can be reached by an ID: "." and ".." would be
// another path, and blanks are none.
func isID(id ID) bool {
	return strings.TrimSpace(string(id)) != "" && id != "." && id != ".."
}

// queryWith returns the query: that of the list, then what a page sets over
// it, then what the caller adds.
func (r *request) queryWith(added url.Values) url.Values {
	query := url.Values{}
	if r.list != nil {
		query = r.list.values()
	}
	maps.Copy(query, r.query)
	maps.Copy(query, added)
	return query
}

// encode writes a body. It refuses text that JSON cannot carry, and a masked secret
// in place of the secret: the API would take either for a wrong password.
func encode(body any) ([]byte, error) {
	secrets := wire.Secrets{Type: reflect.TypeFor[Secret](), Reveal: revealSecret}
	masked := func(v reflect.Value) bool {
		return v.Type() == secrets.Type && checkSecret("", NewSecret(revealSecret(v))) != nil
	}
	if field := secrets.Find(body, masked); field != "" {
		return nil, invalid(field, isRedacted)
	}
	sent := body
	if w, ok := body.(wirer); ok {
		sent = w.wire()
	}
	text, replaced, err := wire.Encode(sent)
	if err != nil {
		return nil, invalid("params", "cannot be encoded: "+err.Error())
	}
	if replaced {
		if field := secrets.Find(body, secrets.NotUTF8); field != "" {
			return nil, invalid(field, "is not valid UTF-8")
		}
	}
	return text, nil
}

// revealSecret returns the text of a value that is a Secret.
func revealSecret(v reflect.Value) string {
	s, _ := reflect.TypeAssert[Secret](v)
	return s.Reveal()
}

// decodeAnswer decodes resp into v. Its error quotes the answer only after the
// secrets of the call are masked in it.
func (c *Client) decodeAnswer(
	ctx context.Context, operation string, resp *transport.Response, v any,
) error {
	err := c.decode(ctx, operation, resp.Body, v)
	if err == nil {
		return nil
	}
	if masked := c.decode(ctx, operation, resp.Masked(), v); masked != nil {
		return masked
	}
	return &DecodeError{
		Operation: operation, Snapshot: redacted,
		Err: errors.New("a value that holds a secret has the wrong type"),
	}
}

// undecodable returns the error of a success whose body cannot be used. Only a
// read is known to have changed nothing.
func (r *request) undecodable(resp *transport.Response, err error) error {
	if r.op.Method == http.MethodGet {
		return err
	}
	return r.unknownOutcome(resp, err)
}

// unknownOutcome returns the error of an answer that leaves open whether the
// API acted on the request.
func (r *request) unknownOutcome(resp *transport.Response, err error) error {
	return &CallError{
		Operation: r.op.Name, Attempts: attempts(resp.Attempts), Duration: resp.Duration, Err: err,
		maybeApplied: true, repeatable: !r.op.Once(),
	}
}

// failure returns the error of a call that ended without an answer.
func (r *request) failure(err error) error {
	f, ok := errors.AsType[*transport.Failure](err)
	if !ok { // the transport refused the request
		return &ParamError{Operation: r.op.Name, Field: "request", Reason: "was refused: " + err.Error()}
	}
	e := &CallError{
		Operation: r.op.Name, Attempts: attempts(f.Attempts), Duration: f.Duration, Err: f.Cause,
		maybeApplied: f.MaybeApplied, repeatable: !r.op.Once(),
		notSent: f.NotSent,
	}
	if f.Last != nil {
		e.last = newError(f.Last.Operation, f.Last) // perhaps another call's, which paused the client
	}
	return e
}

// decode decodes JSON from the API into v. The error is a *DecodeError.
func decode(operation string, body []byte, v any) error {
	_, err := decodeOdd(operation, body, v)
	return err
}

// decodeOdd is decode that also returns the values that were left zero because
// they had the wrong type.
func decodeOdd(operation string, body []byte, v any) ([]wire.Oddity, error) {
	odd, err := wire.Decode(body, v)
	if err == nil {
		return odd, nil
	}
	e, ok := errors.AsType[*wire.Error](err)
	if !ok {
		e = &wire.Error{Raw: body, Err: err}
	}
	shown := redacted
	if e.Raw != nil {
		shown = transport.Snapshot(e.Raw)
	}
	return nil, &DecodeError{Operation: operation, Path: e.Path, Snapshot: shown, Err: e.Err}
}

// decode is decode that reports each odd value of an operation once.
func (c *Client) decode(ctx context.Context, operation string, body []byte, v any) error {
	odd, err := decodeOdd(operation, body, v)
	if item, ok := v.(decodesItself); ok && err == nil {
		odd = append(odd, item.oddities()...)
	}
	c.report(ctx, operation, odd)
	return err
}

// decodesItself is a type that accepts fields of odd types in its UnmarshalJSON.
type decodesItself interface{ oddities() []wire.Oddity }

// report tells the logger and the hooks of odd values of an operation, of each once.
func (c *Client) report(ctx context.Context, operation string, odd []wire.Oddity) {
	for _, o := range odd {
		if c.oddities.first(operation + " " + wire.Pattern(o.Path)) {
			c.hooks.odd(ctx, DecodeInfo{Operation: operation, Path: o.Path, Reason: o.Reason})
		}
	}
}

// maxOddities bounds what a Client remembers of the odd values it has reported.
const maxOddities = 256

// oddities are the odd values that a Client has reported.
type oddities struct {
	mu   sync.Mutex
	told map[string]bool
}

// first reports whether key is new.
func (o *oddities) first(key string) bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.told[key] || len(o.told) >= maxOddities {
		return false
	}
	if o.told == nil {
		o.told = map[string]bool{}
	}
	o.told[key] = true
	return true
}

// odd tells the logger and the hooks of a field of an odd type.
func (h *hooks) odd(ctx context.Context, info DecodeInfo) {
	if h.logger != nil {
		h.logger.LogAttrs(ctx, slog.LevelWarn, "ricloud odd value",
			slog.String("operation", info.Operation), slog.String("path", info.Path),
			slog.String("reason", info.Reason))
	}
	for _, hook := range h.decode {
		observer.Call(ctx, h.panicked, func() { hook.Decode(ctx, info) })
	}
}
