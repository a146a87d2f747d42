package ricloud

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"iter"
	"net/url"
	"reflect"
	"slices"
	"strings"
	"time"

	"github.com/reincubate/ricloud-go/internal/transport"
	"github.com/reincubate/ricloud-go/internal/wire"
)

// Poll asks a source for data. Its tasks do the work and publish the results.
type Poll struct {
	ID           ID `json:"id" wire:"strict"`
	Organisation ID `json:"organisation"`
	Key          ID `json:"key"`
	User         ID `json:"user"`
	// Source may be a child of the session's source.
	Source       ID `json:"source"`
	Session      ID `json:"session"`
	Subscription ID `json:"subscription,omitempty"`
	// Type is "data" or "files". Only the oldest API sends it.
	Type            string `json:"type,omitempty"`
	TasksPending    []ID   `json:"tasks_pending" wire:"strict"`
	TasksProcessing []ID   `json:"tasks_processing" wire:"strict"`
	TasksSuspended  []ID   `json:"tasks_suspended" wire:"strict"`
	// TasksSucceeded also holds the tasks that the oldest API lists as
	// completed. Some of these may have failed: Wait and Watch read them and
	// move those that failed to TasksFailed.
	TasksSucceeded []ID `json:"tasks_succeeded" wire:"strict"`
	TasksFailed    []ID `json:"tasks_failed" wire:"strict"`
	// Results are those published so far, maybe only the first page of them.
	Results List[Result] `json:"results"`
	// Errors say what went wrong within the poll. It may have completed
	// nevertheless.
	Errors List[PollFailure] `json:"errors,omitzero"`
	State  PollState         `json:"state" wire:"strict"`
	// Error says why the poll failed.
	Error         ErrorCode `json:"error,omitempty"`
	DateCreated   time.Time `json:"date_created,omitzero"`
	DateStarted   time.Time `json:"date_started,omitzero"`
	DateCompleted time.Time `json:"date_completed,omitzero"`

	unsorted bool // TasksSucceeded may hold tasks that failed
	byGet    bool // a wait read the poll by itself, so its Results are no excerpt
}

// UnmarshalJSON reads a poll of any version of the API.
func (p *Poll) UnmarshalJSON(b []byte) error {
	*p = Poll{}
	type plain Poll
	aux := struct {
		*plain
		Pending        taskIDs  `json:"tasks_pending"`
		Processing     taskIDs  `json:"tasks_processing"`
		Suspended      taskIDs  `json:"tasks_suspended"`
		Succeeded      taskIDs  `json:"tasks_succeeded"`
		Failed         taskIDs  `json:"tasks_failed"`
		TasksCompleted taskIDs  `json:"tasks_completed"`
		Errors         failures `json:"errors"`
	}{plain: (*plain)(p)}
	if err := json.Unmarshal(b, &aux); err != nil {
		return err
	}
	p.TasksPending, p.TasksProcessing, p.TasksSuspended = aux.Pending, aux.Processing, aux.Suspended
	p.TasksSucceeded, p.TasksFailed = aux.Succeeded, aux.Failed
	p.Errors = List[PollFailure](aux.Errors)
	if p.TasksSucceeded == nil {
		p.TasksSucceeded = aux.TasksCompleted
		p.unsorted = len(aux.TasksCompleted) > 0 && p.TasksFailed == nil
	}
	// The vendor's guide shows a finished poll that still says "processing". A state that is not in
	// the guide is kept, because nothing is known of it.
	if p.State == PollProcessing && p.finished() {
		p.State = PollCompleted
	}
	return nil
}

// taskIDs are the tasks of a poll in JSON: an array or a list object.
type taskIDs []ID

// UnmarshalJSON refuses a list that shows no task although it has more, and an
// object that is no list: a failed task would go unseen.
func (l *taskIDs) UnmarshalJSON(b []byte) error {
	var list List[ID]
	if err := list.UnmarshalJSON(b); err != nil {
		return err
	}
	if len(list.Data) == 0 && (list.HasMore || list.Data == nil && wire.Code(b) != "") {
		return wire.Mismatch(b, reflect.TypeFor[[]ID]())
	}
	*l = list.Data
	return nil
}

// failures are the errors of a poll in JSON: an array or a list object, or else a
// value that is an entry itself, so that no error goes unseen.
type failures List[PollFailure]

// UnmarshalJSON accepts any JSON.
func (l *failures) UnmarshalJSON(b []byte) error {
	list := (*List[PollFailure])(l)
	err := list.UnmarshalJSON(b)
	if err == nil && list.TotalCount == 0 && isListObject(b) {
		return nil
	}
	if err != nil || list.Data == nil && !list.HasMore {
		*list = List[PollFailure]{}
		if wire.Code(b) != "" {
			list.Data = []PollFailure{{}}
			return list.Data[0].UnmarshalJSON(b)
		}
	}
	return nil
}

