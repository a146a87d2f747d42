package ricloud

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"log/slog"
	"mime"
	"net/http"
	"runtime/debug"
	"slices"
	"strings"
	"sync/atomic"
	"time"
)

// DefaultMaxEventBody is how large the body of a delivery may be, in bytes,
// unless WithMaxEventBody says otherwise.
const DefaultMaxEventBody = 1 << 20

const (
	webhookRetryAfter = "30" // seconds
	dedupeTimeout     = 10 * time.Second
)

// WebhookHandler receives the events the API delivers: an http.Handler that
// can be mounted as it is, on a path and all below it, since the API appends
// the event's id to the URL of the WebhookConfig:
//
//	mux.Handle("/webhooks/", handler)
//
// It does not look at the path, so a prefix may be stripped. It is safe for
// concurrent use.
//
// It takes a POST of at most DefaultMaxEventBody bytes, verifies its signature
// over the raw body, reads the event, passes over one that was handled, and
// calls fn. It answers
//
//	200  handled, now or before
//	400  not an event
//	401  not signed by the API, or too long ago
//	405  not a POST
//	413  too large
//	415  not JSON
//	500  fn failed or panicked: the API tries again, up to 5 times over a few hours
//	503  too busy, or the event is being handled, or no secret is set: as 500, with Retry-After
//
// What the API gives up on is left to EventsService.Replay.
type WebhookHandler struct {
	fn      func(context.Context, *Event) error
	secrets atomic.Pointer[[]Secret] // a pointer: fmt would print a Secret in an unexported field
	slots   chan struct{}            // nil: no limit
	webhookSettings
}

type webhookSettings struct {
	past, future  time.Duration
	dedupe        Deduplicator
	maxBody       int64
	timeout       time.Duration
	maxConcurrent int
	logger        *slog.Logger
	setSecrets    func(*WebhookHandler) error
}

// WebhookOption configures a WebhookHandler.
type WebhookOption func(*webhookSettings)

// WithWebhookSecrets sets the secret of the WebhookConfig, and the next or the
// former one while it is being replaced. See also WebhookHandler.SetSecrets.
func WithWebhookSecrets(secrets ...Secret) WebhookOption {
	return func(s *webhookSettings) {
		s.setSecrets = func(h *WebhookHandler) error { return h.SetSecrets(secrets...) }
	}
}

// WithTolerance sets how old a signature may be and how far ahead of this
// server's clock it may be dated. The defaults are DefaultTolerance and
// DefaultFutureTolerance, which 0 stands for.
func WithTolerance(past, future time.Duration) WebhookOption {
	return func(s *webhookSettings) { s.past, s.future = past, future }
}

// WithDeduplicator sets what remembers the events that were handled. The
// default is NewMemoryDeduplicator(0, 0): one process, until it ends.
func WithDeduplicator(d Deduplicator) WebhookOption {
	return func(s *webhookSettings) { s.dedupe = d }
}

// WithMaxEventBody sets how large the body of a delivery may be, in bytes. The
// default is DefaultMaxEventBody.
func WithMaxEventBody(n int64) WebhookOption { return func(s *webhookSettings) { s.maxBody = n } }

// WithHandleTimeout bounds fn's context. The default, 0, is no bound but the
// request's own end.
func WithHandleTimeout(d time.Duration) WebhookOption {
	return func(s *webhookSettings) { s.timeout = d }
}

// WithMaxConcurrent sets how many events are handled at a time; a delivery
// beyond that is answered 503. The default, 0, is no limit.
func WithMaxConcurrent(n int) WebhookOption {
	return func(s *webhookSettings) { s.maxConcurrent = n }
}

// WithWebhookLogger logs what was refused at warn, and what failed at error.
// Records hold an event's id and name, never its data. By default only panics
// of fn are logged, where net/http logs those of any handler.
func WithWebhookLogger(l *slog.Logger) WebhookOption {
	return func(s *webhookSettings) { s.logger = l }
}

