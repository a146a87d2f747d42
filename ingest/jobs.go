package ingest

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	ricloud "github.com/reincubate/ricloud-go"
	"github.com/reincubate/ricloud-go/ingest/internal/store"
)

// chunkSize is how many results make a job: few enough for a message.
const chunkSize = 50

// job is some results of an account's poll that one process handles at a time.
type job struct {
	Account string     `json:"account"`
	Poll    ricloud.ID `json:"poll"`
	Session ricloud.ID `json:"session"`
	Tasks   []task     `json:"tasks"`
	Owner   string     `json:"owner,omitempty"` // the process at it
}

// task is one result of a job.
type task struct {
	Result ricloud.Result `json:"result"` // without its signed URL
	Tries  int            `json:"tries,omitempty"`
	Due    time.Time      `json:"due,omitzero"`
	Away   int            `json:"away,omitempty"`      // failures of storage in a row
	Since  time.Time      `json:"away_since,omitzero"` // when the first of them was
	Done   bool           `json:"done,omitempty"`
	Dead   string         `json:"dead,omitempty"` // why it is given up
	Why    string         `json:"why,omitempty"`  // it is tried again
	// Handled means that the handler has returned nil, and only the file is to be verified.
	Handled bool `json:"handled,omitempty"`
}

func (t *task) open() bool { return !t.Done && t.Dead == "" }

// next returns the first task that is open and due, or when one will be: the
// zero time if none is open.
func (j *job) next(now time.Time) (int, time.Time) {
	var when time.Time
	for i := range j.Tasks {
		t := &j.Tasks[i]
		if !t.open() {
			continue
		}
		if !t.Due.After(now) {
			return i, now
		}
		if when.IsZero() || t.Due.Before(when) {
			when = t.Due
		}
	}
	return -1, when
}

// isNew reports whether no process has tried any of the job yet.
func (j *job) isNew() bool {
	return !slices.ContainsFunc(j.Tasks, func(t task) bool { return t.Tries > 0 || !t.open() })
}

func (j *job) complete() bool {
	return !slices.ContainsFunc(j.Tasks, func(t task) bool { return t.open() })
}

func jobPrefix(account string, poll ricloud.ID) string {
	return workPrefix + escape(account) + "." + escape(string(poll)) + "."
}

func jobKey(account string, poll ricloud.ID, chunk int) string {
	return fmt.Sprintf("%s%d", jobPrefix(account, poll), chunk)
}

// storedJob is a job at its revision.
type storedJob struct {
	job

	key      string
	revision uint64
}

func decodeJob(entry store.Entry) (*storedJob, error) {
	j := &storedJob{key: entry.Key, revision: entry.Revision}
	err := json.Unmarshal(entry.Value, &j.job)
	for i := range j.Tasks {
		clamp(&j.Tasks[i].Due, maxRetryWait)
	}
	return j, err
}

// clamp bounds a time that another process has written. No pause is longer than atMost: beyond
// that, the other's clock is ahead.
func clamp(t *time.Time, atMost time.Duration) {
	if last := time.Now().UTC().Add(atMost); t.After(last) {
		*t = last
	}
}

func (e *Engine) saveJob(ctx context.Context, j *storedJob) error {
	value, err := json.Marshal(j.job)
	if err != nil {
		return err
	}
	revision, err := e.store.Put(ctx, store.Entry{Key: j.key, Value: value, Revision: j.revision}, 0)
	if err == nil {
		j.revision = revision
	}
	return err
}

// makeJobs stores the work of a poll, unless it is stored already: all of it or, for want of room,
// nothing.
func (l *leader) makeJobs(
	ctx context.Context, r *stored, poll *ricloud.Poll, results []ricloud.Result,
) (chunks int, err error) {
	var jobs []*storedJob
	for chunk := range slices.Chunk(results, chunkSize) {
		j := &storedJob{key: jobKey(r.Account.Key, poll.ID, len(jobs))}
		j.Account, j.Poll, j.Session = r.Account.Key, poll.ID, poll.Session
		for _, result := range chunk {
			j.Tasks = append(j.Tasks, task{Result: result})
		}
		jobs = append(jobs, j)
	}
	if err := l.takeForJobs(ctx, jobs); err != nil {
		return 0, err
	}
	for _, j := range jobs {
		if !l.holds() {
			return 0, errLeaseLost
		}
		if err := l.saveJob(ctx, j); err != nil && !errors.Is(err, store.ErrConflict) {
			return 0, err
		}
	}
	return len(jobs), nil
}

