// Package otel makes traces and metrics of what a ricloud client does, with OpenTelemetry:
//
//	hooks, err := otel.New()
//	client, err := ricloud.NewClient(token, ricloud.WithHooks(hooks))
//
// # Traces
//
//   - "ricloud Sessions.Create": one internal span per call, with its retries
//   - "POST /sessions": one client span per attempt, at the API or at storage
//   - "ricloud download": one internal span per result file
//   - "ricloud wait poll": one internal span per wait; the reads that waits share are spans of
//     their own, linked to the spans of the waits
//   - "ricloud event poll.completed": one consumer span per delivery
//   - "ricloud step polling": one internal span per step of an account of the module ingest, and
//     "ricloud step result" for each call of its handler, with the calls and downloads inside
//
// # Metrics
//
//   - http.client.request.duration: seconds per attempt
//   - ricloud.operation.duration: seconds per call, with its retries
//   - ricloud.operation.retries: attempts after the first
//   - ricloud.quota.wait: seconds that an attempt waited for its turn
//   - ricloud.waits.active, ricloud.wait.oldest, ricloud.wait.duration: waits now, the age of the
//     oldest, and seconds per wait
//   - ricloud.quota.left, ricloud.turns.waiting, ricloud.downloads.unverified: what Client.Stats
//     says, for clients that are given to [Hooks.ObserveStats]
//   - ricloud.download.io, ricloud.download.resumes, ricloud.download.duration: bytes, broken
//     connections that were resumed, and seconds per result file
//   - ricloud.events, ricloud.event.age: deliveries by name and outcome, and seconds since the
//     event was made
//   - ricloud.oddities: fields of an odd type
//   - ricloud.step.duration: seconds per step of the module ingest, by step and outcome
//
// HTTP attributes follow the stable semantic conventions. Nothing secret, and nothing of a query,
// a body or a header value, is recorded. A failed span says what failed by error.type and, where
// the API sent one, ricloud.error_code, and never by the error's text. Metrics carry no ids.
package otel

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"slices"
	"strconv"
	"time"

	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/metric"
	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/trace"

	ricloud "github.com/reincubate/ricloud-go"
)

// scope names the instrumentation.
const scope = "github.com/reincubate/ricloud-go/otel"

// Hooks are the hooks for ricloud.WithHooks, ricloud.WithWebhookHooks and the Handlers of the
// module ingest. They are safe for concurrent use, and several clients may share them.
type Hooks struct {
	tracer      trace.Tracer
	propagator  propagation.TextMapPropagator // nil: nothing is propagated
	attributes  []attribute.KeyValue
	instruments instruments

	meter  metric.Meter
	oldest oldest

	calls    cache[callKey, *kind]
	attempts cache[attemptKey, *kind]
	turns    cache[bool, []metric.RecordOption]
}

// The hooks that ricloud calls.
var (
	_ ricloud.CallHook     = (*Hooks)(nil)
	_ ricloud.AttemptHook  = (*Hooks)(nil)
	_ ricloud.DownloadHook = (*Hooks)(nil)
	_ ricloud.WaitHook     = (*Hooks)(nil)
	_ ricloud.WebhookHook  = (*Hooks)(nil)
	_ ricloud.DecodeHook   = (*Hooks)(nil)
	_ ricloud.StepHook     = (*Hooks)(nil)
)

// Option configures the hooks.
type Option func(*settings)

type settings struct {
	tracers    trace.TracerProvider
	meters     metric.MeterProvider
	propagator propagation.TextMapPropagator
	attributes []attribute.KeyValue
}

// WithTracerProvider sets where spans go. The default is the global provider.
func WithTracerProvider(p trace.TracerProvider) Option {
	return func(s *settings) { s.tracers = p }
}

// WithMeterProvider sets where metrics go. The default is the global provider.
func WithMeterProvider(p metric.MeterProvider) Option { return func(s *settings) { s.meters = p } }

// WithPropagator sends the trace's context to the API with each request, in the headers that p
// writes. It is never sent to storage. The default sends nothing.
func WithPropagator(p propagation.TextMapPropagator) Option {
	return func(s *settings) { s.propagator = p }
}

