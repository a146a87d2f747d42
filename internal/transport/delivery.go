package transport

import (
	"bytes"
	"context"
	"crypto/tls"
	"io"
	"net"
	"net/http"
	"net/http/httptrace"
	"sync/atomic"
)

// deliver is the link that records whether a request was sent. A request that
// changes nothing is only recorded while attempts fail, for the text of its error:
// recording costs allocations. If a request must not be sent twice, deliver also
// removes what net/http needs to repeat it: net/http repeats requests when the
// server resets an HTTP/2 connection.
type deliver struct{ next http.RoundTripper }

func (d deliver) RoundTrip(req *http.Request) (*http.Response, error) {
	call := callFrom(req.Context())
	if !call.changes() && call.client.outage.healthy.Load() {
		return d.next.RoundTrip(req)
	}
	call.delivery = &delivery{}
	req = req.WithContext(call.delivery.trace(req.Context()))
	if call.once() {
		// Neither nil nor http.NoBody, because net/http also repeats a request without a body.
		if req.GetBody = nil; req.Body == nil || req.Body == http.NoBody {
			req.Body = io.NopCloser(bytes.NewReader(nil))
		}
	}
	return d.next.RoundTrip(req)
}

// delivery is what net/http reports about one attempt. Another kind of
// transport reports nothing.
type delivery struct {
	wanted    atomic.Bool // a connection was asked for
	connected atomic.Bool // a connection was obtained
	conn      atomic.Pointer[countingConn]
	before    int64 // bytes that conn had sent before this request
}

func (d *delivery) trace(ctx context.Context) context.Context {
	return httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{
		GetConn: func(string) { d.wanted.Store(true) },
		GotConn: func(info httptrace.GotConnInfo) {
			if counting := unwrapConn(info.Conn); counting != nil && !d.connected.Load() {
				d.before = counting.written.Load()
				d.conn.Store(counting)
			} else {
				d.conn.Store(nil) // a second connection: nothing can be proven now
			}
			d.connected.Store(true)
		},
	})
}

// notSent reports whether the request was not sent. Either there was no
// connection (no dial, TLS handshake or CONNECT succeeded), or the connection
// broke before the first byte of the request.
func (d *delivery) notSent() bool {
	if d == nil || !d.wanted.Load() {
		return false
	}
	if !d.connected.Load() {
		return true
	}
	conn := d.conn.Load()
	return conn != nil && conn.written.Load() == d.before
}

// noConnection reports whether net/http, if it made the attempt, has obtained no
// connection for it. It may have failed before it asked for one: a proxy function
// returns an error.
func (d *delivery) noConnection() bool { return d != nil && !d.connected.Load() }

// hasConnection reports whether the attempt is known to have obtained one.
func (d *delivery) hasConnection() bool { return d != nil && d.connected.Load() }

// countingConn counts what is sent on a connection.
type countingConn struct {
	net.Conn

	written atomic.Int64
}

// Write counts before it writes: what may be on the wire is counted.
func (c *countingConn) Write(p []byte) (int, error) {
	c.written.Add(int64(len(p)))
	return c.Conn.Write(p)
}

type dialFunc func(ctx context.Context, network, addr string) (net.Conn, error)

// counted returns a dial whose connections count what is sent on them.
func counted(dial dialFunc) dialFunc {
	return func(ctx context.Context, network, addr string) (net.Conn, error) {
		conn, err := dial(ctx, network, addr)
		if err != nil {
			return nil, err
		}
		return &countingConn{Conn: conn}, nil
	}
}

// unwrapConn returns the counting connection below one of HTTP/1, or nil: those
// of HTTP/2 carry other requests as well.
func unwrapConn(conn net.Conn) *countingConn {
	if secure, ok := conn.(*tls.Conn); ok {
		if secure.ConnectionState().NegotiatedProtocol == "h2" {
			return nil
		}
		conn = secure.NetConn()
	}
	counting, _ := conn.(*countingConn)
	return counting
}
