package watch

import (
	"cmp"
	"container/heap"
	"context"
	"errors"
	"strconv"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// judged is an api that classifies every failure as verdict.
type judged struct {
	*api

	verdict Verdict
}

func (j judged) Classify(error) Verdict { return j.verdict }

// refusing is an API that can refuse the token.
type refusing struct{ *api }

func (refusing) Classify(err error) Verdict {
	if errors.Is(err, errToken) {
		return Refused
	}
	return Retry
}

func TestWhatAFailureEnds(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		verdict Verdict
		lasts   time.Duration // the failure; five minutes if it is 0
		ends    bool          // whether the failure ends the wait, although it is temporary
		within  time.Duration // time until the wait ends
	}{
		"an outage heals":          {verdict: Retry},
		"nothing was sent":         {verdict: Unsent, lasts: 3 * tolerance},
		"final":                    {verdict: Final, ends: true, within: 2 * time.Second},
		"too large":                {verdict: TooLarge, ends: true, within: 2 * time.Second},
		"no read can succeed":      {verdict: Permanent, ends: true, within: 2 * time.Second},
		"the token refused, twice": {verdict: Refused, ends: true, within: 30 * time.Second},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				a := newAPI()
				id := a.create(time.Minute)
				began := time.Now()
				a.fault = func(string, string) error {
					if time.Since(began) < cmp.Or(test.lasts, 5*time.Minute) {
						return errDown
					}
					return nil
				}
				h := New(Source[job](judged{a, test.verdict}), rhythm, nil)
				_, err := wait(t.Context(), h, id, nil)
				if test.ends {
					require.ErrorIs(t, err, errDown)
					assert.LessOrEqual(t, time.Since(began), test.within)
				} else {
					require.NoError(t, err)
				}
			})
		})
	}
}

// One refusal of the token ends nothing, because the token may be in rotation.
func TestATokenThatIsRefusedOnceEndsNothing(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		a := newAPI()
		id := a.create(time.Minute)
		refusals := 0
		a.fault = func(string, string) error {
			if refusals++; refusals == 1 {
				return errToken
			}
			return nil
		}
		_, err := wait(t.Context(), New(Source[job](judged{a, Refused}), rhythm, nil), id, nil)
		require.NoError(t, err)
	})
}

// Two refusals of the token end a wait, whatever else fails between them. A success between them
// shows that the token is valid.
func TestATokenThatIsRefusedTwice(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		fails []error // results of the reads, repeated
		ends  bool
	}{
		"an outage between": {fails: []error{errDown, errToken}, ends: true},
		"a success between": {fails: []error{nil, errToken, nil}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				a := newAPI()
				id := a.create(time.Minute)
				reads := 0
				a.fault = func(string, string) error {
					reads++
					return test.fails[(reads-1)%len(test.fails)]
				}
				_, err := wait(t.Context(), New[job](refusing{a}, rhythm, nil), id, nil)
				if test.ends {
					require.ErrorIs(t, err, errToken)
					assert.Equal(t, 4, reads)
				} else {
					require.NoError(t, err)
				}
			})
		})
	}
}

// Reads that hang are abandoned when other reads need their slots.
func TestReadsThatHangAreGivenUp(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		a := newAPI()
		a.latency = 24 * time.Hour
		h := New[job](a, rhythm, nil)
		ctx, cancel := context.WithCancel(t.Context())
		var all sync.WaitGroup
		waits := make([]*Wait[job], 3*maxSlow)
		for i := range waits {
			waits[i] = h.Join("hangs-"+strconv.Itoa(i), nil)
			all.Go(func() {
				_, _, err := waits[i].Next(ctx)
				assert.ErrorIs(t, err, context.Canceled)
			})
		}
		<-time.NewTimer(time.Minute).C
		h.mu.Lock()
		open := len(h.reads)
		h.mu.Unlock()
		assert.LessOrEqual(t, open, maxSlow+maxReading)
		given := 0
		for _, w := range waits {
			if failure, _ := w.trouble(); failure != nil {
				require.ErrorIs(t, failure, errGivenUp)
				given++
			}
		}
		assert.Positive(t, given, "the oldest made room, and their waits know why they know nothing")
		cancel()
		all.Wait()
		for _, w := range waits {
			w.Leave()
		}
	})
}

