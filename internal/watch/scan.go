package watch

import (
	"container/heap"
	"context"
	"errors"
	"math"
	"time"
)

// errSlow is the failure of a scan that takes too long.
var errSlow = errors.New("the list took too long to read")

// scanPays reports whether to read the list for the entry that is due, instead
// of the entry. A scan also saves the reads that are due soon.
func (h *Hub[R]) scanPays(now time.Time) bool {
	first, enough := h.queue[0], h.lists.breakEven(now)
	if enough == math.MaxInt || !h.mayList(first, now) {
		return false
	}
	return h.listable(0, enough, now, now.Add(h.interval(first, now)/2)) >= enough
}

// mayList reports whether a scan may show more of e: the last one did, or it is
// time to look again.
func (h *Hub[R]) mayList(e *entry[R], now time.Time) bool {
	return !e.status.GetOnly && !e.check && (!e.unlisted || !now.Before(h.lists.retry))
}

// listable counts the entries from the queue's i-th down that are due soon and
// that the list may show. It stops at enough.
func (h *Hub[R]) listable(i, enough int, now, soon time.Time) (n int) {
	if i >= len(h.queue) || h.queue[i].due.After(soon) { // those below are due later
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

// beginScan starts to read the list. The entries that it may show wait for it,
// but for one interval only, in case it hangs.
func (h *Hub[R]) beginScan(ctx context.Context, now time.Time) {
	h.scanning = true
	h.scans++
	for _, e := range h.queue {
		if hold := now.Add(h.interval(e, now)); h.mayList(e, now) && e.due.Before(hold) {
			e.due = hold
		}
	}
	heap.Init(&h.queue)
	go h.scan(ctx, h.lists, now)
}

// scan reads the list page by page, newest first, as long as that pays.
func (h *Hub[R]) scan(ctx context.Context, before lists, began time.Time) {
	limit := forbiddenWait * h.rhythm.Longest / exploredPages
	ctx, cancel := context.WithTimeoutCause(ctx, max(limit, time.Second), errSlow)
	defer cancel()
	var (
		size  = before.firstPage(h.seek(began))
		after string
		items int
		found int
		now   = lists{pages: 1}
	)
	for pages := 1; ; pages++ {
		page, sent, err := h.page(ctx, after, &size)
		if err != nil {
			h.scanFailed(ctx, err, size, sent)
			return
		}
		shown := h.show(page.Wanted)
		if shown > 0 {
			now.pages, now.depth = pages, items+page.Depth
		}
		items, found = items+page.Len, found+shown
		if !page.More || page.Len == 0 {
			break
		}
		if !before.deeper(pages, shown, h.missing()) {
			break
		}
		after, size = page.Last, h.pageLimit()
		h.allowance.Charge() // even if the allowance is used up
	}
	h.scanned(now, found, began)
}

// page reads one page. One that is too large is asked for again at half the
// size, which is remembered.
func (h *Hub[R]) page(
	ctx context.Context, after string, size *int,
) (page Page[R], sent time.Time, err error) {
	for {
		sent = time.Now()
		page, err = h.source.List(ctx, after, *size, h.waited)
		if err == nil || h.source.Classify(err) != TooLarge || !h.smaller(*size, 1) {
			return page, sent, err
		}
		*size = h.pageLimit()
		h.allowance.Charge()
	}
}

func (h *Hub[R]) pageLimit() int {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.lists.limit
}

func (h *Hub[R]) smaller(size, least int) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.lists.smaller(size, least)
}

// seek notes the resources that the scan which began at a time looks for. It
// returns their number, and whether the last scan missed some of them. Those that
// are waited for since are no reason to read on: they may be newer than the pages
// to come. Nor are those that a Get reads now.
func (h *Hub[R]) seek(began time.Time) (sought int, missed bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.sought = 0
	for _, e := range h.queue {
		e.sought = !e.began.After(began) && h.mayList(e, began)
		if e.sought {
			h.sought++
			missed = missed || e.unlisted
		}
	}
	return h.sought, missed
}

// found notes that the scan in progress need not look for e any more.
func (h *Hub[R]) found(e *entry[R]) {
	if e.sought {
		e.sought = false
		h.sought--
	}
}

// missing returns the number of resources that the scan in progress looks for
// and has not shown yet.
func (h *Hub[R]) missing() int {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.sought
}

// waited reports whether anything waits for a resource.
func (h *Hub[R]) waited(id string) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.entries[id] != nil
}

