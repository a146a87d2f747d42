// Package watch serves many waits for resources of one kind with few requests.
//
// A Hub knows every wait of its kind that is in progress. It reads a few
// resources one by one and many by list pages, takes in what events say, and
// gives each wait the changes of its own resource. It does not know the resources:
// its Source reads them and says what their states mean.
package watch

import (
	"container/heap"
	"context"
	"sync"
	"time"

	"github.com/reincubate/ricloud-go/internal/allowance"
)

// Source reads resources of type R for a Hub. It is safe for concurrent use.
type Source[R any] interface {
	// Get reads one resource. It makes one request and does not retry.
	Get(ctx context.Context, id string) (*R, error)
	// List reads at most limit resources, newest first: those behind the one
	// with the id after, if that is not empty. It makes one request and does
	// not retry.
	List(ctx context.Context, after string, limit int, wanted func(id string) bool) (Page[R], error)
	// Status returns the status of a resource.
	Status(r *R) Status
	// Classify returns what an error of Get or List means for the waits.
	Classify(err error) Verdict
}

// Status is what a Hub knows of a resource.
type Status struct {
	ID      string
	State   string
	Version string // differs between two copies if waits are told of the change
	// Progress grows as the resource does its work. Of two copies, the one with
	// more progress is the later one.
	Progress int
	Soon     bool // the next read probably shows the end
	GetOnly  bool // only a Get shows the end
	Ended    bool // waits for it end
	// Err is why it failed. Of a resource that has not ended, it is why that is in doubt
	// although it says that it has: if the doubt lasts, waits end with this error.
	Err error
}

// Hub serves all waits for resources of one kind. While there is a wait it has
// one goroutine, and one for each request in progress. They serve several
// callers, so they end with the last wait and not with one caller's context. A
// Hub is safe for concurrent use.
type Hub[R any] struct {
	base      context.Context //nolint:containedctx // carries values only; nil: none
	source    Source[R]
	rhythm    Rhythm
	allowance *allowance.Share

	mu      sync.Mutex
	entries map[string]*entry[R]
	queue   queue[R]  // the entries that are not being read, soonest due first
	memory  memory[R] // what was seen of resources that nothing waits for
	stop    context.CancelFunc
	wakeup  chan struct{}
	reads   []*read[R] // the Gets in progress, oldest first

	scanning bool  // a list is being read
	scans    int   // the number of scans so far
	sought   int   // the entries that the scan in progress still looks for
	shared   int64 // reads that one request for several waits has saved
	lists    lists
	refusal  error // why lists are not permitted; nil: they are

	outage  streak
	refused time.Time // the token was refused first; zero: it was not
}

// Shared returns how many reads were saved because one request served several
// waits.
func (h *Hub[R]) Shared() int64 {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.shared
}

// New returns a Hub. Its requests are taken from share, of which each resource
// that it waits for is a member; nil means no limit.
func New[R any](source Source[R], rhythm Rhythm, share *allowance.Share) *Hub[R] {
	if share == nil {
		share = allowance.Unlimited()
	}
	rhythm.Longest = min(rhythm.Longest, longest)
	rhythm.Shortest = min(rhythm.Shortest, longest)
	return &Hub[R]{
		source: source, rhythm: rhythm, allowance: share,
		entries: map[string]*entry[R]{}, lists: lists{limit: maxPage},
	}
}

// WithValues makes the requests of a Hub carry the values of ctx. It returns
// the Hub, and is for one that nothing waits on yet.
func (h *Hub[R]) WithValues(ctx context.Context) *Hub[R] {
	h.base = context.WithoutCancel(ctx)
	return h
}

