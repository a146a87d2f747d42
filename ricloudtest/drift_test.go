package ricloudtest_test

import (
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/iotest"
	"testing/synctest"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	ricloud "github.com/reincubate/ricloud-go"
	"github.com/reincubate/ricloud-go/ricloudtest"
)

// In every generation, the checker finds no difference between the sandbox's answers and the
// contract. The recorder writes these answers without secrets.
func TestRecordAndCheck(t *testing.T) {
	t.Parallel()
	eachGeneration(t, func(t *testing.T, generation ricloudtest.Option) {
		dir := filepath.Join(t.TempDir(), "fixtures")
		synctest.Test(t, func(t *testing.T) {
			srv := newServer(t, generation,
				ricloudtest.WithReceiver(receiver, http.HandlerFunc(accept)))
			recorder := ricloudtest.Record(dir, srv)
			c := srv.Client(ricloud.WithTransport(recorder))
			w := newWorld(t.Context(), t, c)
			w.rest(t.Context())
			login(t.Context(), t, c, "john.appleseed@example.com", "hunter2")
			require.NoError(t, recorder.Err())
		})
		found, err := ricloudtest.CheckDir(dir)
		require.NoError(t, err)
		assert.Empty(t, found)
		files, err := filepath.Glob(filepath.Join(dir, "*.json"))
		require.NoError(t, err)
		assert.Greater(t, len(files), 50)
		var all strings.Builder
		for _, file := range files {
			raw, err := os.ReadFile(file)
			require.NoError(t, err)
			all.Write(raw)
		}
		for _, secret := range []string{
			"hunter2", "PAIR-1234", "sandbox-token", "whsec_",
			"john.appleseed", "signature=", `"key_`,
		} {
			assert.NotContains(t, all.String(), secret)
		}
		assert.Contains(t, all.String(), "[redacted]")
		assert.Contains(t, all.String(), "someone@example.com")
	})
}

func TestCheckReports(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		fixture ricloudtest.Fixture
		want    string
	}{
		"a field": {
			fixture: answer("/users/1", `{"resource":"user","id":"1","colour":"red"}`),
			want:    "GET /users/{id} colour: a field of user",
		},
		"a state": {
			fixture: answer("/polls/1", `{"resource":"poll","state":"paused"}`),
			want:    "the state paused of poll",
		},
		"a resource": {
			fixture: answer("/users/1", `{"resource":"robot"}`),
			want:    "the resource robot",
		},
		"a nested one": {
			fixture: answer("/sessions/1",
				`{"resource":"session","source":{"resource":"source","wheels":4}}`),
			want: "source.wheels",
		},
		"in a list": {
			fixture: answer("/users", `{"data":[{"resource":"user","x":1}],"has_more":false,"y":2}`),
			want:    "y: a field of a list",
		},
		"in its data": {
			fixture: answer("/users", `{"data":[{"resource":"user","x":1}],"has_more":false}`),
			want:    "data[].x",
		},
		"a code": {fixture: ricloudtest.Fixture{
			Method: "GET", Path: "/key", Status: 403,
			Response: []byte(`{"error":"go-away","extra":1}`),
		}, want: "the error code go-away"},
		"its fields": {fixture: ricloudtest.Fixture{
			Method: "GET", Path: "/key", Status: 403,
			Response: []byte(`{"error":"unconfigured","extra":1}`),
		}, want: "extra: a field of an error"},
		"a session's": {
			fixture: answer("/sessions/1",
				`{"resource":"session","state":"failed","error":"password-wrong"}`),
			want: "password-wrong",
		},
		"an event": {
			fixture: answer("/events/1", `{"resource":"event","type":"poll","action":"paused"}`),
			want:    "the event poll.paused",
		},
		"a type": {
			fixture: answer("/results/1", `{"resource":"result","size":"big"}`),
			want:    "size: is a string, want a number",
		},
		"an endpoint": {fixture: answer("/robots", `{}`), want: "no such endpoint"},
		"a header": {fixture: ricloudtest.Fixture{
			Method: "GET", Path: "/key", Status: 200,
			Header: http.Header{"Retry-After": {"1"}}, Response: []byte(`{}`),
		}, want: "Retry-After"},
		"not JSON": {
			fixture: ricloudtest.Fixture{Method: "GET", Path: "/key", Status: 200},
			want:    "not JSON",
		},
		"not an error": {fixture: ricloudtest.Fixture{
			Method: "GET", Path: "/key", Status: 500,
			Response: []byte(`[]`),
		}, want: "not an object"},
	} {
		var all []string
		for _, drift := range ricloudtest.Check(test.fixture) {
			all = append(all, drift.String())
		}
		assert.Contains(t, strings.Join(all, "\n"), test.want, name)
	}
	_, err := ricloudtest.CheckDir(t.TempDir())
	require.ErrorContains(t, err, "no fixtures")
	dir := t.TempDir()
	require.NoError(t, os.WriteFile(filepath.Join(dir, "x.json"), []byte("no"), 0o600))
	_, err = ricloudtest.CheckDir(dir)
	require.ErrorContains(t, err, "x.json")
}

