package ingest

import (
	"context"
	"encoding/json"
	"maps"
	"slices"
	"strings"
	"time"

	ricloud "github.com/reincubate/ricloud-go"
	"github.com/reincubate/ricloud-go/ingest/internal/store"
)

// The leader assigns jobs: a process with room asks for one and waits, and a job wakes one process.
// If every process watched every job, each job would cost as much as there are processes. Whether
// a process may handle a job is decided by compare-and-set on the job, not here.

const (
	workSubject = "work"
	sweepAtMost = 100 * time.Millisecond // how often to look at all jobs
)

// jobState is what the leader knows of a job.
type jobState struct {
	key          string
	poll         ricloud.ID
	revision     uint64
	owner        string    // the process at it
	since        time.Time // when this was learned
	when         time.Time // when a result may be handled: zero if none is open
	given        time.Time // when a process was told to claim it, since it changed
	queued       bool      // in leader.offered
	complete     bool
	asked        bool // its acknowledgements are on their way
	acknowledged bool
}

// asker is a process with room for a job.
type asker struct {
	process string
	busy    int             // jobs that it handles
	given   chan assignment // has room for one
}

// assignment names a job to claim.
type assignment struct {
	Key      string     `json:"key"`
	Revision uint64     `json:"revision"`
	Poll     ricloud.ID `json:"poll"`
}

// workRequest asks for a job.
type workRequest struct {
	Process string   `json:"process"`
	Busy    []string `json:"busy"` // the jobs that it handles
}

// told is what a process last said of itself.
type told struct {
	at   time.Time
	busy []string
}

// observeJob learns what the store says of a job.
func (l *leader) observeJob(entry store.Entry) {
	if entry.Key == "" {
		return
	}
	i := strings.LastIndexByte(entry.Key, '.')
	group := entry.Key[:i+1]
	l.mu.Lock()
	defer l.mu.Unlock()
	state := l.jobs[group][entry.Key]
	if entry.Value == nil {
		if state != nil {
			state.when = time.Time{} // it may be in leader.offered
		}
		delete(l.jobs[group], entry.Key)
		if len(l.jobs[group]) == 0 {
			delete(l.jobs, group)
		}
		return
	}
	j, err := decodeJob(entry)
	if err != nil {
		return
	}
	if l.jobs[group] == nil {
		l.jobs[group] = map[string]*jobState{}
	}
	if state == nil {
		state = &jobState{key: entry.Key}
		l.jobs[group][entry.Key] = state
	}
	state.revision, state.owner, state.poll = entry.Revision, j.Owner, j.Poll
	state.since, state.given = time.Now(), time.Time{}
	_, state.when = j.next(state.since)
	if complete := j.complete(); complete != state.complete {
		state.complete, state.asked, state.acknowledged = complete, false, false
	}
	if state.complete && !state.asked {
		state.asked = true
		var ids []ricloud.ID
		for i := range j.Tasks {
			if j.Tasks[i].Done {
				ids = append(ids, j.Tasks[i].Result.ID)
			}
		}
		l.acks.add(pendingAck{group: group, key: entry.Key, account: escape(j.Account), ids: ids})
	}
	l.offer(state, state.since)
	l.assign()
}

// isReady reports whether a job may be handled now, and if not, when to look at it again: the zero
// time if it has to change first. l.mu is held.
func (l *leader) isReady(j *jobState, now time.Time) (ready bool, when time.Time) {
	when = j.when
	switch {
	case when.IsZero():
		return false, when
	case j.owner != "" && !l.isOrphan(j):
		return false, now.Add(l.cfg.lease / 2)
	case !j.given.IsZero() && j.given.Add(l.cfg.lease).After(when):
		when = j.given.Add(l.cfg.lease) // who was told to claim it has not
	}
	return !when.After(now), when
}

// offer puts a job among those to assign, now or later. l.mu is held.
func (l *leader) offer(j *jobState, now time.Time) {
	switch ready, when := l.isReady(j, now); {
	case !ready:
		l.sweepBy(when)
	case !j.queued:
		j.queued = true
		l.offered = append(l.offered, j)
	}
}

