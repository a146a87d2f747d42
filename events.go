package ricloud

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"iter"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/reincubate/ricloud-go/internal/events"
	"github.com/reincubate/ricloud-go/internal/transport"
	"github.com/reincubate/ricloud-go/internal/watch"
	"github.com/reincubate/ricloud-go/internal/wire"
)

// An Event reports that a resource changed. The API records events and delivers
// them to webhooks: see NewWebhookHandler, and EventsService.Watch for programs
// that cannot be reached.
//
// An Event cannot be encoded as JSON, because that would either lose its data
// or show it. Put Body into a queue, and read it back with ParseEvent.
type Event struct { //nolint:recvcheck // JSON encodes values and decodes into pointers
	ID            ID         `json:"id" wire:"strict"`
	Type          string     `json:"type" wire:"strict"` // the kind of resource: "poll"
	Action        string     `json:"action"`             // what happened to it: "completed"
	Data          Raw        `json:"data" wire:"strict"` // the resource as it was then: see Poll, …
	State         EventState `json:"state"`
	Retries       int        `json:"retries"`
	DateCreated   time.Time  `json:"date_created,omitzero"`
	DateDelivered time.Time  `json:"date_delivered,omitzero"`

	// Body is the whole event as it came, such as the signed body of a delivery.
	// []byte(event.Body) is what to put into a queue. Data may share its memory.
	Body Raw `json:"-"`

	odd []wire.Oddity // fields of other types than documented
}

func (e *Event) ident() (kind string, id ID) { return "event", e.ID }

func (e *Event) oddities() []wire.Oddity { return e.odd }

// The names of the events that docs/contract.md lists, as Event.Name returns
// them. The API may have others.
const (
	EventSessionExpired    = "session.expired"
	EventPollCreated       = "poll.created"
	EventPollCompleted     = "poll.completed"
	EventTaskCreated       = "task.created"
	EventTaskSucceeded     = "task.succeeded"
	EventTaskFailed        = "task.failed"
	EventWebhookConfigTest = "webhook_config.test"
)

// Name returns the event's type and action: "poll.completed".
func (e *Event) Name() string { return e.Type + "." + e.Action }

// Format prints everything but Data and Body, for every verb.
func (e Event) Format(f fmt.State, verb rune) {
	type plain Event
	e.ID, e.Type = ID(quote(e.ID, maxQuote)), quote(e.Type, maxQuote)
	e.Action, e.State = quote(e.Action, maxQuote), EventState(quote(e.State, maxQuote))
	_, _ = fmt.Fprintf(f, fmt.FormatString(f, verb), plain(e))
}

// MarshalJSON always fails: see Body.
func (Event) MarshalJSON() ([]byte, error) {
	return nil, errors.New("ricloud: an Event is not encoded as JSON, because its data may be " +
		"secret: put []byte(event.Body) into the queue, and read it with ParseEvent")
}

// UnmarshalJSON reads an event. Its ID and type must be strings. Its data may be
// anything: [Event.Poll] and its like return an error for what is no such resource.
// Any other field of an unexpected type is converted or left out.
func (e *Event) UnmarshalJSON(b []byte) error {
	type plain Event
	*e = Event{}
	body := bytes.Clone(b)
	rest, data := wire.Cut(body, "data")
	switch {
	case json.Unmarshal(rest, (*plain)(e)) == nil && (data == nil || json.Valid(data)):
		if data != nil {
			e.Data = data
		}
	default:
		if err := e.readLoosely(body); err != nil {
			return err
		}
	}
	e.Body = body
	return nil
}

