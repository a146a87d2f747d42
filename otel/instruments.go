package otel

import (
	"errors"

	"go.opentelemetry.io/otel/metric"
)

// instruments are the metrics.
type instruments struct {
	request, operation, quotaWait, waitTime, downloadTime, eventAge,
	stepTime metric.Float64Histogram

	retries, downloadIO, resumes, events, oddities metric.Int64Counter

	waits metric.Int64UpDownCounter
}

func newInstruments(m metric.Meter) (instruments, error) {
	var errs []error
	seconds := func(name, description string, bounds ...float64) metric.Float64Histogram {
		h, err := m.Float64Histogram(name, metric.WithUnit("s"), metric.WithDescription(description),
			metric.WithExplicitBucketBoundaries(bounds...))
		errs = append(errs, err)
		return h
	}
	counter := func(name, unit, description string) metric.Int64Counter {
		c, err := m.Int64Counter(name, metric.WithUnit(unit), metric.WithDescription(description))
		errs = append(errs, err)
		return c
	}
	// The conventions' buckets of an HTTP request, and coarser ones for what takes minutes.
	short := []float64{0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1, 2.5, 5, 7.5, 10}
	long := []float64{0.1, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300, 600, 1800, 3600}
	made := instruments{
		request: seconds("http.client.request.duration", "Duration of HTTP client requests.",
			short...),
		operation: seconds("ricloud.operation.duration", "Duration of calls, with their retries.",
			short...),
		quotaWait:    seconds("ricloud.quota.wait", "Time that an attempt waited for its turn.", long...),
		waitTime:     seconds("ricloud.wait.duration", "Duration of waits for a resource.", long...),
		downloadTime: seconds("ricloud.download.duration", "Duration of result downloads.", long...),
		stepTime:     seconds("ricloud.step.duration", "Duration of the steps of accounts.", long...),
		eventAge:     seconds("ricloud.event.age", "Time from an event to its delivery.", long...),
		retries:      counter("ricloud.operation.retries", "{attempt}", "Attempts after the first."),
		downloadIO:   counter("ricloud.download.io", "By", "Bytes read from storage."),
		resumes: counter("ricloud.download.resumes", "{resume}",
			"Broken connections to storage that were resumed."),
		events:   counter("ricloud.events", "{event}", "Deliveries, by name and outcome."),
		oddities: counter("ricloud.oddities", "{field}", "Fields of answers that had an odd type."),
	}
	var err error
	made.waits, err = m.Int64UpDownCounter("ricloud.waits.active", metric.WithUnit("{wait}"),
		metric.WithDescription("Waits in progress."))
	return made, errors.Join(append(errs, err)...)
}
