package ricloud

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"slices"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"
	"unicode"

	"github.com/jarcoal/httpmock"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/reincubate/ricloud-go/internal/transport"
)

func TestErrorsByMeaning(t *testing.T) {
	t.Parallel()
	tests := []struct {
		status int
		body   string
		is     []error
		text   string
	}{
		{
			status: 400, body: `{"error":"invalid-body","message":"Not JSON."}`,
			is:   []error{ErrInvalidBody},
			text: "ricloud: Users.Get: 400 Bad Request: invalid-body: Not JSON.",
		},
		{
			status: 400,
			body:   `{"error":"invalid-parameter","message":"No.","params":{"identifier":["required"]}}`,
			is:     []error{ErrInvalidParameter},
			text: `ricloud: Users.Get: 400 Bad Request: invalid-parameter: No. (params ` +
				`{"identifier":["required"]})`,
		},
		{
			status: 401, body: `{"error":"unauthorized","params":null}`,
			is:   []error{ErrUnauthorized},
			text: "ricloud: Users.Get: 401 Unauthorized: unauthorized",
		},
		{
			status: 403, body: `{"error":"missing-scope"}`,
			is:   []error{ErrMissingScope, ErrForbidden},
			text: "ricloud: Users.Get: 403 Forbidden: missing-scope",
		},
		{
			status: 403, body: `{"error":"unconfigured"}`,
			is:   []error{ErrUnconfigured},
			text: "ricloud: Users.Get: 403 Forbidden: unconfigured",
		},
		{
			status: 403, body: `{"error":"limit-exceeded"}`,
			is:   []error{ErrLimitExceeded},
			text: "ricloud: Users.Get: 403 Forbidden: limit-exceeded",
		},
		{
			status: 400, body: `{"error":"session-expired"}`,
			is:   []error{ErrSessionExpired},
			text: "ricloud: Users.Get: 400 Bad Request: session-expired",
		},
		{
			status: 400, body: `{"error":"code-required"}`,
			is:   []error{ErrCodeRequired},
			text: "ricloud: Users.Get: 400 Bad Request: code-required",
		},
		{
			status: 400, body: `{"error":"code-invalid"}`,
			is:   []error{ErrCodeInvalid},
			text: "ricloud: Users.Get: 400 Bad Request: code-invalid",
		},
		{
			status: 404, body: ``,
			is: []error{ErrNotFound}, text: "ricloud: Users.Get: 404 Not Found",
		},
		{
			status: 410, body: `{"error":"gone"}`,
			is: []error{ErrNotFound}, text: "ricloud: Users.Get: 410 Gone: gone",
		},
		{
			status: 418, body: `{"error":{"of":"another shape"},"message":7}`,
			is: nil,
			text: `ricloud: Users.Get: 418 I'm a teapot: not an answer of the API: ` +
				`"{\"error\":{\"of\":\"another shape\"},\"message\":7}"`,
		},
		{
			status: 500, body: ``,
			is: []error{ErrServer}, text: "ricloud: Users.Get: 500 Internal Server Error",
		},
		{
			status: 503, body: `{"token":"x"}`,
			is: []error{ErrServer},
			text: `ricloud: Users.Get: 503 Service Unavailable: ` +
				`not an answer of the API: "{\"token\":[redacted]"`,
		},
		{
			status: 502, body: "<html>Bad gateway</html>",
			is: []error{ErrServer},
			text: `ricloud: Users.Get: 502 Bad Gateway: ` +
				`not an answer of the API: "<html>Bad gateway</html>"`,
		},
	}
	sentinels := []error{
		ErrUnauthorized, ErrForbidden, ErrNotFound, ErrRateLimited, ErrServer, ErrInvalidBody,
		ErrInvalidParameter, ErrUnconfigured,
		ErrMissingScope, ErrLimitExceeded, ErrSessionExpired, ErrCodeRequired, ErrCodeInvalid,
	}
	for _, tc := range tests {
		t.Run(tc.text, func(t *testing.T) {
			t.Parallel()
			c, api := newTestClient(t, WithRetries(0))
			api.RegisterResponder(http.MethodGet, "=~.*", httpmock.NewStringResponder(tc.status, tc.body))
			var raw Response
			_, err := c.Users.Get(t.Context(), "1", WithResponse(&raw))
			apiErr, ok := errors.AsType[*Error](err)
			require.True(t, ok, "%v", err)
			assert.Equal(t, tc.status, apiErr.StatusCode)
			assert.Equal(t, tc.body, string(apiErr.Body))
			require.EqualError(t, err, tc.text)
			for _, sentinel := range sentinels {
				want := false
				for _, is := range tc.is {
					want = want || errors.Is(is, sentinel)
				}
				if tc.status == 403 && errors.Is(sentinel, ErrForbidden) {
					want = true
				}
				assert.Equal(t, want, errors.Is(err, sentinel), "%v", sentinel)
			}
			assert.Equal(t, tc.status, raw.StatusCode)
			assert.Equal(t, tc.body, string(raw.Body))
			assert.Len(t, raw.Attempts, 1)
		})
	}
}

