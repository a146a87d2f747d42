package transport

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// The error of a proxy that refuses to connect says that it is the proxy's, in words of our own.
func TestProxyAnswered(t *testing.T) {
	t.Parallel()
	for status, want := range map[int]string{
		200: "",
		403: "the proxy refused to connect: 403 Forbidden",
		407: "the proxy refused to connect: 407 Proxy Authentication Required " +
			"(it needs another user or password)",
		301: "the proxy refused to connect: 301 Moved Permanently",
	} {
		answer := &http.Response{StatusCode: status, Status: "407 user:password"}
		err := proxyAnswered(t.Context(), nil, nil, answer)
		if want == "" {
			require.NoError(t, err)
			continue
		}
		require.EqualError(t, err, want)
	}
}

// connectProxy answers CONNECT with a status.
func connectProxy(status string) func(net.Conn) {
	return func(conn net.Conn) {
		_, _ = http.ReadRequest(bufio.NewReader(conn))
		_, _ = io.WriteString(conn, "HTTP/1.1 "+status+"\r\nContent-Length: 0\r\n\r\n")
		_ = conn.Close()
	}
}

// socksProxy sends a reply after each number of bytes that it has read.
func socksProxy(steps ...any) func(net.Conn) {
	return func(conn net.Conn) {
		for _, step := range steps {
			switch step := step.(type) {
			case int:
				_, _ = io.CopyN(io.Discard, conn, int64(step))
			case string:
				_, _ = io.WriteString(conn, step)
			}
		}
		_ = conn.Close()
	}
}

// What a proxy refuses by its rules or for want of a password is not asked again. What may pass is,
// also for a create, because nothing was sent.
func TestAProxyThatRefusesIsAskedAgainOnlyIfThatMayPass(t *testing.T) {
	t.Parallel()
	const (
		name  = "api.test:443"
		hello = len("\x05\x02\x00\x02")
		dial  = len("\x05\x01\x00\x03\x08api.test\x01\xbb")
		login = len("\x01\x04user\x06hunter")
	)
	reply := func(code string) string { return "\x05" + code + "\x00\x01\x00\x00\x00\x00\x00\x00" }
	for _, tt := range []struct {
		name   string
		handle func(net.Conn)
		socks  bool
		again  bool
		login  bool
	}{
		{name: "403 Forbidden", handle: connectProxy("403 Forbidden")},
		{name: "404 Not Found", handle: connectProxy("404 Not Found")},
		{name: "405 Method Not Allowed", handle: connectProxy("405 Method Not Allowed")},
		{name: "407", handle: connectProxy("407 Who are you"), login: true},
		{name: "302 Found", handle: connectProxy("302 Found")},
		{name: "204 No Content", handle: connectProxy("204 No Content")},
		{name: "408 Request Timeout", handle: connectProxy("408 Request Timeout"), again: true},
		{name: "429 Too Many Requests", handle: connectProxy("429 Too Many Requests"), again: true},
		{name: "500 Internal Server Error", handle: connectProxy("500 Oops"), again: true},
		{name: "502 Bad Gateway", handle: connectProxy("502 Bad Gateway"), again: true},
		{name: "503 Service Unavailable", handle: connectProxy("503 Unavailable"), again: true},
		{name: "no known method", handle: socksProxy(hello, "\x05\xff"), socks: true, login: true},
		{
			name: "a wrong password", handle: socksProxy(hello, "\x05\x02", login, "\x01\x01"),
			socks: true, login: true,
		},
		{
			name: "a rule", handle: socksProxy(hello, "\x05\x00", dial, reply("\x02")), socks: true,
		},
		{
			name: "a failure", handle: socksProxy(hello, "\x05\x00", dial, reply("\x01")),
			socks: true, again: true,
		},
		{
			name: "no route", handle: socksProxy(hello, "\x05\x00", dial, reply("\x04")),
			socks: true, again: true,
		},
		{name: "silence", handle: socksProxy(hello), socks: true, again: true},
	} {
		for _, op := range []Operation{SessionsCreate, PollsList} {
			t.Run(tt.name+" "+op.Name, func(t *testing.T) {
				t.Parallel()
				proxy := url.URL{
					Scheme: "http", User: url.UserPassword("user", "hunter"),
					Host: listen(t, tt.handle).Addr().String(),
				}
				if tt.socks {
					proxy.Scheme = "socks5"
				}
				client := newClient(t, nil, func(c *Config) {
					c.BaseURL, c.Proxy = "https://"+name, http.ProxyURL(&proxy)
					c.RetryWaitMin, c.RetryWaitMax, c.MaxRetries = 1, 1, 2
				})
				t.Cleanup(client.Close)
				_, err := client.Do(t.Context(), request(op))
				f := failure(t, err)
				want := 1
				if tt.again {
					want = 3
				}
				assert.Len(t, f.Attempts, want, "%v", err)
				assert.True(t, f.NotSent, "%v", err)
				assert.False(t, f.MaybeApplied)
				assert.Equal(t, tt.login, ProxyRefusesLogin(err), "%v", err)
				assert.Equal(t, !tt.again, Unreachable(err), "%v", err)
				assert.NotContains(t, err.Error(), "hunter")
			})
		}
	}
}

// wrapped is another kind of transport.
type wrapped struct{ http.RoundTripper }

// An http.Transport of the caller's says no more of a refusal than the words of its status. The
// usual words are understood. From another kind of transport they may be about an answer.
func TestAProxyOfTheCallersTransport(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		status   string
		wrapped  bool
		attempts int
		text     string
	}{
		{status: "403 Forbidden", attempts: 1, text: "the proxy refused to connect: 403 Forbidden"},
		{status: "407 Proxy Authentication Required", attempts: 1, text: "another user or password"},
		{status: "503 Service Unavailable", attempts: 3, text: "the proxy refused to connect: 503"},
		{status: "403 Not you", attempts: 3, text: "Not you"},
		{status: "403 Forbidden", wrapped: true, attempts: 3, text: "Forbidden"},
	} {
		for _, op := range []Operation{SessionsCreate, PollsList} {
			t.Run(fmt.Sprint(tt.status, tt.wrapped, op.Name), func(t *testing.T) {
				t.Parallel()
				proxy := url.URL{Scheme: "http", Host: listen(t, connectProxy(tt.status)).Addr().String()}
				own := &http.Transport{Proxy: http.ProxyURL(&proxy)}
				t.Cleanup(own.CloseIdleConnections)
				client := newClient(t, nil, func(c *Config) {
					c.BaseURL, c.Transport = "https://api.test", own
					if tt.wrapped {
						c.Transport = wrapped{own}
					}
					c.RetryWaitMin, c.RetryWaitMax, c.MaxRetries = 1, 1, 2
				})
				_, err := client.Do(t.Context(), request(op))
				f := failure(t, err)
				assert.Len(t, f.Attempts, tt.attempts, "%v", err)
				require.ErrorContains(t, f.Cause, tt.text)
				if op.Once() || !tt.wrapped {
					assert.False(t, f.MaybeApplied)
				}
			})
		}
	}
}
