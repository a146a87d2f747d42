package watch

import (
	"container/heap"
	"context"
	"errors"
	"slices"
	"time"
)

const forever = time.Duration(1<<63 - 1)

// start starts the goroutine, or makes it look again if it runs.
func (h *Hub[R]) start() {
	if h.stop != nil {
		h.wake()
		return
	}
	var ctx context.Context
	base := h.base
	if base == nil {
		base = context.Background()
	}
	ctx, h.stop = context.WithCancel(base) //nolint:gosec // remove calls it, after the last wait
	// A channel of its own: a goroutine that is ending must not take its signals.
	h.wakeup = make(chan struct{}, 1)
	go h.run(ctx, h.wakeup)
}

func (h *Hub[R]) run(ctx context.Context, wakeup <-chan struct{}) {
	timer := time.NewTimer(0)
	defer timer.Stop()
	defer h.allowance.Leave()
	for {
		select {
		case <-timer.C:
		case <-wakeup:
		case <-ctx.Done():
			return
		}
		timer.Reset(h.step(ctx))
	}
}

// step sends the requests that are due and returns when to look again.
func (h *Hub[R]) step(ctx context.Context) time.Duration {
	h.mu.Lock()
	defer h.mu.Unlock()
	now := time.Now()
	for len(h.queue) > 0 && ctx.Err() == nil {
		next, wait := h.next(now)
		if wait == 0 {
			wait = h.noPlace(now)
		}
		if wait > 0 {
			h.allowance.Leave()
			return wait
		}
		if wait = h.allowance.Take(now); wait > 0 {
			return wait
		}
		h.makePlace(now)
		h.outage.hold(now, h.rhythm)
		if next == 0 && !h.scanning && h.scanPays(now) {
			h.beginScan(ctx, now)
			continue
		}
		e := heap.Remove(&h.queue, next).(*entry[R]) //nolint:forcetypeassert // it holds nothing else
		h.found(e)                                   // its read shows it
		rd := &read[R]{entry: e, sent: now}
		rd.ctx, rd.cancel = context.WithCancelCause(ctx) //nolint:fatcontext // a context for each read
		h.reads = append(h.reads, rd)
		go h.get(rd)
	}
	return forever
}

// next returns the index of the entry to read next, and how long to wait until
// then. Requests are rare during an outage. An entry whose own reads have not
// failed is still read at once, because perhaps only the others cannot be read.
func (h *Hub[R]) next(now time.Time) (index int, wait time.Duration) {
	wait = h.queue[0].due.Sub(now)
	hold := h.outage.next.Sub(now)
	if wait > 0 || hold <= 0 {
		return 0, max(wait, 0)
	}
	index = -1
	for i, e := range h.queue {
		if e.failing == nil && (index < 0 || e.due.Before(h.queue[index].due)) {
			index = i
		}
	}
	if index < 0 {
		return 0, hold
	}
	if wait = max(h.queue[index].due.Sub(now), 0); wait > hold {
		return 0, hold
	}
	return index, wait
}

// read is a Get in progress.
type read[R any] struct {
	entry  *entry[R]
	sent   time.Time
	ctx    context.Context //nolint:containedctx // ends with the read
	cancel context.CancelCauseFunc
}

// errGivenUp is the failure of a read that had no answer yet and was cancelled
// because other reads needed its place.
var errGivenUp = errors.New("no answer yet, and its place was needed for another read")

// noPlace returns how long it takes until another Get may be sent. A Get that
// has no answer after the shortest interval is slow, and no longer counts: reads
// that hang must not hold up the others.
func (h *Hub[R]) noPlace(now time.Time) time.Duration {
	if fast := h.reads[h.slow(now):]; len(fast) >= h.places() {
		return max(fast[0].sent.Add(h.rhythm.Shortest).Sub(now), time.Millisecond)
	}
	return 0
}

// makePlace gives up the oldest Get if too many are slow.
func (h *Hub[R]) makePlace(now time.Time) {
	if h.slow(now) >= maxSlow {
		h.reads[0].cancel(errGivenUp)
		h.reads = h.reads[1:]
	}
}

// slow returns how many of the Gets in progress are slow. They are the oldest.
func (h *Hub[R]) slow(now time.Time) (n int) {
	for n < len(h.reads) && now.Sub(h.reads[n].sent) >= h.rhythm.Shortest {
		n++
	}
	return n
}

// places returns how many Gets that are not slow may be in progress. It is as many
// as the allowance permits in the time after which a Get is slow, so that reads
// that hang take no turns from the others.
func (h *Hub[R]) places() int {
	permitted := h.allowance.Rate() * h.rhythm.Shortest.Seconds()
	return int(min(max(permitted, minReading), maxReading))
}

