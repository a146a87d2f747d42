package ingest

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"math/rand/v2"
	"net"
	"net/http"
	"runtime/debug"
	"slices"
	"sync"
	"time"

	ricloud "github.com/reincubate/ricloud-go"
	"github.com/reincubate/ricloud-go/ingest/internal/store"
)

const (
	maxRetryWait = 10 * time.Minute
)

// worker handles results in this process, whoever leads.
type worker struct {
	*runner

	mu   sync.Mutex
	mine map[string]context.CancelCauseFunc // jobs that are handled here
}

func newWorker(r *runner) *worker {
	return &worker{runner: r, mine: map[string]context.CancelCauseFunc{}}
}

var errTakenOver = errors.New("another process has taken the job over")

// run asks for jobs and handles them until begin ends, and returns when work has ended
// or all that was begun is done.
func (w *worker) run(begin, work context.Context) {
	slots := make(chan struct{}, w.h.Concurrency)
	var handling sync.WaitGroup
	defer handling.Wait()
	for begin.Err() == nil {
		select {
		case slots <- struct{}{}:
		case <-begin.Done():
			return
		}
		j := w.request(begin)
		if j == nil {
			<-slots
			continue
		}
		w.active.Add(1)
		hung := make(chan struct{}) // closed when no call of the handler is left
		handling.Go(func() { w.handle(begin, work, j, hung) })
		go func() {
			<-hung
			w.active.Add(-1)
			<-slots
		}()
	}
}

