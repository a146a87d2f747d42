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
