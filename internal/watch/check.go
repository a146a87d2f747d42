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

// checkList has a Get check what the list shows, if it is time for that.
func (h *Hub[R]) checkList(now time.Time) {
	after := checkAfter * h.rhythm.Longest
	if now.Before(h.lists.check) {
		after = checkOld * h.rhythm.Longest
	}
	if h.checkOldest(now, after) {
		h.lists.check = now.Add(checkEvery * h.rhythm.Longest)
	}
}

// checkOldest has a Get check the resource that the list has shown without a change
// for the longest time, if it is at least the time after. It reports whether there
// is one.
func (h *Hub[R]) checkOldest(now time.Time, after time.Duration) bool {
	var oldest *entry[R]
	for _, e := range h.queue {
		listed := e.scan > 0 && !e.unlisted && !e.status.GetOnly && !e.check
		if listed && (oldest == nil || e.confirmed.Before(oldest.confirmed)) {
			oldest = e
		}
	}
	if oldest == nil || now.Sub(oldest.confirmed) < after {
		return false
	}
	oldest.check, oldest.due = true, now
	heap.Fix(&h.queue, oldest.index)
	h.wake()
	return true
}

// checked notes what a Get has shown of e, and whether that is news.
func (h *Hub[R]) checked(e *entry[R], news bool, now time.Time) {
	wrong := e.check && news
	e.check, e.confirmed = false, now
	if wrong {
		h.checkOldest(now, checkAfter*h.rhythm.Longest)
	}
}
