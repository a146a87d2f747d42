// Package events finds the events that matter in a record of events that
// changes while it is read: those that were missed, and those that are new. It
// knows no API: functions read the record and handle its events.
//
// It trusts no order of the record. A list that is ordered is read less far.
package events

import (
	"cmp"
	"context"
	"slices"
	"time"
)

// Entry is an event of type E in the record.
type Entry[E any] struct {
	ID    string
	Label string    // what errors call it: "17 (poll.completed)"
	Date  time.Time // when it was made, by the record's clock; zero: not known
	Event E
	Err   error // why it cannot be read; nil: it can
}

// List reads a list of the record, page by page, with at most limit entries to a
// page. It begins behind the entry with the id after, unless that is empty, and
// ends when yield returns false.
type List[E any] func(
	ctx context.Context, after string, limit int, yield func(*Entry[E]) bool,
) error

// Record is what is the same for all lists of a record.
type Record struct {
	Operation string // begins the text of each error
	// Now returns the time of the last page by the record's clock; zero: not known.
	Now func() time.Time
	// TooLarge reports whether a list failed because its page was too large.
	TooLarge func(err error) bool
	// Ended returns the error for a context that ended for a cause.
	Ended func(cause error) error
}

// Moved reports that a list did not end as it should, or refused to go on, behind
// an entry that it had shown. The entry may have left the list meanwhile.
type Moved struct{ Err error } // Err is what the list returned; nil: it just ended

// Error returns what the list returned.
func (m *Moved) Error() string {
	if m.Err == nil {
		return "the list ended early"
	}
	return m.Err.Error()
}

// Unwrap returns what the list returned.
func (m *Moved) Unwrap() error { return m.Err }

// fewer is by how much a page becomes smaller after one that was too large.
const fewer = 10

// read reads a list. After a page that was too large, it asks for smaller ones.
func read[E any](
	ctx context.Context, r *Record, list List[E], after string, limit int,
	yield func(*Entry[E]) bool,
) error {
	for {
		err := list(ctx, after, limit, func(e *Entry[E]) bool {
			after = cmp.Or(e.ID, after)
			return yield(e)
		})
		if err == nil || limit == 1 || !r.TooLarge(err) {
			return err
		}
		limit = max(1, limit/fewer)
	}
}

// order recognises a list that is ordered newest first, and counts the old
// events at which it may be left. A list in another order must be read to its
// end, so that no event is missed.
type order struct {
	first   time.Time
	last    time.Time
	ordered bool // nothing was newer than what came before it
	older   int  // events in a row that are old, each older than the one before
	falls   int  // events that are older than the one before
}

// add notes the date of the next event. Events before the floor are old.
func (o *order) add(date, floor time.Time) {
	switch {
	case o.first.IsZero():
		o.first, o.ordered = date, true
	case date.IsZero() || date.After(o.last):
		o.ordered, o.older = false, 0
	case date.Before(o.last):
		o.falls++
		o.older++
	}
	if isOld := !date.IsZero() && date.Before(floor); !isOld {
		o.older = 0
	}
	o.last = date
}

// sortByDate sorts events oldest first.
func sortByDate[E any](entries []*Entry[E]) {
	slices.SortStableFunc(entries, func(a, b *Entry[E]) int { return a.Date.Compare(b.Date) })
}
