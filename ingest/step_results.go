package ingest

import (
	"context"
	"errors"
	"fmt"
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
		if err := l.openRest(ctx, r); err != nil {
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
	case isGone(err), err == nil && session.State != ricloud.SessionActive:
		return l.resubscribe(ctx, r)
	case err != nil:
		return err
	}
	r.Due = time.Time{}
	r.checkLater()
	return l.save(ctx, r)
}

// resubscribe logs in again after the session of a subscription has ended.
func (l *leader) resubscribe(ctx context.Context, r *stored) error {
	if err := l.openRest(ctx, r); err != nil {
		return err
	}
	r.Subscription, r.Check = "", time.Time{}
	return l.loginAgain(ctx, r, "the session has expired")
}

// openRest makes the jobs of the ended polls of a subscription that nobody has seen yet.
func (l *leader) openRest(ctx context.Context, r *stored) error {
	params := ricloud.PollListParams{
		Subscription: r.Subscription, ListParams: ricloud.ListParams{Limit: maxPage},
	}
	for poll, err := range l.client.Polls.All(ctx, params) {
		switch {
		case isGone(err):
			return nil
		case err != nil:
			return err
		case poll.DateCreated.Before(r.Read.Add(-clockSkew)):
			return nil // newest first
		case !hasEnded(poll) || poll.Subscription != r.Subscription || r.knows(poll.ID):
			continue
		}
		l.urls.add(urlsOf(poll))
		poll.Results.Data = unsigned(poll.Results.Data)
		if err := l.open(ctx, r, poll); err != nil {
			return err
		}
	}
	return nil
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
	if r.State == Subscribed {
		r.Read = l.readUntil(poll)
		r.checkLater()
	}
	r.Open = append(r.Open, openPoll{ID: poll.ID, Chunks: chunks, Failed: bounded(failed)})
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

const (
	openTasks      = 10 * time.Minute // how long a poll may name open tasks after its completion
	openTasksAtAll = 2 * time.Hour    // and after its creation, if it does not say when it completed
)

// hasEnded reports whether a poll and all its tasks have ended. An answer may show the poll's state
// before its tasks', but not for long.
func hasEnded(poll *ricloud.Poll) bool {
	if poll.State != ricloud.PollCompleted || len(poll.TasksPending)+len(poll.TasksProcessing) == 0 {
		return poll.State.Ended()
	}
	if poll.DateCompleted.IsZero() {
		return time.Since(poll.DateCreated) > openTasksAtAll
	}
	return time.Since(poll.DateCompleted) > openTasks
}

// failureOf says what of a poll that has ended did not succeed. It returns "" if all did.
func failureOf(poll *ricloud.Poll) string {
	switch n := len(poll.TasksFailed) + len(poll.TasksSuspended); {
	case poll.State == ricloud.PollFailed:
		return fmt.Sprintf("poll %s failed: %s", poll.ID, poll.Error)
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
	l.urls.add(urls)
	return results, nil
}

// showsResults reports whether a poll holds all its results, as far as it says. An event may show
// none although tasks have succeeded, or only IDs.
func showsResults(poll *ricloud.Poll) bool {
	list := &poll.Results
	if list.Data == nil || list.HasMore || list.TotalCount > len(list.Data) ||
		len(list.Data) == 0 && len(poll.TasksSucceeded) > 0 {
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
