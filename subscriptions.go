package ricloud

import (
	"context"
	"encoding/json"
	"iter"
	"time"

	"github.com/reincubate/ricloud-go/internal/transport"
	"github.com/reincubate/ricloud-go/internal/watch"
)

// Subscription asks a source for data again and again.
type Subscription struct {
	ID           ID                `json:"id" wire:"strict"`
	Organisation ID                `json:"organisation"` // also where the API says org
	Source       ID                `json:"source"`
	Session      ID                `json:"session"`
	PollPayload  PollPayload       `json:"poll_payload"`
	Interval     Duration          `json:"interval,omitzero"`
	DateStart    time.Time         `json:"date_start,omitzero"`
	DateEnd      time.Time         `json:"date_end,omitzero"`
	State        SubscriptionState `json:"state" wire:"strict"`
	DateCreated  time.Time         `json:"date_created,omitzero"`
}

// UnmarshalJSON reads a subscription, under either name of its owner.
func (s *Subscription) UnmarshalJSON(b []byte) error {
	type plain Subscription
	aux := struct {
		*plain
		Org ID `json:"org"`
	}{plain: (*plain)(s)}
	err := json.Unmarshal(b, &aux)
	if s.Organisation == "" {
		s.Organisation = aux.Org
	}
	return err
}

func (s *Subscription) ident() ID { return s.ID }

// SubscriptionState is the state of a subscription.
type SubscriptionState string

// The states of a subscription (contract §12).
const (
	SubscriptionPending SubscriptionState = "pending" // Relay: until allowed and connected in the app
	SubscriptionActive  SubscriptionState = "active"
	SubscriptionDeleted SubscriptionState = "deleted"
)

// Terminal reports whether waiting is over: the subscription is active, or
// never will be.
func (s SubscriptionState) Terminal() bool {
	return s == SubscriptionActive || s == SubscriptionDeleted
}

// SubscriptionCreateParams describes a subscription.
type SubscriptionCreateParams struct {
	Session     ID          `json:"session"`             // required
	Source      ID          `json:"source,omitempty"`    // a child source; Relay needs it
	PollPayload PollPayload `json:"poll_payload"`        // required
	Interval    Duration    `json:"interval,omitempty"`  // between polls; Relay: 1 hour at least, 24 by default
	DateStart   time.Time   `json:"date_start,omitzero"` // of the subscription
	DateEnd     time.Time   `json:"date_end,omitzero"`   // of the subscription
}

func (p SubscriptionCreateParams) check() error {
	if err := required("Session", string(p.Session)); err != nil {
		return err
	}
	if p.Interval < 0 {
		return invalid("Interval", "must not be negative")
	}
	return p.PollPayload.check("PollPayload")
}

// SubscriptionListParams filters and pages a list of subscriptions.
type SubscriptionListParams struct{ ListParams }

// SubscriptionsService subscribes to data.
type SubscriptionsService service

// Create creates a subscription. It is never sent twice: when the outcome is
// unknown, the *CallError's MaybeApplied is true.
//
// POST /subscriptions
func (s *SubscriptionsService) Create(ctx context.Context, params SubscriptionCreateParams, opts ...CallOption) (*Subscription, error) {
	return do[Subscription](ctx, s.client, request{op: transport.SubscriptionsCreate, body: params}, opts)
}

// Get returns a subscription.
//
// GET /subscriptions/{id}
func (s *SubscriptionsService) Get(ctx context.Context, id ID, opts ...CallOption) (*Subscription, error) {
	return do[Subscription](ctx, s.client, request{op: transport.SubscriptionsGet, id: id}, opts)
}

// List returns one page of subscriptions.
//
// GET /subscriptions
func (s *SubscriptionsService) List(ctx context.Context, params SubscriptionListParams, opts ...CallOption) (*List[Subscription], error) {
	return list[Subscription](ctx, s.client, transport.SubscriptionsList, params, opts)
}

// All iterates over all subscriptions, page by page.
//
// GET /subscriptions
func (s *SubscriptionsService) All(ctx context.Context, params SubscriptionListParams, opts ...CallOption) iter.Seq2[*Subscription, error] {
	return all[Subscription](ctx, s.client, transport.SubscriptionsList, params, opts)
}

// Delete ends a subscription and returns it.
//
// DELETE /subscriptions/{id}
func (s *SubscriptionsService) Delete(ctx context.Context, id ID, opts ...CallOption) (*Subscription, error) {
	return do[Subscription](ctx, s.client, request{op: transport.SubscriptionsDelete, id: id}, opts)
}

// Watch yields the subscription at each change of its state, and ends when it
// is active. One that was deleted is yielded with a *StateError.
func (s *SubscriptionsService) Watch(ctx context.Context, id ID, opts ...CallOption) iter.Seq2[*Subscription, error] {
	return s.client.waits.subscriptions.watch(ctx, id, nil, opts)
}

// Wait returns the subscription once it is active. One that was deleted comes
// with a *StateError. The last one seen
// is returned whatever the error, nil if there was none.
func (s *SubscriptionsService) Wait(ctx context.Context, id ID, opts ...CallOption) (*Subscription, error) {
	return last(s.Watch(ctx, id, opts...))
}

func subscriptionStatus(s *Subscription) watch.Status {
	st := watch.Status{ID: string(s.ID), State: string(s.State), Version: string(s.State), Terminal: s.State.Terminal()}
	if st.Terminal {
		st.Progress = over
	}
	if s.State == SubscriptionDeleted {
		st.Err = &StateError{Resource: "subscription", ID: s.ID, State: string(s.State)}
	}
	return st
}
