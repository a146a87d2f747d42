package ingest

import (
	"context"
	"encoding/json"
	"errors"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	ricloud "github.com/reincubate/ricloud-go"
	"github.com/reincubate/ricloud-go/ingest/internal/store"
)

const (
	slotsKey = "quota.slots"
	pauseKey = "quota.pause"

	maxSlots      = 25               // that a process takes at a time
	maxGrace      = 2 * time.Second  // how late a slot may be used
	maxAhead      = 50 * time.Second // how early a slot is taken, beside two intervals
	aheadError    = 10 * time.Second // how wrong another's reading of the store's clock may be
	clockAge      = time.Minute      // how long a reading of the store's clock is used
	foregroundRun = 4                // turns in a row, while background waits
	storeRetry    = time.Second      // after a failure of the store
	pauseFloor    = time.Millisecond // shorter pauses are not told to others
)

// slots is what the store holds of the quota: the generic cell rate algorithm's
// time of arrival, by the store's clock. All slots before Next are taken.
type slots struct {
	Next time.Time `json:"next"`
	By   string    `json:"by"`
}

// pause is what the store holds of the latest 429: until when, by the store's clock, and how long
// that was when it was written.
type pause struct {
	Until time.Time     `json:"until"`
	For   time.Duration `json:"for"`
}

// clock is one moment by the store's clock and by this process's own, which may differ by any
// time. A step of the wall clock changes nothing, since own has a monotonic reading.
type clock struct{ store, own time.Time }

func (c clock) toStore(own time.Time) time.Time { return c.store.Add(own.Sub(c.own)) }
func (c clock) toOwn(store time.Time) time.Time { return c.own.Add(store.Sub(c.store)) }

// pacer gives each request of all processes a slot of its own, one interval
// apart. A slot that is not used in time is lost, so that no window of the
// quota's length ever holds more requests than the quota.
type pacer struct {
	store store.Store
	id    string
	every time.Duration // between two slots
	grace time.Duration
	burst int           // slots that may be taken for the time just gone by
	lease int           // slots taken at a time, at most
	ahead time.Duration // how early a slot may be taken
	now   func() time.Time

	mu      sync.Mutex
	clock   clock       // the latest reading
	waiting [2][]*turn  // by priority
	inRow   int         // foreground turns in a row
	taken   []time.Time // slots that are ours, by our clock
	paused  time.Time   // by our clock
	wake    chan struct{}
	ended   chan struct{} // closed when nobody hands out slots any more
	tell    chan struct{} // a pause of ours that others do not know yet
	sent    atomic.Int64
}

// turn is one request that waits.
type turn struct {
	ready chan struct{}
	slot  time.Time // zero: not served yet
}

func newPacer(s store.Store, id string, requests int, per time.Duration) *pacer {
	p := &pacer{store: s, id: id, wake: make(chan struct{}, 1), tell: make(chan struct{}, 1)}
	p.ended, p.now = make(chan struct{}), time.Now
	// A window sees slots of its own length and of the grace before it, and one
	// more at its edge.
	p.grace = min(max(per/20, 50*time.Millisecond), maxGrace)
	p.every = max((per+p.grace)/time.Duration(max(1, requests-1)), 1)
	p.burst = int(min(max(p.grace/2/p.every, 1), 5))
	p.lease = int(min(max(time.Second/p.every, 1), maxSlots))
	p.ahead = maxAhead + 2*p.every
	return p
}

type (
	backgroundKey struct{}
	turnKey       struct{}
)

// background marks calls of the engine's own that may wait for others.
func background(ctx context.Context) context.Context {
	return context.WithValue(ctx, backgroundKey{}, true)
}

// withTurn lets one call pass that has waited for its turn already.
func withTurn(ctx context.Context) context.Context {
	return context.WithValue(ctx, turnKey{}, new(atomic.Bool))
}

// Wait returns nil when one request may be sent.
func (p *pacer) Wait(ctx context.Context, priority ricloud.Priority) error {
	if used, ok := ctx.Value(turnKey{}).(*atomic.Bool); ok && used.CompareAndSwap(false, true) {
		return nil
	}
	i := 0
	if priority == ricloud.Background || ctx.Value(backgroundKey{}) != nil {
		i = 1
	}
	t := &turn{ready: make(chan struct{})}
	p.mu.Lock()
	p.waiting[i] = append(p.waiting[i], t)
	p.mu.Unlock()
	p.wakeUp()
	select {
	case <-t.ready:
		return nil
	case <-p.ended:
		return storeError("Pacer", store.ErrClosed)
	case <-ctx.Done():
		p.mu.Lock()
		defer p.mu.Unlock()
		if !t.slot.IsZero() { // it goes to another, if it is still good
			p.taken = slices.Insert(p.taken, 0, t.slot)
			p.sent.Add(-1)
			p.wakeUp()
		}
		p.waiting[i] = slices.DeleteFunc(p.waiting[i], func(w *turn) bool { return w == t })
		return context.Cause(ctx)
	}
}

