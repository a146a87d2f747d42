package ricloud

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"iter"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/reincubate/ricloud-go/internal/transport"
	"github.com/reincubate/ricloud-go/internal/watch"
)

// Poll asks a source for data. Its tasks do the work and publish the results.
type Poll struct {
	ID              ID              `json:"id" wire:"strict"`
	Organisation    ID              `json:"organisation"`
	Key             ID              `json:"key"`
	User            ID              `json:"user"`
	Source          ID              `json:"source"` // may be a child of the session's source
	Session         ID              `json:"session"`
	Subscription    ID              `json:"subscription,omitempty"`
	Type            string          `json:"type,omitempty"` // "data" or "files"; the oldest API only
	TasksPending    []ID            `json:"tasks_pending" wire:"strict"`
	TasksProcessing []ID            `json:"tasks_processing" wire:"strict"`
	TasksSuspended  []ID            `json:"tasks_suspended" wire:"strict"`
	TasksSucceeded  []ID            `json:"tasks_succeeded" wire:"strict"` // also what the oldest API calls completed
	TasksFailed     []ID            `json:"tasks_failed" wire:"strict"`
	Results         List[Result]    `json:"results"` // what is published so far; may be the first page only
	Errors          List[PollError] `json:"errors,omitzero"`
	State           PollState       `json:"state" wire:"strict"` // PollCompleted as soon as no task is left, whatever word the API uses
	Error           ErrorCode       `json:"error,omitempty"`     // where State is PollFailed
	DateCreated     time.Time       `json:"date_created,omitzero"`
	DateStarted     time.Time       `json:"date_started,omitzero"`
	DateCompleted   time.Time       `json:"date_completed,omitzero"`
}

// Format prints all but secrets, for every verb.
func (p Poll) Format(f fmt.State, verb rune) {
	type plain Poll
	format(f, verb, plain(p))
}

// UnmarshalJSON reads a poll of any generation of the API.
func (p *Poll) UnmarshalJSON(b []byte) error {
	type plain Poll
	aux := struct {
		*plain
		TasksCompleted []ID `json:"tasks_completed"`
	}{plain: (*plain)(p)}
	if err := json.Unmarshal(b, &aux); err != nil {
		return err
	}
	if p.TasksSucceeded == nil {
		p.TasksSucceeded = aux.TasksCompleted
	}
	// The vendor's guide shows a finished poll that still says "processing".
	if !p.State.Terminal() && !p.DateCompleted.IsZero() && len(p.TasksPending)+len(p.TasksProcessing) == 0 {
		p.State = PollCompleted
	}
	return nil
}

func (p Poll) ident() ID { return p.ID }

// applyToPoll takes over what a task's state says of the poll. A task that has ended
// does not begin again.
func applyToPoll(p *Poll, task *Task) {
	if slices.Contains(p.TasksSucceeded, task.ID) || slices.Contains(p.TasksFailed, task.ID) {
		return
	}
	begun := slices.Contains(p.TasksProcessing, task.ID) || slices.Contains(p.TasksSuspended, task.ID)
	if task.State == TaskPending && begun {
		return
	}
	lists := map[TaskState]*[]ID{
		TaskPending: &p.TasksPending, TaskProcessing: &p.TasksProcessing, TaskSuspended: &p.TasksSuspended,
		TaskSucceeded: &p.TasksSucceeded, TaskFailed: &p.TasksFailed,
	}
	to := lists[task.State]
	if to == nil {
		return
	}
	for _, list := range lists { // new slices: others hold the poll as it was
		*list = slices.DeleteFunc(slices.Clone(*list), func(id ID) bool { return id == task.ID })
	}
	*to = append(*to, task.ID)
	if p.Results.Data != nil { // else it is the generation whose polls show none
		p.Results.Data = slices.Concat(p.Results.Data, task.Results.Data)
	}
}

// PollState is the state of a poll.
type PollState string

