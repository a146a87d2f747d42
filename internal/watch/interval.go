package watch

import (
	"time"

	"github.com/reincubate/ricloud-go/internal/backoff"
)

// Rhythm is how often a resource is read.
type Rhythm struct{ Shortest, Longest time.Duration }

const (
	ageShare   = 4   // a wait that has lasted t reads again after t/4
	jitter     = 0.2 // of an interval, in both directions, but see draw
	eventShare = 1.5 // with events about a resource, the interval in multiples of Longest
	youngShare = 0.9 // of Longest: how long a young wait is put off for a list page
	pageShare  = 1.2 // from one list page to the next, in multiples of the mean interval

	tolerance  = 10 * time.Minute // how long reads may fail before a wait ends
	outageSize = 3                // failed requests in a row that are an outage
	minReading = 8                // Gets in progress that are not slow, at most
	maxReading = 64               // the same where the allowance is large
	maxSlow    = 64               // Gets in progress that are slow
)

// longest is more than any interval needs, and multiples of it do not overflow.
const longest = 100 * 24 * time.Hour

// interval returns the time until the next read of a resource whose oldest wait
// has lasted for age. Events about the resource make the early reads
// superfluous. Reads stay frequent, because events can be lost: an interval
// stays below twice Longest, with some time for an event that is late.
func (r Rhythm) interval(age time.Duration, events bool) time.Duration {
	if events {
		return time.Duration(eventShare * float64(r.Longest))
	}
	return min(max(age/ageShare, r.Shortest), r.Longest)
}

// draw returns an interval that differs from d at random, so that clients do not
// read in step. It is not longer than Longest, or than d if that is longer still.
func (r Rhythm) draw(d time.Duration) time.Duration {
	part := time.Duration(jitter * float64(d))
	return backoff.Between(d-part, min(d+part, max(d, r.Longest)))
}

// putOff returns how long a wait of any age may be put off, so that one list page
// serves many.
func (r Rhythm) putOff() time.Duration {
	return time.Duration(youngShare * float64(r.Longest))
}

// together returns the time from one list page to the next, for waits with a mean
// and a shortest interval. A page reads most waits before they are due, so that
// pages may be further apart than the mean, but they put off no young wait too long.
func (r Rhythm) together(mean, shortest time.Duration) time.Duration {
	apart := min(time.Duration(pageShare*float64(mean)), max(mean, r.Longest))
	most := time.Duration(float64(max(2*shortest, r.putOff())) / (1 + jitter))
	return r.draw(min(apart, most))
}

// missing returns how long the API must answer that there is no such resource
// before a wait ends with that error. A replica of the API may lag behind the
// create.
func (r Rhythm) missing(known bool) time.Duration {
	if known {
		return 3 * r.Longest
	}
	return 3 * r.Shortest
}

// streak is a series of failed requests without a success. It tells an outage
// from a resource that cannot be read. The zero streak is no failure.
type streak struct {
	n       int
	reads   int       // those that were Gets
	since   time.Time // the first of them
	next    time.Time // no request before that, while it is an outage
	err     error     // the last of them
	success time.Time // the last success
}

// add notes a failure of a request that was sent at a time. A request that was
// sent before the last success says nothing about the time since.
func (s *streak) add(err error, sent, now time.Time, r Rhythm) {
	if sent.Before(s.success) {
		return
	}
	if s.n++; s.n == 1 {
		s.since = now
	}
	s.err = err
	s.hold(now, r)
}

// hold sets the time of the next request during an outage.
func (s *streak) hold(now time.Time, r Rhythm) {
	if s.outage() {
		s.next = now.Add(r.draw(backoff.Ceiling(s.n-outageSize, r.Shortest, r.Longest)))
	}
}

func (s *streak) outage() bool { return s.n >= outageSize }

// reset notes a success. It reports whether that ended an outage that affected
// more than the list.
func (s *streak) reset(now time.Time) bool {
	ended := s.outage() && s.reads > 0
	*s = streak{success: now}
	return ended
}
