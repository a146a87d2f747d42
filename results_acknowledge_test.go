package ricloud

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/jarcoal/httpmock"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// acks is an API that acknowledges results, with or without a batch endpoint.
type acks struct {
	mu      sync.Mutex
	batch   int // status of the batch endpoint
	unknown []string
	status  map[string]int // status for single results
	batches [][]string
	acked   []string
	singles int
}

func (a *acks) RoundTrip(req *http.Request) (*http.Response, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if req.URL.Path == "/results/ack" {
		_, body, _ := strings.Cut(readBody(req), "[")
		ids := strings.Split(strings.Trim(body, `]}"`), `","`)
		a.batches = append(a.batches, ids)
		switch {
		case a.batch != 200:
			return jsonResponder(a.batch, `{"error":"invalid-body","message":"no batches here"}`)(req)
		case slices.ContainsFunc(ids, func(id string) bool { return slices.Contains(a.unknown, id) }):
			return jsonResponder(400,
				`{"error":"invalid-parameter","params":{"results.1":["names no result"]}}`)(req)
		}
		a.acked = append(a.acked, ids...)
		return jsonResponder(200, `[]`)(req)
	}
	a.singles++
	id := strings.Split(req.URL.Path, "/")[2]
	switch {
	case slices.Contains(a.unknown, id):
		return jsonResponder(404, `{}`)(req)
	case a.status[id] != 0:
		return jsonResponder(a.status[id], `{}`)(req)
	}
	a.acked = append(a.acked, id)
	return jsonResponder(200, fmt.Sprintf(`{"id":%q,"state":"consumed"}`, id))(req)
}

// seen returns what the API has seen so far.
func (a *acks) seen() (s struct {
	batches [][]string
	acked   []string
	singles int
},
) {
	a.mu.Lock()
	defer a.mu.Unlock()
	s.batches, s.acked, s.singles = slices.Clone(a.batches), slices.Clone(a.acked), a.singles
	return s
}

// heal makes all requests succeed, except for unknown results.
func (a *acks) heal(unknown ...string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.batch, a.unknown = 200, unknown
}

func readBody(req *http.Request) string {
	var b strings.Builder
	_, _ = io.Copy(&b, req.Body)
	return b.String()
}

func names(n int) (ids []ID) {
	for i := range n {
		ids = append(ids, ID("r"+strconv.Itoa(i)))
	}
	return ids
}

func TestAcknowledgeAll(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		api       *acks
		ids       []ID
		batches   int
		singles   int
		remaining []ID
		is        error
	}{
		"nothing":          {api: &acks{batch: 200}, batches: 0, singles: 0},
		"one batch":        {api: &acks{batch: 200}, ids: names(10), batches: 1, singles: 0},
		"in chunks":        {api: &acks{batch: 200}, ids: names(2500), batches: 3, singles: 0},
		"no such endpoint": {api: &acks{batch: 404}, ids: names(10), batches: 1, singles: 10},
		"another method":   {api: &acks{batch: 405}, ids: names(10), batches: 1, singles: 10},
		"another body":     {api: &acks{batch: 400}, ids: names(10), batches: 1, singles: 10},
		"an unknown result": {
			api: &acks{batch: 200, unknown: []string{"r1"}}, ids: names(3),
			batches: 1, singles: 3, remaining: []ID{"r1"}, is: ErrNotFound,
		},
		"unknown in one chunk": {
			api: &acks{batch: 200, unknown: []string{"r1500"}}, ids: names(2500),
			batches: 3, singles: 1000, remaining: []ID{"r1500"}, is: ErrNotFound,
		},
		"not permitted": {
			api: &acks{batch: 403}, ids: names(3),
			batches: 1, singles: 0, remaining: names(3), is: ErrForbidden,
		},
		"not even one": {
			api: &acks{batch: 404, status: map[string]int{"r1": 403}}, ids: names(3),
			batches: 1, singles: 2, remaining: []ID{"r1", "r2"}, is: ErrForbidden,
		},
		"a broken API": {
			api: &acks{batch: 500}, ids: names(1200),
			batches: 1, singles: 0, remaining: names(1200), is: ErrServer,
		},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			api := tc.api
			c, err := NewClient("token", WithTransport(api), WithRetries(0))
			require.NoError(t, err)
			err = c.Results.AcknowledgeAll(t.Context(), tc.ids)
			assert.Len(t, api.seen().batches, tc.batches)
			assert.Equal(t, tc.singles, api.seen().singles)
			assert.Len(t, api.seen().acked, len(tc.ids)-len(tc.remaining))
			if tc.remaining == nil {
				require.NoError(t, err)
				return
			}
			var failed *AcknowledgeError
			require.ErrorAs(t, err, &failed)
			assert.Equal(t, tc.remaining, failed.Remaining)
			require.ErrorIs(t, err, tc.is)
		})
	}
}

