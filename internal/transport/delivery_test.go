package transport

import (
	"bufio"
	"cmp"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httptrace"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jarcoal/httpmock"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// The parts of HTTP/2 frames (RFC 9113) that the tests need.
const (
	frameData     = 0x0
	frameHeaders  = 0x1
	frameReset    = 0x3
	frameSettings = 0x4
	framePing     = 0x6
	frameGoAway   = 0x7

	endStream  = 0x1
	endHeaders = 0x4
	ack        = 0x1

	codeNone     = 0x0
	codeProtocol = 0x1
	codeInternal = 0x2
	codeRefused  = 0x7
	codeCalm     = 0xb
)

// peer is the server's side of one HTTP/2 connection, at the level of frames.
type peer struct {
	net.Conn

	requests *atomic.Int64 // on all connections
}

func (p *peer) send(kind, flags byte, stream uint32, payload ...byte) {
	frame := make([]byte, 9, 9+len(payload))
	frame[2] = byte(len(payload))
	frame[3], frame[4] = kind, flags
	binary.BigEndian.PutUint32(frame[5:], stream)
	_, _ = p.Write(append(frame, payload...)) // the client may have closed the connection
}

func (p *peer) code(kind byte, stream uint32, values ...uint32) {
	var payload []byte
	for _, v := range values {
		payload = binary.BigEndian.AppendUint32(payload, v)
	}
	p.send(kind, 0, stream, payload...)
}

// answer ends the stream with :status 200.
func (p *peer) answer(stream uint32) { p.send(frameHeaders, endHeaders|endStream, stream, 0x88) }

// serve calls request for each complete request, with its number across all connections and its
// stream.
func (p *peer) serve(request func(p *peer, n int, stream uint32)) {
	defer func() { _ = p.Close() }()
	r := bufio.NewReader(p.Conn)
	if _, err := io.CopyN(io.Discard, r, int64(len("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"))); err != nil {
		return
	}
	p.send(frameSettings, 0, 0)
	for {
		var header [9]byte
		if _, err := io.ReadFull(r, header[:]); err != nil {
			return
		}
		length := int64(header[0])<<16 | int64(header[1])<<8 | int64(header[2])
		payload, err := io.ReadAll(io.LimitReader(r, length)) //nolint:forbidigo // bounded
		if err != nil {
			return
		}
		kind, flags, stream := header[3], header[4], binary.BigEndian.Uint32(header[5:])
		switch {
		case kind == frameSettings && flags&ack == 0:
			p.send(frameSettings, ack, 0)
		case kind == framePing && flags&ack == 0:
			p.send(framePing, ack, 0, payload...)
		case (kind == frameHeaders || kind == frameData) && flags&endStream != 0:
			request(p, int(p.requests.Add(1)), stream)
		}
	}
}

// tlsFor returns matching TLS configurations for a server and a client.
func tlsFor(t *testing.T) (server, client *tls.Config) {
	t.Helper()
	s := httptest.NewTLSServer(http.NotFoundHandler())
	defer s.Close()
	roots := x509.NewCertPool()
	roots.AddCert(s.Certificate())
	return &tls.Config{Certificates: s.TLS.Certificates, NextProtos: []string{"h2"}}, &tls.Config{
		RootCAs: roots,
	}
}

// listen calls handle for each connection, and closes all of them at the end of the test.
func listen(t *testing.T, handle func(net.Conn)) net.Listener {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0") //nolint:noctx // a test's
	require.NoError(t, err)
	var wg sync.WaitGroup
	var mu sync.Mutex
	var open []net.Conn
	wg.Go(func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			mu.Lock()
			open = append(open, conn)
			mu.Unlock()
			wg.Go(func() { handle(conn) })
		}
	})
	t.Cleanup(func() {
		_ = listener.Close()
		mu.Lock()
		for _, conn := range open {
			_ = conn.Close()
		}
		mu.Unlock()
		wg.Wait()
	})
	return listener
}

