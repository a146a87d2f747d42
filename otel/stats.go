package otel

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"go.opentelemetry.io/otel/metric"

	ricloud "github.com/reincubate/ricloud-go"
)

// ObserveStats makes metrics of what a client's Stats method returns, whenever metrics are
// collected, until stop is called. Give it the method itself:
//
//	stop, err := hooks.ObserveStats(client.Stats)
func (h *Hooks) ObserveStats(stats func() ricloud.Stats) (stop func() error, err error) {
	if stats == nil {
		return nil, errors.New("otel: ObserveStats: stats is nil")
	}
	quota, err1 := h.meter.Int64ObservableGauge("ricloud.quota.left", metric.WithUnit("{request}"),
		metric.WithDescription("Requests left of this hour's quota, by the client's own count."))
	turns, err2 := h.meter.Int64ObservableGauge("ricloud.turns.waiting", metric.WithUnit("{request}"),
		metric.WithDescription("Requests that wait for their turn."))
	unverified, err3 := h.meter.Int64ObservableCounter("ricloud.downloads.unverified",
		metric.WithUnit("{file}"),
		metric.WithDescription("Downloads that did not end in a verified file."))
	if err := errors.Join(err1, err2, err3); err != nil {
		return nil, fmt.Errorf("otel: ObserveStats: %w", err)
	}
	attributes := h.measured()
	registered, err := h.meter.RegisterCallback(func(_ context.Context, o metric.Observer) error {
		now := stats()
		o.ObserveInt64(quota, now.QuotaLeft, attributes)
		o.ObserveInt64(turns, now.TurnsWaiting, attributes)
		o.ObserveInt64(unverified, now.Unverified, attributes)
		return nil
	}, quota, turns, unverified)
	if err != nil {
		return nil, fmt.Errorf("otel: ObserveStats: %w", err)
	}
	return registered.Unregister, nil
}

// observeOldest makes a metric of the age of the oldest wait.
func (h *Hooks) observeOldest() error {
	attributes := h.measured()
	_, err := h.meter.Float64ObservableGauge("ricloud.wait.oldest", metric.WithUnit("s"),
		metric.WithDescription("Age of the oldest wait in progress."),
		metric.WithFloat64Callback(func(_ context.Context, o metric.Float64Observer) error {
			o.Observe(h.oldest.age(time.Now()).Seconds(), attributes)
			return nil
		}))
	return err
}

// oldest knows when the waits in progress began.
type oldest struct {
	mu    sync.Mutex
	next  int
	began map[int]time.Time
}

// add notes a wait and returns a function that forgets it.
func (o *oldest) add(now time.Time) (forget func()) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.began == nil {
		o.began = map[int]time.Time{}
	}
	id := o.next
	o.next++
	o.began[id] = now
	return func() {
		o.mu.Lock()
		defer o.mu.Unlock()
		delete(o.began, id)
	}
}

// age returns how long ago the oldest wait began, or 0.
func (o *oldest) age(now time.Time) (age time.Duration) {
	o.mu.Lock()
	defer o.mu.Unlock()
	for _, began := range o.began {
		age = max(age, now.Sub(began))
	}
	return age
}
