package ricloud

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"strings"
	"time"

	"github.com/reincubate/ricloud-go/internal/delivery"
	"github.com/reincubate/ricloud-go/internal/observer"
	"github.com/reincubate/ricloud-go/internal/transport"
)

// A Hook observes a Client: it implements one or more of [CallHook], [AttemptHook],
// [DownloadHook], [WaitHook], [WebhookHook] and [DecodeHook]. The module otel has hooks for
// OpenTelemetry. The module ingest takes hooks of its own kind, [StepHook].
//
// Hooks are called from the goroutine that does the work, in the order they were given, and their
// end functions in the reverse order. They must be safe for concurrent use. A hook that blocks
// delays its call. A panic of a hook is logged at error level, and the call continues as if the
// hook had done nothing. A context that a hook returns must be derived from the one that it is
// given and end with it. Any other is ignored.
//
// What a hook is shown never holds a token, a password, a code, a body, a query or a signed URL.
// Errors are the ones that the caller gets.
type Hook any

// CallHook observes calls. A call is one method of a service, with all of its attempts; an
// iterator makes one call per page.
type CallHook interface {
	// Call is called when a call begins, after its parameters were checked. The call runs with
	// the context it returns, or with ctx if that is nil. ended, if not nil, is called once, when
	// the call has ended.
	Call(ctx context.Context, info CallInfo) (_ context.Context, ended func(CallResult))
}

// CallInfo describes a call.
type CallInfo struct {
	Operation string // "Sessions.Create"
	Method    string // "POST"
	Path      string // the template, "/sessions/{id}"; without a query
	Host      string // the API's host and port

	// Background reports a read that waits share. Its context carries no caller's values.
	Background bool
	// Waits are the contexts of the waits that a Background call reads for, at most 16 of them:
	// for links between spans.
	Waits []context.Context
}

// CallResult says how a call ended.
type CallResult struct {
	StatusCode int // of the last answer; 0: there was none
	Attempts   int
	Duration   time.Duration
	Err        error // what the caller gets; nil: a success
}

// AttemptHook observes attempts: each request to the API and to storage, retries and resumed
// downloads included.
type AttemptHook interface {
	// Attempt is called when an attempt has its turn and is about to be sent. The request runs with
	// the context it returns, or with ctx if that is nil. ended, if not nil, is called once: after
	// the last byte of the API's answer, after the headers of storage's answer, or when the attempt
	// has failed.
	Attempt(ctx context.Context, info AttemptInfo) (_ context.Context, ended func(AttemptResult))
}

// AttemptInfo describes an attempt.
type AttemptInfo struct {
	Operation  string // "Sessions.Create"; "Results.Open" for storage
	Method     string
	Path       string // the template; empty for storage, whose paths are the customer's
	Host       string // host and port
	Number     int    // 1 for the first attempt of a call or a download
	Background bool   // a read that waits share

	// TurnWait is how long the attempt waited for its turn: for WithRateLimit, a Pacer, or a
	// pause that the API asked for.
	TurnWait time.Duration
	// Header is sent with a request to the API, for the propagation of traces. It begins empty;
	// a header that the Client sets itself keeps the Client's value. It is nil for storage.
	Header http.Header
}

// AttemptResult says how an attempt ended.
type AttemptResult struct {
	StatusCode int // 0: there was no answer
	Duration   time.Duration
	RetryWait  time.Duration // before the next attempt; 0: there is none
	Err        error         // why there was no usable answer
}

// DownloadHook observes downloads of result files: by Open, by Save, and by the calls that use
// them.
type DownloadHook interface {
	// Download is called when a download begins. It runs with the context it returns, or with ctx
	// if that is nil. ended, if not nil, is called once.
	Download(ctx context.Context, info DownloadInfo) (_ context.Context, ended func(DownloadResult))
}

// DownloadInfo describes a download.
type DownloadInfo struct {
	Operation string // "Results.Open", "Results.Save"
	Result    ID
	Scheme    string // of the result's URL: "s3", "gs"
	Size      int64  // bytes, as the API published them
}

