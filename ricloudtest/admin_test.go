package ricloudtest_test

import (
	"context"
	"encoding/json"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	ricloud "github.com/reincubate/ricloud-go"
	"github.com/reincubate/ricloud-go/ricloudtest"
)

// admin calls the admin API in memory. It returns the status and the decoded answer.
func admin(
	ctx context.Context, t *testing.T, srv *ricloudtest.Server, method, path, body string,
) (int, any) {
	t.Helper()
	r := request(ctx, t, method, "/_sandbox/api/"+path, "", body)
	res, err := srv.RoundTrip(r)
	require.NoError(t, err)
	defer res.Body.Close()
	raw, err := readAll(res)
	require.NoError(t, err)
	var out any
	require.NoError(t, json.Unmarshal(raw, &out), "%s", raw)
	return res.StatusCode, out
}

// do is like admin, and fails the test if the request fails.
func do(
	ctx context.Context, t *testing.T, srv *ricloudtest.Server, method, path, body string,
) map[string]any {
	t.Helper()
	status, out := admin(ctx, t, srv, method, path, body)
	require.Equal(t, http.StatusOK, status, "%s %s: %v", method, path, out)
	fields, _ := out.(map[string]any)
	return fields
}

// The journey that docs/sandbox.md promises to testers in any language: a code is rejected, a task
// of a poll fails, and an event arrives twice.
func TestAdminJourney(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		ctx := t.Context()
		srv, in, _ := subscribe(ctx, t)
		do(ctx, t, srv, "POST", "accounts", `{"identifier":"ada@example.com","password":"hunter2",`+
			`"code":"123456","wrong_codes":1,"sample":"Ada"}`)
		c := srv.Client()
		user := newUser(ctx, t, c)
		params := ricloud.SessionCreateParams{
			Source: ricloud.SourceParams{
				User: user.ID, Type: ricloud.SourceICloudAccount, Identifier: "ada@example.com",
			},
			Payload: ricloud.SessionPayload{
				Password: ricloud.NewSecret("hunter2"),
				Code:     ricloud.NewSecret("123456"),
			},
		}
		create := func() (*ricloud.Session, error) {
			session, err := c.Sessions.Create(ctx, params)
			require.NoError(t, err)
			return c.Sessions.Wait(ctx, session.ID)
		}
		_, err := create()
		require.ErrorIs(t, err, ricloud.ErrCodeRequired, "the first code is refused")
		session, err := create()
		require.NoError(t, err)

		do(ctx, t, srv, "POST", "accounts/data", `{"identifier":"ada@example.com",`+
			`"data":{"notes.notes":[{"id":1}]},"fail":{"whatsapp.messages":"service-error"}}`)
		for range 2 { // the second request replaces the child
			do(ctx, t, srv, "POST", "accounts/data", `{"identifier":"ada@example.com",`+
				`"children":[{"identifier":"Ada's phone"}]}`)
		}
		poll, err := c.Polls.Create(ctx, ricloud.PollCreateParams{
			Session: session.ID,
			Payload: ricloud.PollPayload{DataTypes: []string{"notes.notes", "whatsapp.messages"}},
		})
		require.NoError(t, err)
		pass(time.Minute)
		poll, err = c.Polls.Get(ctx, poll.ID)
		require.NoError(t, err)
		assert.Equal(t, ricloud.PollCompleted, poll.State)
		assert.Len(t, poll.TasksFailed, 1)
		require.Len(t, poll.Results.Data, 1)
		assert.Equal(t, "notes.notes", poll.Results.Data[0].Identifier)

		in.take()
		fired := do(ctx, t, srv, "POST", "events",
			`{"type":"poll","action":"completed","data":{"id":"p"}}`)
		synctest.Wait()
		//nolint:forcetypeassert // the test may fail here
		do(ctx, t, srv, "POST", "events/"+fired["id"].(string)+"/resend", "")
		synctest.Wait()
		got := in.take()
		require.Len(t, got, 2)
		assert.Equal(t, got[0].id, got[1].id)

		status, _ := admin(ctx, t, srv, "POST", "events/"+got[0].id+"/drop", "")
		assert.Equal(t, http.StatusBadRequest, status, "it is delivered already")
		in.answer(http.StatusBadGateway)
		fired = do(ctx, t, srv, "POST", "events", `{"type":"poll","action":"created","data":{}}`)
		synctest.Wait()
		//nolint:forcetypeassert // the test may fail here
		do(ctx, t, srv, "POST", "events/"+fired["id"].(string)+"/drop", "")
		do(ctx, t, srv, "POST", "clock/advance", `{"by":"5h"}`)
		synctest.Wait()
		assert.Len(t, in.take(), 1, "no further attempt")
	})
}