// request asks the leader for a job. It returns nil when there is none for a while.
func (w *worker) request(begin context.Context) *storedJob {
	w.mu.Lock()
	question, err := json.Marshal(workRequest{w.id, slices.Collect(maps.Keys(w.mine))})
	w.mu.Unlock()
	if err != nil {
		return nil
	}
	ctx, cancel := context.WithTimeout(begin, 2*w.cfg.lease)
	defer cancel()
	answer, err := w.store.Ask(ctx, workSubject, question)
	if err != nil { // nobody leads at the moment
		_ = sleep(begin, w.cfg.lease/10)
		return nil
	}
	head, urls, _ := bytes.Cut(answer, []byte{'\n'})
	var given assignment
	if json.Unmarshal(head, &given) != nil {
		return nil
	}
	w.urls.addEncoded(urls)
	entry, err := w.store.Get(ctx, given.Key)
	if err != nil || entry.Revision != given.Revision {
		return nil
	}
	j, err := decodeJob(entry)
	if err != nil {
		return nil // of a newer version
	}
	if j.isNew() {
		if old, err := w.isOld(ctx, j); err != nil || old {
			return nil
		}
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.mine[j.key] != nil {
		return nil
	}
	w.mine[j.key] = func(error) {}
	return j
}

// isOld removes a job whose poll is closed: a process that led, and was stopped for a while, has
// made it after its successor had made, handled and removed the same.
func (w *worker) isOld(ctx context.Context, j *storedJob) (bool, error) {
	r, err := w.load(ctx, j.Account)
	switch {
	case errors.Is(err, ricloud.ErrNotFound):
	case err != nil:
		return false, err
	case !slices.Contains(r.Closed, j.Poll):
		return false, nil
	}
	return true, w.store.Remove(ctx, j.key, j.revision)
}

// recheck cancels the jobs that others have taken over while this process was silent, until ctx
// ends.
func (w *worker) recheck(ctx context.Context) {
	for {
		select {
		case <-w.lapsed:
		case <-ctx.Done():
			return
		}
		w.mu.Lock()
		mine := maps.Clone(w.mine)
		w.mu.Unlock()
		for key, cancel := range mine {
			entry, err := w.store.Get(ctx, key)
			if err != nil && !errors.Is(err, store.ErrNotFound) {
				continue // saving the job will tell
			}
			var j job
			if err != nil || json.Unmarshal(entry.Value, &j) == nil && j.Owner != w.id {
				cancel(errTakenOver)
			}
		}
	}
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
	err := w.handleAll(begin, work, ctx, j, &calls)
	w.mu.Lock()
	delete(w.mine, j.key)
	w.mu.Unlock()
	if err != nil && !errors.Is(err, store.ErrConflict) && work.Err() == nil {
		w.log(work, "handling results was interrupted", slog.String("account", j.Account),
			slog.Any("error", err))
	}
	go func() { calls.Wait(); close(hung) }()
}

// handleAll handles the results of a job that are due. Its calls end with ctx. What came of them is
// written down however ctx ended: the job's revision tells whether it is another's by now.
func (w *worker) handleAll(
	begin, work, ctx context.Context, j *storedJob, calls *sync.WaitGroup,
) error {
	for {
		i, _ := j.next(time.Now())
		if i < 0 || begin.Err() != nil {
			j.Owner = ""
			return w.note(work, j)
		}
		t := &j.Tasks[i]
		if t.Tries >= w.h.Attempts { // its process died each time
			t.Dead = fmt.Sprintf("given up after %d attempts, in which the process died", t.Tries)
			t.Why = ""
			continue
		}
		j.Owner = w.id
		t.Tries++
		if err := w.note(work, j); err != nil {
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
			return errors.Join(err, w.note(work, j))
		}
	}
}

// note saves a job as long as work lasts, and then once more: no outage of the store is a reason to
// forget that a result was handled.
func (w *worker) note(work context.Context, j *storedJob) error {
	for work.Err() == nil {
		ctx, cancel := context.WithTimeout(work, giveUp)
		err := w.saveJob(ctx, j)
		cancel()
		switch {
		case err == nil:
			return nil
		case errors.Is(err, store.ErrConflict), errors.Is(err, store.ErrTooLarge),
			errors.Is(err, store.ErrClosed):
			return err
		}
		w.noteFull(work, err)
		_ = sleep(work, w.cfg.lease/10)
	}
	ctx, cancel := outliving(work)
	defer cancel()
	return w.saveJob(ctx, j)
}

// conclude notes how a call of the handler ended.
func (w *worker) conclude(
	ctx context.Context, j *storedJob, t *task, err error,
) ricloud.StepOutcome {
	switch {
	case err == nil:
		t.Done, t.Why = true, ""
		return ricloud.StepDone
	case ctx.Err() != nil: // it was the drain or the store that ended it
		t.Tries--
		return ricloud.StepInterrupted
	case isAway(err) && !t.isLongAway():
		t.Why = shortened(err.Error(), maxDead)
		t.Tries-- // it was not the handler that failed
		t.Due = time.Now().UTC().Add(w.pause(t.Away))
		t.Away++
		w.log(ctx, "storage does not answer", slog.String("account", j.Account),
			slog.String("result", string(t.Result.ID)), slog.Any("error", err))
		return ricloud.StepAgain
	case isAway(err), t.Tries >= w.h.Attempts:
		t.Why = ""
		t.Dead = shortened(fmt.Sprintf("failed %d times: %v", t.Tries, err), maxDead)
		if isAway(err) {
			t.Dead = shortened(fmt.Sprintf("its file could not be read for %s: %v", giveUp, err), maxDead)
		}
		w.log(ctx, "a result is given up", slog.String("account", j.Account),
			slog.String("result", string(t.Result.ID)), slog.Any("error", err))
		return ricloud.StepDead
	}
	t.Why = shortened(err.Error(), maxDead)
	t.Due, t.Away, t.Since = time.Now().UTC().Add(w.pause(t.Tries-1)), 0, time.Time{}
	w.log(ctx, "a result is tried again later", slog.String("account", j.Account),
		slog.String("result", string(t.Result.ID)), slog.Any("error", err))
	return ricloud.StepAgain
}

// pause returns how long to wait after a number of earlier failures.
func (w *worker) pause(earlier int) time.Duration {
	wait := min(w.h.RetryWait<<min(earlier, 16), maxRetryWait)
	return wait/2 + rand.N(wait/2+1) //nolint:gosec // spreads load, guards nothing
}

// isAway reports whether a file could not be read, whoever read it, for a reason that says nothing
// about the file: storage does not answer or lets nobody in, the signed URL has expired, or the API
// does not renew it. That may pass. A call whose own time is over says nothing about the storage.
func isAway(err error) bool {
	if errors.Is(err, errLate) {
		return false
	}
	if answer, ok := errors.AsType[*ricloud.StorageError](err); ok {
		switch answer.StatusCode {
		case http.StatusBadRequest, http.StatusUnauthorized, http.StatusForbidden, // as for an old URL
			http.StatusTooManyRequests, http.StatusRequestTimeout:
			return true
		}
		return answer.StatusCode >= 500
	}
	if _, download := errors.AsType[*ricloud.DownloadError](err); !download {
		return false
	}
	if answer, ok := errors.AsType[*ricloud.Error](err); ok {
		return !isFinal(answer) || errors.Is(answer, ricloud.ErrUnauthorized)
	}
	_, call := errors.AsType[*ricloud.CallError](err)
	_, network := errors.AsType[net.Error](err)
	return call || network || errors.Is(err, ricloud.ErrNoStorage) ||
		errors.Is(err, context.DeadlineExceeded) || errors.Is(err, io.ErrUnexpectedEOF)
}

// isLongAway reports whether storage has not answered for so long that it counts.
func (t *task) isLongAway() bool {
	if t.Since.IsZero() {
		t.Since = time.Now().UTC()
	}
	return time.Since(t.Since) > giveUp
}

var (
	errLate  = errors.New("the handler did not return in time")
	errHung  = fmt.Errorf("%w, and has not stopped since", errLate)
	errEnded = errors.New("the handler ended its goroutine")
)

// call hands one result to the handler, within its time, and then reads what the handler has left
// of the file, within a time of its own. A handler that has returned nil is not called again
// because the file could not be read then.
func (w *worker) call(work context.Context, j *storedJob, t *task, calls *sync.WaitGroup) error {
	ctx, cancel := context.WithTimeout(work, w.h.Timeout)
	defer cancel()
	password := w.passwords.get(j.Account)
	r := &Result{Result: t.Result, Account: j.Account, Attempt: t.Tries}
	w.sign(ctx, r)
	own := &ownResult{result: r.Result, client: w.client}
	r.own = own
	url := r.SignedURL.URL
	var err error
	late := false
	if !t.Handled {
		ended := make(chan error, 1)
		calls.Go(func() {
			err := errEnded // by runtime.Goexit, as tests do that fail
			defer func() { ended <- err }()
			err = w.protected(ctx, r, url, password)
		})
		err = w.outcome(ctx, ended)
		late = ctx.Err() != nil && work.Err() == nil
	}
	switch {
	case err == nil && own.verified.Load(): // even if late: it is done
		return nil
	case late && err == nil:
		return fmt.Errorf("%w, and has not read the file to its end", errLate)
	case late && !errors.Is(err, errLate):
		err = fmt.Errorf("%w: %w", errLate, err)
	case err == nil:
		rest, stop := context.WithTimeout(work, w.h.Timeout)
		defer stop()
		err = own.verify(rest)
		t.Handled = isAway(err) || work.Err() != nil // else the file is not what the handler was given
	}
	return masked(err, url, password)
}

// outcome returns what a call of the handler returns, until a moment after its context has ended.
func (w *worker) outcome(ctx context.Context, ended <-chan error) error {
	select {
	case err := <-ended:
		return err
	case <-ctx.Done():
	}
	timer := time.NewTimer(callbackGrace)
	defer timer.Stop()
	select {
	case err := <-ended:
		return err
	case <-timer.C:
		return errHung
	}
}

// protected calls the handler and turns its panic into an error.
func (w *worker) protected(
	ctx context.Context, r *Result, secrets ...ricloud.Secret,
) (err error) {
	account := r.Account
	defer func() {
		if p := recover(); p != nil {
			said := maskedText(fmt.Sprint(p), secrets...)
			err = fmt.Errorf("the handler panicked: %s", said)
			w.log(ctx, "the handler panicked", slog.String("account", account),
				slog.String("panic", said), slog.String("stack", string(debug.Stack())))
		}
	}()
	if err = w.h.Result(ctx, r); err != nil {
		_, _ = err.Error(), isAway(err) // its methods are the handler's: they are to panic here
	}
	return err
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
			url = urlOf(result)
		}
	}
	r.SignedURL = ricloud.SignedURL{URL: ricloud.NewSecret(url.URL), DateExpires: url.Expires}
}