func TestWithResponseShowsACallWithoutAnAnswer(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		down := httpmock.NewStringResponder(http.StatusServiceUnavailable, "down")
		reset := httpmock.NewErrorResponder(syscall.ECONNRESET)
		for _, tc := range []struct {
			first  httpmock.Responder
			status int
			body   string
		}{
			{first: down, status: http.StatusServiceUnavailable, body: "down"},
			{first: reset, status: 0, body: ""},
		} {
			c, api := newTestClient(t, WithRetries(1))
			api.RegisterResponder(http.MethodGet, "=~.*", tc.first.Then(reset))
			raw := Response{StatusCode: http.StatusOK}
			_, err := c.Users.Get(t.Context(), "1", WithResponse(&raw))
			require.ErrorIs(t, err, syscall.ECONNRESET)
			assert.Equal(t, tc.status, raw.StatusCode)
			assert.Equal(t, tc.body, string(raw.Body))
			assert.Len(t, raw.Attempts, 2)
			assert.Equal(t, raw.Attempts[0].Wait, raw.Duration, "mocks take no time")
		}
	})
}

func TestRateLimitedKeepsTheHint(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		c, api := newTestClient(t)
		api.RegisterResponder(http.MethodGet, "=~.*",
			httpmock.NewStringResponder(429, "").HeaderSet(http.Header{"Retry-After": {"3600"}}))
		began := time.Now()
		_, err := c.Users.Get(t.Context(), "1")
		require.ErrorIs(t, err, ErrRateLimited)
		apiErr, _ := errors.AsType[*Error](err)
		assert.Equal(t, time.Hour, apiErr.RetryAfter)
		require.ErrorContains(t, err, "retry after 1h0m0s")
		assert.Zero(t, time.Since(began), "a hint over the cap is not waited for")
	})
}

func TestDidItHappen(t *testing.T) {
	t.Parallel()
	payload := PollPayload{DataTypes: []string{"x"}}
	create := func(ctx context.Context, c *Client) error {
		return result(c.Polls.Create(ctx, PollCreateParams{Session: "s", Payload: payload}))
	}
	broken := httpmock.NewErrorResponder(io.ErrUnexpectedEOF)
	tests := []struct {
		name    string
		call    func(context.Context, *Client) error
		answer  httpmock.Responder
		applied bool
		calls   int
		text    string
	}{
		{
			name: "create, broken", call: create, answer: broken,
			applied: true, calls: 1,
			text: "it may have been created: " +
				"look for it with Polls.List, newest first, before you create another",
		},
		{
			name: "create, 502", call: create,
			answer:  httpmock.NewStringResponder(502, "<html>"),
			applied: true, calls: 1, text: "502 Bad Gateway",
		},
		{
			name: "create, garbage", call: create,
			answer:  httpmock.NewStringResponder(201, "{"),
			applied: true, calls: 1, text: "cannot decode the body",
		},
		{
			name: "create, refused", call: create,
			answer:  jsonResponder(400, `{"error":"invalid-parameter"}`),
			applied: false, calls: 1, text: "invalid-parameter",
		},
		{
			name: "rotate, broken",
			call: func(ctx context.Context, c *Client) error {
				return result(c.Keys.Rotate(ctx, "1", KeyRotateParams{}))
			},
			answer:  broken,
			applied: true, calls: 1, text: "read its token with Keys.Get",
		},
		{
			name: "update, broken",
			call: func(ctx context.Context, c *Client) error {
				return result(c.Users.Update(ctx, "1", UserUpdateParams{Identifier: "x"}))
			},
			answer:  broken,
			applied: true, calls: 5,
			text: "the request may have been applied; it is safe to repeat",
		},
		{
			name: "read, broken",
			call: func(ctx context.Context, c *Client) error {
				return result(c.Users.Get(ctx, "1"))
			},
			answer:  broken,
			applied: false, calls: 5, text: "attempt 5",
		},
		{
			name: "call, broken",
			call: func(ctx context.Context, c *Client) error {
				return c.Call(ctx, http.MethodPost, "/x", nil, nil)
			},
			answer:  broken,
			applied: true, calls: 1, text: "check before you repeat it",
		},
	}
	for _, tc := range tests {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				c, api := newTestClient(t)
				api.RegisterResponder(http.MethodPost, "=~.*", tc.answer)
				api.RegisterResponder(http.MethodGet, "=~.*", tc.answer)
				err := tc.call(t.Context(), c)
				require.ErrorContains(t, err, tc.text)
				call, ok := errors.AsType[*CallError](err)
				assert.Equal(t, tc.applied, ok && call.MaybeApplied(), "%v", err)
				assert.Len(t, api.all(), tc.calls)
			})
		})
	}
}

