package download

import (
	"bytes"
	"cmp"
	"context"
	"crypto/md5" //nolint:gosec // the checksum that the API publishes
	"crypto/sha256"
	"errors"
	"fmt"
	"hash"
	"io"
	"time"

	"github.com/reincubate/ricloud-go/internal/backoff"
)

// Reader reads a file, over several connections if need be. When it returns
// io.EOF, size and MD5 are right. It is not safe for concurrent use.
type Reader struct {
	ctx    context.Context //nolint:containedctx // an io.Reader takes none
	limits Limits
	file   *File
	next   Request // what to ask for next; its Offset is what was read
	sums   sums

	buffer   []byte   // for WriteTo; nil: it makes one
	attempt  *attempt // nil: none, or broken
	opened   bool     // storage has answered with the object
	failures int      // in a row, since a byte came
	empty    int      // reads in a row that brought neither bytes nor an error
	reached  int64    // next.Offset at the last failure
	err      error    // how the reader ended
}

// NewReader returns a reader that has opened nothing yet. ctx bounds all of
// its reads.
func NewReader(ctx context.Context, limits Limits, file *File) *Reader {
	return &Reader{
		ctx: ctx, limits: limits, file: file, sums: newSums(file.SHA256),
		next: Request{Bucket: file.Bucket, Key: file.Key},
	}
}

// Open opens the object, so that an error shows before the first Read.
func (r *Reader) Open() error {
	if err := r.connect(); err != nil {
		r.err = r.fail(err)
	}
	return r.err
}

// Sums returns the MD5 and, if it was asked for, the SHA-256 of what was read.
func (r *Reader) Sums() (md5, sha256 []byte) { return r.sums.sums() }

// Done returns how many bytes were read.
func (r *Reader) Done() int64 { return r.next.Offset }

// Verified reports whether the whole file was read and verified.
func (r *Reader) Verified() bool { return r.err == io.EOF } //nolint:errorlint // ours, and bare

const maxEmptyReads = 100

func (r *Reader) remaining() int64 { return r.file.Size - r.next.Offset }

// Read reads the next bytes.
func (r *Reader) Read(p []byte) (int, error) {
	for r.err == nil && len(p) > 0 {
		if r.err = r.prepare(); r.err != nil {
			break
		}
		n, err := r.attempt.Read(p[:min(int64(len(p)), r.remaining())])
		r.sums.write(p[:n])
		r.next.Offset += int64(n)
		if r.file.Received != nil {
			r.file.Received(n)
		}
		if n == 0 && err == nil {
			if r.empty++; r.empty == maxEmptyReads {
				r.empty, err = 0, io.ErrNoProgress
			}
		} else {
			r.empty = 0
		}
		if err != nil && r.remaining() > 0 {
			if err = r.retry(err); err != nil {
				r.err = r.fail(err)
			}
		}
		if n > 0 {
			r.file.report(r.next.Offset)
			return n, nil
		}
	}
	if len(p) == 0 {
		return 0, nil
	}
	return 0, r.err
}

// prepare connects if there is more to read. An error, which may be io.EOF, ends
// the reader.
func (r *Reader) prepare() error {
	if r.remaining() == 0 && (r.file.Size > 0 || r.opened) {
		return r.verify()
	}
	if r.ctx.Err() != nil { // not every body ends with its context
		return r.fail(backoff.Cause(r.ctx))
	}
	if r.attempt == nil {
		if err := r.connect(); err != nil {
			return r.fail(err)
		}
	}
	if r.remaining() == 0 { // storage, too, has an empty object
		return r.verify()
	}
	return nil
}

