package ricloudtest_test

import (
	"context"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	ricloud "github.com/reincubate/ricloud-go"
	"github.com/reincubate/ricloud-go/ricloudtest"
)

// Each kind of account has its own outcome of a login.
func TestSessionOutcomes(t *testing.T) {
	t.Parallel()
	accounts := []ricloudtest.Account{
		{Identifier: "plain", Password: "right"},
		{Identifier: "2fa", Password: "right", Code: "123456"},
		{Identifier: "locked", Password: "right", Locked: true},
		{Identifier: "closed", Password: "right", Deactivated: true},
		{Identifier: "broken", Password: "right", SessionFail: "init_failed"},
		{Service: ricloud.SourceRelayInstance, Identifier: "relay-1", Code: "PAIR-1234"},
		{Service: ricloud.SourceMock},
	}
	for name, test := range map[string]struct {
		kind                       ricloud.SourceType
		identifier, password, code string
		want                       ricloud.ErrorCode
	}{
		"no 2FA": {kind: ricloud.SourceICloudAccount, identifier: "plain", password: "right"},
		"wrong password": {
			kind: ricloud.SourceICloudAccount, identifier: "plain", password: "wrong",
			want: "credentials-invalid",
		},
		"nobody": {
			kind: ricloud.SourceICloudAccount, identifier: "nobody", password: "right",
			want: "credentials-invalid",
		},
		"no code": {
			kind: ricloud.SourceICloudAccount, identifier: "2fa", password: "right",
			want: "code-required",
		},
		"wrong code": {
			kind: ricloud.SourceICloudAccount, identifier: "2fa", password: "right", code: "0",
			want: "code-required",
		},
		"password before code": {
			kind: ricloud.SourceICloudAccount, identifier: "2fa", password: "wrong",
			code: "123456",
			want: "credentials-invalid",
		},
		"code": {
			kind: ricloud.SourceICloudAccount, identifier: "2fa", password: "right",
			code: "123456",
		},
		"locked": {
			kind: ricloud.SourceICloudAccount, identifier: "locked", password: "right",
			want: "source-locked",
		},
		"deactivated": {
			kind: ricloud.SourceICloudAccount, identifier: "closed", password: "right",
			want: "source-deactivated",
		},
		"another failure": {
			kind: ricloud.SourceICloudAccount, identifier: "broken", password: "right",
			want: "init_failed",
		},
		"pairing": {kind: ricloud.SourceRelayInstance, code: "PAIR-1234"},
		"wrong pairing": {
			kind: ricloud.SourceRelayInstance, code: "PAIR-0000",
			want: "code-invalid",
		},
		"mock": {kind: "mocks.mock", identifier: "anyone", password: "anything"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				srv := newServer(t, ricloudtest.WithAccounts(accounts...))
				c, ctx := srv.Client(), t.Context()
				user := newUser(ctx, t, c)
				session, err := c.Sessions.Create(ctx, ricloud.SessionCreateParams{
					Source: ricloud.SourceParams{User: user.ID, Type: test.kind, Identifier: test.identifier},
					Payload: ricloud.SessionPayload{
						Password: ricloud.NewSecret(test.password),
						Code:     ricloud.NewSecret(test.code),
					},
				})
				require.NoError(t, err)
				assert.Equal(t, ricloud.SessionPending, session.State)
				srv.Advance(time.Minute)
				session, err = c.Sessions.Get(ctx, session.ID)
				require.NoError(t, err)
				assert.Equal(t, test.want, session.Error)
				want := ricloud.SessionActive
				if test.want != "" {
					want = ricloud.SessionFailed
				}
				assert.Equal(t, want, session.State)
			})
		})
	}
}

