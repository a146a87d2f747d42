package watch

import (
	"math"
	"time"
)

const (
	minListed       = 3   // fewer resources than this are not worth a list page
	maxPages        = 200 // of one scan
	exploredPages   = 10  // pages to look through while nothing is known of the list
	maxScanFailures = 2   // failures in a row before resources are read one by one instead
	forbiddenWait   = 60  // times Longest until a list that is not permitted is tried again

	minPage, maxPage = 100, 1000 // the API allows at most 1000
)

// lists is what the scans of the list have shown.
type lists struct {
	pages    int       // down to the last one that showed something; 0: nothing is known
	depth    int       // the number of resources on them
	share    float64   // of the resources looked for, how many were shown
	retry    time.Time // when the list is tried again for what it did not show
	check    time.Time // when a Get checks again what it shows
	together time.Time // when the resources that it showed are due

	limit    int // resources per page that the client accepts
	failures int // scans that failed in a row
}

// breakEven returns how many due resources make a scan of the list cheaper than
// a Get for each: it costs a request per page, and a Get for each resource that
// it does not show. While nothing is known of the list, its first page is
// expected to show everything.
func (l *lists) breakEven(now time.Time) int {
	switch {
	case l.pages == 0, l.share == 0 && !now.Before(l.retry):
		return minListed
	case l.share == 0:
		return math.MaxInt
	}
	return max(minListed, int(float64(l.pages)/l.share)+1)
}

// deeper reports whether a scan reads another page. pages is the number of pages
// it has read, shown how many of the resources the last one showed, and missing
// how many no page has shown yet. A scan continues while a page saves requests,
// and at least as far as the last scan found something.
func (l *lists) deeper(pages, shown, missing int) bool {
	reach := l.pages
	if reach == 0 || l.share == 0 {
		reach = exploredPages
	}
	pays := shown >= minListed || pages < min(reach, missing/minListed)
	return missing >= minListed && pages < maxPages && pays
}

// firstPage returns how many resources to ask for: what the last scan needed,
// and some that are new since. Where it missed some, a large page costs no more
// requests than a small one.
func (l *lists) firstPage(waiting int, missed bool) int {
	if missed {
		return l.limit
	}
	need := l.depth
	if need == 0 {
		need = 4 * waiting
	}
	return min(max(need+need/2, minPage), l.limit)
}

// smaller halves the size of the pages, after one that was too large or too slow,
// but not below least. It reports whether that was possible.
func (l *lists) smaller(limit, least int) bool {
	if limit <= least {
		return false
	}
	l.limit = max(limit/2, least)
	return true
}

// failed notes a scan that failed and returns when to try the list again, and
// whether to read resources one by one until then.
func (l *lists) failed(now time.Time, r Rhythm, permitted bool) (retry time.Time, oneByOne bool) {
	l.failures++
	pause := r.Shortest
	switch {
	case !permitted:
		pause = forbiddenWait * r.Longest
	case l.failures > maxScanFailures:
		pause = r.Longest
		for range l.failures - maxScanFailures - 1 {
			pause = min(2*pause, forbiddenWait*r.Longest)
		}
	default:
		return now.Add(pause), false
	}
	*l = lists{pages: 1, depth: l.depth, limit: l.limit, failures: l.failures, retry: now.Add(pause)}
	return l.retry, true
}
