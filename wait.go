package ricloud

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"iter"
	"math"
	"net/http"
	"slices"
	"sync/atomic"
	"time"

	"golang.org/x/time/rate"

	"github.com/reincubate/ricloud-go/internal/backoff"
	"github.com/reincubate/ricloud-go/internal/transport"
	"github.com/reincubate/ricloud-go/internal/watch"
	"github.com/reincubate/ricloud-go/internal/wire"
)

//nolint:gochecknoglobals // a constant in all but name
var defaultPolling = watch.Rhythm{Shortest: time.Second, Longest: 10 * time.Second}

// The requests that waits make are a fifth of the quota at most: what
// WithRateLimit sets, or what the contract gives an organisation (§1.5).
const (
	defaultQuota    = 10_000.0
	defaultQuotaPer = time.Hour
	waitShare       = 5
	waitBurst       = 50
)

// waits are the hubs of all waits of a client, a kind of resource each.
type waits struct {
	sessions      *waiter[Session]
	polls         *waiter[Poll]
	tasks         *waiter[Task]
	subscriptions *waiter[Subscription]
}

func newWaits(c *Client, cfg config) waits {
	quota := defaultQuota / defaultQuotaPer.Seconds()
	switch {
	case cfg.RateLimit > 0:
		quota = float64(cfg.RateLimit) / cfg.RatePer.Seconds()
	case cfg.polling.Shortest < defaultPolling.Shortest: // an API with time to spare
		quota *= defaultPolling.Shortest.Seconds() / cfg.polling.Shortest.Seconds()
	}
	allowance := rate.NewLimiter(rate.Limit(quota/waitShare), waitBurst)
	return waits{
		sessions:      newWaiter(c, transport.SessionsGet, transport.SessionsList, sessionStatus, cfg.polling, allowance),
		polls:         newWaiter(c, transport.PollsGet, transport.PollsList, pollStatus, cfg.polling, allowance),
		tasks:         newWaiter(c, transport.TasksGet, transport.TasksList, taskStatus, cfg.polling, allowance),
		subscriptions: newWaiter(c, transport.SubscriptionsGet, transport.SubscriptionsList, subscriptionStatus, cfg.polling, allowance),
	}
}

// waiter waits for resources of one kind.
type waiter[T any] struct {
	reader[T]

	hub       *watch.Hub[T]
	rhythm    watch.Rhythm
	allowance *rate.Limiter
}

func newWaiter[T any](
	c *Client, get, list transport.Operation, look func(*T) watch.Status, rhythm watch.Rhythm, allowance *rate.Limiter,
) *waiter[T] {
	r := reader[T]{client: c, get: get, list: list, look: look, links: new(links)}
	return &waiter[T]{r, watch.New(r, rhythm, allowance), rhythm, allowance}
}

// watch yields a resource at each change until a wait for it is over. known is
// what the caller knows of the resource already, or nil; it saves a request. The
// wait shares its requests with all others, unless it has options of its own.
// Errors name operation.
func (w *waiter[T]) watch(
	ctx context.Context, operation string, id ID, known *T, opts []CallOption,
) iter.Seq2[*T, error] {
	return func(yield func(*T, error) bool) {
		hub, o := w.hub, newCallOptions(opts)
		var raw atomic.Pointer[Response] // the hub reads on while the caller looks at its own
		if len(opts) > 0 {
			own := w.reader
			own.opts, own.raw = opts, &raw
			hub = watch.New(own, w.rhythm, w.allowance)
		}
		began, wait := time.Now(), hub.Join(string(id), known)
		defer wait.Leave()
		ctx, seen := w.client.beginWait(ctx, w.get, id)
		defer seen.end()
		if len(w.client.hooks.call) > 0 {
			defer w.links.add(id, ctx)()
		}
		for {
			v, end, err := wait.Next(ctx)
			if end && ctx.Err() != nil && errors.Is(err, context.Cause(ctx)) {
				err = w.unfinished(ctx, operation, id, v, time.Since(began), wait.Failure())
			} else {
				err = renamed(operation, err)
			}
			if r := raw.Load(); r != nil && o.response != nil {
				*o.response = *r
			}
			if v != nil {
				seen.change(w.look(v).State)
			}
			seen.err = err
			if !yield(v, err) || end {
				return
			}
		}
	}
}

// unfinished is the error of a wait whose context ended.
func (w *waiter[T]) unfinished(
	ctx context.Context, operation string, id ID, v *T, after time.Duration, failure error,
) error {
	state := "not read yet"
	if v != nil {
		state = "still " + w.look(v).State
	}
	e := &CallError{
		Operation: operation, Duration: after,
		Err: fmt.Errorf("%s is %s after %s: %w", id, state, after.Round(time.Millisecond), backoff.Cause(ctx)),
	}
	e.last, _ = errors.AsType[*Error](failure)
	return e
}

