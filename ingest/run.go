package ingest

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	ricloud "github.com/reincubate/ricloud-go"
	"github.com/reincubate/ricloud-go/ingest/internal/store"
)

// Handlers is what an engine needs from you.
type Handlers struct {
	// Secret returns the password of an account, by its key. It is called
	// before each login, and its result is not stored. A call that takes longer
	// than 30 seconds counts as failed. While 16 such calls have not returned, all
	// logins count as failed, without a call. Required.
	Secret func(ctx context.Context, key string) (ricloud.Secret, error)

	// Result handles one result. When it returns nil, the engine makes sure that
	// the file was read to its end with the right size and MD5, and then
	// acknowledges the result. An error or a panic is retried. It may be called
	// again for a result that it has handled, when a process dies in between:
	// see Result.Key. Calls are concurrent. Required.
	Result func(ctx context.Context, r *Result) error

	// Step, if set, is called after each step of an account, in the process
	// that has made the step. Use it for metrics and traces, or to report that a
	// code is needed. Calls about one account come in order, and the account's
	// next step waits for them, for two minutes at most: it must return soon. While
	// 16 calls have taken longer and have not returned, no more are made.
	Step func(ctx context.Context, key string, step Step)

	// Hooks observe the steps of accounts that this process makes, and its calls of Result. Each
	// must be a ricloud.StepHook; those of the module otel are. A step's calls to the API and its
	// downloads are inside the step, for those who also give the hooks to the client. A hook must
	// return soon, as Step must. The context that it returns does not change when the step ends.
	Hooks []ricloud.Hook

	// Concurrency is how many accounts' results this process handles at a time.
	// Default 8.
	Concurrency int

	// Timeout bounds one call of Result, and then the engine's own reading of what
	// the call has left of the file. Default 10 minutes. A call that does not end
	// with its context counts as failed, and keeps its place in Concurrency until
	// it returns. One that returns nil within 5 seconds after, and has read the
	// whole file, counts as done.
	Timeout time.Duration

	// Attempts is how often Result is tried, with growing pauses, before the
	// account is a dead letter. Default 8. Deaths of the process count. A file
	// that cannot be read, since storage is away or refuses, does not: it is
	// tried for 24 hours.
	Attempts int

	// RetryWait is the pause after the first failed attempt; it doubles with
	// each. Default 5 seconds, at most 10 minutes.
	RetryWait time.Duration

	// Drain is how long Run lets the work in progress continue when its context
	// ends. Default 8 seconds.
	Drain time.Duration

	// Logger, if set, logs failures. Records hold keys and reasons, never a
	// secret. Its handler must not block.
	Logger *slog.Logger
}

func (h Handlers) defaults() (Handlers, error) {
	const run = "Run"
	switch {
	case h.Secret == nil:
		return h, invalid(run, "Handlers.Secret", "is required")
	case h.Result == nil:
		return h, invalid(run, "Handlers.Result", "is required")
	case min(h.Concurrency, h.Attempts) < 0 || min(h.Timeout, h.RetryWait, h.Drain) < 0:
		return h, invalid(run, "Handlers", "must not hold a negative number")
	}
	h.Concurrency = cmp.Or(h.Concurrency, 8)
	h.Timeout = cmp.Or(h.Timeout, 10*time.Minute)
	h.Attempts = cmp.Or(h.Attempts, 8)
	h.RetryWait = cmp.Or(h.RetryWait, 5*time.Second)
	h.Drain = cmp.Or(h.Drain, 8*time.Second)
	return h, nil
}

// runner is one Run.
type runner struct {
	*Engine

	client *ricloud.Client
	h      Handlers
	hooks  []*stepHook
	fatal  func(error) // ends the Run

	stepCalls, secretCalls callback
}