// The states of a poll (contract §9).
const (
	PollPending    PollState = "pending"
	PollProcessing PollState = "processing"
	PollCompleted  PollState = "completed" // all tasks ended, perhaps not well; also where the API says "succeeded"
	PollFailed     PollState = "failed"
)

// UnmarshalJSON reads a state; the older "succeeded" reads as PollCompleted.
func (s *PollState) UnmarshalJSON(b []byte) error {
	err := json.Unmarshal(b, (*string)(s))
	if *s == "succeeded" {
		*s = PollCompleted
	}
	return err
}

// Terminal reports whether the poll is over.
func (s PollState) Terminal() bool { return s == PollCompleted || s == PollFailed }

// PollError is something that went wrong within a poll. The contract does not
// show its shape: Code and Message are read where they can be.
type PollError struct {
	Code    ErrorCode
	Message string
	Raw     json.RawMessage // as it came
}

// UnmarshalJSON keeps whatever comes.
func (e *PollError) UnmarshalJSON(b []byte) error {
	e.Raw = append([]byte(nil), b...)
	_ = json.Unmarshal(b, (*string)(&e.Code))
	var fields map[string]json.RawMessage
	_ = json.Unmarshal(b, &fields)
	_ = json.Unmarshal(fields["code"], (*string)(&e.Code))
	_ = json.Unmarshal(fields["error"], (*string)(&e.Code))
	_ = json.Unmarshal(fields["message"], &e.Message)
	return nil
}

// MarshalJSON writes what came.
func (e PollError) MarshalJSON() ([]byte, error) {
	if e.Raw == nil {
		return []byte("null"), nil
	}
	return e.Raw, nil
}

// PollPayload says what is asked for. Kinds can be mixed.
type PollPayload struct {
	InfoTypes          []string  `json:"info_types,omitempty"`
	DataTypes          []string  `json:"data_types,omitempty"`           // "callkit.calls"
	Files              []ID      `json:"files,omitempty"`                // ids that data referred to, of the same session and source
	PublishSourceFiles *bool     `json:"publish_source_files,omitempty"` // overrides the key's and the organisation's; Relay only
	Since              time.Time `json:"since,omitzero"`                 // data from then on, where the source can tell
	Until              time.Time `json:"until,omitzero"`                 // data until then
}

func (p PollPayload) check(field string) error {
	if len(p.InfoTypes)+len(p.DataTypes)+len(p.Files) == 0 {
		return invalid(field, "asks for nothing: InfoTypes, DataTypes or Files is required")
	}
	return nil
}

// PollCreateParams describes a poll, on a session or on a subscription.
type PollCreateParams struct {
	Session      ID          `json:"session,omitempty"`      // required, unless Subscription is given
	Subscription ID          `json:"subscription,omitempty"` // a poll by hand on a subscription
	Source       ID          `json:"source,omitempty"`       // a child of the session's source
	Type         string      `json:"type,omitempty"`         // "data" or "files": only the oldest API asks for it
	Payload      PollPayload `json:"payload"`                // required
}

func (p PollCreateParams) check() error {
	switch {
	case p.Session == "" && p.Subscription == "":
		return invalid("Session", "is required (or Subscription)")
	case p.Session != "" && p.Subscription != "":
		return invalid("Subscription", "excludes Session")
	}
	return p.Payload.check("Payload")
}

// PollListParams filters and pages a list of polls. The filters by source, state
// and date are assumptions: no document shows them, and an API that does not
// know one returns the polls that it should leave out, too.
type PollListParams struct {
	ListParams

	Session       ID
	Subscription  ID
	Requestor     string    // "subscription": automatic polls only
	Source        ID        // assumed
	State         PollState // assumed
	CreatedSince  time.Time // created then or later; assumed
	CreatedBefore time.Time // assumed
}

func (p PollListParams) check() error {
	return cmp.Or(p.ListParams.check(), checkPeriod(p.CreatedSince, p.CreatedBefore, "CreatedBefore"))
}

