package ricloud

import (
	"cmp"
	"context"
	"iter"
	"net/url"
	"slices"
	"time"

	"github.com/reincubate/ricloud-go/internal/transport"
)

// Task is a piece of work that the API does for a session, a poll or a config.
// The fields that do not apply to a task are empty.
type Task struct {
	ID            ID           `json:"id" wire:"strict"`
	Organisation  ID           `json:"organisation"`
	Key           ID           `json:"key"`
	User          ID           `json:"user"`
	Source        ID           `json:"source"`
	SourceType    SourceType   `json:"source_type"`
	Session       ID           `json:"session"`
	Poll          ID           `json:"poll"`
	Type          string       `json:"type"`   // "data", "webhook_config.test", …
	Target        string       `json:"target"` // of a data task: the data type
	Results       List[Result] `json:"results,omitzero"`
	State         TaskState    `json:"state" wire:"strict"`
	Error         ErrorCode    `json:"error,omitempty"`
	DateCreated   time.Time    `json:"date_created,omitzero"`
	DateStarted   time.Time    `json:"date_started,omitzero"`
	DateCompleted time.Time    `json:"date_completed,omitzero"`
}

func (t *Task) ident() (kind string, id ID) { return "task", t.ID }

// TaskState is the state of a task. The API may send states that this package
// does not know.
type TaskState string

// The states of a task.
const (
	TaskPending    TaskState = "pending"
	TaskProcessing TaskState = "processing"
	TaskSuspended  TaskState = "suspended" // no document says why, or for how long
	TaskSucceeded  TaskState = "succeeded"
	TaskFailed     TaskState = "failed"
)

// Ended reports whether the task has succeeded or failed.
func (s TaskState) Ended() bool { return s == TaskSucceeded || s == TaskFailed }

// TaskListParams filters and pages a list of tasks. All filters are assumptions:
// no document shows them, and an API that does not know one also returns the tasks
// that it should leave out.
type TaskListParams struct {
	ListParams

	Poll          ID
	Session       ID
	SourceType    SourceType
	State         TaskState
	CreatedSince  time.Time // created then or later
	CreatedBefore time.Time
}

func (p TaskListParams) check() error {
	return cmp.Or(p.ListParams.check(), checkCreated(p.CreatedSince, p.CreatedBefore))
}

func (p TaskListParams) values() url.Values {
	q := p.ListParams.values()
	setFilter(q, "poll", p.Poll)
	setFilter(q, "session", p.Session)
	setFilter(q, "source_type", p.SourceType)
	setFilter(q, "state", p.State)
	setCreated(q, p.CreatedSince, p.CreatedBefore)
	return q
}

// TasksService reads tasks.
type TasksService service

// Get returns a task.
//
// GET /tasks/{id}
func (s *TasksService) Get(ctx context.Context, id ID, opts ...CallOption) (*Task, error) {
	task, err := do[Task](ctx, clientFor(s), request{op: transport.TasksGet, id: id}, opts)
	if err == nil {
		clientFor(s).waits.tasks.hub.Refresh(string(id), task)
	}
	return task, err
}

// List returns one page of tasks.
//
// GET /tasks
func (s *TasksService) List(
	ctx context.Context, params TaskListParams, opts ...CallOption,
) (*List[Task], error) {
	return list[Task](ctx, clientFor(s), transport.TasksList, params, opts)
}

// All iterates over all tasks, page by page.
//
// GET /tasks
func (s *TasksService) All(
	ctx context.Context, params TaskListParams, opts ...CallOption,
) iter.Seq2[*Task, error] {
	return all[Task](ctx, clientFor(s), transport.TasksList, params, opts)
}

// Watch yields the task at each change of its state. It ends when the task has
// succeeded or failed. A task that failed is yielded with a *StateError. Wait
// describes the other errors.
func (s *TasksService) Watch(
	ctx context.Context, id ID, opts ...CallOption,
) iter.Seq2[*Task, error] {
	return clientFor(s).waits.tasks.watch(ctx, "Tasks.Watch", id, nil, opts)
}

