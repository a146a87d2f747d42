package ricloud

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"runtime/debug"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/reincubate/ricloud-go/internal/delivery"
	"github.com/reincubate/ricloud-go/internal/observer"
	"github.com/reincubate/ricloud-go/internal/signature"
)

// SignatureHeader is the header that carries the signature of a delivery:
//
//	Ricloud-Signature: t=<unix seconds>,s=<base64 of HMAC-SHA256(secret, "<t>.<body>")>
const SignatureHeader = "Ricloud-Signature"

// The default limits of a signature's date: how old it may be, and how far
// ahead of this machine's clock. The vendor's own client accepts the same age.
const (
	DefaultTolerance       = 10 * time.Minute
	DefaultFutureTolerance = time.Minute
)

// Reasons to refuse a delivery. Their texts never repeat a signature or a
// secret.
var (
	// ErrSignature is what errors.Is finds in each of the errors below.
	ErrSignature = errors.New("ricloud: webhook signature")
	// ErrSignatureMissing reports that there is no signature header.
	ErrSignatureMissing = fmt.Errorf("%w: the %s header is missing", ErrSignature, SignatureHeader)
	// ErrSignatureMalformed reports that the header cannot be parsed.
	ErrSignatureMalformed = fmt.Errorf("%w: the %s header is not t=<seconds>,s=<base64>",
		ErrSignature, SignatureHeader)
	// ErrSignatureMismatch reports that none of the secrets signed the body.
	ErrSignatureMismatch = fmt.Errorf("%w: no secret matches: check that the secret belongs "+
		"to this webhook config and that nothing changes the body on its way", ErrSignature)
	// ErrSignatureTooOld reports a valid signature that is too old. If this is
	// frequent, this machine's clock is fast.
	ErrSignatureTooOld = fmt.Errorf("%w: it is valid but too old", ErrSignature)
	// ErrSignatureTooNew reports a valid signature that is dated in the future.
	// This machine's clock is slow.
	ErrSignatureTooNew = fmt.Errorf("%w: it is valid but dated in the future", ErrSignature)
)

// VerifyWebhook returns nil if the API signed body with one of the secrets, and
// an error that matches ErrSignature if not. header is the value of
// SignatureHeader, body is the raw body of the request, and each secret is a
// WebhookConfig.Secret. Pass both secrets while one is being replaced.
//
// Older versions of the API send a JSON string that holds the event's JSON. For
// such a body, a signature over the inner JSON is accepted, too.
//
// It returns a *ParamError if no secret is given, or if one cannot be right,
// such as a secret that ends in a newline. Use a WebhookVerifier for other
// tolerances than the defaults.
func VerifyWebhook(header string, body []byte, secrets ...Secret) error {
	return WebhookVerifier{Secrets: secrets}.Verify(header, body)
}

// A WebhookVerifier is VerifyWebhook with settings. It is safe for concurrent
// use.
type WebhookVerifier struct {
	Secrets []Secret      // one must match
	Past    time.Duration // how old a signature may be; 0: DefaultTolerance
	Future  time.Duration // how far ahead it may be dated; 0: DefaultFutureTolerance
}

// Verify is VerifyWebhook with v's settings.
func (v WebhookVerifier) Verify(header string, body []byte) error {
	secrets, err := revealWebhookSecrets(v.Secrets)
	if err != nil {
		return err
	}
	s, err := parseSignature(header)
	if err != nil {
		return err
	}
	return v.verify(s, secrets, body)
}

func parseSignature(header string) (signature.Signature, error) {
	if header == "" {
		return signature.Signature{}, ErrSignatureMissing
	}
	s, ok := signature.Parse(header)
	if !ok {
		return s, ErrSignatureMalformed
	}
	return s, nil
}

// verify checks the date only after the signature: the date of a delivery that
// the API did not sign means nothing.
func (v WebhookVerifier) verify(s signature.Signature, secrets []string, body []byte) error {
	if !s.Matches(body, secrets...) {
		var inner string // the older encoding
		if len(body) == 0 || body[0] != '"' || json.Unmarshal(body, &inner) != nil ||
			!s.Matches([]byte(inner), secrets...) {
			return ErrSignatureMismatch
		}
	}
	past, future := v.Past, v.Future
	if past <= 0 {
		past = DefaultTolerance
	}
	if future <= 0 {
		future = DefaultFutureTolerance
	}
	switch age := s.Age(time.Now()); {
	case age > past:
		return fmt.Errorf("%w: it is %s old and %s are allowed; unless the delivery was delayed, "+
			"this machine's clock is fast", ErrSignatureTooOld, age, past)
	case -age > future:
		return fmt.Errorf("%w: by %s, and %s are allowed; this machine's clock is probably slow",
			ErrSignatureTooNew, -age, future)
	}
	return nil
}

