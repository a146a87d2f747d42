package ricloud

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"iter"
	"log/slog"
	"math"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/reincubate/ricloud-go/internal/allowance"
	"github.com/reincubate/ricloud-go/internal/backoff"
	"github.com/reincubate/ricloud-go/internal/login"
	"github.com/reincubate/ricloud-go/internal/observer"
	"github.com/reincubate/ricloud-go/internal/transport"
	"github.com/reincubate/ricloud-go/internal/watch"
	"github.com/reincubate/ricloud-go/internal/wire"
)

//nolint:gochecknoglobals // a constant in all but name
var defaultPolling = watch.Rhythm{Shortest: time.Second, Longest: 10 * time.Second}

// waits are the waits of a client, by the kind of resource.
type waits struct {
	sessions      *waiter[Session]
	polls         *waiter[Poll]
	tasks         *waiter[Task]
	subscriptions *waiter[Subscription]
	events        *allowance.Kind // of all Events.Watch
	logins        *login.Sessions
}

func newWaits(c *Client, cfg config) waits {
	quota, per := cfg.quota(), time.Hour
	if cfg.RateLimit == 0 && cfg.polling.Shortest < defaultPolling.Shortest {
		// an API with capacity to spare
		quota *= defaultPolling.Shortest.Seconds() / cfg.polling.Shortest.Seconds()
	}
	if cfg.RateLimit > 0 {
		per = cfg.RatePer
	}
	shared := pollingOf{
		client: c, rhythm: cfg.polling, logger: cfg.Logger,
		allowance: allowance.OfWaits(quota, per).PauseWith(c.transport.Paused),
	}
	return waits{
		logins:   new(login.Sessions),
		events:   shared.allowance.Kind(),
		sessions: newWaiter(shared, transport.SessionsGet, transport.SessionsList, sessionStatus, nil),
		polls:    newWaiter(shared, transport.PollsGet, transport.PollsList, pollStatus, completePoll),
		tasks:    newWaiter(shared, transport.TasksGet, transport.TasksList, taskStatus, nil),
		subscriptions: newWaiter(
			shared, transport.SubscriptionsGet, transport.SubscriptionsList, subscriptionStatus, nil,
		),
	}
}

// pollingOf is what all waits of a client have in common.
type pollingOf struct {
	client    *Client
	rhythm    watch.Rhythm
	allowance *allowance.Allowance
	kind      *allowance.Kind
	share     *allowance.Share // of kind
	logger    *slog.Logger     // may be nil
}

// waiter waits for resources of one kind.
type waiter[T any] struct {
	reader[T]

	hub *watch.Hub[T]
}

func newWaiter[T any](
	shared pollingOf, get, list transport.Operation,
	status func(*T) watch.Status, complete func(context.Context, pollingOf, *T) error,
) *waiter[T] {
	shared.kind = shared.allowance.Kind()
	shared.share = shared.kind.Share()
	r := reader[T]{
		pollingOf: shared, get: get, list: list, status: status, complete: complete,
		links: new(observer.Links), pages: watch.NewPages[T](), warned: new(atomic.Bool),
	}
	return &waiter[T]{r, watch.New(r, shared.rhythm, shared.share)}
}

// watch yields a resource at each change until a wait for it is over. known is
// what the caller knows of the resource already, or nil; it saves a request. The
// wait shares its requests with all others, unless it has options of its own:
// then its requests carry the values of ctx. Errors name operation.
func (w *waiter[T]) watch(
	ctx context.Context, operation string, id ID, known *T, opts []CallOption,
) iter.Seq2[*T, error] {
	return func(yield func(*T, error) bool) {
		hub, o := w.hub, newCallOptions(opts)
		var raw atomic.Pointer[Response] // the hub writes it while the caller reads its own copy
		if len(opts) > 0 {
			own := w.reader
			own.opts, own.raw, own.share, own.pages = opts, &raw, w.kind.Share(), watch.NewPages[T]()
			hub = watch.New(own, w.rhythm, own.share).WithValues(ctx)
		}
		began, wait := time.Now(), hub.Join(string(id), known)
		defer wait.Leave()
		ctx, seen := w.client.beginWait(ctx, w.get, id)
		defer seen.end()
		if len(w.client.hooks.call) > 0 {
			defer w.links.Add(ctx, string(id))()
		}
		for {
			v, end, err := wait.Next(ctx)
			if end && ctx.Err() != nil && errors.Is(err, context.Cause(ctx)) {
				after := time.Since(began)
				err = wait.Unfinished(backoff.Cause(ctx), after, w.textOf)
				err = &CallError{Operation: operation, Duration: after, Err: err}
			} else {
				err = renamed(operation, err)
			}
			if r := raw.Load(); r != nil && o.response != nil {
				*o.response = *r
			}
			if v != nil {
				seen.change(w.status(v).State, wait.ByRead())
			}
			seen.err = err
			if !yield(v, err) || end {
				return
			}
		}
	}
}

