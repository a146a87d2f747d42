package ricloudtest_test

import (
	"bytes"
	"encoding/json"
	"io"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	ricloud "github.com/reincubate/ricloud-go"
	"github.com/reincubate/ricloud-go/ricloudtest"
)

// dumped writes a server's state and starts another server from it.
func dumped(t *testing.T, srv *ricloudtest.Server, opts ...ricloudtest.Option) *ricloudtest.Server {
	t.Helper()
	var state bytes.Buffer
	require.NoError(t, srv.Dump(&state))
	again := ricloudtest.NewServer(append(opts, ricloudtest.WithState(state.Bytes()))...)
	require.NoError(t, again.Err())
	var second bytes.Buffer
	require.NoError(t, again.Dump(&second))
	assert.JSONEq(t, state.String(), second.String(), "what is loaded is what was dumped")
	return again
}

// A server that is started from a dump completes the work in progress: pending sessions, processing
// and suspended tasks, subscriptions, undelivered events, and the grace period of a rotated token.
func TestDumpAndLoadContinueTheWork(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		ctx := t.Context()
		in := &inbox{status: http.StatusInternalServerError}
		account := ricloudtest.SampleAccount("Ada")
		account.Identifier, account.Password = "ada@example.com", "hunter2"
		account.Suspend = map[string]bool{"photos.photos": true}
		opts := []ricloudtest.Option{
			ricloudtest.WithAccounts(account), ricloudtest.WithReceiver(receiver, in),
			ricloudtest.WithWebhooks(receiver),
			ricloudtest.WithDelays(ricloudtest.Delays{
				Session: ricloudtest.Fixed(time.Minute), Task: ricloudtest.Fixed(time.Minute),
				Suspend: ricloudtest.Fixed(time.Hour),
			}),
		}
		srv := ricloudtest.NewServer(opts...)
		c := srv.Client()
		session := login(ctx, t, c, "ada@example.com", "hunter2")
		payload := ricloud.PollPayload{DataTypes: []string{"callkit.calls", "photos.photos"}}
		poll, err := c.Polls.Create(ctx, ricloud.PollCreateParams{
			Session: session.ID, Payload: payload,
		})
		require.NoError(t, err)
		subscription, err := c.Subscriptions.Create(ctx, ricloud.SubscriptionCreateParams{
			Session: session.ID, PollPayload: ricloud.PollPayload{DataTypes: []string{"callkit.calls"}},
			Interval: time.Hour,
		})
		require.NoError(t, err)
		pending, err := c.Sessions.Create(ctx, ricloud.SessionCreateParams{
			Source: ricloud.SourceParams{
				User: session.User, Type: ricloud.SourceICloudAccount, Identifier: "ada@example.com",
			},
			Payload: ricloud.SessionPayload{Password: ricloud.NewSecret("hunter2")},
		})
		require.NoError(t, err)
		old := srv.Token()
		key, err := c.Keys.Current(ctx)
		require.NoError(t, err)
		_, err = c.Keys.Rotate(ctx, key.ID, ricloud.KeyRotateParams{Expire: time.Hour})
		require.NoError(t, err)
		pass(45 * time.Second)
		middle, err := srv.Client().Tasks.List(ctx, ricloud.TaskListParams{State: "suspended"})
		require.NoError(t, err)
		require.Len(t, middle.Data, 1)

		again := dumped(t, srv, opts...)
		defer again.Close()
		srv.Close()
		in.answer(http.StatusOK)
		c = again.Client()
		pass(2 * time.Hour)
		poll, err = c.Polls.Get(ctx, poll.ID)
		require.NoError(t, err)
		assert.Equal(t, ricloud.PollCompleted, poll.State)
		assert.Len(t, poll.Results.Data, 2)
		path, err := c.Results.Save(ctx, &poll.Results.Data[0], t.TempDir())
		require.NoError(t, err)
		assert.NotEmpty(t, path)
		pending, err = c.Sessions.Get(ctx, pending.ID)
		require.NoError(t, err)
		assert.Equal(t, ricloud.SessionActive, pending.State)
		made, err := c.Polls.List(ctx, ricloud.PollListParams{Subscription: subscription.ID})
		require.NoError(t, err)
		assert.GreaterOrEqual(t, len(made.Data), 2, "the subscription goes on")
		events, err := c.Events.List(ctx, ricloud.EventListParams{State: "pending"})
		require.NoError(t, err)
		assert.Empty(t, events.Data, "each was delivered in the end")
		status, _ := send(ctx, t, again, http.MethodGet, "/key", old, "")
		assert.Equal(t, http.StatusUnauthorized, status, "the old token has ended")
	})
}

