package ricloud

import (
	"cmp"
	"context"
	"errors"
	"strconv"
	"sync"
	"time"
)

// Reasons why a Deduplicator does not hand out an event, or does not accept its
// outcome.
var (
	// ErrEventDone reports that the event has been handled. Deduplicator.Begin
	// returns it. There is nothing left to do.
	ErrEventDone = errors.New("ricloud: the event has been handled")
	// ErrEventInProgress reports that another call is handling the event.
	// Deduplicator.Begin and WebhookHandler.Handle return it. Try again later.
	ErrEventInProgress = errors.New("ricloud: the event is being handled by another call")
	// ErrLeaseLost reports that an event took longer than its lease and was
	// given to another call, or was freed. Deduplicator.Done and
	// Deduplicator.Failed return it. The event may have been handled twice:
	// use a longer lease, or bound the handling with WithWebhookTimeout.
	ErrLeaseLost = errors.New("ricloud: the lease on the event was lost")
)

// A Lease is the right to handle one event. It belongs to one call of
// Deduplicator.Begin.
type Lease struct {
	Event   ID
	Owner   string    // differs between all calls of Begin, in all processes
	Expires time.Time // from then on, another call may take the event; zero: never
}

type leaseKey struct{}

// LeaseFromContext returns the lease under which WebhookHandler calls its
// function. A Deduplicator that can record an event in the caller's own
// transaction needs it.
func LeaseFromContext(ctx context.Context) (Lease, bool) {
	lease, ok := ctx.Value(leaseKey{}).(Lease)
	return lease, ok
}

// A Deduplicator remembers which events were handled. It works in two steps,
// so that a crash between them does not lose an event. It must be safe for
// concurrent use.
//
// NewMemoryDeduplicator returns one for a single process. The module
// github.com/reincubate/ricloud-go/dedupe/sql has one for several processes, or
// for a process that must remember across restarts.
//
// No deduplication can tell whether an event took effect when the process died
// after the effect and before Done: the event is then handled again. An effect
// happens exactly once only if it is idempotent, or if it is written in the
// same transaction as Done.
type Deduplicator interface {
	// Begin claims an event. It returns a lease if the caller is to handle the
	// event and then to call Done or Failed. It returns ErrEventDone if the
	// event was handled, ErrEventInProgress if another call holds its lease,
	// and any other error if it cannot tell.
	Begin(ctx context.Context, id ID) (Lease, error)
	// Done records that the event was handled. It returns ErrLeaseLost, and
	// records nothing, if the lease is not the caller's any more.
	Done(ctx context.Context, lease Lease) error
	// Failed gives the event back, to be handled again. It returns ErrLeaseLost,
	// and frees nothing, if the lease is not the caller's any more.
	Failed(ctx context.Context, lease Lease) error
}

// A Cursor stores how far the API's record of events has been handled. If a
// Deduplicator implements it, WebhookHandler.Replay continues where the last
// Replay stopped. It must be safe for concurrent use.
//
// A position is a date by the API's clock: all events that were created before
// it have been handled. A Deduplicator must not forget an event that was
// handled at or after the position.
type Cursor interface {
	// Cursor returns the position, or the zero time if there is none yet.
	Cursor(ctx context.Context) (time.Time, error)
	// SetCursor moves the position forward. An earlier position is ignored.
	SetCursor(ctx context.Context, position time.Time) error
}

// DefaultDeduplicatorSize is how many events NewMemoryDeduplicator remembers if
// its size is 0.
const DefaultDeduplicatorSize = 100_000

// MemoryDeduplicator is a Deduplicator and a Cursor for one process. It forgets
// everything when the process ends. Its leases do not expire. The zero value is
// what NewMemoryDeduplicator(0, 0) returns.
type MemoryDeduplicator struct {
	size int // 0: DefaultDeduplicatorSize
	age  time.Duration

	mu       sync.Mutex
	events   map[ID]string // the owner of the lease, or "" once the event is done
	done     []doneEvent   // oldest first
	leases   uint64        // how many there have been
	position time.Time
	used     time.Time // when the position was last read or moved
	dropped  time.Time // when the last event was handled that is forgotten
}