// schedule sets when e is due next: one interval after from, or later, together
// with the entries that the list shows.
func (h *Hub[R]) schedule(e *entry[R], from time.Time) {
	interval := h.interval(e, time.Now())
	e.due = from.Add(h.rhythm.draw(interval))
	if !e.unlisted && !e.status.GetOnly && e.due.Before(h.lists.together) &&
		h.mayWait(interval, h.lists.together, from) {
		e.due = h.lists.together
	}
}

// mayWait reports whether an entry with an interval may wait for the others: a
// young wait is not delayed by old ones, or by those that have events.
func (h *Hub[R]) mayWait(interval time.Duration, until, from time.Time) bool {
	return until.Sub(from) <= min(max(2*interval, h.rhythm.putOff()), 2*h.rhythm.Longest)
}

// interval returns the time until the next read of e. A read that failed is
// repeated like those of a young wait.
func (h *Hub[R]) interval(e *entry[R], now time.Time) time.Duration {
	interval := h.rhythm.interval(now.Sub(e.began), e.hasEvents)
	if e.failing != nil {
		interval = min(interval, h.rhythm.interval(now.Sub(e.failing.since), false))
	}
	return interval
}

// get reads one resource.
func (h *Hub[R]) get(rd *read[R]) {
	r, err := h.source.Get(rd.ctx, rd.entry.id)
	defer rd.cancel(nil)
	verdict := Retry
	if err != nil {
		verdict = h.source.Classify(err)
	}
	if cause := context.Cause(rd.ctx); errors.Is(cause, errGivenUp) {
		verdict, err = Retry, cause
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	if i := slices.Index(h.reads, rd); i >= 0 {
		h.reads = slices.Delete(h.reads, i, i+1)
	}
	h.wake()
	e, now := rd.entry, time.Now()
	if h.entries[e.id] != e { // nobody waits any more
		return
	}
	if err == nil {
		h.succeeded(now)
		e.succeeded(now)
		h.shared += int64(len(e.waits) - 1)
		h.checked(e, h.learn(e, r, h.source.Status(r), true), now)
	} else {
		h.getFailed(rd, verdict, err, now)
	}
	if h.entries[e.id] == e && e.index < 0 {
		h.schedule(e, now)
		heap.Push(&h.queue, e)
	}
}

// getFailed ends the waits that the failure of a Get ends.
func (h *Hub[R]) getFailed(rd *read[R], verdict Verdict, err error, now time.Time) {
	e := rd.entry
	if verdict == Unsent { // no turn, because the caller's own requests took them: no outage
		return
	}
	e.failed(err, now)
	e.check = e.check && verdict == Missing // the list shows what the API says is gone
	switch verdict {
	case Missing:
		if e.failing.missing.IsZero() {
			e.failing.missing = now
		}
		if now.Sub(e.failing.missing) >= h.rhythm.missing(e.known != nil) {
			h.end(e, err)
		}
	case Final, TooLarge:
		h.end(e, err)
	default:
		h.outage.reads++
		h.failed(verdict, err, rd.sent, now)
	}
	if verdict == Retry && h.entries[e.id] == e && now.Sub(e.failing.since) > tolerance {
		h.end(e, err)
	}
	if verdict == Missing || verdict == Final { // the API has answered
		h.succeeded(now)
	}
}

// succeeded notes an answer of the API. After an outage everything that became
// due in the meantime is read, by list pages if that pays.
func (h *Hub[R]) succeeded(now time.Time) {
	h.refused = time.Time{}
	if h.outage.reset(now) {
		h.lists.failures, h.lists.retry = 0, now
	}
}

// failed notes a request that failed in a way that is not about one resource,
// and ends the waits that this ends.
func (h *Hub[R]) failed(verdict Verdict, err error, sent, now time.Time) {
	switch verdict {
	case Permanent:
		h.endAll(err)
		return
	case Refused: // a single refusal may come from a key that is being rotated
		if !h.refused.IsZero() && sent.After(h.refused) {
			h.endAll(err)
			return
		}
		if h.refused.IsZero() {
			h.refused = now
		}
	default: // ends a wait only if it is an outage that lasts
	}
	h.outage.add(err, sent, now, h.rhythm)
	if !h.outage.outage() {
		return
	}
	for _, e := range h.entries { // an outage affects also those that were not read
		since := h.outage.since
		if e.began.After(since) {
			since = e.began
		}
		if now.Sub(since) > tolerance {
			h.end(e, err)
		}
	}
}