// These endpoints are not part of the journey above.
func TestAdminEndpoints(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	srv := newServer(t, ricloudtest.WithWebhooks("http://127.0.0.1:9/"))
	poll, err := retrieve(ctx, t, srv)
	require.NoError(t, err)
	result, session := string(poll.Results.Data[0].ID), string(poll.Session)
	_, index := admin(ctx, t, srv, "GET", "", "")
	assert.Greater(t, len(index.([]any)), 25) //nolint:forcetypeassert // the test may fail here
	assert.Equal(t, "current", do(ctx, t, srv, "GET", "status", "")["generation"])
	_, scenarios := admin(ctx, t, srv, "GET", "scenarios", "")
	assert.Len(t, scenarios, 7)
	_, accounts := admin(ctx, t, srv, "GET", "accounts", "")
	assert.Len(t, accounts, 5)

	do(ctx, t, srv, "PUT", "results/"+result+"/object", "other")
	do(ctx, t, srv, "DELETE", "results/"+result+"/object", "")
	do(ctx, t, srv, "POST", "results/"+result+"/expire", "")
	do(ctx, t, srv, "POST", "accounts/lock", `{"identifier":"john.appleseed@example.com"}`)
	source, err := srv.Client().Sources.Get(ctx, poll.Source)
	require.NoError(t, err)
	assert.Equal(t, ricloud.SourceLocked, source.State)
	do(ctx, t, srv, "POST", "accounts/unlock", `{"identifier":"john.appleseed@example.com"}`)
	do(ctx, t, srv, "POST", "sessions/"+session+"/expire", `{"cause":"admin"}`)
	expired, err := srv.Client().Sessions.Get(ctx, poll.Session)
	require.NoError(t, err)
	assert.Equal(t, ricloud.ErrorCode("admin"), expired.Error)

	do(ctx, t, srv, "PUT", "faults", `[{"operation":"Keys.Current","status":503,"count":-1}]`)
	do(ctx, t, srv, "POST", "faults",
		`{"request":"GET /organisation","status":500,"body":"{}","delay":"1ms"}`)
	_, faults := admin(ctx, t, srv, "GET", "faults", "")
	assert.Len(t, faults, 2)
	status, _ := send(ctx, t, srv, "GET", "/organisation", srv.Token(), "")
	assert.Equal(t, 500, status)
	do(ctx, t, srv, "DELETE", "faults", "")
	do(ctx, t, srv, "PUT", "webhook-faults", `{"reorder":1,"hold_back":"1h"}`)

	//nolint:forcetypeassert // the test may fail here
	token := do(ctx, t, srv, "POST", "keys/trial", `{"lifetime":"1h"}`)["token"].(string)
	status, key := send(ctx, t, srv, "GET", "/key", token, "")
	assert.Equal(t, 200, status)
	assert.Equal(t, "trial", key["type"])
	do(ctx, t, srv, "POST", "clock/advance", `{"by":"2h"}`)
	status, _ = send(ctx, t, srv, "GET", "/key", token, "")
	assert.Equal(t, 401, status, "the trial is over")
	//nolint:forcetypeassert // the test may fail here
	ahead, err := time.ParseDuration(do(ctx, t, srv, "GET", "clock", "")["ahead"].(string))
	require.NoError(t, err)
	assert.InDelta(t, 2*time.Hour, ahead, float64(time.Minute))

	for _, kind := range []string{
		"event", "key", "permissions", "poll", "result", "session", "source", "storage_config",
		"subscription", "task", "user", "webhook_config",
	} {
		assert.Contains(t, do(ctx, t, srv, "GET", "resources/"+kind+"?limit=1", ""), "total_count", kind)
	}
	assert.Equal(t, "organisation", do(ctx, t, srv, "GET", "resources/organisation", "")["resource"])
	do(ctx, t, srv, "POST", "resources/organisation/1/state", `{"state":"blocked"}`)

	_, dump := admin(ctx, t, srv, "GET", "state", "")
	raw, err := json.Marshal(dump)
	require.NoError(t, err)
	do(ctx, t, srv, "POST", "reset", `{"seed":2}`)
	assert.InDelta(t, 2, do(ctx, t, srv, "GET", "status", "")["seed"], 0)
	assert.InDelta(t, 0, do(ctx, t, srv, "GET", "resources/poll", "")["total_count"], 0)
	do(ctx, t, srv, "PUT", "state", string(raw))
	assert.InDelta(t, 1, do(ctx, t, srv, "GET", "resources/poll", "")["total_count"], 0)
	do(ctx, t, srv, "POST", "scenarios", `{"name":"locked"}`)
	_, accounts = admin(ctx, t, srv, "GET", "accounts", "")
	assert.Len(t, accounts, 1)
	do(ctx, t, srv, "POST", "scenarios", `{"generation":"2019","accounts":[{"identifier":"x"}]}`)
	assert.Equal(t, "2019", do(ctx, t, srv, "GET", "status", "")["generation"])
	do(ctx, t, srv, "DELETE", "calls", "")
	assert.InDelta(t, 0, do(ctx, t, srv, "GET", "calls", "")["total_count"], 0)
}

