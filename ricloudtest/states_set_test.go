package ricloudtest_test

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	ricloud "github.com/reincubate/ricloud-go"
	"github.com/reincubate/ricloud-go/ricloudtest"
)

// twoTasks returns a server, its inbox, and a poll whose two tasks take an hour.
func twoTasks(ctx context.Context, t *testing.T) (*ricloudtest.Server, *inbox, *ricloud.Poll) {
	t.Helper()
	srv, in, _ := subscribe(ctx, t, ricloudtest.WithDelays(ricloudtest.Delays{
		Task: ricloudtest.Fixed(time.Hour),
	}))
	c := srv.Client()
	poll, err := c.Polls.Create(ctx, ricloud.PollCreateParams{
		Session: john(ctx, t, c).ID, Payload: ricloud.PollPayload{DataTypes: []string{"a", "b"}},
	})
	require.NoError(t, err)
	pass(time.Minute)
	poll, err = c.Polls.Get(ctx, poll.ID)
	require.NoError(t, err)
	require.Len(t, poll.TasksProcessing, 2)
	return srv, in, poll
}

// Every state of the contract can be set by hand or occurs by itself.
func TestSetState(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		ctx := t.Context()
		srv, in, poll := twoTasks(ctx, t)
		c := srv.Client()
		first, second := poll.TasksProcessing[0], poll.TasksProcessing[1]
		task := func(id ricloud.ID) *ricloud.Task {
			got, err := c.Tasks.Get(ctx, id)
			require.NoError(t, err)
			return got
		}
		require.NoError(t, srv.SetState("task", first, "suspended"))
		assert.Equal(t, ricloud.TaskSuspended, task(first).State)
		require.NoError(t, srv.SetState("task", first, "processing"))
		pass(time.Second)
		assert.Equal(t, ricloud.TaskSucceeded, task(first).State, "it goes on where it was")
		in.take()
		require.NoError(t, srv.SetState("task", second, "failed"))
		pass(time.Second)
		var slugs []string
		for _, event := range in.take() {
			slugs = append(slugs, event.slug)
		}
		assert.ElementsMatch(t, []string{"task.failed", "poll.completed"}, slugs, "its events are sent")
		poll, err := c.Polls.Get(ctx, poll.ID)
		require.NoError(t, err)
		require.Len(t, poll.Results.Data, 1)
		result := poll.Results.Data[0].ID
		require.NoError(t, srv.SetState("result", result, "consumed"))
		require.NoError(t, srv.SetState("result", result, "expired"))
		for _, refused := range []struct {
			kind  string
			id    ricloud.ID
			state string
		}{
			{kind: "task", id: first, state: "failed"},
			{kind: "task", id: second, state: "pending"},
			{kind: "poll", id: poll.ID, state: "failed"},
			{kind: "poll", id: poll.ID, state: "pending"},
			{kind: "result", id: result, state: "available"},
			{kind: "session", id: poll.Session, state: "pending"},
			{kind: "session", id: poll.Session, state: "failed"},
			{kind: "organisation", id: "", state: "unconfigured"},
		} {
			require.ErrorContains(t, srv.SetState(refused.kind, refused.id, refused.state), "by hand", "%+v",
				refused)
		}
	})
}

// Without a session and valid configs, the organisation creates no poll.
func TestSetStateOfWhatAPollNeeds(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		ctx := t.Context()
		srv, in, _ := subscribe(ctx, t)
		c := srv.Client()
		session := john(ctx, t, c)
		pass(time.Second)
		in.take()
		require.NoError(t, srv.SetState("session", session.ID, "active"))
		require.NoError(t, srv.SetState("session", session.ID, "expired"))
		pass(time.Second)
		got := in.take()
		require.Len(t, got, 1)
		assert.Equal(t, "session.expired", got[0].slug)
		for kind, state := range map[string]string{
			"storage_config": "invalid",
			"webhook_config": "invalid",
		} {
			require.NoError(t, srv.SetState(kind, "1", state))
		}
		_, err := c.Polls.Create(ctx, ricloud.PollCreateParams{
			Session: session.ID, Payload: ricloud.PollPayload{DataTypes: []string{"a"}},
		})
		require.Error(t, err)
		org, err := c.Organisation.Get(ctx)
		require.NoError(t, err)
		assert.Equal(t, ricloud.OrganisationState("unconfigured"), org.State)
	})
}

// A call with an await returns when the session's state is set by hand.
func TestSetStateEndsAnAwait(t *testing.T) {
	t.Parallel()
	for state, want := range map[string]ricloud.SessionState{
		"active": ricloud.SessionActive, "failed": ricloud.SessionFailed,
	} {
		synctest.Test(t, func(t *testing.T) {
			srv := newServer(t, ricloudtest.WithDelays(ricloudtest.Delays{
				Session: ricloudtest.Fixed(time.Hour),
			}))
			ctx, c := t.Context(), srv.Client()
			user := newUser(ctx, t, c)
			begin := time.Now()
			go func() {
				time.Sleep(2 * time.Second) //nolint:forbidigo // virtual time
				list, err := c.Sessions.List(ctx, ricloud.SessionListParams{})
				assert.NoError(t, err)
				assert.NoError(t, srv.SetState("session", list.Data[0].ID, state))
			}()
			session, err := c.Sessions.Create(ctx, ricloud.SessionCreateParams{
				Source: ricloud.SourceParams{
					User: user.ID, Type: ricloud.SourceICloudAccount,
					Identifier: "john.appleseed@example.com",
				},
				Payload: ricloud.SessionPayload{Password: ricloud.NewSecret("hunter2")},
			}, ricloud.WithAwait(9*time.Second))
			require.NoError(t, err)
			assert.Equal(t, want, session.State)
			assert.Less(t, time.Since(begin), 5*time.Second)
		})
	}
}

