package store

import (
	"bytes"
	"cmp"
	"context"
	"slices"
	"strings"
	"sync"
	"time"
)

// Memory is a store that ends with the process. Its clock is time.Now, so it
// works in virtual time.
type Memory struct {
	mu       sync.Mutex
	revision uint64
	entries  map[string]*expiring
	watchers map[*watcher]struct{}
	events   []event
	known    map[string]struct{} // events' ids
	answers  map[string][]*func([]byte) []byte
	closed   chan struct{}
}

type expiring struct {
	Entry

	timer *time.Timer // nil: never
}

type event struct {
	id   string
	at   time.Time
	data []byte
}

// NewMemory returns an empty store.
func NewMemory() *Memory {
	return &Memory{
		entries: map[string]*expiring{}, watchers: map[*watcher]struct{}{},
		known: map[string]struct{}{}, answers: map[string][]*func([]byte) []byte{},
		closed: make(chan struct{}),
	}
}

// check returns ErrClosed once the store is closed.
func (m *Memory) check() error {
	select {
	case <-m.closed:
		return ErrClosed
	default:
		return nil
	}
}

// Get returns the entry of a key.
func (m *Memory) Get(_ context.Context, key string) (Entry, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if err := m.check(); err != nil {
		return Entry{}, err
	}
	if e := m.entries[key]; e != nil {
		return e.Entry, nil
	}
	return Entry{}, ErrNotFound
}

// Put writes a value.
func (m *Memory) Put(_ context.Context, e Entry, ttl time.Duration) (uint64, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if err := m.check(); err != nil {
		return 0, err
	}
	old := m.entries[e.Key]
	if old == nil && e.Revision != 0 || old != nil && old.Revision != e.Revision {
		return 0, ErrConflict
	}
	if old != nil && old.timer != nil {
		old.timer.Stop()
	}
	m.revision++
	now := &expiring{Entry: Entry{Key: e.Key, Value: bytes.Clone(e.Value), Revision: m.revision}}
	if ttl > 0 {
		now.timer = time.AfterFunc(ttl, func() { m.expire(e.Key, now.Revision) })
	}
	m.entries[e.Key] = now
	m.tell(e.Key, now.Entry)
	return now.Revision, nil
}

// expire removes a value whose time is over.
func (m *Memory) expire(key string, revision uint64) {
	m.mu.Lock()
	defer m.mu.Unlock()
	_ = m.remove(key, revision) // it may have changed just now
}

// Remove removes a key.
func (m *Memory) Remove(_ context.Context, key string, revision uint64) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if err := m.check(); err != nil {
		return err
	}
	return m.remove(key, revision)
}

func (m *Memory) remove(key string, revision uint64) error {
	old := m.entries[key]
	if old == nil || old.Revision != revision {
		return ErrConflict
	}
	if old.timer != nil {
		old.timer.Stop()
	}
	delete(m.entries, key)
	m.revision++
	m.tell(key, Entry{Key: key, Revision: m.revision})
	return nil
}

// tell passes something on to those that watch a key.
func (m *Memory) tell(key string, what any) {
	for w := range m.watchers {
		if strings.HasPrefix(key, w.prefix) {
			w.add(what)
		}
	}
}

// watcher is one that is told of changes, in order.
type watcher struct {
	prefix string
	wake   chan struct{}

	mu    sync.Mutex
	queue []any
}

func (w *watcher) add(what any) {
	w.mu.Lock()
	w.queue = append(w.queue, what)
	w.mu.Unlock()
	select {
	case w.wake <- struct{}{}:
	default:
	}
}

// follow calls fn with what is there already and with what is added, until ctx ends.
func (m *Memory) follow(
	ctx context.Context, prefix string, there func() []any, fn func(any),
) error {
	w := &watcher{prefix: prefix, wake: make(chan struct{}, 1)}
	m.mu.Lock()
	w.queue = there()
	m.watchers[w] = struct{}{}
	m.mu.Unlock()
	defer func() {
		m.mu.Lock()
		delete(m.watchers, w)
		m.mu.Unlock()
	}()
	for {
		if err := m.check(); err != nil && ctx.Err() == nil {
			return err
		}
		w.mu.Lock()
		queue := w.queue
		w.queue = nil
		w.mu.Unlock()
		for _, what := range queue {
			if ctx.Err() != nil {
				return nil
			}
			fn(what)
		}
		if len(queue) > 0 {
			continue
		}
		select {
		case <-w.wake:
		case <-m.closed:
		case <-ctx.Done():
			return nil
		}
	}
}