// show gives a page to the waits and returns how many of its resources no
// earlier page of this scan has shown.
func (h *Hub[R]) show(page []*R) (shown int) {
	h.mu.Lock()
	defer h.mu.Unlock()
	now := time.Now()
	h.succeeded(now)
	served := 0
	for _, r := range page {
		st := h.source.Status(r)
		e := h.entries[st.ID]
		if e == nil || e.scan == h.scans {
			continue
		}
		shown++
		e.scan, e.unlisted = h.scans, false
		h.found(e)
		if e.check { // a Get knows better
			continue
		}
		e.succeeded(now)
		served += len(e.waits)
		if h.learn(e, r, st, true) && st.GetOnly {
			h.readBy(e, now)
		}
	}
	h.shared += int64(max(served-1, 0))
	return shown
}

// scanned makes the resources that the list showed due together. The others
// keep their own time and are read one by one. Those that a Get reads now are left to it.
func (h *Hub[R]) scanned(l lists, found int, began time.Time) {
	h.mu.Lock()
	defer h.mu.Unlock()
	now := time.Now()
	missing := 0
	total, shortest := time.Duration(0), longest
	var oldest *entry[R]
	for _, e := range h.queue {
		interval := h.interval(e, now)
		total, shortest = total+interval, min(shortest, interval)
		e.unlisted = e.scan != h.scans && !e.began.After(began) && !e.status.GetOnly && !e.check
		if e.unlisted {
			missing++
		}
		oldest = older(oldest, e)
	}
	l.share, l.limit = 1, h.lists.limit
	if missing > 0 {
		l.share = float64(found) / float64(found+missing)
	}
	l.retry, l.check = h.lists.retry, h.lists.check
	if !began.Before(l.retry) { // this scan looked for what earlier ones did not show
		l.retry = now.Add(exploredPages * h.rhythm.Longest)
	}
	mean := total / time.Duration(max(len(h.queue), 1))
	l.together = now.Add(h.rhythm.together(mean, shortest))
	h.lists, h.scanning, h.refusal = l, false, nil
	for _, e := range h.queue {
		switch {
		case e.status.GetOnly, e.check: // it has its own time
		case e.scan == h.scans: // together puts off none of them too long
			e.due = l.together
		case e.unlisted && e.due.After(now): // it has waited for this scan
			e.due = now
		}
	}
	heap.Init(&h.queue)
	h.checkList(oldest, now)
	h.wake()
}

// scanFailed has the list tried again soon, or the resources read one by one
// for a while.
func (h *Hub[R]) scanFailed(ctx context.Context, err error, size int, sent time.Time) {
	verdict := h.source.Classify(err)
	h.mu.Lock()
	defer h.mu.Unlock()
	h.scanning = false
	h.wake()
	cause := context.Cause(ctx)
	if errors.Is(cause, context.Canceled) { // nobody waits any more
		return
	}
	now := time.Now()
	retry, oneByOne, permitted := now.Add(h.rhythm.Shortest), false, true
	switch {
	case errors.Is(cause, errSlow):
		h.lists.smaller(size, minPage)
	case verdict == Missing, verdict == Final, verdict == TooLarge:
		permitted, h.refusal = false, err
		h.succeeded(now) // the API has answered
	case verdict != Unsent:
		h.failed(verdict, err, sent, now)
	}
	if verdict != Unsent {
		retry, oneByOne = h.lists.failed(now, h.rhythm, permitted)
	}
	again := retry
	if oneByOne {
		again = now
	}
	for _, e := range h.queue {
		listed := !e.unlisted && (oneByOne || e.due.Before(retry))
		if e.sought || listed { // what was sought has waited for this scan
			e.due = again
		}
	}
	heap.Init(&h.queue)
}