func answer(path, body string) ricloudtest.Fixture {
	return ricloudtest.Fixture{Method: "GET", Path: path, Status: 200, Response: []byte(body)}
}

// Without a transport of the caller's, the Recorder has its own.
func TestRecordWithoutATransport(t *testing.T) {
	t.Parallel()
	srv := newServer(t)
	require.NoError(t, srv.Start())
	recorder := ricloudtest.Record(t.TempDir(), nil)
	_, err := srv.Client(ricloud.WithBaseURL(srv.URL()),
		ricloud.WithTransport(recorder)).Keys.Current(t.Context())
	require.NoError(t, err)
	require.NoError(t, recorder.Err())
}

// A failure to record does not change the traffic.
func TestRecorderStepsAside(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "file")
	require.NoError(t, os.WriteFile(file, nil, 0o600))
	srv := newServer(t)
	recorder := ricloudtest.Record(filepath.Join(file, "folder"), srv)
	_, err := srv.Client(ricloud.WithTransport(recorder)).Keys.Current(t.Context())
	require.NoError(t, err)
	require.Error(t, recorder.Err())
	broken := ricloudtest.Record(t.TempDir(), roundTrip(func(*http.Request) (*http.Response, error) {
		return nil, errors.New("down")
	}))
	_, err = srv.Client(ricloud.WithTransport(broken), ricloud.WithRetries(0)).Keys.Current(
		t.Context(),
	)
	require.ErrorContains(t, err, "down")

	cut := ricloudtest.Record(t.TempDir(), roundTrip(func(*http.Request) (*http.Response, error) {
		return &http.Response{
			StatusCode: http.StatusOK, Header: http.Header{"Content-Type": {"application/json"}},
			Body: io.NopCloser(iotest.ErrReader(errors.New("cut off"))),
		}, nil
	}))
	res, err := cut.RoundTrip(httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/key",
		http.NoBody))
	if err == nil {
		require.NoError(t, res.Body.Close())
	}
	require.ErrorContains(t, err, "cut off", "half an answer is not passed on as a whole one")
}

// A fixture contains nothing that came from an account or a key, in any part of the request or the
// answer.
func TestRecordKeepsNoSecret(t *testing.T) {
	t.Parallel()
	const secret = "hunter2"
	answer := `{"data":"{\"token\":\"` + secret + `\",\"n\":1}",` +
		`"old_token":"` + secret + `","tokens":["` + secret + `"],"userPassword":"` + secret + `",` +
		`"api_key":{"a":"` + secret + `"},"code":"` + secret + `",` +
		`"links":["https://` + secret + `@example.com/a?sig=` + secret + `#` + secret + `",` +
		`"see https://example.com/b?token=` + secret + ` there"],` +
		`"message":"Authorization: Bearer ` + secret + `, password=` + secret + `",` +
		`"folded":["PAſSWORD=` + secret + `","to\u212aen: ` + secret + `"],` +
		`"nested":"[{\"data\":\"{\\\"secret\\\":\\\"` + secret + `\\\"}\"}]",` +
		`"state":"active"}`
	next := roundTrip(func(*http.Request) (*http.Response, error) {
		return &http.Response{
			StatusCode: http.StatusOK, Body: io.NopCloser(strings.NewReader(answer)),
			Header: http.Header{
				"Content-Type": {"application/json"}, "Ricloud-Signature": {secret},
			},
		}, nil
	})
	dir := t.TempDir()
	recorder := ricloudtest.Record(dir, next)
	for _, path := range []string{
		"/users/" + secret + "?token=" + secret + "&limit=" + secret,
		"/" + secret + "/jane@example.com", "/users/jane%40example.com?code=" + secret,
	} {
		r := request(t.Context(), t, http.MethodPost, path, secret, `{"password":"`+secret+`"}`)
		res, err := recorder.RoundTrip(r)
		require.NoError(t, err)
		require.NoError(t, res.Body.Close())
	}
	require.NoError(t, recorder.Err())
	files, err := filepath.Glob(filepath.Join(dir, "*"))
	require.NoError(t, err)
	require.Len(t, files, 3)
	for _, file := range files {
		raw, err := os.ReadFile(file)
		require.NoError(t, err)
		for _, text := range []string{string(raw), filepath.Base(file)} {
			assert.NotContains(t, text, secret)
			assert.NotContains(t, text, "jane")
		}
		assert.Contains(t, string(raw), `"state": "active"`)
		assert.Contains(t, string(raw), `{\"n\":1,\"token\":\"[redacted]\"}`)
	}
	assert.Contains(t, files[0], "post-users-id-")
}
