package otel

import (
	"errors"
	"slices"
	"sync"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"
	"go.opentelemetry.io/otel/trace"

	ricloud "github.com/reincubate/ricloud-go"
)

// maxCached bounds a cache. Operations, templates and statuses are few, but a program may read from
// any number of hosts.
const maxCached = 4096

// cache keeps attributes and options, which are the same for every call of an operation.
// OpenTelemetry allocates for each. With the cache, the hooks cost less than otelhttp
// (BenchmarkCall).
type cache[K comparable, V any] struct {
	mu    sync.RWMutex
	items map[K]V
}

func (c *cache[K, V]) get(key K, create func() V) V {
	c.mu.RLock()
	item, ok := c.items[key]
	c.mu.RUnlock()
	if ok {
		return item
	}
	item = create()
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.items == nil {
		c.items = map[K]V{}
	}
	if len(c.items) < maxCached {
		c.items[key] = item
	}
	return item
}

// kind is what calls, or attempts, that begin alike have in common.
type kind struct {
	name  string
	start []trace.SpanStartOption // with what a sampler decides by
	ends  cache[end, *ending]
}

// end says how a call or an attempt ended, in few words: it is part of a key.
type end struct {
	status  int    // 0: not known
	failure string // its error.type; empty: a success
	code    string // the API's code; empty: it sent none
}

// ending is what calls, or attempts, that also ended alike have in common.
type ending struct {
	span   []attribute.KeyValue // set together at the end: each change of a span copies them all
	metric []metric.RecordOption
}

type (
	callKey struct {
		operation  string
		background bool
	}
	attemptKey struct{ operation, method, path, host string }
)

// newKind returns a kind whose spans begin with attributes.
func (h *Hooks) newKind(
	name string, of trace.SpanKind, attributes ...attribute.KeyValue,
) *kind {
	return &kind{name: name, start: []trace.SpanStartOption{
		trace.WithSpanKind(of), trace.WithAttributes(h.with(attributes)...),
	}}
}

// callKind returns what a call has in common with others.
func (h *Hooks) callKind(key callKey) *kind {
	return h.calls.get(key, func() *kind {
		var sampled []attribute.KeyValue // the name says the operation
		if key.background {
			sampled = append(sampled, attribute.Bool("ricloud.background", true))
		}
		return h.newKind("ricloud "+key.operation, trace.SpanKindInternal, sampled...)
	})
}

// attemptKind returns what an attempt has in common with others.
func (h *Hooks) attemptKind(key attemptKey) *kind {
	return h.attempts.get(key, func() *kind {
		name := method(key.method)
		if key.path != "" {
			name += " " + key.path
		}
		return h.newKind(name, trace.SpanKindClient, request(key)...)
	})
}

// request returns the attributes of a request that its span and its metric share.
func request(key attemptKey) []attribute.KeyValue {
	attributes := []attribute.KeyValue{attribute.String("http.request.method", method(key.method))}
	if key.path != "" {
		attributes = append(attributes, attribute.String("url.template", key.path))
	}
	return append(attributes, address(key.host)...)
}

// callEnding returns the attributes of a call that has ended.
func (h *Hooks) callEnding(k *kind, operation string, e end) *ending {
	return k.ends.get(e, func() *ending {
		ended := append(e.failed(), attribute.String("ricloud.operation", operation))
		return &ending{
			span:   append(slices.Clip(ended), e.coded()...),
			metric: []metric.RecordOption{h.measured(ended...)},
		}
	})
}

// attemptEnding returns the attributes of an attempt that has ended.
func (h *Hooks) attemptEnding(k *kind, key attemptKey, e end) *ending {
	return k.ends.get(e, func() *ending {
		ended := e.failed()
		if e.status > 0 {
			ended = append(ended, attribute.Int("http.response.status_code", e.status))
		}
		return &ending{
			span:   append(slices.Clip(ended), attribute.String("ricloud.operation", key.operation)),
			metric: []metric.RecordOption{h.measured(append(request(key), ended...)...)},
		}
	})
}

// failed returns the type of a failure.
func (e end) failed() []attribute.KeyValue {
	if e.failure == "" {
		return nil
	}
	return []attribute.KeyValue{attribute.String("error.type", e.failure)}
}

// coded returns the API's code of a failure. Only spans have it.
func (e end) coded() []attribute.KeyValue {
	if e.code == "" {
		return nil
	}
	return []attribute.KeyValue{attribute.String("ricloud.error_code", e.code)}
}

// measuredTurn returns the attributes of a wait for a turn.
func (h *Hooks) measuredTurn(background bool) []metric.RecordOption {
	return h.turns.get(background, func() []metric.RecordOption {
		return []metric.RecordOption{h.measured(attribute.Bool("ricloud.background", background))}
	})
}

// codeOf returns the API's code of an error if the SDK knows it. What an answer holds in its place
// may repeat what was sent.
func codeOf(err error) string {
	e, ok := errors.AsType[*ricloud.Error](err)
	if !ok || e.Code == "" {
		return ""
	}
	switch e.Code {
	case ricloud.CodeInvalidBody, ricloud.CodeInvalidParameter, ricloud.CodeUnconfigured,
		ricloud.CodeMissingScope, ricloud.CodeLimitExceeded, ricloud.CodeSessionExpired,
		ricloud.CodeTwoFactorRequired, ricloud.CodePairingInvalid:
		return string(e.Code)
	}
	return "other"
}