func TestSessionsExpire(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		srv := newServer(t, ricloudtest.WithSessionLifetime(time.Hour))
		c, ctx := srv.Client(), t.Context()
		session := john(ctx, t, c)
		params := ricloud.PollCreateParams{
			Session: session.ID,
			Payload: ricloud.PollPayload{DataTypes: []string{"callkit.calls"}},
		}
		srv.Advance(time.Hour)
		_, err := c.Polls.Create(ctx, params)
		require.ErrorIs(t, err, ricloud.ErrSessionExpired)
		session, err = c.Sessions.Get(ctx, session.ID)
		require.NoError(t, err)
		assert.Equal(t, ricloud.ExpiredByAPI, session.Error)

		again := john(ctx, t, c)
		require.NoError(t, srv.ExpireSession(again.ID, "service"))
		again, err = c.Sessions.Get(ctx, again.ID)
		require.NoError(t, err)
		assert.Equal(t, ricloud.ExpiredByService, again.Error)
		require.ErrorContains(t, srv.ExpireSession("nothing", "service"), "nothing")
	})
}

// The tasks of a poll end in every way, and each of its states is checked while it runs.
func TestPollStates(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		delays := ricloudtest.Delays{
			Poll: ricloudtest.Fixed(time.Second),
			Task: ricloudtest.Fixed(10 * time.Second), Suspend: ricloudtest.Fixed(time.Minute),
		}
		srv := newServer(t, ricloudtest.WithDelays(delays),
			ricloudtest.WithAccounts(ricloudtest.Account{
				Identifier: "john.appleseed@example.com",
				Data:       map[string]ricloudtest.Content{"a": ricloudtest.Records(1, 2)},
				Fail:       map[string]string{"b": "service-unavailable"},
				Suspend:    map[string]bool{"c": true},
			}))
		c, ctx := srv.Client(), t.Context()
		poll, err := c.Polls.Create(ctx,
			ricloud.PollCreateParams{Session: john(ctx, t, c).ID, Payload: ricloud.PollPayload{
				DataTypes: []string{"a", "b", "c"}, Files: []ricloud.ID{"missing"},
			}})
		require.NoError(t, err)
		counts := func() []int {
			poll, err = c.Polls.Get(ctx, poll.ID)
			require.NoError(t, err)
			return []int{
				len(poll.TasksPending), len(poll.TasksProcessing), len(poll.TasksSuspended),
				len(poll.TasksSucceeded), len(poll.TasksFailed), len(poll.Results.Data),
			}
		}
		assert.Equal(t, []int{4, 0, 0, 0, 0, 0}, counts())
		srv.Advance(2 * time.Second)
		assert.Equal(t, []int{0, 4, 0, 0, 0, 0}, counts())
		srv.Advance(10 * time.Second)
		assert.Equal(t, []int{0, 0, 1, 1, 2, 1}, counts(), "results are there while the poll runs")
		assert.Equal(t, ricloud.PollProcessing, poll.State)
		srv.Advance(2 * time.Minute)
		assert.Equal(t, []int{0, 0, 0, 2, 2, 2}, counts())
		assert.Equal(t, ricloud.PollCompleted, poll.State)
		assert.Len(t, poll.Errors.Data, 2)
	})
}

func TestSubscriptions(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		srv := newServer(t)
		c, ctx := srv.Client(), t.Context()
		session := john(ctx, t, c)
		sub, err := c.Subscriptions.Create(ctx, ricloud.SubscriptionCreateParams{
			Session: session.ID, PollPayload: ricloud.PollPayload{DataTypes: []string{"callkit.calls"}},
			Interval: 10 * time.Minute,
		})
		require.NoError(t, err)
		_, err = c.Subscriptions.Wait(ctx, sub.ID)
		require.NoError(t, err)
		srv.Advance(35 * time.Minute)
		automatic := func() int {
			list, err := c.Polls.List(ctx,
				ricloud.PollListParams{Subscription: sub.ID, Requestor: "subscription"})
			require.NoError(t, err)
			return len(list.Data)
		}
		assert.Equal(t, 4, automatic(), "at once, then every ten minutes")
		_, err = c.Subscriptions.Delete(ctx, sub.ID)
		require.NoError(t, err)
		srv.Advance(time.Hour)
		assert.Equal(t, 4, automatic())
	})
}