// A poll that is loaded while it runs ends with the last of its tasks, and counts as in flight
// until then.
func TestLoadOfAPollInFlight(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		account := ricloudtest.SampleAccount("Ada")
		account.Identifier, account.Password = "ada@example.com", "hunter2"
		account.Suspend = map[string]bool{"photos.photos": true}
		opts := []ricloudtest.Option{
			ricloudtest.WithAccounts(account), ricloudtest.WithInFlightLimit(1),
			ricloudtest.WithDelays(ricloudtest.Delays{
				Task: ricloudtest.Fixed(time.Minute), Suspend: ricloudtest.Fixed(time.Hour),
			}),
		}
		srv := ricloudtest.NewServer(opts...)
		ctx, c := t.Context(), srv.Client()
		params := ricloud.PollCreateParams{
			Session: login(ctx, t, c, "ada@example.com", "hunter2").ID,
			Payload: ricloud.PollPayload{DataTypes: []string{"callkit.calls"}},
		}
		for range 2 { // these polls end before the dump
			_, err := c.Polls.Create(ctx, params)
			require.NoError(t, err)
			pass(2 * time.Minute)
		}
		params.Payload.DataTypes = []string{"callkit.calls", "photos.photos"}
		poll, err := c.Polls.Create(ctx, params)
		require.NoError(t, err)
		pass(30 * time.Second)

		again := dumped(t, srv, opts...)
		defer again.Close()
		srv.Close()
		c = again.Client(ricloud.WithRetries(0))
		state := func() ricloud.PollState {
			got, err := c.Polls.Get(ctx, poll.ID)
			require.NoError(t, err)
			return got.State
		}
		pass(time.Minute)
		assert.Equal(t, ricloud.PollProcessing, state(), "one task is suspended, the other is over")
		_, err = c.Polls.Create(ctx, params)
		require.ErrorIs(t, err, ricloud.ErrRateLimited)
		pass(2 * time.Hour)
		assert.Equal(t, ricloud.PollCompleted, state())
		_, err = c.Polls.Create(ctx, params)
		require.NoError(t, err)
		_, err = c.Polls.Create(ctx, params)
		require.ErrorIs(t, err, ricloud.ErrRateLimited)
	})
}

