// Package published keeps account of what is read while it is published: which
// items were yielded, and which files need not be asked for again. It knows no
// API and makes no request.
package published

import "iter"

// List reads a list that grows, and knows which items were yielded. Items without
// an ID are told apart by what they say of themselves, and equal ones by how many
// of them one look at the list shows.
type List[T any] struct {
	ID      func(*T) string // "": the item has none
	Content func(*T) string // what stays the same of an item without an ID

	yielded map[string]int // how many were yielded
	shown   map[string]int // how many without an ID the present look has shown
	tail    string         // the last item of the last page that was read
}

// Look begins to read the list again from its beginning.
func (l *List[T]) Look() { clear(l.shown) }

// Add notes an item and reports whether it is new.
func (l *List[T]) Add(item *T) bool {
	if l.yielded == nil {
		l.yielded, l.shown = map[string]int{}, map[string]int{}
	}
	key := l.key(item)
	isNew := l.shown[key] >= l.yielded[key]
	if l.ID(item) == "" {
		l.shown[key]++
	}
	if isNew {
		l.yielded[key]++
	}
	return isNew
}

// Has reports whether an item was yielded.
func (l *List[T]) Has(item *T) bool { return l.yielded[l.key(item)] > 0 }

func (l *List[T]) key(item *T) string {
	if id := l.ID(item); id != "" {
		return id
	}
	return "without an ID: " + l.Content(item)
}

// countNew counts the items that were not yielded.
func (l *List[T]) countNew(items []T) (n int) {
	for i := range items {
		if !l.Has(&items[i]) {
			n++
		}
	}
	return n
}

// Read yields the first items of the list, then those of its pages, some of them
// again. page returns the page after an item, and whether more follow. It is nil
// if the list has no pages.
func (l *List[T]) Read(
	first []T, page func(after string) (items []T, more bool, err error),
) iter.Seq2[*T, error] {
	return func(yield func(*T, error) bool) {
		fresh := l.countNew(first)
		if !yieldAll(first, yield) || page == nil {
			return
		}
		// It is not known whether the list begins with the newest item. New ones are
		// at its beginning if it shows some there, or else at its end.
		after := ""
		if fresh == 0 {
			after = l.tail
		}
		if after == "" { // the pages show the first items again
			l.Look()
		}
		known := 0 // items that were read before
		for {
			items, more, err := page(after)
			if err != nil {
				yield(nil, err)
				return
			}
			fresh := l.countNew(items)
			known += len(items) - fresh
			if !yieldAll(items, yield) || len(items) == 0 {
				return
			}
			after = l.ID(&items[len(items)-1])
			l.tail = after
			// The first items come again. What has no ID is nothing to go on from.
			if !more || fresh == 0 || known > len(first) || after == "" {
				return
			}
		}
	}
}

// yieldAll yields items until the consumer has had enough, and reports whether
// it wants more.
func yieldAll[T any](items []T, yield func(*T, error) bool) (more bool) {
	for i := range items {
		if !yield(&items[i], nil) {
			return false
		}
	}
	return true
}