// readLoosely reads an event that has fields of other types than expected.
func (e *Event) readLoosely(b []byte) error {
	var loose struct {
		ID            ID              `json:"id"`
		Type          string          `json:"type"`
		Data          Raw             `json:"data"`
		Action        json.RawMessage `json:"action"`
		State         json.RawMessage `json:"state"`
		Retries       json.RawMessage `json:"retries"`
		DateCreated   json.RawMessage `json:"date_created"`
		DateDelivered json.RawMessage `json:"date_delivered"`
	}
	if err := json.Unmarshal(b, &loose); err != nil {
		return err
	}
	*e = Event{
		ID: loose.ID, Type: loose.Type, Data: loose.Data,
		Action:        wire.Text(loose.Action),
		State:         EventState(wire.Text(loose.State)),
		Retries:       wire.Count(loose.Retries),
		DateCreated:   wire.Time(loose.DateCreated),
		DateDelivered: wire.Time(loose.DateDelivered),
	}
	type plain Event
	e.odd, _ = wire.Decode(b, new(plain))
	return nil
}

// lostData is the reason to refuse an event whose data is the word [redacted].
const lostData = "is the word " + redacted + ": the data was lost when the event was printed or " +
	"encoded; queue Event.Body instead"

func dataLost(data Raw) bool {
	return string(data) == redacted || string(data) == `"`+redacted+`"`
}

// ParseEvent reads the body of a delivery, or Event.Body. Verify a delivery
// first: see VerifyWebhook. It accepts events of any type, and the older
// encoding, a JSON string that holds the event's JSON. The error is a
// *DecodeError.
func ParseEvent(body []byte) (*Event, error) {
	const operation = "ParseEvent"
	text := bytes.TrimSpace(body)
	if len(text) > 0 && text[0] == '"' {
		text = bytes.TrimSpace([]byte(wire.Unquote(text)))
	}
	e := new(Event)
	err := decode(operation, text, e)
	switch {
	case err != nil:
		return nil, withoutData(err, len(body))
	case e.ID == "" || e.Type == "":
		return nil, &DecodeError{Operation: operation, Err: errors.New("it has no id or no type")}
	case dataLost(e.Data):
		return nil, &DecodeError{Operation: operation, Path: "data", Err: errors.New(lostData)}
	}
	if !bytes.Equal(e.Body, body) {
		e.Body = bytes.Clone(body)
	}
	return e, nil
}

// withoutData removes from a decoding error what it repeats of an event, which
// may hold a secret anywhere.
func withoutData(err error, size int) error {
	d, ok := errors.AsType[*DecodeError](err)
	if !ok {
		return err
	}
	kept := &DecodeError{
		Operation: d.Operation, Path: d.Path, Snapshot: fmt.Sprintf("[%d bytes]", size),
		Err: errors.New("its JSON is not valid"),
	}
	if t, ok := errors.AsType[*json.UnmarshalTypeError](d.Err); ok {
		kind, _, _ := strings.Cut(t.Value, " ") // "number 5"
		kept.Err = fmt.Errorf("got %s, want %s", kind, t.Type)
	}
	return kept
}

// ErrEventType reports that an event is about another kind of resource than
// the one that was asked for. The methods of Event that return a resource
// return it.
var ErrEventType = errors.New("ricloud: the event is about another kind of resource")

// Resource returns the resource that the event is about, as it was when the
// event was made: a *Poll, *Session, *Task, *Result, … If the event is about a
// kind that this SDK does not know, it returns Data as a Raw. The error is a
// *DecodeError if the data does not decode.
//
//	switch r := resource.(type) {
//	case *ricloud.Poll:
//	case *ricloud.Session:
//	}
func (e *Event) Resource() (any, error) {
	resource, err := e.resource()
	if err != nil {
		return nil, err // and no typed nil, which a type switch would take for a resource
	}
	return resource, nil
}

func (e *Event) resource() (any, error) {
	switch e.Type {
	case "organisation":
		return e.Organisation()
	case "key":
		return e.Key()
	case "permissions", "permission", "organisation_permissions":
		return e.Permissions()
	case "user":
		return e.User()
	case "source":
		return e.Source()
	case "session":
		return e.Session()
	case "poll":
		return e.Poll()
	case "task":
		return e.Task()
	case "result":
		return e.Result()
	case "subscription":
		return e.Subscription()
	case "storage_config":
		return e.StorageConfig()
	case "webhook_config":
		return e.WebhookConfig()
	}
	return e.Data, nil
}

