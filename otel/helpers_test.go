package otel_test

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	sdkmetric "go.opentelemetry.io/otel/sdk/metric"
	"go.opentelemetry.io/otel/sdk/metric/metricdata"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"
	"go.opentelemetry.io/otel/trace"

	ricloud "github.com/reincubate/ricloud-go"
	"github.com/reincubate/ricloud-go/otel"
)

// seen collects what the hooks record.
type seen struct {
	spans   *tracetest.SpanRecorder
	tracers *sdktrace.TracerProvider
	metrics *sdkmetric.ManualReader
	hooks   *otel.Hooks
}

func newSeen(t *testing.T, opts ...otel.Option) *seen {
	t.Helper()
	s := &seen{spans: tracetest.NewSpanRecorder(), metrics: sdkmetric.NewManualReader()}
	s.tracers = sdktrace.NewTracerProvider(sdktrace.WithSpanProcessor(s.spans))
	meters := sdkmetric.NewMeterProvider(sdkmetric.WithReader(s.metrics))
	var err error
	s.hooks, err = otel.New(append([]otel.Option{
		otel.WithTracerProvider(s.tracers), otel.WithMeterProvider(meters),
	}, opts...)...)
	require.NoError(t, err)
	return s
}

// inSpan runs f in a span of the user's own.
func (s *seen) inSpan(ctx context.Context, name string, f func(context.Context)) {
	ctx, span := s.tracers.Tracer("app").Start(ctx, name)
	defer span.End()
	f(ctx)
}

// tree draws the spans below their parents, in the order in which they began. Traces that began at
// the same time are sorted by name.
func (s *seen) tree() string {
	spans := s.spans.Ended()
	first := func(span sdktrace.ReadOnlySpan) string { // a trace's first span, by name
		if span.Parent().IsValid() {
			return ""
		}
		return span.Name()
	}
	slices.SortStableFunc(spans, func(a, b sdktrace.ReadOnlySpan) int {
		return cmp.Or(a.StartTime().Compare(b.StartTime()), strings.Compare(first(a), first(b)))
	})
	var b strings.Builder
	var draw func(parent trace.SpanID, indent string)
	draw = func(parent trace.SpanID, indent string) {
		for _, span := range spans {
			if span.Parent().SpanID() != parent {
				continue
			}
			fmt.Fprintf(&b, "%s%s (%s", indent, span.Name(), span.SpanKind())
			if n := len(span.Links()); n > 0 {
				fmt.Fprintf(&b, ", %d links", n)
			}
			fmt.Fprintf(&b, ")%s\n",
				map[bool]string{true: " failed"}[span.Status().Code.String() == "Error"])
			draw(span.SpanContext().SpanID(), indent+"  ")
		}
	}
	draw(trace.SpanID{}, "")
	return b.String()
}

// collected returns all metrics.
func (s *seen) collected(t *testing.T) map[string]metricdata.Metrics {
	t.Helper()
	var data metricdata.ResourceMetrics
	require.NoError(t, s.metrics.Collect(t.Context(), &data))
	found := map[string]metricdata.Metrics{}
	for _, scope := range data.ScopeMetrics {
		for _, m := range scope.Metrics {
			found[m.Name] = m
		}
	}
	return found
}

// dump returns everything that was recorded as text, to search in.
func (s *seen) dump(t *testing.T) string {
	t.Helper()
	var b strings.Builder
	for _, span := range s.spans.Ended() {
		fmt.Fprintln(&b, span.Name(), span.Attributes(), span.Status(), span.Events(), span.Links())
	}
	for name, m := range s.collected(t) {
		fmt.Fprintf(&b, "%s %+v\n", name, m.Data)
	}
	return b.String()
}

// session logs in to an account of the sandbox that asks for a code.
func session(ctx context.Context, t *testing.T, client *ricloud.Client) *ricloud.Session {
	t.Helper()
	user, err := client.Users.Create(ctx, ricloud.UserCreateParams{Identifier: "canary-customer"})
	require.NoError(t, err)
	got, err := client.Sessions.Login(ctx, ricloud.SessionCreateParams{
		Source: ricloud.SourceParams{
			User: user.ID, Type: ricloud.SourceICloudAccount, Identifier: "canary@example.com",
		},
		Payload: ricloud.SessionPayload{Password: ricloud.NewSecret("canary-password")},
	}, func(context.Context, ricloud.CodeChallenge) (ricloud.Secret, error) {
		return ricloud.NewSecret("246813"), nil
	})
	require.NoError(t, err)
	return got
}
