package transport

import (
	"bytes"
	"compress/gzip"
	"context"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httptrace"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// These tests check what needs a real socket: connections, framing, compression.

func serve(t *testing.T, handler http.HandlerFunc, edit ...func(*Config)) *Client {
	t.Helper()
	server := httptest.NewServer(handler)
	t.Cleanup(server.Close)
	client := newClient(t, nil, append(edit, func(c *Config) {
		c.BaseURL = server.URL
		c.RetryWaitMin, c.RetryWaitMax = 1, 1
	})...)
	t.Cleanup(client.Close)
	return client
}

// TestConnectionsAreKept makes 1,000 calls. 30% of them fail, in every way that leaves a connection
// usable. All of them use the same connection. Time is virtual, because net/http drops a connection
// whose goroutine does not run for 50 milliseconds, as on a busy machine.
func TestConnectionsAreKept(t *testing.T) {
	t.Parallel()
	synctest.Test(t, testConnectionsAreKept)
}

func testConnectionsAreKept(t *testing.T) {
	var packed bytes.Buffer
	gz := gzip.NewWriter(&packed)
	_, _ = io.WriteString(gz, strings.Repeat("x", 50_000))
	require.NoError(t, gz.Close())
	requests := 0
	failures := []http.HandlerFunc{
		func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusServiceUnavailable) },
		func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusTooEarly) },
		// The page is larger than the client keeps, as a proxy's may be.
		func(w http.ResponseWriter, _ *http.Request) {
			w.WriteHeader(http.StatusBadGateway)
			_, _ = io.WriteString(w, strings.Repeat("<p>bad gateway</p>", 8_000))
		},
		func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, "https://elsewhere.test/", http.StatusFound)
		},
		func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusNotFound) },
		func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, `{"id":`) },
		func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Encoding", "gzip")
			w.WriteHeader(http.StatusInternalServerError)
			_, _ = w.Write(packed.Bytes())
		},
	}
	listener := &pipes{accepted: make(chan net.Conn), closed: make(chan struct{})}
	server := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		requests++ // no lock: all requests use the same connection
		switch {
		case requests%10 < 3:
			failures[requests%len(failures)](w, r)
		case requests%2 == 0:
			_, _ = io.WriteString(w, strings.Repeat("y", 10_000)) // sent in chunks
		default:
			_, _ = io.WriteString(w, pollJSON)
		}
	})}
	go func() { _ = server.Serve(listener) }()
	own := newTransport(nil)
	own.DialContext = listener.dial
	defer func() {
		own.CloseIdleConnections()
		_ = server.Close()
	}()
	client := newClient(t, own, func(c *Config) { c.BaseURL, c.MaxRetries = "http://127.0.0.1", 1 })

	dialled, used := 0, 0
	ctx := httptrace.WithClientTrace(t.Context(),
		&httptrace.ClientTrace{GotConn: func(info httptrace.GotConnInfo) {
			used++
			if !info.Reused {
				dialled++
			}
		}})
	failed := 0
	for range 1000 {
		resp, err := client.Do(ctx, requestWithID(PollsGet, "1"))
		if err != nil || resp.StatusCode >= 400 || len(resp.Attempts) > 1 {
			failed++
		}
	}
	assert.Equal(t, 1, dialled, "connections")
	assert.Equal(t, requests, used)
	assert.Greater(t, failed, 200)
}

// pipes is a listener in memory.
type pipes struct {
	accepted chan net.Conn
	closed   chan struct{}
	once     sync.Once
}

func (p *pipes) dial(ctx context.Context, _, _ string) (net.Conn, error) {
	near, far := net.Pipe()
	select {
	case p.accepted <- far:
		return near, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

func (p *pipes) Accept() (net.Conn, error) {
	select {
	case conn := <-p.accepted:
		return conn, nil
	case <-p.closed:
		return nil, net.ErrClosed
	}
}

func (p *pipes) Close() error {
	p.once.Do(func() { close(p.closed) })
	return nil
}

func (p *pipes) Addr() net.Addr { return &net.TCPAddr{} }

func TestAGzipBombMeetsTheCap(t *testing.T) {
	t.Parallel()
	var bomb bytes.Buffer
	gz := gzip.NewWriter(&bomb)
	for range 8 {
		_, _ = gz.Write(make([]byte, 1<<20))
	}
	require.NoError(t, gz.Close())
	client := serve(t, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Encoding", "gzip")
		_, _ = w.Write(bomb.Bytes())
	}, func(c *Config) { c.MaxBody = 1 << 20 })
	_, err := client.Do(t.Context(), request(PollsList))
	require.ErrorIs(t, err, ErrBodyTooLarge)
	require.ErrorContains(t, err, strconv.Itoa(1<<20))
	assert.Len(t, failure(t, err).Attempts, 1)
}

func TestHeadersAreBounded(t *testing.T) {
	t.Parallel()
	client := serve(t, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("X-Large", strings.Repeat("x", 300<<10))
	}, func(c *Config) { c.MaxRetries = -1 })
	_, err := client.Do(t.Context(), request(PollsList))
	require.ErrorContains(t, err, "headers exceeded")
}

