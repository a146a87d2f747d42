package transport

import (
	"context"
	"errors"
	"net/http"
	"testing"

	"github.com/jarcoal/httpmock"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"
)

const (
	testBase  = "https://api.test"
	testToken = "canary-token-7f3a"
)

var errReset = errors.New("connection reset by peer")

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// newClient returns a Client on rt. Each edit may change its Config.
func newClient(t testing.TB, rt http.RoundTripper, edit ...func(*Config)) *Client {
	t.Helper()
	authorization := "Token " + testToken
	cfg := Config{
		BaseURL:   testBase,
		Transport: rt,
		Authorize: func(h http.Header) { h["Authorization"] = []string{authorization} },
		UserAgent: "ricloud-go/test",
	}
	for _, e := range edit {
		e(&cfg)
	}
	client, err := New(cfg)
	require.NoError(t, err)
	return client
}

// answers plays one step for each request, in order, and records the requests. It repeats the last
// step.
type answers struct {
	steps []httpmock.Responder
	seen  []*http.Request
}

func (a *answers) RoundTrip(req *http.Request) (*http.Response, error) {
	a.seen = append(a.seen, req)
	if err := req.Context().Err(); err != nil {
		return nil, err
	}
	return a.steps[min(len(a.seen), len(a.steps))-1](req)
}

func play(steps ...httpmock.Responder) *answers { return &answers{steps: steps} }

func status(code int, header ...string) httpmock.Responder {
	return func(*http.Request) (*http.Response, error) {
		resp := httpmock.NewStringResponse(code, `{"message":"said so"}`)
		for i := 0; i < len(header); i += 2 {
			resp.Header.Set(header[i], header[i+1])
		}
		return resp, nil
	}
}

func fails(err error) httpmock.Responder {
	return func(*http.Request) (*http.Response, error) { return nil, err }
}

// hangs does not answer until the request's context ends.
func hangs(req *http.Request) (*http.Response, error) {
	<-req.Context().Done()
	return nil, req.Context().Err()
}

func request(op Operation) *Request { return &Request{Operation: op} }

func requestWithID(op Operation, id string) *Request {
	return &Request{Operation: op, ID: id}
}

func failure(t *testing.T, err error) *Failure {
	t.Helper()
	f, ok := errors.AsType[*Failure](err)
	require.Truef(t, ok, "want a *Failure, got %T: %v", err, err)
	return f
}

func cancelled(cause error) context.Context {
	ctx, cancel := context.WithCancelCause(context.Background())
	cancel(cause)
	return ctx
}