// DownloadResult says how a download ended.
type DownloadResult struct {
	Done     int64 // bytes that were read from storage
	Resumes  int   // how often a broken connection was resumed
	Verified bool  // size and checksum are the published ones
	Found    bool  // the file was there already; nothing was read from storage
	Duration time.Duration
	Err      error
}

// WaitHook observes waits: Wait, Watch, and what waits inside Login and Results.
type WaitHook interface {
	// Wait is called when a wait begins. It runs with the context it returns, or with ctx if that
	// is nil. ended, if not nil, is called once.
	Wait(ctx context.Context, info WaitInfo) (_ context.Context, ended func(WaitResult))
}

// WaitInfo describes a wait.
type WaitInfo struct {
	Resource string // "session", "poll", "task", "subscription"
	ID       ID
}

// WaitResult says how a wait ended.
type WaitResult struct {
	State   string // the last one seen; empty: none was
	Changes int    // how many changes the wait was told
	// ByEvent means that an event, or the call that made the resource, brought the last change,
	// and not a read.
	ByEvent  bool
	Duration time.Duration
	Err      error
}

// WebhookHook observes deliveries: each request to a WebhookHandler, and each event that it is
// given by Handle or by Events.Replay.
type WebhookHook interface {
	// Webhook is called when the signature of a delivery has been verified, or when a delivery is
	// refused; ended then follows at once. The handler runs with the context it returns, or with
	// ctx if that is nil. ended, if not nil, is called once.
	Webhook(ctx context.Context, info WebhookInfo) (_ context.Context, ended func(WebhookResult))
}

// WebhookInfo describes a delivery.
type WebhookInfo struct {
	Event ID            // empty: the delivery was refused before it was read
	Name  string        // "poll.completed"; empty: as above
	Age   time.Duration // since the event was made, by this machine's clock; 0: not known
}

// WebhookOutcome says what became of a delivery.
type WebhookOutcome string

// The outcomes of a delivery.
const (
	WebhookHandled    WebhookOutcome = "handled"
	WebhookDuplicate  WebhookOutcome = "duplicate"   // handled before
	WebhookInProgress WebhookOutcome = "in_progress" // another call is handling it
	// WebhookRefused means not signed, too old, too large, or too many at once.
	WebhookRefused WebhookOutcome = "refused"
	WebhookFailed  WebhookOutcome = "failed" // the handler or the Deduplicator returned an error
)

// WebhookResult says how a delivery ended.
type WebhookResult struct {
	Outcome    WebhookOutcome
	StatusCode int // the answer's; 0: the event did not come by HTTP
	Duration   time.Duration
	Err        error
}

// DecodeHook is told of fields whose type is not the documented one. The Client leaves such a
// field empty where the rest of the answer can be used. It is also told of the fields of events,
// and of the resources in them, by Client.Notify, by Events.Watch with Notify, and by a
// WebhookHandler that has the Client (see WithWebhookClient).
type DecodeHook interface {
	Decode(ctx context.Context, info DecodeInfo)
}

// DecodeInfo describes a field of an odd type. The value itself is not shown.
type DecodeInfo struct {
	Operation string // "Users.List"
	Path      string // "data[3].date_created"
	Reason    string // "got a string, want a number"
}

// StepHook observes the steps of the module ingest: give it to ingest.Handlers. A Client alone
// makes no steps, so WithHooks refuses a hook that observes only steps.
type StepHook interface {
	// Step is called when a step of an account begins. It runs with the context it returns, or
	// with ctx if that is nil. ended, if not nil, is called once.
	Step(ctx context.Context, info StepInfo) (_ context.Context, ended func(StepResult))
}

// StepInfo describes a step.
type StepInfo struct {
	Account string // the caller's key
	Step    string // the account's state when the step begins, or "result": a call of the handler
	Result  ID     // of a call of the handler
	Attempt int    // 1 for the first try of a call of the handler
}

// StepOutcome says what became of a step.
type StepOutcome string

// The outcomes of a step.
const (
	StepDone        StepOutcome = "done"        // the account went on
	StepAgain       StepOutcome = "again"       // it failed and is tried again later
	StepDead        StepOutcome = "dead"        // it failed for good: a person decides
	StepInterrupted StepOutcome = "interrupted" // another process, or the next run, goes on
)

