package ricloud

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"iter"
	"math"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/reincubate/ricloud-go/internal/backoff"
	"github.com/reincubate/ricloud-go/internal/transport"
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
}

func (e *Event) ident() ID { return e.ID }

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
	_, _ = fmt.Fprintf(f, fmt.FormatString(f, verb), plain(e))
}

// MarshalJSON always fails: see Body.
func (Event) MarshalJSON() ([]byte, error) {
	return nil, errors.New("ricloud: an Event is not encoded as JSON, because its data may be " +
		"secret: put []byte(event.Body) into the queue, and read it with ParseEvent")
}

// UnmarshalJSON reads an event. Its ID, type and data must have the documented
// form. Any other field of an unexpected type is converted or left out.
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
	retries, err := strconv.ParseFloat(looseText(loose.Retries), 64)
	if err != nil || !(retries >= 0 && retries < math.MaxInt32) {
		retries = 0
	}
	*e = Event{
		ID: loose.ID, Type: loose.Type, Data: loose.Data,
		Action:        looseText(loose.Action),
		State:         EventState(looseText(loose.State)),
		Retries:       int(retries),
		DateCreated:   looseTime(loose.DateCreated),
		DateDelivered: looseTime(loose.DateDelivered),
	}
	return nil
}

// looseText returns a JSON string's value, or a number or bool as it is spelled.
func looseText(raw json.RawMessage) string {
	var s string
	switch {
	case len(raw) == 0 || raw[0] == '{' || raw[0] == '[' || string(raw) == "null":
	case json.Unmarshal(raw, &s) != nil:
		s = string(raw)
	}
	return strings.TrimSpace(s)
}

// looseTime returns a date, or the zero time if its format is not known.
func looseTime(raw json.RawMessage) (t time.Time) {
	text := looseText(raw)
	if seconds, err := strconv.ParseFloat(text, 64); err == nil && seconds > 0 && seconds < 1e11 {
		return time.UnixMilli(int64(seconds * 1e3)).UTC()
	}
	if _, err := wire.Decode(raw, &t); err != nil {
		return time.Time{}
	}
	return t
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
		return nil, fmt.Errorf("%w: event %s is %s", ErrEventType, e.ID, e.Name())
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
	return cmp.Or(p.ListParams.check(),
		checkPeriod(p.CreatedSince, p.CreatedBefore, "CreatedBefore"))
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
	return do[Event](ctx, s.client, request{op: transport.EventsGet, id: id}, opts)
}

// List returns one page of events.
//
// GET /events
func (s *EventsService) List(
	ctx context.Context, params EventListParams, opts ...CallOption,
) (*List[Event], error) {
	return list[Event](ctx, s.client, transport.EventsList, params, opts)
}

// All iterates over all events, page by page.
//
// GET /events
func (s *EventsService) All(
	ctx context.Context, params EventListParams, opts ...CallOption,
) iter.Seq2[*Event, error] {
	return all[Event](ctx, s.client, transport.EventsList, params, opts)
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
	l.ID, l.DateCreated, l.err = ID(looseText(known.ID)), looseTime(known.DateCreated), err
	return nil
}

// eventReader reads the API's record of events.
type eventReader struct {
	client     *Client
	opts       []CallOption
	limit      int    // events a page
	background bool   // yield to other calls
	charge     func() // called before each request; may be nil

	now time.Time // by the API's clock, when the first page was read; zero: unknown
}

// read yields the events of a list, each once, page by page. It returns at the
// end of the list, when yield returns false, or when done, which is called
// after each event, returns true.
func (r *eventReader) read(
	ctx context.Context, params EventListParams, after ID,
	yield func(*listedEvent) bool, done func(time.Time) bool,
) error {
	var resp Response
	opts := slices.Concat(r.opts, []CallOption{WithResponse(&resp)})
	if asked := newCallOptions(r.opts).response; asked != nil {
		defer func() { *asked = resp }()
	}
	defer r.readClock(&resp)
	for limit := r.limit; ; {
		params.AfterID, params.Limit = after, limit
		list := request{
			op: transport.EventsList, list: params, background: r.background, charge: r.charge,
		}
		tooLarge := false
		for e, err := range paginate[listedEvent](ctx, r.client, list, opts) {
			if tooLarge = limit > 1 && errors.Is(err, transport.ErrBodyTooLarge); tooLarge {
				break
			}
			if err != nil {
				return err
			}
			r.readClock(&resp)
			after = e.ID
			if !yield(e) || done(e.DateCreated) {
				return nil
			}
		}
		if !tooLarge {
			return nil
		}
		limit = max(1, limit/10) //nolint:mnd // large events: fewer at a time
	}
}

// readClock takes the API's time from the header of its first answer.
func (r *eventReader) readClock(resp *Response) {
	if r.now.IsZero() {
		r.now, _ = http.ParseTime(resp.Header.Get("Date"))
	}
}

