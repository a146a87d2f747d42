package ricloud_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	ricloud "github.com/reincubate/ricloud-go"
	"github.com/reincubate/ricloud-go/internal/transport"
)

// reset writes answer and then drops the connection, as a crashing server does.
func reset(w http.ResponseWriter, answer string) {
	conn, buf, err := http.NewResponseController(w).Hijack()
	if err != nil {
		return
	}
	_, _ = buf.WriteString(answer)
	_ = buf.Flush()
	if tcp, ok := conn.(*net.TCPConn); ok {
		_ = tcp.SetLinger(0)
	}
	_ = conn.Close()
}

func answer(status int, contentType, body string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", contentType)
		w.WriteHeader(status)
		_, _ = fmt.Fprint(w, body)
	}
}

// breakdown is one way in which a call fails on a real socket.
type breakdown struct {
	name    string
	serve   http.HandlerFunc
	again   bool // repeated if a replay is safe
	unacted bool // proves that the API did not act
}

func breakdowns() []breakdown {
	const json, text = "application/json", "text/html"
	return []breakdown{
		{
			name:    "reset after the request",
			serve:   func(w http.ResponseWriter, _ *http.Request) { reset(w, "") },
			again:   true,
			unacted: false,
		},
		{
			name: "reset in mid-header",
			serve: func(w http.ResponseWriter, _ *http.Request) {
				reset(w, "HTTP/1.1 200 O")
			}, again: true, unacted: false,
		},
		{
			name: "reset in mid-answer",
			serve: func(w http.ResponseWriter, _ *http.Request) {
				reset(w, "HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{\"id\":")
			}, again: true, unacted: false,
		},
		{
			name: "reset in mid-chunk",
			serve: func(w http.ResponseWriter, _ *http.Request) {
				reset(w, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n20\r\n{\"id\":")
			}, again: true, unacted: false,
		},
		{
			name:    "truncated JSON",
			serve:   answer(200, json, `{"id":"1","state":`),
			again:   false,
			unacted: false,
		},
		{
			name:    "JSON that does not fit",
			serve:   answer(200, json, `{"id":[true],"data":7}`),
			again:   false,
			unacted: false,
		},
		{
			name:    "HTML 200",
			serve:   answer(200, text, "<html>welcome</html>"),
			again:   false,
			unacted: false,
		},
		{
			name:    "HTML 502",
			serve:   answer(502, text, "<html>bad gateway</html>"),
			again:   true,
			unacted: false,
		},
		{
			name:    "400",
			serve:   answer(400, json, `{"error":"invalid-parameter","message":"no"}`),
			again:   false,
			unacted: true,
		},
		{
			name:    "HTML 403",
			serve:   answer(403, text, "<html>blocked</html>"),
			again:   false,
			unacted: false,
		},
		{
			name:    "HTML 429",
			serve:   answer(429, text, "<html>slow down</html>"),
			again:   true,
			unacted: false,
		},
		{name: "401", serve: answer(401, json, `{}`), again: false, unacted: true},
		{name: "403", serve: answer(403, json, `{}`), again: false, unacted: true},
		{name: "404", serve: answer(404, json, `{}`), again: false, unacted: true},
		{name: "408", serve: answer(408, json, `{}`), again: true, unacted: false},
		{name: "429", serve: answer(429, json, `{}`), again: true, unacted: true},
		{name: "500", serve: answer(500, json, `{}`), again: true, unacted: false},
		{name: "501", serve: answer(501, json, `{}`), again: false, unacted: false},
		{name: "502", serve: answer(502, json, `{}`), again: true, unacted: false},
		{name: "503", serve: answer(503, json, `{}`), again: true, unacted: false},
		{name: "504", serve: answer(504, json, `{}`), again: true, unacted: false},
	}
}

const sent = 1 + transport.DefaultMaxRetries // requests of a call that uses all its retries

// newImpatientClient returns a client that does not wait between attempts.
func newImpatientClient(t *testing.T, baseURL string) *ricloud.Client {
	t.Helper()
	client, err := ricloud.NewClient("token", ricloud.WithBaseURL(baseURL),
		ricloud.WithRetryWait(1, 1))
	require.NoError(t, err)
	t.Cleanup(client.Close)
	return client
}

// Every operation meets every failure on a real socket. The test counts the requests that the
// server saw.
func TestNothingIsDoneTwice(t *testing.T) {
	t.Parallel()
	for _, op := range transport.Operations() {
		for _, b := range breakdowns() {
			t.Run(op.Name+"/"+b.name, func(t *testing.T) {
				t.Parallel()
				var seen atomic.Int64
				server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
					// AcknowledgeAll may fall back to other paths.
					if r.URL.EscapedPath() == strings.ReplaceAll(op.Path, "{id}", "a%2Fb") {
						seen.Add(1)
					}
					_, _ = io.Copy(io.Discard, r.Body)
					b.serve(w, r)
				}))
				defer server.Close()
				client := newImpatientClient(t, server.URL)

				_, err := perform(t.Context(), t, client, op, nil)
				want := 1
				if b.again && (!op.Once() || b.unacted) {
					want = sent
				}
				assert.EqualValues(t, want, seen.Load(), "requests the server saw")
				if op.Name == "Results.AcknowledgeAll" && err == nil {
					return // it ignores the body of an answer
				}
				require.Error(t, err)
				assert.Equal(t, op.Method != http.MethodGet && !b.unacted, maybeApplied(err), err)
				if maybeApplied(err) {
					assert.Regexp(t, "may have been ", err.Error())
				}
			})
		}
	}
}