// StepResult says how a step ended.
type StepResult struct {
	Outcome  StepOutcome
	State    string // the account's state after the step; empty for a call of the handler
	Duration time.Duration
	Err      error // why it failed or was interrupted
}

// WithHooks adds hooks that observe the Client. NewClient returns a *ParamError for a hook that is
// nil or implements none of the hook interfaces.
func WithHooks(hooks ...Hook) Option {
	return func(c *config) { c.hooks = append(c.hooks, hooks...) }
}

// hooks are the hooks of a Client, sorted once by what they observe. An empty list costs no call
// and no allocation.
type hooks struct {
	logger   *slog.Logger
	panicked observer.Panicked
	call     []CallHook
	attempt  []AttemptHook
	download []DownloadHook
	wait     []WaitHook
	webhook  []WebhookHook
	decode   []DecodeHook
}

func newHooks(all []Hook, logger *slog.Logger) (*hooks, error) {
	h := &hooks{logger: logger}
	if logger != nil {
		h.panicked = func(ctx context.Context, value any, stack string) {
			logger.LogAttrs(ctx, slog.LevelError, hookPanicked,
				slog.Any("panic", value), slog.String("stack", stack))
		}
	}
	for i, hook := range all {
		known := observer.Add(&h.call, hook)
		known = observer.Add(&h.attempt, hook) || known
		known = observer.Add(&h.download, hook) || known
		known = observer.Add(&h.wait, hook) || known
		known = observer.Add(&h.webhook, hook) || known
		known = observer.Add(&h.decode, hook) || known
		switch {
		case isNil(hook):
			return nil, invalid("WithHooks", fmt.Sprintf("hook %d is nil", i))
		case !known:
			return nil, invalid("WithHooks",
				fmt.Sprintf("hook %d is a %T, which implements no hook interface", i, hook))
		}
	}
	return h, nil
}

const hookPanicked = "ricloud hook panicked"

// observe returns the function that the transport calls for each attempt, or nil if no hook
// observes attempts.
func (h *hooks) observe() transport.Observe {
	if len(h.attempt) == 0 {
		return nil
	}
	return func(ctx context.Context, s transport.Sending) (context.Context, func(transport.Attempt)) {
		op := s.Request.Operation
		name, path := op.Shown()
		ctx, ended := observer.Begin(ctx, h.panicked, h.attempt, AttemptInfo{
			Operation: name, Method: op.Method, Path: path, Host: s.Host, Number: s.Number,
			Background: s.Request.Background, TurnWait: s.TurnWait, Header: s.Header,
		}, AttemptHook.Attempt)
		return ctx, func(a transport.Attempt) {
			ended(AttemptResult{
				StatusCode: a.StatusCode, Duration: a.Duration, RetryWait: a.Wait,
				Err: a.Err,
			})
		}
	}
}

// beginCall tells the hooks that a call begins. ended is nil if no hook
// observes calls.
func (c *Client) beginCall(
	ctx context.Context, r *request,
) (_ context.Context, ended func(CallResult)) {
	if len(c.hooks.call) == 0 {
		return ctx, nil
	}
	name, path := r.op.Shown()
	return observer.Begin(ctx, c.hooks.panicked, c.hooks.call, CallInfo{
		Operation: name, Method: r.op.Method, Path: path, Host: c.transport.Host(),
		Background: r.background, Waits: r.waits,
	}, CallHook.Call)
}

// callResult says how a call ended. resp is nil where there was no usable answer.
func callResult(resp *transport.Response, err error) CallResult {
	result := CallResult{Err: err}
	if resp != nil {
		result.StatusCode, result.Duration = resp.StatusCode, resp.Duration
		result.Attempts = len(resp.Attempts)
		return result
	}
	if call, ok := errors.AsType[*CallError](err); ok {
		result.Attempts, result.Duration = len(call.Attempts), call.Duration
	}
	if answer, ok := errors.AsType[*Error](err); ok {
		result.StatusCode = answer.StatusCode
	}
	return result
}

// transfer is a download as hooks and Stats see it. It is for one goroutine.
type transfer struct {
	client    *Client
	operation string
	began     time.Time
	done      int64
	opens     int
	resumes   int
	host      string               // of the last attempt
	ended     func(DownloadResult) // nil: no hook observes it

	// pending ends an attempt that failed, once it is known whether another follows.
	pending func(err error, again bool, wait time.Duration)
}