// WithAttributes adds attributes, such as the tenant, to every span and every metric. Each distinct
// value makes time series of its own.
func WithAttributes(attributes ...attribute.KeyValue) Option {
	return func(s *settings) { s.attributes = append(s.attributes, attributes...) }
}

// New returns hooks. It returns an error if an option or a provider is nil, or if the meter
// provider refuses an instrument.
func New(opts ...Option) (*Hooks, error) {
	s := settings{tracers: otel.GetTracerProvider(), meters: otel.GetMeterProvider()}
	for i, opt := range opts {
		if opt == nil {
			return nil, fmt.Errorf("otel: New: option %d is nil", i)
		}
		opt(&s)
	}
	if s.tracers == nil || s.meters == nil {
		return nil, errors.New("otel: New: a provider is nil")
	}
	version := ricloud.Version
	meter := s.meters.Meter(scope, metric.WithInstrumentationVersion(version))
	made, err := newInstruments(meter)
	if err != nil {
		return nil, fmt.Errorf("otel: New: %w", err)
	}
	h := &Hooks{
		meter:       meter,
		tracer:      s.tracers.Tracer(scope, trace.WithInstrumentationVersion(version)),
		propagator:  s.propagator,
		attributes:  s.attributes,
		instruments: made,
	}
	if err := h.observeOldest(); err != nil {
		return nil, fmt.Errorf("otel: New: %w", err)
	}
	return h, nil
}

// start begins a span.
func (h *Hooks) start(
	ctx context.Context, name string, kind trace.SpanKind, attributes ...attribute.KeyValue,
) (context.Context, trace.Span) {
	return h.tracer.Start(ctx, name, trace.WithSpanKind(kind),
		trace.WithAttributes(h.with(attributes)...))
}

// with returns attributes with the hooks' own.
func (h *Hooks) with(attributes []attribute.KeyValue) []attribute.KeyValue {
	return append(attributes, h.attributes...)
}

// measured returns the attributes of one measurement.
func (h *Hooks) measured(attributes ...attribute.KeyValue) metric.MeasurementOption {
	return metric.WithAttributeSet(attribute.NewSet(h.with(attributes)...))
}

// Call makes a span of a call.
func (h *Hooks) Call(
	ctx context.Context, info ricloud.CallInfo,
) (context.Context, func(ricloud.CallResult)) {
	kind := h.callKind(callKey{info.Operation, info.Background})
	start := kind.start
	if linked := links(info.Waits); len(linked) > 0 {
		start = append(slices.Clip(start), trace.WithLinks(linked...))
	}
	ctx, span := h.tracer.Start(ctx, kind.name, start...)
	return ctx, func(r ricloud.CallResult) {
		ending := h.callEnding(kind, info.Operation, endOf(r.StatusCode, r.Err))
		finish(span, r.Err != nil, ending.span)
		h.instruments.operation.Record(ctx, r.Duration.Seconds(), ending.metric...)
		if r.Attempts > 1 {
			h.instruments.retries.Add(ctx, int64(r.Attempts-1),
				h.measured(attribute.String("ricloud.operation", info.Operation)))
		}
	}
}

// links returns links to the spans of the contexts that have one.
func links(contexts []context.Context) (found []trace.Link) {
	for _, ctx := range contexts {
		if span := trace.SpanContextFromContext(ctx); span.IsValid() {
			found = append(found, trace.Link{SpanContext: span})
		}
	}
	return found
}

// minTurnWait is the shortest wait for a turn that counts as one.
const minTurnWait = time.Millisecond

// Attempt makes a client span of an attempt.
func (h *Hooks) Attempt(
	ctx context.Context, info ricloud.AttemptInfo,
) (context.Context, func(ricloud.AttemptResult)) {
	key := attemptKey{info.Operation, info.Method, info.Path, info.Host}
	kind := h.attemptKind(key)
	ctx, span := h.tracer.Start(ctx, kind.name, kind.start...)
	if info.Number > 1 {
		span.SetAttributes(attribute.Int("http.request.resend_count", info.Number-1))
	}
	if h.propagator != nil && info.Header != nil {
		h.propagator.Inject(ctx, propagation.HeaderCarrier(info.Header))
	}
	if info.TurnWait >= minTurnWait {
		h.instruments.quotaWait.Record(ctx, info.TurnWait.Seconds(), h.measuredTurn(info.Background)...)
	}
	return ctx, func(r ricloud.AttemptResult) {
		e := endOf(r.StatusCode, r.Err)
		ending := h.attemptEnding(kind, key, e)
		finish(span, e.failure != "", ending.span)
		h.instruments.request.Record(ctx, r.Duration.Seconds(), ending.metric...)
	}
}

