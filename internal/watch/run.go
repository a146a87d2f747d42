package watch

import (
	"container/heap"
	"context"
	"errors"
	"time"
)

const forever = time.Duration(1<<63 - 1)

// start begins the goroutine unless it runs, or has it look again.
func (h *Hub[R]) start() {
	if h.stop != nil {
		h.poke()
		return
	}
	var ctx context.Context
	// No caller's context: the requests serve them all, and end with the last.
	ctx, h.stop = context.WithCancel(context.Background()) //nolint:gosec // remove calls it, after the last wait
	// Its own: a goroutine that is ending must not take what is meant for this one.
	h.wake = make(chan struct{}, 1)
	go h.run(ctx, h.wake)
}

func (h *Hub[R]) run(ctx context.Context, wake <-chan struct{}) {
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-timer.C:
		case <-wake:
		case <-ctx.Done():
			return
		}
		timer.Reset(h.step(ctx))
	}
}

// step begins the requests that are due and returns when to look again.
func (h *Hub[R]) step(ctx context.Context) time.Duration {
	h.mu.Lock()
	defer h.mu.Unlock()
	now := time.Now()
	for len(h.queue) > 0 && !h.scanning && h.requests < maxReading && ctx.Err() == nil {
		if wait := h.queue[0].due.Sub(now); wait > 0 {
			return wait
		}
		if missing := 1 - h.allowance.TokensAt(now); missing > 0 {
			return max(time.Duration(missing/float64(h.allowance.Limit())*float64(time.Second)), time.Millisecond)
		}
		h.allowance.ReserveN(now, 1)
		if h.scanPays(now) {
			h.scanning = true
			h.scans++
			go h.scan(ctx, h.lists, now)
		} else {
			h.requests++
			go h.get(ctx, heap.Pop(&h.queue).(*entry[R])) //nolint:forcetypeassert // the queue holds nothing else
		}
	}
	return forever
}

// scanPays reports whether to read the list for the entry that is due, rather
// than the entry. A scan spares the reads that are due soon, too.
func (h *Hub[R]) scanPays(now time.Time) bool {
	first, enough := h.queue[0], h.lists.breakEven(now)
	return h.mayList(first, now) && h.listable(0, enough, now, now.Add(h.interval(first, now)/2)) >= enough
}

// mayList reports whether a scan may show e: the last one did, or is long ago.
func (h *Hub[R]) mayList(e *entry[R], now time.Time) bool {
	return !e.unlisted || !now.Before(h.lists.again)
}

// listable counts the entries from the queue's i-th down that are due soon and
// that the list may show, and stops when there are enough.
func (h *Hub[R]) listable(i, enough int, now, soon time.Time) (n int) {
	if i >= len(h.queue) || h.queue[i].due.After(soon) { // what is below is due later
		return 0
	}
	if h.mayList(h.queue[i], now) {
		n = 1
	}
	for child := 2*i + 1; child <= 2*i+2 && n < enough; child++ {
		n += h.listable(child, enough-n, now, soon)
	}
	return n
}

// schedule sets when e is due next: on its own, or together with those that
// the list shows if that is later.
func (h *Hub[R]) schedule(e *entry[R], now time.Time) {
	e.due = now.Add(jittered(h.interval(e, now)))
	if !e.unlisted && e.due.Before(h.lists.next) {
		e.due = h.lists.next
	}
}

func (h *Hub[R]) interval(e *entry[R], now time.Time) time.Duration {
	return h.rhythm.interval(now.Sub(e.began), h.flows(now))
}

func (h *Hub[R]) flows(now time.Time) bool {
	return !h.pushed.IsZero() && now.Sub(h.pushed) < flowing
}

