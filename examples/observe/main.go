// Observe shows what fifty tenants' clients do, live, as metrics for Prometheus and traces for any
// OpenTelemetry collector.
//
//	go run ./examples/observe            # fifty tenants on sandboxes, metrics on 127.0.0.1:9464
//	curl 127.0.0.1:9464/metrics
//
// dashboard.json is a Grafana dashboard of these metrics: errors by operation, the quota that is
// left, the oldest wait, the oldest event that was not delivered, and files without verification.
//
// In a service of your own, keep observed and undelivered, and give each tenant's client its token.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"log"
	"net"
	"net/http"
	"os"
	"os/signal"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"go.opentelemetry.io/otel/attribute"
	otelprometheus "go.opentelemetry.io/otel/exporters/prometheus"
	"go.opentelemetry.io/otel/metric"
	sdkmetric "go.opentelemetry.io/otel/sdk/metric"

	ricloud "github.com/reincubate/ricloud-go"
	"github.com/reincubate/ricloud-go/otel"
	"github.com/reincubate/ricloud-go/ricloudtest"
)

func main() {
	tenants := flag.Int("tenants", 50, "how many `tenants` to run on sandboxes")
	addr := flag.String("addr", "127.0.0.1:9464", "the `host:port` of the metrics")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	err := run(ctx, *tenants, *addr, os.Stdout.WriteString)
	stop()
	if err != nil {
		log.Fatal(err)
	}
}

// run serves the metrics of all tenants until ctx ends.
func run(ctx context.Context, tenants int, addr string, say func(string) (int, error)) error {
	registry := prometheus.NewRegistry()
	exporter, err := otelprometheus.New(otelprometheus.WithRegisterer(registry))
	if err != nil {
		return err
	}
	meters := sdkmetric.NewMeterProvider(sdkmetric.WithReader(exporter))
	defer func() { _ = meters.Shutdown(context.WithoutCancel(ctx)) }()

	var listening net.ListenConfig
	listener, err := listening.Listen(ctx, "tcp", addr)
	if err != nil {
		return err
	}
	mux := http.NewServeMux()
	mux.Handle("/metrics", promhttp.HandlerFor(registry, promhttp.HandlerOpts{}))
	server := &http.Server{Handler: mux, ReadHeaderTimeout: 10 * time.Second}
	defer func() { _ = server.Close() }()
	go func() { _ = server.Serve(listener) }()
	if _, err := say(fmt.Sprintf("metrics: http://%s/metrics\n", listener.Addr())); err != nil {
		return err
	}

	var working sync.WaitGroup
	defer working.Wait()
	for i := range tenants {
		name := fmt.Sprintf("tenant-%02d", i+1)
		sandbox := ricloudtest.NewServer(ricloudtest.WithSeed(uint64(i + 1)))
		defer sandbox.Close()
		hooks, err := observed(meters, name)
		if err != nil {
			return err
		}
		client := sandbox.Client( // live: ricloud.NewClient(token, …)
			ricloud.WithHooks(hooks), ricloud.WithRateLimit(10_000, time.Hour))
		if _, err := hooks.ObserveStats(client.Stats); err != nil {
			return err
		}
		if err := undelivered(ctx, &working, meters, client, name); err != nil {
			return err
		}
		working.Go(func() { work(ctx, client, name) })
	}
	<-ctx.Done()
	return nil
}

// observed returns the hooks of one tenant's client.
func observed(meters metric.MeterProvider, tenant string) (*otel.Hooks, error) {
	return otel.New(otel.WithMeterProvider(meters),
		otel.WithAttributes(attribute.String("tenant", tenant)))
}

// undelivered measures the age of the oldest event that the API could not deliver: one request a
// minute. A receiver that is down shows here first.
func undelivered(
	ctx context.Context, working *sync.WaitGroup, meters metric.MeterProvider, client *ricloud.Client,
	tenant string,
) error {
	var oldest atomic.Int64 // seconds since 1970; 0: there is none
	_, err := meters.Meter("observe").Float64ObservableGauge("ricloud.event.oldest_undelivered",
		metric.WithUnit("s"),
		metric.WithDescription("Age of the oldest event that was not delivered."),
		metric.WithFloat64Callback(func(_ context.Context, o metric.Float64Observer) error {
			age := 0.0
			if began := oldest.Load(); began > 0 {
				age = time.Since(time.Unix(began, 0)).Seconds()
			}
			o.Observe(age, metric.WithAttributes(attribute.String("tenant", tenant)))
			return nil
		}))
	if err != nil {
		return err
	}
	working.Go(func() {
		for {
			found := time.Time{}
			for event, err := range client.Events.All(ctx,
				ricloud.EventListParams{State: ricloud.EventFailed}) {
				if err != nil {
					break // the errors by operation show it
				}
				if found.IsZero() || event.DateCreated.Before(found) {
					found = event.DateCreated
				}
			}
			if oldest.Store(0); !found.IsZero() {
				oldest.Store(found.Unix())
			}
			if !sleep(ctx, time.Minute) {
				return
			}
		}
	})
	return nil
}

// work does what a tenant does: it logs in, polls and saves the results, again and again.
func work(ctx context.Context, client *ricloud.Client, name string) {
	dir, err := os.MkdirTemp("", name+"-*")
	if err != nil {
		log.Print(err)
		return
	}
	defer func() { _ = os.RemoveAll(dir) }()
	for ctx.Err() == nil {
		if err := once(ctx, client, name, dir); err != nil && !errors.Is(err, context.Canceled) {
			log.Printf("%s: %v", name, err)
		}
		sleep(ctx, 5*time.Second)
	}
}

// sleep waits for d and returns false if ctx ends first.
func sleep(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-timer.C:
		return true
	}
}

func once(ctx context.Context, client *ricloud.Client, name, dir string) error {
	user, err := client.Users.Create(ctx, ricloud.UserCreateParams{Identifier: name})
	if err != nil {
		return err
	}
	session, err := client.Sessions.Login(ctx, ricloud.SessionCreateParams{
		Source: ricloud.SourceParams{
			User: user.ID, Type: ricloud.SourceICloudAccount, Identifier: "john.appleseed@example.com",
		},
		Payload: ricloud.SessionPayload{Password: ricloud.NewSecret("hunter2")},
	}, nil)
	if err != nil {
		return err
	}
	poll, err := client.Polls.Create(ctx, ricloud.PollCreateParams{
		Session: session.ID,
		Payload: ricloud.PollPayload{DataTypes: []string{"callkit.calls", "ios_messages.messages"}},
	})
	if err != nil {
		return err
	}
	_, err = client.Results.SaveAll(ctx, client.Polls.Results(ctx, poll.ID), dir,
		ricloud.WithAcknowledge())
	return err
}
