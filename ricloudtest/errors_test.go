package ricloudtest_test

import (
	"context"
	"encoding/json"
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

// send makes a raw request in memory and returns the status and the body.
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

// Every error code that the API answers with, and what "params" names.
func TestErrorCodes(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		opts                      []ricloudtest.Option
		method, path, token, body string
		status                    int
		code, param               string
	}{
		"no body": {
			nil, "POST", "/users", "sandbox-token", "", 400, "invalid-parameter",
			"identifier",
		},
		"null": {
			nil, "POST", "/users", "sandbox-token", "null", 400, "invalid-parameter",
			"identifier",
		},
		"not JSON": {
			nil, "POST", "/users", "sandbox-token", `{"identifier": "a",}`, 400,
			"invalid-body", "",
		},
		"not an object": {nil, "POST", "/users", "sandbox-token", `["a"]`, 400, "invalid-body", ""},
		"wrong type": {
			nil, "POST", "/users", "sandbox-token", `{"identifier": 7}`, 400,
			"invalid-parameter", "identifier",
		},
		"nested parameter": {
			nil, "POST", "/sessions", "sandbox-token",
			`{"source":{"user":"9","type":"icloud.account"},"payload":{}}`, 400, "invalid-parameter",
			"source.identifier",
		},
		"unknown source": {
			nil, "POST", "/sessions", "sandbox-token",
			`{"source":{"user":"9","type":"x"},"payload":{}}`, 400, "invalid-parameter", "source.type",
		},
		"unknown session": {
			nil, "POST", "/polls", "sandbox-token",
			`{"session":"9","payload":{"data_types":["a"]}}`, 400, "invalid-parameter", "session",
		},
		"no payload": {
			nil, "POST", "/polls", "sandbox-token", `{"session":"9"}`, 400,
			"invalid-parameter", "payload",
		},
		"bad scope": {
			nil, "POST", "/permissions", "sandbox-token", `{"scopes":{"x":[]}}`, 400,
			"invalid-parameter", "scopes.x",
		},
		"bad storage URL": {
			nil, "POST", "/configs/storage", "sandbox-token", `{"url":"ftp://x/y"}`, 400,
			"invalid-parameter", "url",
		},
		"bad webhook URL": {
			nil, "POST", "/configs/webhook", "sandbox-token", `{"url":"receiver"}`, 400,
			"invalid-parameter", "url",
		},
		"not an ID": {
			nil, "POST", "/polls", "sandbox-token",
			`{"session":true,"payload":{"files":[]}}`, 400, "invalid-parameter", "session",
		},
		"not a time": {
			nil, "POST", "/polls", "sandbox-token",
			`{"session":9,"payload":{"files":[],"since":"soon"}}`, 400, "invalid-parameter",
			"payload.since",
		},
		"not a list": {
			nil, "POST", "/polls", "sandbox-token",
			`{"session":{"id":"9"},"payload":{"files":[7]}}`, 400, "invalid-parameter", "payload.files",
		},
		"asks for nothing": {
			nil, "POST", "/polls", "sandbox-token", `{"session":"9","payload":{}}`, 400,
			"invalid-parameter", "payload",
		},
		"not seconds": {
			nil, "POST", "/subscriptions", "sandbox-token",
			`{"session":"9","poll_payload":{"files":[]},"interval":-1}`, 400, "invalid-parameter",
			"interval",
		},
		"limit of nobody": {
			nil, "POST", "/permissions", "sandbox-token",
			`{"scopes":{"data_type:a":[{"level":"all","value":1}]}}`, 400, "invalid-parameter",
			"scopes.data_type:a",
		},
		"no such config": {
			nil, "POST", "/key", "sandbox-token",
			`{"webhook_config":"9","config":{"publish_source_files":1}}`, 400, "invalid-parameter",
			"config.publish_source_files",
		},
		"no such state": {
			nil, "POST", "/key", "sandbox-token", `{"state":"blocked"}`, 400,
			"invalid-parameter", "state",
		},
		"limit of a list": {
			nil, "GET", "/polls?limit=1001", "sandbox-token", "", 400,
			"invalid-parameter", "limit",
		},
		"cursor of a list": {
			nil, "GET", "/polls?after_id=9", "sandbox-token", "", 400,
			"invalid-parameter", "after_id",
		},
		"wrong token": {nil, "GET", "/key", "other", "", 401, "unauthorised", ""},
		"beyond the base": {
			[]ricloudtest.Option{ricloudtest.WithScopes(ricloudtest.Scopes{"data_type:callkit.*": nil})},
			"POST", "/permissions", "sandbox-token", `{"scopes":{"data_type:whatsapp.messages":[]}}`, 403,
			"missing-scope", "",
		},
		"unknown resource": {nil, "GET", "/polls/9", "sandbox-token", "", 404, "not-found", ""},
		"unknown endpoint": {nil, "GET", "/nothing", "sandbox-token", "", 404, "not-found", ""},
		"wrong method": {
			nil, "DELETE", "/users/1", "sandbox-token", "", 405, "method-not-allowed",
			"",
		},
		"no batch": {
			[]ricloudtest.Option{ricloudtest.WithoutBatchAcknowledge()},
			"POST",
			"/results/ack", "sandbox-token", `{"results":["1"]}`, 404, "not-found", "",
		},
		"unknown in batch": {
			nil, "POST", "/results/ack", "sandbox-token", `{"results":["1"]}`, 400,
			"invalid-parameter", "results.0",
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			status, body := send(t.Context(), t, start(t, test.opts...), test.method, test.path, test.token,
				test.body)
			assert.Equal(t, test.status, status)
			assert.Equal(t, test.code, body["error"])
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
		srv := ricloudtest.NewServer(ricloudtest.WithScopes(ricloudtest.Scopes{
			"source_type:icloud.*":    {{Level: "user", Type: "count", Value: 1}},
			"data_type:callkit.calls": {{Level: "organisation", Type: "count", Value: 2}},
		}))
		defer srv.Close()
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

		user, err := c.Users.Create(ctx, ricloud.UserCreateParams{Identifier: "customer-42"})
		require.NoError(t, err)
		_, err = c.Sessions.Create(ctx, ricloud.SessionCreateParams{
			Source: ricloud.SourceParams{
				User: user.ID, Type: ricloud.SourceICloudAccount,
				Identifier: "jane.appleseed@example.com",
			},
			Payload: ricloud.SessionPayload{Password: ricloud.NewSecret("hunter2")},
		})
		require.ErrorIs(t, err, ricloud.ErrLimitExceeded)
	})
}

func TestRateLimit(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		srv := ricloudtest.NewServer(ricloudtest.WithRateLimit(2, time.Hour))
		defer srv.Close()
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
	srv := start(t)
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
		srv := ricloudtest.NewServer(ricloudtest.WithInFlightLimit(1))
		defer srv.Close()
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
