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
