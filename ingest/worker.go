package ingest

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"runtime/debug"
	"slices"
	"sync"
	"time"

	ricloud "github.com/reincubate/ricloud-go"
	"github.com/reincubate/ricloud-go/ingest/internal/store"
)

const (
	maxRetryWait = 10 * time.Minute
	handlerGrace = 5 * time.Second // beyond its timeout
)

// worker handles results in this process, whoever leads.
type worker struct {
	*runner

	mu     sync.Mutex
	jobs   map[string]*knownJob
	mine   map[string]context.CancelCauseFunc // jobs that are handled here
	synced bool
	wake   chan struct{}
}

// knownJob is a job as the store has it. Every process is told of every job, and most are another's
// at once, so it is decoded only when this process may claim it.
type knownJob struct {
	entry store.Entry
	owner string
	job   *storedJob // nil: not decoded yet
}

// ownerOf returns which process is at a job.
func ownerOf(entry store.Entry) (owner string, err error) {
	var head struct {
		Owner string `json:"owner"`
	}
	err = json.Unmarshal(entry.Value, &head)
	return head.Owner, err
}

func newWorker(r *runner) *worker {
	return &worker{
		runner: r, jobs: map[string]*knownJob{}, mine: map[string]context.CancelCauseFunc{},
		wake: make(chan struct{}, 1),
	}
}

func (w *worker) wakeUp() {
	select {
	case w.wake <- struct{}{}:
	default:
	}
}

var errTakenOver = errors.New("another process has taken the job over")

// follow keeps the list of jobs until ctx ends.
func (w *worker) follow(ctx context.Context) error {
	return w.store.Watch(ctx, workPrefix, func(entry store.Entry) {
		w.mu.Lock()
		defer w.mu.Unlock()
		switch {
		case entry.Key == "":
			w.synced = true
		case entry.Value == nil:
			delete(w.jobs, entry.Key)
			return
		default:
			owner, err := ownerOf(entry)
			if err != nil {
				return // of a newer version
			}
			if cancel := w.mine[entry.Key]; cancel != nil && owner != w.id {
				cancel(errTakenOver)
			}
			w.jobs[entry.Key] = &knownJob{entry: entry, owner: owner}
			if owner != "" && owner != w.id {
				return // nothing to do here, as long as that process is alive
			}
		}
		w.wakeUp()
	})
}

// run claims and handles jobs until begin ends, and returns when work has ended
// or all that was begun is done.
func (w *worker) run(begin, work context.Context) {
	slots := make(chan struct{}, w.h.Concurrency)
	var handling sync.WaitGroup
	timer := time.NewTimer(0)
	defer timer.Stop()
	for begin.Err() == nil {
		wait := w.cfg.lease
		for begin.Err() == nil && len(slots) < cap(slots) {
			var j *storedJob
			if j, wait = w.pick(); j == nil {
				break
			}
			slots <- struct{}{}
			w.active.Add(1)
			hung := make(chan struct{}) // closed when no call of the handler is left
			handling.Go(func() { w.handle(begin, work, j, hung) })
			go func() {
				<-hung
				w.active.Add(-1)
				<-slots
				w.wakeUp()
			}()
		}
		timer.Reset(wait)
		select {
		case <-timer.C:
		case <-w.wake:
		case <-begin.Done():
		}
		timer.Stop()
	}
	handling.Wait()
}

// pick returns a job that may be claimed, or how long there is none.
func (w *worker) pick() (*storedJob, time.Duration) {
	w.mu.Lock()
	defer w.mu.Unlock()
	now := time.Now()
	wait := w.cfg.lease
	if !w.synced {
		return nil, wait
	}
	for key, known := range w.jobs { // in random order: processes rarely claim the same
		if w.mine[key] != nil {
			continue
		}
		if known.owner != "" && known.owner != w.id && !w.procs.isDead(known.owner, w.grace()) {
			wait = min(wait, w.grace())
			continue
		}
		if known.job == nil {
			j, err := decodeJob(known.entry)
			if err != nil {
				j = new(storedJob) // of a newer version: nothing to do here
			}
			known.job = j
		}
		i, when := known.job.next(now)
		if i < 0 {
			if !when.IsZero() {
				wait = min(wait, max(when.Sub(now), time.Millisecond))
			}
			continue
		}
		w.mine[key] = func(error) {}
		claimed := *known.job
		claimed.Tasks = slices.Clone(known.job.Tasks)
		return &claimed, 0
	}
	return nil, wait
}

// grace is how long a process is missed before its jobs are taken over. In a
// folder, nobody can be alive but this one.
func (w *worker) grace() time.Duration {
	if w.cfg.Dir != "" {
		return 0
	}
	return w.cfg.lease / 2
}