// eventData decodes the data of an event of one of the types.
func eventData[T any](e *Event, types ...string) (*T, error) {
	if !slices.Contains(types, e.Type) {
		return nil, fmt.Errorf("%w: event %s is %s", ErrEventType, quote(e.ID, maxWord),
			quote(e.Name(), maxQuote))
	}
	operation := "Event " + string(e.ID)
	switch data := string(e.Data); {
	case data == "" || data == "null":
		return nil, &DecodeError{Operation: operation, Path: "data", Err: errors.New("is missing")}
	case dataLost(e.Data):
		return nil, &DecodeError{Operation: operation, Path: "data", Err: errors.New(lostData)}
	}
	v := new(T)
	if err := decode(operation, e.Data, v); err != nil {
		return nil, withoutData(err, len(e.Data))
	}
	return v, nil
}

// Organisation returns the organisation that the event is about. The error is
// ErrEventType if it is about something else, and a *DecodeError if its data
// does not decode. All the methods below do the same for their kind.
func (e *Event) Organisation() (*Organisation, error) {
	return eventData[Organisation](e, "organisation")
}

// Key returns the key that the event is about.
func (e *Event) Key() (*Key, error) { return eventData[Key](e, "key") }

// Permissions returns the permissions that the event is about.
func (e *Event) Permissions() (*Permissions, error) {
	return eventData[Permissions](e, "permissions", "permission", "organisation_permissions")
}

// User returns the user that the event is about.
func (e *Event) User() (*User, error) { return eventData[User](e, "user") }

// Source returns the source that the event is about.
func (e *Event) Source() (*Source, error) { return eventData[Source](e, "source") }

// Session returns the session that the event is about.
func (e *Event) Session() (*Session, error) { return eventData[Session](e, "session") }

// Poll returns the poll that the event is about.
func (e *Event) Poll() (*Poll, error) { return eventData[Poll](e, "poll") }

// Task returns the task that the event is about.
func (e *Event) Task() (*Task, error) { return eventData[Task](e, "task") }

// Result returns the result that the event is about.
func (e *Event) Result() (*Result, error) { return eventData[Result](e, "result") }

// Subscription returns the subscription that the event is about.
func (e *Event) Subscription() (*Subscription, error) {
	return eventData[Subscription](e, "subscription")
}

// StorageConfig returns the storage config that the event is about.
func (e *Event) StorageConfig() (*StorageConfig, error) {
	return eventData[StorageConfig](e, "storage_config")
}

// WebhookConfig returns the webhook config that the event is about.
func (e *Event) WebhookConfig() (*WebhookConfig, error) {
	return eventData[WebhookConfig](e, "webhook_config")
}

// EventState says how the delivery of an event stands.
type EventState string

// The states of an event.
const (
	EventPending   EventState = "pending"
	EventDelivered EventState = "delivered"
	EventFailed    EventState = "failed" // the API gave up
)

// EventListParams filters and pages a list of events.
type EventListParams struct {
	ListParams

	Type   string
	Action string
	State  EventState
	// CreatedSince and CreatedBefore select the events that were created at or
	// after the first and before the second. Their names are an assumption: the
	// API has such filters, but no document names them. If the API names them
	// otherwise, it returns events of all dates.
	CreatedSince  time.Time
	CreatedBefore time.Time
}

func (p EventListParams) check() error {
	return cmp.Or(p.ListParams.check(), checkCreated(p.CreatedSince, p.CreatedBefore))
}

func (p EventListParams) values() url.Values {
	q := p.ListParams.values()
	setFilter(q, "type", p.Type)
	setFilter(q, "action", p.Action)
	setFilter(q, "state", p.State)
	setCreated(q, p.CreatedSince, p.CreatedBefore)
	return q
}