func TestARedirectToAnotherHostIsNotMade(t *testing.T) {
	t.Parallel()
	other := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {
		t.Error("the other host was asked")
	}))
	defer other.Close()
	client := serve(t, func(w http.ResponseWriter, r *http.Request) {
		http.Redirect(w, r, other.URL+"/polls?signature=hunter2", http.StatusTemporaryRedirect)
	})
	_, err := client.Do(t.Context(), request(PollsList))
	require.ErrorIs(t, err, ErrRedirect)
	assert.NotContains(t, err.Error(), "hunter2")
}

func TestAServerThatSpeaksNoTLSIsNotAskedAgain(t *testing.T) {
	t.Parallel()
	server := httptest.NewServer(http.NotFoundHandler())
	defer server.Close()
	client := newClient(t, nil, func(c *Config) {
		c.BaseURL = strings.Replace(server.URL, "http:", "https:", 1)
	})
	defer client.Close()
	_, err := client.Do(t.Context(), request(PollsCreate))
	f := failure(t, err)
	assert.Len(t, f.Attempts, 1)
	assert.False(t, f.MaybeApplied)
}

func TestAnUntrustedCertificateIsNotAskedAgain(t *testing.T) {
	t.Parallel()
	server := httptest.NewUnstartedServer(http.NotFoundHandler())
	server.Config.ErrorLog = log.New(io.Discard, "", 0)
	server.StartTLS()
	defer server.Close()
	client := newClient(t, nil, func(c *Config) { c.BaseURL = server.URL })
	defer client.Close()
	_, err := client.Do(t.Context(), request(PollsCreate))
	f := failure(t, err)
	assert.Len(t, f.Attempts, 1)
	assert.False(t, f.MaybeApplied)
	assert.ErrorContains(t, err, "certificate")
}

func TestTimeoutsHoldOnSockets(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		handler http.HandlerFunc
		limit   string
	}{
		"no headers": {
			handler: func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() },
			limit:   "attempt",
		},
		"a body that goes silent": {handler: func(w http.ResponseWriter, r *http.Request) {
			_, _ = io.WriteString(w, `{"id":`)
			_ = http.NewResponseController(w).Flush()
			<-r.Context().Done()
		}, limit: "stall"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			client := serve(t, tt.handler, func(c *Config) {
				c.MaxRetries = -1
				c.AttemptTimeout, c.StallTimeout = time.Minute, time.Minute
				if tt.limit == "attempt" {
					c.AttemptTimeout = 30 * time.Millisecond
				} else {
					c.StallTimeout = 30 * time.Millisecond
				}
			})
			_, err := client.Do(t.Context(), request(PollsList))
			require.ErrorContains(t, err, tt.limit+" timeout")
		})
	}
}

// TestACreateOnAConnectionTheServerClosed checks that a create is not sent again if it may have
// been sent. net/http may notice too late that the server has closed an idle connection.
func TestACreateOnAConnectionTheServerClosed(t *testing.T) {
	t.Parallel()
	var seen atomic.Int64
	server := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {
		seen.Add(1)
	}))
	defer server.Close()
	client := newClient(t, nil, func(c *Config) { c.BaseURL = server.URL })
	defer client.Close()
	for range 20 {
		before := seen.Load()
		_, err := client.Do(t.Context(), &Request{Operation: PollsCreate, Body: []byte("{}")})
		if err != nil {
			assert.True(t, failure(t, err).MaybeApplied)
		}
		assert.LessOrEqual(t, seen.Load()-before, int64(1))
		server.CloseClientConnections()
	}
}
