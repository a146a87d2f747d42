package watch

import (
	"slices"
	"time"
)

// What a memory holds: so many resources, and so many bytes of them. The latest one
// is held whatever its size.
const (
	maxMemory      = 512
	maxMemoryBytes = 32 << 20
)

// memory holds what was last seen of resources that nothing waited for: an
// event may arrive before the answer to the create.
type memory[R any] struct {
	seen  map[string]seen[R]
	order []string // oldest first
	bytes int      // of all resources
}

// seen is what was seen of a resource.
type seen[R any] struct {
	resource *R // nil: only that there are events about it
	size     int
	at       time.Time
	event    bool // an event about it has arrived
}

func (m *memory[R]) get(id string) seen[R] { return m.seen[id] }

func (m *memory[R]) put(id string, r *R, now time.Time) {
	m.set(id, seen[R]{resource: r, size: size(r), at: now, event: m.seen[id].event})
	for m.bytes > maxMemoryBytes && m.dropOldest(id) {
	}
}

func (m *memory[R]) noteEvent(id string) {
	s := m.seen[id]
	s.event = true
	m.set(id, s)
}

func (m *memory[R]) set(id string, s seen[R]) {
	if m.seen == nil {
		m.seen = map[string]seen[R]{}
	}
	old, ok := m.seen[id]
	if !ok {
		m.order = append(m.order, id)
	}
	m.seen[id] = s
	m.bytes += s.size - old.size
	if len(m.order) > maxMemory {
		m.take(m.order[0])
	}
}

// dropOldest forgets the resource that was seen first, but not that of an id, and
// not whether there are events about it. It reports whether there was one: a wait
// for it reads it.
func (m *memory[R]) dropOldest(but string) bool {
	oldest, found := "", false
	for id, s := range m.seen {
		if s.resource != nil && id != but && (!found || s.at.Before(m.seen[oldest].at)) {
			oldest, found = id, true
		}
	}
	if found {
		m.set(oldest, seen[R]{event: m.seen[oldest].event})
	}
	return found
}

// take removes what was seen of a resource and returns it.
func (m *memory[R]) take(id string) seen[R] {
	s, ok := m.seen[id]
	if ok {
		delete(m.seen, id)
		m.bytes -= s.size
		m.order = slices.Delete(m.order, slices.Index(m.order, id), slices.Index(m.order, id)+1)
	}
	return s
}
