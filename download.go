package ricloud

import (
	"bytes"
	"cmp"
	"context"
	"crypto/md5" //nolint:gosec // what the API publishes as a checksum
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"
	"net/http"
	"strings"
	"time"

	"github.com/reincubate/ricloud-go/internal/backoff"
	"github.com/reincubate/ricloud-go/internal/transport"
)

// Errors of result files, for errors.Is.
var (
	ErrChecksum  = errors.New("ricloud: the bytes do not have the MD5 that the API published")
	ErrSize      = errors.New("ricloud: the object does not have the size that the API published")
	ErrNoStorage = errors.New("ricloud: the client cannot read this storage")
)

// DownloadError is a result file that could not be had whole and verified.
type DownloadError struct {
	Result     ID
	Identifier string
	Done, Size int64 // bytes read of bytes expected
	Err        error
}

// Error names the result and what went wrong.
func (e *DownloadError) Error() string {
	return fmt.Sprintf("ricloud: result %s (%q), at %d of %d bytes: %s",
		e.Result, e.Identifier, e.Done, e.Size, strings.TrimPrefix(e.Err.Error(), "ricloud: "))
}

// Unwrap returns what went wrong.
func (e *DownloadError) Unwrap() error { return e.Err }

// downloads is what reading result files needs of a client's config.
type downloads struct {
	transport http.RoundTripper // adds no credentials
	storage   map[string]ObjectOpener
	userAgent string
	allowHTTP bool

	openTimeout, stallTimeout *transport.Timeout
	retries                   int
	retryWait, retryWaitMax   time.Duration
}

func newDownloads(cfg config, bare http.RoundTripper) downloads {
	return downloads{
		transport:    bare,
		storage:      cfg.storage,
		userAgent:    cfg.UserAgent,
		allowHTTP:    cfg.AllowHTTP,
		openTimeout:  &transport.Timeout{Limit: "attempt", After: cmp.Or(cfg.AttemptTimeout, transport.DefaultAttemptTimeout)},
		stallTimeout: &transport.Timeout{Limit: "stall", After: cmp.Or(cfg.StallTimeout, transport.DefaultStallTimeout)},
		retries:      max(0, cmp.Or(cfg.MaxRetries, transport.DefaultMaxRetries)),
		retryWait:    cmp.Or(cfg.RetryWaitMin, transport.DefaultMinRetryWait),
		retryWaitMax: cmp.Or(cfg.RetryWaitMax, transport.DefaultMaxRetryWait),
	}
}

// Open opens the file of a result. It comes from the opener for its URL's
// scheme, see WithStorage, else through its signed URL, which is renewed when
// it has expired. A connection that breaks is taken up again where it broke;
// WithRetries bounds how often in a row.
//
// The reader verifies what passes through it: the io.EOF at the end says that
// size and MD5 are those of the result. In its place, and from Open itself,
// come errors that are a *DownloadError: ErrChecksum, ErrSize,
// ErrObjectChanged, ErrNotFound, ErrForbidden, ErrNoStorage, or what ended the
// last attempt. Until io.EOF nothing is proven. ctx bounds the reading. The
// reader must be closed, and is not safe for concurrent use.
func (s *ResultsService) Open(ctx context.Context, result *Result, opts ...DownloadOption) (io.ReadCloser, error) {
	d, err := s.client.download(ctx, "Results.Open", result, newDownloadOptions(opts).progress)
	if err != nil {
		return nil, err
	}
	if err := d.connect(); err != nil {
		return nil, d.fail(err)
	}
	return d, nil
}

// download is a verified, resumable read of one result.
type download struct {
	ctx      context.Context //nolint:containedctx // a reader has none of its own
	limits   *downloads
	progress func(Progress)
	result   *Result // a copy: its signed URL is renewed
	opener   ObjectOpener
	object   ObjectRequest // what to ask for next
	want     []byte
	hash     hash.Hash

	conn     *connection // nil: none, or broken
	failures int         // since progress was made
	mark     int64       // object.Offset at the last failure
	err      error       // the end
}

// download prepares to read result. One of which only the id is known is read
// from the API first.
func (c *Client) download(ctx context.Context, operation string, result *Result, progress func(Progress)) (*download, error) {
	if result == nil {
		return nil, &ParamError{Operation: operation, Field: "result", Reason: "is required"}
	}
	own := *result
	if own.Checksum == "" && own.ID != "" {
		latest, err := c.Results.Get(ctx, own.ID)
		if err != nil {
			return nil, err
		}
		own = *latest
	}
	want, err := hex.DecodeString(own.Checksum)
	if err != nil || len(want) != md5.Size {
		return nil, &ParamError{Operation: operation, Field: "Checksum", Reason: "is not an MD5 in hex: the file could not be verified"}
	}
	if own.Size < 0 {
		return nil, &ParamError{Operation: operation, Field: "Size", Reason: "is negative: the file could not be verified"}
	}
	opener, object, err := c.locate(&own)
	if p, ok := errors.AsType[*ParamError](err); ok {
		p.Operation = operation
	}
	if err != nil {
		return nil, err
	}
	return &download{
		ctx: ctx, limits: &c.downloads, progress: progress, result: &own, opener: opener, object: object,
		want: want, hash: md5.New(), //nolint:gosec // see the import
	}, nil
}