// outcome reads the jobs of a poll: whether all is handled and acknowledged,
// and what was given up.
func (l *leader) outcome(
	ctx context.Context, account string, open openPoll,
) (done bool, refused []string, err error) {
	for chunk := range open.Chunks {
		entry, err := l.store.Get(ctx, jobKey(account, open.ID, chunk))
		if err != nil {
			return false, nil, err
		}
		j, err := decodeJob(entry)
		if err != nil {
			return false, nil, err
		}
		if !j.complete() || !l.isAcknowledged(j.key) {
			return false, nil, nil
		}
		for i := range j.Tasks {
			if t := &j.Tasks[i]; t.Dead != "" {
				refused = append(refused, fmt.Sprintf("%s (%s), %s", t.Result.ID, t.Result.Identifier, t.Dead))
			}
		}
	}
	return true, refused, nil
}

func (e *Engine) removeJobs(ctx context.Context, account string, open openPoll) {
	for chunk := range open.Chunks {
		key := jobKey(account, open.ID, chunk)
		if entry, err := e.store.Get(ctx, key); err == nil {
			_ = e.store.Remove(ctx, key, entry.Revision) // an entry that remains does no harm
		}
	}
}

// revive gives the results of a dead letter that were given up another chance.
func (e *Engine) revive(ctx context.Context, r *stored) error {
	for _, open := range r.Open {
		for chunk := range open.Chunks {
			entry, err := e.store.Get(ctx, jobKey(r.Account.Key, open.ID, chunk))
			if err != nil {
				return err
			}
			j, err := decodeJob(entry)
			if err != nil {
				return err
			}
			for i := range j.Tasks {
				if t := &j.Tasks[i]; t.Dead != "" {
					t.Dead, t.Tries, t.Due, t.Away, t.Since = "", 0, time.Time{}, 0, time.Time{}
					t.Why = ""
				}
			}
			if err := e.saveJob(ctx, j); err != nil {
				return err
			}
		}
	}
	return nil
}

// retried says what results of an account are being retried for: "" if none is.
func (e *Engine) retried(ctx context.Context, r *stored) (string, error) {
	for _, open := range r.Open {
		for chunk := range open.Chunks {
			entry, err := e.store.Get(ctx, jobKey(r.Account.Key, open.ID, chunk))
			if errors.Is(err, store.ErrNotFound) {
				continue // it has just been closed
			}
			if err != nil {
				return "", storeError("the account "+r.Account.Key, err)
			}
			j, err := decodeJob(entry)
			if err != nil {
				continue // of a newer version
			}
			for i := range j.Tasks {
				if t := &j.Tasks[i]; t.open() && t.Why != "" {
					return fmt.Sprintf("result %s (%s): %s", t.Result.ID, t.Result.Identifier, t.Why), nil
				}
			}
		}
	}
	return "", nil
}

func (l *leader) isAcknowledged(key string) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	state := l.jobs[key[:strings.LastIndexByte(key, '.')+1]][key]
	return state != nil && state.acknowledged
}

// acknowledged learns that the results of a job are acknowledged.
func (l *leader) acknowledged(a pendingAck) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if state := l.jobs[a.group][a.key]; state != nil {
		state.acknowledged = true
	}
	for _, state := range l.jobs[a.group] {
		if !state.acknowledged {
			return
		}
	}
	if it := l.items[a.account]; it != nil {
		it.news().closed = true
		l.schedule(it)
	} else {
		l.closed[a.account] = true // its record may be read later than its jobs
	}
}
