package events

import (
	"context"
	"fmt"
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

// growing is a record to which events are added, oldest first.
type growing struct {
	mu      sync.Mutex
	entries []*Entry[string]
	err     error
}

func (g *growing) add(id string, ago time.Duration) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.entries = append(g.entries,
		&Entry[string]{ID: id, Label: id, Date: time.Now().Add(-ago).Truncate(time.Second), Event: id})
}

func (g *growing) fail(err error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.err = err
}

func (g *growing) all(int) ([]*Entry[string], error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	return slices.Clone(g.entries), g.err
}

func watchOf(l *lists) *Watch[string] {
	w := &Watch[string]{
		Record: l.record(), List: l.list,
		Allowance: allowance.New(0.5, 10).Kind().Share(),
		Shortest:  5 * time.Second, Longest: time.Minute,
		Passing: func(err error) bool { return err == errAway }, //nolint:errorlint // ours
	}
	l.charge = w.Charge
	return w
}

// watchFor returns what a watch yields within a time, errors by their texts.
func watchFor(t *testing.T, w *Watch[string], d time.Duration) (got []string, err error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), d)
	defer cancel()
	err = w.Run(ctx, func(id string, err error) bool {
		if err != nil {
			id = err.Error()
		}
		got = append(got, id)
		return true
	})
	return got, err
}

func pause(d time.Duration) { time.Sleep(d) } //nolint:forbidigo // virtual

// Watch yields each new event once, in whatever order the record lists them,
// including those that appear late or share a second.
func TestWatch(t *testing.T) {
	t.Parallel()
	for name, order := range map[string]func([]*Entry[string]) []*Entry[string]{
		"newest first": reversed,
		"oldest first": slices.Clone[[]*Entry[string]],
		"in no order":  shuffled,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				var g growing
				l := &lists{all: func(page int) ([]*Entry[string], error) {
					entries, err := g.all(page)
					return order(entries), err
				}}
				for i := range 150 {
					g.add(fmt.Sprint("before", i), time.Hour)
				}
				var want []string
				go func() {
					pause(time.Minute)
					for i := range 8 {
						for j := range 30 {
							g.add(fmt.Sprint(i, "-", j), 0)
						}
						if i == 4 {
							g.add("late", 20*time.Minute)
						}
						pause(4 * time.Minute)
					}
				}()
				for i := range 8 {
					for j := range 30 {
						want = append(want, fmt.Sprint(i, "-", j))
					}
				}
				got, err := watchFor(t, watchOf(l), 45*time.Minute)
				require.ErrorIs(t, err, context.DeadlineExceeded)
				assert.ElementsMatch(t, append(want, "late"), got, "each once")
			})
		})
	}
}

// An event that appears up to half an hour after its date is found, whatever the
// look in which it appears, and after an outage.
func TestWatchFindsLateEvents(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var g growing
		l := &lists{all: func(page int) ([]*Entry[string], error) {
			entries, err := g.all(page)
			slices.SortStableFunc(entries, func(a, b *Entry[string]) int { return b.Date.Compare(a.Date) })
			return entries, err
		}}
		var want []string
		go func() {
			for i := range 90 * 10 {
				pause(6 * time.Second)
				late := time.Duration(0)
				if i%5 == 0 && i > 10*29 {
					late = time.Duration(i%290) * 6 * time.Second
				}
				g.add(strconv.Itoa(i), late)
				switch i {
				case 500:
					g.fail(errAway)
				case 590:
					g.fail(nil)
				}
			}
		}()
		for i := range 90 * 10 {
			want = append(want, strconv.Itoa(i))
		}
		got, err := watchFor(t, watchOf(l), 3*time.Hour)
		require.ErrorIs(t, err, context.DeadlineExceeded)
		assert.ElementsMatch(t, want, got)
	})
}

// A watch continues at the position that another has stored.
func TestWatchResumes(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var g growing
		l := &lists{all: g.all}
		var position time.Time
		run := func(d time.Duration) []string {
			w := watchOf(l)
			w.Load = func(context.Context) (time.Time, error) { return position, nil }
			w.Store = func(_ context.Context, p time.Time) error { position = p; return nil }
			got, err := watchFor(t, w, d)
			require.ErrorIs(t, err, context.DeadlineExceeded)
			return got
		}
		go func() {
			pause(time.Minute)
			for i := range 5 {
				g.add(strconv.Itoa(i), 0)
				pause(20 * time.Minute)
			}
		}()
		got := run(25 * time.Minute)
		assert.Equal(t, []string{"0", "1"}, got)
		pause(40 * time.Minute)
		got = append(got, run(time.Hour)...)
		slices.Sort(got)
		assert.Equal(t, []string{"0", "1", "2", "3", "4"}, slices.Compact(got))
	})
}

