package watch

import (
	"context"
	"fmt"
	"runtime"
	"strconv"
	"testing"
	"time"
)

// idle is an API whose resources exist and do not change.
type idle struct{ ids []string }

func (*idle) Get(_ context.Context, id string) (*job, error) {
	return &job{id: id, steps: steps}, nil
}

func (a *idle) List(
	_ context.Context, after string, limit int, wanted func(string) bool,
) (page Page[job], err error) {
	from := 0
	if after != "" {
		from, _ = strconv.Atoi(after)
		from++
	}
	for _, id := range a.ids[from:min(from+limit, len(a.ids))] {
		page.Len, page.Last = page.Len+1, id
		if wanted(id) {
			page.Wanted = append(page.Wanted, &job{id: id, steps: steps})
			page.Depth = page.Len
		}
	}
	page.More = from+page.Len < len(a.ids)
	return page, nil
}

func (*idle) Status(j *job) Status       { return (*api)(nil).Status(j) }
func (*idle) Classify(err error) Verdict { return (*api)(nil).Classify(err) }

func waiting(n int) (*Hub[job], []*Wait[job]) {
	a := &idle{}
	h := New[job](a, Rhythm{Shortest: time.Hour, Longest: time.Hour}, nil)
	waits := make([]*Wait[job], n)
	for i := range n {
		a.ids = append(a.ids, strconv.Itoa(i))
	}
	for i, id := range a.ids {
		waits[i] = h.Join(id, &job{id: id, steps: steps})
		waits[i].pop()
	}
	return h, waits
}

// heapOf returns how many bytes of the heap n waits take.
func heapOf(n int) int64 {
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	_, waits := waiting(n)
	runtime.GC()
	runtime.ReadMemStats(&after)
	for _, w := range waits {
		w.Leave()
	}
	return int64(after.HeapAlloc) - int64(before.HeapAlloc)
}

// BenchmarkWait measures the memory of a wait, without its caller's goroutine and the resource.
func BenchmarkWait(b *testing.B) {
	for _, n := range []int{1_000, 10_000, 100_000} {
		b.Run(fmt.Sprintf("%d waits", n), func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				b.ReportMetric(float64(heapOf(n))/float64(n), "B/wait")
			}
		})
	}
}

// BenchmarkTick measures one round of the hub: a scan that shows every wait.
func BenchmarkTick(b *testing.B) {
	for _, n := range []int{1_000, 10_000, 50_000} {
		b.Run(fmt.Sprintf("%d waits", n), func(b *testing.B) {
			h, waits := waiting(n)
			before := lists{pages: n/maxPage + 1, depth: maxPage, share: 1, limit: maxPage}
			b.ReportAllocs()
			for b.Loop() {
				h.mu.Lock()
				h.scanning = true
				h.scans++
				h.mu.Unlock()
				h.scan(b.Context(), before, time.Now())
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/float64(n), "ns/wait")
			for _, w := range waits {
				w.Leave()
			}
		})
	}
}

// An idle wait uses at most a kibibyte.
func TestAWaitIsSmall(t *testing.T) { //nolint:paralleltest // it measures the heap
	const n = 20_000
	if each := heapOf(n) / n; each > 1024 {
		t.Errorf("a wait keeps %d bytes", each)
	}
}
