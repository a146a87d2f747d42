package ricloudtest_test

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
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

// send sends a raw request in memory and returns the status and the body.
func send(
	ctx context.Context, t *testing.T, srv *ricloudtest.Server, method, path, token, body string,
) (int, map[string]any) {
	t.Helper()
	res, err := srv.RoundTrip(request(ctx, t, method, path, token, body))
	require.NoError(t, err)
	return res.StatusCode, decode(t, res)
}

func request(ctx context.Context, t *testing.T, method, path, token, body string) *http.Request {
	t.Helper()
	r, err := http.NewRequestWithContext(ctx, method, "https://api.ricloud.test"+path,
		strings.NewReader(body))
	require.NoError(t, err)
	r.Header.Set("Authorization", "Token "+token)
	return r
}

func decode(t *testing.T, res *http.Response) map[string]any {
	t.Helper()
	defer res.Body.Close()
	raw, err := readAll(res)
	require.NoError(t, err)
	var decoded map[string]any
	require.NoError(t, json.Unmarshal(raw, &decoded), "%s", raw)
	return decoded
}

// The table has every error code of the API and the content of its "params".
func TestErrorCodes(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		opts                []ricloudtest.Option
		token               string // the sandbox's own, unless set
		request, body, want string
		param               string
	}{
		"no body": {request: "POST /users", want: "400 invalid-parameter", param: "identifier"},
		"null": {
			request: "POST /users", body: "null",
			want: "400 invalid-parameter", param: "identifier",
		},
		"not JSON":      {request: "POST /users", body: `{"identifier": "a",}`, want: "400 invalid-body"},
		"not an object": {request: "POST /users", body: `["a"]`, want: "400 invalid-body"},
		"wrong type": {
			request: "POST /users", body: `{"identifier": 7}`,
			want: "400 invalid-parameter", param: "identifier",
		},
		"nested parameter": {
			request: "POST /sessions",
			body:    `{"source":{"user":"9","type":"icloud.account"},"payload":{}}`,
			want:    "400 invalid-parameter", param: "source.identifier",
		},
		"unknown source": {
			request: "POST /sessions", body: `{"source":{"user":"9","type":"x"},"payload":{}}`,
			want: "400 invalid-parameter", param: "source.type",
		},
		"unknown session": {
			request: "POST /polls", body: `{"session":"9","payload":{"data_types":["a"]}}`,
			want: "400 invalid-parameter", param: "session",
		},
		"no payload": {
			request: "POST /polls", body: `{"session":"9"}`,
			want: "400 invalid-parameter", param: "payload",
		},
		"bad scope": {
			request: "POST /permissions", body: `{"scopes":{"x":[]}}`,
			want: "400 invalid-parameter", param: "scopes.x",
		},
		"bad storage URL": {
			request: "POST /configs/storage", body: `{"url":"ftp://x/y"}`,
			want: "400 invalid-parameter", param: "url",
		},
		"bad webhook URL": {
			request: "POST /configs/webhook", body: `{"url":"receiver"}`,
			want: "400 invalid-parameter", param: "url",
		},
		"not an ID": {
			request: "POST /polls", body: `{"session":true,"payload":{"files":[]}}`,
			want: "400 invalid-parameter", param: "session",
		},
		"not a time": {
			request: "POST /polls", body: `{"session":9,"payload":{"files":[],"since":"soon"}}`,
			want: "400 invalid-parameter", param: "payload.since",
		},
		"not a list": {
			request: "POST /polls", body: `{"session":{"id":"9"},"payload":{"files":[7]}}`,
			want: "400 invalid-parameter", param: "payload.files",
		},
		"asks for nothing": {
			request: "POST /polls", body: `{"session":"9","payload":{}}`,
			want: "400 invalid-parameter", param: "payload",
		},
		"not seconds": {
			request: "POST /subscriptions",
			body:    `{"session":"9","poll_payload":{"files":[]},"interval":-1}`,
			want:    "400 invalid-parameter", param: "interval",
		},
		"limit of nobody": {
			request: "POST /permissions",
			body:    `{"scopes":{"data_type:a":[{"level":"all","value":1}]}}`,
			want:    "400 invalid-parameter", param: "scopes.data_type:a",
		},
		"no such config": {
			request: "POST /key",
			body:    `{"webhook_config":"9","config":{"publish_source_files":1}}`,
			want:    "400 invalid-parameter", param: "config.publish_source_files",
		},
		"no such state": {
			request: "POST /key", body: `{"state":"blocked"}`,
			want: "400 invalid-parameter", param: "state",
		},
		"limit of a list": {
			request: "GET /polls?limit=1001",
			want:    "400 invalid-parameter", param: "limit",
		},
		"cursor of a list": {
			request: "GET /polls?after_id=9",
			want:    "400 invalid-parameter", param: "after_id",
		},
		"wrong token": {request: "GET /key", token: "other", want: "401 unauthorised"},
		"beyond the base": {
			opts: []ricloudtest.Option{
				ricloudtest.WithScopes(ricloudtest.Scopes{"data_type:callkit.*": nil}),
			},
			request: "POST /permissions", body: `{"scopes":{"data_type:whatsapp.messages":[]}}`,
			want: "403 missing-scope",
		},
		"unknown resource": {request: "GET /polls/9", want: "404 not-found"},
		"unknown endpoint": {request: "GET /nothing", want: "404 not-found"},
		"wrong method":     {request: "DELETE /users/1", want: "405 method-not-allowed"},
		"no batch": {
			opts:    []ricloudtest.Option{ricloudtest.WithoutBatchAcknowledge()},
			request: "POST /results/ack", body: `{"results":["1"]}`,
			want: "404 not-found",
		},
		"unknown in batch": {
			request: "POST /results/ack", body: `{"results":["1"]}`,
			want: "400 invalid-parameter", param: "results.0",
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			srv := newServer(t, test.opts...)
			method, path, _ := strings.Cut(test.request, " ")
			status, body := send(t.Context(), t, srv, method, path, cmp.Or(test.token, srv.Token()),
				test.body)
			assert.Equal(t, test.want, fmt.Sprint(status, " ", body["error"]))
			assert.NotContains(t, body, "resource")
			if test.param != "" {
				assert.Contains(t, body["params"], test.param)
			}
		})
	}
}