// textOf returns the text of an error of a read, without the read's operation.
func (r reader[T]) textOf(err error) string {
	return strings.TrimPrefix(trimPrefix(err, r.get.Name), "ricloud: "+r.list.Name+": ")
}

// renamed returns err as an error of operation, which made the call that failed.
// It is a copy: waits for one resource do not share their error.
func renamed(operation string, err error) error {
	switch e := err.(type) { //nolint:errorlint // what wraps an error names its own operation
	case *Error:
		c := *e
		c.Operation = operation
		c.Params, c.Body = slices.Clone(e.Params), slices.Clone(e.Body)
		c.Attempts = slices.Clone(e.Attempts)
		return &c
	case *CallError:
		c := *e
		c.Operation, c.Err = operation, renamed(operation, e.Err)
		c.Attempts = slices.Clone(e.Attempts)
		return &c
	case *DecodeError:
		c := *e
		c.Operation = operation
		return &c
	case *ParamError:
		c := *e
		c.Operation = operation
		return &c
	case *StateError: // names no operation
		return watch.Clone(e)
	}
	return err
}

// last runs a watch to its end.
func last[T any](watch iter.Seq2[*T, error]) (v *T, err error) {
	for v, err = range watch {
	}
	return v, err
}

// reader reads resources for a hub, one request at a time.
type reader[T any] struct {
	pollingOf

	get, list transport.Operation
	status    func(*T) watch.Status
	// complete adds what an answer lacks, with requests of its own; may be nil.
	complete func(context.Context, pollingOf, *T) error

	links  *observer.Links // the waits, for hooks
	pages  *watch.Pages[T] // of the list
	opts   []CallOption    // of the one wait that it reads for
	raw    *atomic.Pointer[Response]
	warned *atomic.Bool // that the key may not list
}

func (r reader[T]) Status(v *T) watch.Status { return r.status(v) }

func (r reader[T]) Get(ctx context.Context, id string) (*T, error) {
	opts := r.opts
	if r.raw != nil {
		var raw Response
		opts = append(slices.Clip(opts), WithResponse(&raw))
		defer func() { r.raw.Store(&raw) }()
	}
	sent := request{
		op: r.get, id: ID(id), kind: r.resource(), background: true, waits: r.waits(ID(id)),
		redirected: r.share.Charge,
	}
	v, err := do[T](ctx, r.client, sent, opts)
	if err != nil {
		return nil, err
	}
	switch st := r.status(v); {
	case !strings.EqualFold(st.ID, id):
		return nil, notTheResource(r.get.Name, "id", st.ID)
	case st.State == "":
		return nil, notTheResource(r.get.Name, "state", st.State)
	}
	if r.complete != nil {
		if err := r.complete(ctx, r.pollingOf, v); err != nil {
			return nil, err
		}
	}
	return v, nil
}

// resource returns the kind of the resources, as the API writes it.
func (r reader[T]) resource() string {
	service, _, _ := strings.Cut(r.get.Name, ".")
	return strings.ToLower(strings.TrimSuffix(service, "s"))
}

// notTheResource is the error of an answer that is JSON, but of something else.
func notTheResource(operation, path, value string) error {
	return &DecodeError{
		Operation: operation, Path: path, Snapshot: transport.Snapshot([]byte(value)),
		Err: errors.New("this is not the resource that was asked for"),
	}
}

// List reads a page. An item that cannot be decoded is read by itself, so that its
// error is reported.
func (r reader[T]) List(
	ctx context.Context, after string, limit int, wanted func(id string) bool,
) (page watch.Page[T], err error) {
	params := ListParams{AfterID: ID(after), Limit: limit}
	sent := request{
		op: r.list, list: params, background: true, waits: r.waits(""), redirected: r.share.Charge,
	}
	l, err := do[List[json.RawMessage]](ctx, r.client, sent, nil)
	if err != nil {
		r.warn(ctx, err)
		return page, err
	}
	page, ok := r.pages.Page(after, l.Data, wanted, func(raw []byte) *T {
		v := new(T)
		if r.client.decode(ctx, r.list.Name, raw, v) != nil || r.status(v).State == "" ||
			otherKind(raw, r.resource()) != "" {
			return nil
		}
		return v
	})
	if !ok {
		return watch.Page[T]{}, notTheResource(r.list.Name, "data[].id", "")
	}
	page.More = l.HasMore
	return page, nil
}

