package download

import (
	"iter"
	"sync"
)

// Batch works on several items at a time, and settles those that are done in
// batches.
type Batch[T any] struct {
	Parallel int          // how many items are worked on at once
	Size     int          // how many are settled together
	Work     func(T) bool // reports whether the item is to be settled
	Settle   func([]T)    // one batch after the other

	mu       sync.Mutex
	settling sync.Mutex
	pending  []T
	panicked bool
	value    any // of the first panic
}

// Run works on every item and returns when all is settled. A panic of Work,
// which calls functions of the user, is raised again here when the other items
// have ended: no goroutine is left, and no lock.
func (b *Batch[T]) Run(items iter.Seq[T]) {
	b.feed(items)
	b.settle(1)
	if b.panicked {
		panic(b.value) //nolint:forbidigo // the user's own, in the user's own goroutine
	}
}

func (b *Batch[T]) feed(items iter.Seq[T]) {
	queue := make(chan T)
	var workers sync.WaitGroup
	defer workers.Wait()
	defer close(queue)
	started := 0
	for item := range items {
		if b.stopped() {
			return
		}
		select {
		case queue <- item: // to a worker that has nothing to do
			continue
		default:
		}
		if started < b.Parallel {
			started++
			workers.Go(func() {
				for item := range queue {
					b.work(item)
				}
			})
		}
		queue <- item
	}
}

func (b *Batch[T]) stopped() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.panicked
}

func (b *Batch[T]) work(item T) {
	if b.stopped() {
		return
	}
	returned := false
	defer func() {
		if value := recover(); !returned {
			b.mu.Lock()
			defer b.mu.Unlock()
			if !b.panicked {
				b.panicked, b.value = true, value
			}
		}
	}()
	done := b.Work(item)
	returned = true
	if !done {
		return
	}
	b.mu.Lock()
	b.pending = append(b.pending, item)
	b.mu.Unlock()
	b.settle(b.Size)
}

// settle settles the pending items if there are at least least.
func (b *Batch[T]) settle(least int) {
	b.mu.Lock()
	taken := b.pending
	if len(taken) < least {
		b.mu.Unlock()
		return
	}
	b.pending = nil
	b.mu.Unlock()
	b.settling.Lock()
	defer b.settling.Unlock()
	b.Settle(taken)
}
