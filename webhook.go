package ricloud

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"log"
	"log/slog"
	"mime"
	"net/http"
	"runtime/debug"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"time"
)

// SignatureHeader is the header that carries the signature of a delivery:
//
//	Ricloud-Signature: t=<unix seconds>,s=<base64 of HMAC-SHA256(secret, "<t>.<body>")>
const SignatureHeader = "Ricloud-Signature"

// How far from now a signature may be dated, unless a WebhookVerifier says
// otherwise: what the vendor's client allows the past, and a clock that is
// slightly off.
const (
	DefaultTolerance       = 10 * time.Minute
	DefaultFutureTolerance = time.Minute
)

// Why a delivery is not believed. ErrSignature is all of them. None of their
// texts repeats a signature or a secret.
var (
	ErrSignature          = errors.New("ricloud: webhook signature")
	ErrSignatureMissing   = fmt.Errorf("%w: the %s header is missing", ErrSignature, SignatureHeader)
	ErrSignatureMalformed = fmt.Errorf("%w: the %s header is not t=<seconds>,s=<base64>", ErrSignature, SignatureHeader)
	ErrSignatureMismatch  = fmt.Errorf("%w: it does not fit the body and the secret: is it this webhook config's, and did nothing change the body on its way?", ErrSignature)
	ErrSignatureTooOld    = fmt.Errorf("%w: it is too old", ErrSignature)
	ErrSignatureTooNew    = fmt.Errorf("%w: it is dated in the future", ErrSignature)
)

// VerifyWebhook reports whether body is what the API sent: nil, or an error
// that is ErrSignature and says which kind. The header is the value of
// SignatureHeader, the body the raw bytes of the request, the secret the one
// of the WebhookConfig. While a secret is being replaced, give both. A missing
// or empty secret is a *ParamError. WebhookVerifier has other tolerances than
// the default. (Contract §13.)
func VerifyWebhook(header string, body []byte, secrets ...Secret) error {
	return WebhookVerifier{Secrets: secrets}.Verify(header, body)
}

// WebhookVerifier is VerifyWebhook with settings. It is safe for concurrent
// use.
type WebhookVerifier struct {
	Secrets []Secret      // one must fit; none may be empty
	Past    time.Duration // how old a signature may be; 0: DefaultTolerance
	Future  time.Duration // how far ahead it may be dated; 0: DefaultFutureTolerance
}

// Verify is VerifyWebhook with v's settings.
func (v WebhookVerifier) Verify(header string, body []byte) error {
	if err := checkSecrets(v.Secrets); err != nil {
		return err
	}
	if header == "" {
		return ErrSignatureMissing
	}
	t, signature, ok := parseSignature(header)
	if !ok {
		return ErrSignatureMalformed
	}
	seconds, err := strconv.ParseUint(t, 10, 62)
	if err != nil {
		return ErrSignatureMalformed
	}
	if !v.fits(t, signature, body) {
		return ErrSignatureMismatch
	}
	// Only what the API did sign is worth a look at its date.
	age := time.Now().Unix() - int64(seconds)
	if past := seconds64(v.Past, DefaultTolerance); age > past {
		return fmt.Errorf("%w: %d s, and %d s are allowed; is this server's clock right?", ErrSignatureTooOld, age, past)
	}
	if future := seconds64(v.Future, DefaultFutureTolerance); -age > future {
		return fmt.Errorf("%w: %d s, and %d s are allowed; is this server's clock right?", ErrSignatureTooNew, -age, future)
	}
	return nil
}

// fits reports, in a time that tells nothing, whether one of the secrets makes
// the signature. Encodings are compared, not digests: base64 has spellings
// that decode alike.
func (v WebhookVerifier) fits(t, signature string, body []byte) bool {
	given, prefix := []byte(signature), append([]byte(t), '.')
	found := false
	for _, secret := range v.Secrets {
		mac := hmac.New(sha256.New, mask(secret.masked))
		mac.Write(prefix)
		mac.Write(body)
		want := base64.StdEncoding.AppendEncode(nil, mac.Sum(nil))
		found = hmac.Equal(want, given) || found
	}
	return found
}

// parseSignature reads fields in any order and passes over unknown ones. A
// field that comes twice is nothing the API sends.
func parseSignature(header string) (t, signature string, ok bool) {
	for field := range strings.SplitSeq(header, ",") {
		name, value, found := strings.Cut(field, "=")
		if !found {
			return "", "", false
		}
		into := &t
		switch name {
		case "t":
		case "s":
			into = &signature
		default:
			continue
		}
		if value == "" || *into != "" {
			return "", "", false
		}
		*into = value
	}
	return t, signature, t != "" && len(signature) == base64.StdEncoding.EncodedLen(sha256.Size)
}

func checkSecrets(secrets []Secret) error {
	switch {
	case len(secrets) == 0:
		return invalid("webhook secret", "is required: it is WebhookConfig.Secret")
	case slices.Contains(secrets, NewSecret("")):
		return invalid("webhook secret", "is empty: anyone could sign with it")
	}
	for _, s := range secrets {
		if err := checkSecret("webhook secret", s); err != nil {
			return err
		}
	}
	return nil
}

func seconds64(d, otherwise time.Duration) int64 {
	if d <= 0 {
		d = otherwise
	}
	return int64(d / time.Second)
}

// DefaultWebhookMaxBody is how large the body of a delivery may be, in bytes,
// unless WithWebhookMaxBody says otherwise.
const DefaultWebhookMaxBody = 1 << 20

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
// It takes a POST of at most DefaultWebhookMaxBody bytes, verifies its signature
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

// WithWebhookTolerance sets how old a signature may be and how far ahead of this
// server's clock it may be dated. The defaults are DefaultTolerance and
// DefaultFutureTolerance, which 0 stands for.
func WithWebhookTolerance(past, future time.Duration) WebhookOption {
	return func(s *webhookSettings) { s.past, s.future = past, future }
}

// WithWebhookDeduplicator sets what remembers the events that were handled. The
// default is NewMemoryDeduplicator(0, 0): one process, until it ends.
func WithWebhookDeduplicator(d Deduplicator) WebhookOption {
	return func(s *webhookSettings) { s.dedupe = d }
}

// WithWebhookMaxBody sets how large the body of a delivery may be, in bytes. The
// default is DefaultWebhookMaxBody.
func WithWebhookMaxBody(n int64) WebhookOption { return func(s *webhookSettings) { s.maxBody = n } }

// WithWebhookTimeout bounds fn's context. The default, 0, is no bound but the
// request's own end.
func WithWebhookTimeout(d time.Duration) WebhookOption {
	return func(s *webhookSettings) { s.timeout = d }
}

// WithWebhookMaxConcurrent sets how many events are handled at a time; a delivery
// beyond that is answered 503. The default, 0, is no limit.
func WithWebhookMaxConcurrent(n int) WebhookOption {
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
	h := &WebhookHandler{fn: fn, webhookSettings: webhookSettings{maxBody: DefaultWebhookMaxBody}}
	for _, opt := range opts {
		opt(&h.webhookSettings)
	}
	switch {
	case fn == nil:
		return nil, invalid("NewWebhookHandler: fn", "is required")
	case h.maxBody <= 0:
		return nil, invalid("WithWebhookMaxBody", "must be positive")
	case h.timeout < 0:
		return nil, invalid("WithWebhookTimeout", "must not be negative")
	case h.maxConcurrent < 0:
		return nil, invalid("WithWebhookMaxConcurrent", "must not be negative")
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
