package watch

// queue is a heap of entries, soonest due first.
type queue[R any] []*entry[R]

func (q queue[R]) Len() int           { return len(q) }
func (q queue[R]) Less(i, j int) bool { return q[i].due.Before(q[j].due) }

func (q queue[R]) Swap(i, j int) {
	q[i], q[j] = q[j], q[i]
	q[i].index, q[j].index = i, j
}

// Push adds an entry. Push and Pop are for container/heap.
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
