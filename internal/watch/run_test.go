package watch

import (
	"cmp"
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