// NewWebhookHandler returns a handler that calls fn for each event, once, as
// far as can be: see Deduplicator. fn's context ends with the request. When fn
// returns an error, the API will deliver the event again. Calls run
// concurrently, and events may come in any order. How long the API waits for
// an answer is not known: give work that takes long to a queue.
//
// It returns a *ParamError for a setting that cannot work. Without
// WithWebhookSecrets the handler waits for SetSecrets.
func NewWebhookHandler(fn func(context.Context, *Event) error, opts ...WebhookOption) (*WebhookHandler, error) {
	h := &WebhookHandler{fn: fn, webhookSettings: webhookSettings{maxBody: DefaultMaxEventBody}}
	for _, opt := range opts {
		opt(&h.webhookSettings)
	}
	switch {
	case fn == nil:
		return nil, invalid("NewWebhookHandler: fn", "is required")
	case h.maxBody <= 0:
		return nil, invalid("WithMaxEventBody", "must be positive")
	case h.timeout < 0:
		return nil, invalid("WithHandleTimeout", "must not be negative")
	case h.maxConcurrent < 0:
		return nil, invalid("WithMaxConcurrent", "must not be negative")
	}
	if h.maxConcurrent > 0 {
		h.slots = make(chan struct{}, h.maxConcurrent)
	}
	if h.dedupe == nil {
		h.dedupe = NewMemoryDeduplicator(0, 0)
	}
	if h.setSecrets != nil {
		if err := h.setSecrets(h); err != nil {
			return nil, err
		}
	}
	return h, nil
}

// SetSecrets replaces the secrets, for deliveries from then on: to take a new
// one in without a restart, or as WebhookConfigEnsureParams.BeforeTest. It
// returns a *ParamError for an empty one.
func (h *WebhookHandler) SetSecrets(secrets ...Secret) error {
	if err := checkSecrets(secrets); err != nil {
		return err
	}
	secrets = slices.Clone(secrets)
	h.secrets.Store(&secrets)
	return nil
}

// ServeHTTP receives a delivery.
func (h *WebhookHandler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	event, err := h.receive(w, r)
	if err == nil {
		err = h.handleInSlot(r.Context(), event)
	}
	if err == nil {
		_, _ = io.WriteString(w, "OK")
		return
	}
	refused, ok := errors.AsType[*refusal](err)
	switch {
	case ok:
		h.log(r.Context(), slog.LevelWarn, "webhook delivery refused", slog.Int("status", refused.status), slog.Any("error", refused.err))
	case errors.Is(err, ErrEventInProgress):
		refused = refuse(http.StatusServiceUnavailable, "the event is being handled")
	default: // Handle has logged it; what fn says is nobody else's business
		refused = refuse(http.StatusInternalServerError, "the event could not be handled")
	}
	switch refused.status {
	case http.StatusMethodNotAllowed:
		w.Header().Set("Allow", http.MethodPost)
	case http.StatusServiceUnavailable:
		w.Header().Set("Retry-After", webhookRetryAfter)
	}
	http.Error(w, strings.TrimPrefix(refused.err.Error(), "ricloud: "), refused.status)
}

// refusal is an answer other than 200.
type refusal struct {
	status int
	err    error
}

func (f *refusal) Error() string { return f.err.Error() }

func refuse(status int, reason string) *refusal { return &refusal{status, errors.New(reason)} }

// receive reads and verifies a delivery, or says why not. What costs nothing
// is looked at first, and nothing of the body before its signature.
func (h *WebhookHandler) receive(w http.ResponseWriter, r *http.Request) (*Event, error) {
	secrets := h.secrets.Load()
	switch {
	case r.Method != http.MethodPost:
		return nil, refuse(http.StatusMethodNotAllowed, "events are posted")
	case !isJSON(r.Header):
		return nil, refuse(http.StatusUnsupportedMediaType, "events are JSON, not compressed")
	case secrets == nil:
		return nil, refuse(http.StatusServiceUnavailable, "the receiver has no webhook secret yet")
	}
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, h.maxBody)) //nolint:forbidigo // bounded by the MaxBytesReader
	if _, ok := errors.AsType[*http.MaxBytesError](err); ok {
		return nil, refuse(http.StatusRequestEntityTooLarge, fmt.Sprintf("an event has at most %d bytes here", h.maxBody))
	}
	if err != nil {
		return nil, &refusal{http.StatusBadRequest, fmt.Errorf("reading the body: %w", err)}
	}
	verifier := WebhookVerifier{Secrets: *secrets, Past: h.past, Future: h.future}
	if err := verifier.Verify(r.Header.Get(SignatureHeader), body); err != nil {
		return nil, &refusal{http.StatusUnauthorized, err}
	}
	event, err := ParseEvent(body)
	if err != nil {
		return nil, &refusal{http.StatusBadRequest, err}
	}
	return event, nil
}