func TestAcknowledgeAllRemembersThatThereIsNoBatch(t *testing.T) {
	t.Parallel()
	api := &acks{batch: 404}
	c, err := NewClient("token", WithTransport(api))
	require.NoError(t, err)
	for range 3 {
		require.NoError(t, c.Results.AcknowledgeAll(t.Context(), names(2)))
	}
	assert.Len(t, api.seen().batches, 1)
	assert.Equal(t, 6, api.seen().singles)
	err = c.Results.AcknowledgeAll(t.Context(), []ID{"r", ""})
	require.EqualError(t, err, "ricloud: Results.AcknowledgeAll: ids[1] is empty")
}

// An answer from a proxy acknowledges nothing: every result remains.
func TestAnAnswerThatIsNotTheAPIsAcknowledgesNothing(t *testing.T) {
	t.Parallel()
	for _, page := range []string{
		"<html>log in to the network</html>", "OK", "{", `{"id":"r0"}{`, "\xff",
		`{"error":"maintenance","message":"back soon"}`, `{"error":{"code":503}}`,
	} {
		c, api := newTestClient(t)
		api.RegisterNoResponder(httpmock.NewStringResponder(http.StatusOK, page))
		err := c.Results.AcknowledgeAll(t.Context(), names(2))
		failed, ok := errors.AsType[*AcknowledgeError](err)
		require.True(t, ok, "%s: %v", page, err)
		assert.Equal(t, names(2), failed.Remaining, page)
		_, err = c.Results.Acknowledge(t.Context(), "r0")
		require.Error(t, err, page)
	}
	c, api := newTestClient(t)
	for _, answer := range []string{
		"", "null", "[]", "{}", `{"results":["r0"]}`, `"r0"`,
		`{"error":null}`, `{"data":["r0"],"error":"none"}`,
	} {
		api.RegisterNoResponder(httpmock.NewStringResponder(http.StatusOK, answer))
		require.NoError(t, c.Results.AcknowledgeAll(t.Context(), names(2)), answer)
	}
	api.RegisterNoResponder(httpmock.NewStringResponder(http.StatusOK, `{"id":"another"}`))
	_, err := c.Results.Acknowledge(t.Context(), "r0")
	require.ErrorContains(t, err, "not the resource that was asked for")
}

// The same holds for every other call whose answer may be empty.
func TestAnErrorWithAStatusOfSuccessIsNone(t *testing.T) {
	t.Parallel()
	c, api := newTestClient(t)
	api.RegisterNoResponder(httpmock.NewStringResponder(http.StatusOK, `{"error":"maintenance"}`))
	_, updated := c.Users.Update(t.Context(), "u1", UserUpdateParams{Identifier: "jane"})
	_, deleted := c.Sessions.Delete(t.Context(), "s1")
	for _, err := range []error{updated, deleted} {
		failed, ok := errors.AsType[*CallError](err)
		require.True(t, ok, "%v", err)
		assert.True(t, failed.MaybeApplied())
		require.ErrorContains(t, err, "maintenance")
	}
	var said struct{ Error string }
	err := c.Call(t.Context(), http.MethodPost, "/own", nil, &said)
	require.NoError(t, err, "any JSON is an answer")
	assert.Equal(t, "maintenance", said.Error)
}