type doneEvent struct {
	id   ID
	when time.Time
}

// NewMemoryDeduplicator returns a Deduplicator that remembers the last size
// events that were handled, each for at most age. A size of 0 means
// DefaultDeduplicatorSize, which takes about 20 MB. An age of 0 means no limit.
//
// It also remembers every event that the next Replay may read again: those that
// were handled since the Cursor's position, whatever their number and age. If
// Replay is called on a timer, these are the events of about a day. If Replay
// is not called for longer than DefaultReplayReach, such events are forgotten.
// Cursor then returns an error, so that Replay handles none of them twice.
func NewMemoryDeduplicator(size int, age time.Duration) *MemoryDeduplicator {
	return &MemoryDeduplicator{size: max(size, 0), age: age}
}

// Begin implements Deduplicator.
func (d *MemoryDeduplicator) Begin(_ context.Context, id ID) (Lease, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.forget(0)
	switch owner, known := d.events[id]; {
	case known && owner == "":
		return Lease{}, ErrEventDone
	case known:
		return Lease{}, ErrEventInProgress
	}
	if d.events == nil {
		d.events = map[ID]string{}
	}
	d.leases++
	lease := Lease{Event: id, Owner: strconv.FormatUint(d.leases, 10)}
	d.events[id] = lease.Owner
	return lease, nil
}

// Done implements Deduplicator.
func (d *MemoryDeduplicator) Done(_ context.Context, lease Lease) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if !d.holds(lease) {
		return ErrLeaseLost
	}
	d.forget(1)
	d.events[lease.Event] = ""
	d.done = append(d.done, doneEvent{lease.Event, time.Now()})
	return nil
}

// Failed implements Deduplicator.
func (d *MemoryDeduplicator) Failed(_ context.Context, lease Lease) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if !d.holds(lease) {
		return ErrLeaseLost
	}
	delete(d.events, lease.Event)
	return nil
}

func (d *MemoryDeduplicator) holds(lease Lease) bool {
	return lease.Owner != "" && d.events[lease.Event] == lease.Owner
}

// Cursor implements Cursor. It returns an error if events that were handled
// since the position have been forgotten.
func (d *MemoryDeduplicator) Cursor(context.Context) (time.Time, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.used = time.Now()
	if !d.dropped.IsZero() && !d.dropped.Before(d.reach()) {
		return time.Time{}, errForgotten
	}
	return d.position, nil
}

var errForgotten = errors.New("ricloud: the MemoryDeduplicator has forgotten events that would " +
	"be handled again: call Replay at the start and on a timer, make the size larger, or use " +
	"dedupe/sql; Events.Replay takes a date instead")

// SetCursor implements Cursor.
func (d *MemoryDeduplicator) SetCursor(_ context.Context, position time.Time) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.used = time.Now()
	if position.After(d.position) {
		d.position = position
	}
	return nil
}

// maxClockSkew is how far the API's clock may differ from this machine's. A
// position is a time of the API's clock; an event is marked as handled with a time
// of this machine's.
const maxClockSkew = time.Hour

// reach returns the time since which events were handled that Replay may read
// again.
func (d *MemoryDeduplicator) reach() time.Time {
	if d.position.IsZero() {
		return time.Now().Add(-DefaultReplayReach - maxClockSkew)
	}
	return d.position.Add(-maxClockSkew)
}

// forget drops the oldest events until there is room for some more, and those
// that are too old, but none that Replay may read again.
func (d *MemoryDeduplicator) forget(room int) {
	var kept time.Time // from then on
	if time.Since(d.used) <= DefaultReplayReach {
		kept = d.reach()
	}
	size := cmp.Or(d.size, DefaultDeduplicatorSize)
	for len(d.done) > 0 {
		oldest := d.done[0]
		surplus := len(d.done)+room > size || d.age > 0 && time.Since(oldest.when) > d.age
		if !surplus || !kept.IsZero() && !oldest.when.Before(kept) {
			return
		}
		delete(d.events, oldest.id)
		d.done = d.done[1:] // append moves the rest once the array is full
		d.dropped = oldest.when
	}
}
