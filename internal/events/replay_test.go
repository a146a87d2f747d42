package events

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// replayOf returns a Replay of lists that takes everything since the epoch.
func replayOf(handle func(context.Context, string) (bool, error), all ...*lists) *Replay[string] {
	r := &Replay[string]{
		Record: all[0].record(), Handle: handle,
		Since: func(time.Time) time.Time { return epoch },
	}
	for _, l := range all {
		r.Lists = append(r.Lists, l.list)
	}
	return r
}

type taken []string

func (g *taken) take(_ context.Context, id string) (bool, error) {
	*g = append(*g, id)
	return true, nil
}

// Replay hands over what two lists show, each event once, oldest first, and joins the errors.
func TestReplay(t *testing.T) {
	t.Parallel()
	odd := &Entry[string]{ID: "odd", Label: "odd", Err: errOdd}
	pending := &lists{all: always(at("p4", 4), at("both", 2), odd, at("again", 6))}
	failed := &lists{all: always(at("both", 2), at("f3", 3), at("old", -1), at("f1", 1))}
	var got taken
	r := replayOf(func(ctx context.Context, id string) (bool, error) {
		now, err := got.take(ctx, id)
		switch id {
		case "f3":
			return false, errAway
		case "again":
			return false, nil // it had been handled
		}
		return now, err
	}, pending, failed)
	err := r.Run(t.Context())
	require.ErrorIs(t, err, errAway)
	require.ErrorIs(t, err, errOdd)
	require.ErrorContains(t, err, "Test: event f3: away")
	require.ErrorContains(t, err, "Test: event odd: not an event")
	assert.Equal(t, taken{"f1", "both", "f3", "p4", "again"}, got)
	assert.Equal(t, 3, r.Handled)
	assert.Equal(t, epoch.Add(6*time.Minute-ReplayOverlap), r.Position(), "by the newest event")
}

// A list that is ordered newest first is left once a page of it is old. In any
// other order it is read to its end, so that nothing is missed.
func TestReplayReadsNoFurtherThanItMust(t *testing.T) {
	t.Parallel()
	missed := []*Entry[string]{at("m3", 3), at("m2", 2), at("m1", 1)}
	var falling, jitter, oneSecond, twoSeconds []*Entry[string]
	for i := range 5000 {
		id := fmt.Sprint("old", i)
		falling = append(falling, at(id, -1-i))
		jitter = append(jitter, at(id, -9000+i-(i%2)*2))
		oneSecond = append(oneSecond, at(id, -60))
		twoSeconds = append(twoSeconds, at(id, -60+i/2500))
	}
	undated := []*Entry[string]{{ID: "m2", Event: "m2"}}
	for name, tt := range map[string]struct {
		entries []*Entry[string]
		pages   int // 0: all six
	}{
		"newest first":    {entries: slices.Concat(missed, falling), pages: 2},
		"oldest first":    {entries: slices.Concat(reversed(falling), reversed(missed))},
		"one second":      {entries: slices.Concat(oneSecond, missed)},
		"two seconds":     {entries: slices.Concat(twoSeconds, missed)},
		"with jitter":     {entries: slices.Concat(jitter, missed)},
		"in no order":     {entries: shuffled(slices.Concat(jitter, missed))},
		"one newer":       {entries: slices.Concat([]*Entry[string]{at("n", -50)}, oneSecond, missed)},
		"one is undated":  {entries: slices.Concat(missed[:1], oneSecond, undated, missed[2:])},
		"some are behind": {entries: slices.Concat(missed[:1], oneSecond, missed[1:])},
	} {
		l := &lists{all: always(tt.entries...)}
		var got taken
		require.NoError(t, replayOf(got.take, l).Run(t.Context()), name)
		slices.Sort(got)
		assert.Equal(t, taken{"m1", "m2", "m3"}, got, name)
		if tt.pages == 0 {
			tt.pages = 6
		}
		assert.Len(t, l.pages, tt.pages, name)
	}
}

func reversed(entries []*Entry[string]) []*Entry[string] {
	entries = slices.Clone(entries)
	slices.Reverse(entries)
	return entries
}