func checkWebhookSecrets(secrets []Secret) error {
	_, err := revealWebhookSecrets(secrets)
	return err
}

// revealWebhookSecrets returns the values of secrets that can be right.
func revealWebhookSecrets(secrets []Secret) ([]string, error) {
	const field = "webhook secret"
	if len(secrets) == 0 {
		return nil, invalid(field, "is required: it is WebhookConfig.Secret")
	}
	values := make([]string, len(secrets))
	for i, secret := range secrets {
		value := secret.Reveal()
		switch trimmed := strings.TrimSpace(value); {
		case value == "":
			return nil, invalid(field, "is empty: anyone could sign with it")
		case trimmed == redacted:
			return nil, invalid(field, isRedacted)
		case trimmed != value:
			return nil, invalid(field, "begins or ends with white space, as a file that it was "+
				"read from may: trim it")
		}
		values[i] = value
	}
	return values, nil
}

// DefaultWebhookMaxBody is how large the body of a delivery may be, in bytes,
// unless WithWebhookMaxBody says otherwise. The event of a poll with 5,000
// results takes 2.5 MB.
const DefaultWebhookMaxBody = 16 << 20

// dedupeTimeout bounds each call of the Deduplicator. A store that hangs must
// not hold deliveries until their senders give up.
const dedupeTimeout = 10 * time.Second

// A WebhookHandler is an http.Handler that receives the events the API
// delivers. The API appends the event's ID to the URL of the WebhookConfig, so
// mount it on a path and everything below:
//
//	mux.Handle("/webhooks/", handler)
//
// It ignores the path, so that a prefix may be stripped. It is safe for
// concurrent use.
//
// It verifies the signature over the raw body, parses the event, ignores one
// that was handled before, and calls its function. It answers
//
//	200  handled, now or before
//	400  signed, but not an event; or the body could not be read
//	401  not signed by the API, or dated too far from this machine's clock
//	405  not a POST
//	413  larger than WithWebhookMaxBody
//	500  the function failed or panicked: the API tries again, up to 5 times over a few hours
//	503  too busy, the event in progress, or no secret set: as for 500, after Retry-After
//
// Checks that do not need the body are made before it is read. The content type
// is ignored.
//
// A delivery that is refused or fails is logged: to WithWebhookLogger, or else
// where net/http logs (http.Server.ErrorLog). Refusals are logged at most once
// a minute for each reason, and so are failures where net/http logs. Answers
// never repeat an error's text.
//
// Use Replay for the events that the API gave up on. NewWebhookHandler makes a
// WebhookHandler; a zero one answers 503, and its methods return a *ParamError.
type WebhookHandler struct {
	fn      func(context.Context, *Event) error
	secrets atomic.Pointer[[]Secret] // a pointer: fmt would print a Secret in an unexported field
	gate    *delivery.Gate
	log     delivery.Log
	webhookSettings
}

type webhookSettings struct {
	past, future  time.Duration
	dedupe        Deduplicator
	maxBody       int64
	timeout       time.Duration
	maxConcurrent int
	logger        *slog.Logger
	client        *Client
	hooks         []WebhookHook
	err           error // of the first option that cannot work
	setSecrets    func(*WebhookHandler) error
}

func (s *webhookSettings) refuse(option, reason string) {
	if s.err == nil {
		s.err = &ParamError{Operation: "NewWebhookHandler", Field: option, Reason: reason}
	}
}

// A WebhookOption configures a WebhookHandler.
type WebhookOption func(*webhookSettings)

// WithWebhookSecrets sets the secret of the WebhookConfig, and a second one
// while it is being replaced. See also WebhookHandler.SetSecrets.
func WithWebhookSecrets(secrets ...Secret) WebhookOption {
	return func(s *webhookSettings) {
		s.setSecrets = func(h *WebhookHandler) error { return h.SetSecrets(secrets...) }
	}
}

// WithWebhookTolerance sets how old a signature may be and how far ahead of
// this machine's clock it may be dated. 0 means the default: DefaultTolerance
// and DefaultFutureTolerance.
func WithWebhookTolerance(past, future time.Duration) WebhookOption {
	return func(s *webhookSettings) {
		if past < 0 || future < 0 {
			s.refuse("WithWebhookTolerance", "must not be negative")
		}
		s.past, s.future = past, future
	}
}