// serveHTTP2 returns a client of an HTTP/2 server whose frames the test sends itself, and a counter
// of the requests.
func serveHTTP2(
	t *testing.T, request func(p *peer, n int, stream uint32), edit ...func(*Config),
) (*Client, *atomic.Int64) {
	t.Helper()
	serverTLS, clientTLS := tlsFor(t)
	requests := new(atomic.Int64)
	listener := listen(t, func(conn net.Conn) {
		(&peer{Conn: tls.Server(conn, serverTLS), requests: requests}).serve(request)
	})
	own := newTransport(nil)
	own.TLSClientConfig = clientTLS
	own.HTTP2.SendPingTimeout, own.HTTP2.PingTimeout = 100*time.Millisecond, 100*time.Millisecond
	t.Cleanup(own.CloseIdleConnections)
	return newClient(t, own, append(edit, func(c *Config) {
		c.BaseURL = "https://" + listener.Addr().String()
		c.RetryWaitMin, c.RetryWaitMax = 1, 1
	})...), requests
}

// TestACreateIsSentOnceOverHTTP2 checks that no create is sent twice. net/http would repeat a
// request that the server resets with PROTOCOL_ERROR, although the server may have acted on it.
func TestACreateIsSentOnceOverHTTP2(t *testing.T) {
	t.Parallel()
	reset := func(code uint32) func(*peer, int, uint32) {
		return func(p *peer, _ int, stream uint32) { p.code(frameReset, stream, code) }
	}
	for _, tt := range []struct {
		name    string
		request func(*peer, int, uint32)
	}{
		{name: "reset with PROTOCOL_ERROR", request: reset(codeProtocol)},
		{name: "reset with INTERNAL_ERROR", request: reset(codeInternal)},
		{name: "reset with NO_ERROR", request: reset(codeNone)},
		{name: "reset with ENHANCE_YOUR_CALM", request: reset(codeCalm)},
		{name: "a GOAWAY that counts it, then the end", request: func(p *peer, _ int, stream uint32) {
			p.code(frameGoAway, 0, stream, codeNone)
			_ = p.Close()
		}},
		{name: "the end", request: func(p *peer, _ int, _ uint32) { _ = p.Close() }},
		{
			name:    "silence",
			request: func(p *peer, _ int, _ uint32) { _, _ = io.Copy(io.Discard, p.Conn) },
		},
	} {
		for name, body := range map[string][]byte{"with a body": []byte(`{"a":1}`), "without": nil} {
			t.Run(tt.name+" "+name, func(t *testing.T) {
				t.Parallel()
				client, requests := serveHTTP2(t, tt.request)
				_, err := client.Do(t.Context(), &Request{Operation: SessionsCreate, Body: body})
				f := failure(t, err)
				assert.True(t, f.MaybeApplied, "%v", err)
				assert.Len(t, f.Attempts, 1)
				assert.EqualValues(t, 1, requests.Load())
			})
		}
	}
}

func TestWhatHTTP2ServersDoNotProcessIsSentAgain(t *testing.T) {
	t.Parallel()
	goAway := func(code uint32) func(*peer, uint32) {
		return func(p *peer, _ uint32) { p.code(frameGoAway, 0, 0, code) }
	}
	for _, tt := range []struct {
		name   string
		refuse func(*peer, uint32)
	}{
		{
			name:   "REFUSED_STREAM",
			refuse: func(p *peer, stream uint32) { p.code(frameReset, stream, codeRefused) },
		},
		{name: "a GOAWAY from before it", refuse: goAway(codeNone)},
		{name: "a GOAWAY with an error", refuse: goAway(codeCalm)},
	} {
		for name, body := range map[string][]byte{"with a body": []byte(`{"a":1}`), "without": nil} {
			t.Run(tt.name+" "+name, func(t *testing.T) {
				t.Parallel()
				client, requests := serveHTTP2(t, func(p *peer, n int, stream uint32) {
					if n < 3 {
						tt.refuse(p, stream)
						return
					}
					p.answer(stream)
				})
				resp, err := client.Do(t.Context(), &Request{Operation: SessionsCreate, Body: body})
				require.NoError(t, err)
				assert.Len(t, resp.Attempts, 3)
				assert.False(t, resp.MaybeApplied)
				assert.EqualValues(t, 3, requests.Load())

				client, _ = serveHTTP2(t, func(p *peer, _ int, stream uint32) { tt.refuse(p, stream) },
					func(c *Config) { c.MaxRetries = 1 })
				_, err = client.Do(t.Context(), &Request{Operation: SessionsCreate, Body: body})
				assert.False(t, failure(t, err).MaybeApplied, "%v", err)
			})
		}
	}
}