// silence never answers. This failure needs virtual time, so it has its own test.
type silence struct{ seen atomic.Int64 }

func (s *silence) RoundTrip(req *http.Request) (*http.Response, error) {
	s.seen.Add(1)
	<-req.Context().Done()
	return nil, req.Context().Err()
}

func TestAnAttemptTimeoutIsNoProof(t *testing.T) {
	t.Parallel()
	for _, op := range transport.Operations() {
		t.Run(op.Name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				var api silence
				client, err := ricloud.NewClient("token", ricloud.WithTransport(&api),
					ricloud.WithCallTimeout(time.Hour))
				require.NoError(t, err)
				_, err = perform(t.Context(), t, client, op, nil)
				want := 1
				if !op.Once() {
					want = sent
				}
				assert.EqualValues(t, want, api.seen.Load())
				require.ErrorIs(t, err, context.DeadlineExceeded)
				require.ErrorContains(t, err, "no answer within 30s (attempt timeout)")
				assert.Equal(t, op.Method != http.MethodGet, maybeApplied(err))
			})
		})
	}
}

// If a connection fails before a request could be sent, every operation is retried.
func TestWithoutAConnectionEveryOperationIsTriedAgain(t *testing.T) {
	t.Parallel()
	const refusing = "http://127.0.0.1:1" // nothing listens on port 1
	for _, op := range transport.Operations() {
		t.Run(op.Name, func(t *testing.T) {
			t.Parallel()
			client := newImpatientClient(t, refusing)
			_, err := perform(t.Context(), t, client, op, nil)
			call, ok := errors.AsType[*ricloud.CallError](err)
			require.True(t, ok, err)
			assert.Len(t, call.Attempts, sent)
			assert.False(t, call.MaybeApplied(), "no request was ever sent")
			assert.NotContains(t, err.Error(), "may have been ")
		})
	}
}

// A connection that is dropped while the server reads the request proves nothing: the server may
// have acted on it.
func TestAConnectionDroppedInMidRequestIsNoProof(t *testing.T) {
	t.Parallel()
	for _, op := range transport.Operations() {
		t.Run(op.Name, func(t *testing.T) {
			t.Parallel()
			listener, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
			require.NoError(t, err)
			accepted := make(chan int, 1)
			go func() {
				n := 0
				for {
					conn, err := listener.Accept()
					if err != nil {
						accepted <- n
						return
					}
					if _, err := conn.Read(make([]byte, 1)); err == nil {
						n++
					}
					if tcp, ok := conn.(*net.TCPConn); ok {
						_ = tcp.SetLinger(0)
					}
					_ = conn.Close()
				}
			}()
			client := newImpatientClient(t, "http://"+listener.Addr().String())
			_, err = perform(t.Context(), t, client, op, nil)
			require.Error(t, err)
			require.NoError(t, listener.Close())
			want := 1
			if !op.Once() {
				want = sent
			}
			assert.Equal(t, want, <-accepted)
			assert.Equal(t, op.Method != http.MethodGet, maybeApplied(err))
		})
	}
}

func TestWithReplayOptsACreateIn(t *testing.T) {
	t.Parallel()
	for _, op := range transport.Operations() {
		if !op.Once() {
			continue
		}
		t.Run(op.Name, func(t *testing.T) {
			t.Parallel()
			var seen atomic.Int64
			server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
				seen.Add(1)
				w.WriteHeader(http.StatusBadGateway)
			}))
			defer server.Close()
			client := newImpatientClient(t, server.URL)
			_, err := perform(t.Context(), t, client, op, nil, ricloud.WithReplay())
			require.ErrorIs(t, err, ricloud.ErrServer)
			assert.EqualValues(t, sent, seen.Load())
			assert.True(t, maybeApplied(err))
		})
	}
}

func TestADeleteThatFindsItsWorkDoneSucceeds(t *testing.T) {
	t.Parallel()
	for _, op := range transport.Operations() {
		if op.Method != http.MethodDelete {
			continue
		}
		t.Run(op.Name, func(t *testing.T) {
			t.Parallel()
			var seen atomic.Int64
			server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
				if seen.Add(1) == 1 {
					reset(w, "") // the server deletes the resource and crashes
					return
				}
				w.WriteHeader(http.StatusNotFound)
			}))
			defer server.Close()
			client := newImpatientClient(t, server.URL)
			_, err := perform(t.Context(), t, client, op, nil)
			require.NoError(t, err)
			_, err = perform(t.Context(), t, client, op, nil)
			require.ErrorIs(t, err, ricloud.ErrNotFound, "without a doubt to settle, not found is not found")
		})
	}
}