// address splits host and port.
func address(host string) []attribute.KeyValue {
	name, port, err := net.SplitHostPort(host)
	if err != nil {
		return []attribute.KeyValue{attribute.String("server.address", host)}
	}
	attributes := []attribute.KeyValue{attribute.String("server.address", name)}
	if n, err := strconv.Atoi(port); err == nil {
		attributes = append(attributes, attribute.Int("server.port", n))
	}
	return attributes
}

// method returns a method that is bounded in number, as the conventions ask.
func method(m string) string {
	switch m {
	case http.MethodGet, http.MethodPost, http.MethodDelete, http.MethodPut,
		http.MethodPatch, http.MethodHead, http.MethodOptions:
		return m
	}
	return "_OTHER"
}

// Download makes a span of a result file.
func (h *Hooks) Download(
	ctx context.Context, info ricloud.DownloadInfo,
) (context.Context, func(ricloud.DownloadResult)) {
	operation, scheme := attribute.String("ricloud.operation", info.Operation), attribute.String(
		"ricloud.storage", info.Scheme,
	)
	ctx, span := h.start(ctx, "ricloud download", trace.SpanKindInternal, operation, scheme,
		attribute.String("ricloud.result.id", string(info.Result)), attribute.Int64("ricloud.result.size",
			info.Size))
	return ctx, func(r ricloud.DownloadResult) {
		e := endOf(0, r.Err)
		measured := append([]attribute.KeyValue{operation, scheme}, e.failed()...)
		span.SetAttributes(attribute.Int64("ricloud.download.done", r.Done),
			attribute.Int("ricloud.download.resumes", r.Resumes),
			attribute.Bool("ricloud.download.verified", r.Verified), attribute.Bool("ricloud.download.found",
				r.Found))
		finish(span, r.Err != nil, append(e.failed(), e.coded()...))
		h.instruments.downloadIO.Add(ctx, r.Done, h.measured(operation, scheme))
		h.instruments.downloadTime.Record(ctx, r.Duration.Seconds(), h.measured(measured...))
		if r.Resumes > 0 {
			h.instruments.resumes.Add(ctx, int64(r.Resumes), h.measured(operation, scheme))
		}
	}
}

// Wait makes a span of a wait.
func (h *Hooks) Wait(
	ctx context.Context, info ricloud.WaitInfo,
) (context.Context, func(ricloud.WaitResult)) {
	resource := attribute.String("ricloud.resource", info.Resource)
	ctx, span := h.start(ctx, "ricloud wait "+info.Resource, trace.SpanKindInternal,
		resource, attribute.String("ricloud.id", string(info.ID)))
	h.instruments.waits.Add(ctx, 1, h.measured(resource))
	forget := h.oldest.add(time.Now())
	return ctx, func(r ricloud.WaitResult) {
		forget()
		h.instruments.waits.Add(ctx, -1, h.measured(resource))
		e := endOf(0, r.Err)
		measured := append([]attribute.KeyValue{
			resource, attribute.Bool("ricloud.by_event", r.ByEvent),
		}, e.failed()...)
		span.SetAttributes(attribute.String("ricloud.state", r.State),
			attribute.Int("ricloud.changes", r.Changes),
			attribute.Bool("ricloud.by_event", r.ByEvent))
		finish(span, r.Err != nil, append(e.failed(), e.coded()...))
		h.instruments.waitTime.Record(ctx, r.Duration.Seconds(), h.measured(measured...))
	}
}

