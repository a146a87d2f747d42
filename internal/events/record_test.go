package events

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

var (
	errTooLarge = errors.New("too large")
	errAway     = errors.New("away")
	errOdd      = errors.New("not an event")
)

//nolint:gochecknoglobals // a constant in all but name
var epoch = time.Date(2020, 2, 25, 0, 0, 0, 0, time.UTC)

// lists is a record whose lists the test computes. The event of an entry is its id.
type lists struct {
	now   time.Time // of the record's clock; zero: not known
	pages []int     // the limit of each page that was read
	// all returns the whole list, as it is when a page is read.
	all func(page int) ([]*Entry[string], error)
	// charge, if it is set, is called before each page.
	charge func()
}

func (l *lists) record() Record {
	return Record{
		Operation: "Test",
		Now:       func() time.Time { return l.now },
		TooLarge:  func(err error) bool { return errors.Is(err, errTooLarge) },
		Ended:     func(cause error) error { return fmt.Errorf("ended: %w", cause) },
	}
}

// list reads page by page, each behind the last entry of the page before.
func (l *lists) list(
	_ context.Context, after string, limit int, yield func(*Entry[string]) bool,
) error {
	for {
		if l.charge != nil {
			l.charge()
		}
		l.pages = append(l.pages, limit)
		entries, err := l.all(len(l.pages) - 1)
		if err != nil {
			return err
		}
		i := slices.IndexFunc(entries, func(e *Entry[string]) bool { return e.ID == after })
		entries = entries[i+1:]
		page := entries[:min(limit, len(entries))]
		for _, e := range page {
			if !yield(e) {
				return nil
			}
			after = e.ID
		}
		if len(page) == len(entries) {
			return nil
		}
	}
}

func always(entries ...*Entry[string]) func(int) ([]*Entry[string], error) {
	return func(int) ([]*Entry[string], error) { return entries, nil }
}

// at is an event that was made some minutes after the epoch.
func at(id string, minute int) *Entry[string] {
	date := epoch.Add(time.Duration(minute) * time.Minute)
	return &Entry[string]{ID: id, Label: id, Date: date, Event: id}
}

// A page that is too large is read again in smaller ones, behind what came before.
func TestReadAsksForSmallerPages(t *testing.T) {
	t.Parallel()
	var entries []*Entry[string]
	for i := range 30 {
		entries = append(entries, at(strconv.Itoa(i), i))
	}
	l := &lists{}
	l.all = func(page int) ([]*Entry[string], error) {
		if l.pages[page] > 10 && page != 0 {
			return nil, errTooLarge
		}
		return entries, nil
	}
	record := l.record()
	var got []string
	yield := func(e *Entry[string]) bool { got = append(got, e.ID); return true }
	require.NoError(t, read(t.Context(), &record, l.list, "", 20, yield))
	assert.Equal(t, []int{20, 20, 2, 2, 2, 2, 2}, l.pages)
	assert.Len(t, got, 30)
	assert.Equal(t, "29", got[29])

	l.all = func(int) ([]*Entry[string], error) { return nil, errTooLarge }
	l.pages = nil
	err := read(t.Context(), &record, l.list, "", 1000, yield)
	require.ErrorIs(t, err, errTooLarge)
	assert.Equal(t, []int{1000, 100, 10, 1}, l.pages)
}

// An order is recognised while nothing is newer than what came before, and old
// events count only while each is older than the last.
func TestOrder(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		minutes []int // -100: undated
		ordered bool
		older   int
		falls   int
	}{
		"newest first":       {minutes: []int{3, 2, -1, -2}, ordered: true, older: 2, falls: 3},
		"one second":         {minutes: []int{-1, -1, -1}, ordered: true},
		"oldest first":       {minutes: []int{-2, -1, 2}},
		"one that is newer":  {minutes: []int{-1, -2, -1}, falls: 1},
		"one without a date": {minutes: []int{-1, -2, -100}, falls: 1},
	} {
		var o order
		for _, minute := range tt.minutes {
			date := epoch.Add(time.Duration(minute) * time.Minute)
			if minute == -100 {
				date = time.Time{}
			}
			o.add(date, epoch)
		}
		assert.Equal(t, tt.ordered, o.ordered, name)
		assert.Equal(t, tt.older, o.older, name)
		assert.Equal(t, tt.falls, o.falls, name)
	}
}

// shuffled returns the entries in another order.
func shuffled(entries []*Entry[string]) []*Entry[string] {
	entries = slices.Clone(entries)
	rand.Shuffle(len(entries), func(i, j int) { entries[i], entries[j] = entries[j], entries[i] })
	return entries
}
