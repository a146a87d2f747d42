package ingest

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"time"

	ricloud "github.com/reincubate/ricloud-go"
)

// results opens the polls that have ended, and closes those whose results are handled.
func (l *leader) results(ctx context.Context, r *stored, s seen) error {
	if r.State == Handling || s.closed || r.State == Subscribed && len(r.Open) > 0 {
		if err := l.close(ctx, r); err != nil {
			return err
		}
	}
	for _, poll := range s.polls {
		mine := r.State == Polling && poll.ID == r.Poll ||
			r.State == Subscribed && poll.Subscription == r.Subscription
		if mine && !r.knows(poll.ID) && !l.isForgotten(poll.ID) {
			if err := l.open(ctx, r, poll); err != nil {
				return err
			}
		}
		if poll.Subscription != "" {
			l.forgetPoll(poll.ID)
		}
	}
	switch {
	case r.State != Subscribed:
		return nil
	case s.session != nil && s.session.ID == r.Session:
		return l.resubscribe(ctx, r)
	case len(s.polls) == 0 && !s.closed && !r.Check.After(time.Now()):
		return l.checkSubscription(ctx, r)
	}
	return nil
}

// checkLater says when to look whether the subscription lives, if no poll of it ends before.
func (r *record) checkLater() {
	r.Check = time.Now().UTC().Add(2*r.Account.Every + time.Hour)
}

// checkSubscription looks why no poll of a subscription has ended for long: the subscription may
// have ended at the API, or its session.
func (l *leader) checkSubscription(ctx context.Context, r *stored) error {
	turn, err := l.turn(ctx)
	if err != nil {
		return err
	}
	subscription, err := l.client.Subscriptions.Get(turn, r.Subscription)
	ended := isGone(err)
	switch {
	case ended, err == nil && subscription.State == ricloud.SubscriptionDeleted:
		if _, err := l.openRest(ctx, r); err != nil {
			return err
		}
		id := r.Subscription
		r.Subscription, r.Check = "", time.Time{}
		return dead(Connected, "the subscription %s has ended at the API; Retry makes another", id)
	case err != nil:
		return err
	}
	session, err := l.client.Sessions.Get(ctx, r.Session)
	switch {
	case isGone(err), err == nil && session.State != ricloud.SessionActive && loginEnded(session):
		return l.resubscribe(ctx, r)
	case err != nil:
		return err
	}
	unnamed, err := l.openRest(ctx, r)
	if err != nil {
		return err
	}
	r.Due = time.Time{}
	if r.checkLater(); unnamed {
		r.Check = time.Now().UTC().Add(r.Account.Every)
	}
	return l.save(ctx, r)
}

// resubscribe logs in again after the session of a subscription has ended.
func (l *leader) resubscribe(ctx context.Context, r *stored) error {
	if _, err := l.openRest(ctx, r); err != nil {
		return err
	}
	r.Subscription, r.Check = "", time.Time{}
	return l.loginAgain(ctx, r, "the session has expired")
}

// openRest makes the jobs of the ended polls of a subscription that nobody has seen yet. unnamed
// reports whether there are polls that do not say whose they are, which nothing else finds.
func (l *leader) openRest(ctx context.Context, r *stored) (unnamed bool, err error) {
	polls, unnamed, err := l.pollsOf(ctx, r)
	if err != nil {
		return false, err
	}
	for _, poll := range polls {
		if !hasEnded(poll) || r.knows(poll.ID) || l.isForgotten(poll.ID) {
			continue
		}
		l.urls.add(urlsOf(poll))
		poll.Results.Data = unsigned(poll.Results.Data)
		if err := l.open(ctx, r, poll); err != nil {
			return unnamed, err
		}
		l.forgetPoll(poll.ID) // what a list has shown of it meanwhile is old
	}
	return unnamed, nil
}

// pollsOf reads the polls of a subscription. One that names no subscription is its own if the list
// shows none of others, so that the API does not ignore which were asked for.
func (l *leader) pollsOf(
	ctx context.Context, r *stored,
) (own []*ricloud.Poll, unnamed bool, err error) {
	var maybe []*ricloud.Poll
	filtered := true
	params := ricloud.PollListParams{
		Subscription: r.Subscription, ListParams: ricloud.ListParams{Limit: maxPage},
	}
	for poll, err := range l.client.Polls.All(ctx, params) {
		if isGone(err) {
			break
		}
		if err != nil {
			return nil, false, err
		}
		if poll.DateCreated.Before(r.Read.Add(-clockSkew)) {
			break // newest first
		}
		switch {
		case poll.Subscription == r.Subscription:
			own = append(own, poll)
		case poll.Subscription == "" && isOrUnknown(poll.Session, r.Session):
			poll.Subscription = r.Subscription
			maybe = append(maybe, poll)
		default:
			filtered = false
		}
	}
	if filtered {
		own = append(own, maybe...)
	}
	return own, filtered && len(maybe) > 0, nil
}

