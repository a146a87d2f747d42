package watch

import (
	"context"
	"slices"
)

// Wait is one caller's wait. It is for one goroutine.
type Wait[R any] struct {
	hub   *Hub[R]
	entry *entry[R]
	ready chan struct{}
	news  []news[R] // guarded by the hub's mutex
	last  *R
	read  bool // a read brought what Next returned last
}

// ByRead reports whether a read brought what Next returned last, rather than an
// event.
func (w *Wait[R]) ByRead() bool { return w.read }

// news is a change that a wait has not returned yet.
type news[R any] struct {
	resource *R // nil: no newer than the last
	state    string
	err      error
	end      bool
	read     bool // a read brought it; else an event did, or a call of the caller's
}

// Next returns the resource when it has changed since the last call. The first
// call returns as soon as anything is known of it. At the end of the wait, end
// is true, err is the reason, and resource is the last one seen, or nil. A wait
// ends when the resource does, when it cannot be read, and, with the context's
// cause, when ctx does.
func (w *Wait[R]) Next(ctx context.Context) (resource *R, end bool, err error) {
	for {
		if n, ok := w.pop(); ok {
			if n.resource != nil {
				w.last = n.resource
			}
			w.read = n.read
			return w.last, n.end, n.err
		}
		select {
		case <-w.ready:
		case <-ctx.Done():
			return w.last, true, context.Cause(ctx)
		}
	}
}

func (w *Wait[R]) pop() (n news[R], ok bool) {
	w.hub.mu.Lock()
	defer w.hub.mu.Unlock()
	if len(w.news) == 0 {
		return n, false
	}
	n = w.news[0]
	w.news = w.news[1:]
	return n, true
}

// Leave ends a wait. The others are not disturbed.
func (w *Wait[R]) Leave() {
	h, e := w.hub, w.entry
	h.mu.Lock()
	defer h.mu.Unlock()
	e.waits = slices.DeleteFunc(e.waits, func(other *Wait[R]) bool { return other == w })
	if len(e.waits) == 0 {
		h.remove(e)
	}
}

// tell queues a change for the caller, who gets a copy of its own. A caller that
// is slower than the changes misses steps within a state, never a state.
func (w *Wait[R]) tell(r *R, st Status, read bool) {
	n := news[R]{resource: Clone(r), state: st.State, end: st.Ended, read: read}
	if st.Ended {
		n.err = st.Err
	}
	if last := len(w.news) - 1; last >= 0 && w.news[last].state == n.state {
		w.news[last] = n
	} else {
		w.news = append(w.news, n)
	}
	w.signal()
}

func (w *Wait[R]) fail(err error) {
	w.news = append(w.news, news[R]{end: true, err: err})
	w.signal()
}

func (w *Wait[R]) signal() {
	select {
	case w.ready <- struct{}{}:
	default:
	}
}
