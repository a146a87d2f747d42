package watch

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strconv"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/reincubate/ricloud-go/internal/allowance"
)

func TestFewAreReadOneByOne(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		a := newAPI()
		h := New[job](a, rhythm, nil)
		id := a.create(30 * time.Second)
		states, err := wait(t.Context(), h, id, nil)
		require.NoError(t, err)
		assert.Equal(t, []int{0, 1, 2, 3}, states, "each change, in order")
		gets, lists := a.requests()
		assert.LessOrEqual(t, gets, 16)
		assert.Zero(t, lists)
	})
}

func TestManyShareListPages(t *testing.T) {
	t.Parallel()
	for _, others := range []int{0, 50_000} {
		t.Run(fmt.Sprintf("%d of others", others), func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				a := newAPI()
				for range others {
					a.create(time.Hour)
				}
				h := New[job](a, rhythm, nil)
				var all sync.WaitGroup
				for i := range 500 {
					id := a.create(time.Duration(30+i) * time.Second)
					all.Go(func() {
						states, err := wait(t.Context(), h, id, a.job(id))
						assert.Equal(t, []int{0, 1, 2, 3}, states)
						assert.NoError(t, err)
					})
				}
				all.Wait()
				gets, lists := a.requests()
				t.Logf("500 waits: %d GETs, %d lists", gets, lists)
				assert.Less(t, gets+lists, 150, "a request each ten seconds, not 500")
			})
		})
	}
}

// Other clients create polls continuously, so ours are spread over many pages.
func TestTheListRuleAmongManyOthers(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		a := newAPI()
		h := New[job](a, rhythm, allowance.New(0.5, 50).Kind().Share())
		began := time.Now()
		var all sync.WaitGroup
		for range 300 { // 25,000 polls in five minutes
			for range 83 {
				a.create(time.Hour)
			}
			id := a.create(2 * time.Minute)
			all.Go(func() {
				_, err := wait(t.Context(), h, id, a.job(id))
				assert.NoError(t, err)
			})
			<-time.NewTimer(time.Second).C
		}
		all.Wait()
		gets, lists := a.requests()
		took := time.Since(began)
		t.Logf("300 waits among 25,000: %d GETs, %d lists in %s", gets, lists, took.Round(time.Second))
		assert.LessOrEqual(t, float64(gets+lists), 50+took.Seconds()/2+maxPages, "the allowance holds")
		assert.Less(t, took, 9*time.Minute, "and still all is known soon")
	})
}

func TestWhatNoPageShowsIsReadByItself(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		a := newAPI()
		h := New[job](a, rhythm, nil)
		var all sync.WaitGroup
		for i := range 20 {
			id := a.create(time.Minute)
			a.change(func(a *api) { a.hidden[id] = i < 2 })
			all.Go(func() {
				_, err := wait(t.Context(), h, id, nil)
				assert.NoError(t, err)
			})
		}
		all.Go(func() {
			_, err := wait(t.Context(), h, "nobody's", nil)
			assert.ErrorIs(t, err, errMissing)
		})
		all.Wait()
		gets, lists := a.requests()
		assert.Less(t, gets, 70, "two are read one by one")
		assert.Less(t, lists, 25)
	})
}

// A scan continues until it has found what it was started for, even if waits join meanwhile. What
// one scan does not show, a later scan looks for again, after any number of scans.
func TestNothingStaysUnlisted(t *testing.T) {
	t.Parallel()
	for name, hidden := range map[string]int{
		"joined in the middle of a scan": 0, "hidden at first": 8,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				const jobs, page = 40, 5
				a := newAPI()
				a.latency = time.Second
				h := New[job](a, rhythm, nil)
				h.lists.limit = page
				for i := range jobs {
					id := a.create(time.Hour)
					a.change(func(a *api) { a.hidden[id] = i < hidden })
				}
				ctx, cancel := context.WithCancel(t.Context())
				var all sync.WaitGroup
				for i := range jobs { // oldest first: lists show these last
					if i == jobs/2 {
						<-time.NewTimer(1500 * time.Millisecond).C
					}
					all.Go(func() { _, _ = wait(ctx, h, "job-"+strconv.Itoa(i), nil) })
				}
				<-time.NewTimer(time.Minute).C
				a.change(func(a *api) { clear(a.hidden) })
				<-time.NewTimer(3 * time.Minute).C
				before, _ := a.requests()
				<-time.NewTimer(time.Minute).C
				after, _ := a.requests()
				assert.Less(t, after-before, 20, "the list shows all of them")
				cancel()
				all.Wait()
			})
		})
	}
}

