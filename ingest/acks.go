package ingest

import (
	"context"
	"errors"
	"log/slog"
	"slices"
	"sync"
	"time"

	ricloud "github.com/reincubate/ricloud-go"
)

const (
	maxBatch   = 1000 // results an acknowledgement takes
	ackStretch = 3    // how many readings an acknowledgement waits for others
	ackTimeout = 30 * time.Second
)

// pendingAck is a job whose results are handled and not acknowledged yet.
type pendingAck struct {
	group, key, account string
	ids                 []ricloud.ID
}

// acker acknowledges the results of all accounts and processes, many at a time.
type acker struct {
	leader *leader

	mu      sync.Mutex
	pending []pendingAck
	results int
	full    chan struct{}
}

func newAcker(l *leader) *acker { return &acker{leader: l, full: make(chan struct{}, 1)} }

func (a *acker) add(p pendingAck) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.pending = append(a.pending, p)
	if a.results += len(p.ids); a.results >= maxBatch {
		select {
		case a.full <- struct{}{}:
		default:
		}
	}
}

// run acknowledges until begin ends, and then once more what is left.
func (a *acker) run(begin, ctx context.Context) {
	for waited := 1; begin.Err() == nil; waited++ {
		timer := time.NewTimer(a.leader.cfg.ReadEvery)
		full := false
		select {
		case <-timer.C:
		case <-a.full:
			full = true
		case <-begin.Done():
		}
		timer.Stop()
		if full || waited >= ackStretch || begin.Err() != nil || a.leader.isQuiet() {
			a.flush(ctx)
			waited = 0
		}
	}
}

// flush acknowledges what is pending.
func (a *acker) flush(ctx context.Context) {
	a.mu.Lock()
	pending := a.pending
	a.pending, a.results = nil, 0
	a.mu.Unlock()
	for len(pending) > 0 && ctx.Err() == nil {
		var batch []ricloud.ID
		n := 0
		for n < len(pending) && (n == 0 || len(batch)+len(pending[n].ids) <= maxBatch) {
			batch = append(batch, pending[n].ids...)
			n++
		}
		remaining := a.send(ctx, batch)
		for _, p := range pending[:n] {
			p.ids = slices.DeleteFunc(p.ids, func(id ricloud.ID) bool {
				return !slices.Contains(remaining, id)
			})
			if len(p.ids) > 0 {
				a.add(p) // later
				continue
			}
			a.leader.acknowledged(p)
		}
		pending = pending[n:]
	}
}

// send acknowledges results and returns those that must be tried again.
func (a *acker) send(ctx context.Context, ids []ricloud.ID) []ricloud.ID {
	if len(ids) == 0 {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, ackTimeout+a.leader.cfg.ReadEvery)
	defer cancel()
	err := a.leader.client.Results.AcknowledgeAll(background(ctx), ids)
	failed, ok := errors.AsType[*ricloud.AcknowledgeError](err)
	switch {
	case err == nil:
		return nil
	case !ok:
		return ids
	}
	a.leader.log(ctx, "results are not acknowledged yet", slog.Int("results", len(failed.Remaining)),
		slog.Any("error", failed.Err))
	if isGone(failed.Err) {
		return nil // they are gone: the API has cleaned up
	}
	return failed.Remaining
}