// isJSON passes a missing type over: the contract does not say what the API
// sends, and the signature tells.
func isJSON(h http.Header) bool {
	if encoding := h.Get("Content-Encoding"); encoding != "" && encoding != "identity" {
		return false
	}
	contentType := h.Get("Content-Type")
	if contentType == "" {
		return true
	}
	media, _, err := mime.ParseMediaType(contentType)
	return err == nil && (strings.HasSuffix(media, "/json") || strings.HasSuffix(media, "+json"))
}

// handleInSlot is Handle while fewer than the most events are being handled.
func (h *WebhookHandler) handleInSlot(ctx context.Context, event *Event) error {
	if h.slots != nil {
		select {
		case h.slots <- struct{}{}:
			defer func() { <-h.slots }()
		default:
			return refuse(http.StatusServiceUnavailable, "too many events at a time")
		}
	}
	return h.Handle(ctx, event)
}

// Handle hands an event to fn unless it was handled before, wherever it came
// from: EventsService.Replay, or a queue of your own. It returns nil when the
// event is handled, now or before, ErrEventInProgress when another call is at
// it, and what fn or the Deduplicator returned otherwise. A panic of fn is
// logged and returned as an error.
func (h *WebhookHandler) Handle(ctx context.Context, event *Event) error {
	if event.ID == "" {
		return invalid("WebhookHandler.Handle: event.ID", "is required: events are told apart by it")
	}
	switch err := h.dedupe.Begin(ctx, event.ID); {
	case errors.Is(err, ErrEventDone):
		return nil
	case errors.Is(err, ErrEventInProgress):
		return err
	case err != nil:
		h.log(ctx, slog.LevelError, "webhook event not begun", attrs(event, err)...)
		return fmt.Errorf("ricloud: event %s: deduplicator: %w", event.ID, err)
	}
	settle := h.dedupe.Failed
	defer func() { // whatever becomes of fn, even runtime.Goexit
		// The outcome is recorded even if the sender has hung up meanwhile.
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), dedupeTimeout)
		defer cancel()
		if err := settle(ctx, event.ID); err != nil {
			h.log(ctx, slog.LevelError, "webhook event's outcome not recorded: it may be handled again", attrs(event, err)...)
		}
	}()
	if err := h.call(ctx, event); err != nil {
		return err
	}
	settle = h.dedupe.Done
	return nil
}

// call calls fn, within its time, and logs what goes wrong. A panic is turned
// into an error.
func (h *WebhookHandler) call(ctx context.Context, event *Event) (err error) {
	if h.timeout > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, h.timeout)
		defer cancel()
	}
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("ricloud: event %s (%s): panic: %v", event.ID, event.Name(), p)
			stack := string(debug.Stack())
			if h.logger == nil {
				serverLog(ctx).Printf("%v\n%s", err, stack)
			}
			h.log(ctx, slog.LevelError, "webhook event panicked", append(attrs(event, err), slog.String("stack", stack))...)
		} else if err != nil {
			h.log(ctx, slog.LevelError, "webhook event failed", attrs(event, err)...)
		}
	}()
	return h.fn(ctx, event)
}

// serverLog is where net/http logs the panics of handlers.
func serverLog(ctx context.Context) *log.Logger {
	if server, ok := ctx.Value(http.ServerContextKey).(*http.Server); ok && server.ErrorLog != nil {
		return server.ErrorLog
	}
	return log.Default()
}

func attrs(event *Event, err error) []slog.Attr {
	return []slog.Attr{slog.String("event", string(event.ID)), slog.String("name", event.Name()), slog.Any("error", err)}
}

func (h *WebhookHandler) log(ctx context.Context, level slog.Level, msg string, attrs ...slog.Attr) {
	if h.logger != nil {
		h.logger.LogAttrs(ctx, level, msg, attrs...) //nolint:sloglint // the callers' messages are constants
	}
}