// waits returns the contexts of the waits that a read is for, if a hook wants
// to know.
func (r reader[T]) waits(id ID) []context.Context {
	if len(r.client.hooks.call) == 0 {
		return nil
	}
	return r.links.Of(string(id))
}

// warn tells the logger once that the key may not list.
func (r reader[T]) warn(ctx context.Context, err error) {
	verdict := r.Classify(err)
	if r.logger == nil || verdict != watch.Final && verdict != watch.Missing || r.warned.Swap(true) {
		return
	}
	r.logger.LogAttrs(ctx, slog.LevelWarn,
		"ricloud waits cannot list: each needs requests of its own and is slow where there are many; "+
			"let the key list, or give webhook events to Client.Notify",
		slog.String("operation", r.list.Name), slog.Any("error", err))
}

// Classify is classify.
func (reader[T]) Classify(err error) watch.Verdict { return classify(err) }

// classify distinguishes outages from answers of the API.
func classify(err error) watch.Verdict {
	if errors.Is(err, transport.ErrBodyTooLarge) {
		return watch.TooLarge
	}
	if e, ok := errors.AsType[*Error](err); ok {
		return watch.OfAnswer(e.StatusCode, string(e.Code), e.Body)
	}
	if _, ok := errors.AsType[*CallError](err); ok {
		return watch.OfFailure(err)
	}
	if _, ok := errors.AsType[*DecodeError](err); ok {
		return watch.Retry
	}
	return watch.Final // it was refused before anything was sent
}

// ended is the progress of a resource that will not change again.
const ended = math.MaxInt

// Notify passes an event to the client's waits, so that they yield or end at
// once, without a request. Call it for every event that arrives. Events may
// come in any order and more than once: one that is older than what is known is
// ignored, and so is one that no wait can use. Waits still read their
// resources, up to one and a half times the longest interval of WithPolling
// apart, because events can get lost.
//
//	handler, err := ricloud.NewWebhookHandler(func(ctx context.Context, event *ricloud.Event) error {
//		client.Notify(event)
//		return nil
//	})
//
//nolint:contextcheck,nolintlint // no call is under way; only contextcheck itself reads this
func (c *Client) Notify(event *Event) {
	if event == nil || c.check() != nil {
		return
	}
	ctx := context.Background() // for the hooks: no call is under way
	c.report(ctx, "Notify", event.odd)
	c.notify(ctx, "Notify", event)
}

// notify is Notify for an operation that has reported the odd fields of the
// event itself.
func (c *Client) notify(ctx context.Context, operation string, event *Event) {
	var odd []wire.Oddity
	switch event.Type {
	case "session":
		_, odd = notify(c.waits.sessions, event)
	case "poll":
		_, odd = notify(c.waits.polls, event)
	case "subscription":
		_, odd = notify(c.waits.subscriptions, event)
	case "task":
		var task *Task
		if task, odd = notify(c.waits.tasks, event); task != nil {
			c.notifyOwner(task)
		}
	}
	c.report(ctx, operation, odd)
}

// notify returns what the event is about, or nil, and what is odd in its data.
func notify[T any](w *waiter[T], event *Event) (*T, []wire.Oddity) {
	v := new(T)
	odd, err := decodeOdd("Notify", event.Data, v)
	for i := range odd {
		odd[i].Path = "data." + odd[i].Path
	}
	if undecodable, ok := errors.AsType[*DecodeError](err); ok {
		path := strings.TrimSuffix("data."+undecodable.Path, ".")
		return nil, []wire.Oddity{{Path: path, Reason: undecodable.reason()}}
	}
	if st := w.status(v); st.ID == "" || st.State == "" {
		return nil, odd
	}
	w.hub.Notify(v)
	return v, odd
}

// notifyOwner applies an event about a task to the poll or the session that it
// belongs to. No event is known for a session that becomes active or fails, but
// a session's creation is a task: one that has a session and no poll, and whose
// end is the session's.
func (c *Client) notifyOwner(task *Task) {
	switch {
	case task.Poll != "":
		change := func(p *Poll) { p.applyTask(task) }
		c.waits.polls.hub.NotifyChange(string(task.Poll), change)
	case task.Session != "" && (task.succeeded() || task.State == TaskFailed):
		change := func(s *Session) { s.apply(task) }
		c.waits.sessions.hub.NotifyChange(string(task.Session), change)
	case task.Session != "":
		c.waits.sessions.hub.NotifyChange(string(task.Session), nil)
	}
}

// shared returns how many reads the waits have saved each other.
func (w waits) shared() int64 {
	return w.sessions.hub.Shared() + w.polls.hub.Shared() + w.tasks.hub.Shared() +
		w.subscriptions.hub.Shared()
}