// Wait returns the task once it has succeeded. For a task that failed, or that has
// an error, it returns the task and a *StateError.
//
// Wait tolerates ten minutes of failed reads. With an error, it still returns
// the last task that it saw, or nil if it saw none. docs/waiting.md explains
// what waits cost.
func (s *TasksService) Wait(ctx context.Context, id ID, opts ...CallOption) (*Task, error) {
	return last(clientFor(s).waits.tasks.watch(ctx, "Tasks.Wait", id, nil, opts))
}

// succeeded reports whether the task ended without an error. One that says that it
// succeeded but has an error may lack results.
func (t *Task) succeeded() bool { return t.State == TaskSucceeded && t.Error == "" }

func (t *Task) stateError() error {
	return &StateError{Resource: "task", ID: t.ID, State: string(t.State), Code: t.Error}
}

// applyTask moves a task to the list of its poll that its state belongs to. A
// task that has ended stays ended.
func (p *Poll) applyTask(task *Task) {
	if slices.Contains(p.TasksSucceeded, task.ID) || slices.Contains(p.TasksFailed, task.ID) {
		return
	}
	begun := slices.Contains(p.TasksProcessing, task.ID) ||
		slices.Contains(p.TasksSuspended, task.ID)
	if task.State == TaskPending && begun {
		return
	}
	lists := map[TaskState]*[]ID{
		TaskPending:    &p.TasksPending,
		TaskProcessing: &p.TasksProcessing,
		TaskSuspended:  &p.TasksSuspended,
		TaskSucceeded:  &p.TasksSucceeded,
		TaskFailed:     &p.TasksFailed,
	}
	to := lists[task.State]
	if to == nil {
		return
	}
	for _, list := range lists { // new slices, because others hold the poll as it was
		*list = slices.DeleteFunc(slices.Clone(*list), func(id ID) bool { return id == task.ID })
	}
	*to = append(*to, task.ID)
	if p.Results.Data != nil { // nil: an API whose polls show no results
		p.Results.Data = slices.Concat(p.Results.Data, task.Results.Data)
	}
}

// completePoll notes that a poll was read by itself, and sorts its tasks.
func completePoll(ctx context.Context, w pollingOf, p *Poll) error {
	p.byGet = true
	return sortTasks(ctx, w, p)
}

// sortTasks reads the tasks of a poll that has ended, if the API does not say
// which of them failed. It costs one request, and one more for each task that
// the list does not show.
func sortTasks(ctx context.Context, w pollingOf, p *Poll) error {
	if !p.unsorted || !p.State.Ended() {
		return nil
	}
	completed, unknown := p.TasksSucceeded, map[ID]bool{}
	for _, id := range completed {
		unknown[id] = true
	}
	p.TasksSucceeded, p.unsorted = nil, false
	sortTask := func(task *Task) {
		if !unknown[task.ID] {
			return
		}
		delete(unknown, task.ID)
		switch {
		case task.succeeded():
			p.TasksSucceeded = append(p.TasksSucceeded, task.ID)
		case task.State == TaskSuspended:
			p.TasksSuspended = append(p.TasksSuspended, task.ID)
		default: // also a state that is not known
			p.TasksFailed = append(p.TasksFailed, task.ID)
		}
	}
	w.share.Charge()
	params := TaskListParams{Poll: p.ID, ListParams: ListParams{Limit: maxLimit}}
	list := request{
		op: transport.TasksList, list: params, background: true, redirected: w.share.Charge,
	}
	tasks, err := do[List[Task]](ctx, w.client, list, nil)
	if err == nil { // else the API may not know the filter
		for i := range tasks.Data {
			sortTask(&tasks.Data[i])
		}
	}
	for _, id := range completed {
		if !unknown[id] {
			continue
		}
		w.share.Charge()
		get := request{
			op: transport.TasksGet, id: id, background: true, redirected: w.share.Charge,
		}
		task, err := do[Task](ctx, w.client, get, nil)
		if err != nil {
			return err
		}
		if task.ID != id || task.State == "" {
			return notTheResource(transport.TasksGet.Name, "id", string(task.ID))
		}
		sortTask(task)
	}
	return nil
}
