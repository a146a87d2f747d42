// Package watch serves many waits for resources of one kind with few requests.
//
// A Hub knows every wait of its kind that is in flight. It reads a few
// resources one by one and many by list pages, takes what events tell it, and
// hands each wait the changes of its own resource. What it reads, and what a
// resource's state means, is its Source's to say.
package watch

import (
	"container/heap"
	"context"
	"sync"
	"time"

	"golang.org/x/time/rate"
)

// Source is how a Hub reads resources of type R.
type Source[R any] interface {
	// Get reads one resource.
	Get(ctx context.Context, id string) (*R, error)
	// List reads at most limit resources, newest first, behind the one with
	// the id after if that is not empty.
	List(ctx context.Context, after string, limit int, wanted func(id string) bool) (Page[R], error)
	// Look says where a resource stands.
	Look(*R) Status
	// Judge says what an error of Get or List means for the waits.
	Judge(error) Verdict
}

// Page is a page of a list.
type Page[R any] struct {
	Wanted []*R   // the resources on it that are wanted
	Len    int    // how many are on it in all
	Last   string // the last one's id
	More   bool   // there are more behind it
}

// Status is where a resource stands.
type Status struct {
	ID       string
	State    string
	Version  string // differs when anything differs that a wait is told
	Progress int    // grows with the work done: what has less of it is older
	Ended    bool
	Err      error // of a terminal resource that did not end well
}

// Verdict is what an error means for the waits.
type Verdict int

// What an error means.
const (
	Passing Verdict = iota // reading again may help
	Final                  // it will not, for the resources that were read
	Fatal                  // it will not, for any resource
)

// Hub serves all waits for resources of one kind. It has one goroutine, and
// one more for each request in flight, while anything waits and none
// otherwise: they serve several callers, so they belong to none of them. It
// is safe for concurrent use.
type Hub[R any] struct {
	source    Source[R]
	rhythm    Rhythm
	allowance *rate.Limiter

	mu       sync.Mutex
	entries  map[string]*entry[R]
	queue    queue[R] // the entries that no request is reading, soonest due first
	recent   recent[R]
	stop     context.CancelFunc // ends the goroutine; nil: there is none
	wake     chan struct{}      // has it look again
	requests int                // GETs in flight
	scanning bool               // a list is being read
	scans    int                // how often
	lists    lists
	pushed   time.Time // when an event came last
}

// New returns a Hub. Hubs that share an allowance share its requests; nil is
// no limit.
func New[R any](source Source[R], rhythm Rhythm, allowance *rate.Limiter) *Hub[R] {
	if allowance == nil {
		allowance = rate.NewLimiter(rate.Inf, 1)
	}
	return &Hub[R]{source: source, rhythm: rhythm, allowance: allowance, entries: map[string]*entry[R]{}}
}

// entry is a resource that is waited for.
type entry[R any] struct {
	id     string
	known  *R // nil: nothing is known yet
	status Status
	waits  []*Wait[R]

	began, due time.Time
	index      int  // in the queue; -1: it is being read, or over
	unlisted   bool // the last scan did not show it
	scan       int  // the last that did

	failure error     // of the last read; nil: it went well
	since   time.Time // when the failures in a row began
}

// failing notes a read that failed.
func (e *entry[R]) failing(err error) {
	if e.failure == nil {
		e.since = time.Now()
	}
	e.failure = err
}

// Join begins to wait for a resource. What the caller knows of it already
// spares a request; it may be nil. Leave must be called.
func (h *Hub[R]) Join(id string, known *R) *Wait[R] {
	h.mu.Lock()
	defer h.mu.Unlock()
	w := &Wait[R]{hub: h, ready: make(chan struct{}, 1)}
	e := h.entries[id]
	if e == nil {
		now := time.Now()
		e = &entry[R]{id: id, began: now, due: now, index: -1}
		heard, fresh := h.recent.take(id, now.Add(-h.rhythm.Longest))
		h.entries[id] = e
		h.learn(e, known, false)
		h.learn(e, heard, true)
		if !e.status.Ended {
			if known != nil || fresh {
				h.schedule(e, now)
			}
			heap.Push(&h.queue, e)
			h.start()
		}
	}
	w.entry = e
	e.waits = append(e.waits, w)
	if e.known != nil {
		w.tell(e.known, e.status)
	}
	return w
}

// Know takes a resource as a caller's own request showed it, so that a wait
// that begins soon need not ask.
func (h *Hub[R]) Know(r *R) {
	c := *r
	h.mu.Lock()
	defer h.mu.Unlock()
	h.hear(h.source.Look(&c).ID, &c)
}

// Notify takes a resource as an event showed it, and returns to polling rarely
// while events keep coming. What is no newer than what is known is dropped.
func (h *Hub[R]) Notify(r *R) {
	c := *r
	h.mu.Lock()
	defer h.mu.Unlock()
	h.pushed = time.Now()
	h.hear(h.source.Look(&c).ID, &c)
}

// NotifyChange is Notify for an event that tells only what changed: change
// makes it to the resource as it is known. Where nothing is known, the
// resource is read at once.
func (h *Hub[R]) NotifyChange(id string, change func(*R)) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.pushed = time.Now()
	known := h.recent.peek(id)
	e := h.entries[id]
	if e != nil {
		known = e.known
	}
	switch {
	case known != nil:
		c := *known
		change(&c)
		h.hear(id, &c)
	case e != nil && e.index >= 0:
		e.due = time.Now()
		heap.Fix(&h.queue, e.index)
		h.poke()
	}
}

// hear learns what was not read for a wait.
func (h *Hub[R]) hear(id string, r *R) {
	now := time.Now()
	e := h.entries[id]
	if e == nil {
		if old := h.recent.peek(id); old == nil || h.source.Look(old).Progress < h.source.Look(r).Progress {
			h.recent.put(id, r, now)
		}
		return
	}
	if h.learn(e, r, true) && e.index >= 0 {
		h.schedule(e, now)
		heap.Fix(&h.queue, e.index)
	}
}

// learn takes news of e to its waits and reports whether there were any. A
// resource never moves backwards; hearsay must show progress.
func (h *Hub[R]) learn(e *entry[R], r *R, hearsay bool) bool {
	if r == nil {
		return false
	}
	st := h.source.Look(r)
	if e.known != nil && (st.Progress < e.status.Progress || hearsay && st.Progress == e.status.Progress) {
		return false
	}
	changed := e.known == nil || st.Version != e.status.Version
	e.known, e.status = r, st
	if changed {
		for _, w := range e.waits {
			w.tell(r, st)
		}
	}
	if st.Ended {
		h.remove(e)
	}
	return changed
}

// end ends all waits for e with err.
func (h *Hub[R]) end(e *entry[R], err error) {
	for _, w := range e.waits {
		w.fail(err)
	}
	h.remove(e)
}

// remove forgets e. The goroutine ends with the last.
func (h *Hub[R]) remove(e *entry[R]) {
	if h.entries[e.id] != e {
		return
	}
	delete(h.entries, e.id)
	if e.index >= 0 {
		heap.Remove(&h.queue, e.index)
	}
	if len(h.entries) == 0 && h.stop != nil {
		h.stop()
		h.stop = nil
	}
}

// poke has the goroutine look again.
func (h *Hub[R]) poke() {
	select {
	case h.wake <- struct{}{}:
	default:
	}
}