// get reads one resource.
func (h *Hub[R]) get(ctx context.Context, e *entry[R]) {
	r, err := h.source.Get(ctx, e.id)
	h.mu.Lock()
	defer h.mu.Unlock()
	h.requests--
	h.poke()
	if h.entries[e.id] != e { // nobody waits any more
		return
	}
	verdict := Passing
	if err != nil {
		verdict = h.source.Judge(err)
		e.failing(err)
	} else {
		e.failure = nil
		h.learn(e, r, false)
	}
	switch {
	case verdict == Fatal:
		h.endAll(err)
	case verdict == Final || e.failure != nil && time.Since(e.since) > outage:
		h.end(e, err)
	case h.entries[e.id] == e:
		h.schedule(e, time.Now())
		heap.Push(&h.queue, e)
	}
}

// scan reads the list page by page, newest first, as long as that is worth it.
func (h *Hub[R]) scan(ctx context.Context, before lists, began time.Time) {
	// A list that answers late must not hold up the waits: they are asked for
	// one by one then.
	ctx, cancel := context.WithTimeout(ctx, max(2*h.rhythm.Longest, time.Second))
	defer cancel()
	var (
		wanted = h.wanted(began)
		limit  = before.firstPage(wanted)
		after  string
		items  int
		found  int
		now    = lists{pages: 1}
	)
	for pages := 1; ; pages++ {
		page, err := h.source.List(ctx, after, limit, h.waited)
		if err != nil {
			h.scanFailed(ctx, err)
			return
		}
		shown := h.show(page.Wanted)
		if shown > 0 {
			now.pages, now.depth = pages, items+page.Len
		}
		items, found = items+page.Len, found+shown
		if !page.More || page.Len == 0 || !before.deeper(pages, shown, wanted-found) {
			break
		}
		after, limit = page.Last, maxPage
		h.allowance.ReserveN(time.Now(), 1) // on credit, if need be
	}
	h.scanned(now, found, began)
}

// wanted counts the resources that a scan looks for.
func (h *Hub[R]) wanted(now time.Time) (n int) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, e := range h.entries {
		if h.mayList(e, now) {
			n++
		}
	}
	return n
}

// waited reports whether anything waits for a resource.
func (h *Hub[R]) waited(id string) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.entries[id] != nil
}

// show takes a page to the waits and returns how many it showed that no page
// of this scan has shown before.
func (h *Hub[R]) show(page []*R) (shown int) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, r := range page {
		e := h.entries[h.source.Look(r).ID]
		if e == nil || e.scan == h.scans {
			continue
		}
		shown++
		e.scan, e.failure = h.scans, nil
		h.learn(e, r, false)
	}
	return shown
}

// scanned makes the resources that the list showed due together. The others
// keep their own time, and are asked for one by one.
func (h *Hub[R]) scanned(l lists, found int, began time.Time) {
	h.mu.Lock()
	defer h.mu.Unlock()
	now := time.Now()
	missing := 0
	var total time.Duration
	for _, e := range h.entries {
		total += h.interval(e, now)
		e.unlisted = e.scan != h.scans && !e.began.After(began)
		if e.unlisted {
			missing++
		}
	}
	l.share = 1
	if missing > 0 {
		l.share = float64(found) / float64(found+missing)
	}
	l.again = now.Add(explored * h.rhythm.Longest)
	l.next = now.Add(jittered(total / time.Duration(max(len(h.entries), 1))))
	h.lists, h.scanning = l, false
	for _, e := range h.queue {
		if e.scan == h.scans {
			e.due = l.next
		}
	}
	heap.Init(&h.queue)
	h.poke()
}

// scanFailed has the resources asked for one by one for a while: until the
// list may be well again, or for long if it is not permitted.
func (h *Hub[R]) scanFailed(ctx context.Context, err error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.scanning = false
	h.poke()
	if errors.Is(context.Cause(ctx), context.Canceled) { // nobody waits any more
		return
	}
	pause := h.rhythm.Longest
	switch h.source.Judge(err) {
	case Fatal:
		h.endAll(err)
	case Final:
		pause *= explored
	case Passing:
	}
	h.lists = lists{pages: 1, depth: h.lists.depth, again: time.Now().Add(pause)}
}

func (h *Hub[R]) endAll(err error) {
	for _, e := range h.entries {
		h.end(e, err)
	}
}
