// Package backoff spreads repeated work over time: one jitter, one sleep.
package backoff

import (
	"context"
	"errors"
	"math/rand/v2"
	"time"
)

// Jitter returns a random wait before retry n, counted from 0. The wait is at
// most a ceiling that starts at first, doubles with each retry and stops at
// longest (full jitter): clients that failed together do not come back
// together.
func Jitter(n int, first, longest time.Duration) time.Duration {
	//nolint:gosec // spreads load, guards nothing
	return time.Duration(rand.Float64() * float64(Ceiling(n, first, longest)))
}

// Ceiling returns the longest wait before retry n, counted from 0.
func Ceiling(n int, first, longest time.Duration) time.Duration {
	ceiling := min(first, longest)
	for range n {
		if ceiling >= longest/2 {
			return longest
		}
		ceiling *= 2
	}
	return ceiling
}

// Spread returns d, up to the share of it more or less: Spread(10*time.Second,
// 0.2) is between 8 and 12 seconds.
func Spread(d time.Duration, share float64) time.Duration {
	//nolint:gosec // spreads load, guards nothing
	return time.Duration(float64(d) * (1 + share*(2*rand.Float64()-1)))
}

// Between returns a random duration from least to most.
func Between(least, most time.Duration) time.Duration {
	//nolint:gosec // spreads load, guards nothing
	return least + time.Duration(rand.Float64()*float64(most-least))
}

// Sleep returns nil after d. When ctx ends first, it returns Cause(ctx) at once.
func Sleep(ctx context.Context, d time.Duration) error {
	if d <= 0 {
		return nil
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return Cause(ctx)
	}
}

// Cause returns why ctx ended. errors.Is matches both context.Cause(ctx) and
// ctx.Err(), so that a caller's own cause still is a context.Canceled or a
// context.DeadlineExceeded.
func Cause(ctx context.Context) error {
	cause, err := context.Cause(ctx), ctx.Err()
	if errors.Is(cause, err) {
		return cause
	}
	return &ended{cause, err}
}

type ended struct{ cause, err error }

// Error returns the cause's text.
func (e *ended) Error() string { return e.cause.Error() }

// Unwrap returns the cause and the context's own error.
func (e *ended) Unwrap() []error { return []error{e.cause, e.err} }
