// Package gcs lets a ricloud client read results from Google Cloud Storage
// with Google's own client:
//
//	storage, err := storage.NewClient(ctx)
//	…
//	client, err := ricloud.NewClient(token, ricloud.WithStorage("gs", gcs.New(storage)))
//
// Credentials, endpoint and retries are those of the storage client. It needs
// the permission storage.objects.get on the bucket. Objects that are stored with
// Content-Encoding: gzip are read as they are stored, but not by a storage client
// WithJSONReads, which cannot ask for that.
package gcs

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"sync/atomic"

	"cloud.google.com/go/storage"
	"google.golang.org/api/googleapi"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	ricloud "github.com/reincubate/ricloud-go"
)

// Opener opens gs:// objects. It is safe for concurrent use.
type Opener struct{ client *storage.Client }

// New returns an opener that reads with client.
func New(client *storage.Client) *Opener { return &Opener{client} }

// OpenObject implements ricloud.ObjectOpener. The version of an object is its
// generation. A status of 400 or more is returned as a *ricloud.StorageError.
func (o *Opener) OpenObject(
	ctx context.Context, req ricloud.ObjectRequest,
) (*ricloud.Object, error) {
	if o.client == nil {
		return nil, errors.New("gcs: the client is nil: give New one")
	}
	handle := o.client.Bucket(req.Bucket).Object(req.Key)
	if req.Version != "" {
		generation, err := strconv.ParseInt(req.Version, 10, 64)
		if err != nil {
			return nil, fmt.Errorf("gcs: %q is not a generation", req.Version)
		}
		handle = handle.If(storage.Conditions{GenerationMatch: generation})
	}
	r, err := handle.NewRangeReader(ctx, req.Offset, -1)
	if err == nil && (r.Attrs.Decompressed || r.Attrs.ContentEncoding == "gzip") {
		// The object is stored compressed, and the result's size and MD5 are those of
		// the stored bytes.
		_ = r.Close()
		r, err = openStored(ctx, handle, req.Offset)
	}
	if err != nil {
		return nil, translate(err, req.Bucket)
	}
	object := &ricloud.Object{Body: r, Offset: r.Attrs.StartOffset, Size: r.Attrs.Size}
	if r.Attrs.Generation > 0 { // else storage did not say which it is
		object.Version = strconv.FormatInt(r.Attrs.Generation, 10)
	}
	return object, nil
}

// openStored opens a compressed object as it is stored. After a broken
// connection, the storage client would resume in the wrong place: it skips as many
// bytes as it has read, even if storage has already left them out. onceContext
// keeps it from resuming, and the ricloud client resumes instead.
func openStored(
	ctx context.Context, handle *storage.ObjectHandle, offset int64,
) (*storage.Reader, error) {
	once := &onceContext{Context: ctx}
	//nolint:contextcheck // once is ctx
	r, err := handle.ReadCompressed(true).NewRangeReader(once, offset, -1)
	if err != nil && strings.Contains(err.Error(), "Accept-Encoding headers not allowed") {
		return nil, fmt.Errorf("%w: the object is stored compressed, and a storage client "+
			"WithJSONReads cannot read such objects as they are stored; make it without that option",
			ricloud.ErrNoStorage)
	}
	once.opened.Store(true)
	return r, err
}

// onceContext is a context in which the storage client begins no further request
// once an object is open.
type onceContext struct {
	context.Context //nolint:containedctx // it is one

	opened atomic.Bool
}

var errBroken = errors.New("the connection to storage broke")

func (c *onceContext) Err() error {
	if err := c.Context.Err(); err != nil || !c.opened.Load() {
		return err
	}
	return errBroken
}

func translate(err error, bucket string) error {
	if errors.Is(err, ricloud.ErrNoStorage) {
		return err
	}
	failure := &ricloud.StorageError{Host: "gs://" + bucket, Err: err}
	if errors.Is(err, storage.ErrObjectNotExist) || errors.Is(err, storage.ErrBucketNotExist) {
		failure.StatusCode = http.StatusNotFound
		return failure
	}
	if answer, ok := errors.AsType[*googleapi.Error](err); ok { // over JSON or XML
		failure.StatusCode = answer.Code
		if len(answer.Errors) > 0 && isCode(answer.Errors[0].Reason) {
			failure.Code = answer.Errors[0].Reason
		}
		return failure
	}
	answer, _ := status.FromError(err) // over gRPC
	if failure.StatusCode = statusOf(answer.Code()); failure.StatusCode == 0 {
		return fmt.Errorf("gcs: bucket %s: %w", bucket, err)
	}
	failure.Code = answer.Code().String()
	return failure
}

// isCode reports whether an error's code is one, and not text that may repeat
// the request.
func isCode(code string) bool {
	return len(code) <= 64 && strings.IndexFunc(code, func(r rune) bool {
		return !('a' <= r && r <= 'z' || 'A' <= r && r <= 'Z' || '0' <= r && r <= '9')
	}) < 0
}

// statusOf returns the HTTP status for a gRPC code, or 0 for a temporary error.
func statusOf(code codes.Code) int {
	switch code {
	case codes.NotFound:
		return http.StatusNotFound
	case codes.PermissionDenied:
		return http.StatusForbidden
	case codes.Unauthenticated:
		return http.StatusUnauthorized
	case codes.FailedPrecondition:
		return http.StatusPreconditionFailed
	case codes.OutOfRange:
		return http.StatusRequestedRangeNotSatisfiable
	default:
		return 0
	}
}