// WithWebhookDeduplicator sets the Deduplicator, which remembers the events
// that were handled. The default is NewMemoryDeduplicator(0, 0), which works
// for one process.
func WithWebhookDeduplicator(d Deduplicator) WebhookOption {
	return func(s *webhookSettings) {
		if isNil(d) {
			s.refuse("WithWebhookDeduplicator", "must not be nil")
		}
		s.dedupe = d
	}
}

// WithWebhookClient passes each event to [Client.Notify] before the handler's
// function is called, so that the client's waits end without requests of their
// own.
func WithWebhookClient(client *Client) WebhookOption {
	return func(s *webhookSettings) {
		if client.check() != nil {
			s.refuse("WithWebhookClient", "must not be nil or zero: make one with NewClient")
			return
		}
		s.client = client
	}
}

// WithWebhookMaxBody sets how large the body of a delivery may be, in bytes.
// The default is DefaultWebhookMaxBody. Together, the bodies that are not
// verified yet take at most twice that much memory, plus 16 KiB each.
func WithWebhookMaxBody(n int64) WebhookOption {
	return func(s *webhookSettings) {
		if n <= 0 {
			s.refuse("WithWebhookMaxBody", "must be positive")
		}
		s.maxBody = n
	}
}

// WithWebhookTimeout bounds the context of the handler's function. The default,
// 0, sets no bound of its own: the request and the lease of the Deduplicator
// still end the context.
func WithWebhookTimeout(d time.Duration) WebhookOption {
	return func(s *webhookSettings) {
		if d < 0 {
			s.refuse("WithWebhookTimeout", "must not be negative")
		}
		s.timeout = d
	}
}

// WithWebhookMaxConcurrent sets how many deliveries are handled at a time;
// others are answered 503. The default, 0, is no limit.
func WithWebhookMaxConcurrent(n int) WebhookOption {
	return func(s *webhookSettings) {
		if n < 0 {
			s.refuse("WithWebhookMaxConcurrent", "must not be negative")
		}
		s.maxConcurrent = n
	}
}

// WithWebhookLogger logs refused deliveries at warn, at most one a minute for
// each reason, and each failure at error, instead of net/http's log. Records
// hold an event's ID and name, never its data.
func WithWebhookLogger(l *slog.Logger) WebhookOption {
	return func(s *webhookSettings) {
		switch {
		case l == nil:
			s.refuse("WithWebhookLogger", "must not be nil")
		case l.Handler() == nil:
			s.refuse("WithWebhookLogger", "has no handler")
		}
		s.logger = l
	}
}

// WithWebhookHooks adds hooks that observe deliveries. Each must be a
// [WebhookHook]. The hooks of the client that is given to WithWebhookClient
// observe deliveries without it.
func WithWebhookHooks(added ...Hook) WebhookOption {
	return func(s *webhookSettings) {
		for i, hook := range added {
			if isNil(hook) || !observer.Add(&s.hooks, hook) {
				s.refuse("WithWebhookHooks",
					fmt.Sprintf("hook %d is a %T, which is nil or does not observe deliveries", i, hook))
			}
		}
	}
}

// NewWebhookHandler returns a handler that calls fn once for each event, as far
// as that is possible: see Deduplicator. Calls are concurrent, and events may
// come in any order. When fn returns an error, the API delivers the event
// again. fn's context ends with the request. How long the API waits for an
// answer is not known, so put long work into a queue: see Event.Body.
//
// It returns a *ParamError for a setting that cannot work. Without
// WithWebhookSecrets, the handler answers 503 until SetSecrets is called.
func NewWebhookHandler(
	fn func(context.Context, *Event) error, opts ...WebhookOption,
) (*WebhookHandler, error) {
	h := &WebhookHandler{
		fn:              fn,
		webhookSettings: webhookSettings{maxBody: DefaultWebhookMaxBody},
	}
	if fn == nil {
		h.refuse("fn", "is required")
	}
	for _, opt := range opts {
		if opt == nil {
			h.refuse("opts", "must not hold a nil WebhookOption")
			continue
		}
		opt(&h.webhookSettings)
	}
	if h.err != nil {
		return nil, h.err
	}
	if h.client != nil {
		h.hooks = append(slices.Clip(h.client.hooks.webhook), h.hooks...)
	}
	h.gate, h.log.Logger = delivery.NewGate(h.maxBody, h.maxConcurrent), h.logger
	if h.dedupe == nil {
		h.dedupe = NewMemoryDeduplicator(0, 0)
	}
	if h.setSecrets != nil {
		if err := h.setSecrets(h); err != nil {
			return nil, forOperation("WithWebhookSecrets", err)
		}
	}
	return h, nil
}

