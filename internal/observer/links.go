package observer

import (
	"context"
	"slices"
	"sync"
)

// maxLinks bounds how many contexts Of returns.
const maxLinks = 16

// Links knows the contexts of the waits that are in progress, for the hooks of
// reads that they share. It is safe for concurrent use.
type Links struct {
	mu   sync.Mutex
	byID map[string][]*link
}

type link struct {
	ctx context.Context //nolint:containedctx // of the wait, for as long as it lasts
}

// Add adds a wait for a resource. remove removes it.
func (l *Links) Add(ctx context.Context, id string) (remove func()) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.byID == nil {
		l.byID = map[string][]*link{}
	}
	own := &link{ctx}
	l.byID[id] = append(l.byID[id], own)
	return func() {
		l.mu.Lock()
		defer l.mu.Unlock()
		l.byID[id] = slices.DeleteFunc(l.byID[id], func(other *link) bool {
			return other == own
		})
		if len(l.byID[id]) == 0 {
			delete(l.byID, id)
		}
	}
}

// Of returns the contexts of waits for a resource, or for any if id is empty: at
// most 16.
func (l *Links) Of(id string) (found []context.Context) {
	l.mu.Lock()
	defer l.mu.Unlock()
	add := func(waits []*link) {
		for _, wait := range waits[:min(len(waits), maxLinks-len(found))] {
			found = append(found, wait.ctx)
		}
	}
	if id != "" {
		add(l.byID[id])
		return found
	}
	for _, waits := range l.byID {
		add(waits)
	}
	return found
}