// isOrphan reports whether the process that claimed a job is dead, or has let go of it without
// being able to write so.
func (l *leader) isOrphan(j *jobState) bool {
	if l.isDead(j.owner) {
		return true
	}
	told := l.told[j.owner]
	return told.at.Sub(j.since) > l.cfg.lease && !slices.Contains(told.busy, j.key)
}

// sweepBy has all jobs looked at by then. l.mu is held.
func (l *leader) sweepBy(when time.Time) {
	if !when.IsZero() && (l.sweepAt.IsZero() || when.Before(l.sweepAt)) {
		l.sweepAt = when
		signal(l.sweepWake)
	}
}

// sweepLoop offers the jobs whose time has come, until ctx ends.
func (l *leader) sweepLoop(ctx context.Context) {
	timer := time.NewTimer(0)
	defer timer.Stop()
	for sleep(ctx, sweepAtMost) == nil {
		timer.Stop()
		if next := l.sweep(); !next.IsZero() {
			timer.Reset(time.Until(next))
		}
		select {
		case <-timer.C:
		case <-l.sweepWake:
		case <-ctx.Done():
		}
	}
}

// sweep offers all jobs if it is time, and returns when it will be.
func (l *leader) sweep() time.Time {
	l.mu.Lock()
	defer l.mu.Unlock()
	if now := time.Now(); !l.sweepAt.IsZero() && !l.sweepAt.After(now) {
		l.sweepAt = time.Time{}
		for _, group := range l.jobs {
			for _, j := range group {
				l.offer(j, now)
			}
		}
		maps.DeleteFunc(l.told, func(_ string, t told) bool { return now.Sub(t.at) > time.Hour })
		l.assign()
	}
	return l.sweepAt
}

// assign gives jobs to processes with room, to the least busy first, and among those to the one
// that asked last: it is awake. l.mu is held.
func (l *leader) assign() {
	for len(l.offered) > 0 && len(l.askers) > 0 {
		j := l.offered[0]
		l.offered = l.offered[1:]
		j.queued = false
		now := time.Now()
		if ready, _ := l.isReady(j, now); !ready {
			l.offer(j, now) // it has changed meanwhile
			continue
		}
		best := len(l.askers) - 1
		for i := best - 1; i >= 0; i-- {
			if l.askers[i].busy < l.askers[best].busy {
				best = i
			}
		}
		a := l.askers[best]
		l.askers = slices.Delete(l.askers, best, best+1)
		j.given = now
		l.sweepBy(now.Add(l.cfg.lease)) // to see whether it is claimed
		a.given <- assignment{j.key, j.revision, j.poll}
	}
}

// answerAsker gives a job to a process that asks for one, as soon as there is one, with its signed
// URLs. The answer is empty when there is none for a while.
func (l *leader) answerAsker(ctx context.Context, data []byte) []byte {
	var q workRequest
	if json.Unmarshal(data, &q) != nil {
		return nil
	}
	a := &asker{process: q.Process, busy: len(q.Busy), given: make(chan assignment, 1)}
	l.mu.Lock()
	l.withdraw(q.Process) // what it asked before, it has given up
	l.told[q.Process] = told{time.Now(), q.Busy}
	l.askers = append(l.askers, a)
	l.assign()
	l.mu.Unlock()
	timer := time.NewTimer(l.cfg.lease)
	defer timer.Stop()
	select {
	case given := <-a.given:
		return l.encodeAssignment(given)
	case <-timer.C:
	case <-ctx.Done():
	}
	l.mu.Lock()
	l.askers = slices.DeleteFunc(l.askers, func(other *asker) bool { return other == a })
	l.mu.Unlock()
	select {
	case given := <-a.given:
		return l.encodeAssignment(given)
	default:
		return nil
	}
}

// withdraw removes a process from those with room. l.mu is held.
func (l *leader) withdraw(process string) {
	l.askers = slices.DeleteFunc(l.askers, func(a *asker) bool { return a.process == process })
}

// encodeAssignment writes an assignment and, after a line feed, the signed URLs of its poll.
func (l *leader) encodeAssignment(a assignment) []byte {
	head, err := json.Marshal(a)
	if err != nil {
		return nil
	}
	return slices.Concat(head, []byte{'\n'}, l.urls.message(a.Poll))
}