// An error text that only quotes such an error does not prove that nothing was sent.
func TestNotSentTrustsNoQuotation(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]bool{
		"stream error: stream ID 7; REFUSED_STREAM; received from peer": true,
		"http2: Transport: cannot retry err [stream error: stream ID 1; REFUSED_STREAM; received from " +
			"peer] after R": true,
		"http2: Transport: cannot retry err [stream error: stream ID 1; PROTOCOL_ERROR; received from " +
			"peer] after R": false,
		`http2: server sent GOAWAY and closed the connection; LastStreamID=1, ErrCode=NO_ERROR,` +
			` debug="REFUSED_STREAM"`: false,
		"stream error: stream ID 7; CANCEL; REFUSED_STREAM":           false,
		"net/http: TLS handshake timeout":                             true,
		"unexpected answer: net/http: TLS handshake timeout, it said": false,
	} {
		err := errors.New(text)
		assert.Equal(t, want, notSent(err) || isRefusedStream(err), text)
	}
	assert.False(t, notSent(nil))
}

func TestASilentHTTP2ConnectionIsReplaced(t *testing.T) {
	t.Parallel()
	assert.LessOrEqual(t, newTransport(nil).HTTP2.SendPingTimeout+newTransport(nil).HTTP2.PingTimeout,
		10*time.Second)
	var silent atomic.Bool
	client, _ := serveHTTP2(t, func(p *peer, n int, stream uint32) {
		if n == 2 {
			silent.Store(true)
			_, _ = io.Copy(io.Discard, p.Conn) // as if a NAT had forgotten the connection
			return
		}
		p.answer(stream)
	})
	for range 3 {
		began := time.Now()
		resp, err := client.Do(t.Context(), request(PollsList))
		require.NoError(t, err)
		assert.LessOrEqual(t, len(resp.Attempts), 2)
		assert.Less(t, time.Since(began), 20*time.Second)
	}
	assert.True(t, silent.Load())
}