func TestUnknownOutcomeOfWhatIsSafeToRepeat(t *testing.T) {
	t.Parallel()
	c, api := newTestClient(t)
	api.RegisterResponder(http.MethodPost, "=~.*", httpmock.NewStringResponder(200, "{"))
	_, err := c.Users.Update(t.Context(), "1", UserUpdateParams{Identifier: "x"})
	require.ErrorContains(t, err, "the request may have been applied; it is safe to repeat")
	_, err = c.Sessions.Create(t.Context(), janesLogin())
	require.ErrorContains(t, err, "look for it with Sessions.Find before you create")
}

func TestAnAnswerWithoutABody(t *testing.T) {
	t.Parallel()
	c, api := newTestClient(t)
	for _, method := range []string{http.MethodGet, http.MethodPost, http.MethodDelete} {
		api.RegisterResponder(method, "=~.*", httpmock.NewStringResponder(http.StatusNoContent, ""))
	}
	_, err := c.Sessions.Delete(t.Context(), "s")
	require.NoError(t, err, "a DELETE may answer 204")
	_, err = c.Results.Acknowledge(t.Context(), "r")
	require.NoError(t, err)
	_, err = c.Users.Get(t.Context(), "1")
	require.ErrorContains(t, err, "ricloud: Users.Get: cannot decode the body",
		"not a user without an id")
	_, err = c.Sessions.Create(t.Context(), janesLogin())
	call, ok := errors.AsType[*CallError](err)
	require.True(t, ok, "%v", err)
	assert.True(t, call.MaybeApplied())
}

func TestStateErrorMeans(t *testing.T) {
	t.Parallel()
	require.ErrorIs(t, &StateError{Resource: "session", State: "expired"}, ErrSessionExpired,
		"whatever the API says why")
	require.NotErrorIs(t, &StateError{Resource: "subscription", State: "expired"}, ErrSessionExpired)
	require.ErrorIs(t, &StateError{Resource: "poll", State: "completed", Suspended: []ID{"1"}},
		ErrTasksFailed)
	require.NotErrorIs(t, &StateError{Resource: "poll", State: "failed"}, ErrTasksFailed)

	ids := []ID{"1", "2", "3", "4", "5", "6", "7", "8", "9", "10", "11"}
	require.EqualError(t, &StateError{Resource: "poll", ID: "p", State: "completed", Failed: ids[:10]},
		"ricloud: poll p is completed; failed tasks: 1, 2, 3, 4, 5, 6, 7, 8, 9, 10")
	require.EqualError(t, &StateError{Resource: "poll", ID: "p", State: "completed", Suspended: ids},
		"ricloud: poll p is completed; suspended tasks: 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, …")
}

func TestSuspendedTasksHaveNotSucceeded(t *testing.T) {
	t.Parallel()
	require.ErrorIs(t, &StateError{Resource: "poll", State: "failed", Suspended: []ID{"a"}},
		ErrTasksFailed)
	require.NotErrorIs(t, &StateError{Resource: "poll", State: "failed"}, ErrTasksFailed)
}

