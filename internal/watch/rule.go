package watch

import (
	"math"
	"time"

	"github.com/reincubate/ricloud-go/internal/backoff"
)

// Rhythm is how often a resource is asked for.
type Rhythm struct{ Shortest, Longest time.Duration }

const (
	patience   = 4                // a wait that lasts t asks every t/4
	jitter     = 0.2              // of an interval, to both sides: clients begun together drift apart
	safety     = 6                // while events flow, ask every safety times Longest
	flowing    = 5 * time.Minute  // events flow this long after the last
	outage     = 10 * time.Minute // a wait outlives that much of failing reads
	maxReading = 8                // GETs in flight
)

// interval is how long to leave a resource alone that is waited for since age.
func (r Rhythm) interval(age time.Duration, pushed bool) time.Duration {
	if pushed {
		return safety * r.Longest
	}
	return min(max(age/patience, r.Shortest), r.Longest)
}

func jittered(d time.Duration) time.Duration { return backoff.Spread(d, jitter) }

const (
	few      = 3   // fewer resources than this are not worth a list page
	maxPages = 200 // of one scan
	explored = 10  // pages looked through where nothing is known of the list

	minPage, maxPage = 100, 1000 // contract §1.8
)

// lists is what the last scan of the list taught.
type lists struct {
	pages int       // down to the last one that showed something; 0: nothing is known
	depth int       // how many resources that was
	share float64   // of the resources looked for, how many it showed
	again time.Time // when the list is tried for what it did not show
	next  time.Time // when the resources that it showed are due together
}

// breakEven returns how many due resources make a scan of the list, which
// costs a request a page and then a GET for each that it does not show,
// cheaper than a GET for each. A list that nothing is known of is believed to
// show all on its first page.
func (l lists) breakEven(now time.Time) int {
	switch {
	case l.pages == 0, l.share == 0 && !now.Before(l.again):
		return few
	case l.share == 0:
		return math.MaxInt
	}
	return max(few, int(float64(l.pages)/l.share)+1)
}

// deeper reports whether to read on after a scan's pages pages, the last of
// which showed shown, with missing still to be found: while pages pay for
// themselves, and down to where they did the last time.
func (l lists) deeper(pages, shown, missing int) bool {
	reach := l.pages
	if reach == 0 || l.share == 0 {
		reach = explored
	}
	return missing >= few && pages < maxPages && (shown >= few || pages < min(reach, missing/few))
}

// firstPage is how many resources to ask for: what the last scan needed, and
// some that are new since.
func (l lists) firstPage(waiting int) int {
	need := l.depth
	if need == 0 {
		need = 4 * waiting
	}
	return min(max(need+need/2, minPage), maxPage)
}
