package ricloud

import (
	"context"
	"errors"
	"sync"
	"time"
)

// What Deduplicator.Begin says of an event that is not to be handled now.
var (
	ErrEventDone       = errors.New("ricloud: the event has been handled")
	ErrEventInProgress = errors.New("ricloud: the event is being handled")
)

// Deduplicator remembers which events were handled, in two steps, so that a
// crash between them does not lose an event. It must be safe for concurrent
// use. NewMemoryDeduplicator is one for a single process; several processes,
// or one that must remember across a restart, share a table of any SQL
// database:
//
//	CREATE TABLE ricloud_events (
//		id          VARCHAR(64) PRIMARY KEY,
//		done        BOOLEAN NOT NULL,
//		lease_until BIGINT  NOT NULL  -- unix milliseconds
//	)
//
// Begin takes the event, if nobody has it or who had it must have died. One row
// affected: nil. No row: read done, which tells ErrEventDone from
// ErrEventInProgress.
//
//	INSERT INTO ricloud_events (id, done, lease_until) VALUES (:id, FALSE, :now + :lease)
//	ON CONFLICT (id) DO UPDATE SET lease_until = excluded.lease_until
//	WHERE NOT ricloud_events.done AND ricloud_events.lease_until <= :now
//
// Done and Failed:
//
//	UPDATE ricloud_events SET done = TRUE WHERE id = :id
//	DELETE FROM ricloud_events WHERE id = :id AND NOT done
//
// The lease must be longer than an event may take to handle: bound that
// WithWebhookTimeout. Rows that are done can be deleted after some days. The
// folder examples/webhook holds this in Go, and the test that kills it.
//
// No deduplication can tell whether an event took effect when the process died
// after the effect and before Done: the event is then handled again. Only an
// effect that is written in the same transaction as Done, or that is
// idempotent, happens exactly once whatever dies.
type Deduplicator interface {
	// Begin returns nil if the caller is to handle the event and then to call
	// Done or Failed, ErrEventDone if it was handled, ErrEventInProgress if it
	// is being handled, and any other error if it cannot tell.
	Begin(ctx context.Context, id ID) error
	// Done records that the event was handled.
	Done(ctx context.Context, id ID) error
	// Failed gives the event back, to be handled again.
	Failed(ctx context.Context, id ID) error
}

// How much NewMemoryDeduplicator remembers where it is not told. The API tries
// an event again for a few hours.
const (
	DefaultDeduplicatorSize = 100_000
	DefaultDeduplicatorAge  = 24 * time.Hour
)

// MemoryDeduplicator is a Deduplicator for one process. It forgets when the
// process ends.
type MemoryDeduplicator struct {
	size int
	age  time.Duration

	mu     sync.Mutex
	events map[ID]bool // true: done
	done   []doneEvent // oldest first
}

type doneEvent struct {
	id   ID
	when time.Time
}

// NewMemoryDeduplicator returns a Deduplicator that remembers the last size
// events that were handled, for at most age. Zeros mean the defaults; 100,000
// events take about 20 MB.
func NewMemoryDeduplicator(size int, age time.Duration) *MemoryDeduplicator {
	if size <= 0 {
		size = DefaultDeduplicatorSize
	}
	if age <= 0 {
		age = DefaultDeduplicatorAge
	}
	return &MemoryDeduplicator{size: size, age: age, events: map[ID]bool{}}
}

// Begin implements Deduplicator.
func (d *MemoryDeduplicator) Begin(_ context.Context, id ID) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.forget(0)
	switch done, known := d.events[id]; {
	case done:
		return ErrEventDone
	case known:
		return ErrEventInProgress
	}
	d.events[id] = false
	return nil
}

// Done implements Deduplicator.
func (d *MemoryDeduplicator) Done(_ context.Context, id ID) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.events[id] {
		return nil
	}
	d.forget(1)
	d.events[id] = true
	d.done = append(d.done, doneEvent{id, time.Now()})
	return nil
}

// Failed implements Deduplicator.
func (d *MemoryDeduplicator) Failed(_ context.Context, id ID) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if !d.events[id] {
		delete(d.events, id)
	}
	return nil
}

// forget drops what is too old, and what is too much with room for more.
func (d *MemoryDeduplicator) forget(room int) {
	for len(d.done) > 0 && (len(d.done)+room > d.size || time.Since(d.done[0].when) > d.age) {
		delete(d.events, d.done[0].id)
		d.done = d.done[1:] // append moves what is left, once the array is full
	}
}
