package watch

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/reincubate/ricloud-go/internal/backoff"
)

// job is a resource that takes a number of steps.
type job struct {
	id    string
	step  int
	steps int
	bad   bool // ends badly
	got   bool // a Get has read it
}

var (
	errBad     = errors.New("the job ended badly")
	errDown    = errors.New("down")
	errMissing = errors.New("missing")
	errToken   = errors.New("bad token")
)

// api holds jobs that take time for each step, newest last, and counts requests.
type api struct {
	mu      sync.Mutex
	jobs    []string
	began   map[string]time.Time
	lasts   map[string]time.Duration // from beginning to end
	bad     map[string]bool
	gets    map[string]int
	lists   int
	limits  []int // limits of the list requests
	latency time.Duration
	fault   func(kind, id string) error // may be nil
	hidden  map[string]bool             // not shown in lists
}

func newAPI() *api {
	return &api{
		began: map[string]time.Time{}, lasts: map[string]time.Duration{},
		bad: map[string]bool{}, gets: map[string]int{}, hidden: map[string]bool{},
	}
}

const steps = 3

func (a *api) create(lasts time.Duration) string {
	a.mu.Lock()
	defer a.mu.Unlock()
	id := "job-" + strconv.Itoa(len(a.jobs))
	a.jobs = append(a.jobs, id)
	a.began[id], a.lasts[id] = time.Now(), lasts
	return id
}

// now returns the job's current state. The caller holds a.mu.
func (a *api) now(id string) job {
	done := min(int(int64(time.Since(a.began[id]))*steps/max(int64(a.lasts[id]), 1)), steps)
	return job{id: id, step: done, steps: steps, bad: a.bad[id]}
}

func (a *api) job(id string) *job {
	a.mu.Lock()
	defer a.mu.Unlock()
	return new(a.now(id))
}

func (a *api) wait(ctx context.Context) error {
	if a.latency == 0 {
		return ctx.Err()
	}
	return backoff.Sleep(ctx, a.latency)
}

func (a *api) Get(ctx context.Context, id string) (*job, error) {
	if err := a.wait(ctx); err != nil {
		return nil, err
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	a.gets[id]++
	if a.fault != nil {
		if err := a.fault("get", id); err != nil {
			return nil, err
		}
	}
	if _, ok := a.began[id]; !ok {
		return nil, fmt.Errorf("%s: %w", id, errMissing)
	}
	return new(a.now(id)), nil
}

func (a *api) change(how func(*api)) {
	a.mu.Lock()
	defer a.mu.Unlock()
	how(a)
}

func (a *api) List(
	ctx context.Context, after string, limit int, wanted func(string) bool,
) (page Page[job], err error) {
	if err := a.wait(ctx); err != nil {
		return page, err
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	a.lists++
	a.limits = append(a.limits, limit)
	if a.fault != nil {
		if err := a.fault("list", ""); err != nil {
			return page, err
		}
	}
	newest := len(a.jobs) - 1
	if after != "" {
		newest = slices.Index(a.jobs, after) - 1
	}
	for ; newest >= 0; newest-- {
		if a.hidden[a.jobs[newest]] {
			continue
		}
		if page.Len == limit {
			page.More = true
			break
		}
		page.Len, page.Last = page.Len+1, a.jobs[newest]
		if wanted(page.Last) {
			page.Wanted, page.Depth = append(page.Wanted, new(a.now(page.Last))), page.Len
		}
	}
	return page, nil
}

func (*api) Status(j *job) Status {
	st := Status{ID: j.id, State: strconv.Itoa(j.step), Progress: j.step, Ended: j.step == j.steps}
	st.Version = st.State
	if st.Ended && j.bad {
		st.Err = errBad
	}
	return st
}

func (*api) Classify(err error) Verdict {
	switch {
	case errors.Is(err, errMissing):
		return Missing
	case errors.Is(err, errToken):
		return Permanent
	}
	return Retry
}

// reads returns the number of GETs of one job.
func (a *api) reads(id string) int {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.gets[id]
}

// requests returns the number of requests so far.
func (a *api) requests() (gets, lists int) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, n := range a.gets {
		gets += n
	}
	return gets, a.lists
}

//nolint:gochecknoglobals // a constant in all but name
var rhythm = Rhythm{Shortest: time.Second, Longest: 10 * time.Second}

// wait runs one wait to its end and returns the states that it saw.
func wait(ctx context.Context, h *Hub[job], id string, known *job) (states []int, err error) {
	w := h.Join(id, known)
	defer w.Leave()
	for {
		j, end, err := w.Next(ctx)
		if j != nil && (len(states) == 0 || states[len(states)-1] != j.step) {
			states = append(states, j.step)
		}
		if end {
			return states, err
		}
	}
}