// SetSecrets replaces the secrets for all deliveries from then on. It can be
// called while deliveries come in, and given to
// WebhookConfigEnsureParams.BeforeTest. It returns a *ParamError, and changes
// nothing, for a secret that cannot be right.
func (h *WebhookHandler) SetSecrets(secrets ...Secret) error {
	if err := cmp.Or(h.check(), checkWebhookSecrets(secrets)); err != nil {
		return forOperation("WebhookHandler.SetSecrets", err)
	}
	secrets = slices.Clone(secrets)
	h.secrets.Store(&secrets)
	return nil
}

// AddSecrets accepts further secrets beside those that are set. Give it to
// WebhookConfigEnsureParams.BeforeTest to keep the former secret valid while it
// is being replaced. It returns a *ParamError, and changes nothing, for a
// secret that cannot be right.
func (h *WebhookHandler) AddSecrets(secrets ...Secret) error {
	if err := cmp.Or(h.check(), checkWebhookSecrets(secrets)); err != nil {
		return forOperation("WebhookHandler.AddSecrets", err)
	}
	for {
		former := h.secrets.Load()
		all := slices.Clone(secrets)
		if former != nil {
			for _, secret := range *former {
				if !slices.Contains(all, secret) {
					all = append(all, secret)
				}
			}
		}
		if h.secrets.CompareAndSwap(former, &all) {
			return nil
		}
	}
}

// check refuses a handler that NewWebhookHandler did not make.
func (h *WebhookHandler) check() error {
	if h == nil || h.gate == nil {
		return invalid("WebhookHandler", "is zero: make one with NewWebhookHandler")
	}
	return nil
}

// ServeHTTP receives a delivery.
func (h *WebhookHandler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if h == nil {
		h = new(WebhookHandler)
	}
	event, err := h.receive(w, r)
	if err == nil {
		err = h.handleInSlot(r.Context(), event)
	}
	if err == nil {
		_, _ = io.WriteString(w, "OK")
		return
	}
	refused, ok := errors.AsType[*delivery.Refusal](err)
	switch {
	case ok:
		h.observeRefusal(r.Context(), refused)
		h.log.Refused(r.Context(), refused)
	case errors.Is(err, ErrEventInProgress):
		refused = delivery.Refuse(http.StatusServiceUnavailable, "the event is being handled")
	default: // Handle has logged it
		refused = delivery.Refuse(http.StatusInternalServerError, "the event could not be handled")
	}
	refused.Reply(w)
}

// receive reads and verifies a delivery, or returns a *delivery.Refusal. It reads the
// body last, and nothing in the body before the signature is verified.
func (h *WebhookHandler) receive(w http.ResponseWriter, r *http.Request) (*Event, error) {
	if err := h.check(); err != nil {
		return nil, &delivery.Refusal{
			Status: http.StatusServiceUnavailable, Answer: "the receiver is not set up", Detail: err,
		}
	}
	if err := h.gate.Check(w, r); err != nil {
		return nil, err
	}
	s, err := parseSignature(r.Header.Get(SignatureHeader))
	if err != nil {
		return nil, unsigned(err)
	}
	secrets := h.secrets.Load()
	if secrets == nil {
		return nil, delivery.Refuse(http.StatusServiceUnavailable,
			"the receiver has no webhook secret yet")
	}
	body, err := h.gate.Read(w, r)
	if err != nil {
		return nil, err
	}
	values, err := revealWebhookSecrets(*secrets)
	if err == nil {
		err = WebhookVerifier{Past: h.past, Future: h.future}.verify(s, values, body)
	}
	if err != nil {
		return nil, unsigned(err)
	}
	event, err := ParseEvent(body)
	if err != nil {
		return nil, &delivery.Refusal{
			Status: http.StatusBadRequest, Answer: "the body is not an event", Detail: err,
		}
	}
	return event, nil
}

// unsigned is the refusal of a delivery without a valid signature.
func unsigned(err error) *delivery.Refusal {
	answer := "the signature is not valid"
	if errors.Is(err, ErrSignatureTooOld) || errors.Is(err, ErrSignatureTooNew) {
		answer = "the signature is dated too far from this receiver's clock"
	}
	return &delivery.Refusal{Status: http.StatusUnauthorized, Answer: answer, Detail: err}
}