// entry is a resource that is waited for.
type entry[R any] struct {
	id      string
	known   *R // nil: nothing is known yet
	status  Status
	waits   []*Wait[R]
	earlier *R // seen too long ago to be yielded without a read

	began, due time.Time
	index      int  // in the queue; -1: it is being read, or has ended
	hasEvents  bool // an event about it has arrived
	unlisted   bool // the last scan did not show it
	check      bool // a Get is to check what the list shows of it
	sought     bool // the scan in progress looks for it and has not shown it yet
	scan       int  // the last scan that showed it
	// Since began: when the last read succeeded, and when a Get, a change or an event showed it last.
	readAt, confirmedAt time.Duration
	doubtAt             time.Duration // since began: when a read first left a doubt; 0: none does

	failing *failing // the reads that failed since the last success; nil: none
}

// failing is a series of failed reads of one resource.
type failing struct {
	err     error     // of the last one
	since   time.Time // the first one
	missing time.Time // the first one that did not find the resource
}

// failed notes a failed read.
func (e *entry[R]) failed(err error, now time.Time) {
	if e.failing == nil {
		e.failing = &failing{since: now}
	}
	e.failing.err = err
}

// succeeded notes a successful read.
func (e *entry[R]) succeeded(now time.Time) {
	e.failing, e.readAt = nil, now.Sub(e.began)
}

// Join begins to wait for a resource. known is what the caller knows of it
// already, which saves a request; it may be nil. The Hub keeps known, so the
// caller must not change it later. The caller must call Leave.
func (h *Hub[R]) Join(id string, known *R) *Wait[R] {
	h.mu.Lock()
	defer h.mu.Unlock()
	w := &Wait[R]{hub: h, ready: make(chan struct{}, 1)}
	e := h.entries[id]
	if e == nil {
		e = h.add(id, known)
	}
	w.entry = e
	e.waits = append(e.waits, w)
	if e.known != nil {
		w.tell(e.known, e.status, false)
	}
	return w
}

// add makes an entry and, unless it has ended already, has it read.
func (h *Hub[R]) add(id string, known *R) *entry[R] {
	now := time.Now()
	e := &entry[R]{id: id, began: now, due: now, index: -1}
	h.entries[id] = e
	h.allowance.Add(1)
	if known != nil {
		h.learn(e, known, h.source.Status(known), true)
	}
	seen := h.memory.take(id)
	e.hasEvents = seen.event
	switch {
	case seen.resource == nil:
	case now.Sub(seen.at) < h.rhythm.Longest:
		h.learn(e, seen.resource, h.source.Status(seen.resource), false)
	default:
		e.earlier = seen.resource
	}
	if e.status.Ended {
		return e
	}
	switch {
	case e.known != nil:
		h.schedule(e, now)
	case h.scanning: // which may show it
		e.due = now.Add(h.rhythm.Shortest)
	}
	heap.Push(&h.queue, e)
	h.start()
	return e
}

// Know takes in a resource that a create returned, so that a wait that begins
// soon needs no read.
func (h *Hub[R]) Know(r *R) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.observe(Clone(r))
}

// Refresh takes in a resource that the caller has read. It is dropped unless the
// Hub knows something of the resource already.
func (h *Hub[R]) Refresh(id string, r *R) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.entries[id] != nil || h.memory.get(id).resource != nil {
		h.observe(Clone(r))
	}
}

// Deleted notes that the caller deleted a resource. change updates the known
// copy of it.
func (h *Hub[R]) Deleted(id string, change func(*R)) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.change(id, change)
}

// Notify takes in a resource as an event shows it. An event that shows no
// progress is dropped: it is late, or a duplicate.
func (h *Hub[R]) Notify(r *R) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.noteEvent(h.source.Status(r).ID)
	h.observe(Clone(r))
}

// NotifyChange is Notify for an event that says only what has changed. change
// updates the known copy of the resource. If there is none, the resource is read
// at once. A nil change says only that there was an event.
func (h *Hub[R]) NotifyChange(id string, change func(*R)) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.noteEvent(id)
	if change != nil {
		h.change(id, change)
	}
}

// change updates the known copy of a resource. If there is none, the resource is
// read if anything waits for it.
func (h *Hub[R]) change(id string, change func(*R)) {
	known := h.memory.get(id).resource
	e := h.entries[id]
	if e != nil {
		known = e.known
	}
	switch {
	case known != nil:
		c := Clone(known)
		change(c)
		h.observe(c)
	case e != nil:
		h.readBy(e, time.Now())
	}
}

