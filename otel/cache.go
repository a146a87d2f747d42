package otel

import (
	"sync"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"
	"go.opentelemetry.io/otel/trace"
)

// maxCached bounds a cache: the keys are operations, templates, hosts and statuses, which are few,
// but a program may read from any number of buckets.
const maxCached = 4096

// cache keeps what is the same for every call of an operation. It makes the hooks cost less than
// otelhttp (BenchmarkCall): OpenTelemetry allocates for each attribute set and option.
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

// span is how the spans of a kind begin.
type span struct {
	name  string
	start []trace.SpanStartOption
}

type (
	callKey struct {
		operation  string
		background bool
	}
	attemptKey  struct{ operation, method, path, host string }
	measuredKey struct {
		operation, method, path, host string
		status                        int
		failure                       string
	}
)

// callSpan returns how the span of a call begins.
func (h *Hooks) callSpan(key callKey) span {
	return h.callSpans.get(key, func() span {
		return h.newSpan("ricloud "+key.operation, trace.SpanKindInternal,
			attribute.String("ricloud.operation", key.operation), attribute.Bool("ricloud.background",
				key.background))
	})
}

// attemptSpan returns how the span of an attempt begins.
func (h *Hooks) attemptSpan(key attemptKey) span {
	return h.attemptSpans.get(key, func() span {
		name := method(key.method)
		if key.path != "" {
			name += " " + key.path
		}
		attributes := append(request(key.method, key.path, key.host),
			attribute.String("ricloud.operation", key.operation))
		return h.newSpan(name, trace.SpanKindClient, attributes...)
	})
}

func (h *Hooks) newSpan(name string, kind trace.SpanKind, attributes ...attribute.KeyValue) span {
	return span{name, []trace.SpanStartOption{
		trace.WithSpanKind(kind), trace.WithAttributes(h.with(attributes)...),
	}}
}

// request returns the attributes of a request that its span and its metric share.
func request(httpMethod, path, host string) []attribute.KeyValue {
	attributes := []attribute.KeyValue{attribute.String("http.request.method", method(httpMethod))}
	if path != "" {
		attributes = append(attributes, attribute.String("url.template", path))
	}
	return append(attributes, address(host)...)
}

// measuredCall returns the attributes of a call's metrics.
func (h *Hooks) measuredCall(operation, failure string) []metric.RecordOption {
	return h.measurements.get(measuredKey{operation: operation, failure: failure},
		func() []metric.RecordOption {
			attributes := []attribute.KeyValue{attribute.String("ricloud.operation", operation)}
			if failure != "" {
				attributes = append(attributes, attribute.String("error.type", failure))
			}
			return []metric.RecordOption{h.measured(attributes...)}
		})
}

// measuredTurn returns the attributes of a wait for a turn.
func (h *Hooks) measuredTurn(background bool) []metric.RecordOption {
	return h.turns.get(background, func() []metric.RecordOption {
		return []metric.RecordOption{h.measured(attribute.Bool("ricloud.background", background))}
	})
}

// measuredAttempt returns the attributes of an attempt's metric.
func (h *Hooks) measuredAttempt(key measuredKey) []metric.RecordOption {
	return h.measurements.get(key, func() []metric.RecordOption {
		attributes := request(key.method, key.path, key.host)
		if key.status > 0 {
			attributes = append(attributes, attribute.Int("http.response.status_code", key.status))
		}
		if key.failure != "" {
			attributes = append(attributes, attribute.String("error.type", key.failure))
		}
		return []metric.RecordOption{h.measured(attributes...)}
	})
}