func TestTasksWithoutAnIDAreCounted(t *testing.T) {
	t.Parallel()
	for want, ids := range map[string][]ID{
		"; failed tasks: a, b":                         {"a", "b"},
		"; failed tasks: 2 without an ID":              {"", ""},
		"; failed tasks: a, 1 without an ID":           {"", "a"},
		"; failed tasks: 1, 1, 1, 1, 1, 1, 1, 1, 1, 1": slices.Repeat([]ID{"1"}, 10),
		"; failed tasks: 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, …, 1 without an ID": append(
			slices.Repeat([]ID{"1"}, 11), ""),
		"; failed tasks: 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1 without an ID": append(
			slices.Repeat([]ID{"1"}, 10), ""),
	} {
		err := &StateError{Resource: "poll", ID: "p", State: "completed", Failed: ids}
		assert.EqualError(t, err, "ricloud: poll p is completed"+want)
	}
}

func TestCancelledCallKeepsCauseAndLastAnswer(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		c, api := newTestClient(t)
		api.RegisterResponder(http.MethodGet, "=~.*",
			jsonResponder(503, `{"error":"busy"}`).HeaderSet(http.Header{"Retry-After": {"20"}}))
		stopped := errors.New("shutting down")
		ctx, cancel := context.WithCancelCause(t.Context())
		time.AfterFunc(5*time.Second, func() { cancel(stopped) })
		_, err := c.Users.Get(ctx, "1")
		require.ErrorIs(t, err, stopped)
		require.ErrorIs(t, err, context.Canceled, "whatever the cause")
		require.ErrorIs(t, err, ErrServer)
		apiErr, ok := errors.AsType[*Error](err)
		require.True(t, ok)
		assert.Equal(t, ErrorCode("busy"), apiErr.Code)
		require.ErrorContains(t, err, "the last answer was: 503 Service Unavailable: busy")
	})
}

// A test of the caller's may make an error without its cause.
func TestErrorsWithoutACause(t *testing.T) {
	t.Parallel()
	for _, err := range []error{
		new(AcknowledgeError), new(CallError), new(DecodeError), new(DownloadError), new(FolderError),
		new(RecordError), new(Error), new(ParamError), new(StateError), new(StorageError),
	} {
		assert.NotEmpty(t, err.Error())
		require.NotErrorIs(t, err, ErrNotFound)
	}
	assert.Contains(t, new(DownloadError).Error(), "unknown cause")
}

func TestDecodeErrorNamesThePath(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name, body string
		v          any
		path, text string
	}{
		{
			name: "list item", body: `{"data":[{"id":1},{"id":[7]}]}`, v: &List[User]{},
			path: "data[1].id", text: "the value is [7]",
		},
		{
			name: "array item", body: `[{"id":1},{"id":true}]`, v: &List[User]{},
			path: "[1].id", text: "the value is true",
		},
		{
			name: "an item that is no object", body: `[{"id":1},"x"]`, v: &List[User]{},
			path: "[1]", text: `the value is "x"`,
		},
		{
			name: "state", body: `{"id":"s","state":{"a":1}}`, v: &Session{},
			path: "state", text: "got object, want string",
		},
		{
			name: "a state is not converted", body: `{"id":"s","state":7}`, v: &Session{},
			path: "state", text: "got number, want string",
		},
		{
			name: "a list that decides on success", body: `{"id":"p","tasks_failed":3}`,
			v:    &Poll{},
			path: "tasks_failed", text: "got number, want array",
		},
		{
			name: "a type of the caller's", body: `{"a":1,"b":[{"c":"x"}]}`,
			v:    &struct{ B []struct{ C int } }{},
			path: "b[0].c", text: `the value is "x"`,
		},
		{
			name: "a secret of the caller's", body: `{"key":["12345678"]}`,
			v:    &struct{ Key Secret }{},
			path: "key", text: "the value is [redacted]",
		},
		{
			name: "not an object", body: `[1]`, v: &User{},
			path: "", text: "cannot decode the body: got array, want",
		},
		{
			name: "cut", body: `{"id":"s","user":`, v: &Session{},
			path: "", text: `the value is {"id":"s","user":`,
		},
		{
			name: "HTML", body: `<html>` + strings.Repeat("x", 1000), v: &User{},
			path: "", text: "the value is <html>",
		},
		{
			name: "cut behind a token", body: `{"id":"1","token":"12345678",`, v: &Key{},
			path: "", text: `{"id":"1","token":[redacted]`,
		},
		{
			name: "a secret below the misfit", body: `{"id":[{"password":"12345678"}]}`,
			v:    &Session{},
			path: "id", text: `the value is [{"password":[redacted]`,
		},
		{
			name: "the first of two, by name", body: `{"state":[1],"id":[2]}`, v: &Task{},
			path: "id", text: "the value is [2]",
		},
		{
			name: "too deep", body: strings.Repeat(`{"children":["]",`, 5000), v: &Source{},
			path: "", text: "nested deeper than 64",
		},
	}
	for _, tc := range tests {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			err := decode("Things.Get", []byte(tc.body), tc.v)
			var decodeErr *DecodeError
			require.ErrorAs(t, err, &decodeErr)
			assert.Equal(t, "Things.Get", decodeErr.Operation)
			assert.Equal(t, tc.path, decodeErr.Path)
			assert.LessOrEqual(t, len(decodeErr.Snapshot), transport.MaxSnapshot+len("…"))
			require.ErrorContains(t, err, "ricloud: Things.Get: ")
			require.ErrorContains(t, err, tc.text)
			assert.NotContains(t, fmt.Sprintf("%v %+v %#v", err, err, decodeErr), "12345678")
		})
	}
}