// EventsService reads the API's record of events.
type EventsService service

// Get returns an event.
//
// GET /events/{id}
func (s *EventsService) Get(ctx context.Context, id ID, opts ...CallOption) (*Event, error) {
	return do[Event](ctx, clientFor(s), request{op: transport.EventsGet, id: id}, opts)
}

// List returns one page of events.
//
// GET /events
func (s *EventsService) List(
	ctx context.Context, params EventListParams, opts ...CallOption,
) (*List[Event], error) {
	return list[Event](ctx, clientFor(s), transport.EventsList, params, opts)
}

// All iterates over all events, page by page.
//
// GET /events
func (s *EventsService) All(
	ctx context.Context, params EventListParams, opts ...CallOption,
) iter.Seq2[*Event, error] {
	return all[Event](ctx, clientFor(s), transport.EventsList, params, opts)
}

// listedEvent is an entry of a list of events. An entry that cannot be read
// does not make the list fail.
type listedEvent struct {
	Event

	err error
}

// UnmarshalJSON never fails.
func (l *listedEvent) UnmarshalJSON(b []byte) error {
	e, err := ParseEvent(b)
	if err == nil {
		l.Event = *e
		return nil
	}
	var known struct {
		ID          json.RawMessage `json:"id"`
		DateCreated json.RawMessage `json:"date_created"`
	}
	_ = json.Unmarshal(b, &known)
	l.ID, l.DateCreated, l.err = ID(wire.Text(known.ID)), wire.Time(known.DateCreated), err
	return nil
}

func (l *listedEvent) entry() *events.Entry[*Event] {
	e := &events.Entry[*Event]{
		ID: string(l.ID), Label: quote(l.ID, maxWord), Date: l.DateCreated, Event: &l.Event, Err: l.err,
	}
	if e.Err == nil {
		e.Label += " (" + quote(l.Name(), maxQuote) + ")"
	}
	return e
}

// eventRecord reads the API's record of events.
type eventRecord struct {
	client     *Client
	opts       []CallOption
	resp       *Response // of the last page
	background bool      // yield to other calls
	charge     func()    // called before each request, those after a redirect too; may be nil
}

func newEventRecord(client *Client, opts []CallOption) *eventRecord {
	r := &eventRecord{client: client, opts: opts, resp: newCallOptions(opts).response}
	if r.resp == nil {
		r.resp = new(Response)
		r.opts = append(slices.Clip(opts), WithResponse(r.resp))
	}
	return r
}

func (r *eventRecord) record(operation string) events.Record {
	return events.Record{
		Operation: "ricloud: " + operation,
		Now: func() time.Time {
			now, _ := http.ParseTime(r.resp.Header.Get("Date"))
			return now
		},
		TooLarge: func(err error) bool { return errors.Is(err, transport.ErrBodyTooLarge) },
		Ended:    func(cause error) error { return &CallError{Operation: operation, Err: cause} },
	}
}

// list returns the list of the events that params select.
func (r *eventRecord) list(params EventListParams) events.List[*Event] {
	return func(
		ctx context.Context, after string, limit int, yield func(*events.Entry[*Event]) bool,
	) error {
		params.AfterID, params.Limit = ID(after), limit
		list := request{
			op: transport.EventsList, list: params, background: r.background, charge: r.charge,
			redirected: r.charge,
		}
		pages := newPager[listedEvent](r.client, 0)
		var failed error
		pages.run(ctx, list, r.opts, func(e *listedEvent, err error) bool {
			failed = err
			return err == nil && yield(e.entry())
		})
		hasCursor := after != "" || pages.pages > 1
		if pages.broken || hasCursor && isRefusedCursor(failed) {
			return &events.Moved{Err: failed}
		}
		return failed
	}
}