// knows reports whether the results of a poll are being handled, or were lately.
func (r *record) knows(poll ricloud.ID) bool {
	return slices.Contains(r.Closed, poll) ||
		slices.ContainsFunc(r.Open, func(o openPoll) bool { return o.ID == poll })
}

// open makes the jobs of a poll that has ended.
func (l *leader) open(ctx context.Context, r *stored, poll *ricloud.Poll) error {
	results, err := l.resultsOf(ctx, poll)
	if err != nil {
		return err
	}
	failed := failureOf(poll)
	fresh, expired := unhandled(results)
	if len(fresh)+len(expired) == 0 && r.State == Subscribed && failed == "" {
		l.forgetPoll(poll.ID)
		return nil // handled long ago, or nothing in it
	}
	chunks, err := l.makeJobs(ctx, r, poll, fresh)
	if err != nil {
		return err
	}
	note := fmt.Sprintf("%d results", len(fresh))
	if missing := without(poll, results); len(missing) > 0 {
		note += fmt.Sprintf("; %d tasks succeeded without: %s", len(missing), missing)
	}
	if len(expired) > 0 {
		lost := fmt.Sprintf("%d results of poll %s had expired before they were handled: %s",
			len(expired), poll.ID, expired)
		l.log(ctx, "results are lost", slog.String("account", r.Account.Key),
			slog.String("reason", bounded(lost)))
		if note += "; " + lost; r.State != Subscribed { // which goes on
			failed = strings.TrimPrefix(failed+"; "+lost, "; ")
		}
	}
	r.progress()
	r.Poll = poll.ID
	if r.State == Subscribed {
		r.Read = l.readUntil(poll)
		r.checkLater()
	}
	r.Open = append(r.Open, openPoll{ID: poll.ID, Chunks: chunks, Failed: bounded(failed)})
	if failed != "" && len(expired) == 0 {
		note += "; " + failed
	}
	state := Handling
	if r.State == Subscribed {
		state = Subscribed
	}
	if chunks > 0 || len(expired) > 0 {
		if err := l.saveStep(ctx, r, state, note); err != nil || chunks > 0 {
			return err
		}
	}
	r.State = state
	return l.close(ctx, r)
}

// unhandled returns the results that are to be handled, in whatever state the API knows, and those
// that cannot be, since the API has deleted their files.
func unhandled(results []ricloud.Result) (fresh []ricloud.Result, expired []ricloud.ID) {
	for i := range results {
		switch results[i].State {
		case ricloud.ResultConsumed:
		case ricloud.ResultExpired:
			expired = append(expired, results[i].ID)
		default:
			fresh = append(fresh, results[i])
		}
	}
	return fresh, expired
}

const (
	openTasks      = 10 * time.Minute // how long a poll may name open tasks after its completion
	openTasksAtAll = 2 * time.Hour    // and after its creation, if it does not say when it completed
	lateResults    = 2 * time.Minute  // how long its results may be behind
)

// hasEnded reports whether a poll and all its tasks have ended. An answer may show the poll's state
// before its tasks', but not for long.
func hasEnded(poll *ricloud.Poll) bool {
	open := len(poll.TasksPending) + len(poll.TasksProcessing)
	if !isKnownPoll(poll.State) {
		return !poll.DateCompleted.IsZero() && open == 0
	}
	if poll.State != ricloud.PollCompleted || open == 0 {
		return poll.State.Ended()
	}
	if poll.DateCompleted.IsZero() {
		return time.Since(poll.DateCreated) > openTasksAtAll
	}
	return time.Since(poll.DateCompleted) > openTasks
}

func isKnownPoll(s ricloud.PollState) bool {
	return s == ricloud.PollPending || s == ricloud.PollProcessing || s.Ended()
}