// newestFirst recognises a list that is ordered newest first, and reports when
// the rest of it is old and need not be read. A list in another order is read
// to its end, so that no event is missed.
type newestFirst struct {
	first   time.Time
	last    time.Time
	ordered bool // nothing was newer than what came before it
	older   int  // events in a row that are old, each older than the one before
	falls   int  // events that are older than the one before
}

// add looks at the date of the next event. Events before the floor are old.
func (n *newestFirst) add(date, floor time.Time) {
	switch {
	case n.first.IsZero():
		n.first, n.ordered = date, true
	case date.IsZero() || date.After(n.last):
		n.ordered, n.older = false, 0
	case date.Before(n.last):
		n.falls++
		n.older++
	}
	if isOld := !date.IsZero() && date.Before(floor); !isOld {
		n.older = 0
	}
	n.last = date
}

// DefaultReplayReach is how far back WebhookHandler.Replay reads the record of
// events when no position is stored yet.
const DefaultReplayReach = 7 * 24 * time.Hour

// replayOverlap is how far a position stays behind the present. It is longer
// than the API retries a delivery, and longer than clocks differ.
const replayOverlap = 24 * time.Hour

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
// the others. Replay returns how many events fn handled, not counting those
// that Handle found to be handled before. It joins the errors of all others,
// each with the event's ID. It holds all undelivered events in memory while it
// runs. It returns a *ParamError if fn is nil.
//
// GET /events
func (s *EventsService) Replay(
	ctx context.Context, since time.Time, fn func(context.Context, *Event) error,
	opts ...CallOption,
) (handled int, err error) {
	if fn == nil {
		return 0, &ParamError{Operation: "Events.Replay", Field: "fn", Reason: "is required"}
	}
	r := replay{eventReader: eventReader{client: s.client, opts: opts, limit: maxLimit}, fn: fn}
	err = r.run(ctx, func() time.Time { return since })
	return r.handled, err
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
	if client == nil {
		return 0, &ParamError{Operation: operation, Field: "client", Reason: "is required"}
	}
	var position time.Time
	cursor, hasCursor := h.dedupe.(Cursor)
	if hasCursor {
		if position, err = cursor.Cursor(ctx); err != nil {
			return 0, fmt.Errorf("ricloud: %s: reading the position: %w", operation, err)
		}
	}
	r := replay{
		eventReader: eventReader{client: client, opts: opts, limit: maxLimit},
		fn:          h.Handle,
	}
	err = r.run(ctx, func() time.Time {
		if !position.IsZero() {
			return position
		}
		if r.now.IsZero() {
			return time.Now().Add(-DefaultReplayReach - replayOverlap)
		}
		return r.now.Add(-DefaultReplayReach)
	})
	if next := r.position(); hasCursor && !next.IsZero() {
		if storing := cursor.SetCursor(ctx, next); storing != nil {
			err = errors.Join(err,
				fmt.Errorf("ricloud: %s: storing the position: %w", operation, storing))
		}
	}
	return r.handled, err
}

// replay is one run of Replay.
type replay struct {
	eventReader

	fn func(context.Context, *Event) error

	missed   []*listedEvent
	complete bool      // both lists were read to the end
	newest   time.Time // of all events that were listed
	handled  int
	held     time.Time // the oldest event that was not handled; zero: none
	errs     []error
}

// run reads the events created at or after the floor and calls fn for them. It
// calls floor once, after the first page.
func (r *replay) run(ctx context.Context, floor func() time.Time) error {
	// An event that fails to be delivered meanwhile moves from the first list to
	// the second, where it is still found.
	known := map[ID]bool{}
	for _, state := range []EventState{EventPending, EventFailed} {
		if err := r.collect(ctx, state, floor, known); err != nil {
			return err
		}
	}
	r.complete = true
	slices.SortStableFunc(r.missed, func(a, b *listedEvent) int {
		return a.DateCreated.Compare(b.DateCreated)
	})
	for _, e := range r.missed {
		if ctx.Err() != nil {
			err := &CallError{Operation: "Events.Replay", Err: backoff.Cause(ctx)}
			r.errs = append(r.errs, err)
			r.hold(e)
			break
		}
		r.hand(ctx, e)
	}
	return errors.Join(r.errs...)
}

func (r *replay) collect(
	ctx context.Context, state EventState, floor func() time.Time, known map[ID]bool,
) error {
	var order newestFirst
	since := func() time.Time { return floor().Truncate(time.Second) } // as the API's dates may be
	return r.read(ctx, EventListParams{State: state}, "", func(e *listedEvent) bool {
		if e.DateCreated.After(r.newest) {
			r.newest = e.DateCreated
		}
		old := !e.DateCreated.IsZero() && e.DateCreated.Before(since())
		if !old && !known[e.ID] {
			known[e.ID] = true
			r.missed = append(r.missed, e)
		}
		return true
	}, func(date time.Time) bool {
		order.add(date, since())
		return order.older >= maxLimit
	})
}

