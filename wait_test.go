package ricloud

import (
	"context"
	"errors"
	"net/http"
	"testing"
	"testing/synctest"
	"time"

	"github.com/jarcoal/httpmock"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/reincubate/ricloud-go/internal/transport"
)

func TestWaitEndsAtATerminalState(t *testing.T) {
	t.Parallel()
	sessions := func(ctx context.Context, c *Client) (string, error) {
		s, err := c.Sessions.Wait(ctx, "x")
		return string(s.State), err
	}
	polls := func(ctx context.Context, c *Client) (string, error) {
		p, err := c.Polls.Wait(ctx, "x")
		return string(p.State), err
	}
	tasks := func(ctx context.Context, c *Client) (string, error) {
		t, err := c.Tasks.Wait(ctx, "x")
		return string(t.State), err
	}
	subscriptions := func(ctx context.Context, c *Client) (string, error) {
		s, err := c.Subscriptions.Wait(ctx, "x")
		return string(s.State), err
	}
	tests := []struct {
		name   string
		wait   func(context.Context, *Client) (string, error)
		path   string
		bodies []string
		state  string
		is     error
		text   string
	}{
		{
			name: "session active", wait: sessions, path: "/sessions/x",
			bodies: []string{`{"id":"x","state":"pending"}`, `{"id":"x","state":"active"}`},
			state:  "active", is: nil, text: "",
		},
		{
			name: "session succeeded", wait: sessions, path: "/sessions/x",
			bodies: []string{`{"id":"x","state":"succeeded"}`},
			state:  "active", is: nil, text: "",
		},
		{
			name:   "session, unknown state on the way",
			wait:   sessions,
			path:   "/sessions/x",
			bodies: []string{`{"id":"x","state":"warming-up"}`, `{"id":"x","state":"active"}`},
			state:  "active", is: nil, text: "",
		},
		{
			name: "session failed", wait: sessions, path: "/sessions/x",
			bodies: []string{`{"id":"x","state":"failed","error":"code-required"}`},
			state:  "failed", is: ErrCodeRequired,
			text: "ricloud: session x is failed: code-required",
		},
		{
			name: "session expired", wait: sessions, path: "/sessions/x",
			bodies: []string{`{"id":"x","state":"expired","error":"service"}`},
			state:  "expired", is: ErrSessionExpired,
			text: "ricloud: session x is expired: service",
		},
		{name: "poll completed", wait: polls, path: "/polls/x", bodies: []string{
			`{"id":"x","state":"pending"}`,
			`{"id":"x","state":"processing"}`,
			`{"id":"x","state":"completed","tasks_succeeded":["a"]}`,
		}, state: "completed", is: nil, text: ""},
		{
			name: "poll succeeded", wait: polls, path: "/polls/x",
			bodies: []string{`{"id":"x","state":"succeeded"}`},
			state:  "completed",
			is:     nil, text: "",
		},
		{
			name: "poll with failed tasks", wait: polls, path: "/polls/x",
			bodies: []string{`{"id":"x","state":"completed","tasks_succeeded":["a"],` +
				`"tasks_failed":["b","c"],"tasks_suspended":["d"],` +
				`"errors":[{"error":"service","message":"down"}]}`},
			state: "completed",
			is:    ErrTasksFailed,
			text: "ricloud: poll x is completed; " +
				"failed tasks: b, c; suspended tasks: d; service: down",
		},
		{
			name: "poll with nothing but errors", wait: polls, path: "/polls/x",
			bodies: []string{`{"id":"x","state":"completed","errors":{"data":[{"code":"boom"},{}]}}`},
			state:  "completed", is: ErrTasksFailed,
			text: "ricloud: poll x is completed; boom, an error without a code",
		},
		{
			name: "poll with errors on other pages", wait: polls, path: "/polls/x",
			bodies: []string{`{"id":"x","state":"succeeded","errors":{"data":[],"has_more":true}}`},
			state:  "completed", is: ErrTasksFailed,
			text: "ricloud: poll x is completed",
		},
		{
			name: "poll with nothing but an error", wait: polls, path: "/polls/x",
			bodies: []string{`{"id":"x","state":"completed","error":"session-expired","errors":null}`},
			state:  "completed", is: ErrTasksFailed,
			text: "ricloud: poll x is completed: session-expired",
		},
		{
			name: "poll without errors", wait: polls, path: "/polls/x",
			bodies: []string{`{"id":"x","resource":"Poll","state":"completed","error":"",` +
				`"errors":{"data":[],"total_count":0},"tasks_failed":{"data":[]},"tasks_suspended":null}`},
			state: "completed",
		},
		{
			name: "poll with list objects of tasks", wait: polls, path: "/polls/x",
			bodies: []string{`{"id":"x","state":"completed","tasks_failed":{"data":[{"id":"1"}]},` +
				`"tasks_succeeded":{"data":[2]},"tasks_suspended":{"resource":"list","data":["3"]}}`},
			state: "completed", is: ErrTasksFailed,
			text: "ricloud: poll x is completed; failed tasks: 1; suspended tasks: 3",
		},
		{
			name: "poll failed", wait: polls, path: "/polls/x",
			bodies: []string{`{"id":"x","state":"failed","error":"session-expired"}`},
			state:  "failed", is: ErrSessionExpired,
			text: "ricloud: poll x is failed: session-expired",
		},
		{name: "task succeeded", wait: tasks, path: "/tasks/x", bodies: []string{
			`{"id":"x","state":"processing"}`,
			`{"id":"x","state":"suspended"}`, `{"id":"x","state":"succeeded"}`,
		}, state: "succeeded", is: nil, text: ""},
		{
			name: "task failed", wait: tasks, path: "/tasks/x",
			bodies: []string{`{"id":"x","state":"failed","error":"missing-scope"}`},
			state:  "failed", is: ErrMissingScope,
			text: "ricloud: task x is failed: missing-scope",
		},
		{
			name:   "subscription active",
			wait:   subscriptions,
			path:   "/subscriptions/x",
			bodies: []string{`{"id":"x","state":"pending"}`, `{"id":"x","state":"active"}`},
			state:  "active", is: nil, text: "",
		},
		{
			name:   "subscription deleted",
			wait:   subscriptions,
			path:   "/subscriptions/x",
			bodies: []string{`{"id":"x","state":"deleted"}`},
			state:  "deleted",
			is:     nil,
			text:   "ricloud: subscription x is deleted",
		},
	}
	for _, tc := range tests {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				c, api := newTestClient(t)
				api.RegisterResponder(http.MethodGet, "=~"+tc.path, states(tc.bodies...))
				state, err := tc.wait(t.Context(), c)
				assert.Equal(t, tc.state, state, "the resource is returned whatever the error")
				assert.Len(t, api.all(), len(tc.bodies))
				if tc.text == "" {
					require.NoError(t, err)
					return
				}
				require.EqualError(t, err, tc.text)
				_, ok := errors.AsType[*StateError](err)
				assert.True(t, ok)
				if tc.is != nil {
					require.ErrorIs(t, err, tc.is)
				}
			})
		})
	}
}

