package events

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/reincubate/ricloud-go/internal/allowance"
	"github.com/reincubate/ricloud-go/internal/backoff"
)

const (
	lookLimit = 100 // entries to a page of a look that is not deep
	// An event may appear in the record some time after its date, at most
	// lateness. Each look goes back by overlap; every deepEvery, a deep one goes
	// back by reach.
	lateness  = 30 * time.Minute
	overlap   = time.Minute
	deepEvery = 5 * time.Minute
	// patience is how long Watch tolerates failed reads, as waits do.
	patience = 10 * time.Minute
	spread   = 0.2
)

// Watch finds the events that are new in a list. It looks at the list again and
// again, at the shortest interval and then less often, until something is new.
type Watch[E any] struct {
	Record

	List      List[E]          // calls Charge before each request
	Since     time.Time        // nothing older is found; zero: from now on
	Allowance *allowance.Share // of requests
	Shortest  time.Duration    // interval between two looks
	Longest   time.Duration
	Passing   func(err error) bool // a later read may succeed

	// Load returns the stored position, and Store stores one. Nil: none is stored.
	Load  func(ctx context.Context) (time.Time, error)
	Store func(ctx context.Context, position time.Time) error

	newest   time.Time            // date of the newest event in the record
	seen     map[string]time.Time // events at or after the low-water mark, by date
	began    bool                 // the first look, which may find nothing new, is over
	deep     time.Time            // when a look last went far back
	resume   string               // where to read on in a record that lists the oldest first
	requests int                  // of the look in progress
}

// Run looks at the list until something ends it, and yields what is new, oldest
// first. It returns nil when yield has returned false.
func (w *Watch[E]) Run(ctx context.Context, yield func(E, error) bool) error {
	w.seen = map[string]time.Time{}
	w.Allowance.Add(1)
	defer w.Allowance.Add(-1)
	if err := w.load(ctx); err != nil {
		return err
	}
	interval, failing := w.Shortest, time.Time{}
	for {
		if err := w.Allowance.Wait(ctx); err != nil {
			return w.Ended(err)
		}
		w.requests = 0
		found, err := w.look(ctx)
		switch {
		case ctx.Err() != nil:
			return w.Ended(backoff.Cause(ctx))
		case err == nil:
			failing = time.Time{}
		case !w.Passing(err):
			return err
		case failing.IsZero():
			failing = time.Now()
		case time.Since(failing) > patience:
			return err
		}
		if more, err := w.deliver(ctx, found, yield); !more || err != nil {
			return err
		}
		interval = min(2*interval, w.Longest) //nolint:mnd // slower and slower
		if len(found) > 0 {
			interval = w.Shortest
		}
		if err := backoff.Sleep(ctx, backoff.Spread(interval, spread)); err != nil {
			return w.Ended(err)
		}
	}
}

// Charge takes a request of the list from the allowance. Run has taken the first
// request of each look.
func (w *Watch[E]) Charge() {
	if w.requests++; w.requests > 1 {
		w.Allowance.Charge()
	}
}

func (w *Watch[E]) load(ctx context.Context) error {
	if w.Load == nil {
		return nil
	}
	position, err := w.Load(ctx)
	if err != nil {
		return fmt.Errorf("%s: reading the position: %w", w.Operation, err)
	}
	if !position.IsZero() {
		w.Since = position
	}
	return nil
}

// deliver yields events and moves the position forward. It reports whether the
// consumer wants more.
func (w *Watch[E]) deliver(
	ctx context.Context, found []*Entry[E], yield func(E, error) bool,
) (more bool, err error) {
	for _, e := range found {
		if e.Err != nil {
			var none E
			more = yield(none, fmt.Errorf("%s: event %s: %w", w.Operation, e.Label, e.Err))
		} else {
			more = yield(e.Event, nil)
		}
		if !more {
			return false, nil
		}
	}
	if len(found) > 0 && w.Store != nil {
		if err := w.Store(ctx, w.newest.Add(-w.reach())); err != nil {
			return false, fmt.Errorf("%s: storing the position: %w", w.Operation, err)
		}
	}
	return true, nil
}

