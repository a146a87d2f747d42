package watch

import "time"

// maxMemory is the number of resources that a memory holds.
const maxMemory = 512

// memory holds what was last seen of resources that nothing waited for: an
// event may arrive before the answer to the create.
type memory[R any] struct {
	seen  map[string]seen[R]
	order []string // oldest first; may hold ids that are gone
}

// seen is what was seen of a resource.
type seen[R any] struct {
	resource *R // nil: only that there are events about it
	at       time.Time
	event    bool // an event about it has arrived
}

func (m *memory[R]) get(id string) seen[R] { return m.seen[id] }

func (m *memory[R]) put(id string, r *R, now time.Time) {
	m.set(id, seen[R]{resource: r, at: now, event: m.seen[id].event})
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
	if _, ok := m.seen[id]; !ok {
		m.order = append(m.order, id)
	}
	m.seen[id] = s
	for len(m.seen) > maxMemory || len(m.order) > 2*maxMemory {
		delete(m.seen, m.order[0])
		m.order = m.order[1:]
	}
}

// take removes what was seen of a resource and returns it.
func (m *memory[R]) take(id string) seen[R] {
	s := m.seen[id]
	delete(m.seen, id)
	return s
}