// Webhook makes a consumer span of a delivery.
func (h *Hooks) Webhook(
	ctx context.Context, info ricloud.WebhookInfo,
) (context.Context, func(ricloud.WebhookResult)) {
	event := attribute.String("ricloud.event", eventName(info.Name))
	ctx, span := h.start(ctx, "ricloud event "+eventName(info.Name), trace.SpanKindConsumer, event,
		attribute.String("messaging.system", "ricloud"), attribute.String("messaging.operation.type",
			"process"),
		attribute.String("messaging.message.id", string(info.Event)))
	if info.Age > 0 {
		h.instruments.eventAge.Record(ctx, info.Age.Seconds(), h.measured(event))
	}
	return ctx, func(r ricloud.WebhookResult) {
		outcome := attribute.String("ricloud.outcome", string(r.Outcome))
		span.SetAttributes(outcome)
		if r.StatusCode > 0 {
			span.SetAttributes(attribute.Int("http.response.status_code", r.StatusCode))
		}
		e := endOf(0, r.Err)
		finish(span, r.Err != nil, append(e.failed(), e.coded()...))
		h.instruments.events.Add(ctx, 1, h.measured(event, outcome))
	}
}

// eventName returns an event's name if the SDK knows it. Otherwise a sender could make any number
// of time series.
func eventName(name string) string {
	switch name {
	case ricloud.EventSessionExpired, ricloud.EventPollCreated, ricloud.EventPollCompleted,
		ricloud.EventTaskCreated,
		ricloud.EventTaskSucceeded, ricloud.EventTaskFailed, ricloud.EventWebhookConfigTest:
		return name
	case "":
		return "unread"
	}
	return "other"
}

// Decode counts a field of an odd type.
func (h *Hooks) Decode(ctx context.Context, info ricloud.DecodeInfo) {
	h.instruments.oddities.Add(ctx, 1,
		h.measured(attribute.String("ricloud.operation", info.Operation)))
}

// Step makes a span of a step. The account's key is in the span, and in no metric.
func (h *Hooks) Step(
	ctx context.Context, info ricloud.StepInfo,
) (context.Context, func(ricloud.StepResult)) {
	step := attribute.String("ricloud.step", info.Step)
	attributes := []attribute.KeyValue{step, attribute.String("ricloud.account", info.Account)}
	if info.Result != "" {
		attributes = append(attributes, attribute.String("ricloud.result.id", string(info.Result)),
			attribute.Int("ricloud.attempt", info.Attempt))
	}
	ctx, span := h.start(ctx, "ricloud step "+info.Step, trace.SpanKindInternal, attributes...)
	return ctx, func(r ricloud.StepResult) {
		e := endOf(0, r.Err)
		outcome := attribute.String("ricloud.outcome", string(r.Outcome))
		ended := append(e.failed(), e.coded()...)
		if r.State != "" {
			ended = append(ended, attribute.String("ricloud.state", r.State))
		}
		failed := r.Outcome == ricloud.StepAgain || r.Outcome == ricloud.StepDead
		finish(span, failed, append(ended, outcome))
		h.instruments.stepTime.Record(ctx, r.Duration.Seconds(),
			h.measured(append(e.failed(), step, outcome)...))
	}
}

// finish ends a span. Its status has no description: an error's text may repeat what the API
// repeated of a request, and error.type says what failed.
func finish(span trace.Span, failed bool, attributes []attribute.KeyValue) {
	span.SetAttributes(attributes...)
	if failed {
		span.SetStatus(codes.Error, "")
	}
	span.End()
}

// endOf says how something ended.
func endOf(status int, err error) end {
	e := end{status: status}
	if err != nil || status >= http.StatusBadRequest {
		e.failure, e.code = errorType(status, err), codeOf(err)
	}
	return e
}

// errorType classifies a failure into a small set: a status, or a kind of error.
func errorType(status int, err error) string {
	if status >= http.StatusBadRequest {
		return strconv.Itoa(status)
	}
	if e, ok := errors.AsType[*ricloud.Error](err); ok {
		return strconv.Itoa(e.StatusCode)
	}
	for _, k := range []struct {
		is   error
		name string
	}{
		{context.Canceled, "canceled"},
		{context.DeadlineExceeded, "timeout"},
		{ricloud.ErrChecksum, "checksum"},
		{ricloud.ErrSize, "size"},
		{ricloud.ErrSignature, "signature"},
		{ricloud.ErrTasksFailed, "tasks_failed"},
	} {
		if errors.Is(err, k.is) {
			return k.name
		}
	}
	if _, ok := errors.AsType[*ricloud.StateError](err); ok {
		return "state"
	}
	if _, ok := errors.AsType[*ricloud.DecodeError](err); ok {
		return "decode"
	}
	return "_OTHER"
}
