package otel_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/sdk/metric/metricdata"

	ricloud "github.com/reincubate/ricloud-go"
	"github.com/reincubate/ricloud-go/otel"
	"github.com/reincubate/ricloud-go/ricloudtest"
)

func newServer(opts ...ricloudtest.Option) *ricloudtest.Server {
	account := ricloudtest.Account{
		Identifier: "canary@example.com", Password: "canary-password", Code: "246813",
		Data: ricloudtest.DefaultAccounts()[0].Data,
	}
	return ricloudtest.NewServer(append([]ricloudtest.Option{ricloudtest.WithAccounts(account)},
		opts...)...)
}

func golden(t *testing.T, name, got string) {
	t.Helper()
	want, err := os.ReadFile(filepath.Join("testdata", name))
	require.NoError(t, err)
	assert.Equal(t, string(want), got)
}

// The golden files show what a person sees who investigates the requests of an account.
func TestSpansOfAJourney(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := newSeen(t)
		server := newServer()
		defer server.Close()
		client := server.Client(ricloud.WithHooks(s.hooks),
			ricloud.WithPolling(time.Second, 10*time.Second))
		var got *ricloud.Session
		s.inSpan(t.Context(), "login", func(ctx context.Context) { got = session(ctx, t, client) })
		golden(t, "login.txt", s.tree())

		s.spans.Reset()
		s.inSpan(t.Context(), "poll", func(ctx context.Context) {
			poll, err := client.Polls.Create(ctx, ricloud.PollCreateParams{
				Session: got.ID, Payload: ricloud.PollPayload{DataTypes: []string{"callkit.calls"}},
			})
			require.NoError(t, err)
			saved, err := client.Results.SaveAll(ctx, client.Polls.Results(ctx, poll.ID), t.TempDir(),
				ricloud.WithAcknowledge())
			require.NoError(t, err)
			require.Len(t, saved, 1)
		})
		golden(t, "poll.txt", s.tree())
	})
}

// A delivery that ends a wait has its own trace, because the API started it.
func TestSpansOfAWaitThatAnEventEnds(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		const hookURL = "https://hooks.example.com/in"
		s := newSeen(t)
		var deliver atomic.Pointer[ricloud.WebhookHandler]
		receiver := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			deliver.Load().ServeHTTP(w, r)
		})
		server := newServer(ricloudtest.WithReceiver(hookURL, receiver),
			ricloudtest.WithDelays(ricloudtest.Delays{
				Poll: ricloudtest.Delay{Min: time.Minute, Max: time.Minute},
			}))
		defer server.Close()
		client := server.Client(ricloud.WithHooks(s.hooks),
			ricloud.WithPolling(time.Hour, 2*time.Hour)) // polling alone would be too late
		handler, err := ricloud.NewWebhookHandler(
			func(_ context.Context, event *ricloud.Event) error {
				client.Notify(event)
				return nil
			}, ricloud.WithWebhookHooks(s.hooks))
		require.NoError(t, err)
		deliver.Store(handler)
		_, err = client.WebhookConfigs.Ensure(t.Context(), ricloud.WebhookConfigEnsureParams{
			URL: hookURL, BeforeTest: handler.SetSecrets, MakeOrganisationDefault: true,
		})
		require.NoError(t, err)
		got := session(t.Context(), t, client)
		time.Sleep(time.Minute) //nolint:forbidigo // virtual time, for the events of the login

		s.spans.Reset()
		began := time.Now()
		s.inSpan(t.Context(), "poll", func(ctx context.Context) {
			poll, err := client.Polls.Create(ctx, ricloud.PollCreateParams{
				Session: got.ID, Payload: ricloud.PollPayload{DataTypes: []string{"callkit.calls"}},
			})
			require.NoError(t, err)
			_, err = client.Polls.Wait(ctx, poll.ID)
			require.NoError(t, err)
		})
		assert.Less(t, time.Since(began), time.Hour)
		time.Sleep(time.Minute) //nolint:forbidigo // as above, for those of the poll
		golden(t, "webhook.txt", s.tree())
	})
}

