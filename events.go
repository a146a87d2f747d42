package ricloud

import (
	"context"
	"encoding/json"
	"iter"
	"time"

	"github.com/reincubate/ricloud-go/internal/transport"
)

// Event says that a resource changed. The API records events and delivers them
// to webhooks.
type Event struct {
	ID            ID              `json:"id"`
	Type          string          `json:"type"`   // the resource: "poll"
	Action        string          `json:"action"` // what happened to it: "completed"
	Data          json.RawMessage `json:"data"`   // the resource, raw
	State         EventState      `json:"state"`
	Retries       int             `json:"retries"`
	DateCreated   time.Time       `json:"date_created,omitzero"`
	DateDelivered time.Time       `json:"date_delivered,omitzero"`
}

func (e *Event) ident() ID { return e.ID }

// EventState says how the delivery of an event stands.
type EventState string

// The states of an event (contract §13).
const (
	EventPending   EventState = "pending"
	EventDelivered EventState = "delivered"
	EventFailed    EventState = "failed" // no attempt was answered well
)

// EventListParams filters and pages a list of events.
type EventListParams struct {
	ListParams

	Type   string
	Action string
	State  EventState
}

func (p EventListParams) pairs() []string {
	return []string{"type", p.Type, "action", p.Action, "state", string(p.State)}
}

// EventsService reads the API's record of events.
type EventsService service

// Get returns an event.
//
// GET /events/{id}
func (s *EventsService) Get(ctx context.Context, id ID, opts ...CallOption) (*Event, error) {
	return do[Event](ctx, s.client, request{op: transport.EventsGet.Operation(), ids: []ID{id}}, opts)
}

// List returns one page of events.
//
// GET /events
func (s *EventsService) List(ctx context.Context, params EventListParams, opts ...CallOption) (*List[Event], error) {
	return list[Event](ctx, s.client, transport.EventsList, params, opts)
}

// All iterates over all events, page by page.
//
// GET /events
func (s *EventsService) All(ctx context.Context, params EventListParams, opts ...CallOption) iter.Seq2[*Event, error] {
	return all[Event](ctx, s.client, transport.EventsList, params, opts)
}
