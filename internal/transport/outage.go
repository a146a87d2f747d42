package transport

import (
	"net/http"
	"sync/atomic"
	"time"

	"github.com/reincubate/ricloud-go/internal/backoff"
)

// Retries are hopeless when an outage has lasted for hopelessAfter, or, if that is
// longer, for hopelessTimes as long as the waits between the attempts of one call
// can take. By default these are the same.
const (
	hopelessAfter = 30 * time.Second
	hopelessTimes = 4
)

// outage is a time in which every attempt of the Client failed: there was no
// answer, or a server error. Retries are for short failures. In an outage that has
// outlasted them several times, calls make one attempt each: more would only be
// a load for an API that tries to come back.
type outage struct {
	patience time.Duration
	began    atomic.Int64 // in nanoseconds since 1970; 0: the last attempt succeeded
	last     atomic.Int64 // the last failure
	healthy  atomic.Bool  // the last attempt succeeded; false before the first
}

func newOutage(cfg *Config) outage {
	const most = 24 * time.Hour
	var waits time.Duration
	for n := 0; n < cfg.MaxRetries && waits < most; n++ {
		waits = min(most, waits+min(most, backoff.Ceiling(n, cfg.RetryWaitMin, cfg.RetryWaitMax)))
	}
	return outage{patience: max(hopelessAfter, hopelessTimes*waits)}
}

// noteOutage notes how an attempt of c ended, now.
func (c *call) noteOutage(answer *Response) {
	o := &c.client.outage
	switch {
	case answer == nil && c.Err() != nil: // the caller ended it: this says nothing
	case answer == nil, failedServer(answer.StatusCode):
		o.healthy.Store(false)
		o.last.Store(c.now.UnixNano())
		o.began.CompareAndSwap(0, c.now.UnixNano())
	case o.began.Load() != 0 || !o.healthy.Load():
		o.began.Store(0)
		o.healthy.Store(true)
	}
}

// failedServer reports whether a status is a passing failure of the server. A
// 429 is not: it pauses the client.
func failedServer(status int) bool {
	return transient(status) && status != http.StatusTooManyRequests
}

// lasts reports whether there is an outage that makes retries hopeless. Failures
// that are longer ago say nothing about now.
func (o *outage) lasts(now time.Time) bool {
	began := o.began.Load()
	if began == 0 {
		return false
	}
	since, age := now.Sub(time.Unix(0, began)), now.Sub(time.Unix(0, o.last.Load()))
	if age > 2*o.patience {
		o.began.CompareAndSwap(began, 0)
		return false
	}
	return since >= o.patience
}
