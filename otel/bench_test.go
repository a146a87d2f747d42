package otel_test

import (
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/contrib/instrumentation/net/http/otelhttp"
	sdkmetric "go.opentelemetry.io/otel/sdk/metric"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"

	ricloud "github.com/reincubate/ricloud-go"
	"github.com/reincubate/ricloud-go/otel"
)

// canned answers every request alike, without a network.
type canned struct{}

func (canned) RoundTrip(*http.Request) (*http.Response, error) {
	return &http.Response{
		StatusCode: http.StatusOK, Header: http.Header{"Content-Type": {"application/json"}},
		ContentLength: 25,
		Body:          io.NopCloser(strings.NewReader(`{"id":1,"state":"active"}`)),
	}, nil
}

// BenchmarkCall compares what hooks cost on top of a call with what otelhttp costs on top of it.
func BenchmarkCall(b *testing.B) {
	tracers := sdktrace.NewTracerProvider() // samples everything, exports nothing
	meters := sdkmetric.NewMeterProvider(sdkmetric.WithReader(sdkmetric.NewManualReader()))
	hooks, err := otel.New(otel.WithTracerProvider(tracers), otel.WithMeterProvider(meters))
	require.NoError(b, err)
	for name, opts := range map[string][]ricloud.Option{
		"bare":  {ricloud.WithTransport(canned{})},
		"hooks": {ricloud.WithTransport(canned{}), ricloud.WithHooks(hooks)},
		"otelhttp": {ricloud.WithTransport(otelhttp.NewTransport(canned{},
			otelhttp.WithTracerProvider(tracers), otelhttp.WithMeterProvider(meters)))},
	} {
		b.Run(name, func(b *testing.B) {
			client, err := ricloud.NewClient("token", opts...)
			require.NoError(b, err)
			b.ReportAllocs()
			for b.Loop() {
				if _, err := client.Organisation.Get(b.Context()); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
