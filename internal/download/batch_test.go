package download

import (
	"math"
	"slices"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/assert"
)

func TestBatchSettlesWhatIsDone(t *testing.T) {
	t.Parallel()
	var running, most atomic.Int64
	var settled []int
	var sizes []int
	batch := Batch[int]{
		Parallel: 3, Size: 10,
		Work: func(n int) bool {
			if now := running.Add(1); now > most.Load() {
				most.Store(now)
			}
			defer running.Add(-1)
			return n%2 == 0
		},
		Settle: func(items []int) {
			settled, sizes = append(settled, items...), append(sizes, len(items))
		},
	}
	numbers := make([]int, 99)
	for i := range numbers {
		numbers[i] = i
	}
	batch.Run(slices.Values(numbers))
	slices.Sort(settled)
	assert.Len(t, settled, 50)
	assert.Len(t, slices.Compact(settled), 50, "none is settled twice")
	assert.LessOrEqual(t, most.Load(), int64(3))
	assert.LessOrEqual(t, len(sizes), 6, "they are settled together")
	batch.Run(slices.Values([]int(nil)))
}

// If Work panics, Run settles the completed items and panics with the same value after the other
// goroutines have ended.
func TestBatchOfAPanic(t *testing.T) {
	t.Parallel()
	var settled []int
	batch := Batch[int]{
		Parallel: 1, Size: 100,
		Work: func(n int) bool {
			if n == 3 {
				panic("the user's own")
			}
			return true
		},
		Settle: func(items []int) { settled = append(settled, items...) },
	}
	assert.PanicsWithValue(t, "the user's own", func() {
		batch.Run(slices.Values([]int{1, 2, 3, 4, 5, 6, 7}))
	})
	assert.Equal(t, []int{1, 2}, settled)
}

// No more goroutines begin than there are items, however many may.
func TestBatchOfAsManyAsThereAre(t *testing.T) {
	t.Parallel()
	var worked atomic.Int64
	batch := Batch[int]{
		Parallel: math.MaxInt, Size: 1,
		Work:   func(int) bool { worked.Add(1); return true },
		Settle: func([]int) {},
	}
	batch.Run(slices.Values([]int{1, 2, 3}))
	assert.Equal(t, int64(3), worked.Load())
}
