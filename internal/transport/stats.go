package transport

import (
	"net/http"
	"sync"
	"sync/atomic"
	"time"
)

// Stats counts what a Client has sent and what came back.
type Stats struct {
	Sent        int64 // attempts, retries included
	Retries     int64
	Succeeded   int64 // answers below 400
	Refused     int64 // answers of 4xx, except 429
	RateLimited int64 // 429
	ServerError int64 // 5xx
	NoAnswer    int64 // attempts without a usable answer
	InFlight    int64 // attempts now
	TurnsWanted int64 // requests that wait for a turn now
	LastHour    int64 // attempts in the last hour, to the minute
}

// counters are what Stats is read from.
type counters struct {
	sent, retries, succeeded, refused, rateLimited, serverError, noAnswer atomic.Int64
	inFlight, turnsWanted                                                 atomic.Int64

	hour hour
}

// Stats returns the counts so far.
func (c *Client) Stats() Stats {
	n := &c.counters
	return Stats{
		Sent: n.sent.Load(), Retries: n.retries.Load(), Succeeded: n.succeeded.Load(),
		Refused:     n.refused.Load(),
		RateLimited: n.rateLimited.Load(), ServerError: n.serverError.Load(), NoAnswer: n.noAnswer.Load(),
		InFlight: n.inFlight.Load(), TurnsWanted: n.turnsWanted.Load(),
		LastHour: n.hour.count(time.Now()),
	}
}

// begin counts an attempt that is sent.
func (n *counters) begin(now time.Time, retry bool) {
	n.sent.Add(1)
	n.inFlight.Add(1)
	if retry {
		n.retries.Add(1)
	}
	n.hour.add(now)
}

// redirected counts a request of an attempt that was answered with a redirect.
func (n *counters) redirected(now time.Time) {
	n.sent.Add(1)
	n.succeeded.Add(1)
	n.hour.add(now)
}

// end counts how an attempt ended.
func (n *counters) end(attempt *Attempt) {
	n.inFlight.Add(-1)
	switch status := attempt.StatusCode; {
	case attempt.Err != nil || status == 0:
		n.noAnswer.Add(1)
	case status == http.StatusTooManyRequests:
		n.rateLimited.Add(1)
	case status >= http.StatusInternalServerError:
		n.serverError.Add(1)
	case status >= http.StatusBadRequest:
		n.refused.Add(1)
	default:
		n.succeeded.Add(1)
	}
}

// hour counts events by the minute, for an hour.
type hour struct {
	mu      sync.Mutex
	minutes [60]struct{ minute, n int64 }
}

func (h *hour) add(now time.Time) {
	minute := now.Unix() / 60
	h.mu.Lock()
	defer h.mu.Unlock()
	slot := &h.minutes[minute%60]
	if slot.minute != minute {
		slot.minute, slot.n = minute, 0
	}
	slot.n++
}

func (h *hour) count(now time.Time) (n int64) {
	minute := now.Unix() / 60
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, slot := range h.minutes {
		if minute-slot.minute < 60 {
			n += slot.n
		}
	}
	return n
}