// An event that shows progress delays the next read, but a failed read does not. If an event and an
// answer are lost, the end is still known within two intervals.
func TestALostEventAndALostAnswer(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		a := newAPI()
		h := New[job](a, rhythm, nil)
		id := a.create(time.Minute)
		lost := 0
		a.fault = func(string, string) error {
			if lost++; lost == 2 {
				return errDown
			}
			return nil
		}
		began := time.Now()
		for _, after := range []time.Duration{
			500 * time.Millisecond, 21 * time.Second, 41 * time.Second,
		} {
			time.AfterFunc(after, func() { h.Notify(a.job(id)) })
		}
		_, err := wait(t.Context(), h, id, a.job(id))
		require.NoError(t, err)
		assert.Less(t, time.Since(began), time.Minute+2*rhythm.Longest)
		assert.LessOrEqual(t, a.reads(id), 5)
	})
}

func TestAListThatFailsOrHangs(t *testing.T) {
	t.Parallel()
	tests := map[string]func(*api){
		"fails":            func(a *api) { a.fault = onList(errDown) },
		"is not permitted": func(a *api) { a.fault = onList(errMissing) },
		"shows nothing": func(a *api) {
			for _, id := range a.jobs {
				a.hidden[id] = true
			}
		},
	}
	for name, change := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				a := newAPI()
				a.latency = 100 * time.Millisecond
				h := New[job](a, rhythm, nil)
				var all sync.WaitGroup
				began := time.Now()
				for range 20 {
					id := a.create(time.Minute)
					all.Go(func() {
						_, err := wait(t.Context(), h, id, nil)
						assert.NoError(t, err)
					})
				}
				a.change(change)
				all.Wait()
				_, lists := a.requests()
				assert.Less(t, lists, 10, "a list that is no use is left alone for a while")
				assert.Less(t, time.Since(began), 75*time.Second)
			})
		})
	}
}

func onList(err error) func(kind, id string) error {
	return func(kind, _ string) error {
		if kind == "list" {
			return err
		}
		return nil
	}
}

func TestAListThatAnswersLateHoldsNothingUp(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		a := newAPI()
		h := New[job](lateLists{a}, rhythm, nil)
		var all sync.WaitGroup
		began := time.Now()
		for range 20 {
			id := a.create(time.Minute)
			all.Go(func() {
				_, err := wait(t.Context(), h, id, nil)
				assert.NoError(t, err)
			})
		}
		all.Wait()
		assert.Less(t, time.Since(began), 100*time.Second, "one late list, cut off, costs twenty seconds")
	})
}

// lateLists is an API whose lists hang.
type lateLists struct{ *api }

func (lateLists) List(
	ctx context.Context, _ string, _ int, _ func(string) bool,
) (Page[job], error) {
	<-ctx.Done()
	return Page[job]{}, ctx.Err()
}

func TestErrorsEndWhatTheyAreAbout(t *testing.T) {
	t.Parallel()
	for verdict, fault := range map[string]error{"one": errMissing, "all": errToken} {
		t.Run(verdict, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				a := newAPI()
				h := New[job](a, rhythm, nil)
				first, second := a.create(time.Minute), a.create(time.Minute)
				a.fault = func(_, id string) error { // a.mu is held
					if id == first && a.gets[id] > 3 {
						return fault
					}
					return nil
				}
				var all sync.WaitGroup
				all.Go(func() {
					_, err := wait(t.Context(), h, first, nil)
					assert.ErrorIs(t, err, fault)
				})
				all.Go(func() {
					_, err := wait(t.Context(), h, second, nil)
					if verdict == "all" {
						assert.ErrorIs(t, err, fault)
					} else {
						assert.NoError(t, err)
					}
				})
				all.Wait()
			})
		})
	}
}