// Pause holds all requests of all processes back for d.
func (p *pacer) Pause(d time.Duration) {
	until := p.now().Add(d)
	p.mu.Lock()
	later := until.After(p.paused)
	if later {
		p.paused = until
	}
	p.mu.Unlock()
	if later && d > pauseFloor {
		signal(p.tell)
	}
}

func (p *pacer) wakeUp() { signal(p.wake) }

// run hands out slots until ctx ends.
func (p *pacer) run(ctx context.Context) {
	defer close(p.ended)
	timer := time.NewTimer(0)
	defer timer.Stop()
	for ctx.Err() == nil {
		wait := p.serve(ctx)
		if wait == 0 {
			continue
		}
		if timer.Stop(); wait > 0 {
			timer.Reset(wait)
		}
		select {
		case <-timer.C:
		case <-p.wake:
		case <-p.tell:
			p.tellPause(ctx)
		case <-ctx.Done():
		}
	}
}

// serve does the next thing there is to do and returns how long there is
// nothing more: a negative time if nobody waits.
func (p *pacer) serve(ctx context.Context) time.Duration {
	p.mu.Lock()
	now := p.now()
	waiting := len(p.waiting[0]) + len(p.waiting[1])
	p.taken = slices.DeleteFunc(p.taken, func(slot time.Time) bool { return now.Sub(slot) > p.grace })
	switch {
	case waiting == 0:
		p.mu.Unlock()
		return -1
	case p.paused.After(now):
		defer p.mu.Unlock()
		return p.paused.Sub(now)
	case len(p.taken) == 0:
		p.mu.Unlock()
		taken, wait, err := p.take(ctx, min(waiting, p.lease))
		switch {
		case err != nil:
			return storeRetry
		case len(taken) == 0:
			return wait
		}
		p.mu.Lock()
		p.taken = append(p.taken, taken...)
		p.mu.Unlock()
		return 0
	case p.taken[0].After(now):
		defer p.mu.Unlock()
		return p.taken[0].Sub(now)
	}
	defer p.mu.Unlock()
	slot := p.taken[0]
	p.taken = p.taken[1:]
	i := 0
	if len(p.waiting[0]) == 0 || len(p.waiting[1]) > 0 && p.inRow >= foregroundRun {
		i = 1
	}
	if p.inRow++; i == 1 {
		p.inRow = 0
	}
	t := p.waiting[i][0]
	p.waiting[i] = p.waiting[i][1:]
	t.slot = slot
	p.sent.Add(1)
	close(t.ready)
	return 0
}

// readClock asks the store what time it is, if the latest answer is older than maxAge. Slots and
// pauses are told to others by that clock, so no process's own matters. The error is at most half
// of the time that the answer takes.
func (p *pacer) readClock(ctx context.Context, maxAge time.Duration) (clock, error) {
	asked := p.now()
	p.mu.Lock()
	c := p.clock
	p.mu.Unlock()
	if !c.own.IsZero() && asked.Sub(c.own) < maxAge {
		return c, nil
	}
	at, err := p.store.Now(ctx)
	if err != nil {
		return clock{}, err
	}
	c = clock{store: at, own: asked.Add(p.now().Sub(asked) / 2)}
	p.mu.Lock()
	p.clock = c
	p.mu.Unlock()
	return c, nil
}

// opening says which slots may be taken now, by the store's clock.
type opening struct {
	clock clock
	first time.Time
	slots int
	wait  time.Duration // until there are some, if there are none
}

