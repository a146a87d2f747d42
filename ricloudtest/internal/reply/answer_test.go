package reply_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/reincubate/ricloud-go/ricloudtest/internal/reply"
)

// hello returns an answer with the body "hello, world".
func hello() *reply.Answer {
	return reply.Bytes(http.StatusCreated, "text/plain", []byte("hello, world"))
}

// readAll reads a small body.
func readAll(r io.Reader) ([]byte, error) {
	var body bytes.Buffer
	_, err := body.ReadFrom(r)
	return body.Bytes(), err
}

// exchange sends an answer to a client in one way.
type exchange func(t *testing.T, method string, answer *reply.Answer) (*http.Response, error)

// inMemory sends an answer as an http.RoundTripper does.
func inMemory(t *testing.T, method string, answer *reply.Answer) (*http.Response, error) {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), method, "http://example.com", http.NoBody)
	require.NoError(t, err)
	return answer.Response(r)
}

// overASocket sends an answer as a server does.
func overASocket(t *testing.T, method string, answer *reply.Answer) (*http.Response, error) {
	t.Helper()
	server := httptest.NewServer(http.HandlerFunc(answer.Write))
	t.Cleanup(server.Close)
	transport := &http.Transport{}
	t.Cleanup(transport.CloseIdleConnections)
	r, err := http.NewRequestWithContext(t.Context(), method, server.URL, http.NoBody)
	require.NoError(t, err)
	return transport.RoundTrip(r)
}

// A client sees the same in memory and over a socket, whatever a fault does to the answer.
func TestAnAnswerAsAClientSeesIt(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name     string
		method   string
		change   func(*reply.Answer)
		body     string
		declared int64
		err      error // of reading the body
	}{
		{name: "whole", body: "hello, world", declared: 12},
		{name: "HEAD", method: http.MethodHead, declared: 12},
		{
			name: "replaced", body: "no", declared: 2,
			change: func(a *reply.Answer) { a.Replace("text/html", "no") },
		},
		{
			name: "one bit flipped", body: "hello,!world", declared: 12,
			change: (*reply.Answer).Corrupt,
		},
		{
			name: "cut", body: "hello", declared: 12, err: io.ErrUnexpectedEOF,
			change: func(a *reply.Answer) { a.Body = strings.NewReader("hello") },
		},
		{
			name: "declared too short", body: "hello", declared: 5,
			change: func(a *reply.Answer) { a.Declared = 5 },
		},
		{
			name: "declared too long", body: "hello, world", declared: 20, err: io.ErrUnexpectedEOF,
			change: func(a *reply.Answer) { a.Declared = 20 },
		},
		{
			name: "byte by byte", body: "hello, world", declared: 12,
			change: func(a *reply.Answer) { a.Drip = time.Microsecond },
		},
	}
	for way, send := range map[string]exchange{"in memory": inMemory, "socket": overASocket} {
		for _, tt := range tests {
			t.Run(way+"/"+tt.name, func(t *testing.T) {
				t.Parallel()
				answer := hello()
				answer.Header.Set("X-Test", "kept")
				if tt.change != nil {
					tt.change(answer)
				}
				if tt.method == "" {
					tt.method = http.MethodGet
				}
				res, err := send(t, tt.method, answer)
				require.NoError(t, err)
				defer func() { _ = res.Body.Close() }()
				assert.Equal(t, "201 Created", res.Status)
				assert.Equal(t, "kept", res.Header.Get("X-Test"))
				assert.Equal(t, tt.declared, res.ContentLength)
				body, err := readAll(res.Body)
				require.ErrorIs(t, err, tt.err)
				assert.Equal(t, tt.body, string(body))
			})
		}
	}
}

func TestABrokenConnection(t *testing.T) {
	t.Parallel()
	for way, send := range map[string]exchange{"in memory": inMemory, "socket": overASocket} {
		t.Run(way, func(t *testing.T) {
			t.Parallel()
			answer := hello()
			answer.Reset = true
			res, err := send(t, http.MethodGet, answer)
			if err == nil {
				_ = res.Body.Close()
			}
			if way == "in memory" {
				require.ErrorIs(t, err, syscall.ECONNRESET)
			}
			require.Error(t, err)
		})
	}
	answer, w := hello(), httptest.NewRecorder() // has no connection to reset
	answer.Reset = true
	answer.Write(w, httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/", http.NoBody))
	assert.Empty(t, w.Body.String())
}

// An answer that hangs ends when its client or its server does.
func TestAHang(t *testing.T) {
	t.Parallel()
	for way, send := range map[string]func(*reply.Answer, *http.Request) error{
		"in memory": func(a *reply.Answer, r *http.Request) error {
			res, err := a.Response(r)
			if err == nil {
				_ = res.Body.Close()
			}
			return err
		},
		"socket": func(a *reply.Answer, r *http.Request) error {
			a.Write(httptest.NewRecorder(), r)
			return context.Cause(r.Context())
		},
	} {
		t.Run(way, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				closed := make(chan struct{})
				answer := hello()
				answer.Hang, answer.Closed = true, closed
				gone := errors.New("the client is gone")
				ctx, cancel := context.WithTimeoutCause(t.Context(), time.Hour, gone)
				defer cancel()
				begun := time.Now()
				r := httptest.NewRequestWithContext(ctx, http.MethodGet, "/", http.NoBody)
				require.ErrorIs(t, send(answer, r), gone)
				assert.Equal(t, time.Hour, time.Since(begun))

				close(closed)
				r = httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/", http.NoBody)
				if err := send(answer, r); way == "in memory" {
					require.ErrorIs(t, err, net.ErrClosed)
				}
			})
		})
	}
}

