package ingest

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	ricloud "github.com/reincubate/ricloud-go"
)

// results opens the polls that have ended, and closes those whose results are handled.
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
	l.urls.add(urls)
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