// The journal shows the query of a request.
func TestJournalShowsQueries(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	srv := newServer(t)
	_, err := srv.Client().Polls.List(ctx, ricloud.PollListParams{
		ListParams: ricloud.ListParams{Limit: 3}, State: ricloud.PollCompleted,
	})
	require.NoError(t, err)
	calls := srv.Calls()
	assert.Equal(t, url.Values{"limit": {"3"}, "state": {"completed"}}, calls[len(calls)-1].Query)
}

// The journal contains the bodies of requests and answers, with secrets masked.
func TestJournalMasksSecrets(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	srv := newServer(t)
	send(ctx, t, srv, "POST", "/configs/storage", srv.Token(), `{"url":"s3://b/p","credentials":`+
		`{"access_key_id":"canary-1","secret_access_key":"canary-2"}}`)
	send(ctx, t, srv, "POST", "/sessions", srv.Token(),
		`{"source":{},"payload":{"password":"canary-3","code":"canary-4"}}`)
	_, hook := send(ctx, t, srv, "POST", "/configs/webhook", srv.Token(),
		`{"url":"http://127.0.0.1:9"}`)
	send(ctx, t, srv, "GET", "/key", srv.Token(), "")
	send(ctx, t, srv, "POST", "/users", srv.Token(), "canary-5")
	poll, err := retrieve(ctx, t, srv)
	require.NoError(t, err)
	_, signature, _ := strings.Cut(poll.Results.Data[0].SignedURL.URL.Reveal(), "signature=")
	_, journal := admin(ctx, t, srv, "GET", "calls?limit=1000", "")
	raw, err := json.Marshal(journal)
	require.NoError(t, err)
	for _, canary := range []string{
		"canary-1", "canary-2", "canary-3", "canary-4", "canary-5", srv.Token(),
		hook["secret"].(string), signature, //nolint:forcetypeassert // the test may fail here
	} {
		assert.NotContains(t, string(raw), canary)
	}
	assert.Contains(t, string(raw), `"url":"s3://b/p"`)
	assert.Contains(t, string(raw), "bytes that are not JSON")

	page := do(ctx, t, srv, "GET", "calls?after=2&limit=1&operation=Keys.Current", "")
	calls := page["calls"].([]any) //nolint:forcetypeassert // the test may fail here
	require.Len(t, calls, 1)
	//nolint:forcetypeassert // the test may fail here
	assert.Equal(t, "/key", calls[0].(map[string]any)["path"])
}