func TestRawKeepsWhatComes(t *testing.T) {
	t.Parallel()
	for body, want := range map[string]string{
		`{"a":1}`: `{"a":1}`, `"{\"a\":1}"`: `{"a":1}`, `" {\"a\":1}\n"`: `{"a":1}`, `"{no"`: `"{no"`,
		`"words"`: `"words"`, `"7"`: `"7"`, `""`: `""`, `null`: ``,
	} {
		raw := Raw("old")
		require.NoError(t, json.Unmarshal([]byte(body), &raw), body)
		assert.Equal(t, want, string([]byte(raw)), body)
	}
}

func TestTolerantLeaves(t *testing.T) {
	t.Parallel()
	for body, want := range map[string]ID{
		`"a"`: "a", `"a\u0062\/\""`: `ab/"`, "\"a\xff\"": "a\uFFFD",
		`7`: "7", `0`: "0", `-1`: "-1", `12345678901234567890`: "12345678901234567890", `{"id":7}`: "7",
		`null`: "", `{}`: "",
	} {
		id := ID("old")
		require.NoError(t, json.Unmarshal([]byte(body), &id), body)
		assert.Equal(t, want, id, body)
	}
	for _, body := range []string{`[]`, `true`} {
		var id ID
		require.Error(t, json.Unmarshal([]byte(body), &id), body)
	}
	var user User
	require.NoError(t, decode("x", []byte(`{"id":null,"state":"of-tomorrow","unknown":[{}]}`), &user))
	assert.Equal(t, User{State: "of-tomorrow"}, user)
	var poll Poll
	require.NoError(t,
		decode("x",
			[]byte(`{"state":"of-tomorrow","tasks_completed":[1],"tasks_suspended":null,"results":null,`+
				`"errors":null}`), &poll))
	assert.Equal(t, Poll{State: "of-tomorrow", TasksSucceeded: []ID{"1"}, unsorted: true}, poll)
}

func TestSecretsDoNotPrint(t *testing.T) {
	t.Parallel()
	const canary = "canary-7f3a"
	c, err := NewClient(canary)
	require.NoError(t, err)
	values := []any{
		NewSecret(canary), c, *c,
		Key{Token: NewSecret(canary)},
		WebhookConfig{Secret: NewSecret(canary)},
		Credentials{"k": NewSecret(canary)},
		SessionPayload{Password: NewSecret(canary), Code: NewSecret(canary)},
		SessionCreateParams{Payload: SessionPayload{Password: NewSecret(canary)}},
		StorageConfigCreateParams{Credentials: Credentials{"k": NewSecret(canary)}},
		Result{SignedURL: SignedURL{URL: NewSecret(canary)}},
		[]Secret{NewSecret(canary)},
		map[string]any{"k": NewSecret(canary)},
		Raw(canary),
		Event{Data: Raw(canary)},
	}
	var b strings.Builder
	text, jsonLog := slog.New(slog.NewTextHandler(&b, nil)), slog.New(slog.NewJSONHandler(&b, nil))
	for _, v := range values {
		for _, verb := range []string{"%v", "%+v", "%#v", "%q", "%s", "%x", "%d"} {
			fmt.Fprintf(&b, verb, v)
		}
		if _, isClient := v.(*Client); !isClient {
			out, err := json.Marshal(v)
			fmt.Fprint(&b, string(out), err)
		}
		text.Info("x", slog.Any("v", v))
		jsonLog.Info("x", slog.Any("v", v))
	}
	assert.NotContains(t, b.String(), canary)
	assert.NotContains(t, b.String(), fmt.Sprintf("%x", canary))
	assert.Contains(t, b.String(), "[redacted]")
	assert.Empty(t, NewSecret("").String())
	assert.Equal(t, "[redacted]", Raw(canary).String())
	assert.Equal(t, "[redacted]", Raw(canary).LogValue().String())
}

