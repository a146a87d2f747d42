package ricloud

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"strings"
)

// ObjectOpener reads objects of a bucket: the one thing a Client needs to know
// of a storage service. It must be safe for concurrent use.
type ObjectOpener interface {
	// OpenObject opens an object from req.Offset on. ctx bounds the reading of
	// the Body too. An error that is, or wraps, a *StorageError is retried by
	// its status; any other is taken for a passing one, and retried.
	OpenObject(ctx context.Context, req ObjectRequest) (*Object, error)
}

// ObjectRequest says which bytes are wanted.
type ObjectRequest struct {
	Bucket string
	Key    string // as it is stored, never escaped
	Offset int64  // the first byte wanted
	// Version is that of the Object opened before, or "". Where the object is
	// another by now, the opener returns ErrObjectChanged, or the other Version.
	Version string
}

// Object is an open object.
type Object struct {
	Body    io.ReadCloser
	Offset  int64  // where Body begins: the request's, or 0 where storage cannot seek
	Size    int64  // of the whole object; -1: unknown
	Version string // a strong ETag or a generation; "" if there is none
}

// ErrObjectChanged is an object that was replaced while it was read.
var ErrObjectChanged = errors.New("ricloud: the object in storage was replaced while it was read")

// StorageError is an answer of a storage service with a status of 400 or more.
// It is ErrForbidden for 401 and 403, ErrNotFound for 404 and 410,
// ErrObjectChanged for 412, ErrSize for 416, ErrRateLimited for 429 and ErrServer from 500 on.
type StorageError struct {
	Host       string // the service, or the bucket
	StatusCode int
	Code       string // the service's own: "AccessDenied"
	Err        error  // what the service's client returned, if there is one
}

// Error says which service answered what. The rest of the answer is left out:
// it tends to repeat signatures.
func (e *StorageError) Error() string {
	text := fmt.Sprintf("storage at %s answered %d %s", e.Host, e.StatusCode, http.StatusText(e.StatusCode))
	if e.Code != "" {
		text += ": " + e.Code
	}
	return text
}

// Unwrap returns the error of the service's client.
func (e *StorageError) Unwrap() error { return e.Err }

// Is reports whether e means target.
func (e *StorageError) Is(target error) bool {
	switch e.StatusCode {
	case http.StatusUnauthorized, http.StatusForbidden:
		return target == ErrForbidden
	case http.StatusNotFound, http.StatusGone:
		return target == ErrNotFound
	case http.StatusPreconditionFailed:
		return target == ErrObjectChanged
	case http.StatusRequestedRangeNotSatisfiable: // it is shorter than what was read of it
		return target == ErrSize
	case http.StatusTooManyRequests:
		return target == ErrRateLimited
	}
	return e.StatusCode >= http.StatusInternalServerError && target == ErrServer
}

// passing reports whether the same request may be answered well later.
func (e *StorageError) passing() bool {
	return e.StatusCode >= http.StatusInternalServerError || e.StatusCode == http.StatusTooManyRequests ||
		e.StatusCode == http.StatusRequestTimeout
}

// parseObjectURL takes a result's URL apart. It is no URL to net/url: keys hold
// "?", "#" and "%" as they are. The one slash behind the bucket is not the key's.
func parseObjectURL(raw string) (scheme, bucket, key string, err error) {
	scheme, rest, ok := strings.Cut(raw, "://")
	bucket, key, _ = strings.Cut(rest, "/")
	scheme = strings.ToLower(scheme)
	if !ok || scheme == "" || key == "" || bucket == "" && scheme != localScheme {
		return "", "", "", invalid("URL", fmt.Sprintf("%q is not scheme://bucket/key", cutQuery(raw)))
	}
	return scheme, bucket, key, nil
}

// cutQuery leaves out what may be a signature.
func cutQuery(raw string) string {
	raw, _, _ = strings.Cut(raw, "?")
	return raw
}

// locate finds what reads result's object: the caller's opener, the disk, or a
// signed URL.
func (c *Client) locate(result *Result) (ObjectOpener, ObjectRequest, error) {
	scheme, bucket, key, err := parseObjectURL(result.URL)
	if opener := c.downloads.storage[scheme]; err == nil && opener != nil {
		return opener, ObjectRequest{Bucket: bucket, Key: key}, nil
	}
	if err == nil && scheme == localScheme {
		return localFiles{}, ObjectRequest{Bucket: bucket, Key: key}, nil
	}
	if err != nil && result.SignedURL.URL == "" {
		return nil, ObjectRequest{}, err
	}
	return &signedURL{client: c, result: result, scheme: scheme}, ObjectRequest{}, nil
}

const localScheme = "local"

// localFiles opens local:///path, where a self-hosted API publishes to disk.
type localFiles struct{}

func (localFiles) OpenObject(_ context.Context, req ObjectRequest) (*Object, error) {
	f, err := os.Open(req.Bucket + "/" + req.Key)
	if errors.Is(err, os.ErrNotExist) {
		return nil, &StorageError{Host: "local://", StatusCode: http.StatusNotFound, Err: err}
	}
	if err != nil {
		return nil, err
	}
	info, err := f.Stat()
	if err == nil {
		_, err = f.Seek(req.Offset, io.SeekStart)
	}
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return &Object{Body: f, Offset: req.Offset, Size: info.Size()}, nil
}