func TestOneResourceThatCannotBeReadDelaysNoOther(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		a := newAPI()
		h := New[job](a, rhythm, nil)
		broken, fine := a.create(time.Minute), a.create(30*time.Second)
		a.fault = func(_, id string) error {
			if id == broken {
				return errDown
			}
			return nil
		}
		var all sync.WaitGroup
		began := time.Now()
		all.Go(func() {
			_, err := wait(t.Context(), h, broken, nil)
			assert.GreaterOrEqual(t, time.Since(began), tolerance)
			assert.Less(t, time.Since(began), tolerance+time.Minute)
			assert.ErrorIs(t, err, errDown, "it gives up at last")
		})
		all.Go(func() {
			_, err := wait(t.Context(), h, fine, nil)
			assert.Less(t, time.Since(began), 40*time.Second)
			assert.NoError(t, err)
		})
		all.Wait()
	})
}

func TestOneCallerLeavesTheOthersStay(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		a := newAPI()
		h := New[job](a, rhythm, nil)
		id := a.create(time.Minute)
		gone := errors.New("gone")
		ctx, cancel := context.WithCancelCause(t.Context())
		time.AfterFunc(5*time.Second, func() { cancel(gone) })
		var all sync.WaitGroup
		all.Go(func() {
			states, err := wait(ctx, h, id, nil)
			assert.Equal(t, []int{0}, states, "the last state seen")
			assert.ErrorIs(t, err, gone)
		})
		all.Go(func() {
			_, err := wait(t.Context(), h, id, nil)
			assert.NoError(t, err)
		})
		all.Wait()
		assert.Less(t, a.reads(id), 22, "two waits for one resource are one")
	})
}

func TestEventsSpareRequestsAndNeverGoBack(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		a := newAPI()
		h := New[job](a, rhythm, nil)
		id := a.create(time.Hour)
		w := h.Join(id, a.job(id))
		defer w.Leave()
		told := []int{}
		for _, step := range []int{0, 1, 1, 0, 2, 1, 3, 2} { // with duplicates and late, older events
			h.Notify(&job{id: id, step: step, steps: steps})
			synctest.Wait()
			for {
				n, ok := w.pop()
				if !ok {
					break
				}
				told = append(told, n.resource.step)
			}
		}
		assert.Equal(t, []int{0, 1, 2, 3}, told)
		gets, lists := a.requests()
		assert.Zero(t, gets+lists)
	})
}

// restless is an api whose jobs all have the same version, as a resource has whose last event left
// open how it ended.
type restless struct{ *api }

func (r restless) Status(j *job) Status {
	st := r.api.Status(j)
	st.Version = "the same"
	return st
}

func TestAnEndWithoutAnotherChangeEndsTheWait(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		a := newAPI()
		h := New[job](restless{a}, rhythm, nil)
		id := a.create(time.Second)
		h.Notify(&job{id: id, step: 2, steps: steps})
		states, err := wait(t.Context(), h, id, nil)
		require.NoError(t, err)
		assert.Equal(t, []int{2, 3}, states)
	})
}

func TestAnEventThatComesBeforeItsWait(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		a := newAPI()
		h := New[job](a, rhythm, nil)
		id := a.create(time.Hour)
		h.Know(a.job(id))
		h.NotifyChange(id, func(j *job) { j.step = 3 })
		h.NotifyChange(id, func(j *job) { j.step = 1 }) // late
		states, err := wait(t.Context(), h, id, nil)
		require.NoError(t, err)
		assert.Equal(t, []int{3}, states)
		gets, _ := a.requests()
		assert.Zero(t, gets)
	})
}