// hand calls fn for an event.
func (r *replay) hand(ctx context.Context, e *listedEvent) {
	if e.err != nil {
		r.errs = append(r.errs, fmt.Errorf("ricloud: Events.Replay: event %s: %w", e.ID, e.err))
		return
	}
	before := false
	err := r.fn(context.WithValue(ctx, replayKey{}, &before), &e.Event)
	switch {
	case errors.Is(err, ErrEventDone):
	case err != nil:
		r.errs = append(r.errs,
			fmt.Errorf("ricloud: Events.Replay: event %s (%s): %w", e.ID, e.Name(), err))
		r.hold(e)
	case !before:
		r.handled++
	}
}

func (r *replay) hold(e *listedEvent) {
	if !e.DateCreated.IsZero() && (r.held.IsZero() || e.DateCreated.Before(r.held)) {
		r.held = e.DateCreated
	}
}

// position returns the date before which every event has been handled, or the
// zero time if that is not known.
func (r *replay) position() time.Time {
	now := r.now
	if now.IsZero() {
		now = r.newest
	}
	if !r.complete || now.IsZero() {
		return time.Time{}
	}
	position := now.Add(-replayOverlap)
	if !r.held.IsZero() && r.held.Before(position) {
		position = r.held.Truncate(time.Second)
	}
	return position
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
	// and use its Deduplicator as the Cursor.
	Cursor Cursor

	// Notify passes each event to [Client.Notify], so that the client's waits
	// end without requests of their own.
	Notify bool
}

const (
	watchLimit = 100 // events a page
	// An event may appear in the record some time after its date. Each round
	// looks back watchOverlap; every watchDeepEvery, one looks back
	// watchDeepOverlap.
	watchOverlap     = time.Minute
	watchDeepOverlap = 30 * time.Minute
	watchDeepEvery   = 5 * time.Minute
	// watchPatience is how long Watch tolerates failed reads, as waits do.
	watchPatience = 10 * time.Minute
	watchSpread   = 0.2
)

// Watch yields new events from the API's record, delivered or not, for programs
// that no webhook can reach. It reads the record at the shortest interval of
// WithPolling, and less often, up to the longest, while there are no new
// events. Each read yields its new events oldest first. The reads count towards
// the fifth of the quota that waits may use.
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
		w := newEventWatch(s.client, params, opts)
		if err := w.run(ctx, yield); err != nil {
			yield(nil, err)
		}
	}
}

// eventWatch is one Watch.
type eventWatch struct {
	eventReader

	params   EventWatchParams
	since    time.Time        // nothing older is yielded
	newest   time.Time        // date of the newest event in the record
	seen     map[ID]time.Time // events at or after the low-water mark, by date
	began    bool             // the first look, which may yield nothing, is over
	deep     time.Time        // when a look last reached far back
	requests int              // of the look in progress
	resume   ID               // where to read on in a record that lists the oldest first
}

func newEventWatch(client *Client, params EventWatchParams, opts []CallOption) *eventWatch {
	w := &eventWatch{
		eventReader: eventReader{
			client: client, opts: opts, limit: watchLimit, background: true,
		},
		params: params, since: params.Since, seen: map[ID]time.Time{},
	}
	w.charge = func() {
		if w.requests++; w.requests > 1 { // run has waited for the first
			client.waits.polls.allowance.ReserveN(time.Now(), 1)
		}
	}
	return w
}

// run looks at the record until something ends it. It returns nil when the
// consumer has had enough.
func (w *eventWatch) run(ctx context.Context, yield func(*Event, error) bool) error {
	if w.params.Cursor != nil {
		position, err := w.params.Cursor.Cursor(ctx)
		if err != nil {
			return fmt.Errorf("ricloud: Events.Watch: reading the position: %w", err)
		}
		if !position.IsZero() {
			w.since = position
		}
	}
	rhythm := w.client.waits.polls.rhythm
	interval, failing := rhythm.Shortest, time.Time{}
	for {
		turn := w.client.waits.polls.allowance.Reserve() // of the waits' share of the quota
		if err := backoff.Sleep(ctx, turn.Delay()); err != nil {
			turn.Cancel()
			return &CallError{Operation: "Events.Watch", Err: err}
		}
		w.requests = 0
		found, err := w.look(ctx)
		switch {
		case ctx.Err() != nil:
			return &CallError{Operation: "Events.Watch", Err: backoff.Cause(ctx)}
		case err == nil:
			failing = time.Time{}
		case !isPassing(err):
			return err
		case failing.IsZero():
			failing = time.Now()
		case time.Since(failing) > watchPatience:
			return err
		}
		if more, err := w.deliver(ctx, found, yield); !more || err != nil {
			return err
		}
		interval = min(2*interval, rhythm.Longest) //nolint:mnd // slower and slower
		if len(found) > 0 {
			interval = rhythm.Shortest
		}
		if err := backoff.Sleep(ctx, backoff.Spread(interval, watchSpread)); err != nil {
			return &CallError{Operation: "Events.Watch", Err: err}
		}
	}
}