// TestWithoutAConnectionNothingWasSent checks that a call counts as not sent if its attempts end
// before there is a connection. A create is then sent again.
func TestWithoutAConnectionNothingWasSent(t *testing.T) {
	t.Parallel()
	hang := func(conn net.Conn) { _, _ = io.Copy(io.Discard, conn) }
	for _, tt := range []struct {
		name   string
		handle func(net.Conn)
		proxy  bool
		final  bool
		host   string // to dial instead
		edit   func(*http.Transport)
	}{
		{name: "a handshake that never ends", handle: hang},
		{
			name: "a handshake that takes too long", handle: hang,
			edit: func(t *http.Transport) { t.TLSHandshakeTimeout = 30 * time.Millisecond },
		},
		{
			name:   "a handshake that ends in EOF",
			handle: func(conn net.Conn) { _ = conn.Close() },
		},
		{name: "a handshake that ends in a reset", handle: func(conn net.Conn) {
			_ = conn.(*net.TCPConn).SetLinger(0) //nolint:forcetypeassert // it is
			_ = conn.Close()
		}, proxy: false, edit: nil},
		{
			name: "a server without TLS", final: true,
			handle: func(conn net.Conn) {
				_, _ = io.WriteString(conn, "HTTP/1.1 400 Bad Request\r\n\r\n")
				_ = conn.Close()
			},
		},
		{
			name: "half a handshake",
			handle: func(conn net.Conn) {
				_, _ = io.CopyN(io.Discard, conn, 100)
				_, _ = conn.Write([]byte{0x16, 3, 3, 0, 50, 2})
				_ = conn.Close()
			},
		},
		{name: "a closed port", handle: hang, host: "127.0.0.1:1"},
		{name: "no such name", handle: hang, host: "api.invalid:443", final: true, edit: noDNS(true)},
		{name: "no answer of DNS", handle: hang, host: "api.invalid:443", edit: noDNS(false)},
		{name: "a proxy that never answers CONNECT", handle: hang, proxy: true},
		{
			name:   "a proxy that hangs up",
			handle: func(conn net.Conn) { _ = conn.Close() },
			proxy:  true,
		},
		{name: "a proxy whose tunnel is silent", handle: func(conn net.Conn) {
			_, _ = http.ReadRequest(bufio.NewReader(conn))
			_, _ = io.WriteString(conn, "HTTP/1.1 200 OK\r\n\r\n")
		}, proxy: true},
	} {
		for _, op := range []Operation{SessionsCreate, PollsList} {
			t.Run(tt.name+" "+op.Name, func(t *testing.T) {
				t.Parallel()
				listener := listen(t, tt.handle)
				own := newTransport(nil)
				if tt.edit != nil {
					tt.edit(own)
				}
				base := "https://" + cmp.Or(tt.host, listener.Addr().String())
				if tt.proxy {
					base = testBase
					own.Proxy = http.ProxyURL(&url.URL{Scheme: "http", Host: listener.Addr().String()})
				}
				t.Cleanup(own.CloseIdleConnections)
				client := newClient(t, own, func(c *Config) {
					c.BaseURL, c.AttemptTimeout, c.MaxRetries = base, 200*time.Millisecond, 1
					c.RetryWaitMin, c.RetryWaitMax = 1, 1
				})
				_, err := client.Do(t.Context(), request(op))
				f := failure(t, err)
				assert.False(t, f.MaybeApplied, "%v", err)
				assert.True(t, f.NotSent, "%v", err)
				assert.Equal(t, !tt.final, len(f.Attempts) == 2, "it is safe to try again: %v", err)
			})
		}
	}
}

// noDNS makes all names unknown, or their servers fail.
func noDNS(notFound bool) func(*http.Transport) {
	return func(t *http.Transport) {
		t.DialContext = func(_ context.Context, network, addr string) (net.Conn, error) {
			return nil, &net.OpError{Op: "dial", Net: network, Err: &net.DNSError{
				Err: "no such host", Name: addr, IsNotFound: notFound, IsTemporary: !notFound,
			}}
		}
	}
}

// An attempt that may have been sent is not hidden by a later one that was not.
func TestACallWasSentIfOneAttemptWas(t *testing.T) {
	t.Parallel()
	dial := &net.OpError{Op: "dial", Err: errors.New("refused")}
	for name, tt := range map[string]struct {
		first httpmock.Responder
		want  bool
	}{
		"a dial":      {first: fails(dial), want: true},
		"an answer":   {first: status(503), want: false},
		"a lost read": {first: fails(errReset), want: false},
		"REFUSED_STREAM": {
			first: fails(errors.New("stream error: stream ID 1; REFUSED_STREAM")), want: false,
		},
	} {
		mock := play(tt.first, fails(dial))
		_, err := newClient(t, mock, func(c *Config) {
			c.MaxRetries, c.RetryWaitMin, c.RetryWaitMax = 1, 1, 1
		}).Do(t.Context(), request(PollsList))
		f := failure(t, err)
		assert.Len(t, f.Attempts, 2, name)
		assert.Equal(t, tt.want, f.NotSent, name)
	}
}