func (p PollListParams) values() url.Values {
	q := p.ListParams.values()
	setFilter(q, "session", p.Session)
	setFilter(q, "subscription", p.Subscription)
	setFilter(q, "requestor", p.Requestor)
	setFilter(q, "source", p.Source)
	setFilter(q, "state", p.State)
	setCreated(q, p.CreatedSince, p.CreatedBefore)
	return q
}

// PollsService asks for data.
type PollsService service

// Create begins a poll. It is never sent twice: when the outcome is unknown,
// the *CallError's MaybeApplied is true.
//
// POST /polls
func (s *PollsService) Create(ctx context.Context, params PollCreateParams, opts ...CallOption) (*Poll, error) {
	poll, err := do[Poll](ctx, s.client, request{op: transport.PollsCreate, body: params}, opts)
	if err == nil {
		s.client.waits.polls.hub.Know(poll)
	}
	return poll, err
}

// Get returns a poll.
//
// GET /polls/{id}
func (s *PollsService) Get(ctx context.Context, id ID, opts ...CallOption) (*Poll, error) {
	return do[Poll](ctx, s.client, request{op: transport.PollsGet, id: id}, opts)
}

// List returns one page of polls, newest first.
//
// GET /polls
func (s *PollsService) List(ctx context.Context, params PollListParams, opts ...CallOption) (*List[Poll], error) {
	return list[Poll](ctx, s.client, transport.PollsList, params, opts)
}

// All iterates over all polls, newest first, page by page.
//
// GET /polls
func (s *PollsService) All(ctx context.Context, params PollListParams, opts ...CallOption) iter.Seq2[*Poll, error] {
	return all[Poll](ctx, s.client, transport.PollsList, params, opts)
}

// Watch yields the poll at each change of its state, its tasks or its results,
// and ends when it is terminal. A poll that failed, or completed with tasks
// that did not succeed, is yielded with a *StateError.
func (s *PollsService) Watch(ctx context.Context, id ID, opts ...CallOption) iter.Seq2[*Poll, error] {
	return s.client.waits.polls.watch(ctx, id, nil, opts)
}

// Wait returns the poll once all its tasks have ended. If some of them failed
// or are suspended, it returns the poll and a *StateError that lists them. The
// last poll seen is returned whatever the error, nil if there was none.
func (s *PollsService) Wait(ctx context.Context, id ID, opts ...CallOption) (*Poll, error) {
	return last(s.Watch(ctx, id, opts...))
}

// said is what the API says went wrong, for a StateError.
func (p Poll) said() string {
	var all []string
	for _, e := range p.Errors.Data {
		if words := strings.Trim(string(e.Code)+": "+e.Message, ": "); words != "" {
			all = append(all, words)
		}
	}
	return bounded([]byte(strings.Join(all, ", ")))
}

func pollStatus(p *Poll) watch.Status {
	st := watch.Status{
		ID: string(p.ID), State: string(p.State), Terminal: p.State.Terminal(),
		Version: fmt.Sprint(
			p.State, len(p.TasksPending), len(p.TasksProcessing), len(p.TasksSuspended), len(p.TasksSucceeded), len(p.TasksFailed),
			len(p.Results.Data), p.Results.HasMore, p.Results.TotalCount,
		),
	}
	if st.Terminal {
		st.Progress = over
	} else { // a task that has begun counts once, one that has ended twice
		ended := len(p.TasksSucceeded) + len(p.TasksFailed)
		st.Progress = 2*ended + len(p.TasksProcessing) + len(p.TasksSuspended)
		if p.State != PollPending {
			st.Progress++
		}
	}
	if p.State == PollFailed || st.Terminal && len(p.TasksFailed)+len(p.TasksSuspended) > 0 {
		st.Err = &StateError{
			Resource: "poll", ID: p.ID, State: string(p.State), Code: p.Error,
			Failed: p.TasksFailed, Suspended: p.TasksSuspended, Detail: p.said(),
		}
	}
	return st
}