// beginTransfer tells the hooks that a download begins.
func (c *Client) beginTransfer(
	ctx context.Context, operation string, result *Result,
) (context.Context, *transfer) {
	t := &transfer{client: c, operation: operation, began: time.Now()}
	c.counts.downloads.Add(1)
	if len(c.hooks.download) == 0 {
		return ctx, t
	}
	info := DownloadInfo{Operation: operation}
	if result != nil {
		scheme, _, _ := strings.Cut(result.URL, "://")
		info.Result, info.Scheme, info.Size = result.ID, scheme, result.Size
	}
	ctx, t.ended = observer.Begin(ctx, c.hooks.panicked, c.hooks.download, info,
		DownloadHook.Download)
	return ctx, t
}

// open opens an object: an attempt of the download.
func (t *transfer) open(
	ctx context.Context, opener ObjectOpener, req ObjectRequest,
) (*Object, error) {
	t.opens++
	if t.opens > 1 && req.Offset > 0 {
		t.resumes++
		t.client.counts.resumes.Add(1)
	}
	h := t.client.hooks
	if len(h.attempt) == 0 && h.logger == nil {
		return opener.OpenObject(ctx, req)
	}
	t.host = req.Bucket
	if signed, ok := opener.(*signedURL); ok {
		t.host = signed.host()
	}
	observed, ended := observer.Begin(ctx, h.panicked, h.attempt, AttemptInfo{
		Operation: t.operation, Method: http.MethodGet, Host: t.host, Number: t.opens,
	}, AttemptHook.Attempt)
	began := time.Now()
	object, err := opener.OpenObject(observed, req)
	result := AttemptResult{StatusCode: http.StatusOK, Duration: time.Since(began), Err: err}
	if object != nil && object.Offset > 0 {
		result.StatusCode = http.StatusPartialContent
	}
	if err != nil {
		result.StatusCode = 0
		if refused, ok := errors.AsType[*StorageError](err); ok {
			result.StatusCode = refused.StatusCode
		}
	}
	t.pending = func(err error, again bool, wait time.Duration) {
		result.Err = err
		if again {
			result.RetryWait = wait
		}
		ended(result)
		t.log(ctx, attemptRecord, again, &result, req.Offset)
	}
	if err == nil {
		t.settle(nil, false, 0)
	}
	return object, err
}

// settle ends the attempt that open has begun, if it has not ended.
func (t *transfer) settle(err error, again bool, wait time.Duration) (settled bool) {
	if t.pending == nil {
		return false
	}
	pending := t.pending
	t.pending = nil
	pending(err, again, wait)
	return true
}

// interrupted is told why an attempt failed, or a connection broke at an offset, and whether
// another follows.
func (t *transfer) interrupted(
	ctx context.Context, offset int64, err error, again bool, wait time.Duration,
) {
	if !t.settle(err, again, wait) && again {
		t.log(ctx, resumeRecord, true, &AttemptResult{RetryWait: wait, Err: err}, offset)
	}
}

// log writes a record of a read of storage, with the fields that WithLogger documents.
func (t *transfer) log(
	ctx context.Context, msg string, again bool, result *AttemptResult, offset int64,
) {
	logger, level := t.client.hooks.logger, slog.LevelDebug
	if again {
		level = slog.LevelWarn
	}
	if logger == nil || !logger.Enabled(ctx, level) {
		return
	}
	attrs := []slog.Attr{
		slog.String("operation", t.operation), slog.String("method", http.MethodGet),
		slog.String("host", t.host), slog.Int("attempt", t.opens), slog.Int64("offset", offset),
	}
	if msg == attemptRecord {
		attrs = append(attrs, slog.Int("status", result.StatusCode),
			slog.Duration("duration", result.Duration))
	}
	if again {
		attrs = append(attrs, slog.Duration("wait", result.RetryWait))
	}
	if result.Err != nil {
		attrs = append(attrs, slog.String("cause", result.Err.Error()))
	}
	logger.LogAttrs(ctx, level, msg, attrs...) //nolint:sloglint // the constants above
}