// Since is asked for with the record's clock, and its whole second counts.
func TestReplaySince(t *testing.T) {
	t.Parallel()
	l := &lists{all: always(at("a", 0), at("b", -1)), now: epoch.Add(time.Hour)}
	var got taken
	r := replayOf(got.take, l)
	r.Since = func(now time.Time) time.Time { return now.Add(-time.Hour + 900*time.Millisecond) }
	require.NoError(t, r.Run(t.Context()))
	assert.Equal(t, taken{"a"}, got)
	assert.Equal(t, epoch.Add(time.Hour-ReplayOverlap), r.Position(), "by the record's clock")
}

// The position stays behind an event that was not handled, and is not known
// where the lists were not read to their ends.
func TestReplayPosition(t *testing.T) {
	t.Parallel()
	now := epoch.Add(10 * 24 * time.Hour)
	l := &lists{all: always(at("a", 5), at("b", 3), at("c", 8)), now: now}
	r := replayOf(func(context.Context, string) (bool, error) { return false, errAway }, l)
	require.ErrorIs(t, r.Run(t.Context()), errAway)
	assert.Equal(t, epoch.Add(3*time.Minute), r.Position())

	away := &lists{all: func(int) ([]*Entry[string], error) { return nil, errAway }, now: now}
	var got taken
	r = replayOf(got.take, l, away)
	require.ErrorIs(t, r.Run(t.Context()), errAway)
	assert.True(t, r.Position().IsZero())
	assert.Equal(t, taken{"b", "a", "c"}, got, "what was shown before is handed over")

	empty := &lists{all: always()}
	r = replayOf(nil, empty)
	require.NoError(t, r.Run(t.Context()))
	assert.True(t, r.Position().IsZero(), "no clock and no event")
	empty.now = now
	require.NoError(t, r.Run(t.Context()))
	assert.Equal(t, now.Add(-ReplayOverlap), r.Position())
}

// A list whose event behind which the next page begins leaves it, in the middle
// of reading, is read again, whatever its pages then say.
func TestReplayReadsAChangingListAgain(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		end   error // of the list, while it changes
		reads int   // until it is whole
		want  error
	}{
		"it ends early":           {end: &Moved{}, reads: 2},
		"it refuses the cursor":   {end: &Moved{errOdd}, reads: 2},
		"it ends as it does":      {end: &Moved{}, reads: 100},
		"it keeps refusing":       {end: &Moved{errOdd}, reads: 100, want: errOdd},
		"another error ends it":   {end: errAway, reads: 100, want: errAway},
		"it grows without an end": {end: &Moved{}, reads: -1, want: &Moved{}},
	} {
		reads := 0
		var got taken
		r := replayOf(got.take, &lists{})
		r.Lists = []List[string]{func(
			_ context.Context, _ string, _ int, yield func(*Entry[string]) bool,
		) error {
			reads++
			yield(at("a", 1))
			switch {
			case tt.reads < 0:
				yield(at(strconv.Itoa(reads), 2))
				return tt.end
			case reads < tt.reads:
				return tt.end
			}
			yield(at("b", 2))
			return nil
		}}
		err := r.Run(t.Context())
		switch {
		case tt.want == nil:
			require.NoError(t, err, name)
		case tt.reads < 0:
			require.ErrorContains(t, err, "Test: the list changes while it is read", name)
		default:
			require.ErrorIs(t, err, tt.want, name)
		}
		assert.Equal(t, tt.reads == 2, slices.Contains(got, "b"), name)
		assert.Contains(t, got, "a", name)
		assert.LessOrEqual(t, reads, maxReads, name)
		assert.Equal(t, tt.want != nil, r.Position().IsZero(), name)
	}
}

// A replay whose context ends keeps its position behind the next event.
func TestReplayEnds(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancelCause(t.Context())
	stop := errors.New("stop")
	l := &lists{now: epoch.Add(10 * 24 * time.Hour)}
	for i := range 3 {
		entries := []*Entry[string]{at("a", 1), at("b", 2), at(strconv.Itoa(i), 3)}
		l.all = always(entries...)
	}
	r := replayOf(func(context.Context, string) (bool, error) {
		cancel(stop)
		return true, nil
	}, l)
	err := r.Run(ctx)
	require.ErrorIs(t, err, stop)
	require.ErrorContains(t, err, "ended: ")
	assert.Equal(t, 1, r.Handled)
	assert.Equal(t, epoch.Add(2*time.Minute), r.Position())
}