// isListObject reports whether JSON has nothing but fields of a list: without items
// it says that there are none, as a Poll does that was marshalled.
func isListObject(b []byte) bool {
	var fields map[string]json.RawMessage
	if json.Unmarshal(b, &fields) != nil {
		return false
	}
	for name := range fields {
		if !slices.Contains([]string{"object", "data", "has_more", "total_count", "url"}, name) {
			return false
		}
	}
	return len(fields) > 0
}

// finished reports whether the poll has a date of completion and no task left.
func (p *Poll) finished() bool {
	return !p.DateCompleted.IsZero() && len(p.TasksPending)+len(p.TasksProcessing) == 0
}

func (p *Poll) ident() (kind string, id ID) { return "poll", p.ID }

// PollState is the state of a poll. The API may send states that this package
// does not know.
type PollState string

// The states of a poll. PollCompleted means that all tasks have ended, whether
// or not they succeeded. Where the poll still lists tasks that have not, a wait
// reads it again, for ten minutes. Two older forms are read as PollCompleted: the
// state "succeeded", and "processing" in a poll that has a date of completion and
// no task left.
const (
	PollPending    PollState = "pending"
	PollProcessing PollState = "processing"
	PollCompleted  PollState = "completed"
	PollFailed     PollState = "failed"
)

// UnmarshalJSON reads a state. The older word "succeeded" reads as
// PollCompleted.
func (s *PollState) UnmarshalJSON(b []byte) error {
	err := json.Unmarshal(b, (*string)(s))
	if *s == "succeeded" {
		*s = PollCompleted
	}
	return err
}

// Ended reports whether the poll has completed or failed.
func (s PollState) Ended() bool { return s == PollCompleted || s == PollFailed }

// PollFailure is an entry of Poll.Errors: something that went wrong within the
// poll. No document shows its shape. Task, Code and Message are read where they
// are found, and Raw keeps everything.
type PollFailure struct {
	Task    ID // the task that failed, if the API says
	Code    ErrorCode
	Message string
	Raw     json.RawMessage // as it came
}

// UnmarshalJSON accepts any JSON.
func (e *PollFailure) UnmarshalJSON(b []byte) error {
	e.Raw = append([]byte(nil), b...)
	_ = json.Unmarshal(b, (*string)(&e.Code)) // a bare code
	var fields map[string]json.RawMessage
	_ = json.Unmarshal(b, &fields)
	for _, name := range []string{"code", "error"} {
		_ = json.Unmarshal(fields[name], (*string)(&e.Code))
	}
	_ = json.Unmarshal(fields["message"], &e.Message)
	for _, name := range []string{"task_id", "task"} {
		if raw, ok := fields[name]; ok {
			_ = e.Task.UnmarshalJSON(raw)
		}
	}
	return nil
}

// MarshalJSON writes Raw.
func (e PollFailure) MarshalJSON() ([]byte, error) {
	if e.Raw == nil {
		return []byte("null"), nil
	}
	return e.Raw, nil
}

// PollPayload says what data a poll asks for. The kinds can be mixed. At least
// one of InfoTypes, DataTypes and Files is required.
type PollPayload struct {
	InfoTypes []string `json:"info_types,omitempty"`
	DataTypes []string `json:"data_types,omitempty"` // "callkit.calls"
	// Files are the IDs of files that records refer to, see [FileRefs]. They
	// are valid for the session and source of those records.
	Files []ID `json:"files,omitempty"`
	// PublishSourceFiles overrides the setting of the key and the organisation.
	// It is for Relay only.
	PublishSourceFiles *bool `json:"publish_source_files,omitempty"`
	// Since and Until limit the data to a period, if the source supports that.
	// They are sent in UTC, to the millisecond.
	Since time.Time `json:"since,omitzero"`
	Until time.Time `json:"until,omitzero"`
}

// MarshalJSON writes the times as the API expects them.
func (p PollPayload) MarshalJSON() ([]byte, error) { return json.Marshal(p.wire()) }

// plainPayload is a PollPayload without its methods.
type plainPayload PollPayload

// payloadWire is a PollPayload as the API reads it.
type payloadWire struct {
	plainPayload

	FileIDs []ID   `json:"file_ids,omitempty"` // what the oldest API calls Files
	Since   string `json:"since,omitempty"`
	Until   string `json:"until,omitempty"`
}

func (p PollPayload) wire() payloadWire {
	return payloadWire{
		plainPayload: plainPayload(p), Since: optionalTime(p.Since), Until: optionalTime(p.Until),
	}
}

// optionalTime writes a time for the API, and the zero time as nothing.
func optionalTime(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	return formatTime(t)
}

// check names the first field that cannot work, within field.
func (p PollPayload) check(field string) error {
	if len(p.InfoTypes)+len(p.DataTypes)+len(p.Files) == 0 {
		return invalid(field, "asks for nothing: InfoTypes, DataTypes or Files is required")
	}
	for _, list := range []struct {
		name  string
		blank int
	}{
		{"InfoTypes", slices.IndexFunc(p.InfoTypes, isBlank)},
		{"DataTypes", slices.IndexFunc(p.DataTypes, isBlank)},
		{"Files", slices.IndexFunc(p.Files, isBlank)},
	} {
		if list.blank >= 0 {
			return invalid(fmt.Sprintf("%s.%s[%d]", field, list.name, list.blank), "is empty")
		}
	}
	if !p.Since.IsZero() && !p.Until.IsZero() && p.Until.Before(p.Since) {
		return invalid(field+".Until", "must not be before Since")
	}
	return nil
}