func TestMetricsOfAJourney(t *testing.T) {
	t.Parallel()
	s := newSeen(t, otel.WithAttributes(attribute.String("tenant", "acme")))
	server := newServer(ricloudtest.WithDelays(ricloudtest.Delays{}),
		ricloudtest.WithFaults(ricloudtest.Fault{
			Operation: "Users.Create",
			Status:    http.StatusServiceUnavailable,
		}))
	t.Cleanup(server.Close)
	client := server.Client(ricloud.WithHooks(s.hooks),
		ricloud.WithRetryWait(time.Millisecond, time.Millisecond))
	stop, err := s.hooks.ObserveStats(client.Stats)
	require.NoError(t, err)
	session(t.Context(), t, client)

	found := s.collected(t)
	for _, name := range []string{
		"http.client.request.duration", "ricloud.operation.duration", "ricloud.operation.retries",
		"ricloud.waits.active", "ricloud.wait.duration", "ricloud.wait.oldest", "ricloud.quota.left",
		"ricloud.turns.waiting", "ricloud.downloads.unverified",
	} {
		assert.Contains(t, found, name)
	}
	retries, ok := found["ricloud.operation.retries"].Data.(metricdata.Sum[int64])
	require.True(t, ok)
	require.Len(t, retries.DataPoints, 1)
	assert.Equal(t, int64(1), retries.DataPoints[0].Value)
	requests, ok := found["http.client.request.duration"].Data.(metricdata.Histogram[float64])
	require.True(t, ok)
	failed := 0
	for _, point := range requests.DataPoints {
		tenant, _ := point.Attributes.Value("tenant")
		assert.Equal(t, "acme", tenant.AsString())
		template, _ := point.Attributes.Value("url.template")
		assert.True(t, strings.HasPrefix(template.AsString(), "/"))
		if kind, ok := point.Attributes.Value("error.type"); ok {
			assert.Equal(t, "503", kind.AsString())
			failed++
		}
	}
	assert.Equal(t, 1, failed)
	quota, ok := found["ricloud.quota.left"].Data.(metricdata.Gauge[int64])
	require.True(t, ok)
	assert.Equal(t, client.Stats().QuotaLeft, quota.DataPoints[0].Value)
	require.NoError(t, stop())
	assert.NotContains(t, s.collected(t), "ricloud.quota.left")
}

// The span of a step names the account, but the measurement does not.
func TestSteps(t *testing.T) {
	t.Parallel()
	s := newSeen(t)
	for _, result := range []ricloud.StepResult{
		{Outcome: ricloud.StepDone, State: "handling"},
		{Outcome: ricloud.StepAgain, State: "polling", Err: errors.New(canary)},
		{Outcome: ricloud.StepInterrupted, Err: context.Canceled},
	} {
		_, ended := s.hooks.Step(t.Context(), ricloud.StepInfo{
			Account: "customer-42", Step: "polling", Result: "r1", Attempt: 2,
		})
		ended(result)
	}
	var outcomes []string
	for _, span := range s.spans.Ended() {
		outcomes = append(outcomes, span.Status().Code.String())
		assert.Equal(t, "ricloud step polling", span.Name())
		assert.Contains(t, span.Attributes(), attribute.String("ricloud.account", "customer-42"))
	}
	assert.Equal(t, []string{"Unset", "Error", "Unset"}, outcomes)
	assert.NotContains(t, s.dump(t), canary)
	measured := fmt.Sprintf("%+v", s.collected(t)["ricloud.step.duration"])
	for _, outcome := range []string{"done", "again", "interrupted"} {
		assert.Contains(t, measured, outcome)
	}
	assert.NotContains(t, measured, "customer-42")
}

func TestPropagationReachesTheAPIOnly(t *testing.T) {
	t.Parallel()
	for _, on := range []bool{false, true} {
		var opts []otel.Option
		if on {
			opts = append(opts, otel.WithPropagator(propagation.TraceContext{}))
		}
		s := newSeen(t, opts...)
		server := newServer()
		t.Cleanup(server.Close)
		traced := false
		client := server.Client(ricloud.WithHooks(s.hooks),
			ricloud.WithTransport(looking{server, &traced}))
		_, err := client.Organisation.Get(t.Context())
		require.NoError(t, err)
		assert.Equal(t, on, traced)
	}
}

type looking struct {
	next   http.RoundTripper
	traced *bool
}

func (l looking) RoundTrip(r *http.Request) (*http.Response, error) {
	*l.traced = r.Header.Get("Traceparent") != ""
	return l.next.RoundTrip(r)
}

func TestNewRefuses(t *testing.T) {
	t.Parallel()
	for name, opt := range map[string]otel.Option{
		"a nil option": nil, "no tracer provider": otel.WithTracerProvider(nil),
		"no meter provider": otel.WithMeterProvider(nil),
	} {
		_, err := otel.New(opt)
		require.Error(t, err, name)
	}
}