func TestAdminRefuses(t *testing.T) {
	t.Parallel()
	srv := newServer(t)
	for request, want := range map[string]string{
		`POST accounts {"identifier":"x","service":"skype"}`:         "skype",
		`POST accounts {"ident":"x"}`:                                "ident",
		`POST accounts/lock {"identifier":"nobody"}`:                 "nobody",
		`POST accounts/data {"identifier":"nobody"}`:                 "nobody",
		`POST accounts {"identifier":"x","data":{"a":7}}`:            "array of records",
		`POST accounts {"identifier":"x","files":{"a":{"size":-1}}}`: "size",
		`PUT faults [{"operation":"Pols.Create","status":1}]`:        "Pols.Create",
		`PUT faults [{"operation":"Polls.Create"}]`:                  "what happens",
		`PUT faults [{"status":500,"rate":1.5}]`:                     "1.5",
		`PUT faults [{"status":99}]`:                                 "99",
		`PUT faults [{"status":500,"nth":-1}]`:                       "nth",
		`PUT faults [{"status":500,"request":"/polls"}]`:             "method and a path",
		`PUT faults [{"delay":"soon"}]`:                              "soon",
		`PUT faults [{"delay":"-1s"}]`:                               "negative",
		`PUT webhook-faults {"drop":2}`:                              "2",
		`PUT webhook-faults {"hold_back":"-1s"}`:                     "negative",
		`POST clock/advance {"by":"-1h"}`:                            "duration",
		`POST clock/advance {"by":"9000h"}`:                          "year",
		`POST sessions/x/expire {"cause":"nonsense"}`:                "nonsense",
		`POST sessions/x/expire {}`:                                  "no such session",
		`POST results/x/expire {}`:                                   "no such result",
		`DELETE results/x/object {}`:                                 "no such result",
		`POST events {"type":"poll"}`:                                "action",
		`POST events {"type":"poll","action":"x"}`:                   "no valid webhook",
		`POST events/x/resend {}`:                                    "no such event",
		`POST events/x/drop {}`:                                      "no such event",
		`POST keys/trial {"lifetime":"0s"}`:                          "positive",
		`POST scenarios {"name":"nothing"}`:                          "nothing",
		`POST scenarios {"generation":"2017"}`:                       "2017",
		`POST scenarios {"delays":{"pol":"1s"}}`:                     "pol",
		`POST scenarios {"delays":{"poll":["1s"]}}`:                  "two",
		`POST scenarios []`:                                          "scenario",
		`GET calls?operation=Pols {}`:                                "Pols",
		`GET calls?limit=-1 {}`:                                      "negative",
		`GET resources/nothing {}`:                                   "nothing",
		`POST resources/poll/x/state {"state":"failed"}`:             "no poll",
		`POST resources/poll/x/state {"state":"odd"}`:                "odd",
		`POST resources/thing/x/state {"state":"odd"}`:               "thing",
		`PUT state {"version":7}`:                                    "version 7",

		// Mistakes in the JSON itself name the field, in words.
		`POST accounts []`:                         "the JSON: want an object, got array",
		`GET status?limit=1 {}`:                    `no parameter "limit"`,
		`POST reset {"seed":-1}`:                   "seed: want a whole number that is not negative",
		`POST faults {"delay":5}`:                  `delay: want a duration such as "1.5s", got number`,
		`POST faults {"delay":"x"}`:                `delay: want a duration such as "1.5s", got "x"`,
		`POST clock/advance {"by":5}`:              "by: want a duration",
		`POST accounts {"identifier":5}`:           "identifier: want a string, got number",
		`POST scenarios {"speed":"fast"}`:          "speed: want a number, got string",
		`PUT webhook-faults {"nonsense":1}`:        `there is no field "nonsense"`,
		`PUT webhook-faults {"hold_back":"x"}`:     `hold_back: want a duration`,
		`GET calls?operations=Polls.Create {}`:     `no parameter "operations"`,
		`GET resources/session?state=active {}`:    `no parameter "state"`,
		"POST accounts {\"identifier\":\"x\xe9\"}": "not UTF-8",
		`POST scenarios {"delays":{"poll":"-1s"}}`: "the shorter one first",

		`POST scenarios {"delays":{"poll":["5s","1s"]}}`:             "the shorter one first",
		`POST accounts {"identifier":"x","data":{"":[]}}`:            "is empty",
		`POST accounts {"identifier":"x","suspend":[""]}`:            "is empty",
		`POST accounts {"identifier":"x","files":{"":{}}}`:           "is empty",
		`POST accounts {"identifier":"x","fail":{"a":""}}`:           "fail a: an error code is missing",
		`POST accounts {"identifier":"x","wrong_codes":-1}`:          "wrong codes, -1, is negative",
		`POST accounts {"identifier":"x","wrong_codes":1e99}`:        "wrong_codes: want a whole number",
		`POST accounts {"identifier":"x","children":[{"locked":1}]}`: "locked: want true or false",

		`POST accounts {"identifier":"x","files":{"f":{"size":1e12}}}`: "size: want a whole number",
		`POST accounts {"identifier":"x","fail":{"":"service-error"}}`: "is empty",

		`POST accounts {"identifier":"x","files":{"f":{"base64":"!"}}}`: "base64: want base64, got other",

		`POST accounts {"identifier":"x","files":{"f":{"size":5000000000}}}`: "4 GiB at most",
	} {
		parts := strings.SplitN(request, " ", 3)
		status, out := admin(t.Context(), t, srv, parts[0], parts[1], parts[2])
		assert.Equal(t, http.StatusBadRequest, status, request)
		//nolint:forcetypeassert // the test may fail here
		assert.Contains(t, out.(map[string]any)["error"], want, request)
	}
	status, _ := admin(t.Context(), t, srv, "GET", "nothing", "")
	assert.Equal(t, http.StatusNotFound, status)
}

