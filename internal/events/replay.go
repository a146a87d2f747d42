package events

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/reincubate/ricloud-go/internal/backoff"
)

// pageLimit is the most entries that the API puts on a page.
const pageLimit = 1000

// maxReads is how often Replay reads a list that changes meanwhile.
const maxReads = 5

// ReplayOverlap is how far a position stays behind the present. It is longer
// than the API retries a delivery, and longer than clocks differ.
const ReplayOverlap = 24 * time.Hour

// Replay hands over the events that some lists show, each once, oldest first.
type Replay[E any] struct {
	Record

	// Lists are in the order in which an event moves from one to the next.
	Lists []List[E]
	// Since returns the date of the oldest event to hand over. now is the time by the
	// record's clock; zero: not known.
	Since func(now time.Time) time.Time
	// Handle handles an event. It reports whether it did so now, and not before.
	Handle func(ctx context.Context, event E) (now bool, err error)

	// Handled is how many events were handled now.
	Handled int

	began    time.Time // by the record's clock; zero: not known
	since    time.Time
	known    map[string]bool
	missed   []*Entry[E]
	complete bool      // all lists were read to the end
	newest   time.Time // of all events that were listed
	held     time.Time // the oldest event that was not handled; zero: none
	errs     []error
}

// Run reads all lists and then hands over what they have shown, also where one
// cannot be read to its end. It joins that error and those of the events that
// could not be read or handled.
func (r *Replay[E]) Run(ctx context.Context) error {
	r.known = map[string]bool{}
	for _, list := range r.Lists {
		err := r.collect(ctx, list)
		if ctx.Err() != nil {
			return err
		}
		if err != nil {
			r.errs = append(r.errs, err)
			break
		}
	}
	r.complete = len(r.errs) == 0
	sortByDate(r.missed)
	for _, e := range r.missed {
		if ctx.Err() != nil {
			r.errs = append(r.errs, r.Ended(backoff.Cause(ctx)))
			r.hold(e)
			break
		}
		r.hand(ctx, e)
	}
	return errors.Join(r.errs...)
}

// collect adds what a list shows. An event that moves to a later list meanwhile
// is found there. If it was the one behind which the next page begins, the list
// is read again, until that shows nothing new.
func (r *Replay[E]) collect(ctx context.Context, list List[E]) error {
	for reads := 1; ; reads++ {
		known := len(r.known)
		err := r.collectOnce(ctx, list)
		moved, ok := errors.AsType[*Moved](err)
		switch {
		case !ok:
			return err
		case len(r.known) == known && moved.Err == nil:
			return nil // it has no more
		case reads == maxReads:
			return fmt.Errorf("%s: the list changes while it is read: %w", r.Operation, moved)
		}
	}
}

func (r *Replay[E]) collectOnce(ctx context.Context, list List[E]) error {
	var seen order
	err := read(ctx, &r.Record, list, "", pageLimit, func(e *Entry[E]) bool {
		r.begin()
		if e.Date.After(r.newest) {
			r.newest = e.Date
		}
		old := !e.Date.IsZero() && e.Date.Before(r.since)
		if !old && !r.known[e.ID] {
			r.known[e.ID] = true
			r.missed = append(r.missed, e)
		}
		seen.add(e.Date, r.since)
		return seen.older < pageLimit
	})
	r.begin() // also when the list is empty
	return err
}

// begin notes the time of the first page.
func (r *Replay[E]) begin() {
	if r.began.IsZero() {
		r.began = r.Now()
	}
	if r.since.IsZero() {
		r.since = r.Since(r.began).Truncate(time.Second) // as the record's dates may be
	}
}

// hand calls Handle for an event.
func (r *Replay[E]) hand(ctx context.Context, e *Entry[E]) {
	now, err := false, e.Err
	if err == nil {
		if now, err = r.Handle(ctx, e.Event); err != nil {
			r.hold(e)
		}
	}
	switch {
	case err != nil:
		r.errs = append(r.errs, fmt.Errorf("%s: event %s: %w", r.Operation, e.Label, err))
	case now:
		r.Handled++
	}
}

func (r *Replay[E]) hold(e *Entry[E]) {
	if !e.Date.IsZero() && (r.held.IsZero() || e.Date.Before(r.held)) {
		r.held = e.Date
	}
}

// Position returns the date before which every event has been handled, or the
// zero time if that is not known.
func (r *Replay[E]) Position() time.Time {
	now := r.began
	if now.IsZero() {
		now = r.newest
	}
	if !r.complete || now.IsZero() {
		return time.Time{}
	}
	position := now.Add(-ReplayOverlap)
	if !r.held.IsZero() && r.held.Before(position) {
		position = r.held.Truncate(time.Second)
	}
	return position
}