func TestScopesAndLimits(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		srv := newServer(t, ricloudtest.WithScopes(ricloudtest.Scopes{
			"source_type:icloud.*":    {{Level: "user", Type: "count", Value: 1}},
			"data_type:callkit.calls": {{Level: "organisation", Type: "count", Value: 2}},
		}))
		c, ctx := srv.Client(), t.Context()
		session := john(ctx, t, c)
		poll := func(types ...string) error {
			return first(c.Polls.Create(ctx,
				ricloud.PollCreateParams{Session: session.ID, Payload: ricloud.PollPayload{DataTypes: types}}))
		}
		require.ErrorIs(t, poll("whatsapp.messages"), ricloud.ErrMissingScope)
		require.ErrorIs(t, poll("callkit.calls", "callkit.calls", "callkit.calls"),
			ricloud.ErrLimitExceeded)
		require.NoError(t, poll("callkit.calls"))
		require.NoError(t, poll("callkit.calls"))
		require.ErrorIs(t, poll("callkit.calls"), ricloud.ErrLimitExceeded)

		user := newUser(ctx, t, c)
		_, err := c.Sessions.Create(ctx, ricloud.SessionCreateParams{
			Source: ricloud.SourceParams{
				User: user.ID, Type: ricloud.SourceICloudAccount,
				Identifier: "jane.appleseed@example.com",
			},
			Payload: ricloud.SessionPayload{Password: ricloud.NewSecret("hunter2")},
		})
		require.ErrorIs(t, err, ricloud.ErrLimitExceeded)
	})
}

// All files count towards one limit, whatever their IDs are.
func TestLimitOfFiles(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		srv := newServer(t, ricloudtest.WithScopes(ricloudtest.Scopes{
			"file_type:*": {{Level: "key", Type: "count", Value: 2}},
		}))
		c, ctx := srv.Client(), t.Context()
		session := john(ctx, t, c)
		poll := func(files ...ricloud.ID) error {
			return first(c.Polls.Create(ctx, ricloud.PollCreateParams{
				Session: session.ID, Payload: ricloud.PollPayload{Files: files},
			}))
		}
		require.NoError(t, poll("7a10photo", "8b21video"))
		require.ErrorIs(t, poll("9c31voice"), ricloud.ErrLimitExceeded)
	})
}

func TestRateLimit(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		srv := newServer(t, ricloudtest.WithRateLimit(2, time.Hour))
		get := func() int {
			status, _ := send(t.Context(), t, srv, http.MethodGet, "/key", srv.Token(), "")
			return status
		}
		assert.Equal(t, []int{200, 200, 429, 429}, []int{get(), get(), get(), get()})
		srv.Advance(time.Hour)
		assert.Equal(t, 200, get())
	})
}

func TestRotationEndsTheOldToken(t *testing.T) {
	t.Parallel()
	srv := newServer(t)
	old := srv.Token()
	key, err := srv.Client().Keys.Current(t.Context())
	require.NoError(t, err)
	_, err = srv.Client().Keys.Rotate(t.Context(), key.ID, ricloud.KeyRotateParams{})
	require.NoError(t, err)
	status, _ := send(t.Context(), t, srv, http.MethodGet, "/key", old, "")
	assert.Equal(t, http.StatusUnauthorized, status)
	_, err = srv.Client().Keys.Current(t.Context())
	require.NoError(t, err, "srv.Client takes the new one")
}

func TestInFlightLimit(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		srv := newServer(t, ricloudtest.WithInFlightLimit(1))
		c, ctx := srv.Client(ricloud.WithRetries(0)), t.Context()
		params := ricloud.PollCreateParams{
			Session: john(ctx, t, c).ID,
			Payload: ricloud.PollPayload{DataTypes: []string{"callkit.calls"}},
		}
		require.NoError(t, first(c.Polls.Create(ctx, params)))
		require.ErrorIs(t, first(c.Polls.Create(ctx, params)), ricloud.ErrRateLimited)
		srv.Advance(time.Minute)
		require.NoError(t, first(c.Polls.Create(ctx, params)))
	})
}