// TestWhatIsInjectedIntoAConnectionProvesNothing checks that a create which was sent counts as sent
// although the connection then breaks in a way that looks like a failed handshake.
func TestWhatIsInjectedIntoAConnectionProvesNothing(t *testing.T) {
	t.Parallel()
	for name, junk := range map[string]string{
		"HTTP in clear": "HTTP/1.1 502 Bad Gateway\r\n\r\n",
		"a record":      "\x16\x02\x00\x00\x05hello",
	} {
		for _, protocol := range []string{"http/1.1", "h2"} {
			t.Run(name+" "+protocol, func(t *testing.T) {
				t.Parallel()
				serverTLS, clientTLS := tlsFor(t)
				serverTLS.NextProtos = []string{protocol}
				listener := listen(t, func(conn net.Conn) {
					secure := tls.Server(conn, serverTLS)
					_, _ = secure.Read(make([]byte, 1)) // the request has begun
					_, _ = io.WriteString(conn, junk)
					_, _ = io.Copy(io.Discard, conn)
				})
				own := newTransport(nil)
				own.TLSClientConfig = clientTLS
				t.Cleanup(own.CloseIdleConnections)
				client := newClient(t, own, func(c *Config) {
					c.BaseURL = "https://" + listener.Addr().String()
				})
				_, err := client.Do(t.Context(), &Request{Operation: SessionsCreate, Body: []byte("{}")})
				f := failure(t, err)
				assert.True(t, f.MaybeApplied, "%v", err)
				assert.False(t, f.NotSent, "%v", err)
				assert.Len(t, f.Attempts, 1, "%v", err)
			})
		}
	}
}

// If the server has just closed the connection, a create is sent again only if no byte of it may
// have been written.
func TestAConnectionThatBreaksBeforeTheRequest(t *testing.T) {
	t.Parallel()
	near, far := net.Pipe()
	_ = far.Close()
	counting := &countingConn{Conn: near}
	d := &delivery{}
	d.wanted.Store(true)
	d.connected.Store(true)
	d.conn.Store(counting)
	assert.True(t, d.notSent())
	_, err := counting.Write([]byte("POST"))
	require.Error(t, err)
	assert.False(t, d.notSent(), "a failed write may have been sent")
	assert.False(t, (*delivery)(nil).notSent())

	// net/http took another connection after all: it may have used the first.
	d = &delivery{}
	got := httptrace.ContextClientTrace(d.trace(t.Context())).GotConn
	d.wanted.Store(true)
	got(httptrace.GotConnInfo{Conn: counting})
	assert.True(t, d.notSent())
	got(httptrace.GotConnInfo{Conn: &countingConn{Conn: near}})
	assert.False(t, d.notSent())
	assert.False(t, new(delivery).notSent(), "a transport that reports nothing proves nothing")
}

func TestACreateCarriesNothingToRepeatItWith(t *testing.T) {
	t.Parallel()
	for _, op := range []Operation{
		SessionsCreate, KeysRotate,
		Custom("Call POST /x", http.MethodPost, "/x"),
	} {
		for name, body := range map[string][]byte{"with a body": []byte("{}"), "without": nil} {
			for _, replay := range []bool{false, true} {
				mock := play(status(503))
				req := &Request{Operation: op, Body: body, Replay: replay}
				if strings.Contains(op.Path, "{id}") {
					req.ID = "1"
				}
				_, err := newClient(t, mock, func(c *Config) { c.MaxRetries = -1 }).Do(t.Context(), req)
				require.NoError(t, err)
				sent := mock.seen[0]
				if !replay {
					assert.Nil(t, sent.GetBody, "%s %s", op.Name, name)
					assert.NotNil(t, sent.Body)
					assert.NotEqual(t, http.NoBody, sent.Body, "net/http repeats a request without a body")
				}
				for header := range sent.Header {
					assert.NotContains(t, strings.ToLower(header), "idempotency")
				}
			}
		}
	}
}