// An answer that says that a result is not acknowledged is no acknowledgement, whatever its status.
func TestAnAnswerThatAcknowledgesNothing(t *testing.T) {
	t.Parallel()
	for body, acknowledged := range map[string]bool{
		`{"resource":"result","id":"r1","state":"consumed"}`:     true,
		`{"resource":"result","id":"r1","state":"invented"}`:     true,
		`{"resource":"result","id":"r1"}`:                        true,
		`{"errors":[],"failed":null}`:                            true,
		`{"failed":0}`:                                           true,
		`{"resource":"result","id":"r1","state":"available"}`:    false,
		`{"resource":"result","id":"r1","state":"expired"}`:      false,
		`{"errors":["r1"]}`:                                      false,
		`{"failed":["r1"]}`:                                      false,
		`{"failed":{"r1":"there is no such result"}}`:            false,
		`{"error":"invalid-parameter","message":"not a result"}`: false,
	} {
		client := clientOf(t, RoundTripFunc(jsonResponder(200, body)))
		_, err := client.Results.Acknowledge(t.Context(), "r1")
		assert.Equal(t, acknowledged, err == nil, body)
		if !strings.Contains(body, "resource") { // that is the answer for one result
			err = client.Results.AcknowledgeAll(t.Context(), []ID{"r1", "r2"})
			assert.Equal(t, acknowledged, err == nil, body)
		}
		client.Close()
	}
}

// An answer that names some results of a batch acknowledges those: the others are asked for alone.
func TestAcknowledgeAllOfABatchThatIsAnsweredInPart(t *testing.T) {
	t.Parallel()
	for answer, rest := range map[string][]string{
		`null`: nil, `{}`: nil, `[]`: nil, `{"data":["another"]}`: nil,
		`{"results":["r0","r1","r2"]}`:                             nil,
		`{"results":["r0","r2"]}`:                                  {"r1"},
		`{"data":[{"id":"r0"}],"has_more":true}`:                   nil,
		`{"data":[{"id":"r0"}],"has_more":false}`:                  {"r1", "r2"},
		`{"data":[{"id":"r1","state":"expired"}],"has_more":true}`: {"r1"},
		`["r1"]`:                                           {"r0", "r2"},
		`{"data":["r0","r1"],"failed":["r2"]}`:             {"r2"},
		`{"id":"r0","state":"consumed"}`:                   {"r1", "r2"},
		`{"data":[{"id":"r0","state":"available"}]}`:       {"r0", "r1", "r2"},
		`[{"id":"r0"},{"id":"r1","state":"expired"},"r2"]`: {"r1"},
	} {
		c, api := newTestClient(t)
		api.RegisterResponder(http.MethodPost, "=~/results/ack$",
			httpmock.NewStringResponder(http.StatusOK, answer))
		var asked []string
		api.RegisterResponder(http.MethodPost, `=~/results/(r\d)/ack$`,
			func(req *http.Request) (*http.Response, error) {
				id, _ := httpmock.GetSubmatch(req, 1)
				asked = append(asked, id)
				state := "consumed"
				if id == "r1" {
					state = "available"
				}
				return httpmock.NewStringResponse(http.StatusOK,
					fmt.Sprintf(`{"id":%q,"state":%q}`, id, state)), nil
			})
		err := c.Results.AcknowledgeAll(t.Context(), names(3))
		assert.Equal(t, rest, asked, answer)
		failed, ok := errors.AsType[*AcknowledgeError](err)
		require.Equal(t, slices.Contains(rest, "r1"), ok, "%s: %v", answer, err)
		if ok {
			assert.Equal(t, []ID{"r1"}, failed.Remaining, answer)
		}
	}
}