// sessionStatus ranks active below failed and expired. An active session can
// still expire, and events may arrive in any order.
func sessionStatus(s *Session) watch.Status {
	st := watch.Status{ID: string(s.ID), State: string(s.State), Version: string(s.State)}
	st.Ended = s.State.Ended()
	switch s.State {
	case SessionActive:
		st.Progress = 1
	case SessionFailed, SessionExpired:
		st.Progress = ended
		st.Err = s.stateError()
	case SessionPending:
	default: // a state that is not known; with a date of expiry it is no success
		if !s.DateExpired.IsZero() {
			st.Ended, st.Progress, st.Err = true, ended, s.stateError()
		}
	}
	return st
}

// pollStatus reads the progress of a poll from its tasks: one that has begun
// counts once, and one that has ended twice.
func pollStatus(p *Poll) watch.Status {
	st := watch.Status{
		ID: string(p.ID), State: string(p.State),
		Version: fmt.Sprint(
			p.State, len(p.TasksPending), len(p.TasksProcessing), len(p.TasksSuspended),
			len(p.TasksSucceeded), len(p.TasksFailed),
			len(p.Results.Data), p.Results.HasMore, p.Results.TotalCount,
		),
	}
	begun := len(p.TasksProcessing) + len(p.TasksSuspended)
	done := len(p.TasksSucceeded) + len(p.TasksFailed)
	st.Progress = 2*done + begun
	if p.State != PollPending {
		st.Progress++
	}
	st.Soon = done > 0 && len(p.TasksPending)+len(p.TasksProcessing) == 0
	known := p.State == PollPending || p.State == PollProcessing || p.State.Ended()
	switch {
	case p.State.Ended() && p.unsorted: // a read will sort the tasks
		st.Progress, st.Soon, st.GetOnly = ended-1, true, true
		return st
	case p.State == PollCompleted && len(p.TasksPending)+len(p.TasksProcessing) > 0:
		// The state may be newer than the lists of tasks, or these older than a task's end.
		st.Progress, st.Soon, st.GetOnly = ended-1, true, true
		open := joinIDs(slices.Concat(p.TasksPending, p.TasksProcessing))
		st.Err = &StateError{
			Resource: "poll", ID: p.ID, State: string(p.State), Code: p.Error,
			Failed: p.TasksFailed, Suspended: p.TasksSuspended,
			Detail: "tasks that have not ended: " + open,
		}
		return st
	case p.State.Ended(), !known && p.finished():
		st.Ended, st.Progress = true, ended
	}
	failed := p.State == PollFailed || !known || p.failedInPart()
	if st.Ended && failed {
		st.Err = &StateError{
			Resource: "poll", ID: p.ID, State: string(p.State), Code: p.Error,
			Failed: p.TasksFailed, Suspended: p.TasksSuspended, Detail: p.failures(),
		}
	}
	return st
}

// failedInPart reports whether a poll that completed says that something failed.
func (p *Poll) failedInPart() bool {
	return len(p.TasksFailed)+len(p.TasksSuspended)+len(p.Errors.Data) > 0 || p.Errors.HasMore ||
		p.Errors.TotalCount > 0 || p.Error != ""
}

// failures returns Poll.Errors in words, for a StateError.
func (p *Poll) failures() string {
	var all []string
	for _, e := range p.Errors.Data {
		text := strings.Trim(string(e.Code)+": "+e.Message, ": ")
		all = append(all, cmp.Or(text, "an error without a code"))
	}
	return transport.Beginning(strings.Join(all, ", "))
}

// taskStatus ranks a processing task above a pending one, and both below its end.
func taskStatus(t *Task) watch.Status {
	st := watch.Status{ID: string(t.ID), State: string(t.State), Version: string(t.State)}
	st.Ended = t.State.Ended()
	switch t.State {
	case TaskPending:
	case TaskSucceeded, TaskFailed:
		st.Progress = ended
		if !t.succeeded() {
			st.Err = t.stateError()
		}
	case TaskProcessing, TaskSuspended:
		st.Progress = 1
	default: // a word that is not known; with a date of completion it is no success
		st.Progress = 1
		if !t.DateCompleted.IsZero() {
			st.Ended, st.Progress, st.Err = true, ended, t.stateError()
		}
	}
	return st
}

// subscriptionStatus ranks active below deleted: an active subscription can
// still be deleted, and events may arrive in any order.
func subscriptionStatus(s *Subscription) watch.Status {
	st := watch.Status{ID: string(s.ID), State: string(s.State), Version: string(s.State)}
	st.Ended = s.State.Ended()
	switch s.State {
	case SubscriptionActive:
		st.Progress = 1
	case SubscriptionDeleted:
		st.Progress = ended
		st.Err = &StateError{Resource: "subscription", ID: s.ID, State: string(s.State)}
	case SubscriptionPending:
	}
	return st
}
