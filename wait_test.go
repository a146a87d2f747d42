package ricloud

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"testing"
	"testing/synctest"
	"time"

	"github.com/jarcoal/httpmock"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/reincubate/ricloud-go/internal/transport"
)

// states answers with one body after the other; the last one stays.
func states(bodies ...string) httpmock.Responder {
	n := 0
	return func(*http.Request) (*http.Response, error) {
		body := bodies[min(n, len(bodies)-1)]
		n++
		return jsonResponder(http.StatusOK, body)(nil)
	}
}

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
			"session active", sessions, "/sessions/x",
			[]string{`{"id":"x","state":"pending"}`, `{"id":"x","state":"active"}`},
			"active", nil, "",
		},
		{
			"session succeeded", sessions, "/sessions/x",
			[]string{`{"id":"x","state":"succeeded"}`},
			"active", nil, "",
		},
		{
			"session, unknown state on the way", sessions, "/sessions/x",
			[]string{`{"id":"x","state":"warming-up"}`, `{"id":"x","state":"active"}`},
			"active", nil, "",
		},
		{
			"session failed", sessions, "/sessions/x",
			[]string{`{"id":"x","state":"failed","error":"code-required"}`},
			"failed", ErrCodeRequired,
			"ricloud: session x is failed: code-required",
		},
		{
			"session expired", sessions, "/sessions/x",
			[]string{`{"id":"x","state":"expired","error":"service"}`},
			"expired", ErrSessionExpired,
			"ricloud: session x is expired: service",
		},
		{"poll completed", polls, "/polls/x", []string{
			`{"id":"x","state":"pending"}`,
			`{"id":"x","state":"processing"}`,
			`{"id":"x","state":"completed","tasks_succeeded":["a"]}`,
		}, "completed", nil, ""},
		{
			"poll succeeded", polls, "/polls/x",
			[]string{`{"id":"x","state":"succeeded"}`},
			"completed",
			nil, "",
		},
		{
			"poll with failed tasks", polls, "/polls/x",
			[]string{`{"id":"x","state":"completed","tasks_succeeded":["a"],"tasks_failed":["b","c"],` +
				`"tasks_suspended":["d"],"errors":[{"error":"service","message":"down"}]}`},
			"completed", ErrTasksFailed, "ricloud: poll x is completed; " +
				"failed tasks: b, c; suspended tasks: d; service: down",
		},
		{
			"poll failed", polls, "/polls/x",
			[]string{`{"id":"x","state":"failed","error":"session-expired"}`},
			"failed", ErrSessionExpired,
			"ricloud: poll x is failed: session-expired",
		},
		{"task succeeded", tasks, "/tasks/x", []string{
			`{"id":"x","state":"processing"}`,
			`{"id":"x","state":"suspended"}`, `{"id":"x","state":"succeeded"}`,
		}, "succeeded", nil, ""},
		{
			"task failed", tasks, "/tasks/x",
			[]string{`{"id":"x","state":"failed","error":"missing-scope"}`},
			"failed", ErrMissingScope,
			"ricloud: task x is failed: missing-scope",
		},
		{
			"subscription active", subscriptions, "/subscriptions/x",
			[]string{`{"id":"x","state":"pending"}`, `{"id":"x","state":"active"}`},
			"active", nil, "",
		},
		{
			"subscription deleted", subscriptions, "/subscriptions/x",
			[]string{`{"id":"x","state":"deleted"}`},
			"deleted", nil, "ricloud: subscription x is deleted",
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

// account is an API with one iCloud account that has two-factor
// authentication and takes the code 123456.
func account(t *testing.T, api *recorder) {
	t.Helper()
	n := 0
	api.RegisterResponder(http.MethodPost, "=~/sessions", func(*http.Request) (*http.Response, error) {
		n++
		return jsonResponder(201, fmt.Sprintf(`{"id":"s%d","state":"pending","source":{"id":1}}`, n))(nil)
	})
	api.RegisterResponder(http.MethodGet, "=~/sessions/s",
		func(req *http.Request) (*http.Response, error) {
			id := req.URL.Path[len("/sessions/"):]
			body := fmt.Sprintf(`{"id":%q,"state":"failed","error":"code-required","source":{"id":1}}`, id)
			posts := 0
			for _, call := range api.all() {
				if call.Method == http.MethodPost {
					if posts++; fmt.Sprintf("s%d", posts) == id && call.Body == loginBody("123456") {
						body = fmt.Sprintf(`{"id":%q,"state":"active","source":{"id":1}}`, id)
					}
				}
			}
			return jsonResponder(200, body)(nil)
		})
}

func loginBody(code string) string {
	return fmt.Sprintf(`{"source":{"user":"1","type":"icloud.account",`+
		`"identifier":"jane@example.com"},"payload":{"password":"hunter2","code":%q}}`, code)
}

func janesLogin() SessionCreateParams {
	return SessionCreateParams{
		Source:  SourceParams{User: "1", Type: SourceICloudAccount, Identifier: "jane@example.com"},
		Payload: SessionPayload{Password: NewSecret("hunter2")},
	}
}

func TestLoginAsksForTheCodeUntilItIsRight(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		c, api := newTestClient(t)
		account(t, api)
		var asked []CodeChallenge
		session, err := c.Sessions.Login(t.Context(), janesLogin(),
			func(_ context.Context, ch CodeChallenge) (Secret, error) {
				asked = append(asked, ch)
				return []Secret{NewSecret("000000"), NewSecret("123456")}[ch.Attempt-1], nil
			})
		require.NoError(t, err)
		assert.Equal(t, ID("s3"), session.ID)
		assert.Equal(t, SessionActive, session.State)
		require.Len(t, asked, 2)
		assert.Equal(t, []int{1, 2}, []int{asked[0].Attempt, asked[1].Attempt})
		assert.Equal(t, []ID{"s1", "s2"}, []ID{asked[0].Session.ID, asked[1].Session.ID})
		assert.Equal(t, "10", api.all()[0].Header.Get("Ricloud-Await"))
		assert.Empty(t, api.all()[1].Header.Get("Ricloud-Await"))
	})
}