// An event that is dated in the future does not make the present look old.
func TestWatchIsNotFooledByTheFuture(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var g growing
		l := &lists{}
		l.all = func(page int) ([]*Entry[string], error) {
			l.now = time.Now()
			entries, err := g.all(page)
			return reversed(entries), err
		}
		go func() {
			pause(time.Minute)
			g.add("future", -24*time.Hour)
			pause(10 * time.Minute)
			g.add("present", 0)
		}()
		got, err := watchFor(t, watchOf(l), time.Hour)
		require.ErrorIs(t, err, context.DeadlineExceeded)
		assert.Equal(t, []string{"future", "present"}, got)
	})
}

// A record that is listed oldest first is read on from an old event. If it
// forgets that event, the watch begins at its first page again.
func TestWatchOutlivesTheEventItReadsOnFrom(t *testing.T) {
	t.Parallel()
	for name, refused := range map[string]error{
		"an empty page": nil, "a refusal": &Moved{errOdd}, "an early end": &Moved{},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				var g growing
				l := &lists{all: g.all}
				w := watchOf(l)
				lost := 0
				w.List = func(
					ctx context.Context, after string, limit int, yield func(*Entry[string]) bool,
				) error {
					entries, _ := g.all(0)
					known := func(e *Entry[string]) bool { return e.ID == after }
					if after != "" && !slices.ContainsFunc(entries, known) {
						lost++
						return refused
					}
					return l.list(ctx, after, limit, yield)
				}
				go func() {
					for i := range 60 {
						pause(3 * time.Minute)
						g.add(strconv.Itoa(i), 0)
						if i == 50 { // the record keeps its last five events
							g.mu.Lock()
							g.entries = slices.Clone(g.entries[46:])
							g.mu.Unlock()
						}
					}
				}()
				got, err := watchFor(t, w, 4*time.Hour)
				require.ErrorIs(t, err, context.DeadlineExceeded)
				assert.Len(t, got, 60)
				assert.Positive(t, lost)
			})
		})
	}
}

// Watch reports what it cannot read and goes on, tolerates an outage of ten
// minutes, and ends with an error of any other kind.
func TestWatchFailures(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var g growing
		l := &lists{all: g.all}
		go func() {
			pause(time.Minute)
			g.fail(errAway)
			pause(9 * time.Minute)
			g.fail(nil)
			g.mu.Lock()
			g.entries = append(g.entries, &Entry[string]{ID: "odd", Label: "odd", Err: errOdd})
			g.mu.Unlock()
			g.add("a", 0)
			pause(5 * time.Minute) // more than the longest interval
			g.fail(errOdd)
		}()
		got, err := watchFor(t, watchOf(l), time.Hour)
		require.ErrorIs(t, err, errOdd)
		assert.Equal(t, []string{"Test: event odd: not an event", "a"}, got)

		g.fail(errAway)
		began := time.Now()
		_, err = watchFor(t, watchOf(l), time.Hour)
		require.ErrorIs(t, err, errAway)
		assert.Greater(t, time.Since(began), patience)
	})
}

// A position that cannot be loaded or stored ends the watch.
func TestWatchPosition(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		l := &lists{all: always(at("a", 1))}
		w := watchOf(l)
		w.Load = func(context.Context) (time.Time, error) { return epoch, errAway }
		_, err := watchFor(t, w, time.Hour)
		require.ErrorIs(t, err, errAway)
		require.ErrorContains(t, err, "Test: reading the position")

		w = watchOf(l)
		w.Since = epoch
		w.Store = func(context.Context, time.Time) error { return errAway }
		got, err := watchFor(t, w, time.Hour)
		require.ErrorContains(t, err, "Test: storing the position")
		assert.Equal(t, []string{"a"}, got)
	})
}

// The watch ends with its consumer, and with a context that ends while it waits.
func TestWatchStops(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		l := &lists{all: always(at("a", 1), at("b", 2))}
		w := watchOf(l)
		w.Since = epoch
		n := 0
		require.NoError(t, w.Run(t.Context(), func(string, error) bool { n++; return false }))
		assert.Equal(t, 1, n)

		w = watchOf(l)
		w.Allowance = allowance.New(1/(24*time.Hour).Seconds(), 1).Kind().Share()
		w.Allowance.Charge()
		_, err := watchFor(t, w, time.Hour)
		require.ErrorIs(t, err, context.DeadlineExceeded)
		assert.Len(t, l.pages, 1, "no request without a turn")
	})
}

// Each page takes a request from the allowance.
func TestWatchKeepsToItsAllowance(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		began := time.Now()
		l := &lists{}
		l.all = func(int) (entries []*Entry[string], err error) { // ten events a second
			n := int(time.Since(began) / (100 * time.Millisecond))
			for i := n; i > max(0, n-1000); i-- {
				date := began.Add(time.Duration(i) * 100 * time.Millisecond)
				entries = append(entries, &Entry[string]{ID: strconv.Itoa(i), Date: date})
			}
			return entries, nil
		}
		_, err := watchFor(t, watchOf(l), 30*time.Minute)
		require.ErrorIs(t, err, context.DeadlineExceeded)
		assert.LessOrEqual(t, len(l.pages), 900*11/10, "one in two seconds")
	})
}