// Over a socket, only this machine and the sandbox's own pages can use the admin API.
func TestAdminIsForThisMachine(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		opts                       []ricloudtest.Option
		remote, host, origin, path string
		status                     int
	}{
		"loopback": {
			remote: "127.0.0.1:5", host: "127.0.0.1:8321", path: "api/status",
			status: 200,
		},
		"IPv6": {remote: "[::1]:5", host: "[::1]:8321", path: "api/status", status: 200},
		"localhost": {
			remote: "127.0.0.1:5", host: "localhost:8321", path: "api/status",
			status: 200,
		},
		"the page": {remote: "127.0.0.1:5", host: "localhost:8321", path: "", status: 200},
		"the schema": {
			remote: "127.0.0.1:5", host: "localhost", path: "scenario.schema.json",
			status: 200,
		},
		"another machine": {
			remote: "192.0.2.7:5", host: "127.0.0.1:8321", path: "api/status",
			status: 403,
		},
		"a rebound name": {remote: "127.0.0.1:5", host: "evil.example", path: "api/status", status: 403},
		"another site": {
			remote: "127.0.0.1:5", host: "localhost", origin: "https://evil.example",
			path: "api/reset", status: 403,
		},
		"health of all": {remote: "192.0.2.7:5", host: "sandbox.example", path: "health", status: 200},
		"opened": {
			opts:   []ricloudtest.Option{ricloudtest.WithRemoteAdmin()},
			remote: "192.0.2.7:5", host: "sandbox.example", path: "api/status", status: 200,
		},
		"its public name": {
			opts:   []ricloudtest.Option{ricloudtest.WithPublicURLs("https://sandbox.example", "")},
			remote: "127.0.0.1:5", host: "sandbox.example", path: "api/status", status: 200,
		},
	} {
		srv := newServer(t, test.opts...)
		method := http.MethodGet
		if test.origin != "" {
			method = http.MethodPost
		}
		r, err := http.NewRequestWithContext(t.Context(), method,
			"http://"+test.host+"/_sandbox/"+test.path, http.NoBody)
		require.NoError(t, err)
		r.RemoteAddr = test.remote
		if test.origin != "" {
			r.Header.Set("Origin", test.origin)
			r.Header.Set("Sec-Fetch-Site", "cross-site")
		}
		assert.Equal(t, test.status, serve(srv, r).status, name)
	}
}

// answered is a response of ServeHTTP.
type answered struct {
	header http.Header
	status int
	body   strings.Builder
}

func (a *answered) Header() http.Header { return a.header }

func (a *answered) WriteHeader(status int) {
	if a.status == 0 {
		a.status = status
	}
}

func (a *answered) Write(p []byte) (int, error) {
	a.WriteHeader(http.StatusOK)
	return a.body.Write(p)
}

func serve(srv *ricloudtest.Server, r *http.Request) *answered {
	a := &answered{header: http.Header{}}
	srv.ServeHTTP(a, r)
	return a
}