// Watch calls fn for each key and each change.
func (m *Memory) Watch(ctx context.Context, prefix string, fn func(Entry)) error {
	there := func() (all []any) {
		for key, e := range m.entries {
			if strings.HasPrefix(key, prefix) {
				all = append(all, e.Entry)
			}
		}
		slices.SortFunc(all, func(a, b any) int {
			x, _ := a.(Entry)
			y, _ := b.(Entry)
			return cmp.Compare(x.Revision, y.Revision)
		})
		return append(all, Entry{})
	}
	return m.follow(ctx, prefix, there, func(what any) {
		if e, ok := what.(Entry); ok {
			fn(e)
		}
	})
}

const (
	eventPrefix = "\x00event"
	busPrefix   = "\x00bus."
)

// Publish keeps an event.
func (m *Memory) Publish(_ context.Context, id string, data []byte) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if err := m.check(); err != nil {
		return err
	}
	if _, ok := m.known[id]; ok {
		return nil
	}
	m.known[id] = struct{}{}
	e := event{id, time.Now(), bytes.Clone(data)}
	m.events = append(m.events, e)
	m.tell(eventPrefix, e)
	return nil
}

// Subscribe calls fn for each event.
func (m *Memory) Subscribe(ctx context.Context, since time.Time, fn func([]byte)) error {
	there := func() (all []any) {
		for _, e := range m.events {
			if !e.at.Before(since) {
				all = append(all, e)
			}
		}
		return all
	}
	return m.follow(ctx, eventPrefix, there, func(what any) {
		if e, ok := what.(event); ok {
			fn(e.data)
		}
	})
}

// Send reaches all that listen.
func (m *Memory) Send(_ context.Context, subject string, data []byte) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if err := m.check(); err != nil {
		return err
	}
	m.tell(busPrefix+subject, bytes.Clone(data))
	return nil
}

// Listen calls fn with nil, and then for each message.
func (m *Memory) Listen(ctx context.Context, subject string, fn func([]byte)) error {
	there := func() []any { return []any{[]byte(nil)} }
	return m.follow(ctx, busPrefix+subject, there, func(what any) {
		if data, ok := what.([]byte); ok {
			fn(data)
		}
	})
}

// Ask returns the answer of one that answers.
func (m *Memory) Ask(ctx context.Context, subject string, data []byte) ([]byte, error) {
	if err := m.check(); err != nil {
		return nil, err
	}
	m.mu.Lock()
	var fn func([]byte) []byte
	if all := m.answers[subject]; len(all) > 0 {
		fn = *all[0]
	}
	m.mu.Unlock()
	if fn == nil {
		return nil, ErrNobody
	}
	answer := make(chan []byte, 1)
	go func() { answer <- fn(bytes.Clone(data)) }()
	select {
	case a := <-answer:
		return a, nil
	case <-m.closed:
		return nil, ErrClosed
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
}

// Answer answers each question with fn.
func (m *Memory) Answer(ctx context.Context, subject string, fn func([]byte) []byte) error {
	own := &fn
	m.mu.Lock()
	m.answers[subject] = append(m.answers[subject], own)
	m.mu.Unlock()
	var err error
	select {
	case <-ctx.Done():
	case <-m.closed:
		err = ErrClosed
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.answers[subject] = slices.DeleteFunc(m.answers[subject], func(other *func([]byte) []byte) bool {
		return other == own
	})
	return err
}

// Usage is how much the store holds.
func (m *Memory) Usage(context.Context) (Usage, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if err := m.check(); err != nil {
		return Usage{}, err
	}
	u := Usage{Records: uint64(len(m.entries)), Events: uint64(len(m.events)), Memory: true}
	for _, e := range m.entries {
		u.Bytes += uint64(len(e.Value))
	}
	return u, nil
}

// Now returns the time of this process.
func (m *Memory) Now(context.Context) (time.Time, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return time.Now().UTC(), m.check()
}

// Close ends the store, and stops its timers.
func (m *Memory) Close() error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.check() != nil {
		return nil
	}
	close(m.closed)
	for _, e := range m.entries {
		if e.timer != nil {
			e.timer.Stop()
		}
	}
	return nil
}