// failureOf says what of a poll that has ended did not succeed. It returns "" if all did.
func failureOf(poll *ricloud.Poll) string {
	switch n := len(poll.TasksFailed) + len(poll.TasksSuspended); {
	case poll.State == ricloud.PollFailed:
		return fmt.Sprintf("poll %s failed: %s", poll.ID, poll.Error)
	case !isKnownPoll(poll.State):
		return fmt.Sprintf("poll %s ended in the state %q, which is not known", poll.ID, poll.State)
	case len(poll.TasksPending)+len(poll.TasksProcessing) > 0:
		return fmt.Sprintf("poll %s has completed, and tasks of it have not ended: %s", poll.ID,
			slices.Concat(poll.TasksPending, poll.TasksProcessing))
	case n > 0:
		return fmt.Sprintf("%d tasks of poll %s did not succeed%s", n, poll.ID, reasons(poll))
	case len(poll.Errors.Data) > 0, poll.Errors.HasMore, poll.Error != "":
		return fmt.Sprintf("poll %s completed with errors%s", poll.ID, reasons(poll))
	}
	return ""
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

// resultsOf returns all results of a poll that has ended. The client reads the poll if it does not
// show them, also where its own wait was told of the end by the same event.
func (l *leader) resultsOf(ctx context.Context, poll *ricloud.Poll) ([]ricloud.Result, error) {
	if showsResults(poll) {
		return poll.Results.Data, l.complete(ctx, poll.ID, poll.Results.Data)
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
		if result.State != "" { // else it may be an ID alone
			urls.Results[result.ID] = urlOf(result)
		}
		result.SignedURL = ricloud.SignedURL{}
		results = append(results, *result)
	}
	l.urls.add(urls)
	return results, l.complete(ctx, poll.ID, results)
}

// without returns the tasks of a poll that have succeeded and show no result, as far as the results
// say whose they are.
func without(poll *ricloud.Poll, results []ricloud.Result) []ricloud.ID {
	shown := map[ricloud.ID]bool{}
	for i := range results {
		if results[i].Task == "" {
			return nil
		}
		shown[results[i].Task] = true
	}
	return slices.DeleteFunc(slices.Clone(poll.TasksSucceeded), func(id ricloud.ID) bool {
		return shown[id]
	})
}

// complete reads the results that are shown by their IDs alone, or in a state that is not known.
func (l *leader) complete(ctx context.Context, poll ricloud.ID, results []ricloud.Result) error {
	urls := &pollURLs{Poll: poll, Results: map[ricloud.ID]signedURL{}}
	defer l.urls.add(urls)
	for i := range results {
		switch r := &results[i]; r.State {
		case ricloud.ResultAvailable, ricloud.ResultConsumed, ricloud.ResultExpired:
		default:
			read, err := l.client.Results.Get(ctx, r.ID)
			switch {
			case isGone(err):
				r.State = ricloud.ResultExpired
			case err != nil:
				return err
			default:
				urls.Results[r.ID] = urlOf(read)
				read.SignedURL = ricloud.SignedURL{}
				*r = *read
			}
		}
	}
	return nil
}

// showsResults reports whether a poll holds all its results, as far as it says. An event may show
// none although tasks have succeeded, or only IDs. What the API shows of a poll that has just ended
// may be behind: the client looks again where a task shows no result.
func showsResults(poll *ricloud.Poll) bool {
	list := &poll.Results
	if list.Data == nil || list.HasMore || list.TotalCount > len(list.Data) ||
		len(list.Data) == 0 && len(poll.TasksSucceeded) > 0 ||
		time.Since(poll.DateCompleted) < lateResults && len(without(poll, list.Data)) > 0 {
		return false
	}
	return !slices.ContainsFunc(list.Data, func(r ricloud.Result) bool { return r.State == "" })
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
	before := r.copy()
	r.Open = still
	for _, open := range closed {
		r.Closed = append(r.Closed, open.ID)
	}
	r.Closed = slices.Clone(r.Closed[max(0, len(r.Closed)-maxClosed):])
	r.progress()
	var err error
	switch {
	case len(failed) > 0:
		if r.Back = Connected; r.Subscription != "" {
			r.Back = Subscribed
		}
		r.Reason = bounded(strings.Join(failed, "; "))
		err = l.saveStep(ctx, r, Dead, r.Reason)
	case r.Subscription != "":
		err = l.saveStep(ctx, r, Subscribed, fmt.Sprintf("poll %s is done", closed[len(closed)-1].ID))
	default:
		err = l.saveStep(ctx, r, Done, "")
	}
	if err != nil {
		r.record = before // its jobs are still there
		return err
	}
	for _, open := range closed {
		l.removeJobs(ctx, r.Account.Key, open)
	}
	return nil
}
