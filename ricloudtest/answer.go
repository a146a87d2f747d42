package ricloudtest

import (
	"bytes"
	"context"
	"errors"
	"io"
	"maps"
	"net"
	"net/http"
	"strconv"
	"syscall"
	"time"
)

// answer is what a request gets, over a socket or in memory alike.
type answer struct {
	status   int
	header   http.Header
	body     io.Reader
	size     int64
	declared int64         // the Content-Length header, usually size
	drip     time.Duration // the pause before each byte
	reset    bool          // break the connection instead
	hang     bool          // say nothing until the client goes
	over     <-chan struct{}
}

func jsonAnswer(status int, body any) *answer {
	return bytesAnswer(status, "application/json", appendJSON(make([]byte, 0, 1<<10), body))
}

func bytesAnswer(status int, contentType string, body []byte) *answer {
	return &answer{
		status: status, header: http.Header{"Content-Type": {contentType}},
		body: bytes.NewReader(body), size: int64(len(body)), declared: int64(len(body)),
	}
}

// answerOf runs a handler of net/http that sends its body by ReadFrom, as
// http.ServeContent does, without copying the body anywhere.
func answerOf(run func(http.ResponseWriter)) *answer {
	capture := &recorder{header: http.Header{}}
	run(capture)
	a := &answer{status: capture.status, header: capture.header, body: &capture.written, size: int64(capture.written.Len())}
	if capture.source != nil {
		a.body = capture.source
		a.size, _ = strconv.ParseInt(capture.header.Get("Content-Length"), 10, 64)
	}
	a.declared = a.size
	return a
}

// recorder is a ResponseWriter that keeps what a handler answers.
type recorder struct {
	header  http.Header
	status  int
	written bytes.Buffer
	source  io.Reader
}

func (r *recorder) Header() http.Header { return r.header }

func (r *recorder) WriteHeader(status int) {
	if r.status == 0 {
		r.status = status
	}
}

func (r *recorder) Write(p []byte) (int, error) {
	r.WriteHeader(http.StatusOK)
	return r.written.Write(p)
}

// ReadFrom keeps the reader, for the client to read it.
func (r *recorder) ReadFrom(source io.Reader) (int64, error) {
	r.WriteHeader(http.StatusOK)
	r.source = source
	return 0, nil
}

var errReset = &net.OpError{Op: "read", Net: "tcp", Err: syscall.ECONNRESET}

// response is the answer in memory.
func (a *answer) response(r *http.Request) (*http.Response, error) {
	if a.hang {
		return nil, a.stall(r.Context())
	}
	if a.reset {
		return nil, errReset
	}
	return &http.Response{
		Status: strconv.Itoa(a.status) + " " + http.StatusText(a.status), StatusCode: a.status,
		Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1,
		Header: a.header, ContentLength: a.declared, Request: r,
		Body: newBodyReader(r.Context(), a),
	}, nil
}

// stall waits until the client gives up, or the server closes.
func (a *answer) stall(ctx context.Context) error {
	select {
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-a.over:
		return net.ErrClosed
	}
}

// bodyReader reads an answer's body as a connection would: no further than was
// declared, an error where less came, and none after the request is over.
// Close may come while a Read waits, and ends it.
type bodyReader struct {
	ctx    context.Context //nolint:containedctx // the body of a request lives as long as its context
	cancel context.CancelCauseFunc
	answer *answer
	left   int64
}

func newBodyReader(ctx context.Context, a *answer) *bodyReader {
	ctx, cancel := context.WithCancelCause(ctx)
	return &bodyReader{ctx, cancel, a, a.declared}
}

func (b *bodyReader) Read(p []byte) (int, error) {
	if err := context.Cause(b.ctx); err != nil {
		return 0, err
	}
	if b.left == 0 {
		return 0, io.EOF
	}
	n, err := b.answer.read(b.ctx, p[:min(int64(len(p)), b.left)])
	b.left -= int64(n)
	if errors.Is(err, io.EOF) && b.left > 0 {
		err = io.ErrUnexpectedEOF
	}
	return n, err
}

// Close ends the body.
func (b *bodyReader) Close() error {
	b.cancel(http.ErrBodyReadAfterClose)
	return nil
}

// read is one read of the body, a byte after a pause where it drips.
func (a *answer) read(ctx context.Context, p []byte) (int, error) {
	if a.drip <= 0 || len(p) == 0 {
		return a.body.Read(p)
	}
	pause := time.NewTimer(a.drip)
	defer pause.Stop()
	select {
	case <-ctx.Done():
		return 0, context.Cause(ctx)
	case <-pause.C:
		return a.body.Read(p[:1])
	}
}

// write is the answer over a socket. net/http breaks the connection itself
// where the body is shorter than was declared.
func (a *answer) write(w http.ResponseWriter, r *http.Request) {
	if a.hang {
		_ = a.stall(r.Context()) // the connection is gone
		return
	}
	if a.reset {
		breakConnection(w)
		return
	}
	header := w.Header()
	maps.Copy(header, a.header)
	header.Set("Content-Length", strconv.FormatInt(a.declared, 10))
	w.WriteHeader(a.status)
	flush := func() error { return nil }
	if a.drip > 0 {
		flush = http.NewResponseController(w).Flush
		_ = flush() // the status comes before the first pause
	}
	a.body = io.LimitReader(a.body, a.declared)
	buffer := make([]byte, 32<<10)
	for {
		n, err := a.read(r.Context(), buffer)
		if _, failed := w.Write(buffer[:n]); err != nil || failed != nil || flush() != nil {
			return
		}
	}
}

// breakConnection ends the connection with a TCP reset.
func breakConnection(w http.ResponseWriter) {
	conn, _, err := http.NewResponseController(w).Hijack()
	if err != nil {
		return
	}
	if tcp, ok := conn.(*net.TCPConn); ok {
		_ = tcp.SetLinger(0) // the close below resets either way
	}
	_ = conn.Close()
}

// final is the status of an answer, 200 where its handler set none.
func (a *answer) final() int {
	if a.status == 0 {
		return http.StatusOK
	}
	return a.status
}