// left is how many bytes are still to come.
func (d *download) left() int64 { return d.result.Size - d.object.Offset }

// Read reads the next bytes, over as many connections as it takes.
func (d *download) Read(p []byte) (int, error) {
	for d.err == nil && len(p) > 0 {
		if d.left() == 0 {
			d.err = d.verify()
			break
		}
		if d.conn == nil {
			if err := d.connect(); err != nil {
				d.err = d.fail(err)
				break
			}
		}
		n, err := d.conn.Read(p[:min(int64(len(p)), d.left())])
		d.hash.Write(p[:n])
		d.object.Offset += int64(n)
		if err != nil && d.left() > 0 {
			if err = d.retry(err); err != nil {
				d.err = d.fail(err)
			}
		}
		if n > 0 {
			d.report()
			return n, nil
		}
	}
	if len(p) == 0 {
		return 0, nil
	}
	return 0, d.err
}

func (d *download) report() {
	d.progress(Progress{Result: d.result, Done: d.object.Offset, Total: d.result.Size})
}

const copyBuffer = 256 << 10

// WriteTo makes io.Copy use a buffer that suits the hash.
func (d *download) WriteTo(w io.Writer) (int64, error) {
	buffer := make([]byte, max(min(copyBuffer, d.left()), 1))
	var written int64
	for {
		n, err := d.Read(buffer)
		if n > 0 {
			n, writeErr := w.Write(buffer[:n])
			written += int64(n)
			if writeErr != nil {
				return written, writeErr
			}
		}
		if err == io.EOF { //nolint:errorlint // ours, and bare
			return written, nil
		}
		if err != nil {
			return written, err
		}
	}
}

// verify decides how the reader ends once every byte has come.
func (d *download) verify() error {
	if d.conn != nil && d.conn.object.Size < 0 { // nobody has said yet that this is the end
		if n, _ := d.conn.Read(make([]byte, 1)); n > 0 {
			return d.fail(fmt.Errorf("%w: it is larger", ErrSize))
		}
	}
	d.disconnect()
	if !bytes.Equal(d.hash.Sum(nil), d.want) {
		return d.fail(ErrChecksum)
	}
	return io.EOF
}

// connect opens the object at the next byte wanted, and tries again while that
// may help.
func (d *download) connect() error {
	for {
		conn, err := d.limits.open(d.ctx, d.opener, d.object)
		if err == nil {
			err = d.take(conn)
		}
		if err == nil {
			return nil
		}
		if err := d.retry(err); err != nil {
			return err
		}
	}
}

// take makes conn the download's, if it is still the same object.
func (d *download) take(conn *connection) error {
	d.conn = conn
	switch o := conn.object; {
	case d.object.Version != "" && o.Version != "" && o.Version != d.object.Version:
		return ErrObjectChanged
	case o.Size >= 0 && o.Size != d.result.Size:
		return fmt.Errorf("%w: it has %d bytes", ErrSize, o.Size)
	case o.Offset > d.object.Offset:
		return fmt.Errorf("storage sent bytes from %d on, not from %d", o.Offset, d.object.Offset)
	default:
		d.object.Version = o.Version
		// Storage that cannot seek begins again: what was read is read over.
		_, err := io.CopyN(io.Discard, conn, d.object.Offset-o.Offset)
		return err
	}
}

// retry returns nil once it is time to connect again, or why that is no use.
func (d *download) retry(err error) error {
	d.disconnect()
	if d.ctx.Err() != nil {
		return context.Cause(d.ctx)
	}
	if d.object.Offset-d.mark >= copyBuffer {
		d.failures = 0
	}
	d.mark = d.object.Offset
	if errors.Is(err, io.EOF) {
		err = io.ErrUnexpectedEOF
	}
	if final(err) || d.failures == d.limits.retries {
		return err
	}
	wait := backoff.Jitter(d.failures, d.limits.retryWait, d.limits.retryWaitMax)
	d.failures++
	return backoff.Sleep(d.ctx, wait)
}

// final reports whether another attempt would end the same.
func final(err error) bool {
	if e, ok := errors.AsType[*StorageError](err); ok {
		return !e.passing()
	}
	if _, ok := errors.AsType[*ParamError](err); ok {
		return true
	}
	// The API's own errors have had their retries.
	if _, ok := errors.AsType[*CallError](err); ok {
		return true
	}
	if _, ok := errors.AsType[*Error](err); ok {
		return true
	}
	return errors.Is(err, ErrObjectChanged) || errors.Is(err, ErrSize) || errors.Is(err, ErrNoStorage)
}

func (d *download) fail(err error) error {
	d.disconnect()
	return &DownloadError{Result: d.result.ID, Identifier: d.result.Identifier, Done: d.object.Offset, Size: d.result.Size, Err: err}
}

func (d *download) disconnect() {
	if d.conn != nil {
		d.conn.close()
		d.conn = nil
	}
}

// Close ends the download. What was not read stays unverified.
func (d *download) Close() error {
	d.disconnect()
	if d.err == nil {
		d.err = d.fail(errors.New("read after Close"))
	}
	return nil
}
