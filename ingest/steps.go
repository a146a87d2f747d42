package ingest

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"runtime/debug"
	"time"

	ricloud "github.com/reincubate/ricloud-go"
	"github.com/reincubate/ricloud-go/ingest/internal/store"
)

const (
	firstRetry    = 2 * time.Second
	lastRetry     = 5 * time.Minute
	giveUp        = 24 * time.Hour  // a step that keeps failing for so long
	lookAgain     = 5 * time.Second // for what a create may have made
	looks         = 2               // in a row that must find nothing, at least
	clockSkew     = 10 * time.Minute
	maxCodes      = ricloud.MaxCodeAttempts
	secretTimeout = 30 * time.Second

	maxExpired = 5 // sessions in a row that expired before they were used

	// After a create that was not made after all, as when the API is read-only, there is a pause. That
	// of a login grows fourfold, since each could prompt the account's owner if the lists were wrong.
	unmadePause = 30 * time.Second
	maxLogins   = 7   // in a row that were not made: eleven hours
	maxRequests = 300 // polls or subscriptions: a day
)

// giveUpError ends the attempts of an account: a person decides.
type giveUpError struct {
	reason string
	back   State // where Retry goes
}

func (e *giveUpError) Error() string { return e.reason }

// dead makes a giveUpError.
func dead(back State, format string, args ...any) error {
	return &giveUpError{fmt.Sprintf(format, args...), back}
}

// step makes the next step of an account, plans its repetition if it fails, and
// returns the revision of what it wrote.
func (l *leader) step(ctx context.Context, it *item, s seen) uint64 {
	entry, err := l.store.Get(ctx, accountPrefix+it.key)
	if err != nil {
		_ = sleep(ctx, storeRetry)
		l.restore(it, s)
		return 0
	}
	r, err := decodeRecord(entry)
	if err != nil { // of a newer version, or damaged: it waits until it is written anew
		l.log(ctx, "an account is left alone", slog.String("account", it.key), slog.Any("error", err))
		l.leave(it)
		return 0
	}
	if s.code != nil && r.State != CodeNeeded { // another one was first
		s.code.used <- fmt.Errorf("%s is %s: no code is wanted now", r.Account.Key, r.State)
		s.code = nil
	}
	ctx, ended := l.beginStep(ctx, ricloud.StepInfo{Account: r.Account.Key, Step: string(r.State)})
	err = masked(l.tryAdvance(ctx, r, s), l.passwords.get(r.Account.Key))
	if s.code != nil {
		s.code.used <- err // it has room for one
	}
	l.conclude(ctx, it, r, s, err)
	r.waitTold()
	ended(outcomeOf(ctx, r.State, err))
	return r.revision
}

// leave makes no more steps of an account until its record changes.
func (l *leader) leave(it *item) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.unlink(it)
	it.state = ""
}

// conclude plans the repetition of a step that failed.
func (l *leader) conclude(ctx context.Context, it *item, r *stored, s seen, err error) {
	switch {
	case err == nil, isInterrupted(ctx, err):
		return
	case errors.Is(err, ricloud.ErrUnauthorized):
		l.fatal(err)
		return
	}
	again := l.failed(ctx, r, err)
	l.noteFull(ctx, errors.Join(err, again))
	if again != nil && !errors.Is(again, store.ErrConflict) {
		_ = sleep(ctx, storeRetry)
	}
	l.restore(it, s)
}

// restore puts back what a step has seen and could not use.
func (l *leader) restore(it *item, s seen) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if it.news().session == nil {
		it.seen.session = s.session
	}
	it.seen.polls = append(it.seen.polls, s.polls...)
	it.seen.closed = it.seen.closed || s.closed
}