// During an outage requests are rare, however many waits there are. A wait whose own reads have
// not failed is read when it is due, and holds up none of the others.
func TestNextDuringAnOutage(t *testing.T) {
	t.Parallel()
	now := time.Now()
	for name, test := range map[string]struct {
		failing, fine time.Duration // until they are due
		hold          time.Duration // until the next request of the outage
		reads         string
		wait          time.Duration
	}{
		"no outage":                 {failing: 0, fine: 5e9, hold: 0, reads: "failing", wait: 0},
		"the outage's turn":         {failing: -1e9, fine: 5e9, hold: -1e9, reads: "failing", wait: 0},
		"nothing is due":            {failing: 3e9, fine: 5e9, hold: 1e9, reads: "failing", wait: 3e9},
		"held":                      {failing: 0, fine: 5e9, hold: 2e9, reads: "failing", wait: 2e9},
		"the other is due":          {failing: -1e9, fine: 0, hold: 2e9, reads: "fine", wait: 0},
		"the other is due soon":     {failing: -1e9, fine: 1e9, hold: 2e9, reads: "fine", wait: 1e9},
		"the other is overdue most": {failing: -1e9, fine: -2e9, hold: 2e9, reads: "fine", wait: 0},
	} {
		h := New[job](newAPI(), rhythm, nil)
		heap.Push(&h.queue, &entry[job]{id: "failing", failing: &failing{}, due: now.Add(test.failing)})
		heap.Push(&h.queue, &entry[job]{id: "fine", due: now.Add(test.fine)})
		h.outage.next = now.Add(test.hold)
		i, wait := h.next(now)
		assert.Equal(t, test.wait, wait, name)
		assert.Equal(t, test.reads, h.queue[i].id, name)
	}
	h := New[job](newAPI(), rhythm, nil)
	heap.Push(&h.queue, &entry[job]{failing: &failing{}, due: now})
	h.outage.next = now.Add(time.Second)
	_, wait := h.next(now)
	assert.Equal(t, time.Second, wait, "all have failed")
}

// During an outage there is one request at a time, although each takes long to fail.
func TestAnOutageIsTriedOnceAtATime(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		a := newAPI()
		a.latency = 30 * time.Second
		a.fault = func(string, string) error { return errDown }
		h := New[job](a, rhythm, nil)
		ctx, cancel := context.WithTimeout(t.Context(), 9*time.Minute)
		defer cancel()
		var all sync.WaitGroup
		for range 50 {
			id := a.create(time.Hour)
			all.Go(func() {
				_, err := wait(ctx, h, id, nil)
				assert.ErrorIs(t, err, context.DeadlineExceeded)
			})
		}
		all.Wait()
		gets, lists := a.requests()
		assert.Less(t, gets+lists, 130, "each wait fails once, and then there is one in ten seconds")
	})
}

// The API may lag behind a create. A wait ends once the API has said for three times the shortest
// interval that there is no such resource, or for three times the longest if it has shown it.
func TestAMissingResourceIsReadAgain(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		known         bool
		after, before time.Duration
	}{
		"never seen": {after: 3 * rhythm.Shortest, before: 6 * rhythm.Shortest},
		"known":      {known: true, after: 3 * rhythm.Longest, before: 5 * rhythm.Longest},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				a, began := newAPI(), time.Now()
				var known *job
				if test.known {
					known = &job{id: "gone", steps: steps}
				}
				_, err := wait(t.Context(), New[job](a, rhythm, nil), "gone", known)
				require.ErrorIs(t, err, errMissing)
				assert.GreaterOrEqual(t, time.Since(began), test.after)
				assert.Less(t, time.Since(began), test.before)
			})
		})
	}
}

// A wait whose own reads fail for ten minutes ends with their error, although all others can be
// read. One success begins the ten minutes anew.
func TestAWaitThatAloneCannotBeReadEnds(t *testing.T) {
	t.Parallel()
	for name, heals := range map[string]time.Duration{"never": 0, "once": 8 * time.Minute} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				a, began := newAPI(), time.Now()
				broken, fine := a.create(time.Hour), a.create(time.Hour)
				healed := heals == 0
				a.fault = func(_, id string) error {
					if id != broken || !healed && time.Since(began) > heals {
						healed = healed || id == broken
						return nil
					}
					return errDown
				}
				h := New[job](a, rhythm, nil)
				ctx, cancel := context.WithCancel(t.Context())
				var other sync.WaitGroup
				other.Go(func() {
					_, err := wait(ctx, h, fine, nil)
					assert.ErrorIs(t, err, context.Canceled)
				})
				_, err := wait(t.Context(), h, broken, nil)
				require.ErrorIs(t, err, errDown)
				assert.Greater(t, time.Since(began), heals+tolerance)
				assert.Less(t, time.Since(began), heals+tolerance+30*time.Second)
				cancel()
				other.Wait()
			})
		})
	}
}

