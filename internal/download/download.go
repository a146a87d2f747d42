// Package download reads files whose size and MD5 are known in advance, and
// keeps them in folders. It resumes broken transfers, verifies every byte, and
// gives a file its name only once it is whole. It knows no API: it is told how
// to open an object and what its content must be.
package download

import (
	"context"
	"errors"
	"io"
	"sync"
	"time"
)

// The errors of a file that cannot be verified, or whose storage has another
// object by now.
var (
	ErrChecksum = errors.New("ricloud: the bytes do not have the MD5 that the API published")
	ErrSize     = errors.New("ricloud: the object does not have the size that the API published")
	ErrChanged  = errors.New("ricloud: the object in storage was replaced while it was read")
)

// copyBuffer is the size of reads that are hashed: larger ones leave the
// processor's cache, smaller ones cost calls.
const copyBuffer = 256 << 10

// smallFile is the size up to which a file is not written to disk as it comes,
// but at once.
const smallFile = 64 << 10

// bufferSize returns the size of a buffer for some bytes.
func bufferSize(n int64) int64 { return max(min(copyBuffer, n), 1) }

// buffers are those that the files of one folder take turns with.
type buffers struct{ pool sync.Pool }

// get returns a buffer that suits n bytes.
func (b *buffers) get(n int64) *[]byte {
	size := bufferSize(n)
	if buffer, ok := b.pool.Get().(*[]byte); ok && int64(len(*buffer)) >= size {
		return buffer
	}
	buffer := make([]byte, size)
	return &buffer
}

func (b *buffers) put(buffer *[]byte) { b.pool.Put(buffer) }

// Request says which bytes of an object are wanted.
type Request struct {
	Bucket, Key string
	Offset      int64  // the first byte wanted
	Version     string // of the object that was opened before, or ""
}

// Object is an open object.
type Object struct {
	Body    io.ReadCloser
	Offset  int64  // where Body begins; at most the offset that was asked for
	Size    int64  // of the whole object; -1 if unknown
	Version string // "" if unknown
}

// File describes one file: where it comes from and what it must be.
type File struct {
	Bucket, Key string
	Size        int64  // bytes
	MD5         []byte // of the whole content
	SHA256      bool   // whether to compute the SHA-256, too

	// Open opens the object. ctx bounds the reading of its body, too.
	Open func(ctx context.Context, req Request) (*Object, error)
	// Permanent reports whether a retry after this error of Open is useless.
	Permanent func(error) bool
	// Progress is called with the number of bytes that are done. It may be nil.
	Progress func(done int64)
	// Received is called with the number of bytes that each read from storage
	// brought. It may be nil.
	Received func(n int)
	// Failed is called each time that opening or reading failed at an offset,
	// with whether another attempt follows and how long is waited for it. It
	// may be nil.
	Failed func(offset int64, err error, again bool, wait time.Duration)
	// Closed is called once, when a Reader is closed, with what ended it
	// before its io.EOF, or nil. It may be nil.
	Closed func(verified bool, err error)
	// Fail names the file in an error; done is the number of bytes read. It
	// may be nil.
	Fail func(done int64, err error) error
}

// Limits bound how long storage may take and how often a read is retried.
type Limits struct {
	Open                   time.Duration // the longest time to open an object
	Stall                  time.Duration // the longest time without a byte
	Retries                int           // in a row, without progress
	FirstWait, LongestWait time.Duration // ceilings of the backoff
}

func (f *File) report(done int64) {
	if f.Progress != nil {
		f.Progress(done)
	}
}

func (f *File) fail(done int64, err error) error {
	if f.Fail == nil {
		return err
	}
	return f.Fail(done, err)
}