// failed plans another attempt of a step, or makes a dead letter.
func (l *leader) failed(ctx context.Context, r *stored, err error) error {
	end, final := errors.AsType[*giveUpError](err)
	now := time.Now().UTC()
	if r.Failures++; r.FailingSince.IsZero() {
		r.FailingSince = now
	}
	// A full store says nothing of the account: it waits for room, however long.
	tooLong := now.Sub(r.FailingSince) > giveUp && !errors.Is(err, store.ErrFull)
	if !final && isFinal(err) || tooLong {
		end, final = &giveUpError{err.Error(), r.State}, true
	}
	if final {
		r.Back, r.Reason = end.back, bounded(err.Error())
		l.log(ctx, "an account is a dead letter", slog.String("account", r.Account.Key),
			slog.String("reason", r.Reason))
		return l.saveStep(ctx, r, Dead, err.Error())
	}
	r.Due = now.Add(min(firstRetry<<min(r.Failures-1, 16), lastRetry))
	r.Reason = bounded(err.Error())
	return l.saveStep(ctx, r, r.State, fmt.Sprintf("failure %d: %s", r.Failures, err))
}

// isFinal reports whether another attempt would end the same: the API has
// refused this account, not the caller or the moment. An answer without the
// API's code is the page of a proxy.
func isFinal(err error) bool {
	if _, ok := errors.AsType[*ricloud.ParamError](err); ok {
		return true
	}
	answer, ok := errors.AsType[*ricloud.Error](err)
	return ok && answer.Code != "" && answer.StatusCode >= 400 && answer.StatusCode < 500 &&
		!errors.Is(err, ricloud.ErrRateLimited) && !errors.Is(err, ricloud.ErrUnconfigured) &&
		answer.StatusCode != http.StatusRequestTimeout
}

// isGone reports whether the API says that something is not there. A proxy's page
// with 404 says nothing.
func isGone(err error) bool {
	answer, ok := errors.AsType[*ricloud.Error](err)
	return ok && answer.Code != "" && errors.Is(err, ricloud.ErrNotFound)
}

// saveStep writes a record that came to a state.
func (l *leader) saveStep(ctx context.Context, r *stored, state State, note string) error {
	return l.saveAndTell(ctx, ctx, r, state, note)
}

// saveMade is saveStep after a request that may have been applied: it is written down however ctx
// ended.
func (l *leader) saveMade(ctx context.Context, r *stored, state State, note string) error {
	save, cancel := outliving(ctx)
	defer cancel()
	return l.saveAndTell(save, ctx, r, state, note)
}

func (l *leader) saveAndTell(
	save, tell context.Context, r *stored, state State, note string,
) error {
	step := r.step(l.id, state, note)
	if err := l.save(save, r); err != nil {
		return err
	}
	l.tell(tell, r, step)
	r.waitTold()
	return nil
}

// tell calls Handlers.Step, after its earlier calls about the account, and does not wait for it.
func (l *leader) tell(ctx context.Context, r *stored, step Step) {
	if l.h.Step == nil {
		return
	}
	r.waitTold()
	key := r.Account.Key
	wait := call(ctx, l.runner, &l.stepCalls, observeTimeout, func() any {
		l.h.Step(ctx, key, step)
		return nil
	})
	r.told = func() { _, _ = wait() }
}

// waitTold waits for the calls of Handlers.Step about the account, unless they take too long.
func (r *stored) waitTold() {
	if r.told != nil {
		r.told()
		r.told = nil
	}
}

// progress forgets earlier failures.
func (r *record) progress() {
	r.Failures, r.Reason, r.Looks, r.Unmade = 0, "", 0, 0
	r.FailingSince, r.Due, r.Begun = time.Time{}, time.Time{}, time.Time{}
}

// tryAdvance is advance, and turns a panic into an error. Its value is not told: it may hold a
// secret.
func (l *leader) tryAdvance(ctx context.Context, r *stored, s seen) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("the step panicked with a %T", p)
			l.log(ctx, "a step panicked", slog.String("account", r.Account.Key),
				slog.String("stack", string(debug.Stack())))
		}
	}()
	return l.advance(ctx, r, s)
}

func (l *leader) advance(ctx context.Context, r *stored, s seen) error {
	switch r.State {
	case Submitted:
		return l.login(ctx, r, ricloud.NewSecret(""))
	case CodeNeeded:
		if s.code == nil {
			return nil
		}
		return l.login(ctx, r, s.code.code)
	case LoggingIn:
		return l.findLogin(ctx, r)
	case Connecting:
		switch {
		case s.session == nil && s.odd != "":
			return errors.New(s.odd) // after a day, a person looks
		case s.session == nil || s.session.ID != r.Session:
			return nil
		}
		return l.connected(ctx, r, s.session)
	case Connected:
		return l.request(ctx, r)
	case Requesting:
		return l.findRequest(ctx, r)
	case Polling, Subscribed, Handling:
		if r.State == Polling && len(s.polls) == 0 && s.odd != "" {
			return errors.New(s.odd) // as above
		}
		return l.results(ctx, r, s)
	case Done, Dead:
	}
	return nil
}

