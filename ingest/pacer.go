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
	maxAhead      = 1000             // slots, and an hour: a clock further ahead is not believed
	foregroundRun = 4                // turns in a row, while background waits
	storeRetry    = time.Second      // after a failure of the store
	pauseFloor    = time.Millisecond // shorter pauses are not told to others
)

// slots is what the store holds of the quota: the generic cell rate algorithm's
// time of arrival. All slots before Next are taken.
type slots struct {
	Next time.Time `json:"next"`
	By   string    `json:"by"`
}

// pacer gives each request of all processes a slot of its own, one interval
// apart. A slot that is not used in time is lost, so that no window of the
// quota's length ever holds more requests than the quota.
type pacer struct {
	store store.Store
	id    string
	every time.Duration // between two slots
	grace time.Duration
	burst int // slots that may be taken for the time just gone by
	lease int // slots taken at a time, at most

	mu      sync.Mutex
	waiting [2][]*turn  // by priority
	inRow   int         // foreground turns in a row
	taken   []time.Time // slots that are ours
	paused  time.Time
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
	p.ended = make(chan struct{})
	// A window sees slots of its own length and of the grace before it, and one
	// more at its edge.
	p.grace = min(max(per/20, 50*time.Millisecond), maxGrace)
	p.every = max((per+p.grace)/time.Duration(max(1, requests-1)), 1)
	p.burst = int(min(max(p.grace/2/p.every, 1), 5))
	p.lease = int(min(max(time.Second/p.every, 1), maxSlots))
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
	until := time.Now().Add(d)
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
	now := time.Now()
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
		taken, err := p.take(ctx, min(waiting, p.lease))
		if err != nil {
			return storeRetry
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

// take takes n slots in the store, where all processes take theirs.
func (p *pacer) take(ctx context.Context, n int) ([]time.Time, error) {
	for {
		entry, err := p.store.Get(ctx, slotsKey)
		if err != nil && !errors.Is(err, store.ErrNotFound) {
			return nil, err
		}
		var s slots
		if err == nil {
			if err := json.Unmarshal(entry.Value, &s); err != nil {
				return nil, err
			}
		}
		now := time.Now()
		first := now.Add(-time.Duration(p.burst-1) * p.every)
		if s.Next.After(first) && s.Next.Sub(now) < time.Hour+maxAhead*p.every {
			first = s.Next
		}
		s = slots{Next: first.Add(time.Duration(n) * p.every), By: p.id}
		value, err := json.Marshal(s)
		if err != nil {
			return nil, err
		}
		_, err = p.store.Put(ctx, store.Entry{Key: slotsKey, Value: value, Revision: entry.Revision}, 0)
		if errors.Is(err, store.ErrConflict) { // others take theirs
			spread := time.Duration(time.Now().UnixNano() % int64(5*time.Millisecond))
			if err := sleep(ctx, spread); err != nil {
				return nil, err
			}
			continue
		}
		if err != nil {
			return nil, err
		}
		taken := make([]time.Time, n)
		for i := range taken {
			taken[i] = first.Add(time.Duration(i) * p.every)
		}
		return taken, nil
	}
}

// tellPause lets all processes know of a pause.
func (p *pacer) tellPause(ctx context.Context) {
	for {
		p.mu.Lock()
		until := p.paused
		p.mu.Unlock()
		left := time.Until(until)
		if left <= 0 {
			return
		}
		entry, err := p.store.Get(ctx, pauseKey)
		if err != nil && !errors.Is(err, store.ErrNotFound) {
			return
		}
		var known time.Time
		if err == nil && json.Unmarshal(entry.Value, &known) == nil && !until.After(known) {
			return
		}
		value, err := json.Marshal(until)
		if err != nil {
			return
		}
		_, err = p.store.Put(ctx, store.Entry{Key: pauseKey, Value: value, Revision: entry.Revision},
			max(left, time.Second))
		if !errors.Is(err, store.ErrConflict) {
			return // stored, or the store is down: the others will get their own 429
		}
	}
}

// watchPause learns of the pauses of others.
func (p *pacer) watchPause(ctx context.Context) {
	for ctx.Err() == nil {
		_ = p.store.Watch(ctx, pauseKey, func(e store.Entry) {
			var until time.Time
			if e.Value == nil || json.Unmarshal(e.Value, &until) != nil {
				return
			}
			p.mu.Lock()
			if until.After(p.paused) && time.Until(until) < time.Hour {
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
