package ricloud

import (
	"encoding/json"
	"fmt"
	"net/http"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func event(kind, data string) *Event { return &Event{ID: "e", Type: kind, Data: Raw(data)} }

func TestNotifyEndsWaitsWithoutARequest(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		wait  func(*testing.T, *Client) (state string, err error)
		event *Event
		state string
		is    error
	}{
		"a poll completes": {
			wait:  waitPoll,
			event: event("poll", `{"id":"x","state":"completed"}`),
			state: "completed",
			is:    nil,
		},
		"a session expires": {
			wait:  waitSession,
			event: event("session", `{"id":"x","state":"expired","error":"service"}`),
			state: "expired",
			is:    ErrSessionExpired,
		},
		"a session's task succeeds": {
			wait: waitSession, event: event("task",
				`{"id":"t","type":"session.create","session":"x","state":"succeeded"}`),
			state: "active",
			is:    nil,
		},
		"a session's task fails": {
			wait: waitSession, event: event("task",
				`{"id":"t","type":"session.create","session":"x","state":"failed","error":"code-required"}`),
			state: "failed", is: ErrCodeRequired,
		},
		"a task succeeds": {
			wait: waitTask, event: event("task", `{"id":"x","state":"succeeded"}`),
			state: "succeeded", is: nil,
		},
		"a subscription activates": {
			wait:  waitSubscription,
			event: event("subscription", `{"id":"x","state":"active"}`), state: "active", is: nil,
		},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				c, api := newTestClient(t)
				api.RegisterResponder(http.MethodGet, "=~.*",
					jsonResponder(200, `{"id":"x","state":"pending"}`))
				began := time.Now()
				time.AfterFunc(500*time.Millisecond, func() {
					for _, useless := range []*Event{
						event("poll", `{}`), event("poll", `[`), event("result", `{"id":"x"}`),
						event("task", `{"id":"t","poll":"unknown","state":"succeeded"}`),
						event("task", `{"id":"t","session":"x","state":"processing"}`),
						event("session", `{"id":"x","state":"pending"}`), tc.event, tc.event,
					} {
						c.Notify(useless)
					}
				})
				state, err := tc.wait(t, c)
				assert.Equal(t, tc.state, state)
				if tc.is != nil {
					require.ErrorIs(t, err, tc.is)
				} else {
					require.NoError(t, err)
				}
				assert.Equal(t, 500*time.Millisecond, time.Since(began))
				assert.Len(t, api.all(), 1, "the read that began the wait")
			})
		})
	}
}

func waitPoll(t *testing.T, c *Client) (string, error) {
	p, err := c.Polls.Wait(t.Context(), "x")
	return string(p.State), err
}

func waitSession(t *testing.T, c *Client) (string, error) {
	s, err := c.Sessions.Wait(t.Context(), "x")
	return string(s.State), err
}

func waitTask(t *testing.T, c *Client) (string, error) {
	v, err := c.Tasks.Wait(t.Context(), "x")
	return string(v.State), err
}

func waitSubscription(t *testing.T, c *Client) (string, error) {
	s, err := c.Subscriptions.Wait(t.Context(), "x")
	return string(s.State), err
}

// The event of a task updates its poll, so results are yielded as soon as their task ends.
func TestNotifyStreamsResultsOfTasks(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		c, api := newTestClient(t)
		api.RegisterResponder(http.MethodGet, "=~/polls/p",
			jsonResponder(200, `{"id":"p","state":"processing","tasks_processing":["a","b"],"results":[]}`))
		events := []*Event{
			event("task", `{"id":"a","poll":"p","state":"succeeded","results":[{"id":"ra"}]}`),
			event("task", `{"id":"a","poll":"p","state":"pending"}`),                           // late
			event("task", `{"id":"a","poll":"p","state":"succeeded","results":[{"id":"ra"}]}`), // repeated
			event("task", `{"id":"b","poll":"p","state":"succeeded","results":{"data":[{"id":"rb"}]}}`),
			event("poll",
				`{"id":"p","state":"completed","tasks_succeeded":["a","b"],`+
					`"results":[{"id":"ra"},{"id":"rb"}]}`),
		}
		for i, e := range events {
			time.AfterFunc(time.Duration(i+1)*50*time.Millisecond, func() { c.Notify(e) })
		}
		began := time.Now()
		when := map[ID]time.Duration{}
		for r, err := range c.Polls.Results(t.Context(), "p") {
			require.NoError(t, err)
			when[r.ID] = time.Since(began)
		}
		assert.Equal(t, map[ID]time.Duration{"ra": 50 * time.Millisecond, "rb": 200 * time.Millisecond},
			when)
		assert.Equal(t, 250*time.Millisecond, time.Since(began))
		assert.Len(t, api.all(), 1)
	})
}