func TestNewClientFromEnv(t *testing.T) {
	t.Setenv("RICLOUD_TOKEN", "")
	_, err := NewClientFromEnv()
	require.EqualError(t, err, "ricloud: NewClientFromEnv: RICLOUD_TOKEN is not set")

	t.Setenv("RICLOUD_TOKEN", "from-env")
	t.Setenv("RICLOUD_URL", "https://example.com/api")
	api := &recorder{MockTransport: httpmock.NewMockTransport()}
	api.RegisterNoResponder(jsonResponder(200, `{}`))
	c, err := NewClientFromEnv(WithTransport(api), WithUserAgent("acme/2"))
	require.NoError(t, err)
	_, err = c.Organisation.Get(t.Context())
	require.NoError(t, err)
	assert.Equal(t, "/api/organisation", api.last().Path)
	assert.Equal(t, "Token from-env", api.last().Header.Get("Authorization"))
	assert.Equal(t, "ricloud-go/"+Version+" acme/2", api.last().Header.Get("User-Agent"))
	c.Close()
}

// hostile is text that forges log lines, moves the cursor and is far too long.
//
//nolint:gochecknoglobals // a constant in all but name
var hostile = "a\r\nERROR forged\x1b[2J\u202e\u2028\x00" + strings.Repeat("long ", 12<<10)

func TestErrorsAreSafeToPrint(t *testing.T) {
	t.Parallel()
	message, err := json.Marshal(hostile)
	require.NoError(t, err)
	text := string(message)
	for _, tc := range []struct{ name, body string }{
		{name: "message", body: `{"error":"x","message":` + text + `}`},
		{name: "code", body: `{"error":` + text + `}`},
		{
			name: "params",
			body: `{"error":"invalid-parameter","params":{"a":` + text + `,` + "\n" + `"b":` + text + `}}`,
		},
		{
			name: "all",
			body: `{"error":` + text + `,"message":` + text + `,"params":` + text + `}`,
		},
		{name: "a page", body: "<html>\n" + hostile},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			c, api := newTestClient(t, WithRetries(0))
			for status, method := range map[int]string{400: http.MethodGet, 500: http.MethodPost} {
				api.RegisterResponder(method, "=~.*", httpmock.NewStringResponder(status, tc.body))
			}
			_, err := c.Users.Get(t.Context(), "1")
			requirePrintable(t, err)
			apiErr, ok := errors.AsType[*Error](err)
			require.True(t, ok)
			assert.LessOrEqual(t, len(apiErr.Message), maxMessage+len("…"))
			assert.NotContains(t, apiErr.Message, "\n")
			_, err = c.Sessions.Create(t.Context(), janesLogin())
			requirePrintable(t, err)
			requirePrintable(t,
				c.Call(t.Context(), http.MethodPost, "/"+strings.Repeat("x", 9000), nil, nil))
		})
	}
	for _, tc := range []struct {
		status int
		body   string
	}{
		{
			status: 500,
			body:   `{"error":"x","message":"cannot write https://b/k?X-Amz-Signature=12345678"}`,
		},
		{status: 400, body: `{"error":"x","params":{"url":"https:\/\/b\/k?X-Amz-Signature=12345678"}}`},
		{status: 500, body: `{"Token":"12345678"}`},
		{status: 200, body: `{"message":"cannot write https://b/k?X-Amz-Signature=12345678"}`},
	} {
		c, api := newTestClient(t, WithRetries(0))
		api.RegisterResponder(http.MethodGet, "=~.*", httpmock.NewStringResponder(tc.status, tc.body))
		_, err := c.Users.Get(t.Context(), "1")
		require.ErrorContains(t, err, redacted)
		assert.NotContains(t, err.Error(), "12345678")
		if apiErr, ok := errors.AsType[*Error](err); ok && apiErr.Code != "" {
			assert.NotContains(t, string(apiErr.Body)+string(apiErr.Params), "12345678")
		}
	}
	for name, err := range map[string]error{
		"decode": &DecodeError{
			Operation: "Users.Get", Path: hostile, Snapshot: hostile,
			Err: errors.New(hostile),
		},
		"call": &CallError{
			Operation: "Users.Get", Err: errors.New(hostile),
			last: &Error{Message: hostile}, maybeApplied: true,
		},
		"state": &StateError{
			Resource: "poll", ID: ID(hostile), State: hostile,
			Code: ErrorCode(hostile), Detail: hostile, Failed: []ID{ID(hostile)},
		},
		"acknowledge": &AcknowledgeError{
			Remaining: []ID{ID(hostile), ID(hostile)},
			Err:       &Error{Message: hostile},
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			requirePrintable(t, err)
		})
	}
}