// look reads the list back to the events that were seen before, and returns the
// new ones, oldest first.
func (w *Watch[E]) look(ctx context.Context) (found []*Entry[E], err error) {
	began := time.Now()
	deep := began.Sub(w.deep) >= deepEvery
	limit, back := lookLimit, overlap
	if deep {
		limit, back = pageLimit, w.reach()
	}
	var seen order
	isFound := map[string]bool{} // a list that changes may show an event twice
	entries, known := 0, 0       // all, and those in a row that were found before
	rising := rising{low: w.newest.Add(-w.reach()), resume: w.resume}
	err = read(ctx, &w.Record, w.List, w.resume, limit, func(e *Entry[E]) bool {
		w.advance(e.Date)
		entries++
		known++
		if w.isNew(e) && !isFound[e.ID] {
			isFound[e.ID] = true
			found, known = append(found, e), 0
		}
		rising.add(e.ID, e.Date)
		floor := w.floor(back)
		seen.add(e.Date, floor)
		if !seen.ordered {
			return true
		}
		isOld := seen.falls > 0 && e.Date.Before(floor)
		return !isOld && (deep || known < lookLimit || seen.first.Before(w.newest))
	})
	moved, isMoved := errors.AsType[*Moved](err)
	if w.resume != "" && (isMoved || err == nil && entries == 0) {
		w.resume = "" // the record has forgotten that event
		return w.look(ctx)
	}
	if err != nil && !(isMoved && moved.Err == nil) {
		return nil, err
	}
	w.resume = rising.resume
	if deep {
		w.deep = began
	}
	w.remember(found)
	if !w.began && w.Since.IsZero() { // what is there at the beginning is not new
		found = nil
	}
	w.began = true
	sortByDate(found)
	return found, nil
}

// reach is how far a deep look goes back. What appeared just behind the last one
// may be lateness old, and the next one comes after an outage at the latest.
func (w *Watch[E]) reach() time.Duration {
	return lateness + deepEvery + patience + w.Longest
}

// rising recognises a list that is ordered oldest first. Of such a list, resume
// is the last event before low, behind which the next look may begin.
type rising struct {
	low    time.Time
	resume string
	last   time.Time
	broken bool
}

func (r *rising) add(id string, date time.Time) {
	switch {
	case r.broken || date.Before(r.last):
		r.broken, r.resume = true, ""
	case date.Before(r.low):
		r.resume = id
	}
	r.last = date
}

// floor returns the date of the oldest event that a look needs to reach.
func (w *Watch[E]) floor(back time.Duration) time.Time {
	if !w.began && !w.Since.IsZero() {
		return w.Since.Truncate(time.Second)
	}
	return w.newest.Add(-back)
}

// advance notes an event's date. A date in the future, by the record's own
// clock, is not noted: it would make the events of the present look old.
func (w *Watch[E]) advance(date time.Time) {
	if !date.After(w.newest) {
		return
	}
	if now := w.Now(); !now.IsZero() && date.After(now) {
		date = now
	}
	if date.After(w.newest) {
		w.newest = date
	}
}

// isNew reports whether an event was not found before.
func (w *Watch[E]) isNew(e *Entry[E]) bool {
	if _, known := w.seen[e.ID]; known {
		return false
	}
	switch {
	case e.Date.IsZero():
		return true
	case e.Date.Before(w.Since.Truncate(time.Second)):
		return false
	}
	return !w.began || !e.Date.Before(w.newest.Add(-w.reach()))
}

// remember keeps the events that a look found, and forgets those that are too
// old for later looks.
func (w *Watch[E]) remember(found []*Entry[E]) {
	for _, e := range found {
		w.seen[e.ID] = e.Date
	}
	low := w.newest.Add(-w.reach())
	for id, date := range w.seen {
		if !date.IsZero() && date.Before(low) {
			delete(w.seen, id)
		}
	}
}
