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
		due   int // as few as make a scan the cheaper way
	}{
		"nothing is known":                       {lists{}, minListed},
		"one page shows all":                     {lists{pages: 1, share: 1, retry: later}, minListed},
		"two pages show all":                     {lists{pages: 2, share: 1, retry: later}, 3},
		"24 pages show all, of 50,000 of others": {lists{pages: 24, share: 1, retry: later}, 25},
		"a page shows half":                      {lists{pages: 1, share: 0.5, retry: later}, minListed},
		"ten pages show a fifth":                 {lists{pages: 10, share: 0.2, retry: later}, 51},
		"it shows none of ours": {
			lists{pages: 1, share: 0, retry: later}, math.MaxInt,
		},
		"it showed none, but long ago": {lists{pages: 1, share: 0, retry: earlier}, minListed},
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
		"all are found": {known(9), 1, 100, 0, false},
		"a GET for each of the rest is no dearer": {known(9), 1, 100, minListed - 1, false},
		"the page paid for itself":                {known(1), 1, minListed, 50, true},
		"it did not":                              {known(1), 1, minListed - 1, 50, false},
		"but last time they came later":           {known(4), 3, 0, 50, true},
		"down to there":                           {known(4), 4, 0, 50, false},
		"an unknown list is looked through":       {lists{}, 5, 0, 50, true},
		"as far as it can pay":                    {lists{}, 5, 0, 15, false},
		"and not for ever":                        {lists{}, exploredPages, 0, 5000, false},
		"no scan is endless":                      {known(1), maxPages, 1000, 5000, false},
	}
	for name, tc := range tests {
		assert.Equal(t, tc.deeper, tc.lists.deeper(tc.pages, tc.shown, tc.missing), name)
	}
}

func TestFirstPage(t *testing.T) {
	t.Parallel()
	assert.Equal(t, 100, (&lists{limit: maxPage}).firstPage(3), "never tiny")
	assert.Equal(t, 600, (&lists{limit: maxPage}).firstPage(100))
	assert.Equal(t, 300, (&lists{depth: 200, limit: maxPage}).firstPage(100),
		"what the last scan needed, and some")
	assert.Equal(t, 1000, (&lists{depth: 4000, limit: maxPage}).firstPage(100), "what the API allows")
}