// Run works on the accounts until ctx ends, together with the other processes
// that run: one of them logs in, polls and reads for all, each handles results.
// client must use the Pacer of this Engine.
//
// When ctx ends, Run begins nothing more. It lets the work in progress continue
// for Handlers.Drain, and returns nil. Another process, or the next Run,
// continues from there. Run returns an error if the API refuses the token or the
// store fails, which that in a folder does when the disk is full.
func (e *Engine) Run(ctx context.Context, client *ricloud.Client, h Handlers) error {
	h, err := h.defaults()
	if err != nil {
		return err
	}
	h.Secret = e.passwords.remembering(h.Secret)
	if client == nil {
		return invalid("Run", "client", "is required")
	}
	hooks, err := stepHooks(h.Hooks)
	if err != nil {
		return err
	}
	if !e.running.CompareAndSwap(false, true) {
		return errors.New("ingest: Run: it runs already")
	}
	defer e.running.Store(false)
	if e.closed.Load() {
		return storeError("Run", store.ErrClosed)
	}

	// Two contexts: begin ends at once, work lives through the drain.
	begin, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	work, stop := context.WithCancelCause(context.WithoutCancel(ctx))
	defer stop(nil)
	r := &runner{Engine: e, client: client, h: h, hooks: hooks, fatal: cancel}
	r.stepCalls.name, r.secretCalls.name = "Handlers.Step", "Handlers.Secret"
	w := newWorker(r)

	var followers, workers sync.WaitGroup
	follow := func(name string, fn func(context.Context) error) {
		followers.Go(func() {
			for work.Err() == nil {
				if err := fn(work); err != nil && work.Err() == nil {
					r.log(work, "following failed", slog.String("what", name), slog.Any("error", err))
				}
				_ = sleep(work, storeRetry)
			}
		})
	}
	follow("events", r.notifyWaits)
	follow("questions", r.answerAlive)
	followers.Go(func() { w.recheck(work) })
	workers.Go(func() { w.run(begin, work) })
	workers.Go(func() { r.campaign(begin, work) })

	select {
	case <-e.stopped:
		cancel(errStopped)
	case <-begin.Done():
	}
	drained := make(chan struct{})
	go func() { workers.Wait(); close(drained) }()
	timer := time.NewTimer(h.Drain)
	defer timer.Stop()
	select {
	case <-drained:
	case <-timer.C:
		stop(errDrained)
		<-drained
	}
	stop(nil)
	followers.Wait()
	if ctx.Err() == nil {
		return fmt.Errorf("ingest: Run: %w", context.Cause(begin))
	}
	return nil
}

const (
	waitsLook  = time.Second      // how often to look whether the client waits
	waitsBack  = 10 * time.Second // how far back events may help a wait; more than clocks differ
	waitsQuiet = time.Minute      // events are followed for so long after the last wait
)

// notifyWaits gives events to the waits of the client, until ctx ends. Most processes have no wait
// of their own, and to be sent every event costs more than anything else they do. So events are
// followed only while the client waits.
func (r *runner) notifyWaits(ctx context.Context) error {
	for sleep(ctx, waitsLook) == nil {
		if r.client.Stats().Waits == 0 {
			continue
		}
		if err := r.notifyWhileWaiting(ctx); err != nil {
			return err
		}
	}
	return nil
}

func (r *runner) notifyWhileWaiting(ctx context.Context) (err error) {
	ctx, cancel := context.WithCancel(ctx)
	var following sync.WaitGroup
	following.Go(func() {
		defer cancel()
		err = r.followEvents(ctx, time.Now().Add(-waitsBack), r.client.Notify)
	})
	for last := time.Now(); time.Since(last) < waitsQuiet && sleep(ctx, waitsLook) == nil; {
		if r.client.Stats().Waits > 0 {
			last = time.Now()
		}
	}
	cancel()
	following.Wait()
	return err
}

var (
	errStopped = errors.New("the store takes no more writes; is the disk full? Restart the process " +
		"when there is room")
	errDraining = errors.New("ingest: nothing is begun any more")
	errDrained  = errors.New("ingest: the time to drain is over")
)

func (r *runner) log(ctx context.Context, msg string, attrs ...slog.Attr) {
	if r.h.Logger != nil {
		defer func() { _ = recover() }() // of its handler, which cannot be told of it
		//nolint:sloglint // the callers' messages are constants
		r.h.Logger.LogAttrs(ctx, slog.LevelWarn, "ingest: "+msg, attrs...)
	}
}

// campaign leads whenever no other process does, until begin ends.
func (r *runner) campaign(begin, work context.Context) {
	free := make(chan struct{}, 1)
	watch, cancel := context.WithCancel(work)
	var watching sync.WaitGroup
	watching.Go(func() {
		for watch.Err() == nil {
			err := r.store.Watch(watch, leasePrefix, func(e store.Entry) {
				if e.Key == leaderKey && e.Value == nil {
					select {
					case free <- struct{}{}:
					default:
					}
				}
			})
			if errors.Is(err, store.ErrClosed) { // the connection is given up
				r.fatal(err)
			}
			_ = sleep(watch, storeRetry)
		}
	})
	defer func() { cancel(); watching.Wait() }()
	for begin.Err() == nil {
		l := lease{engine: r.Engine, key: leaderKey}
		if l.renew(work, r.self()) {
			r.leads.Store(true)
			failed := r.lead(begin, work, &l)
			r.leads.Store(false)
			l.release(work)
			if failed {
				_ = sleep(begin, storeRetry) // let another try
			}
		} else {
			r.noteFull(work, l.err)
		}
		timer := time.NewTimer(r.cfg.lease / 3)
		select {
		case <-free:
		case <-timer.C:
		case <-begin.Done():
		}
		timer.Stop()
	}
}