func TestWatchYieldsChangesOnly(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		c, api := newTestClient(t)
		pending := `{"id":"x","state":"pending"}`
		api.RegisterResponder(http.MethodGet, "=~/tasks/x",
			states(pending, pending, pending, `{"id":"x","state":"processing"}`,
				`{"id":"x","state":"succeeded"}`))
		var seen []TaskState
		for task, err := range c.Tasks.Watch(t.Context(), "x") {
			require.NoError(t, err)
			seen = append(seen, task.State)
		}
		assert.Equal(t, []TaskState{TaskPending, TaskProcessing, TaskSucceeded}, seen)
	})
}

func TestWaitGrowsSlower(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		c, api := newTestClient(t)
		api.RegisterResponder(http.MethodGet, "=~/tasks/x", states(`{"id":"x","state":"pending"}`))
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Minute)
		defer cancel()
		task, err := c.Tasks.Wait(ctx, "x")
		require.ErrorIs(t, err, context.DeadlineExceeded)
		assert.Equal(t, ID("x"), task.ID)
		assert.Less(t, len(api.all()), 90, "ten minutes of waiting cost few requests")
	})
}

func TestWaitEndsAtOnceWhenCancelled(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		c, api := newTestClient(t)
		api.RegisterResponder(http.MethodGet, "=~/sessions/x", states(`{"id":"x","state":"pending"}`))
		stopped := errors.New("enough")
		ctx, cancel := context.WithCancelCause(t.Context())
		began := time.Now()
		time.AfterFunc(1500*time.Millisecond, func() { cancel(stopped) })
		session, err := c.Sessions.Wait(ctx, "x")
		require.ErrorIs(t, err, stopped)
		require.ErrorIs(t, err, context.Canceled)
		require.EqualError(t, err, "ricloud: Sessions.Wait: x is still pending after 1.5s: enough")
		assert.Equal(t, SessionPending, session.State, "the last session seen")
		assert.Equal(t, 1500*time.Millisecond, time.Since(began))
	})
}