func TestPollTakesOverItsTasks(t *testing.T) {
	t.Parallel()
	var before Poll
	require.NoError(t,
		json.Unmarshal([]byte(`{"id":"p","tasks_pending":["a"],"tasks_processing":["b"],`+
			`"tasks_failed":["c"],"results":[]}`), &before))
	tests := map[string]struct {
		task Task
		want string // pending, processing, suspended, succeeded, failed
	}{
		"begins": {
			task: Task{ID: "a", State: TaskProcessing},
			want: "[] [b a] [] [] [c]",
		},
		"ends well": {
			task: Task{ID: "b", State: TaskSucceeded},
			want: "[a] [] [] [b] [c]",
		},
		"fails": {
			task: Task{ID: "b", State: TaskFailed},
			want: "[a] [] [] [] [c b]",
		},
		"is suspended": {
			task: Task{ID: "b", State: TaskSuspended},
			want: "[a] [] [b] [] [c]",
		},
		"is new": {
			task: Task{ID: "d", State: TaskPending},
			want: "[a d] [b] [] [] [c]",
		},
		"is in a new state": {task: Task{ID: "a", State: "dreaming"}, want: "[a] [b] [] [] [c]"},
		"does not go back": {
			task: Task{ID: "b", State: TaskPending},
			want: "[a] [b] [] [] [c]",
		},
		"does not end twice": {
			task: Task{ID: "c", State: TaskSucceeded},
			want: "[a] [b] [] [] [c]",
		},
	}
	for name, tc := range tests {
		after := before
		after.applyTask(&tc.task)
		assert.Equal(t, tc.want, fmt.Sprint(after.TasksPending, after.TasksProcessing,
			after.TasksSuspended, after.TasksSucceeded, after.TasksFailed), name)
		assert.Equal(t, "[a] [b] [c]", fmt.Sprint(before.TasksPending, before.TasksProcessing,
			before.TasksFailed), "others hold the poll as it was")
	}
}

func TestPollOfTheOldestAPIShowsNoResultsOfItsTasks(t *testing.T) {
	t.Parallel()
	task := Task{ID: "a", State: TaskSucceeded, Results: List[Result]{Data: []Result{{ID: "r"}}}}
	silent, open := Poll{}, Poll{Results: List[Result]{Data: []Result{}}}
	silent.applyTask(&task)
	open.applyTask(&task)
	assert.Nil(t, silent.Results.Data, "they are to be asked for")
	assert.Len(t, open.Results.Data, 1)
}

func TestASessionTakesOverItsTaskOnlyWhilePending(t *testing.T) {
	t.Parallel()
	for state, want := range map[SessionState]SessionState{
		SessionPending: SessionActive,
		SessionExpired: SessionExpired, SessionFailed: SessionFailed,
	} {
		s := Session{State: state}
		s.apply(&Task{State: TaskSucceeded})
		assert.Equal(t, want, s.State)
	}
}

// An event whose resource has no state says nothing of it, and a poll without any task is not
// about to end.
func TestNotifyIgnoresWhatSaysNothing(t *testing.T) {
	t.Parallel()
	assert.False(t, pollStatus(&Poll{ID: "p", State: PollProcessing}).Soon)
	synctest.Test(t, func(t *testing.T) {
		c := clientOf(t, func(*http.Request) (*http.Response, error) {
			return answer(200, `{"id":"s1","state":"active"}`)
		})
		c.Notify(&Event{Type: "session", Action: "x", Data: Raw(`{"id":"s1"}`)})
		var states []SessionState
		for s, err := range c.Sessions.Watch(t.Context(), "s1") {
			require.NoError(t, err)
			states = append(states, s.State)
		}
		assert.Equal(t, []SessionState{SessionActive}, states)
	})
}