// deliver yields events and moves the position forward. It reports whether the
// consumer wants more.
func (w *eventWatch) deliver(
	ctx context.Context, found []*listedEvent, yield func(*Event, error) bool,
) (more bool, err error) {
	for _, e := range found {
		if e.err != nil {
			if !yield(nil, fmt.Errorf("ricloud: Events.Watch: event %s: %w", e.ID, e.err)) {
				return false, nil
			}
			continue
		}
		if w.params.Notify {
			w.client.Notify(&e.Event)
		}
		if !yield(&e.Event, nil) {
			return false, nil
		}
	}
	if len(found) > 0 && w.params.Cursor != nil {
		position := w.newest.Add(-watchDeepOverlap)
		if err := w.params.Cursor.SetCursor(ctx, position); err != nil {
			return false, fmt.Errorf("ricloud: Events.Watch: storing the position: %w", err)
		}
	}
	return true, nil
}

// look reads the record back to the events that were seen before, and returns
// the new ones.
func (w *eventWatch) look(ctx context.Context) (found []*listedEvent, err error) {
	began := time.Now()
	deep := began.Sub(w.deep) >= watchDeepEvery
	overlap := watchOverlap
	if w.limit = watchLimit; deep {
		w.limit, overlap = maxLimit, watchDeepOverlap
	}
	w.now = time.Time{}
	floor := func() time.Time {
		if !w.began && !w.since.IsZero() {
			return w.since.Truncate(time.Second)
		}
		return w.newest.Add(-overlap)
	}
	var order newestFirst
	rising, known := true, 0 // known: events in a row that were found before
	low, last, resume := w.newest.Add(-watchDeepOverlap), time.Time{}, w.resume
	params := EventListParams{Type: w.params.Type, Action: w.params.Action}
	err = w.read(ctx, params, w.resume, func(e *listedEvent) bool {
		w.advance(e.DateCreated)
		known++
		if w.isNew(e) {
			found, known = append(found, e), 0
		}
		rising = rising && !e.DateCreated.Before(last)
		last = e.DateCreated
		if rising && last.Before(low) {
			resume = e.ID
		}
		return true
	}, func(date time.Time) bool {
		order.add(date, floor())
		if !order.ordered {
			return false
		}
		isOld := order.falls > 0 && date.Before(floor())
		return isOld || !deep && known >= watchLimit && !order.first.Before(w.newest)
	})
	if err != nil {
		return nil, err
	}
	if w.resume = ""; rising && order.falls == 0 {
		w.resume = resume
	}
	if deep {
		w.deep = began
	}
	w.remember(found)
	if !w.began && w.since.IsZero() { // what is there at the beginning is not new
		found = nil
	}
	w.began = true
	slices.SortStableFunc(found, func(a, b *listedEvent) int {
		return a.DateCreated.Compare(b.DateCreated)
	})
	return found, nil
}

// advance notes an event's date. A date in the future, by the API's own clock,
// is not noted: it would make the events of the present look old.
func (w *eventWatch) advance(date time.Time) {
	if !w.now.IsZero() && date.After(w.now) {
		date = w.now
	}
	if date.After(w.newest) {
		w.newest = date
	}
}

// isNew reports whether an event was not found before.
func (w *eventWatch) isNew(e *listedEvent) bool {
	if _, known := w.seen[e.ID]; known {
		return false
	}
	switch {
	case e.DateCreated.IsZero():
		return true
	case e.DateCreated.Before(w.since.Truncate(time.Second)):
		return false
	}
	return !w.began || !e.DateCreated.Before(w.newest.Add(-watchDeepOverlap))
}

// remember keeps the events that a look found, and forgets those that are too
// old for later looks.
func (w *eventWatch) remember(found []*listedEvent) {
	for _, e := range found {
		w.seen[e.ID] = e.DateCreated
	}
	low := w.newest.Add(-watchDeepOverlap)
	for id, date := range w.seen {
		if !date.IsZero() && date.Before(low) {
			delete(w.seen, id)
		}
	}
}

// isPassing reports whether a read may succeed later.
func isPassing(err error) bool {
	if e, ok := errors.AsType[*Error](err); ok {
		return e.StatusCode >= http.StatusInternalServerError ||
			e.StatusCode == http.StatusTooManyRequests ||
			e.StatusCode == http.StatusRequestTimeout
	}
	_, ok := errors.AsType[*CallError](err)
	return ok
}
