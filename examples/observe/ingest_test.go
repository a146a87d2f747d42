package main

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	sdkmetric "go.opentelemetry.io/otel/sdk/metric"
	"go.opentelemetry.io/otel/sdk/metric/metricdata"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"

	ricloud "github.com/reincubate/ricloud-go"
	"github.com/reincubate/ricloud-go/ingest"
	"github.com/reincubate/ricloud-go/otel"
	"github.com/reincubate/ricloud-go/ricloudtest"
)

// The same hooks observe the ingest module: the test checks the spans of one account, from its
// login with a code to its acknowledged result. No span or metric contains a secret.
func TestSpansOfAnAccountOfIngest(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		const password, code, identifier = "canary-password", "731994", "jane@example.com"
		spans, metrics := tracetest.NewSpanRecorder(), sdkmetric.NewManualReader()
		hooks, err := otel.New(
			otel.WithTracerProvider(sdktrace.NewTracerProvider(sdktrace.WithSpanProcessor(spans))),
			otel.WithMeterProvider(sdkmetric.NewMeterProvider(sdkmetric.WithReader(metrics))))
		require.NoError(t, err)
		sandbox := ricloudtest.NewServer(ricloudtest.WithAccounts(ricloudtest.Account{
			Identifier: identifier, Password: password, Code: code,
			Data: map[string]ricloudtest.Content{"callkit.calls": ricloudtest.Records("canary-record")},
		}))
		defer sandbox.Close()
		engine, err := ingest.Open(t.Context(), ingest.Config{Memory: true})
		require.NoError(t, err)
		require.NoError(t, engine.Submit(t.Context(), ingest.Account{
			Key:    "customer-42",
			Source: ricloud.SourceParams{Type: ricloud.SourceICloudAccount, Identifier: identifier},
			Poll:   ricloud.PollPayload{DataTypes: []string{"callkit.calls"}},
		}))
		ctx, stop := context.WithCancel(t.Context())
		defer stop()
		asked := make(chan struct{}, 1)
		go func() {
			<-asked
			assert.NoError(t, engine.Code(ctx, "customer-42", ricloud.NewSecret(code)))
		}()
		tried := false
		client := sandbox.Client(ricloud.WithPacer(engine.Pacer()), ricloud.WithHooks(hooks))
		require.NoError(t, engine.Run(ctx, client, ingest.Handlers{
			Hooks: []ricloud.Hook{hooks},
			Secret: func(context.Context, string) (ricloud.Secret, error) {
				return ricloud.NewSecret(password), nil
			},
			Result: func(ctx context.Context, r *ingest.Result) error {
				if !tried {
					tried = true
					return errors.New("the handler failed with canary-text")
				}
				file, err := r.Open(ctx)
				if err != nil {
					return err
				}
				for record, err := range ricloud.Records[json.RawMessage](file) {
					if err != nil {
						return errors.Join(err, file.Close())
					}
					_ = record // a program stores it
				}
				return file.Close()
			},
			Step: func(_ context.Context, _ string, step ingest.Step) {
				switch step.State {
				case ingest.CodeNeeded:
					asked <- struct{}{}
				case ingest.Done:
					stop()
				default:
				}
			},
		}))
		require.NoError(t, engine.Close())

		want, err := os.ReadFile("testdata/ingest.txt")
		require.NoError(t, err)
		ended := spans.Ended()
		assert.Equal(t, string(want), tree(ended))
		var recorded strings.Builder
		for _, span := range ended {
			fmt.Fprintln(&recorded, span.Name(), span.Attributes(), span.Status(), span.Events())
		}
		assert.Contains(t, recorded.String(), "customer-42")
		var data metricdata.ResourceMetrics
		require.NoError(t, metrics.Collect(t.Context(), &data))
		measured := fmt.Sprintf("%+v", data)
		assert.Contains(t, measured, "ricloud.step.duration")
		assert.NotContains(t, measured, "customer-42")
		for _, secret := range []string{"canary", code, identifier, "Signature", sandbox.Token()} {
			assert.NotContains(t, recorded.String()+measured, secret)
		}
	})
}

// byWorker sorts the handler's calls after the engine's steps, because a call may begin before the
// step that caused it ends.
func byWorker(span sdktrace.ReadOnlySpan) int {
	if span.Name() == "ricloud step result" {
		return 1
	}
	return 0
}

// tree draws the spans of steps and of what happens within them, in the order in which they began.
// It omits the engine's reads of lists, which serve all accounts and have their own traces.
func tree(spans []sdktrace.ReadOnlySpan) string {
	slices.SortStableFunc(spans, func(a, b sdktrace.ReadOnlySpan) int {
		return cmp.Or(a.StartTime().Compare(b.StartTime()), byWorker(a)-byWorker(b))
	})
	var b strings.Builder
	var draw func(parent, indent string)
	draw = func(parent, indent string) {
		for _, span := range spans {
			in := ""
			if span.Parent().IsValid() {
				in = span.Parent().SpanID().String()
			}
			if in != parent || in == "" && !strings.HasPrefix(span.Name(), "ricloud step") {
				continue
			}
			fmt.Fprintf(&b, "%s%s", indent, span.Name())
			for _, a := range span.Attributes() {
				if a.Key == "ricloud.outcome" || a.Key == "error.type" {
					fmt.Fprintf(&b, ", %s", cmp.Or(a.Value.AsString(), "?"))
				}
			}
			b.WriteString("\n")
			draw(span.SpanContext().SpanID().String(), indent+"  ")
		}
	}
	draw("", "")
	return b.String()
}
