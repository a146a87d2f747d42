package watch

import (
	"container/heap"
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestAWaitKnowsWhatKeepsItFromKnowing(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		a := newAPI()
		a.fault = func(string, string) error { return errDown }
		h := New[job](a, rhythm, nil)
		w := h.Join(a.create(time.Minute), nil)
		defer w.Leave()
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
		defer cancel()
		_, _, err := w.Next(ctx)
		require.ErrorIs(t, err, context.DeadlineExceeded)
		err = w.Unfinished(err, 20*time.Second, error.Error)
		require.ErrorIs(t, err, errDown)
		require.ErrorIs(t, err, context.DeadlineExceeded)
		require.EqualError(t, err, "job-0 is not read yet after 20s: context deadline exceeded; "+
			"the last read failed: down")
	})
}

// valued is an api that reports a value of the context of each read.
type valued struct {
	*api

	seen func(value any)
}

type tenant struct{}

func (v valued) Get(ctx context.Context, id string) (*job, error) {
	v.seen(ctx.Value(tenant{}))
	return v.api.Get(ctx, id)
}

// One read serves all waits for a resource. Its context has the values of the hub's own context.
func TestWaitsForOneResourceShareItsReads(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		a := newAPI()
		var seen any
		source := Source[job](valued{a, func(value any) { seen = value }})
		ctx, cancel := context.WithCancel(context.WithValue(t.Context(), tenant{}, "acme"))
		h := New(source, rhythm, nil).WithValues(ctx)
		cancel() // its values remain
		id := a.create(30 * time.Second)
		first, second := h.Join(id, nil), h.Join(id, nil)
		defer first.Leave()
		defer second.Leave()
		for end := false; !end; {
			var err error
			_, end, err = first.Next(t.Context())
			require.NoError(t, err)
			assert.True(t, first.ByRead())
		}
		assert.EqualValues(t, a.reads(id), h.Shared())
		assert.Equal(t, "acme", seen)
	})
}

// If the caller reads or deletes the resource, a wait for it ends without another read.
func TestWhatTheCallerDidItselfIsKnown(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		a := newAPI()
		h := New[job](a, rhythm, nil)
		for name, change := range map[string]func(id string){
			"deleted": func(id string) { h.Deleted(id, func(j *job) { j.step = steps }) },
			"read":    func(id string) { h.Refresh(id, &job{id: id, step: steps, steps: steps}) },
		} {
			id := a.create(time.Hour)
			w := h.Join(id, a.job(id))
			j, end, err := w.Next(t.Context())
			require.NoError(t, err)
			assert.False(t, end)
			assert.Zero(t, j.step)
			change(id)
			_, end, err = w.Next(t.Context())
			require.NoError(t, err)
			assert.True(t, end, name)
			assert.False(t, w.ByRead(), name)
			w.Leave()
		}
		h.Refresh("unknown", &job{id: "unknown", step: steps, steps: steps})
		assert.Nil(t, h.memory.get("unknown").resource, "an unknown resource is not kept")
	})
}

// A doubt ends a wait only if every read leaves it, for as long as reads may fail. Until then, what
// is told is no error.
func TestADoubtThatWasResolvedBeginsAnew(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		e := &entry[job]{began: time.Now()}
		doubtful := Status{State: "x", Err: errors.New("tasks are open")}
		assert.False(t, e.doubt(doubtful).Ended)
		<-time.NewTimer(tolerance).C
		assert.False(t, e.doubt(doubtful).Ended)
		assert.False(t, e.doubt(Status{State: "x"}).Ended)
		<-time.NewTimer(time.Minute).C
		assert.False(t, e.doubt(doubtful).Ended)
		<-time.NewTimer(tolerance + 1).C
		assert.True(t, e.doubt(doubtful).Ended)

		_, waits := waiting(1)
		waits[0].tell(&job{}, doubtful, true)
		n, ok := waits[0].pop()
		assert.True(t, ok)
		require.NoError(t, n.err)
		waits[0].Leave()
	})
}

// A list that shows a resource while a Get reads it has shown it, also for the next scan.
func TestAListShowsWhatAGetReads(t *testing.T) {
	t.Parallel()
	h, waits := waiting(1)
	h.mu.Lock()
	e := heap.Remove(&h.queue, 0).(*entry[job]) //nolint:forcetypeassert // it holds nothing else
	e.unlisted = true
	h.scans++
	h.mu.Unlock()
	assert.Equal(t, 1, h.show([]*job{{id: e.id, steps: steps}}))
	assert.False(t, e.unlisted)
	waits[0].Leave()
}

// A caller that is slower than the changes misses steps within a state, but no state, not the last
// step, and not the error of the end.
func TestASlowCallerMissesNoState(t *testing.T) {
	t.Parallel()
	h, waits := waiting(2)
	tell := func(w *Wait[job], step int, state string) {
		w.tell(&job{id: w.entry.id, step: step}, Status{State: state}, step%2 == 1)
	}
	type seen struct {
		step      int
		end, read bool
	}
	see := func(w *Wait[job], n int) (all []seen, err error) {
		for range n {
			var j *job
			var end bool
			j, end, err = w.Next(t.Context())
			all = append(all, seen{j.step, end, w.ByRead()})
		}
		return all, err
	}
	h.mu.Lock()
	for _, w := range waits {
		tell(w, 1, "pending")
		tell(w, 2, "pending")
		tell(w, 3, "processing")
		tell(w, 4, "suspended")
		tell(w, 5, "processing")
		tell(w, 6, "processing")
	}
	last := Status{State: "processing", Ended: true, Err: errBad}
	waits[0].tell(&job{id: waits[0].entry.id, step: 7}, last, true)
	h.end(waits[1].entry, errDown)
	h.mu.Unlock()

	states, err := see(waits[0], 4)
	require.ErrorIs(t, err, errBad)
	assert.Equal(t, []seen{
		{2, false, false}, {3, false, true}, {4, false, false}, {7, true, true},
	}, states)
	states, err = see(waits[1], 5)
	require.ErrorIs(t, err, errDown)
	assert.Equal(t, []seen{
		{2, false, false}, {3, false, true}, {4, false, false}, {6, false, false}, {6, true, false},
	}, states, "the last one is told again with the error")
	waits[0].Leave()
	waits[1].Leave()
}

// The end of the caller's context is told with its cause and what was seen last.
func TestTheEndOfTheContextIsTold(t *testing.T) {
	t.Parallel()
	_, waits := waiting(1)
	defer waits[0].Leave()
	told := &job{step: 2}
	waits[0].tell(told, Status{State: "2"}, true)
	own, _, err := waits[0].Next(t.Context())
	require.NoError(t, err)
	assert.NotSame(t, told, own, "each wait has a copy of its own")
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(errBad)
	j, end, err := waits[0].Next(ctx)
	require.ErrorIs(t, err, errBad)
	assert.True(t, end)
	assert.Equal(t, 2, j.step)
}
