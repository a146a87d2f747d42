package ricloud

import (
	"context"
	"encoding/json"
	"iter"
	"time"

	"github.com/reincubate/ricloud-go/internal/transport"
)

// Subscription asks a source for data again and again.
type Subscription struct { //nolint:recvcheck // a value is marshalled, too
	ID           ID                `json:"id" wire:"strict"`
	Organisation ID                `json:"organisation"` // also where the API says org
	Source       ID                `json:"source"`
	Session      ID                `json:"session"`
	PollPayload  PollPayload       `json:"poll_payload"`
	Interval     time.Duration     `json:"interval,omitzero"`
	DateStart    time.Time         `json:"date_start,omitzero"`
	DateEnd      time.Time         `json:"date_end,omitzero"`
	State        SubscriptionState `json:"state" wire:"strict"`
	DateCreated  time.Time         `json:"date_created,omitzero"`
}

// UnmarshalJSON reads a subscription. Its owner is called organisation or org.
func (s *Subscription) UnmarshalJSON(b []byte) error {
	type plain Subscription
	aux := struct {
		*plain
		Org      ID      `json:"org"`
		Interval seconds `json:"interval"`
	}{plain: (*plain)(s)}
	err := json.Unmarshal(b, &aux)
	s.Interval = time.Duration(aux.Interval)
	if s.Organisation == "" {
		s.Organisation = aux.Org
	}
	return err
}

// MarshalJSON writes the subscription as the API does, with Interval in seconds.
func (s Subscription) MarshalJSON() ([]byte, error) {
	type plain Subscription
	return json.Marshal(struct {
		plain

		Interval seconds `json:"interval,omitzero"`
	}{plain(s), seconds(s.Interval)})
}

func (s *Subscription) ident() (kind string, id ID) { return "subscription", s.ID }

// SubscriptionState is the state of a subscription. The API may send states that
// this package does not know.
type SubscriptionState string

// The states of a subscription.
const (
	SubscriptionPending SubscriptionState = "pending" // Relay: until allowed and connected in the app
	SubscriptionActive  SubscriptionState = "active"
	SubscriptionDeleted SubscriptionState = "deleted"
)

// Ended reports whether a wait for the subscription is over: it is active, or it
// was deleted and will never be active.
func (s SubscriptionState) Ended() bool {
	return s == SubscriptionActive || s == SubscriptionDeleted
}

// SubscriptionCreateParams describes a subscription.
type SubscriptionCreateParams struct {
	Session     ID          `json:"session"`          // required
	Source      ID          `json:"source,omitempty"` // a child source; required for Relay
	PollPayload PollPayload `json:"poll_payload"`     // required
	// Interval is the time between polls. For Relay it must be an hour or more, and
	// 0 means 24 hours.
	Interval time.Duration `json:"interval,omitempty"`
	// DateStart and DateEnd limit the subscription. They are sent in UTC, to the
	// millisecond.
	DateStart time.Time `json:"date_start,omitzero"`
	DateEnd   time.Time `json:"date_end,omitzero"`
}

func (p SubscriptionCreateParams) check() error {
	if err := required("Session", string(p.Session)); err != nil {
		return err
	}
	if err := checkSeconds("Interval", p.Interval); err != nil {
		return err
	}
	if !p.DateStart.IsZero() && !p.DateEnd.IsZero() && p.DateEnd.Before(p.DateStart) {
		return invalid("DateEnd", "must not be before DateStart")
	}
	return p.PollPayload.check("PollPayload")
}

func (p SubscriptionCreateParams) wire() any {
	type plain SubscriptionCreateParams
	return struct {
		plain

		Interval  seconds `json:"interval,omitzero"`
		DateStart string  `json:"date_start,omitempty"`
		DateEnd   string  `json:"date_end,omitempty"`
	}{plain(p), seconds(p.Interval), optionalTime(p.DateStart), optionalTime(p.DateEnd)}
}

// SubscriptionListParams pages a list of subscriptions.
type SubscriptionListParams struct{ ListParams }

// SubscriptionsService subscribes to data.
type SubscriptionsService service

// Create creates a subscription. It is never sent twice. When the outcome is
// unknown, CallError.MaybeApplied reports true.
//
// POST /subscriptions
func (s *SubscriptionsService) Create(
	ctx context.Context, params SubscriptionCreateParams, opts ...CallOption,
) (*Subscription, error) {
	r := request{op: transport.SubscriptionsCreate, body: params}
	subscription, err := do[Subscription](ctx, clientFor(s), r, opts)
	if err == nil {
		clientFor(s).waits.subscriptions.hub.Know(subscription)
	}
	return subscription, err
}

// Get returns a subscription.
//
// GET /subscriptions/{id}
func (s *SubscriptionsService) Get(
	ctx context.Context, id ID, opts ...CallOption,
) (*Subscription, error) {
	r := request{op: transport.SubscriptionsGet, id: id}
	subscription, err := do[Subscription](ctx, clientFor(s), r, opts)
	if err == nil {
		clientFor(s).waits.subscriptions.hub.Refresh(string(id), subscription)
	}
	return subscription, err
}

// List returns one page of subscriptions.
//
// GET /subscriptions
func (s *SubscriptionsService) List(
	ctx context.Context, params SubscriptionListParams, opts ...CallOption,
) (*List[Subscription], error) {
	return list[Subscription](ctx, clientFor(s), transport.SubscriptionsList, params, opts)
}

// All iterates over all subscriptions, page by page.
//
// GET /subscriptions
func (s *SubscriptionsService) All(
	ctx context.Context, params SubscriptionListParams, opts ...CallOption,
) iter.Seq2[*Subscription, error] {
	return all[Subscription](ctx, clientFor(s), transport.SubscriptionsList, params, opts)
}

// Delete ends a subscription and returns it.
//
// DELETE /subscriptions/{id}
func (s *SubscriptionsService) Delete(
	ctx context.Context, id ID, opts ...CallOption,
) (*Subscription, error) {
	r := request{op: transport.SubscriptionsDelete, id: id}
	subscription, err := do[Subscription](ctx, clientFor(s), r, opts)
	if err == nil {
		clientFor(s).waits.subscriptions.hub.Deleted(string(id), func(s *Subscription) {
			s.State = SubscriptionDeleted
		})
	}
	return subscription, err
}

// Watch yields the subscription at each change of its state. It ends when the
// subscription is active or deleted. A subscription that was deleted is yielded
// with a *StateError. Wait describes the other errors.
func (s *SubscriptionsService) Watch(
	ctx context.Context, id ID, opts ...CallOption,
) iter.Seq2[*Subscription, error] {
	return clientFor(s).waits.subscriptions.watch(ctx, "Subscriptions.Watch", id, nil, opts)
}

// Wait returns the subscription once it is active. For a subscription that was
// deleted it returns the subscription and a *StateError.
//
// Wait tolerates ten minutes of failed reads. With an error, it still returns
// the last subscription that it saw, or nil if it saw none. docs/waiting.md
// explains what waits cost.
func (s *SubscriptionsService) Wait(
	ctx context.Context, id ID, opts ...CallOption,
) (*Subscription, error) {
	return last(clientFor(s).waits.subscriptions.watch(ctx, "Subscriptions.Wait", id, nil, opts))
}