// noteEvent notes that events about a resource arrive.
func (h *Hub[R]) noteEvent(id string) {
	if e := h.entries[id]; e != nil {
		if !e.hasEvents && e.index >= 0 {
			e.hasEvents = true
			h.schedule(e, e.began.Add(e.readAt))
			heap.Fix(&h.queue, e.index)
		}
		e.hasEvents = true
		return
	}
	h.memory.noteEvent(id)
}

// observe takes in a resource that was not read for a wait.
func (h *Hub[R]) observe(r *R) {
	now, st := time.Now(), h.source.Status(r)
	e := h.entries[st.ID]
	if e == nil {
		old := h.memory.get(st.ID).resource
		if old == nil || h.source.Status(old).Progress < st.Progress {
			h.memory.put(st.ID, r, now)
		}
		return
	}
	if !h.learn(e, r, st, false) || e.index < 0 {
		return
	}
	h.schedule(e, now) // it had not ended yet when the event was made
	heap.Fix(&h.queue, e.index)
	h.wake()
	if st.Soon {
		h.readBy(e, now.Add(h.rhythm.Shortest))
	}
}

// readBy makes e due at a time, unless it is due sooner.
func (h *Hub[R]) readBy(e *entry[R], at time.Time) {
	if e.index >= 0 && at.Before(e.due) {
		e.due = at
		heap.Fix(&h.queue, e.index)
		h.wake()
	}
}

// learn takes in a copy of e's resource and its status, tells the waits if it has
// changed, and reports whether it has. A copy with less progress is dropped. So is
// a copy with the same progress, unless it was read for a wait.
func (h *Hub[R]) learn(e *entry[R], r *R, st Status, read bool) bool {
	if read && e.earlier != nil { // a read can be older than what was seen before
		if earlier := h.source.Status(e.earlier); earlier.Progress > st.Progress {
			r, st = e.earlier, earlier
		}
		e.earlier = nil
	}
	if read {
		st = e.doubt(st)
	}
	behind := st.Progress < e.status.Progress || !read && st.Progress == e.status.Progress
	if e.known != nil && behind {
		return false
	}
	changed := e.known == nil || st.Version != e.status.Version || st.Ended != e.status.Ended
	e.known, e.status = r, st
	if changed {
		e.confirm(time.Now())
		for _, w := range e.waits {
			w.tell(r, st, read)
		}
	}
	if st.Ended {
		h.remove(e)
	}
	return changed
}

// doubt returns the status of a copy that was read, which has ended if reads have
// left the same doubt for as long as reads may fail.
func (e *entry[R]) doubt(st Status) Status {
	if st.Ended || st.Err == nil {
		e.doubtAt = 0
		return st
	}
	now := time.Since(e.began)
	if e.doubtAt == 0 {
		e.doubtAt = max(now, 1)
	}
	st.Ended = now-e.doubtAt > tolerance
	return st
}

// end ends all waits for e with err.
func (h *Hub[R]) end(e *entry[R], err error) {
	for _, w := range e.waits {
		w.fail(err)
	}
	h.remove(e)
}

func (h *Hub[R]) endAll(err error) {
	for _, e := range h.entries {
		h.end(e, err)
	}
}

// remove forgets e. The goroutine ends with the last entry.
func (h *Hub[R]) remove(e *entry[R]) {
	if h.entries[e.id] != e {
		return
	}
	delete(h.entries, e.id)
	h.allowance.Add(-1)
	h.found(e)
	if e.index >= 0 {
		heap.Remove(&h.queue, e.index)
	}
	if len(h.entries) == 0 && h.stop != nil {
		h.stop()
		h.stop = nil
	}
}

// wake makes the goroutine look again.
func (h *Hub[R]) wake() {
	select {
	case h.wakeup <- struct{}{}:
	default:
	}
}
