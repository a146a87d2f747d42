package watch

import (
	"math"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
)

func TestBreakEven(t *testing.T) {
	t.Parallel()
	now := time.Now()
	later, earlier := now.Add(time.Second), now.Add(-time.Second)
	tests := map[string]struct {
		lists lists
		due   int // the number of due waits from which a scan is cheaper
	}{
		"nothing is known":   {lists: lists{}, due: minListed},
		"one page shows all": {lists: lists{pages: 1, share: 1, retry: later}, due: minListed},
		"two pages show all": {lists: lists{pages: 2, share: 1, retry: later}, due: 3},
		"24 pages show all, of 50,000 of others": {
			lists: lists{pages: 24, share: 1, retry: later}, due: 25,
		},
		"a page shows half":      {lists: lists{pages: 1, share: 0.5, retry: later}, due: minListed},
		"ten pages show a fifth": {lists: lists{pages: 10, share: 0.2, retry: later}, due: 51},
		"it shows none of ours": {
			lists: lists{pages: 1, share: 0, retry: later}, due: math.MaxInt,
		},
		"it showed none, but long ago": {
			lists: lists{pages: 1, share: 0, retry: earlier}, due: minListed,
		},
	}
	for name, tc := range tests {
		assert.Equal(t, tc.due, tc.lists.breakEven(now), name)
	}
}

func TestDeeper(t *testing.T) {
	t.Parallel()
	known := func(pages int) lists { return lists{pages: pages, share: 1} }
	tests := map[string]struct {
		lists                 lists
		pages, shown, missing int
		deeper                bool
	}{
		"all are found": {lists: known(9), pages: 1, shown: 100, missing: 0, deeper: false},
		"a GET for each of the rest is no dearer": {
			lists: known(9), pages: 1, shown: 100, missing: minListed - 1,
			deeper: false,
		},
		"the page paid for itself": {
			lists: known(1), pages: 1, shown: minListed, missing: 50,
			deeper: true,
		},
		"it did not": {
			lists: known(1), pages: 1, shown: minListed - 1, missing: 50,
			deeper: false,
		},
		"but last time they came later": {
			lists: known(4), pages: 3, shown: 0, missing: 50,
			deeper: true,
		},
		"down to there": {lists: known(4), pages: 4, shown: 0, missing: 50, deeper: false},
		"an unknown list is looked through": {
			lists: lists{}, pages: 5, shown: 0, missing: 50,
			deeper: true,
		},
		"as far as it can pay": {
			lists: lists{}, pages: 5, shown: 0, missing: 15,
			deeper: false,
		},
		"and not for ever": {
			lists: lists{}, pages: exploredPages, shown: 0, missing: 5000,
			deeper: false,
		},
		"no scan is endless": {
			lists: known(1), pages: maxPages, shown: 1000, missing: 5000,
			deeper: false,
		},
	}
	for name, tc := range tests {
		assert.Equal(t, tc.deeper, tc.lists.deeper(tc.pages, tc.shown, tc.missing), name)
	}
}

func TestFirstPage(t *testing.T) {
	t.Parallel()
	assert.Equal(t, 100, (&lists{limit: maxPage}).firstPage(3, false), "never tiny")
	assert.Equal(t, 600, (&lists{limit: maxPage}).firstPage(100, false))
	assert.Equal(t, 300, (&lists{depth: 200, limit: maxPage}).firstPage(100, false),
		"what the last scan needed, and some")
	assert.Equal(t, 1000, (&lists{depth: 4000, limit: maxPage}).firstPage(100, false),
		"what the API allows")
	assert.Equal(t, 500, (&lists{depth: 100, limit: 500}).firstPage(3, true), "to find what is deeper")
}