func TestRelayNeedsASubscription(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		srv := newServer(t)
		c, ctx := srv.Client(), t.Context()
		user := newUser(ctx, t, c)
		session, err := c.Sessions.Create(ctx, ricloud.SessionCreateParams{
			Source:  ricloud.SourceParams{User: user.ID, Type: ricloud.SourceRelayInstance},
			Payload: ricloud.SessionPayload{Code: ricloud.NewSecret("PAIR-1234")},
		})
		require.NoError(t, err)
		_, err = c.Sessions.Wait(ctx, session.ID)
		require.NoError(t, err)
		children, err := c.Sources.Children(ctx, session.Source.ID, ricloud.ListParams{})
		require.NoError(t, err)
		_, err = c.Polls.Create(ctx, ricloud.PollCreateParams{
			Session: session.ID,
			Source:  children.Data[0].ID, Payload: ricloud.PollPayload{DataTypes: []string{"a"}},
		})
		require.ErrorIs(t, err, ricloud.ErrInvalidParameter)
		require.ErrorContains(t, err, "subscription")
	})
}

// An await ends with the work or at the largest allowed value.
func TestAwait(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		generation ricloudtest.Generation
		work, want time.Duration
		state      ricloud.SessionState
	}{
		"work ends first": {
			generation: ricloudtest.GenerationCurrent, work: 3 * time.Second,
			want: 3 * time.Second, state: ricloud.SessionActive,
		},
		"clamped": {
			generation: ricloudtest.GenerationCurrent, work: time.Minute,
			want: 10 * time.Second, state: ricloud.SessionPending,
		},
		"longer long since": {
			generation: ricloudtest.Generation2018, work: time.Minute,
			want: 30 * time.Second, state: ricloud.SessionPending,
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				srv := newServer(t, ricloudtest.WithGeneration(test.generation),
					ricloudtest.WithDelays(ricloudtest.Delays{Session: ricloudtest.Fixed(test.work)}))
				began := time.Now()
				assert.Equal(t, test.state, awaitSession(t.Context(), t, srv))
				assert.Equal(t, test.want, time.Since(began))
			})
		})
	}
}

func awaitSession(ctx context.Context, t *testing.T, srv *ricloudtest.Server) ricloud.SessionState {
	t.Helper()
	_, user := send(ctx, t, srv, "POST", "/users", srv.Token(), `{"identifier":"u"}`)
	body := `{"source":{"user":"` + fmt.Sprint(user["id"]) + `","type":"mocks.mock",` +
		`"identifier":"x"},"payload":{}}`
	r := request(ctx, t, "POST", "/sessions", srv.Token(), body)
	r.Header.Set("Ricloud-Await", "60")
	res, err := srv.RoundTrip(r)
	require.NoError(t, err)
	return ricloud.SessionState(fmt.Sprint(decode(t, res)["state"]))
}

// Lists are newest first, and paging returns no item twice.
func TestPaging(t *testing.T) {
	t.Parallel()
	for _, opts := range [][]ricloudtest.Option{
		nil,
		{ricloudtest.WithInclusiveCursors()},
		{ricloudtest.WithGeneration(ricloudtest.GenerationMixed)},
	} {
		srv := newServer(t, opts...)
		c, ctx := srv.Client(), t.Context()
		var made []string
		for i := range 25 {
			user, err := c.Users.Create(ctx, ricloud.UserCreateParams{Identifier: string(rune('a' + i))})
			require.NoError(t, err)
			made = append([]string{string(user.ID)}, made...)
		}
		page, err := c.Users.List(ctx, ricloud.UserListParams{})
		require.NoError(t, err)
		assert.Len(t, page.Data, 10)
		assert.True(t, page.HasMore)
		var all []string
		for user, err := range c.Users.All(ctx,
			ricloud.UserListParams{ListParams: ricloud.ListParams{Limit: 7}}) {
			require.NoError(t, err)
			all = append(all, string(user.ID))
		}
		assert.Equal(t, made, all)
	}
}
