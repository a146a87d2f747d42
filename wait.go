package ricloud

import (
	"context"
	"errors"
	"iter"
	"math/rand/v2"
	"net/http"
	"time"

	"github.com/reincubate/ricloud-go/internal/transport"
)

// status is what a wait needs to know of a resource.
type status struct {
	version  string // differs when something changed that a watcher is told
	terminal bool
	err      error // terminal, and not as one would wish
}

// polling is the rhythm of a wait: its interval grows from the shortest to the
// longest.
type polling struct{ shortest, longest time.Duration }

//nolint:gochecknoglobals // a constant in all but name
var defaultPolling = polling{time.Second, 15 * time.Second}

const (
	pollingGrowth = 1.5
	pollingJitter = 0.2 // of the interval, to both sides: waits begun together drift apart
)

// maxFailedReads is how many reads in a row may fail, each with its retries,
// before a wait gives up.
const maxFailedReads = 5

// watch yields a resource at each change until it is terminal. A first one
// that the caller has already is looked at before any is read.
func watch[T any](
	ctx context.Context, c *Client, get transport.Op, id ID, first *T, look func(*T) status, opts []CallOption,
) iter.Seq2[*T, error] {
	return func(yield func(*T, error) bool) {
		seen, seenVersion := first, ""
		interval, failed := c.polling.shortest, 0
		for v := first; ; {
			var err error
			if v == nil {
				v, err = do[T](ctx, c, request{op: get.Operation(), ids: []ID{id}, background: true}, opts)
			}
			switch {
			case err == nil:
				failed, seen = 0, v
				st := look(v)
				if st.terminal || st.version != seenVersion {
					if !yield(v, st.err) || st.terminal {
						return
					}
				}
				seenVersion = st.version
			case !passing(err), failed == maxFailedReads:
				yield(seen, err)
				return
			default:
				failed++
			}
			v = nil
			if err := sleep(ctx, jitter(interval)); err != nil {
				yield(seen, &CallError{Operation: get.Operation().Name, Err: err})
				return
			}
			interval = min(time.Duration(float64(interval)*pollingGrowth), c.polling.longest)
		}
	}
}

// last runs a watch to its end.
func last[T any](watch iter.Seq2[*T, error]) (v *T, err error) {
	for v, err = range watch {
	}
	return v, err
}

// passing reports whether a read that failed may succeed the next time.
func passing(err error) bool {
	if e, ok := errors.AsType[*Error](err); ok {
		return e.StatusCode == http.StatusRequestTimeout || e.StatusCode == http.StatusTooManyRequests ||
			e.StatusCode >= http.StatusInternalServerError
	}
	if _, ok := errors.AsType[*CallError](err); ok {
		return !errors.Is(err, context.Canceled)
	}
	return false
}

// fullJitter returns a wait of up to ceiling.
func fullJitter(ceiling time.Duration) time.Duration {
	return time.Duration(float64(ceiling) * rand.Float64()) //nolint:gosec // spreads load, guards nothing
}

func jitter(d time.Duration) time.Duration {
	return time.Duration(float64(d) * (1 + pollingJitter*(2*rand.Float64()-1))) //nolint:gosec // spreads load, guards nothing
}

// sleep returns nil after d, or the context's cause as soon as it ends.
func sleep(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}
