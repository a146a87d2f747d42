package watch

import (
	"container/heap"
	"time"
)

// A list can lag for ever, for one resource or for all. So what it shows without a
// change is checked by a Get, in multiples of Longest: now and then the resource
// that has not changed for the longest time, and after each page one that has not
// changed for very long. If the list is wrong about one, the next is checked at once.
const (
	checkEvery = 20  // from one check to the next
	checkAfter = 10  // without a change until a resource is checked
	checkOld   = 360 // the same, where it is checked whether or not one was checked lately
)

// checkList has a Get check what the list shows, if it is time for that. oldest has
// not changed for the longest time, and may be nil.
func (h *Hub[R]) checkList(oldest *entry[R], now time.Time) {
	after := checkAfter * h.rhythm.Longest
	if now.Before(h.lists.check) {
		after = checkOld * h.rhythm.Longest
	}
	if h.checkIf(oldest, after, now) {
		h.lists.check = now.Add(checkEvery * h.rhythm.Longest)
	}
}

// older returns which of two entries the list has shown without a change for the
// longer time: e only if the list has shown it, and oldest may be nil.
func older[R any](oldest, e *entry[R]) *entry[R] {
	listed := e.scan > 0 && !e.unlisted && !e.status.GetOnly && !e.check
	if listed && (oldest == nil || e.confirmed().Before(oldest.confirmed())) {
		return e
	}
	return oldest
}

// checkIf has a Get check e, if there is one and it has not changed for at least the
// time after. It reports whether it does.
func (h *Hub[R]) checkIf(e *entry[R], after time.Duration, now time.Time) bool {
	if e == nil || now.Sub(e.confirmed()) < after {
		return false
	}
	e.check, e.due = true, now
	heap.Fix(&h.queue, e.index)
	h.wake()
	return true
}

// confirm notes that a Get, a change or an event shows what e's resource is.
func (e *entry[R]) confirm(now time.Time) { e.confirmedAt = now.Sub(e.began) }

func (e *entry[R]) confirmed() time.Time { return e.began.Add(e.confirmedAt) }

// checked notes what a Get has shown of e, and whether that is news.
func (h *Hub[R]) checked(e *entry[R], news bool, now time.Time) {
	wrong := e.check && news
	e.check = false
	e.confirm(now)
	if !wrong {
		return
	}
	var oldest *entry[R]
	for _, other := range h.queue {
		oldest = older(oldest, other)
	}
	h.checkIf(oldest, checkAfter*h.rhythm.Longest, now)
}