// opening returns which slots may be taken after next.
//
// No process takes a slot further ahead than p.ahead, however many processes there are. So a next
// further ahead, and aheadError beyond it, was written when the store's clock was ahead, and holds
// nobody up. What was sent meanwhile was sent before now: the slots begin anew an interval from
// now, which keeps every window within the quota.
func (p *pacer) opening(ctx context.Context, next time.Time) (opening, error) {
	c, err := p.readClock(ctx, clockAge)
	if err == nil && next.Sub(c.toStore(p.now())) > p.ahead+aheadError {
		c, err = p.readClock(ctx, 0) // our reading may be wrong: this process may have been suspended
	}
	if err != nil {
		return opening{}, err
	}
	now := c.toStore(p.now())
	first := now.Add(-time.Duration(p.burst-1) * p.every)
	switch {
	case next.Sub(now) > p.ahead+aheadError:
		first = now.Add(p.every)
	case next.After(first):
		first = next
	}
	room := now.Add(p.ahead).Sub(first)
	return opening{
		clock: c, first: first, slots: int(min(room/p.every, maxSlots)),
		wait: max(p.every-room, time.Millisecond),
	}, nil
}

// take takes up to n slots in the store, where all processes take theirs. If others have taken all
// that may be taken by now, it takes none, and returns for how long that is so.
func (p *pacer) take(ctx context.Context, n int) ([]time.Time, time.Duration, error) {
	for {
		entry, err := p.store.Get(ctx, slotsKey)
		if err != nil && !errors.Is(err, store.ErrNotFound) {
			return nil, 0, err
		}
		var s slots
		if err == nil {
			if err := json.Unmarshal(entry.Value, &s); err != nil {
				return nil, 0, err
			}
		}
		o, err := p.opening(ctx, s.Next)
		if err != nil {
			return nil, 0, err
		}
		if o.slots < 1 {
			return nil, o.wait, nil
		}
		n := min(n, o.slots)
		s = slots{Next: o.first.Add(time.Duration(n) * p.every), By: p.id}
		value, err := json.Marshal(s)
		if err != nil {
			return nil, 0, err
		}
		_, err = p.store.Put(ctx, store.Entry{Key: slotsKey, Value: value, Revision: entry.Revision}, 0)
		if errors.Is(err, store.ErrConflict) { // others take theirs
			spread := time.Duration(time.Now().UnixNano() % int64(5*time.Millisecond))
			if err := sleep(ctx, spread); err != nil {
				return nil, 0, err
			}
			continue
		}
		if err != nil {
			return nil, 0, err
		}
		taken := make([]time.Time, n)
		for i := range taken {
			taken[i] = o.clock.toOwn(o.first.Add(time.Duration(i) * p.every))
		}
		return taken, 0, nil
	}
}

// tellPause lets all processes know of a pause.
func (p *pacer) tellPause(ctx context.Context) {
	for {
		c, err := p.readClock(ctx, clockAge)
		if err != nil {
			return
		}
		now := p.now()
		p.mu.Lock()
		own := p.paused
		p.mu.Unlock()
		ours := pause{Until: c.toStore(own), For: own.Sub(now)}
		if ours.For <= 0 {
			return
		}
		entry, err := p.store.Get(ctx, pauseKey)
		if err != nil && !errors.Is(err, store.ErrNotFound) {
			return
		}
		var known pause
		if err == nil && json.Unmarshal(entry.Value, &known) == nil &&
			!ours.Until.After(known.end(c.toStore(now))) {
			return
		}
		value, err := json.Marshal(ours)
		if err != nil {
			return
		}
		_, err = p.store.Put(ctx, store.Entry{Key: pauseKey, Value: value, Revision: entry.Revision},
			max(ours.For, time.Second))
		if !errors.Is(err, store.ErrConflict) {
			return // stored, or the store is down: the others will get their own 429
		}
	}
}

// end returns when a pause ends. It lasts no longer from now than it did when it was written: what
// is beyond that was written when the store's clock was ahead.
func (s pause) end(now time.Time) time.Time {
	if last := now.Add(s.For); s.Until.After(last) {
		return last
	}
	return s.Until
}

// watchPause learns of the pauses of others.
func (p *pacer) watchPause(ctx context.Context) {
	var seen uint64 // a watch that begins again shows the same pause
	for ctx.Err() == nil {
		_ = p.store.Watch(ctx, pauseKey, func(e store.Entry) {
			var told pause
			if e.Value == nil || e.Revision == seen || json.Unmarshal(e.Value, &told) != nil {
				return
			}
			c, err := p.readClock(ctx, clockAge)
			if err != nil {
				return // a 429 of our own will tell
			}
			seen = e.Revision
			until := c.toOwn(told.end(c.toStore(p.now())))
			p.mu.Lock()
			if until.After(p.paused) {
				p.paused = until
			}
			p.mu.Unlock()
		})
		_ = sleep(ctx, storeRetry)
	}
}

// state is the quota as this process sees it.
func (p *pacer) state() (waiting int, paused time.Time) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return len(p.waiting[0]) + len(p.waiting[1]), p.paused
}
