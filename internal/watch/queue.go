package watch

import "time"

// queue is a heap of entries, soonest due first.
type queue[R any] []*entry[R]

func (q queue[R]) Len() int           { return len(q) }
func (q queue[R]) Less(i, j int) bool { return q[i].due.Before(q[j].due) }

func (q queue[R]) Swap(i, j int) {
	q[i], q[j] = q[j], q[i]
	q[i].index, q[j].index = i, j
}

// Push and Pop are for container/heap.
func (q *queue[R]) Push(x any) {
	e := x.(*entry[R]) //nolint:forcetypeassert // only entries are pushed
	e.index = len(*q)
	*q = append(*q, e)
}

// Pop removes the last entry.
func (q *queue[R]) Pop() any {
	last := len(*q) - 1
	e := (*q)[last]
	(*q)[last] = nil
	*q = (*q)[:last]
	e.index = -1
	return e
}

// recent holds the last resources that were heard of before anything waited
// for them: an event may overtake the answer to a create.
type recent[R any] struct {
	heard map[string]heard[R]
	order []string // oldest first
}

type heard[R any] struct {
	resource *R
	at       time.Time
}

const maxRecent = 256

func (c *recent[R]) put(id string, r *R, now time.Time) {
	if c.heard == nil {
		c.heard = map[string]heard[R]{}
	}
	if _, ok := c.heard[id]; !ok {
		c.order = append(c.order, id)
	}
	c.heard[id] = heard[R]{r, now}
	for len(c.heard) > maxRecent || len(c.order) > 2*maxRecent {
		delete(c.heard, c.order[0])
		c.order = c.order[1:]
	}
}

func (c *recent[R]) peek(id string) *R { return c.heard[id].resource }

// take removes what was heard of id and reports whether that is fresh: from
// since or later.
func (c *recent[R]) take(id string, since time.Time) (r *R, fresh bool) {
	h := c.heard[id]
	delete(c.heard, id)
	return h.resource, h.resource != nil && !h.at.Before(since)
}