func TestLoadRefuses(t *testing.T) {
	t.Parallel()
	srv := newServer(t)
	var state bytes.Buffer
	require.NoError(t, srv.Dump(&state))
	for name, test := range map[string]struct{ dump, want string }{
		"not JSON":        {dump: "no", want: "load"},
		"another version": {dump: `{"version":99}`, want: "version"},
		"a lost key": {
			dump: strings.Replace(state.String(), `"key": "1"`, `"key": "9"`, 1),
			want: "9",
		},
		"a lost base": {
			dump: strings.Replace(state.String(), `"Base": "1"`, `"Base": "9"`, 1), want: "permission 9",
		},
		"a user without key": {
			dump: strings.Replace(state.String(), `"users": []`, `"users": [{"id":"1","Key":"7"}]`, 1),
			want: "key 7",
		},
		"a null in a list": {
			dump: strings.Replace(state.String(), `"users": []`, `"users": [null]`, 1), want: "null",
		},
		"a null in a poll": {
			dump: strings.Replace(state.String(), `"polls": []`, `"polls": [{"Tasks":[null]}]`, 1),
			want: "null",
		},
		"a poll without session": {
			dump: strings.Replace(state.String(), `"polls": []`, `"polls": [{"id":"1","Key":"1"}]`, 1),
			want: "session",
		},
	} {
		require.ErrorContains(t, srv.Load(strings.NewReader(test.dump)), test.want, name)
		_, err := srv.Client().Organisation.Get(t.Context())
		require.NoError(t, err, "%s: nothing has changed", name)
		bad := ricloudtest.NewServer(ricloudtest.WithState([]byte(test.dump)))
		require.ErrorContains(t, bad.Err(), test.want, name)
		bad.Close()
	}
	huge := newServer(t, ricloudtest.WithAccounts(ricloudtest.Account{
		Identifier: "x", Files: map[string]ricloudtest.File{"f": {Content: ricloudtest.GenerateBytes(1,
			9<<20)}},
	}))
	require.ErrorContains(t, huge.Dump(&state), "too many")
}

func TestNilReadersAndWriters(t *testing.T) {
	t.Parallel()
	srv := newServer(t)
	_, scenario := ricloudtest.ReadScenario(nil)
	_, faults := ricloudtest.ReadFaults(nil)
	require.EqualError(t, scenario, "ricloudtest: read scenario: the reader is nil")
	require.EqualError(t, faults, "ricloudtest: read faults: the reader is nil")
	require.EqualError(t, srv.Load(nil), "ricloudtest: load: the reader is nil")
	require.EqualError(t, srv.Dump(nil), "ricloudtest: dump: the writer is nil")
}

// A reset discards everything and starts again like NewServer.
func TestReset(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		srv := newServer(t)
		first := john(t.Context(), t, srv.Client())
		require.NoError(t, srv.SetFaults(ricloudtest.Fault{Status: 500, Count: -1}))
		srv.Reset(1)
		assert.Zero(t, srv.CountCalls(""))
		_, err := srv.Client().Sessions.Get(t.Context(), first.ID)
		require.ErrorIs(t, err, ricloud.ErrNotFound)
		srv.Reset(1)
		assert.Equal(t, first.ID, john(t.Context(), t, srv.Client()).ID, "the same seed, the same IDs")
		srv.Reset(2)
		assert.NotEqual(t, first.ID, john(t.Context(), t, srv.Client()).ID)
	})
}

// The Date header of every answer is the sandbox's time.
func TestDateOfAnswers(t *testing.T) {
	t.Parallel()
	srv := newServer(t)
	srv.Advance(24 * time.Hour)
	for _, path := range []string{"/key", "/nothing"} {
		res, err := srv.RoundTrip(request(t.Context(), t, http.MethodGet, path, srv.Token(), ""))
		require.NoError(t, err)
		require.NoError(t, res.Body.Close())
		at, err := http.ParseTime(res.Header.Get("Date"))
		require.NoError(t, err)
		assert.WithinDuration(t, time.Now().Add(24*time.Hour), at, time.Minute)
	}
}

// atEnd is a Content whose last byte comes with io.EOF, as io.ReaderAt permits.
type atEnd struct{ *strings.Reader }

func (a atEnd) ReadAt(p []byte, off int64) (int, error) {
	n, err := a.Reader.ReadAt(p, off)
	if off+int64(n) == a.Size() {
		err = io.EOF
	}
	return n, err
}

func TestAccountOfAnyContentIsWritten(t *testing.T) {
	t.Parallel()
	data := map[string]ricloudtest.Content{"notes.notes": atEnd{strings.NewReader(`[1]`)}}
	raw, err := json.Marshal(ricloudtest.Account{Identifier: "jane", Data: data})
	require.NoError(t, err)
	assert.Contains(t, string(raw), `{"notes.notes":[1]}`)
}