func TestAPollEndsWhenNoTaskIsLeft(t *testing.T) {
	t.Parallel()
	const done = `"date_completed":"2018-11-22T14:20:53Z"`
	for body, want := range map[string]PollState{
		`{"state":"processing",` + done + `}`:                          PollCompleted,
		`{"state":"processing",` + done + `,"tasks_pending":["a"]}`:    "processing",
		`{"state":"processing",` + done + `,"tasks_processing":["a"]}`: "processing",
		`{"state":"processing",` + done + `,"tasks_suspended":["a"]}`:  PollCompleted,
		`{"state":"processing","tasks_succeeded":["a"]}`:               "processing",
		`{"state":"failed",` + done + `}`:                              PollFailed,
	} {
		var p Poll
		require.NoError(t, json.Unmarshal([]byte(body), &p))
		assert.Equal(t, want, p.State, body)
	}
	var both Poll
	require.NoError(t,
		json.Unmarshal([]byte(`{"tasks_succeeded":["a"],"tasks_completed":["b"]}`), &both))
	assert.Equal(t, []ID{"a"}, both.TasksSucceeded)
}

func TestAPollOnItsWayHasNotFailed(t *testing.T) {
	t.Parallel()
	require.NoError(t,
		pollStatus(&Poll{State: PollProcessing, TasksFailed: []ID{"a"}, TasksSuspended: []ID{"b"}}).Err)
	require.ErrorIs(t, pollStatus(&Poll{State: PollCompleted, TasksSuspended: []ID{"b"}}).Err,
		ErrTasksFailed)
	// Each state ranks higher than the one before, so that late answers can be ignored.
	before := -1
	for _, p := range []Poll{
		{State: PollPending, TasksPending: []ID{"a", "b"}},
		{State: PollProcessing, TasksPending: []ID{"a", "b"}},
		{State: PollProcessing, TasksPending: []ID{"b"}, TasksProcessing: []ID{"a"}},
		{State: PollProcessing, TasksSuspended: []ID{"a"}, TasksProcessing: []ID{"b"}},
		{State: PollProcessing, TasksProcessing: []ID{"b"}, TasksSucceeded: []ID{"a"}},
		{State: PollProcessing, TasksSucceeded: []ID{"a"}, TasksFailed: []ID{"b"}},
		{State: PollCompleted, TasksSucceeded: []ID{"a"}, TasksFailed: []ID{"b"}},
	} {
		progress := pollStatus(&p).Progress
		assert.Greater(t, progress, before, "%v", p)
		before = progress
	}
	assert.NotEqual(t, pollStatus(&Poll{}).Version,
		pollStatus(&Poll{Results: List[Result]{TotalCount: 1}}).Version, "a result more is a change")
}

func TestASessionThatEndedIsNoLongerPending(t *testing.T) {
	t.Parallel()
	pending := sessionStatus(&Session{State: SessionPending}).Progress
	for _, state := range []SessionState{SessionActive, SessionFailed, SessionExpired} {
		assert.Greater(t, sessionStatus(&Session{State: state}).Progress, pending,
			"an answer from before it is late")
	}
}

// Options apply to one call only. A wait with options therefore sends its own requests.
func TestWaitWithOptions(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		c, api := newTestClient(t)
		api.RegisterResponder(http.MethodGet, "=~/polls/p",
			states(`{"id":"p","state":"pending"}`, `{"id":"p","state":"completed"}`))
		var answer Response
		var bodies []string
		for _, err := range c.Polls.Watch(t.Context(), "p", WithResponse(&answer),
			WithQuery("expand", "results")) {
			require.NoError(t, err)
			bodies = append(bodies, string(answer.Body))
		}
		assert.Equal(t, []string{`{"id":"p","state":"pending"}`, `{"id":"p","state":"completed"}`},
			bodies)
		assert.Equal(t, "expand=results", api.last().Query)
		_, err := c.Polls.Wait(t.Context(), "p", WithAwait(time.Second))
		require.ErrorContains(t, err, "WithAwait")
	})
}

func TestCreateSparesTheFirstRead(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		c, api := newTestClient(t)
		api.RegisterResponder(http.MethodPost, "=~/polls",
			jsonResponder(201, `{"id":"p","state":"pending"}`))
		api.RegisterResponder(http.MethodGet, "=~/polls/p",
			jsonResponder(200, `{"id":"p","state":"completed"}`))
		poll, err := c.Polls.Create(t.Context(),
			PollCreateParams{Session: "s", Payload: PollPayload{DataTypes: []string{"x"}}})
		require.NoError(t, err)
		began := time.Now()
		_, err = c.Polls.Wait(t.Context(), poll.ID)
		require.NoError(t, err)
		assert.Greater(t, time.Since(began), 500*time.Millisecond, "it is known to be pending")
		assert.Len(t, api.all(), 2)
	})
}