// isRefusedCursor reports whether the API may not know the event behind which a
// page was to begin.
func isRefusedCursor(err error) bool {
	e, ok := errors.AsType[*Error](err)
	return ok && slices.Contains([]int{
		http.StatusBadRequest, http.StatusNotFound, http.StatusGone, http.StatusUnprocessableEntity,
	}, e.StatusCode)
}

// DefaultReplayReach is how far back WebhookHandler.Replay reads the record of
// events when no position is stored yet.
const DefaultReplayReach = 7 * 24 * time.Hour

// replayKey is the context key under which Handle tells Replay, through the
// caller's function, that an event had been handled before.
type replayKey struct{}

func reportDone(ctx context.Context) {
	if done, ok := ctx.Value(replayKey{}).(*bool); ok {
		*done = true
	}
}

// Replay calls fn for each event that was not delivered (its state is pending
// or failed) and that was created at or after since, oldest first, each once.
// Give it WebhookHandler.Handle, so that an event that is delivered meanwhile
// is not handled twice; WebhookHandler.Replay does that and needs no date.
//
// since is compared with the API's clock, by the second. Deliveries are retried
// for hours, so an event may be created long before the outage in which its
// last retry fails. Let since be at least a day before the receiver stopped. The
// API keeps listing a replayed event as failed, so the Deduplicator must
// remember events for at least as long as since reaches back.
//
// An event that cannot be read, or for which fn returns an error, does not stop
// the others. Neither does a list that cannot be read to its end. Replay returns
// how many events fn handled, not counting those that Handle found to be handled
// before. It joins the errors of all others, each with the event's ID. It holds
// all undelivered events in memory while it runs. It returns a *ParamError if fn
// is nil.
//
// GET /events
func (s *EventsService) Replay(
	ctx context.Context, since time.Time, fn func(context.Context, *Event) error,
	opts ...CallOption,
) (handled int, err error) {
	if fn == nil {
		return 0, &ParamError{Operation: "Events.Replay", Field: "fn", Reason: "is required"}
	}
	r := newReplay("Events.Replay", newEventRecord(clientFor(s), opts), fn)
	r.Since = func(time.Time) time.Time { return since }
	err = r.Run(ctx)
	return r.Handled, err
}

// newReplay returns a replay without its Since. An event that fails to be delivered
// meanwhile moves from the list of the pending events to that of the failed.
func newReplay(
	operation string, record *eventRecord, fn func(context.Context, *Event) error,
) *events.Replay[*Event] {
	return &events.Replay[*Event]{
		Record: record.record(operation),
		Lists: []events.List[*Event]{
			record.list(EventListParams{State: EventPending}),
			record.list(EventListParams{State: EventFailed}),
		},
		Handle: func(ctx context.Context, e *Event) (bool, error) {
			if e.State == EventDelivered { // an API that ignores the filter
				return false, nil
			}
			before := false
			err := fn(context.WithValue(ctx, replayKey{}, &before), e)
			if errors.Is(err, ErrEventDone) {
				return false, nil
			}
			return !before, err
		},
	}
}

