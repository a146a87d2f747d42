package ingest

import (
	"context"
	"encoding/json"
	"errors"
	"maps"
	"strings"
	"sync"
	"time"

	"github.com/reincubate/ricloud-go/ingest/internal/store"
)

// Process is one process of an organisation, as Stats shows it.
type Process struct {
	ID       string    `json:"id"` // host, number and a random part
	Since    time.Time `json:"since"`
	Requests int64     `json:"requests"` // how many turns of the quota it used
	Handling int64     `json:"handling"` // jobs it handles now
	Leads    bool      `json:"leads"`    // it reads and logs in for all
}

// processes are those that are alive.
type processes struct {
	synced  bool
	alive   map[string]bool
	missing map[string]*missing
}

// missing is a process whose lease is over.
type missing struct {
	since   time.Time // when it was first missed, or last answered
	unheard int       // questions in a row that it has not answered
}

// isDead reports whether a process is to be taken for dead: its lease is over, and it does not
// answer. A lease alone says too little: while a cluster elects its leaders, or has too little CPU,
// those of the living end too. l.mu is held.
func (l *leader) isDead(id string) bool {
	p := &l.procs
	switch {
	case id == l.id || !p.synced || p.alive[id]:
		return false
	case l.cfg.Dir != "": // nobody can be alive but this one
		return true
	case p.missing[id] == nil:
		p.missing[id] = &missing{since: time.Now()}
	}
	return l.isLost(p.missing[id])
}

func (l *leader) isLost(m *missing) bool {
	return m.unheard >= 2 && time.Since(m.since) >= l.cfg.lease/2
}

const aliveSubject = "alive."

// answerAlive answers a leader that asks whether this process is alive, until ctx ends.
func (r *runner) answerAlive(ctx context.Context) error {
	return r.store.Answer(ctx, aliveSubject+r.id, func([]byte) []byte { return []byte("yes") })
}

// askMissing asks the missing processes whether they are alive, until ctx ends.
func (l *leader) askMissing(ctx context.Context) {
	for sleep(ctx, l.cfg.lease/5) == nil {
		l.mu.Lock()
		ask := maps.Clone(l.procs.missing)
		maps.DeleteFunc(ask, func(_ string, m *missing) bool { return l.isLost(m) })
		l.mu.Unlock()
		var asking sync.WaitGroup
		for id, m := range ask {
			asking.Go(func() { l.ask(ctx, id, m) })
		}
		asking.Wait()
	}
}

func (l *leader) ask(ctx context.Context, id string, m *missing) {
	ctx, cancel := context.WithTimeout(ctx, l.cfg.lease/2)
	defer cancel()
	_, err := l.store.Ask(ctx, aliveSubject+id, nil)
	l.mu.Lock()
	defer l.mu.Unlock()
	if m.unheard++; err == nil {
		m.since, m.unheard = time.Now(), 0
	}
}

// beat shows that this process is alive, until ctx ends. When it was silent for too long, its
// worker looks twice whether others have taken its jobs over: at once, and when they know that it
// is back.
func (e *Engine) beat(ctx context.Context) {
	l := lease{engine: e, key: processPrefix + e.id}
	defer l.release(ctx)
	known, looks, refused := false, 0, 0
	worked := time.Now()
	for ctx.Err() == nil {
		wait := e.cfg.lease / 3
		if known && !l.held() {
			looks = 2
		}
		switch {
		case l.renew(ctx, e.self()):
			known, refused, worked = true, 0, time.Now()
		case errors.Is(l.err, store.ErrFull):
			wait = leaseRetry
		default:
			wait = leaseRetry
			refused++
		}
		if e.cfg.Dir != "" && refused >= stoppedAfter && time.Since(worked) > stoppedAfter*e.cfg.lease/2 {
			signal(e.stopped)
		}
		if looks > 0 {
			looks--
			signal(e.lapsed)
		}
		_ = sleep(ctx, wait)
	}
}

// stoppedAfter is how many writes in a row, and for how many half leases, the server inside this
// process leaves unanswered before it is taken to have stopped. On a full disk it does so for good.
const stoppedAfter = 8

// signal wakes who waits for a channel that has room for one.
func signal(c chan<- struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

func (e *Engine) self() any {
	return Process{
		ID: e.id, Since: e.begun.UTC(), Requests: e.pacer.sent.Load(),
		Handling: e.active.Load(), Leads: e.leads.Load(),
	}
}

// observeProcess learns that a process is alive or gone.
func (l *leader) observeProcess(entry store.Entry) {
	l.mu.Lock()
	defer l.mu.Unlock()
	p, id := &l.procs, strings.TrimPrefix(entry.Key, processPrefix)
	switch {
	case entry.Key == "":
		p.synced = true
	case entry.Value != nil:
		p.alive[id] = true
		delete(p.missing, id)
		return
	default:
		delete(p.alive, id)
	}
	l.sweepBy(time.Now())
}

// forgetProcesses removes what processes left behind that can no longer be
// alive.
func (e *Engine) forgetProcesses(ctx context.Context) error {
	for _, prefix := range []string{processPrefix, leasePrefix} {
		var left []store.Entry
		watch, cancel := context.WithCancel(ctx)
		err := e.store.Watch(watch, prefix, func(entry store.Entry) {
			if entry.Key == "" {
				cancel()
			} else if entry.Value != nil {
				left = append(left, entry)
			}
		})
		cancel()
		if err != nil {
			return err
		}
		for _, entry := range left {
			if err := e.store.Remove(ctx, entry.Key, entry.Revision); err != nil &&
				!errors.Is(err, store.ErrConflict) {
				return err
			}
		}
	}
	return nil
}

const (
	leaseRetry  = 100 * time.Millisecond
	leasePrefix = "lease."
	leaderKey   = leasePrefix + "leader"
)

// lease is a key that only one process holds, and only while it renews it.
type lease struct {
	engine   *Engine
	key      string
	revision uint64    // 0: not held
	until    time.Time // when it is no longer certain
	err      error     // of the last renewal
}

// renew takes the lease or keeps it, and reports whether it is held.
func (l *lease) renew(ctx context.Context, value any) bool {
	body, err := json.Marshal(value)
	if err != nil {
		return false
	}
	ttl := l.engine.cfg.lease
	began := time.Now()
	ctx, cancel := context.WithTimeout(ctx, ttl/2)
	defer cancel()
	revision, err := l.engine.store.Put(ctx,
		store.Entry{Key: l.key, Value: body, Revision: l.revision}, ttl)
	l.err = err
	switch {
	case err == nil:
		l.revision, l.until = revision, began.Add(ttl)
	case errors.Is(err, store.ErrConflict):
		l.revision = 0
	}
	return l.held()
}

// held reports whether the lease is certain to be this process's own.
func (l *lease) held() bool { return l.revision != 0 && time.Now().Before(l.until) }

// release gives the lease up at once.
func (l *lease) release(ctx context.Context) {
	if l.revision == 0 {
		return
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), l.engine.cfg.lease)
	defer cancel()
	_ = l.engine.store.Remove(ctx, l.key, l.revision) // or it expires
	l.revision = 0
}
