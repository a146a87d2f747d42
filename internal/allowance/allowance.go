// Package allowance divides a rate of requests fairly among those who wait for
// resources.
package allowance

import (
	"context"
	"math"
	"slices"
	"sync"
	"time"

	"golang.org/x/time/rate"

	"github.com/reincubate/ricloud-go/internal/backoff"
)

// Allowance is a rate of requests. Where it is short, each Kind has as many as
// every other, and within a Kind each member has (self-clocked fair queueing). It
// is safe for concurrent use.
type Allowance struct {
	mu      sync.Mutex
	limiter *rate.Limiter
	clock   float64 // the tag of the request that was permitted last
	wanting []*Share
	paused  func(now time.Time) time.Duration // how long no request can be sent; may be nil
}

// New returns an Allowance of some requests a second, of which at most burst may
// go at once.
func New(perSecond float64, burst int) *Allowance {
	return &Allowance{limiter: rate.NewLimiter(rate.Limit(perSecond), burst)}
}

// WaitShare is the part of the quota that waits use at most: a fifth. A wait's read
// is one request and never repeated within the call, so that the count is exact
// whatever the API answers.
const WaitShare = 5

// The requests of waits that may go at once are at most maxBurst, and a twentieth of
// what waits may make in the period of the quota, or in a minute: a pause after a
// 429 also lets some go together.
const (
	maxBurst   = 20
	burstShare = 20
)

// OfWaits returns the Allowance of all waits together, where the quota is a number
// of requests an hour that is counted over periods of some length.
func OfWaits(anHour float64, period time.Duration) *Allowance {
	aSecond := anHour / WaitShare / time.Hour.Seconds()
	burst := int(aSecond * max(period, time.Minute).Seconds() / burstShare)
	return New(aSecond, min(maxBurst, max(1, burst)))
}

// PauseWith makes an Allowance permit no request as long as paused returns a time
// above 0: those that were permitted during a pause would all be sent at its end. It
// returns the Allowance, and is for one that is not used yet.
func (a *Allowance) PauseWith(paused func(now time.Time) time.Duration) *Allowance {
	a.paused = paused
	return a
}

// Unlimited returns the Share of an Allowance that is never short.
func Unlimited() *Share { return New(math.Inf(1), 1).Kind().Share() }

// Kind is a group of Shares that together have as much as any other Kind.
type Kind struct {
	of      *Allowance
	members int
}

// Kind returns a new Kind.
func (a *Allowance) Kind() *Kind { return &Kind{of: a} }

// Share is what one requester takes its requests from. It has a part of its Kind
// for each of its members.
type Share struct {
	kind    *Kind
	members int
	wants   bool
	tag     float64 // of the request that it wants: the lowest is permitted next
	last    float64 // the tag of its last one
}

// Share returns a Share without members.
func (k *Kind) Share() *Share { return &Share{kind: k} }

// Rate returns the requests a second of the whole Allowance.
func (s *Share) Rate() float64 { return float64(s.kind.of.limiter.Limit()) }

// Add changes the number of members by n.
func (s *Share) Add(n int) {
	s.kind.of.mu.Lock()
	defer s.kind.of.mu.Unlock()
	s.members += n
	s.kind.members += n
}

// cost is by how much a request advances the tag.
func (s *Share) cost() float64 {
	return float64(max(1, s.kind.members)) / float64(max(1, s.members))
}

// Take takes a request and returns 0. If there is none yet, it returns how long
// to wait before the next Take. The caller calls Leave if it does not want the
// request any more.
func (s *Share) Take(now time.Time) time.Duration {
	a := s.kind.of
	a.mu.Lock()
	defer a.mu.Unlock()
	if !s.wants {
		s.wants, s.tag = true, max(s.last, a.clock)+s.cost()
		a.wanting = append(a.wanting, s)
	}
	if a.limiter.Limit() == rate.Inf {
		a.leave(s)
		return 0
	}
	if a.paused != nil {
		if pause := a.paused(now); pause > 0 {
			return pause
		}
	}
	needed, earlier := 1.0, true // those that go first need one each
	for _, other := range a.wanting {
		if other == s {
			earlier = false
		} else if other.tag < s.tag || earlier && other.tag == s.tag {
			needed++
		}
	}
	if missing := needed - a.limiter.TokensAt(now); missing > 0 {
		wait := time.Duration(missing / s.Rate() * float64(time.Second))
		return max(wait, time.Millisecond)
	}
	a.limiter.ReserveN(now, 1)
	a.clock, s.last = max(a.clock, s.tag), s.tag
	a.leave(s)
	return 0
}

// Leave says that the Share wants no request now.
func (s *Share) Leave() {
	s.kind.of.mu.Lock()
	defer s.kind.of.mu.Unlock()
	s.kind.of.leave(s)
}

func (a *Allowance) leave(s *Share) {
	if i := slices.Index(a.wanting, s); i >= 0 {
		a.wanting = slices.Delete(a.wanting, i, i+1)
	}
	s.wants = false
}

// Wait takes a request as soon as there is one.
func (s *Share) Wait(ctx context.Context) error {
	for {
		wait := s.Take(time.Now())
		if wait == 0 {
			return nil
		}
		if err := backoff.Sleep(ctx, wait); err != nil {
			s.Leave()
			return err
		}
	}
}

// Charge takes a request even if there is none, so that all wait longer for the
// next, and the Share longest.
func (s *Share) Charge() {
	a := s.kind.of
	a.mu.Lock()
	defer a.mu.Unlock()
	a.limiter.ReserveN(time.Now(), 1)
	s.last = max(s.last, a.clock) + s.cost()
}
