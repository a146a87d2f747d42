package watch

import (
	"context"
	"errors"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

var errLarge = errors.New("the answer is too large")

// large is an api whose lists exceed the client's limit if they have more than most items.
type large struct {
	*api

	most int
}

func (l large) List(
	ctx context.Context, after string, limit int, wanted func(string) bool,
) (Page[job], error) {
	page, err := l.api.List(ctx, after, limit, wanted)
	if err == nil && page.Len > l.most {
		return Page[job]{}, errLarge
	}
	return page, err
}

func (l large) Classify(err error) Verdict {
	if errors.Is(err, errLarge) {
		return TooLarge
	}
	return l.api.Classify(err)
}

// If a page is too large, smaller pages are requested, and the size is remembered.
func TestAPageThatIsTooLargeIsAskedForSmaller(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		a := newAPI()
		h := New(Source[job](large{a, 20}), rhythm, nil)
		var all sync.WaitGroup
		for range 100 {
			id := a.create(5 * time.Minute)
			all.Go(func() {
				_, err := wait(t.Context(), h, id, a.job(id))
				assert.NoError(t, err)
			})
		}
		all.Wait()
		require.NotEmpty(t, a.limits)
		last := slices.IndexFunc(a.limits, func(n int) bool { return n <= 20 })
		require.Positive(t, last)
		assert.LessOrEqual(t, slices.Max(a.limits[last:]), 20, "what was too large is not asked again")
	})
}

// A list read that fails is repeated soon, although the waits that it was for have events and would
// not be due before another interval. No end is known later than two intervals.
func TestAListThatFailsIsReadAgainSoon(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		a, lists := newAPI(), 0
		a.fault = func(kind, _ string) error {
			if kind != "list" {
				return nil
			}
			if lists++; lists%2 == 0 {
				return errDown
			}
			return nil
		}
		h := New[job](a, rhythm, nil)
		var all sync.WaitGroup
		for n := range 40 {
			lasts := 3*time.Minute + time.Duration(n)*7*time.Second
			id, end := a.create(lasts), time.Now().Add(lasts)
			all.Go(func() {
				if _, err := wait(t.Context(), h, id, a.job(id)); assert.NoError(t, err) {
					assert.Less(t, time.Since(end), 2*rhythm.Longest)
				}
			})
			time.AfterFunc(time.Second, func() { h.Notify(a.job(id)) })
		}
		all.Wait()
		assert.Greater(t, lists, 20)
	})
}

// A list page is no larger than the waits need, however many resources have ended below them.
func TestPagesAreNoLargerThanTheWaitsNeed(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		a := newAPI()
		h := New[job](a, rhythm, nil)
		var all sync.WaitGroup
		for range 600 {
			id := a.create(20 * time.Second)
			all.Go(func() {
				_, err := wait(t.Context(), h, id, a.job(id))
				assert.NoError(t, err)
			})
			<-time.NewTimer(time.Second).C
		}
		all.Wait()
		assert.LessOrEqual(t, slices.Max(a.limits), 150, "about 20 wait at a time")
	})
}

// A wait for a resource that lies deep in the list is read by itself only until the list is read
// with the largest page.
func TestAWaitDeepInTheListIsFound(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		a := newAPI()
		h := New[job](a, rhythm, nil)
		ctx, cancel := context.WithCancel(t.Context())
		deep := a.create(time.Hour)
		for range 800 {
			a.create(time.Hour)
		}
		var all sync.WaitGroup
		for range 20 {
			id := a.create(time.Hour)
			all.Go(func() { _, _ = wait(ctx, h, id, a.job(id)) })
		}
		<-time.NewTimer(time.Minute).C
		all.Go(func() { _, _ = wait(ctx, h, deep, a.job(deep)) })
		<-time.NewTimer(5 * time.Minute).C
		before := a.reads(deep)
		<-time.NewTimer(5 * time.Minute).C
		assert.LessOrEqual(t, a.reads(deep), before+1, "the list shows it")
		cancel()
		all.Wait()
	})
}

// A list that shows a resource proves that it can be read, whatever its Gets say.
func TestAListOutweighsGetsThatFail(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		a := newAPI()
		a.fault = func(kind, _ string) error {
			if kind == "get" {
				return errDown
			}
			return nil
		}
		h := New[job](a, rhythm, nil)
		var all sync.WaitGroup
		for n := range 20 {
			id := a.create(time.Hour)
			known := a.job(id)
			if n%2 == 0 {
				known = nil // it is read at once
			}
			all.Go(func() {
				_, err := wait(t.Context(), h, id, known)
				assert.NoError(t, err)
			})
		}
		all.Wait()
	})
}