// renamed returns err as an error of operation, which made the call that failed.
func renamed(operation string, err error) error {
	switch e := err.(type) { //nolint:errorlint // what wraps an error names its own operation
	case *Error:
		c := *e
		c.Operation = operation
		return &c
	case *CallError:
		c := *e
		c.Operation, c.Err = operation, renamed(operation, e.Err)
		return &c
	case *DecodeError:
		c := *e
		c.Operation = operation
		return &c
	case *ParamError:
		c := *e
		c.Operation = operation
		return &c
	}
	return err
}

// last runs a watch to its end.
func last[T any](watch iter.Seq2[*T, error]) (v *T, err error) {
	for v, err = range watch {
	}
	return v, err
}

// reader reads resources for a hub.
type reader[T any] struct {
	client    *Client
	get, list transport.Operation
	look      func(*T) watch.Status
	links     *links

	opts []CallOption // of the one wait it reads for
	raw  *atomic.Pointer[Response]
}

func (r reader[T]) Get(ctx context.Context, id string) (*T, error) {
	opts := r.opts
	if r.raw != nil {
		var raw Response
		opts = append(slices.Clip(opts), WithResponse(&raw))
		defer func() { r.raw.Store(&raw) }()
	}
	return do[T](ctx, r.client, request{op: r.get, id: ID(id), background: true, waits: r.waits(ID(id))}, opts)
}

// List decodes what is wanted only: most of a page is others', or over.
func (r reader[T]) List(ctx context.Context, after string, limit int, wanted func(id string) bool) (page watch.Page[T], err error) {
	op, params := r.list, ListParams{AfterID: ID(after), Limit: limit}
	l, err := do[List[json.RawMessage]](ctx, r.client, request{op: op, list: params, background: true, waits: r.waits("")}, nil)
	if err != nil {
		return page, err
	}
	page.Len, page.More = len(l.Data), l.HasMore
	for _, raw := range l.Data {
		page.Last = wire.ID(raw)
		if v := new(T); wanted(page.Last) && r.client.decode(op.Name, raw, v) == nil { // else it is read by itself, and its error told
			page.Wanted = append(page.Wanted, v)
		}
	}
	return page, nil
}

// waits returns the contexts of the waits that a read is for, if a hook wants
// to know.
func (r reader[T]) waits(id ID) []context.Context {
	if len(r.client.hooks.call) == 0 {
		return nil
	}
	return r.links.of(id)
}

func (r reader[T]) Look(v *T) watch.Status { return r.look(v) }

// Judge tells failures that pass from those that do not.
func (reader[T]) Judge(err error) watch.Verdict {
	if e, ok := errors.AsType[*Error](err); ok {
		switch {
		case e.StatusCode == http.StatusUnauthorized:
			return watch.Fatal
		case e.StatusCode == http.StatusRequestTimeout, e.StatusCode == http.StatusTooManyRequests,
			e.StatusCode >= http.StatusInternalServerError:
			return watch.Passing
		}
		return watch.Final
	}
	if _, ok := errors.AsType[*CallError](err); ok {
		return watch.Passing
	}
	return watch.Final
}

// ended is the progress of a resource that will not change again.
const ended = math.MaxInt

// Notify tells the client's waits what an event says, so that they end or go
// on at once, without a request. Give it every event that arrives, in whatever
// order and however often: a resource never moves backwards. While events
// flow, waits ask the API rarely, in case one was lost; without them they
// poll. An event that no wait could use is ignored.
//
//	handler, err := ricloud.NewWebhookHandler(func(ctx context.Context, event *ricloud.Event) error {
//		client.Notify(event)
//		return nil
//	})
func (c *Client) Notify(event *Event) {
	switch event.Type {
	case "session":
		notify(c.waits.sessions, event)
	case "poll":
		notify(c.waits.polls, event)
	case "subscription":
		notify(c.waits.subscriptions, event)
	case "task":
		if task := notify(c.waits.tasks, event); task != nil {
			c.notifyOwner(task)
		}
	}
}

// notify returns what the event is about, or nil.
func notify[T any](w *waiter[T], event *Event) *T {
	v := new(T)
	if decode("Notify", event.Data, v) != nil || w.look(v).ID == "" {
		return nil
	}
	w.hub.Notify(v)
	return v
}

// notifyOwner tells what a task means to what it was made for. The contract
// names no event for a session that becomes active or fails, but a session's
// creation is a task (§8): the one of a session and of no poll, whose end is
// the session's.
func (c *Client) notifyOwner(task *Task) {
	switch {
	case task.Poll != "":
		c.waits.polls.hub.NotifyChange(string(task.Poll), func(p *Poll) { p.applyTask(task) })
	case task.Session != "" && task.State.Ended():
		c.waits.sessions.hub.NotifyChange(string(task.Session), func(s *Session) { s.apply(task) })
	}
}
