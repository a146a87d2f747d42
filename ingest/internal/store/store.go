// Package store says what the engine needs of the place that holds its state,
// and has the one in memory. The package natsstore has the other.
package store

import (
	"context"
	"errors"
	"time"
)

var (
	// ErrNotFound reports that a key holds nothing.
	ErrNotFound = errors.New("not found")
	// ErrConflict reports that a key is not at the revision that was expected:
	// nothing was written.
	ErrConflict = errors.New("changed by another")
	// ErrFull reports that the store has no room: nothing was written.
	ErrFull = errors.New("the store is full")
	// ErrTooLarge reports that a value does not fit into a message of the store: nothing was written.
	ErrTooLarge = errors.New("too large for the store")
	// ErrClosed reports that the store was closed: no later call will succeed.
	ErrClosed = errors.New("the store is closed")
	// ErrNobody reports that no process answers on a subject.
	ErrNobody = errors.New("nobody answers")
)

// Entry is a value and its revision. A nil Value means that the key was removed
// or has expired.
type Entry struct {
	Key      string
	Value    []byte
	Revision uint64
}

// Records is a set of keys with compare-and-set.
type Records interface {
	// Get returns the entry of a key, or ErrNotFound.
	Get(ctx context.Context, key string) (Entry, error)

	// Put writes a value if the key is at e.Revision, 0 for a key that holds
	// nothing, and returns its new revision. With a ttl the value expires.
	// It returns ErrConflict, ErrFull or ErrTooLarge when it wrote nothing; after another
	// error the value may have been written.
	Put(ctx context.Context, e Entry, ttl time.Duration) (uint64, error)

	// Remove removes a key that is at the revision.
	Remove(ctx context.Context, key string, revision uint64) error

	// Watch calls fn for each key that begins with prefix, then once with an
	// empty Entry, and from then on for each change, in order. A prefix ends with
	// a dot, or else is a whole key. It returns when ctx ends, with nil, or when
	// the store fails.
	Watch(ctx context.Context, prefix string, fn func(Entry)) error
}

// Events is a stream that keeps each event once, for some days.
type Events interface {
	// Publish returns nil when the event is stored, now or before, and ErrFull
	// when there is no room for it, or ErrTooLarge.
	Publish(ctx context.Context, id string, data []byte) error

	// Subscribe calls fn for each event that was stored since a time, in order.
	// It returns when ctx ends, with nil, or when the store fails.
	Subscribe(ctx context.Context, since time.Time, fn func(data []byte)) error
}

// Bus carries messages between the processes that run now. It keeps nothing:
// what must not be stored travels on it.
type Bus interface {
	// Send reaches all that Listen on a subject now.
	Send(ctx context.Context, subject string, data []byte) error
	// Listen calls fn with nil once it listens, and then for each message until ctx ends.
	Listen(ctx context.Context, subject string, fn func(data []byte)) error
	// Ask returns the answer of one process, or ErrNobody.
	Ask(ctx context.Context, subject string, data []byte) ([]byte, error)
	// Answer answers each question with fn, concurrently, until ctx ends.
	Answer(ctx context.Context, subject string, fn func(data []byte) []byte) error
}

// Usage is how much a store holds.
type Usage struct {
	Records, Events  uint64 // how many
	Bytes, MaxBytes  uint64 // of records; 0: no limit
	EventBytes       uint64
	MaxEventBytes    uint64
	Memory, Embedded bool
}

// Store holds the state of an engine. All methods are safe for concurrent use. Once it is closed,
// they return ErrClosed. Without a deadline, a call that the store does not answer ends within half
// a minute, except those that follow it until ctx ends, and Ask.
type Store interface {
	Records
	Events
	Bus
	Admin
}

// Admin is about the store itself.
type Admin interface {
	Usage(ctx context.Context) (Usage, error)
	// Now returns the time by the store's own clock, which is the same for all processes.
	Now(ctx context.Context) (time.Time, error)
	// Close ends the store; what was written stays.
	Close() error
}