// A body with Drip pauses before each byte. It ends with its request or when it is closed.
func TestADrip(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		gone := errors.New("the client is gone")
		read := func(limit time.Duration, stop func(io.Closer)) (string, error) {
			answer := hello()
			answer.Drip = time.Second
			ctx, cancel := context.WithTimeoutCause(t.Context(), limit, gone)
			defer cancel()
			r := httptest.NewRequestWithContext(ctx, http.MethodGet, "/", http.NoBody)
			res, err := answer.Response(r)
			require.NoError(t, err)
			defer func() { _ = res.Body.Close() }()
			stop(res.Body)
			body, err := readAll(res.Body)
			return string(body), err
		}
		begun := time.Now()
		body, err := read(time.Hour, func(io.Closer) {})
		require.NoError(t, err)
		assert.Equal(t, "hello, world", body)
		assert.Equal(t, 12*time.Second, time.Since(begun))

		body, err = read(5*time.Second+1, func(io.Closer) {})
		require.ErrorIs(t, err, gone)
		assert.Equal(t, "hello", body)

		body, err = read(time.Hour, func(c io.Closer) {
			time.AfterFunc(3*time.Second+1, func() { _ = c.Close() })
		})
		require.ErrorIs(t, err, http.ErrBodyReadAfterClose)
		assert.Equal(t, "hel", body)
	})
}

// Of converts what a handler does to an answer.
func TestOf(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name   string
		run    func(http.ResponseWriter)
		status int
		body   string
		size   int64
		sent   string
	}{
		{name: "nothing", run: func(http.ResponseWriter) {}, status: http.StatusOK},
		{name: "a body", run: func(w http.ResponseWriter) {
			_, _ = io.WriteString(w, "hello, ")
			_, _ = io.WriteString(w, "world")
			w.WriteHeader(http.StatusTeapot) // too late to have an effect
		}, status: http.StatusOK, body: "hello, world", size: 12, sent: "hello, world"},
		{name: "a status", run: func(w http.ResponseWriter) {
			w.WriteHeader(http.StatusTeapot)
			_, _ = io.WriteString(w, "no")
		}, status: http.StatusTeapot, body: "no", size: 2, sent: "no"},
		{name: "a file, which stays where it is", run: func(w http.ResponseWriter) {
			r := httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/", http.NoBody)
			http.ServeContent(w, r, "a.txt", time.Time{}, strings.NewReader("hello, world"))
		}, status: http.StatusOK, body: "hello, world", size: 12},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			answer := reply.Of(tt.run)
			assert.Equal(t, tt.status, answer.Status)
			assert.Equal(t, tt.size, answer.Size)
			assert.Equal(t, tt.size, answer.Declared)
			assert.Equal(t, tt.sent, string(answer.Sent))
			body, err := readAll(answer.Body)
			require.NoError(t, err)
			assert.Equal(t, tt.body, string(body))
		})
	}
	head := reply.Of(func(w http.ResponseWriter) {
		r := httptest.NewRequestWithContext(t.Context(), http.MethodHead, "/", http.NoBody)
		http.ServeContent(w, r, "a.txt", time.Time{}, strings.NewReader("hello, world"))
	})
	assert.EqualValues(t, 12, head.Declared, "HEAD declares what GET would send")
	assert.Zero(t, head.Size)
}

func TestJSON(t *testing.T) {
	t.Parallel()
	answer := reply.JSON(http.StatusOK, reply.Object{"b": []string{"<&>"}, "a": 1})
	//nolint:testifylint // the order and the escapes matter
	assert.Equal(t, `{"a":1,"b":["<&>"]}`, string(answer.Sent))
	assert.Equal(t, "application/json", answer.Header.Get("Content-Type"))
	assert.EqualValues(t, len(answer.Sent), answer.Declared)
	assert.Equal(t, "null", string(reply.Encode(func() {})), "what JSON cannot express")
	odd := reply.JSON(http.StatusOK, reply.Object{"a": `\`, "b": `"`, "c": "\n", "d": "ü"})
	//nolint:testifylint // the escapes matter
	assert.Equal(t, `{"a":"\\","b":"\"","c":"\n","d":"ü"}`, string(odd.Sent))
}