// turn waits until one request may be sent, and returns the context to send it with.
func (l *leader) turn(ctx context.Context) (context.Context, error) {
	waiting, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	stop := l.onEnd(func() { cancel(errDraining) })
	defer stop()
	if err := l.pacer.Wait(waiting, ricloud.Foreground); err != nil {
		return nil, err
	}
	return withTurn(ctx), nil
}

// begin waits for the turn of a create, writes down that it is about to be sent,
// and returns the context to send it with. Nothing waits between the turn and the
// request. So a create may have been sent if the record is in this state, and was
// not sent if it is in another.
func (l *leader) begin(
	ctx context.Context, r *stored, state State, note string,
) (context.Context, context.CancelFunc, error) {
	r.waitTold()
	ctx, err := l.turn(ctx)
	if err != nil {
		return nil, nil, err
	}
	before := r.copy()
	r.Begun, r.Due = time.Now().UTC(), time.Time{}
	sent := r.Begun.Add(createTimeout)
	step := r.step(l.id, state, note)
	if err := l.save(ctx, r); err != nil {
		r.record = before // nothing was sent
		return nil, nil, err
	}
	defer l.tell(ctx, r, step) // while the request is under way
	if !l.holds() {
		return nil, nil, errLeaseLost // the next leader finds that nothing was made
	}
	ctx, cancel := context.WithDeadline(ctx, sent)
	return ctx, cancel, nil
}

// mayBeApplied reports whether a create may have happened although it failed.
func mayBeApplied(err error) bool {
	call, ok := errors.AsType[*ricloud.CallError](err)
	if ok {
		return call.MaybeApplied()
	}
	if answer, ok := errors.AsType[*ricloud.Error](err); ok && answer.Code == "" {
		return true // the page of a proxy, which may stand for any answer
	}
	_, decode := errors.AsType[*ricloud.DecodeError](err)
	return decode || errors.Is(err, ricloud.ErrServer)
}

// unknown writes down that a create has ended, its outcome unknown.
func (l *leader) unknown(ctx context.Context, r *stored, err error) error {
	r.Due = time.Now().UTC().Add(lookAgain / 2)
	r.Reason = bounded(err.Error())
	return l.saveMade(ctx, r, r.State, "outcome not known: "+err.Error())
}

// loginPause returns how long to wait after a number of logins in a row that were not made.
func loginPause(unmade int) time.Duration {
	return unmadePause << (2 * min(max(unmade-1, 0), maxLogins))
}

// notFound goes back to before a create that was not made after all, once
// enough looks have found nothing.
func (l *leader) notFound(ctx context.Context, r *stored, back State, what string) error {
	r.Failures, r.FailingSince, r.Reason = 0, time.Time{}, "" // it could look
	now := time.Now().UTC()
	if r.Looks++; r.Looks < looks || now.Sub(r.Begun) < settleTime { // lists can lag behind a create
		r.Due = now.Add(lookAgain << (r.Looks - 1))
		return l.saveStep(ctx, r, r.State, "no "+what+" found; looks once more")
	}
	r.Begun, r.Looks = time.Time{}, 0
	most, pause := maxRequests, min(unmadePause<<min(r.Unmade, 8), lastRetry)
	if back == Submitted {
		most, pause = maxLogins, loginPause(r.Unmade+1)
	}
	if r.Unmade++; r.Unmade >= most {
		return dead(back, "%d times in a row, the outcome of a %s was not known and nothing was found",
			most, what)
	}
	r.Due = now.Add(pause)
	if back == Submitted && r.Codes > 0 {
		back, r.Due = CodeNeeded, time.Time{} // the code is not kept
	}
	return l.saveStep(ctx, r, back, "no "+what+" was made")
}
