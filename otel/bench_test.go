package otel_test

import (
	"io"
	"net/http"
	"runtime"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/contrib/instrumentation/net/http/otelhttp"
	sdkmetric "go.opentelemetry.io/otel/sdk/metric"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"

	ricloud "github.com/reincubate/ricloud-go"
	"github.com/reincubate/ricloud-go/otel"
)

// canned gives every request the same answer, without a network.
type canned struct{}

func (canned) RoundTrip(*http.Request) (*http.Response, error) {
	return &http.Response{
		StatusCode: http.StatusOK, Header: http.Header{"Content-Type": {"application/json"}},
		ContentLength: 25,
		Body:          io.NopCloser(strings.NewReader(`{"id":1,"state":"active"}`)),
	}, nil
}

// costs returns the clients to compare: without instrumentation, with our hooks, and with otelhttp.
func costs(tb testing.TB) []cost {
	tb.Helper()
	tracers := sdktrace.NewTracerProvider() // samples everything and exports nothing
	meters := sdkmetric.NewMeterProvider(sdkmetric.WithReader(sdkmetric.NewManualReader()))
	hooks, err := otel.New(otel.WithTracerProvider(tracers), otel.WithMeterProvider(meters))
	require.NoError(tb, err)
	all := []cost{
		{name: "bare", client: nil, opts: []ricloud.Option{ricloud.WithTransport(canned{})}},
		{
			name:   "hooks",
			client: nil,
			opts:   []ricloud.Option{ricloud.WithTransport(canned{}), ricloud.WithHooks(hooks)},
		},
		{
			name:   "otelhttp",
			client: nil,
			opts: []ricloud.Option{ricloud.WithTransport(otelhttp.NewTransport(canned{},
				otelhttp.WithTracerProvider(tracers), otelhttp.WithMeterProvider(meters)))},
		},
	}
	for i := range all {
		all[i].client, err = ricloud.NewClient("token", all[i].opts...)
		require.NoError(tb, err)
	}
	return all
}

type cost struct {
	name   string
	client *ricloud.Client
	opts   []ricloud.Option
}

// BenchmarkCall compares the cost that our hooks add to a call with the cost that otelhttp adds.
func BenchmarkCall(b *testing.B) {
	for _, c := range costs(b) {
		b.Run(c.name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if _, err := c.client.Organisation.Get(b.Context()); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// Our hooks record two spans and their metrics with fewer allocations than otelhttp needs for one.
//
//nolint:paralleltest // the counts are of all goroutines
func TestHooksAllocateLessThanOtelhttp(t *testing.T) {
	const calls = 500
	allocations, size := map[string]uint64{}, map[string]uint64{}
	for _, c := range costs(t) {
		_, _ = c.client.Organisation.Get(t.Context()) // fills the caches
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		for range calls {
			_, _ = c.client.Organisation.Get(t.Context())
		}
		runtime.ReadMemStats(&after)
		allocations[c.name] = (after.Mallocs - before.Mallocs) / calls
		size[c.name] = (after.TotalAlloc - before.TotalAlloc) / calls
	}
	assert.Less(t, allocations["hooks"], allocations["otelhttp"])
	assert.Less(t, size["hooks"], size["otelhttp"])
}
