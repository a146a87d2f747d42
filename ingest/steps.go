package ingest

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"slices"
	"strings"
	"time"

	ricloud "github.com/reincubate/ricloud-go"
	"github.com/reincubate/ricloud-go/ingest/internal/store"
)

const (
	firstRetry = 2 * time.Second
	lastRetry  = 5 * time.Minute
	giveUp     = 24 * time.Hour  // a step that keeps failing for so long
	lookAgain  = 5 * time.Second // for what a create may have made
	looks      = 2               // in a row that must find nothing, at least
	clockSkew  = 10 * time.Minute
	maxCodes   = ricloud.MaxCodeAttempts
	maxUnknown = 5 // logins in a row that were not made after all
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
	if err != nil {
		return 0
	}
	ctx, ended := l.beginStep(ctx, ricloud.StepInfo{Account: r.Account.Key, Step: string(r.State)})
	err = l.advance(ctx, r, s)
	if s.code != nil {
		s.code.used <- err // it has room for one
	}
	l.conclude(ctx, it, r, s, err)
	ended(outcomeOf(ctx, r.State, err))
	return r.revision
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
	if err := l.failed(ctx, r, err); err != nil && !errors.Is(err, store.ErrConflict) {
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
	if !final && isFinal(err) || now.Sub(r.FailingSince) > giveUp {
		end, final = &giveUpError{err.Error(), r.State}, true
	}
	if final {
		r.Back, r.Reason = end.back, bounded(end.reason)
		l.log(ctx, "an account is a dead letter", slog.String("account", r.Account.Key),
			slog.String("reason", r.Reason))
		return l.saveStep(ctx, r, Dead, end.reason)
	}
	r.Due = now.Add(min(firstRetry<<min(r.Failures-1, 16), lastRetry))
	r.Reason = bounded(err.Error())
	return l.saveStep(ctx, r, r.State, fmt.Sprintf("failure %d: %s", r.Failures, err))
}

// isFinal reports whether another attempt would end the same: the API has
// refused this account, not the caller or the moment.
func isFinal(err error) bool {
	if _, ok := errors.AsType[*ricloud.ParamError](err); ok {
		return true
	}
	answer, ok := errors.AsType[*ricloud.Error](err)
	return ok && answer.StatusCode >= 400 && answer.StatusCode < 500 &&
		!errors.Is(err, ricloud.ErrRateLimited) && !errors.Is(err, ricloud.ErrUnconfigured) &&
		answer.StatusCode != http.StatusRequestTimeout
}

// saveStep writes a record that came to a state.
func (l *leader) saveStep(ctx context.Context, r *stored, state State, note string) error {
	step := r.step(l.id, state, note)
	if err := l.save(ctx, r); err != nil {
		return err
	}
	if l.h.Step != nil {
		l.h.Step(ctx, r.Account.Key, step)
	}
	return nil
}

// progress forgets earlier failures.
func (r *record) progress() {
	r.Failures, r.Reason, r.Looks, r.Unmade = 0, "", 0, 0
	r.FailingSince, r.Due, r.Begun = time.Time{}, time.Time{}, time.Time{}
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
		if s.session == nil || s.session.ID != r.Session {
			return nil
		}
		return l.connected(ctx, r, s.session)
	case Connected:
		return l.request(ctx, r)
	case Requesting:
		return l.findRequest(ctx, r)
	case Polling, Subscribed, Handling:
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

// begin has the turn for a create, writes down that it is about to be sent, and
// returns the context to send it with. Between the two nothing is waited for, so
// a record in this state may have been sent, and one that is not was not.
func (l *leader) begin(
	ctx context.Context, r *stored, state State, note string,
) (context.Context, context.CancelFunc, error) {
	ctx, err := l.turn(ctx)
	if err != nil {
		return nil, nil, err
	}
	r.Begun, r.Due = time.Now().UTC(), time.Time{}
	sent := r.Begun.Add(createTimeout)
	if err := l.saveStep(ctx, r, state, note); err != nil {
		return nil, nil, err
	}
	if !l.holds() {
		return nil, nil, errLeaseLost // the next leader finds that nothing was made
	}
	ctx, cancel := context.WithDeadline(ctx, sent)
	return ctx, cancel, nil
}

// login logs in to an account.
func (l *leader) login(ctx context.Context, r *stored, code ricloud.Secret) error {
	if r.User == "" {
		turn, err := l.turn(ctx)
		if err != nil {
			return err
		}
		user, err := l.client.Users.Create(turn, ricloud.UserCreateParams{Identifier: r.Account.Key})
		if err != nil {
			return err
		}
		r.User = user.ID
	}
	password, err := l.h.Secret(ctx, r.Account.Key)
	if err != nil {
		return fmt.Errorf("Handlers.Secret: %w", err)
	}
	note := ""
	if !code.IsZero() {
		r.Codes++
		note = fmt.Sprintf("with code %d", r.Codes)
	}
	from := r.State
	create, cancel, err := l.begin(ctx, r, LoggingIn, note)
	if err != nil {
		return err
	}
	defer cancel()
	source := r.Account.Source
	source.User = r.User
	session, err := l.client.Sessions.Create(create, ricloud.SessionCreateParams{
		Source: source, Payload: ricloud.SessionPayload{Password: password, Code: code},
	})
	if mayBeApplied(err) {
		return l.unknown(ctx, r, err)
	}
	if err != nil {
		r.State = from
		return err
	}
	return l.adopt(ctx, r, session, "")
}

// mayBeApplied reports whether a create may have happened although it failed.
func mayBeApplied(err error) bool {
	call, ok := errors.AsType[*ricloud.CallError](err)
	if ok {
		return call.MaybeApplied()
	}
	_, decode := errors.AsType[*ricloud.DecodeError](err)
	return decode || errors.Is(err, ricloud.ErrServer)
}

// unknown writes down that a create has ended, its outcome unknown.
func (l *leader) unknown(ctx context.Context, r *stored, err error) error {
	r.Due = time.Now().UTC().Add(lookAgain / 2)
	r.Reason = bounded(err.Error())
	return l.saveStep(context.WithoutCancel(ctx), r, r.State, "outcome not known: "+err.Error())
}

// adopt takes a session for the account's.
func (l *leader) adopt(
	ctx context.Context, r *stored, session *ricloud.Session, note string,
) error {
	r.progress()
	r.Session = session.ID
	r.Known = append(r.Known, session.ID)
	if session.State.Ended() {
		r.State = Connecting
		return l.connected(ctx, r, session)
	}
	return l.saveStep(context.WithoutCancel(ctx), r, Connecting, note)
}

// findLogin looks for the session of a login whose outcome is not known.
func (l *leader) findLogin(ctx context.Context, r *stored) error {
	session, err := l.findSession(ctx, r)
	if err != nil {
		if isFinal(err) {
			return dead(Submitted, "a login was begun, and whether it was made cannot be found out: %v; "+
				"look for a session of the account, then Retry, which logs in again", err)
		}
		return err
	}
	if session != nil {
		return l.adopt(ctx, r, session, "found after a login of unknown outcome")
	}
	return l.notFound(ctx, r, Submitted, "login")
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
	r.Begun, r.Due, r.Looks = time.Time{}, time.Time{}, 0
	if r.Unmade++; r.Unmade >= maxUnknown {
		return dead(back, "%d times in a row, the outcome of a %s was not known and nothing was found",
			maxUnknown, what)
	}
	if back == Submitted && r.Codes > 0 {
		back = CodeNeeded // the code is not kept
	}
	return l.saveStep(ctx, r, back, "no "+what+" was made")
}

// findSession returns the newest session of the account that was made since the
// login was begun and is not known yet, or nil.
func (l *leader) findSession(ctx context.Context, r *stored) (*ricloud.Session, error) {
	var newest *ricloud.Session
	want := r.Account.Source
	turn, err := l.turn(ctx)
	if err != nil {
		return nil, err
	}
	for source, err := range l.client.Sources.All(turn, ricloud.SourceListParams{User: r.User}) {
		if err != nil {
			return nil, err
		}
		if source.Type != want.Type || !sameIdentifier(source.Identifier, want.Identifier) {
			continue
		}
		page, err := l.client.Sessions.List(ctx, ricloud.SessionListParams{Source: source.ID})
		if err != nil {
			return nil, err
		}
		for i := range page.Data {
			s := &page.Data[i]
			if slices.Contains(r.Known, s.ID) || s.DateCreated.Before(r.Begun.Add(-clockSkew)) {
				continue
			}
			if newest == nil || s.DateCreated.After(newest.DateCreated) {
				newest = s
			}
		}
	}
	return newest, nil
}

// sameIdentifier compares account names as services do: the API may have
// trimmed one, or lower-cased it.
func sameIdentifier(a, b string) bool {
	return strings.EqualFold(strings.TrimSpace(a), strings.TrimSpace(b))
}

// connected goes on with a session that is decided.
func (l *leader) connected(ctx context.Context, r *stored, session *ricloud.Session) error {
	failed := &ricloud.StateError{
		Resource: "session", ID: session.ID, State: string(session.State),
		Code: session.Error,
	}
	switch {
	case session.State == ricloud.SessionActive:
		r.progress()
		r.Codes = 0
		r.State = Connected
		return l.request(ctx, r)
	case errors.Is(failed, ricloud.ErrCodeRequired) && r.Codes >= maxCodes:
		return dead(Submitted, "%d codes were refused: more could lock the account", r.Codes)
	case errors.Is(failed, ricloud.ErrCodeRequired):
		r.progress()
		return l.saveStep(ctx, r, CodeNeeded, "")
	case session.State == ricloud.SessionExpired:
		return l.loginAgain(ctx, r, "the session has expired")
	}
	return dead(Submitted, "the login failed: %v", failed)
}

// loginAgain logs in anew after a session that was good has ended.
func (l *leader) loginAgain(ctx context.Context, r *stored, why string) error {
	r.Failures++
	if r.Failures > maxUnknown {
		return dead(Submitted, "%s, %d times in a row", why, r.Failures)
	}
	r.Due = time.Now().UTC().Add(firstRetry << r.Failures)
	return l.saveStep(ctx, r, Submitted, why)
}

// request makes the account's poll, or its subscription.
func (l *leader) request(ctx context.Context, r *stored) error {
	create, cancel, err := l.begin(ctx, r, Requesting, "")
	if err != nil {
		if r.State == Connected { // the store does not know it yet
			return err
		}
		return err
	}
	defer cancel()
	if r.Account.Every > 0 {
		return l.subscribe(ctx, create, r)
	}
	poll, err := l.client.Polls.Create(create,
		ricloud.PollCreateParams{Session: r.Session, Payload: r.Account.Poll})
	if err != nil {
		return l.notRequested(ctx, r, err)
	}
	r.progress()
	r.Poll = poll.ID
	return l.saveStep(context.WithoutCancel(ctx), r, Polling, "")
}

func (l *leader) subscribe(ctx, create context.Context, r *stored) error {
	subscription, err := l.client.Subscriptions.Create(create, ricloud.SubscriptionCreateParams{
		Session: r.Session, PollPayload: r.Account.Poll, Interval: r.Account.Every,
	})
	if err != nil {
		return l.notRequested(ctx, r, err)
	}
	r.progress()
	r.Subscription = subscription.ID
	return l.saveStep(context.WithoutCancel(ctx), r, Subscribed, "")
}

// notRequested goes on after a create of a poll or subscription that failed.
func (l *leader) notRequested(ctx context.Context, r *stored, err error) error {
	switch {
	case mayBeApplied(err):
		return l.unknown(ctx, r, err)
	case errors.Is(err, ricloud.ErrSessionExpired):
		r.Begun = time.Time{}
		return l.loginAgain(ctx, r, "the session has expired")
	}
	r.State, r.Begun = Connected, time.Time{}
	return err
}

// findRequest looks for a poll or a subscription of unknown outcome.
func (l *leader) findRequest(ctx context.Context, r *stored) error {
	turn, err := l.turn(ctx)
	if err != nil {
		return err
	}
	if r.Account.Every > 0 {
		for s, err := range l.client.Subscriptions.All(turn,
			ricloud.SubscriptionListParams{ListParams: ricloud.ListParams{Limit: 1000}}) {
			if err != nil {
				return err
			}
			if s.Session == r.Session && s.State != ricloud.SubscriptionDeleted {
				r.progress()
				r.Subscription = s.ID
				return l.saveStep(ctx, r, Subscribed, "found after a create of unknown outcome")
			}
			if s.DateCreated.Before(r.Begun.Add(-clockSkew)) {
				break // newest first
			}
		}
		return l.notFound(ctx, r, Connected, "subscription")
	}
	page, err := l.client.Polls.List(turn, ricloud.PollListParams{Session: r.Session})
	if err != nil {
		return err
	}
	for i := range page.Data {
		if p := &page.Data[i]; p.Session == r.Session && !slices.Contains(r.Closed, p.ID) {
			r.progress()
			r.Poll = p.ID
			return l.saveStep(ctx, r, Polling, "found after a create of unknown outcome")
		}
	}
	return l.notFound(ctx, r, Connected, "poll")
}

// results goes on with polls that have ended and with results that are handled.
func (l *leader) results(ctx context.Context, r *stored, s seen) error {
	if r.State == Handling || s.closed {
		if err := l.close(ctx, r); err != nil {
			return err
		}
	}
	for _, poll := range s.polls {
		mine := r.State == Polling && poll.ID == r.Poll ||
			r.State == Subscribed && poll.Subscription == r.Subscription
		open := slices.ContainsFunc(r.Open, func(o openPoll) bool { return o.ID == poll.ID })
		if !mine || open || slices.Contains(r.Closed, poll.ID) {
			continue
		}
		if err := l.open(ctx, r, poll); err != nil {
			return err
		}
	}
	return nil
}

// open makes the jobs of a poll that has ended.
func (l *leader) open(ctx context.Context, r *stored, poll *ricloud.Poll) error {
	results, err := l.resultsOf(ctx, poll)
	if err != nil {
		return err
	}
	failed := ""
	if n := len(poll.TasksFailed) + len(poll.TasksSuspended); n > 0 {
		failed = fmt.Sprintf("%d tasks of poll %s did not succeed%s", n, poll.ID, reasons(poll))
	}
	if poll.State == ricloud.PollFailed {
		failed = fmt.Sprintf("poll %s failed: %s", poll.ID, poll.Error)
	}
	fresh := slices.DeleteFunc(results, func(result ricloud.Result) bool {
		return result.State != ricloud.ResultAvailable
	})
	if len(fresh) == 0 && r.State == Subscribed && failed == "" {
		l.forgetPoll(poll.ID)
		return nil // handled long ago, or nothing in it
	}
	chunks, err := l.makeJobs(ctx, r, poll, fresh)
	if err != nil {
		return err
	}
	r.progress()
	r.Poll = poll.ID
	r.Open = append(r.Open, openPoll{ID: poll.ID, Chunks: chunks, Failed: failed})
	note := fmt.Sprintf("%d results", len(fresh))
	if failed != "" {
		note += "; " + failed
	}
	state := Handling
	if r.State == Subscribed {
		state = Subscribed
	}
	if chunks > 0 {
		return l.saveStep(ctx, r, state, note)
	}
	r.State = state
	return l.close(ctx, r)
}

func reasons(poll *ricloud.Poll) string {
	var b strings.Builder
	for i := range poll.Errors.Data {
		if e := &poll.Errors.Data[i]; e.Code != "" && !strings.Contains(b.String(), string(e.Code)) {
			fmt.Fprintf(&b, ", %s", e.Code)
		}
	}
	return strings.Replace(b.String(), ",", ":", 1)
}

// resultsOf returns all results of a poll that has ended.
func (l *leader) resultsOf(ctx context.Context, poll *ricloud.Poll) ([]ricloud.Result, error) {
	if poll.Results.Data != nil && !poll.Results.HasMore {
		return poll.Results.Data, nil
	}
	var results []ricloud.Result
	urls := &pollURLs{Poll: poll.ID, Results: map[ricloud.ID]signedURL{}}
	for result, err := range l.client.Polls.Results(ctx, poll.ID) {
		if err != nil {
			if _, ended := errors.AsType[*ricloud.StateError](err); ended {
				break // the poll says so itself
			}
			return nil, err
		}
		urls.Results[result.ID] = signedURL{result.SignedURL.URL.Reveal(), result.SignedURL.DateExpires}
		result.SignedURL = ricloud.SignedURL{}
		results = append(results, *result)
	}
	l.shareURLs(ctx, urls)
	return results, nil
}

// close ends the polls whose results are handled and acknowledged.
func (l *leader) close(ctx context.Context, r *stored) error {
	var still, closed []openPoll
	var refused, failed []string
	for _, open := range r.Open {
		done, refusals, err := l.outcome(ctx, r.Account.Key, open)
		switch {
		case err != nil:
			return err
		case !done:
			still = append(still, open)
			continue
		case len(refusals) > 0:
			still = append(still, open)
			refused = append(refused, refusals...)
			continue
		}
		closed = append(closed, open)
		if open.Failed != "" {
			failed = append(failed, open.Failed)
		}
	}
	if len(refused) > 0 {
		return dead(Handling, "results could not be handled: %s", strings.Join(refused, "; "))
	}
	if len(closed) == 0 {
		return nil
	}
	r.Open = still
	for _, open := range closed {
		r.Closed = append(r.Closed, open.ID)
	}
	r.Closed = slices.Delete(r.Closed, 0, max(0, len(r.Closed)-maxClosed))
	r.progress()
	var err error
	switch {
	case len(failed) > 0:
		r.Back, r.Reason = Connected, bounded(strings.Join(failed, "; "))
		err = l.saveStep(ctx, r, Dead, r.Reason)
	case r.Subscription != "":
		err = l.saveStep(ctx, r, Subscribed, fmt.Sprintf("poll %s is done", closed[len(closed)-1].ID))
	default:
		err = l.saveStep(ctx, r, Done, "")
	}
	if err != nil {
		return err
	}
	for _, open := range closed {
		l.removeJobs(ctx, r.Account.Key, open)
	}
	return nil
}