func isBlank[S ~string](s S) bool { return strings.TrimSpace(string(s)) == "" }

// PollCreateParams describes a poll, on a session or on a subscription.
type PollCreateParams struct {
	Session      ID          `json:"session,omitempty"`      // required, unless Subscription is set
	Subscription ID          `json:"subscription,omitempty"` // a poll by hand on a subscription
	Source       ID          `json:"source,omitempty"`       // a child of the session's source
	Type         string      `json:"type,omitempty"`         // "data" or "files"; oldest API only
	Payload      PollPayload `json:"payload"`                // required
}

// MarshalJSON writes the poll. With the Type "files", which only the oldest API reads, Files are
// sent under that API's name for them, file_ids.
func (p PollCreateParams) MarshalJSON() ([]byte, error) {
	type plain PollCreateParams
	payload := p.Payload.wire()
	if p.Type == "files" {
		payload.FileIDs, payload.Files = payload.Files, nil
	}
	return json.Marshal(struct {
		plain

		Payload payloadWire `json:"payload"`
	}{plain(p), payload})
}

func (p PollCreateParams) check() error {
	switch {
	case p.Session == "" && p.Subscription == "":
		return invalid("Session", "is required (or Subscription)")
	case p.Session != "" && p.Subscription != "":
		return invalid("Subscription", "cannot be combined with Session")
	}
	return p.Payload.check("Payload")
}

// PollListParams filters and pages a list of polls. The filters by source, state
// and date are assumptions: no document shows them, and an API that does not
// know one also returns the polls that it should leave out.
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
	return cmp.Or(p.ListParams.check(), checkCreated(p.CreatedSince, p.CreatedBefore))
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

// Create begins a poll. It is never sent twice. When the outcome is unknown,
// CallError.MaybeApplied reports true.
//
// POST /polls
func (s *PollsService) Create(
	ctx context.Context, params PollCreateParams, opts ...CallOption,
) (*Poll, error) {
	r := request{op: transport.PollsCreate, body: params}
	poll, err := do[Poll](ctx, clientFor(s), r, opts)
	if err == nil {
		clientFor(s).waits.polls.hub.Know(poll)
	}
	return poll, err
}

// Get returns a poll.
//
// GET /polls/{id}
func (s *PollsService) Get(ctx context.Context, id ID, opts ...CallOption) (*Poll, error) {
	poll, err := do[Poll](ctx, clientFor(s), request{op: transport.PollsGet, id: id}, opts)
	if err == nil {
		clientFor(s).waits.polls.hub.Refresh(string(id), poll)
	}
	return poll, err
}

// List returns one page of polls, newest first.
//
// GET /polls
func (s *PollsService) List(
	ctx context.Context, params PollListParams, opts ...CallOption,
) (*List[Poll], error) {
	return list[Poll](ctx, clientFor(s), transport.PollsList, params, opts)
}

// All iterates over all polls, newest first, page by page.
//
// GET /polls
func (s *PollsService) All(
	ctx context.Context, params PollListParams, opts ...CallOption,
) iter.Seq2[*Poll, error] {
	return all[Poll](ctx, clientFor(s), transport.PollsList, params, opts)
}

// Watch yields the poll at each change of its state, its tasks or its results.
// It ends when the poll has completed or failed. A poll that failed, or
// completed with tasks that did not succeed, is yielded with a *StateError.
// Wait describes the other errors.
func (s *PollsService) Watch(
	ctx context.Context, id ID, opts ...CallOption,
) iter.Seq2[*Poll, error] {
	return s.watch(ctx, "Polls.Watch", id, opts)
}

// Wait returns the poll once all its tasks have ended. If some of them failed
// or are suspended, it returns the poll and a *StateError that lists them. A
// poll that completed with Errors, or with an Error, has failed in part as well,
// even if it names no task.
//
// Wait tolerates ten minutes of failed reads. With an error, it still returns
// the last poll that it saw, or nil if it saw none. docs/waiting.md explains
// what waits cost.
func (s *PollsService) Wait(ctx context.Context, id ID, opts ...CallOption) (*Poll, error) {
	return last(s.watch(ctx, "Polls.Wait", id, opts))
}

// watch yields polls for the caller to keep: how they were read is not part of
// them.
func (s *PollsService) watch(
	ctx context.Context, operation string, id ID, opts []CallOption,
) iter.Seq2[*Poll, error] {
	return func(yield func(*Poll, error) bool) {
		for poll, err := range clientFor(s).waits.polls.watch(ctx, operation, id, nil, opts) {
			if poll != nil {
				poll.byGet = false
			}
			if !yield(poll, err) {
				return
			}
		}
	}
}