// What a list does not show is read as soon as the list has been. What it shows saves a read each.
func TestWhatAListDoesNotShowIsReadAtOnce(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		const jobs = 20
		a := newAPI()
		var listed, read time.Time
		a.fault = func(kind, _ string) error {
			switch {
			case kind == "list" && listed.IsZero():
				listed = time.Now()
			case kind == "get" && read.IsZero():
				read = time.Now()
			}
			return nil
		}
		h := New[job](a, rhythm, nil)
		ctx, cancel := context.WithTimeout(t.Context(), 90*time.Second)
		defer cancel()
		var all sync.WaitGroup
		for n := range jobs {
			id := a.create(time.Hour)
			a.hidden[id] = n == 0
			all.Go(func() { _, _ = wait(ctx, h, id, a.job(id)) })
		}
		all.Wait()
		require.NotZero(t, listed)
		assert.Equal(t, listed, read)
		_, lists := a.requests()
		assert.EqualValues(t, lists*(jobs-2), h.Shared())
	})
}

// sorted is an api whose lists cannot show that a job has ended.
type sorted struct{ *api }

func (s sorted) Get(ctx context.Context, id string) (*job, error) {
	j, err := s.api.Get(ctx, id)
	if j != nil {
		j.got = true
	}
	return j, err
}

func (s sorted) Status(j *job) Status {
	st := s.api.Status(j)
	if st.Ended && !j.got {
		st.Ended, st.GetOnly, st.Progress = false, true, st.Progress-1
		st.Version += " by a list"
	}
	return st
}

// If only a Get shows the end, a job is read as soon as a list shows that it may have ended.
func TestWhatOnlyAGetShowsIsReadAtOnce(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		a := newAPI()
		var listed time.Time
		a.fault = func(kind, _ string) error {
			if kind == "list" {
				listed = time.Now()
			}
			return nil
		}
		h := New[job](sorted{a}, rhythm, nil)
		var all sync.WaitGroup
		for range 20 {
			id := a.create(5 * time.Minute)
			all.Go(func() {
				_, err := wait(t.Context(), h, id, a.job(id))
				if assert.NoError(t, err) {
					assert.Equal(t, listed, time.Now())
				}
			})
		}
		all.Wait()
	})
}

var errOutrun = errors.New("no turn")

// outrun is an api whose lists get no turn.
type outrun struct{ *api }

func (outrun) Classify(error) Verdict { return Unsent }

// A list that gets no turn is no list that fails: it is not replaced by a Get for each.
func TestAListWithoutATurnIsNotReplaced(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		a := newAPI()
		a.fault = func(kind, _ string) error {
			if kind == "list" {
				return errOutrun
			}
			return nil
		}
		h := New[job](outrun{a}, rhythm, nil)
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		var all sync.WaitGroup
		for range 50 {
			id := a.create(time.Hour)
			all.Go(func() { _, _ = wait(ctx, h, id, a.job(id)) })
		}
		all.Wait()
		gets, lists := a.requests()
		assert.LessOrEqual(t, gets, 5)
		assert.Greater(t, lists, 20)
	})
}

// What a list was refused for is forgotten once it is permitted.
func TestARefusalOfTheListIsForgotten(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		a, began := newAPI(), time.Now()
		a.fault = func(kind, _ string) error {
			if kind == "list" && time.Since(began) < 5*time.Minute {
				return errMissing
			}
			return nil
		}
		h := New[job](a, rhythm, nil)
		ctx, cancel := context.WithTimeout(t.Context(), 30*time.Minute)
		defer cancel()
		waits := make([]*Wait[job], 10)
		for i := range waits {
			id := a.create(time.Hour)
			waits[i] = h.Join(id, a.job(id))
			defer waits[i].Leave()
		}
		said := func() string {
			return waits[0].Unfinished(errDown, time.Second, error.Error).Error()
		}
		<-time.NewTimer(4 * time.Minute).C
		require.Contains(t, said(), "the key may not list")
		<-ctx.Done()
		require.NotContains(t, said(), "the key may not list")
	})
}