// WriteTo makes io.Copy use a buffer that suits the hash.
func (r *Reader) WriteTo(w io.Writer) (int64, error) {
	buffer := r.buffer
	if buffer == nil {
		buffer = make([]byte, bufferSize(r.remaining()))
	}
	var written int64
	for {
		n, err := r.Read(buffer)
		// A small file is written in one piece: each write costs a system call.
		for err == nil && n < len(buffer) && r.file.Size <= smallFile {
			var more int
			more, err = r.Read(buffer[n:])
			n += more
		}
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

// verify checks the file once every byte was read, and sets how the reader
// ends.
func (r *Reader) verify() error {
	if r.attempt != nil && r.attempt.object.Size < 0 { // the size is unknown, so there may be more
		if n, _ := r.attempt.Read(make([]byte, 1)); n > 0 {
			return r.fail(fmt.Errorf("%w: it is larger", ErrSize))
		}
	}
	r.disconnect()
	if r.ctx.Err() != nil {
		return r.fail(backoff.Cause(r.ctx))
	}
	if !bytes.Equal(r.sums.md5.Sum(nil), r.file.MD5) {
		return r.fail(ErrChecksum)
	}
	return io.EOF
}

// connect opens the object at the next byte, and retries while that may help.
func (r *Reader) connect() error {
	for {
		if r.ctx.Err() != nil {
			return backoff.Cause(r.ctx)
		}
		attempt, err := r.limits.open(r.ctx, r.file, r.next)
		if err == nil {
			err = r.use(attempt)
		}
		if err == nil {
			return nil
		}
		if err := r.retry(err); err != nil {
			return err
		}
	}
}

// use continues with an attempt, if the object is still the same.
func (r *Reader) use(a *attempt) error {
	r.attempt, r.opened = a, true
	switch o := a.object; {
	case r.next.Version != "" && o.Version != "" && o.Version != r.next.Version:
		return ErrChanged
	case o.Size >= 0 && o.Size != r.file.Size:
		return fmt.Errorf("%w: it has %d bytes", ErrSize, o.Size)
	case o.Offset > r.next.Offset || o.Offset < 0:
		return fmt.Errorf("storage sent bytes from %d on, not from %d", o.Offset, r.next.Offset)
	default:
		r.next.Version = cmp.Or(o.Version, r.next.Version)
		// Storage that cannot seek begins at the first byte: skip what was read
		// before.
		if o.Offset == r.next.Offset {
			return nil
		}
		_, err := io.CopyN(io.Discard, a, r.next.Offset-o.Offset)
		return err
	}
}

// retry returns nil once it is time to connect again, or an error if there are
// no retries left. A new byte is progress and resets the number of retries.
func (r *Reader) retry(err error) error {
	r.disconnect()
	if r.ctx.Err() != nil {
		return backoff.Cause(r.ctx)
	}
	if r.next.Offset > r.reached {
		r.failures = 0
	}
	r.reached = r.next.Offset
	if errors.Is(err, io.EOF) {
		err = io.ErrUnexpectedEOF
	}
	permanent := errors.Is(err, ErrChanged) || errors.Is(err, ErrSize) || r.file.Permanent(err)
	if permanent || r.failures >= r.limits.Retries {
		r.failed(err, false, 0)
		return err
	}
	wait := backoff.Jitter(r.failures, r.limits.FirstWait, r.limits.LongestWait)
	r.failures++
	r.failed(err, true, wait)
	return backoff.Sleep(r.ctx, wait)
}

func (r *Reader) failed(err error, again bool, wait time.Duration) {
	if r.file.Failed != nil {
		r.file.Failed(r.next.Offset, err, again, wait)
	}
}

func (r *Reader) fail(err error) error {
	r.disconnect()
	return r.file.fail(r.next.Offset, err)
}

func (r *Reader) disconnect() {
	if r.attempt != nil {
		r.attempt.close()
		r.attempt = nil
	}
}

// restart forgets what was read.
func (r *Reader) restart() {
	r.disconnect()
	r.sums = newSums(r.file.SHA256)
	r.next.Offset, r.next.Version, r.reached, r.failures, r.err = 0, "", 0, 0, nil
}

// Close ends the reading. What was not read stays unverified.
func (r *Reader) Close() error {
	r.disconnect()
	if closed := r.file.Closed; closed != nil {
		r.file.Closed = nil
		if r.Verified() {
			closed(true, nil)
		} else {
			closed(false, r.err)
		}
	}
	if r.err == nil {
		r.err = r.file.fail(r.next.Offset, errors.New("read after Close"))
	}
	return nil
}

// sums computes the hashes of a file in one pass.
type sums struct{ md5, sha256 hash.Hash }

func newSums(both bool) sums {
	s := sums{md5: md5.New()} //nolint:gosec // see the import
	if both {
		s.sha256 = sha256.New()
	}
	return s
}

func (s sums) write(p []byte) {
	s.md5.Write(p)
	if s.sha256 != nil {
		s.sha256.Write(p)
	}
}

func (s sums) sums() (md5, sha256 []byte) {
	if s.sha256 != nil {
		sha256 = s.sha256.Sum(nil)
	}
	return s.md5.Sum(nil), sha256
}

// hashAll reads r to its end, and no longer than ctx lasts.
func (s sums) hashAll(ctx context.Context, r io.Reader, buffer []byte) (int64, error) {
	var total int64
	for {
		if ctx.Err() != nil {
			return total, backoff.Cause(ctx)
		}
		n, err := r.Read(buffer)
		s.write(buffer[:n])
		total += int64(n)
		if err == io.EOF { // an io.Reader returns io.EOF bare
			return total, nil
		}
		if err != nil {
			return total, err
		}
	}
}
