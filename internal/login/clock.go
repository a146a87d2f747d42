// Package login tells the sessions of a client's logins apart: it knows the API's
// clock, and which sessions belong to which create. It makes no request.
package login

import (
	"net/http"
	"sync"
	"time"

	"github.com/reincubate/ricloud-go/internal/transport"
)

// Clock is how far the API's clock is ahead of this machine's: a range that gets
// smaller with each success of the Client. Where no answer has a date, the clocks
// are taken to agree. It is safe for concurrent use.
type Clock struct {
	mu          sync.Mutex
	least, most time.Duration
	at          time.Time // of the last answer; zero: there was none
}

const (
	// clockSkew is by how much two clocks differ more after a time: a second in a
	// day, more than clocks that are set over the network.
	clockSkew = 1e-5
	// Exact is a range that more answers would not make much smaller.
	Exact = 25 * time.Millisecond
)

// Read takes in the date of an answer. The date is cut to the second, and the
// answer was made some time between sent and received.
func (c *Clock) Read(resp *transport.Response) {
	date, err := http.ParseTime(resp.Header.Get("Date"))
	if err != nil || len(resp.Attempts) == 0 {
		return
	}
	received := resp.Ended
	sent := received.Add(-resp.Attempts[len(resp.Attempts)-1].Duration)
	least, most := date.Sub(received), date.Add(time.Second).Sub(sent)
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.at.IsZero() {
		before, until := c.drifted(received)
		if lo, hi := max(least, before), min(most, until); lo <= hi { // else a clock was set
			least, most = lo, hi
		}
	}
	c.least, c.most, c.at = least, most, received
}

// Ahead returns the range at a time.
func (c *Clock) Ahead(now time.Time) (least, most time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.drifted(now)
}

// Known reports whether an answer had a date.
func (c *Clock) Known() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return !c.at.IsZero()
}

func (c *Clock) drifted(now time.Time) (least, most time.Duration) {
	if c.at.IsZero() {
		return 0, 0
	}
	drift := time.Duration(clockSkew * float64(max(0, now.Sub(c.at))))
	return c.least - drift, c.most + drift
}

// Pause returns how long to wait so that the next answer halves the range: until
// a second ends on a clock in the middle of it.
func Pause(now time.Time, least, most time.Duration) time.Duration {
	there := now.Add((least + most) / 2)
	return there.Truncate(time.Second).Add(time.Second).Sub(there)
}