func TestLoginIsBounded(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		c, api := newTestClient(t)
		account(t, api)
		asked := 0
		session, err := c.Sessions.Login(t.Context(), janesLogin(),
			func(context.Context, CodeChallenge) (Secret, error) {
				asked++
				return NewSecret("000000"), nil
			})
		require.ErrorIs(t, err, ErrCodeRequired)
		assert.Equal(t, MaxCodeAttempts, asked)
		assert.Equal(t, ID("s4"), session.ID)
	})
}

func TestLoginEndsWithItsCallback(t *testing.T) {
	t.Parallel()
	gone := errors.New("the user is gone")
	tests := map[string]struct {
		code func(context.Context, CodeChallenge) (Secret, error)
		is   error
		text string
	}{
		"no callback": {nil, ErrCodeRequired, "ricloud: session s1 is failed: code-required"},
		"error": {func(context.Context, CodeChallenge) (Secret, error) {
			return NewSecret(""), gone
		}, gone, "ricloud: Sessions.Login: asking for code 1: the user is gone"},
		"empty code": {
			func(context.Context, CodeChallenge) (Secret, error) { return NewSecret(""), nil }, nil,
			"ricloud: Sessions.Login: asking for code 1: ricloud: code is empty",
		},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				c, api := newTestClient(t)
				account(t, api)
				session, err := c.Sessions.Login(t.Context(), janesLogin(), tc.code)
				require.EqualError(t, err, tc.text)
				if tc.is != nil {
					require.ErrorIs(t, err, tc.is)
				}
				require.NotNil(t, session, "the session so far")
				assert.Equal(t, ID("s1"), session.ID)
				posts := 0
				for _, call := range api.all() {
					if call.Method == http.MethodPost {
						posts++
					}
				}
				assert.Equal(t, 1, posts, "the owner is prompted once")
			})
		})
	}
}

func TestLoginKeepsTheSessionWhenTheNextCreateFails(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		c, api := newTestClient(t)
		account(t, api)
		session, err := c.Sessions.Login(t.Context(), janesLogin(),
			func(context.Context, CodeChallenge) (Secret, error) {
				api.RegisterResponder(http.MethodPost, "=~/sessions",
					jsonResponder(403, `{"error":"limit-exceeded"}`))
				return NewSecret("123456"), nil
			})
		require.ErrorIs(t, err, ErrLimitExceeded)
		require.NotNil(t, session)
		assert.Equal(t, ID("s1"), session.ID)
	})
}

func TestLoginEndsWhenCancelledInTheCallback(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		c, api := newTestClient(t)
		account(t, api)
		ctx, cancel := context.WithCancel(t.Context())
		session, err := c.Sessions.Login(ctx, janesLogin(),
			func(ctx context.Context, _ CodeChallenge) (Secret, error) {
				cancel()
				return NewSecret(""), ctx.Err()
			})
		require.ErrorIs(t, err, context.Canceled)
		assert.Equal(t, ID("s1"), session.ID)
	})
}

func TestPollResultsAsTheyArePublished(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		c, api := newTestClient(t)
		api.RegisterResponder(http.MethodGet, "=~/polls/p$", states(
			`{"id":"p","state":"processing","tasks_processing":["a"],"results":[]}`,
			`{"id":"p","state":"processing","tasks_processing":["a"],"results":[{"id":"r1"}]}`,
			`{"id":"p","state":"processing","tasks_processing":["a"],"results":{"data":[{"id":"r1"},`+
				`{"id":"r2"}],"has_more":true,"url":"/polls/p/results"}}`,
			`{"id":"p","state":"completed","tasks_succeeded":["a"],"tasks_failed":["b"],`+
				`"results":{"data":[{"id":"r1"},{"id":"r2"}],"has_more":true,"url":"/polls/p/results"}}`,
		))
		api.RegisterResponder(http.MethodGet, "=~/polls/p/results",
			states(`[{"id":"r3"}]`, `[{"id":"r3"},{"id":"r4"}]`))
		var ids []ID
		var end error
		for r, err := range c.Polls.Results(t.Context(), "p") {
			if err != nil {
				end = err
				break
			}
			ids = append(ids, r.ID)
		}
		assert.Equal(t, []ID{"r1", "r2", "r3", "r4"}, ids, "each once")
		state, ok := errors.AsType[*StateError](end)
		require.True(t, ok, "%v", end)
		assert.Equal(t, []ID{"b"}, state.Failed, "after every result of the good tasks")
	})
}

func TestPollResultsOfAPollThatShowsNone(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		c, api := newTestClient(t)
		api.RegisterResponder(http.MethodGet, "=~/polls/p$",
			states(`{"id":"p","state":"completed","tasks_succeeded":["a","b"]}`))
		api.RegisterResponder(http.MethodGet, "=~/results",
			func(req *http.Request) (*http.Response, error) {
				return jsonResponder(200, fmt.Sprintf(`{"data":[{"id":"r-%s"}]}`, req.URL.Query().Get("task")))(
					nil,
				)
			})
		var ids []ID
		for r, err := range c.Polls.Results(t.Context(), "p") {
			require.NoError(t, err)
			ids = append(ids, r.ID)
		}
		assert.Equal(t, []ID{"r-a", "r-b"}, ids)
	})
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