// Replay handles the events that were missed: those that the API's record calls
// pending or failed and that the Deduplicator does not know. Call it at every
// start, once the receiver is up, and on a timer, such as every ten minutes.
//
// If the Deduplicator is a Cursor, as MemoryDeduplicator and the one in
// dedupe/sql are, Replay keeps its position there. The next Replay, of any
// process, continues there. The position stays a day behind, because deliveries
// may still be retried and clocks differ. It also stays behind each event that
// fails, until that succeeds. Without a position, Replay reads
// DefaultReplayReach back.
//
// It returns how many events were handled now, and the joined errors of those
// that could not be handled, such as ErrEventInProgress. An event that cannot
// be read is reported by its ID and left out.
//
// GET /events
func (h *WebhookHandler) Replay(
	ctx context.Context, client *Client, opts ...CallOption,
) (handled int, err error) {
	const operation = "WebhookHandler.Replay"
	if err := cmp.Or(h.check(), client.check()); err != nil {
		return 0, forOperation(operation, err)
	}
	var position time.Time
	cursor, hasCursor := h.dedupe.(Cursor)
	if hasCursor {
		if position, err = cursor.Cursor(ctx); err != nil {
			return 0, fmt.Errorf("ricloud: %s: reading the position: %w", operation, err)
		}
	}
	r := newReplay("Events.Replay", newEventRecord(client, opts), h.Handle)
	r.Since = func(now time.Time) time.Time {
		switch {
		case !position.IsZero():
			return position
		case now.IsZero(): // then this machine's clock, which may be fast
			return time.Now().Add(-DefaultReplayReach - events.ReplayOverlap)
		}
		return now.Add(-DefaultReplayReach)
	}
	err = r.Run(ctx)
	if next := r.Position(); hasCursor && !next.IsZero() {
		if storing := cursor.SetCursor(ctx, next); storing != nil {
			err = errors.Join(err,
				fmt.Errorf("ricloud: %s: storing the position: %w", operation, storing))
		}
	}
	return r.Handled, err
}

// EventWatchParams says which events EventsService.Watch yields.
type EventWatchParams struct {
	Type   string // only events of this type; empty: all
	Action string // only events with this action; empty: all

	// Since is the date, by the API's clock and to the second, of the first
	// event. The zero time means the events from now on.
	Since time.Time

	// Cursor, if set, stores how far Watch has come. Watch begins at the stored
	// position, if there is one, and moves it forward. After an interruption,
	// some events are yielded again: pass the events to WebhookHandler.Handle,
	// and use its Deduplicator as the Cursor. With a Type or an Action, give it a
	// Cursor of its own: it moves past all other events.
	Cursor Cursor

	// Notify passes each event to [Client.Notify], so that the client's waits
	// end without requests of their own.
	Notify bool
}

// Watch yields new events from the API's record, delivered or not, for programs
// that no webhook can reach. It reads the record at the shortest interval of
// WithPolling, and less often, up to the longest, while there are no new
// events. Each read yields its new events oldest first. The reads count towards
// the fifth of the quota that waits may use. Where waits need that fifth, Watch
// gets its part of it and reads less often than at these intervals.
//
// An event that cannot be read is yielded as an error with its ID, and Watch
// continues. Watch tolerates ten minutes of failed reads. It ends with the
// error of any other failure, and with a *CallError when ctx ends. An event
// that appears in the record more than half an hour after its date may be
// missed.
//
// GET /events
func (s *EventsService) Watch(
	ctx context.Context, params EventWatchParams, opts ...CallOption,
) iter.Seq2[*Event, error] {
	return func(yield func(*Event, error) bool) {
		record := newEventRecord(clientFor(s), opts)
		record.background = true
		polling := clientFor(s).waits.polls
		w := &events.Watch[*Event]{
			Record:    record.record("Events.Watch"),
			List:      record.list(EventListParams{Type: params.Type, Action: params.Action}),
			Since:     params.Since,
			Allowance: clientFor(s).waits.events.Share(), Shortest: polling.rhythm.Shortest,
			Longest: polling.rhythm.Longest,
			Passing: isPassing,
		}
		record.charge = w.Charge
		if params.Cursor != nil {
			w.Load, w.Store = params.Cursor.Cursor, params.Cursor.SetCursor
		}
		err := w.Run(ctx, func(e *Event, err error) bool {
			if err == nil && params.Notify {
				clientFor(s).notify(ctx, "Events.Watch", e)
			}
			return yield(e, err)
		})
		if err != nil {
			yield(nil, err)
		}
	}
}

// isPassing reports whether a read may succeed later.
func isPassing(err error) bool {
	verdict := classify(err)
	return verdict == watch.Retry || verdict == watch.Unsent
}