// handleInSlot calls Handle unless WithWebhookMaxConcurrent deliveries are
// already in progress.
func (h *WebhookHandler) handleInSlot(ctx context.Context, event *Event) error {
	leave, err := h.gate.Enter()
	if err != nil {
		return err
	}
	defer leave()
	return h.handle(ctx, event, true)
}

// Handle calls the handler's function for an event unless the event was handled
// before. The event may come from anywhere: EventsService.Watch, or a queue of
// the caller's. It returns nil if the event is handled, now or before,
// ErrEventInProgress if another call is handling it, and otherwise what the
// function or the Deduplicator returned. A panic of the function is logged and
// returned as an error.
func (h *WebhookHandler) Handle(ctx context.Context, event *Event) error {
	return h.handle(ctx, event, false)
}

// handle is Handle, as hooks see it. byHTTP reports whether the event came as a delivery.
func (h *WebhookHandler) handle(ctx context.Context, event *Event, byHTTP bool) error {
	const operation = "WebhookHandler.Handle"
	if err := h.check(); err != nil {
		return forOperation(operation, err)
	}
	switch {
	case event == nil:
		return &ParamError{Operation: operation, Field: "event", Reason: "is nil"}
	case event.ID == "":
		return &ParamError{
			Operation: operation, Field: "event.ID",
			Reason: "is required: events are told apart by it",
		}
	case dataLost(event.Data):
		return &ParamError{Operation: operation, Field: "event.Data", Reason: lostData}
	}
	outcome, err := WebhookFailed, errUnfinished
	ctx, ended := h.observe(ctx, event, byHTTP)
	if ended != nil {
		defer func() { ended(outcome, err) }()
	}
	outcome, err = h.handleOnce(ctx, event)
	return err
}

// errUnfinished is what hooks are told if runtime.Goexit ends the handling.
var errUnfinished = errors.New("ricloud: the handling of the event did not return")

func (h *WebhookHandler) lease(ctx context.Context, id ID) (Lease, error) {
	ctx, cancel := context.WithTimeout(ctx, dedupeTimeout)
	defer cancel()
	return h.dedupe.Begin(ctx, id)
}

// handleOnce hands the event to fn unless it has been handled.
func (h *WebhookHandler) handleOnce(ctx context.Context, event *Event) (WebhookOutcome, error) {
	if h.client != nil {
		h.client.report(ctx, "WebhookHandler", event.odd)
		h.client.notify(ctx, "WebhookHandler", event)
	}
	lease, err := h.lease(ctx, event.ID)
	switch {
	case errors.Is(err, ErrEventDone):
		reportDone(ctx)
		return WebhookDuplicate, nil
	case errors.Is(err, ErrEventInProgress):
		return WebhookInProgress, err
	case err != nil:
		err = fmt.Errorf("ricloud: event %s: deduplicator: %w", quote(event.ID, maxWord), err)
		h.failed(ctx, "webhook event not begun", event, err, "")
		return WebhookFailed, err
	}
	settle := h.dedupe.Failed
	defer func() { // however fn ends, even by runtime.Goexit
		// The outcome is recorded even if the sender has hung up meanwhile.
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), dedupeTimeout)
		defer cancel()
		if err := settle(ctx, lease); err != nil {
			h.failed(ctx, "webhook event's outcome not recorded: it may be handled again", event, err, "")
		}
	}()
	if err := h.call(ctx, lease, event); err != nil {
		return WebhookFailed, err
	}
	settle = h.dedupe.Done
	return WebhookHandled, nil
}

// call calls fn within its time and logs its failure. A panic is turned into an
// error.
func (h *WebhookHandler) call(ctx context.Context, lease Lease, event *Event) (err error) {
	ctx = context.WithValue(ctx, leaseKey{}, lease)
	if h.timeout > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, h.timeout)
		defer cancel()
	}
	if !lease.Expires.IsZero() {
		var cancel context.CancelFunc
		ctx, cancel = context.WithDeadlineCause(ctx, lease.Expires, ErrLeaseLost)
		defer cancel()
	}
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("ricloud: event %s (%s): panic: %v", quote(event.ID, maxWord),
				quote(event.Name(), maxQuote), p)
			h.failed(ctx, "webhook event panicked", event, err, string(debug.Stack()))
		} else if err != nil {
			h.failed(ctx, "webhook event failed", event, err, "")
		}
	}()
	return h.fn(ctx, event)
}

// failed logs an event that could not be handled or recorded. stack may be empty.
func (h *WebhookHandler) failed(
	ctx context.Context, msg string, event *Event, err error, stack string,
) {
	h.log.Failed(ctx, msg, quote(event.ID, maxQuote), quote(event.Name(), maxQuote), err, stack)
}