func TestAllowanceStretchesTheInterval(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		a := newAPI()
		a.fault = onList(errMissing)
		h := New[job](a, rhythm, allowance.New(0.5, 50).Kind().Share())
		began := time.Now()
		var all sync.WaitGroup
		for range 100 {
			id := a.create(5 * time.Minute)
			all.Go(func() {
				_, err := wait(t.Context(), h, id, nil)
				assert.NoError(t, err)
			})
		}
		all.Wait()
		gets, lists := a.requests()
		assert.LessOrEqual(t, float64(gets+lists), 51+time.Since(began).Seconds()/2)
		assert.Less(t, time.Since(began), 10*time.Minute)
	})
}

// Random runs combine jobs that end well, end badly or are removed, faults of all kinds, callers
// that leave, and events that are lost, doubled or late.
func TestRandomSchedules(t *testing.T) {
	t.Parallel()
	for seed := range uint64(60) {
		t.Run(strconv.FormatUint(seed, 10), func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) { randomSchedule(t, rand.New(rand.NewPCG(seed, 7))) })
		})
	}
}

func randomSchedule(t *testing.T, r *rand.Rand) {
	a := newAPI()
	a.latency = time.Duration(r.IntN(2000)) * time.Millisecond
	faults, removed := r.Float64()*0.4, map[string]bool{}
	faulty := rand.New(rand.NewPCG(r.Uint64(), 1))
	a.fault = func(_, id string) error {
		switch {
		case removed[id]:
			return errMissing
		case faulty.Float64() < faults:
			return errDown
		}
		return nil
	}
	h := New[job](a, rhythm, allowance.New(0.5+r.Float64()*20, 50).Kind().Share())
	events := r.IntN(2) == 0
	var all sync.WaitGroup
	for range 1 + r.IntN(120) {
		id := a.create(time.Duration(1+r.IntN(300)) * time.Second)
		a.mu.Lock()
		a.bad[id], a.hidden[id] = r.IntN(4) == 0, r.IntN(10) == 0
		if r.IntN(10) == 0 {
			removed[id], a.hidden[id] = true, true
		}
		lasts, bad, gone := a.lasts[id], a.bad[id], removed[id]
		a.mu.Unlock()
		if events {
			for range r.IntN(6) {
				seen := time.Duration(r.Int64N(int64(lasts) + 1))
				late := time.Duration(r.IntN(20)) * time.Second
				time.AfterFunc(seen, func() {
					j := a.job(id)
					time.AfterFunc(late, func() { h.Notify(j) })
				})
			}
		}
		ctx, cancel := context.WithCancel(t.Context())
		patience := time.Hour
		if r.IntN(4) == 0 {
			patience = time.Duration(r.IntN(200)) * time.Second
		}
		stop := time.AfterFunc(patience, cancel)
		for range 1 + r.IntN(2) {
			all.Go(func() {
				defer stop.Stop()
				states, err := wait(ctx, h, id, nil)
				assert.True(t, slices.IsSorted(states), "each change in order: %v", states)
				ended := len(states) > 0 && states[len(states)-1] == steps
				assert.Equal(t, ended && !bad, err == nil, "no error exactly when it ended well: %v, %v",
					states, err)
				if ctx.Err() == nil && err != nil {
					known := errors.Is(err, errBad) || errors.Is(err, errDown) ||
						errors.Is(err, errMissing) && gone
					assert.True(t, known, "%v", err)
				}
			})
		}
		<-time.NewTimer(time.Duration(r.IntN(3000)) * time.Millisecond).C
	}
	all.Wait()
	synctest.Wait()
	h.mu.Lock()
	defer h.mu.Unlock()
	assert.Empty(t, h.entries)
	assert.Empty(t, h.queue)
	assert.Nil(t, h.stop, "no goroutine remains")
	assert.Empty(t, h.reads)
	assert.False(t, h.scanning)
}