// An event whose state is set to failed is not sent any more.
func TestSetStateOfAnEvent(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		ctx := t.Context()
		srv, in, _ := subscribe(ctx, t)
		in.take()
		in.answer(500)
		id, err := srv.Deliver("poll", "completed", map[string]any{"id": "p"})
		require.NoError(t, err)
		pass(time.Second)
		require.Len(t, in.take(), 1)
		require.NoError(t, srv.SetState("event", id, "failed"))
		pass(24 * time.Hour)
		assert.Empty(t, in.take(), "no further attempt")
		event, err := srv.Client().Events.Get(ctx, id)
		require.NoError(t, err)
		assert.Equal(t, ricloud.EventFailed, event.State)
		require.NoError(t, srv.SetState("event", id, "delivered"))
		event, err = srv.Client().Events.Get(ctx, id)
		require.NoError(t, err)
		assert.Equal(t, ricloud.EventDelivered, event.State)
		require.ErrorContains(t, srv.SetState("event", "nothing", "failed"), "nothing")
	})
}

// The states of pending sessions and subscriptions can be set by hand too.
func TestSetStateOfWhatIsPending(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		srv := newServer(t)
		ctx, c := t.Context(), srv.Client()
		user := newUser(ctx, t, c)
		for _, state := range []ricloud.SessionState{"failed", "active"} {
			session, err := c.Sessions.Create(ctx, ricloud.SessionCreateParams{
				Source: ricloud.SourceParams{
					User: user.ID, Type: ricloud.SourceMock,
					Identifier: string(state),
				},
				Payload: ricloud.SessionPayload{Password: ricloud.NewSecret("x")},
			})
			require.NoError(t, err)
			require.NoError(t, srv.SetState("session", session.ID, string(state)))
			pass(time.Minute)
			session, err = c.Sessions.Get(ctx, session.ID)
			require.NoError(t, err)
			assert.Equal(t, state, session.State, "and stays so")
			if state == ricloud.SessionActive {
				subscription, err := c.Subscriptions.Create(ctx, ricloud.SubscriptionCreateParams{
					Session: session.ID, PollPayload: ricloud.PollPayload{DataTypes: []string{"a"}},
				})
				require.NoError(t, err)
				require.NoError(t, srv.SetState("subscription", subscription.ID, "active"))
				pass(time.Minute)
				polls, err := c.Polls.List(ctx, ricloud.PollListParams{Subscription: subscription.ID})
				require.NoError(t, err)
				assert.Len(t, polls.Data, 1, "it polls once, not twice")
			}
		}
	})
}

// Faults can be limited to an account, a request or an ID.
func TestFaultsChooseCalls(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		srv := newServer(t)
		ctx, c := t.Context(), srv.Client(ricloud.WithRetries(0))
		session := john(ctx, t, c)
		poll, err := retrieve(ctx, t, srv)
		require.NoError(t, err)
		require.NoError(t, srv.AddAccount(ricloudtest.Account{Identifier: "kate@example.com"}))
		other := login(ctx, t, c, "kate@example.com", "any")
		object := poll.Results.Data[0].SignedURL.URL.Reveal()
		status := func(path string) int {
			got, _ := send(ctx, t, srv, "GET", path, srv.Token(), "")
			return got
		}
		bad := ricloudtest.Fault{Status: 503, Body: "{}", Count: -1}
		john := bad
		john.Account = "john.appleseed@example.com"
		require.NoError(t, srv.SetFaults(john))
		for _, path := range []string{
			"/sessions/" + string(session.ID), "/polls/" + string(poll.ID),
			"/tasks/" + string(poll.TasksSucceeded[0]),
			"/results/" + string(poll.Results.Data[0].ID), "/sources/" + string(session.Source.ID),
		} {
			assert.Equal(t, 503, status(path), path)
		}
		for _, path := range []string{
			"/sessions/" + string(other.ID),
			"/sources/" + string(other.Source.ID), "/key", "/polls",
		} {
			assert.Equal(t, 200, status(path), path)
		}
		res, err := fetch(ctx, srv, object, nil)
		require.NoError(t, err)
		require.NoError(t, res.Body.Close())
		assert.Equal(t, 503, res.StatusCode, "its objects too")
		got, _ := send(ctx, t, srv, "POST", "/polls", srv.Token(),
			`{"session":"`+string(session.ID)+`","payload":{"files":[]}}`)
		assert.Equal(t, 503, got)
		got, _ = send(ctx, t, srv, "POST", "/sessions", srv.Token(),
			`{"source":{"user":"1","type":"icloud.account","identifier":"john.appleseed@example.com"},`+
				`"payload":{}}`)
		assert.Equal(t, 503, got)
		got, _ = send(ctx, t, srv, "POST", "/sessions", srv.Token(),
			`{"source":{"user":"1","type":"icloud.account","identifier":"kate@example.com"},"payload":{}}`)
		assert.Equal(t, 201, got)

		byRequest, byID := bad, bad
		byRequest.Request, byID.ID = "GET /polls/*", string(other.ID)
		require.NoError(t, srv.SetFaults(byRequest, byID))
		assert.Equal(t, 503, status("/polls/"+string(poll.ID)))
		assert.Equal(t, 200, status("/polls"))
		assert.Equal(t, 503, status("/sessions/"+string(other.ID)))
		assert.Equal(t, 200, status("/sessions/"+string(session.ID)))
	})
}
