// Package reply builds the sandbox's answers and sends them over a socket or in memory.
package reply

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

// Answer is the response to one request. Faults change it before it is sent.
type Answer struct {
	Status   int
	Header   http.Header
	Body     io.Reader
	Size     int64
	Declared int64           // the Content-Length header; usually Size
	Drip     time.Duration   // the pause before each byte of the body
	Reset    bool            // break the connection instead of answering
	Hang     bool            // do not answer until the client gives up
	Closed   <-chan struct{} // ends a Hang when the server closes
	Sent     []byte          // the body, where it is in memory, for the journal
}

// JSON returns an answer whose body is v.
func JSON(status int, v any) *Answer {
	return Bytes(status, "application/json", AppendJSON(make([]byte, 0, 1<<10), v))
}

// Bytes returns an answer with a body in memory.
func Bytes(status int, contentType string, body []byte) *Answer {
	return &Answer{
		Status: status, Header: http.Header{"Content-Type": {contentType}},
		Body: bytes.NewReader(body), Size: int64(len(body)), Declared: int64(len(body)), Sent: body,
	}
}

// Of runs an http.Handler function and returns its answer. A body that the handler sends by
// ReadFrom, as http.ServeContent does, is read later and not copied.
func Of(run func(http.ResponseWriter)) *Answer {
	capture := &recorder{header: http.Header{}}
	run(capture)
	capture.WriteHeader(http.StatusOK)
	size := int64(capture.written.Len())
	a := &Answer{Status: capture.status, Header: capture.header, Body: &capture.written, Size: size}
	if capture.source != nil {
		a.Body = capture.source
		a.Size, _ = strconv.ParseInt(capture.header.Get("Content-Length"), 10, 64)
	} else {
		a.Sent = capture.written.Bytes()
	}
	a.Declared = a.Size
	if declared := capture.header.Get("Content-Length"); capture.source == nil && declared != "" {
		a.Declared, _ = strconv.ParseInt(declared, 10, 64) // the answer to a HEAD request
	}
	return a
}

// recorder is a ResponseWriter that keeps what a handler answers.
type recorder struct {
	header  http.Header
	status  int
	written bytes.Buffer
	source  io.Reader
}

// Header implements http.ResponseWriter.
func (r *recorder) Header() http.Header { return r.header }

// WriteHeader implements http.ResponseWriter.
func (r *recorder) WriteHeader(status int) {
	if r.status == 0 {
		r.status = status
	}
}

// Write implements http.ResponseWriter.
func (r *recorder) Write(p []byte) (int, error) {
	r.WriteHeader(http.StatusOK)
	return r.written.Write(p)
}

// ReadFrom keeps the reader for the client.
func (r *recorder) ReadFrom(source io.Reader) (int64, error) {
	r.WriteHeader(http.StatusOK)
	r.source = source
	return 0, nil
}

// Replace puts another body in place of the answer's own.
func (a *Answer) Replace(contentType, body string) {
	a.Header.Set("Content-Type", contentType)
	a.Body = bytes.NewReader([]byte(body))
	a.Size = int64(len(body))
	a.Declared = a.Size
	a.Sent = []byte(body)
}

// Corrupt flips one bit in the middle of the body.
func (a *Answer) Corrupt() { a.Body = &flipped{Reader: a.Body, at: a.Size / 2} }

// flipped is a body with one bit flipped.
type flipped struct {
	io.Reader

	at int64
}

// Read implements io.Reader.
func (f *flipped) Read(p []byte) (int, error) {
	n, err := f.Reader.Read(p)
	if f.at >= 0 && f.at < int64(n) {
		p[f.at] ^= 1
	}
	f.at -= int64(n)
	return n, err
}

// Response returns the answer in memory, as an http.RoundTripper does.
func (a *Answer) Response(r *http.Request) (*http.Response, error) {
	if a.Hang {
		return nil, a.stall(r.Context())
	}
	if a.Reset {
		return nil, &net.OpError{Op: "read", Net: "tcp", Err: syscall.ECONNRESET}
	}
	res := &http.Response{
		Status:     strconv.Itoa(a.Status) + " " + http.StatusText(a.Status),
		StatusCode: a.Status,
		Proto:      "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1,
		Header: a.Header, ContentLength: a.Declared, Request: r,
		Body: http.NoBody,
	}
	if r.Method != http.MethodHead {
		res.Body = newBody(r.Context(), a)
	}
	return res, nil
}

// stall waits until the client gives up or the server closes.
func (a *Answer) stall(ctx context.Context) error {
	select {
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-a.Closed:
		return net.ErrClosed
	}
}

// body reads an answer's body as a connection does. It stops at the declared length, fails where
// less than that came, and fails once the request is over. Close ends a Read that waits.
type body struct {
	ctx    context.Context //nolint:containedctx // a body lives as long as its request's context
	cancel context.CancelCauseFunc
	answer *Answer
	left   int64
}

func newBody(ctx context.Context, a *Answer) *body {
	ctx, cancel := context.WithCancelCause(ctx)
	return &body{ctx, cancel, a, a.Declared}
}

// Read implements io.Reader.
func (b *body) Read(p []byte) (int, error) {
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

// Close implements io.Closer.
func (b *body) Close() error {
	b.cancel(http.ErrBodyReadAfterClose)
	return nil
}

// read reads once from the body. A dripping body gives one byte after each pause.
func (a *Answer) read(ctx context.Context, p []byte) (int, error) {
	if a.Drip <= 0 || len(p) == 0 {
		return a.Body.Read(p)
	}
	pause := time.NewTimer(a.Drip)
	defer pause.Stop()
	select {
	case <-ctx.Done():
		return 0, context.Cause(ctx)
	case <-pause.C:
		return a.Body.Read(p[:1])
	}
}

// Write sends the answer over a socket. Package net/http breaks the connection where the body is
// shorter than declared.
func (a *Answer) Write(w http.ResponseWriter, r *http.Request) {
	if a.Hang {
		_ = a.stall(r.Context()) // the connection is gone
		return
	}
	if a.Reset {
		breakConnection(w)
		return
	}
	header := w.Header()
	maps.Copy(header, a.Header)
	header.Set("Content-Length", strconv.FormatInt(a.Declared, 10))
	w.WriteHeader(a.Status)
	if r.Method == http.MethodHead {
		return
	}
	flush := func() error { return nil }
	if a.Drip > 0 {
		flush = http.NewResponseController(w).Flush
		_ = flush() // the status comes before the first pause
	}
	a.Body = io.LimitReader(a.Body, a.Declared)
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
