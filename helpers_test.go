package ricloud

import (
	"bytes"
	"io"
	"net/http"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/jarcoal/httpmock"
	"github.com/stretchr/testify/require"
)

// recorded is a request as the server saw it.
type recorded struct {
	Method, Path, Query, Body string
	Header                    http.Header
}

// recorder is an API that answers as a test says, and records the requests.
type recorder struct {
	*httpmock.MockTransport

	mu    sync.Mutex
	calls []recorded
}

func (r *recorder) RoundTrip(req *http.Request) (*http.Response, error) {
	var body bytes.Buffer
	if req.Body != nil {
		_, _ = body.ReadFrom(req.Body)
		_ = req.Body.Close()
		req.Body = io.NopCloser(bytes.NewReader(body.Bytes()))
	}
	r.mu.Lock()
	r.calls = append(r.calls,
		recorded{req.Method, req.URL.EscapedPath(), req.URL.RawQuery, body.String(), req.Header.Clone()})
	r.mu.Unlock()
	return r.MockTransport.RoundTrip(req)
}

func (r *recorder) all() []recorded {
	r.mu.Lock()
	defer r.mu.Unlock()
	return append([]recorded(nil), r.calls...)
}

func (r *recorder) last() recorded {
	calls := r.all()
	if len(calls) == 0 {
		return recorded{}
	}
	return calls[len(calls)-1]
}

// newTestClient returns a client and its API. Requests without a responder are answered with an ID
// and a token.
func newTestClient(t *testing.T, opts ...Option) (*Client, *recorder) {
	t.Helper()
	api := &recorder{MockTransport: httpmock.NewMockTransport()}
	api.RegisterNoResponder(
		httpmock.NewStringResponder(http.StatusOK, `{"id":"1","token":"x","data":[]}`))
	c, err := NewClient("test-token", append([]Option{WithTransport(api)}, opts...)...)
	require.NoError(t, err)
	return c, api
}

// clientOf returns a client whose API is a function.
func clientOf(t *testing.T, api RoundTripFunc, opts ...Option) *Client {
	t.Helper()
	c, err := NewClient("token", append([]Option{WithTransport(api)}, opts...)...)
	require.NoError(t, err)
	return c
}

// respondWith answers with a file from testdata.
func respondWith(fixture string) httpmock.Responder {
	body := httpmock.File(filepath.Join("testdata", filepath.FromSlash(fixture)))
	return httpmock.NewBytesResponder(http.StatusOK, body.Bytes())
}

func jsonResponder(status int, body string) httpmock.Responder {
	return httpmock.NewStringResponder(status, body).HeaderSet(
		http.Header{"Content-Type": {"application/json"}},
	)
}

// states answers with one body after the other, and then repeats the last one.
func states(bodies ...string) httpmock.Responder {
	n := 0
	return func(*http.Request) (*http.Response, error) {
		body := bodies[min(n, len(bodies)-1)]
		n++
		return jsonResponder(http.StatusOK, body)(nil)
	}
}

// RoundTripFunc is an API that is a single function.
type RoundTripFunc func(*http.Request) (*http.Response, error)

func (f RoundTripFunc) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

func answer(status int, body string) (*http.Response, error) {
	resp := httpmock.NewStringResponse(status, body)
	if strings.HasPrefix(body, "<") {
		resp.Header.Set("Content-Type", "text/html")
	}
	return resp, nil
}
