package ingest

import (
	"context"
	"errors"
	"slices"
	"time"

	ricloud "github.com/reincubate/ricloud-go"
)

// request makes the account's poll, or its subscription.
func (l *leader) request(ctx context.Context, r *stored) error {
	create, cancel, err := l.begin(ctx, r, Requesting, "")
	if err != nil {
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
	return l.saveMade(ctx, r, Polling, "")
}

func (l *leader) subscribe(ctx, create context.Context, r *stored) error {
	subscription, err := l.client.Subscriptions.Create(create, ricloud.SubscriptionCreateParams{
		Session: r.Session, PollPayload: r.Account.Poll, Interval: r.Account.Every,
	})
	if err != nil {
		return l.notRequested(ctx, r, err)
	}
	r.subscribed(subscription.ID)
	return l.saveMade(ctx, r, Subscribed, "")
}

// subscribed records a subscription as the account's.
func (r *record) subscribed(id ricloud.ID) {
	r.Subscription, r.Read = id, r.Begun
	r.progress()
	r.checkLater()
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
	if r.Account.Every > 0 {
		id, err := l.findSubscription(ctx, r)
		if err != nil {
			return err
		}
		if id == "" {
			return l.notFound(ctx, r, Connected, "subscription")
		}
		r.subscribed(id)
		return l.saveStep(ctx, r, Subscribed, "found after a create of unknown outcome")
	}
	id, err := l.findPoll(ctx, r)
	if err != nil {
		return err
	}
	if id == "" {
		return l.notFound(ctx, r, Connected, "poll")
	}
	r.progress()
	r.Poll = id
	return l.saveStep(ctx, r, Polling, "found after a create of unknown outcome")
}

// findSubscription returns the subscription of the account's session, or "".
func (l *leader) findSubscription(ctx context.Context, r *stored) (ricloud.ID, error) {
	mine := func(s *ricloud.Subscription) bool {
		return s.Session == r.Session && s.State != ricloud.SubscriptionDeleted
	}
	all, ok, err := l.newSubscriptions.read(ctx, l, r, l.subscriptionList,
		func(s *ricloud.Subscription) (ricloud.Subscription, ricloud.ID, time.Time) {
			return *s, s.ID, s.DateCreated
		})
	if err != nil {
		return "", err
	}
	for i := range all {
		if mine(&all[i]) {
			return all[i].ID, nil
		}
	}
	if ok {
		return "", nil
	}
	turn, err := l.turn(ctx)
	if err != nil {
		return "", err
	}
	for s, err := range l.client.Subscriptions.All(turn,
		ricloud.SubscriptionListParams{ListParams: ricloud.ListParams{Limit: maxPage}}) {
		if err != nil {
			return "", err
		}
		if mine(s) {
			return s.ID, nil
		}
		if s.DateCreated.Before(r.Begun.Add(-clockSkew)) {
			break // newest first
		}
	}
	return "", nil
}

// findPoll returns the poll of the account's session that is not known yet, or "".
func (l *leader) findPoll(ctx context.Context, r *stored) (ricloud.ID, error) {
	polls, ok, err := l.newPolls.read(ctx, l, r, l.pollList,
		func(p *ricloud.Poll) (ricloud.Poll, ricloud.ID, time.Time) {
			l.sharePoll(p)
			return ricloud.Poll{ID: p.ID, Session: p.Session}, p.ID, p.DateCreated
		})
	if err != nil {
		return "", err
	}
	if !ok {
		turn, err := l.turn(ctx)
		if err != nil {
			return "", err
		}
		page, err := l.client.Polls.List(turn, ricloud.PollListParams{Session: r.Session})
		if err != nil {
			return "", err
		}
		polls = page.Data
	}
	for i := range polls {
		if p := &polls[i]; p.Session == r.Session && !slices.Contains(r.Closed, p.ID) {
			return p.ID, nil
		}
	}
	return "", nil
}