// The messages of the records about requests. The transport writes the first for the API.
const (
	attemptRecord = "ricloud attempt"
	resumeRecord  = "ricloud resume"
)

// received counts bytes that storage sent.
func (t *transfer) received(n int) {
	t.done += int64(n)
	t.client.counts.received.Add(int64(n))
}

// end tells the hooks that the download has ended.
func (t *transfer) end(verified, found bool, err error) {
	t.settle(err, false, 0)
	t.client.counts.downloads.Add(-1)
	if verified {
		t.client.counts.verified.Add(1)
	} else {
		t.client.counts.unverified.Add(1)
	}
	if t.ended != nil {
		t.ended(DownloadResult{
			Done: t.done, Resumes: t.resumes, Verified: verified, Found: found,
			Duration: time.Since(t.began), Err: err,
		})
	}
}

// waiting is a wait as hooks and Stats see it. It is for one goroutine.
type waiting struct {
	client *Client
	began  time.Time
	result WaitResult
	err    error
	ended  func(WaitResult) // nil: no hook observes it
}

// beginWait tells the hooks that a wait begins. get is the operation that reads the resource.
func (c *Client) beginWait(
	ctx context.Context, get transport.Operation, id ID,
) (context.Context, *waiting) {
	w := &waiting{client: c, began: time.Now()}
	c.counts.waits.Add(1)
	if len(c.hooks.wait) == 0 {
		return ctx, w
	}
	service, _, _ := strings.Cut(get.Name, ".")
	info := WaitInfo{Resource: strings.ToLower(strings.TrimSuffix(service, "s")), ID: id}
	ctx, w.ended = observer.Begin(ctx, c.hooks.panicked, c.hooks.wait, info, WaitHook.Wait)
	return ctx, w
}

// change notes that the wait was told of a state.
func (w *waiting) change(state string, byRead bool) {
	w.result.State, w.result.Changes, w.result.ByEvent = state, w.result.Changes+1, !byRead
	if !byRead {
		w.client.counts.readsByEvents.Add(1)
	}
}

// end tells the hooks that the wait has ended.
func (w *waiting) end() {
	w.client.counts.waits.Add(-1)
	if w.ended != nil {
		w.result.Duration, w.result.Err = time.Since(w.began), w.err
		w.ended(w.result)
	}
}

// observe tells the hooks that an event is about to be handled. ended is nil if no hook observes
// deliveries.
func (h *WebhookHandler) observe(
	ctx context.Context, event *Event, byHTTP bool,
) (_ context.Context, ended func(WebhookOutcome, error)) {
	if len(h.hooks) == 0 {
		return ctx, nil
	}
	info := WebhookInfo{Event: event.ID, Name: event.Name()}
	began := time.Now()
	if !event.DateCreated.IsZero() {
		info.Age = began.Sub(event.DateCreated)
	}
	ctx, told := h.begin(ctx, info)
	return ctx, func(outcome WebhookOutcome, err error) {
		result := WebhookResult{Outcome: outcome, Duration: time.Since(began), Err: err}
		if byHTTP {
			result.StatusCode = map[WebhookOutcome]int{
				WebhookHandled: http.StatusOK, WebhookDuplicate: http.StatusOK,
				WebhookInProgress: http.StatusServiceUnavailable, WebhookFailed: http.StatusInternalServerError,
			}[outcome]
		}
		told(result)
	}
}

// observeRefusal tells the hooks that a delivery was refused.
func (h *WebhookHandler) observeRefusal(ctx context.Context, refused *delivery.Refusal) {
	if len(h.hooks) == 0 {
		return
	}
	_, told := h.begin(ctx, WebhookInfo{})
	told(WebhookResult{Outcome: WebhookRefused, StatusCode: refused.Status, Err: refused})
}

func (h *WebhookHandler) begin(
	ctx context.Context, info WebhookInfo,
) (context.Context, func(WebhookResult)) {
	return observer.Begin(ctx, func(ctx context.Context, value any, stack string) {
		h.log.Panicked(ctx, hookPanicked, value, stack)
	}, h.hooks, info, WebhookHook.Webhook)
}