func TestWaitOutlivesPassingFailures(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		c, api := newTestClient(t, WithRetries(0))
		api.RegisterResponder(http.MethodGet, "=~/tasks/x",
			jsonResponder(200, `{"id":"x","state":"pending"}`).
				Then(httpmock.NewStringResponder(502, "<html>")).
				Then(httpmock.NewErrorResponder(errors.New("reset"))).
				Then(jsonResponder(200, `{"id":"x","state":"succeeded"}`)))
		task, err := c.Tasks.Wait(t.Context(), "x")
		require.NoError(t, err)
		assert.Equal(t, TaskSucceeded, task.State)
	})
}

func TestWaitOutlivesAnOutage(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		c, api := newTestClient(t)
		began := time.Now()
		api.RegisterResponder(http.MethodGet, "=~/tasks/x", func(*http.Request) (*http.Response, error) {
			switch after := time.Since(began); {
			case after < time.Minute:
				return jsonResponder(200, `{"id":"x","state":"pending"}`)(nil)
			case after < 8*time.Minute:
				return jsonResponder(503, `{"error":"down"}`)(nil)
			}
			return jsonResponder(200, `{"id":"x","state":"succeeded"}`)(nil)
		})
		short, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
		defer cancel()
		_, err := c.Tasks.Wait(short, "x")
		require.ErrorIs(t, err, context.DeadlineExceeded)
		require.ErrorIs(t, err, ErrServer, "what kept it from knowing")
		task, err := c.Tasks.Wait(t.Context(), "x")
		require.NoError(t, err)
		assert.Equal(t, TaskSucceeded, task.State)
	})
}

func TestWaitEndsAtALastingFailure(t *testing.T) {
	t.Parallel()
	for status, is := range map[int]error{404: ErrNotFound, 401: ErrUnauthorized, 403: ErrForbidden} {
		synctest.Test(t, func(t *testing.T) {
			c, api := newTestClient(t)
			api.RegisterResponder(http.MethodGet, "=~/tasks/x",
				jsonResponder(200, `{"id":"x","state":"pending"}`).
					Then(jsonResponder(status, `{}`)))
			task, err := c.Tasks.Wait(t.Context(), "x")
			require.ErrorIs(t, err, is)
			assert.Equal(t, ID("x"), task.ID)
		})
	}
}

func TestTheReadsOfAWaitYieldToOtherCalls(t *testing.T) {
	t.Parallel()
	own := request{op: transport.TasksGet, id: "x", background: true}
	sent, err := own.build(callOptions{})
	require.NoError(t, err)
	assert.True(t, sent.Background)
	callers := request{op: transport.TasksGet, id: "x"}
	sent, err = callers.build(callOptions{})
	require.NoError(t, err)
	assert.False(t, sent.Background)
}

func TestSessionsAndSubscriptionsAreWatched(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		c, api := newTestClient(t)
		api.RegisterResponder(http.MethodGet, "=~/sessions/x",
			states(`{"id":"x","state":"pending"}`, `{"id":"x","state":"active"}`))
		api.RegisterResponder(http.MethodGet, "=~/subscriptions/x",
			states(`{"id":"x","state":"pending"}`, `{"id":"x","state":"active"}`))
		var sessions []SessionState
		for session, err := range c.Sessions.Watch(t.Context(), "x") {
			require.NoError(t, err)
			sessions = append(sessions, session.State)
		}
		assert.Equal(t, []SessionState{SessionPending, SessionActive}, sessions)
		var subscriptions []SubscriptionState
		for subscription, err := range c.Subscriptions.Watch(t.Context(), "x") {
			require.NoError(t, err)
			subscriptions = append(subscriptions, subscription.State)
		}
		assert.Equal(t, []SubscriptionState{SubscriptionPending, SubscriptionActive}, subscriptions)
	})
}

// A list of tasks that shows none although it has some hides the failed ones.
func TestAPollWhoseTasksAreElsewhereIsRefused(t *testing.T) {
	t.Parallel()
	c, api := newTestClient(t)
	for _, name := range []string{
		"tasks_pending", "tasks_processing", "tasks_suspended", "tasks_succeeded", "tasks_failed",
	} {
		api.RegisterResponder(http.MethodGet, "=~/polls/x", jsonResponder(200,
			`{"id":"x","state":"completed","`+name+`":{"data":[],"has_more":true}}`))
		_, err := c.Polls.Get(t.Context(), "x")
		require.EqualError(t, err, `ricloud: Polls.Get: cannot decode `+name+`: got object, want array; `+
			`the value is {"data":[],"has_more":true}`)
	}
}