// After an outage the list is read again at once, however often it failed meanwhile.
func TestAfterAnOutageTheListIsReadAgain(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		a := newAPI()
		h := New[job](a, rhythm, nil)
		ctx, cancel := context.WithCancel(t.Context())
		var all sync.WaitGroup
		for range 100 {
			id := a.create(time.Hour)
			all.Go(func() {
				_, err := wait(ctx, h, id, nil)
				assert.ErrorIs(t, err, context.Canceled)
			})
		}
		sleep := func(d time.Duration) { <-time.NewTimer(d).C }
		sleep(time.Minute)
		a.change(func(a *api) { a.fault = func(string, string) error { return errDown } })
		sleep(9 * time.Minute)
		a.change(func(a *api) { a.fault = nil })
		sleep(20 * time.Second)
		before, _ := a.requests()
		sleep(3 * time.Minute)
		after, _ := a.requests()
		assert.Less(t, after-before, 20, "pages serve them, and not 1,800 GETs")
		cancel()
		all.Wait()
	})
}

// An answer of the API about one resource ends an outage, and makes a refusal of the token before
// it the first one. What nobody has answered does not.
func TestAnAnswerAboutOneResourceEndsAnOutage(t *testing.T) {
	t.Parallel()
	for verdict, ends := range map[Verdict]bool{
		Missing: true, Final: true, Retry: false, Unsent: false,
	} {
		h, waits := waiting(1)
		h.mu.Lock()
		now := time.Now()
		h.outage, h.refused = streak{n: outageSize, since: now, reads: 1}, now
		rd := &read[job]{entry: waits[0].entry, sent: now}
		h.getFailed(rd, verdict, errDown, now)
		assert.Equal(t, ends, !h.outage.outage(), verdict)
		assert.Equal(t, ends, h.refused.IsZero(), verdict)
		h.mu.Unlock()
		waits[0].Leave()
	}
}

// Two reads in flight that are both refused are one refusal, because the token may have been
// replaced after both were sent. A read that was sent after a refusal is the second one.
func TestRefusalsOfReadsInFlightAreOne(t *testing.T) {
	t.Parallel()
	h, waits := waiting(2)
	first := time.Now()
	refuse := func(i int, sent, now time.Time) (ended bool) {
		h.mu.Lock()
		defer h.mu.Unlock()
		h.getFailed(&read[job]{entry: waits[i].entry, sent: sent}, Refused, errToken, now)
		return len(h.entries) == 0
	}
	assert.False(t, refuse(0, first, first.Add(time.Second)))
	assert.False(t, refuse(1, first, first.Add(2*time.Second)), "it was sent before the first refusal")
	assert.False(t, refuse(1, first.Add(time.Second), first.Add(3*time.Second)), "and so was this")
	assert.True(t, refuse(0, first.Add(time.Second+1), first.Add(4*time.Second)))
	for _, w := range waits {
		_, end, err := w.Next(t.Context())
		assert.True(t, end)
		require.ErrorIs(t, err, errToken)
		w.Leave()
	}
}

// A wait that begins during an outage tolerates ten minutes of its own.
func TestAWaitThatBeginsDuringAnOutage(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		a, began := newAPI(), time.Now()
		a.fault = func(string, string) error { return errDown }
		h := New[job](a, rhythm, nil)
		var all sync.WaitGroup
		for i, begins := range []time.Duration{0, 0, 5 * time.Minute, 9 * time.Minute} {
			id := a.create(time.Hour)
			all.Go(func() {
				<-time.NewTimer(begins).C
				_, err := wait(t.Context(), h, id, nil)
				lasted := time.Since(began) - begins
				assert.Greater(t, lasted, tolerance, i)
				assert.Less(t, lasted, tolerance+30*time.Second, i)
				assert.ErrorIs(t, err, errDown, i)
			})
		}
		all.Wait()
	})
}

// A request that was sent before the last success says nothing of an outage, however late it fails.
func TestALateFailureIsNoOutage(t *testing.T) {
	t.Parallel()
	h, waits := waiting(1)
	now := time.Now()
	h.mu.Lock()
	h.succeeded(now)
	for range 2 * outageSize {
		h.failed(Retry, errDown, now.Add(-time.Second), now.Add(time.Second))
	}
	assert.False(t, h.outage.outage())
	for range outageSize {
		h.failed(Retry, errDown, now.Add(time.Second), now.Add(2*time.Second))
	}
	assert.True(t, h.outage.outage())
	h.mu.Unlock()
	waits[0].Leave()
}