// handle claims a job and handles its results, one after the other. It closes
// hung when no call of the handler is left.
func (w *worker) handle(begin, work context.Context, j *storedJob, hung chan<- struct{}) {
	ctx, cancel := context.WithCancelCause(work)
	defer cancel(nil)
	w.mu.Lock()
	w.mine[j.key] = cancel
	w.mu.Unlock()
	var calls sync.WaitGroup
	err := w.handleAll(begin, ctx, j, &calls)
	w.mu.Lock()
	delete(w.mine, j.key)
	if known := w.jobs[j.key]; known != nil && (known.entry.Revision < j.revision ||
		known.entry.Revision == j.revision && errors.Is(err, store.ErrConflict)) {
		delete(w.jobs, j.key) // the watch will bring what it is now
	}
	w.mu.Unlock()
	if err != nil && !errors.Is(err, store.ErrConflict) && work.Err() == nil {
		w.log(work, "handling results was interrupted", slog.String("account", j.Account),
			slog.Any("error", err))
	}
	w.wakeUp()
	go func() { calls.Wait(); close(hung) }()
}

func (w *worker) handleAll(begin, ctx context.Context, j *storedJob, calls *sync.WaitGroup) error {
	for {
		i, _ := j.next(time.Now())
		if i < 0 || begin.Err() != nil {
			j.Owner = ""
			return w.saveJob(context.WithoutCancel(ctx), j)
		}
		t := &j.Tasks[i]
		if t.Tries >= w.h.Attempts { // its process died each time
			t.Dead = fmt.Sprintf("given up after %d attempts, in which the process died", t.Tries)
			continue
		}
		j.Owner = w.id
		t.Tries++
		if err := w.saveJob(ctx, j); err != nil {
			return err
		}
		step, ended := w.beginStep(ctx, ricloud.StepInfo{
			Account: j.Account, Step: stepOfResult, Result: t.Result.ID, Attempt: t.Tries,
		})
		err := w.call(step, j, t, calls)
		outcome := w.conclude(ctx, j, t, err)
		ended(ricloud.StepResult{Outcome: outcome, Err: err})
		if outcome == ricloud.StepInterrupted {
			j.Owner = ""
			return errors.Join(err, w.saveJob(context.WithoutCancel(ctx), j))
		}
	}
}

// conclude notes how a call of the handler ended.
func (w *worker) conclude(
	ctx context.Context, j *storedJob, t *task, err error,
) ricloud.StepOutcome {
	switch {
	case err == nil:
		t.Done = true
		return ricloud.StepDone
	case ctx.Err() != nil: // it was the drain or the store that ended it
		t.Tries--
		return ricloud.StepInterrupted
	case t.Tries >= w.h.Attempts:
		t.Dead = bounded(fmt.Sprintf("failed %d times: %v", t.Tries, err))
		w.log(ctx, "a result is given up", slog.String("account", j.Account),
			slog.String("result", string(t.Result.ID)), slog.Any("error", err))
		return ricloud.StepDead
	}
	wait := min(w.h.RetryWait<<min(t.Tries-1, 16), maxRetryWait)
	//nolint:gosec // spreads load, guards nothing
	t.Due = time.Now().UTC().Add(wait/2 + rand.N(wait/2+1))
	w.log(ctx, "a result is tried again later", slog.String("account", j.Account),
		slog.String("result", string(t.Result.ID)), slog.Any("error", err))
	return ricloud.StepAgain
}

var errHung = errors.New("the handler did not return in time, and has not stopped since")

// call hands one result to the handler, within its time.
func (w *worker) call(ctx context.Context, j *storedJob, t *task, calls *sync.WaitGroup) error {
	ctx, cancel := context.WithTimeout(ctx, w.h.Timeout)
	defer cancel()
	r := &Result{Result: t.Result, Account: j.Account, Attempt: t.Tries, client: w.client}
	w.sign(ctx, r)
	ended := make(chan error, 1)
	calls.Go(func() {
		err := w.protected(ctx, r)
		if err == nil {
			err = r.verify(ctx)
		}
		ended <- err
	})
	select {
	case err := <-ended:
		return err
	case <-ctx.Done():
	}
	timer := time.NewTimer(handlerGrace)
	defer timer.Stop()
	select {
	case err := <-ended: // late, but done
		return err
	case <-timer.C:
		return errHung
	}
}

// protected calls the handler and turns its panic into an error.
func (w *worker) protected(ctx context.Context, r *Result) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("the handler panicked: %v", p)
			w.log(ctx, "the handler panicked", slog.String("account", r.Account), slog.Any("panic", p),
				slog.String("stack", string(debug.Stack())))
		}
	}()
	return w.h.Result(ctx, r)
}

// sign gives a result its signed URL, if there is one. Without one, the client
// reads the file with credentials of its own.
func (w *worker) sign(ctx context.Context, r *Result) {
	url, known := w.urls.get(r.Poll, r.ID)
	stale := !url.Expires.IsZero() && time.Now().After(url.Expires)
	if r.Poll != "" && (!known || stale || url.URL == "" && r.Attempt > 1) {
		if poll, err := w.client.Polls.Get(ctx, r.Poll); err == nil { // one request for all its results
			w.urls.add(urlsOf(poll))
			url, known = w.urls.get(r.Poll, r.ID)
		}
	}
	if !known { // more than a poll shows
		if result, err := w.client.Results.Get(ctx, r.ID); err == nil {
			url = signedURL{result.SignedURL.URL.Reveal(), result.SignedURL.DateExpires}
		}
	}
	r.SignedURL = ricloud.SignedURL{URL: ricloud.NewSecret(url.URL), DateExpires: url.Expires}
}
