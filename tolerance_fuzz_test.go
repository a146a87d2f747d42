package ricloud_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"os"
	"path"
	"strings"
	"testing"

	"github.com/jarcoal/httpmock"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	ricloud "github.com/reincubate/ricloud-go"
)

// addFixtures seeds f with every fixture of every API generation.
func addFixtures(f *testing.F, add func(body []byte)) {
	f.Helper()
	seeds := 0
	fixtures := os.DirFS("testdata")
	require.NoError(f, fs.WalkDir(fixtures, ".", func(name string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || path.Ext(name) != ".json" {
			return err
		}
		body, err := fs.ReadFile(fixtures, name)
		add(body)
		seeds++
		return err
	}))
	require.Positive(f, seeds)
	for _, odd := range []string{
		``, `null`, `[]`, `{}`, `"x"`, `7`, `-0.5e3`, `{"id":null}`, `{"id":{"id":{"id":1}}}`,
		`{"id":[1]}`, `{"data":{}}`,
		`{"data":[null]}`, `[{"id":1},{"id":"1"}]`, `{"date_created":""}`,
		`{"date_created":"2018-08-22 10:25:05"}`, `{"date_created":7}`,
		`{"source":"1"}`, `{"source":{"id":1}}`, `{"results":[{"signed_url":null}]}`,
		`{"signed_urls_expiry":1e300}`, `{"interval":-0.5}`,
		`{"tasks_completed":["1"]}`, "<html>", "\xff", strings.Repeat("[", 10_001),
	} {
		add([]byte(odd))
	}
}

// FuzzWireTypes checks that no input makes a wire type panic, and that a decoded value can be
// encoded and decoded again without change.
func FuzzWireTypes(f *testing.F) {
	addFixtures(f, func(body []byte) { f.Add(body) })
	f.Fuzz(func(t *testing.T, body []byte) {
		for _, fresh := range []func() any{
			func() any { return new(ricloud.ID) }, func() any { return new(ricloud.List[ricloud.Source]) },
			func() any { return new(ricloud.Organisation) }, func() any { return new(ricloud.Key) },
			func() any {
				return new(ricloud.Permissions)
			},
			func() any { return new(ricloud.User) }, func() any { return new(ricloud.Source) }, func() any {
				return new(ricloud.Session)
			},
			func() any { return new(ricloud.Poll) }, func() any { return new(ricloud.Task) }, func() any {
				return new(ricloud.Result)
			},
			func() any { return new(ricloud.Subscription) }, func() any {
				return new(ricloud.StorageConfig)
			},
		} {
			first := fresh()
			if json.Unmarshal(body, first) != nil {
				continue
			}
			assert.NotPanics(t, func() { _ = fmt.Sprintf("%v %+v %#v", first, first, first) })
			written, err := json.Marshal(first)
			if err != nil {
				// Some values can be decoded and not encoded: secrets, and dates whose year exceeds 9999 after
				// conversion to UTC.
				require.Regexp(t, "is never encoded|year outside of range", err.Error(), "%T", first)
				continue
			}
			second := fresh()
			require.NoError(t, json.Unmarshal(written, second), "%T wrote %s", first, written)
			again, err := json.Marshal(second)
			require.NoError(t, err)
			assert.Equal(t, string(written), string(again), "%T", first)
		}
	})
}

// FuzzAnswer checks that a call returns a resource or one of the package's errors, with a bounded
// text, for any status and body.
func FuzzAnswer(f *testing.F) {
	addFixtures(f, func(body []byte) {
		f.Add(http.StatusOK, body)
		f.Add(http.StatusBadRequest, body)
	})
	f.Add(http.StatusUnauthorized,
		[]byte(`{"error":"invalid-parameter","message":"no","params":{"a":["b"]}}`))
	f.Add(http.StatusBadGateway, []byte(`{"error":7,"message":[],"params":null}`))
	f.Fuzz(func(t *testing.T, status int, body []byte) {
		if status < 200 || status > 599 {
			return
		}
		client, err := ricloud.NewClient("a-token-of-some-length", ricloud.WithRetries(0),
			ricloud.WithTransport(answering(status, body)))
		require.NoError(t, err)
		poll, err := client.Polls.Get(t.Context(), "1")
		if err == nil {
			assert.NotNil(t, poll)
			assert.Less(t, status, 300)
			return
		}
		assert.Less(t, len(err.Error()), 4<<10+2*len(body), "the text of an error is bounded")
		apiErr, isAPI := errors.AsType[*ricloud.Error](err)
		_, isDecode := errors.AsType[*ricloud.DecodeError](err)
		_, isCall := errors.AsType[*ricloud.CallError](err)
		assert.True(t, isAPI || isDecode || isCall, "%T", err)
		if isAPI {
			assert.Equal(t, status, apiErr.StatusCode)
			assert.Equal(t, status >= 500, errors.Is(err, ricloud.ErrServer))
		}
	})
}

// FuzzListPages checks that a list ends whatever its pages contain, and yields no item twice.
func FuzzListPages(f *testing.F) {
	addFixtures(f, func(body []byte) { f.Add(body, body) })
	f.Add([]byte(`{"data":[{"id":1},{"id":"2"}],"has_more":true}`),
		[]byte(`{"data":[{"id":2},{"id":3}],"has_more":true}`))
	f.Add([]byte(`{"data":[{"id":""}],"has_more":true}`), []byte(`{"data":[],"has_more":true}`))
	f.Fuzz(func(t *testing.T, first, rest []byte) {
		requests := 0
		api := roundTripper(func(req *http.Request) (*http.Response, error) {
			requests++
			if requests == 1 {
				return answering(http.StatusOK, first)(req)
			}
			return answering(http.StatusOK, rest)(req)
		})
		client, err := ricloud.NewClient("token", ricloud.WithTransport(api), ricloud.WithRetries(0))
		require.NoError(t, err)
		seen := map[ricloud.ID]bool{}
		for user, err := range client.Users.All(t.Context(), ricloud.UserListParams{}) {
			if err != nil {
				break
			}
			assert.False(t, user.ID != "" && seen[user.ID], "%q came twice", user.ID)
			seen[user.ID] = true
		}
		assert.LessOrEqual(t, requests, 4, "the third page is the second again")
	})
}

type roundTripper func(*http.Request) (*http.Response, error)

func (f roundTripper) RoundTrip(req *http.Request) (*http.Response, error) { return f(req) }

func answering(status int, body []byte) roundTripper {
	return func(*http.Request) (*http.Response, error) {
		return httpmock.NewBytesResponse(status, bytes.Clone(body)), nil
	}
}