// TestStatusesThatAnswerNothing checks that such answers end immediately or with the attempt's
// timeout, and that a call can be cancelled meanwhile.
func TestStatusesThatAnswerNothing(t *testing.T) {
	t.Parallel()
	raw := func(text string, repeat bool) func(net.Conn) {
		return func(conn net.Conn) {
			_, _ = http.ReadRequest(bufio.NewReader(conn))
			for {
				if _, err := io.WriteString(conn, text); err != nil || !repeat {
					break
				}
			}
			_, _ = io.Copy(io.Discard, conn)
		}
	}
	const upgrade = "Upgrade: x\r\nConnection: Upgrade\r\n\r\n"
	for _, tt := range []struct {
		name   string
		handle func(net.Conn)
		status int
	}{
		{
			name:   "101 and silence",
			handle: raw("HTTP/1.1 101 Switching Protocols\r\n"+upgrade, false),
			status: 101,
		},
		{
			name:   "101 with a length",
			handle: raw("HTTP/1.1 101 Switching Protocols\r\nContent-Length: 5\r\n"+upgrade, false),
			status: 101,
		},
		{name: "100 and silence", handle: raw("HTTP/1.1 100 Continue\r\n\r\n", false), status: 0},
		{name: "102 for ever", handle: raw("HTTP/1.1 102 Processing\r\n\r\n", true), status: 0},
		{
			name:   "103 for ever",
			handle: raw("HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n", true),
			status: 0,
		},
		{name: "199", handle: raw("HTTP/1.1 199 Odd\r\n\r\n", false), status: 0},
		{name: "half a header", handle: raw("HTTP/1.1 200 OK\r\nContent-Le", false), status: 0},
		{
			name:   "200 and half a body",
			handle: raw("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n{", false),
			status: 200,
		},
	} {
		for _, op := range []Operation{PollsList, PollsCreate} {
			t.Run(tt.name+" "+op.Name, func(t *testing.T) {
				t.Parallel()
				listener := listen(t, tt.handle)
				client := newClient(t, nil, func(c *Config) {
					c.BaseURL, c.MaxRetries = "http://"+listener.Addr().String(), -1
					c.AttemptTimeout, c.StallTimeout = 300*time.Millisecond, 300*time.Millisecond
				})
				t.Cleanup(client.Close)
				began := time.Now()
				_, err := client.Do(t.Context(), request(op))
				f := failure(t, err)
				assert.Less(t, time.Since(began), 10*time.Second)
				assert.Equal(t, op.Method != http.MethodGet, f.MaybeApplied)
				assert.Equal(t, tt.status, f.Attempts[0].StatusCode, "%v", err)
			})
		}
	}
}

func TestEveryListedStatusEnds(t *testing.T) {
	t.Parallel()
	for _, code := range []int{
		-1, 0, 1, 99, 100, 101, 150, 199, 206, 226, 299, 300, 304, 306, 399,
		418, 451, 499, 599, 600, 999,
	} {
		mock := play(status(code))
		resp, err := newClient(t, mock, func(c *Config) { c.MaxRetries = -1 }).Do(t.Context(),
			request(PollsCreate))
		switch {
		case code < 200:
			require.ErrorContains(t, err, "does not answer the request", code)
			assert.True(t, failure(t, err).MaybeApplied)
		case code/100 == 3:
			require.ErrorIs(t, err, ErrRedirect)
		default:
			require.NoError(t, err)
			assert.Equal(t, code, resp.StatusCode)
		}
	}
}

// net/http can fail before it asks for a connection.
func TestAFailureBeforeAConnectionIsNotSent(t *testing.T) {
	t.Parallel()
	proxy := func(*http.Request) (*url.URL, error) { return nil, errors.New("no such script") }
	client := newClient(t, nil, func(c *Config) { c.Proxy, c.MaxRetries = proxy, -1 })
	_, err := client.Do(t.Context(), &Request{Operation: SessionsCreate, Body: []byte("{}")})
	failure, ok := errors.AsType[*Failure](err)
	require.True(t, ok, "%v", err)
	require.ErrorContains(t, err, "no such script")
	assert.False(t, failure.MaybeApplied)
}
