package transport

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net/http"
	"time"
)

// ErrBodyTooLarge is the cause of a Failure when the body of a success is larger
// than Config.MaxBody.
var ErrBodyTooLarge = errors.New("the answer is larger than the limit")

const (
	maxErrorBody = 64 << 10
	// maxSecret is how much is read beyond maxErrorBody, so that a secret at
	// the cut is read whole, and found.
	maxSecret = 8 << 10
	// maxDrain is how much of an error body is read so that its connection can
	// be reused. Beyond that, a new connection is cheaper.
	maxDrain = 256 << 10
	// maxErrorTime is how long an error body is read. Its status is known, and
	// a server that sends it slowly must not use up the time of the call.
	maxErrorTime = 3 * time.Second
	// maxTrust is how much memory is allocated for a Content-Length before any
	// byte has arrived.
	maxTrust = 1 << 20
)

// readBody reads resp's body whole. The limit counts bytes after
// decompression, so it holds for a gzip bomb as well.
func readBody(resp *http.Response, limit int64) ([]byte, error) {
	if resp.StatusCode >= http.StatusBadRequest {
		// The status is known, so part of the body is enough.
		body, _ := read(resp.Body, resp.ContentLength, maxErrorBody+maxSecret)
		_, _ = io.CopyN(io.Discard, resp.Body, maxDrain)
		return body, nil
	}
	if resp.ContentLength > limit {
		return nil, fmt.Errorf("%w: %d bytes, at most %d", ErrBodyTooLarge, resp.ContentLength, limit)
	}
	body, err := read(resp.Body, resp.ContentLength, limit+1)
	switch {
	case err != nil:
		return nil, fmt.Errorf("the answer broke off after %d bytes: %w", len(body), err)
	case int64(len(body)) > limit:
		return nil, fmt.Errorf("%w: more than %d bytes", ErrBodyTooLarge, limit)
	}
	return body, nil
}

// read reads at most limit bytes. If length says how many there are, it
// allocates once.
func read(r io.Reader, length, limit int64) ([]byte, error) {
	if length > 0 && length <= min(maxTrust, limit) { // a test's transport may leave it 0
		body := make([]byte, length)
		n, err := io.ReadFull(r, body)
		if errors.Is(err, io.EOF) { // nothing came; ReadFull reports the rest itself
			err = io.ErrUnexpectedEOF
		}
		return body[:n], err
	}
	var body bytes.Buffer
	_, err := body.ReadFrom(io.LimitReader(r, limit))
	if err == nil && length > int64(body.Len()) {
		err = io.ErrUnexpectedEOF
	}
	return body.Bytes(), err
}