// Scripts on allowed pages may call the API, but not the admin API.
func TestCORS(t *testing.T) {
	t.Parallel()
	srv := newServer(t, ricloudtest.WithCORS("https://app.example"))
	ask := func(method, path, origin string) *answered {
		r, err := http.NewRequestWithContext(t.Context(), method, "http://127.0.0.1"+path, http.NoBody)
		require.NoError(t, err)
		r.RemoteAddr = "127.0.0.1:5"
		r.Header.Set("Origin", origin)
		r.Header.Set("Access-Control-Request-Method", "POST")
		return serve(srv, r)
	}
	preflight := ask(http.MethodOptions, "/polls", "https://app.example")
	assert.Equal(t, http.StatusNoContent, preflight.status)
	assert.Contains(t, preflight.header.Get("Access-Control-Allow-Headers"), "Authorization")
	assert.Equal(t, "https://app.example",
		ask(http.MethodGet, "/key", "https://app.example").header.Get("Access-Control-Allow-Origin"))
	assert.Empty(t,
		ask(http.MethodGet, "/key", "https://evil.example").header.Get("Access-Control-Allow-Origin"))
	assert.Empty(t,
		ask(http.MethodGet, "/_sandbox/api/status", "https://app.example").header.Get(
			"Access-Control-Allow-Origin",
		))
}

// A request with an invalid value is answered with 400 and changes nothing.
func TestAdminRefusesWhatCannotWork(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		ctx, srv := t.Context(), ricloudtest.NewServer()
		defer srv.Close()
		before := do(ctx, t, srv, "GET", "state", "")
		for _, test := range []struct{ method, path, body string }{
			{method: "PUT", path: "state", body: `null`},
			{method: "PUT", path: "state", body: `{}`},
			{method: "PUT", path: "state", body: `{"version":1,"organisation":{}}`},
			{method: "POST", path: "reset", body: `{"seed":2} more`},
			{method: "POST", path: "reset", body: `null`},
			{method: "POST", path: "scenarios", body: `null`},
			{method: "POST", path: "scenarios", body: `{}`},
			{method: "POST", path: "scenarios", body: `{"name":"locked"} more`},
			{method: "POST", path: "faults", body: `{"status":503} {}`},
			{method: "POST", path: "faults", body: `{"header":{"Bad Name":["x"]}}`},
			{method: "POST", path: "faults", body: `{"header":{"":["x"]}}`},
			{method: "POST", path: "faults", body: `{"header":{"X-Test":["a\r\nb"]}}`},
			{method: "POST", path: "faults", body: `{"status":204,"body":"x"}`},
			{method: "POST", path: "faults", body: `{"status":304,"body":"x"}`},
			{method: "PUT", path: "faults", body: `[{"status":503}] x`},
			{method: "PUT", path: "faults", body: `[null]`},
			{method: "PUT", path: "webhook-faults", body: `{"drop":1}]`},
			{
				method: "POST",
				path:   "accounts",
				body: `{"identifier":"a","children":[{"identifier":"b"},` +
					`{"service":"icloud.backup","identifier":"b"}]}`,
			},
			{
				method: "POST",
				path:   "accounts/lock",
				body:   `{"identifier":"john.appleseed@example.com"} x`,
			},
			{method: "POST", path: "clock/advance", body: `{"by":"1h"} x`},
		} {
			status, out := admin(ctx, t, srv, test.method, test.path, test.body)
			assert.Equal(t, http.StatusBadRequest, status, "%v: %v", test, out)
		}
		after := do(ctx, t, srv, "GET", "state", "")
		assert.Equal(t, before, after)
	})
}

// A page of another site can neither change nor read anything.
func TestAdminRefusesOtherSites(t *testing.T) {
	t.Parallel()
	srv := newServer(t)
	require.NoError(t, srv.Start())
	transport := &http.Transport{}
	defer transport.CloseIdleConnections()
	for site, want := range map[string]int{
		"": http.StatusOK, "none": http.StatusOK, "same-origin": http.StatusOK,
		"same-site": http.StatusForbidden, "cross-site": http.StatusForbidden,
	} {
		r, err := http.NewRequestWithContext(t.Context(), http.MethodGet,
			srv.URL()+"/_sandbox/api/state", http.NoBody)
		require.NoError(t, err)
		if site != "" {
			r.Header.Set("Sec-Fetch-Site", site)
		}
		res, err := transport.RoundTrip(r)
		require.NoError(t, err)
		require.NoError(t, res.Body.Close())
		assert.Equal(t, want, res.StatusCode, site)
	}
}