func requirePrintable(t *testing.T, err error) {
	t.Helper()
	require.Error(t, err)
	assert.LessOrEqual(t, len(err.Error()), 1000)
	for _, r := range err.Error() {
		require.True(t, unicode.IsPrint(r), "%U in %q", r, err.Error())
	}
}

func TestWhatAFailedSessionMeans(t *testing.T) {
	t.Parallel()
	failed := StateError{Resource: "session", ID: "s", State: "failed", Code: CodeTwoFactorRequired}
	require.ErrorIs(t, &failed, ErrCodeRequired)
	require.NotErrorIs(t, &failed, ErrCodeRejected)
	failed.CodeSent = true
	require.ErrorIs(t, &failed, ErrCodeRequired)
	require.ErrorIs(t, &failed, ErrCodeRejected)
	require.EqualError(t, &failed,
		"ricloud: session s is failed: code-required; the code that was sent was not accepted")

	locked := StateError{
		Resource: "session", ID: "s", State: "failed", Code: "new-code",
		SourceState: SourceLocked, CodeSent: true,
	}
	require.ErrorIs(t, &locked, ErrSourceLocked)
	require.NotErrorIs(t, &locked, ErrCodeRejected)
}

// What is no HTTP method is refused before anything could have been sent.
func TestCallRefusesWhatIsNoMethod(t *testing.T) {
	t.Parallel()
	c, api := newTestClient(t)
	for _, method := range []string{"", "G ET", "GET\n", "(GET)"} {
		err := c.Call(t.Context(), method, "/x", nil, nil)
		param, ok := errors.AsType[*ParamError](err)
		require.True(t, ok, "%q: %v", method, err)
		assert.Equal(t, "method", param.Field)
	}
	assert.Empty(t, api.all())
}

// A call that runs out of time says what failed before, unless that is what ended it.
func TestACallThatRunsOutOfTimeSaysWhatFailed(t *testing.T) {
	t.Parallel()
	refused, late := errors.New("dial tcp: connection refused"), context.DeadlineExceeded
	cut := fmt.Errorf("read: %w", late)
	const before = "; the attempt before failed: dial tcp: connection refused"
	for name, one := range map[string]struct {
		ended    error
		attempts []error
		want     string
	}{
		"in a pause":              {late, []error{refused}, before},
		"in its last attempt":     {late, []error{errors.New("x"), refused, cut}, before},
		"at once":                 {late, []error{late}, ""},
		"with what failed":        {refused, []error{late, refused}, ""},
		"after answers only":      {late, []error{nil, nil}, ""},
		"before it was tried":     {late, nil, ""},
		"with a cause of its own": {errors.New("shutting down"), []error{refused}, before},
	} {
		e := &CallError{Operation: "Users.Get", Err: one.ended}
		for _, err := range one.attempts {
			e.Attempts = append(e.Attempts, Attempt{Err: err})
		}
		text := e.Error()
		if one.want == "" {
			assert.NotContains(t, text, "attempt before", name)
		} else {
			assert.True(t, strings.HasSuffix(text, one.want), "%s: %s", name, text)
		}
	}
}
