package gcs

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"testing"

	"cloud.google.com/go/storage"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"google.golang.org/api/googleapi"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	ricloud "github.com/reincubate/ricloud-go"
)

// An error of the service has the same meaning over JSON, XML and gRPC.
func TestErrorsMeanTheSameOverEveryProtocol(t *testing.T) {
	t.Parallel()
	overHTTP := func(code int) error {
		return fmt.Errorf("storage: %w", &googleapi.Error{
			Code: code, Message: "canary", Errors: []googleapi.ErrorItem{{Reason: "theReason"}},
		})
	}
	overGRPC := func(code codes.Code) error { return status.Error(code, "canary") }
	for name, tc := range map[string]struct {
		err    error
		want   error
		status int
		code   string
	}{
		"no object": {err: storage.ErrObjectNotExist, want: ricloud.ErrNotFound, status: 404},
		"no bucket": {err: storage.ErrBucketNotExist, want: ricloud.ErrNotFound, status: 404},
		"forbidden": {
			err:    overHTTP(403),
			want:   ricloud.ErrForbidden,
			status: 403,
			code:   "theReason",
		},
		"busy": {
			err:    overHTTP(429),
			want:   ricloud.ErrRateLimited,
			status: 429,
			code:   "theReason",
		},
		"broken": {
			err:    overHTTP(503),
			want:   ricloud.ErrServer,
			status: 503,
			code:   "theReason",
		},
		"bare": {
			err:    &googleapi.Error{Code: 412},
			want:   ricloud.ErrObjectChanged,
			status: 412,
		},
		"gRPC: gone": {
			err:    overGRPC(codes.NotFound),
			want:   ricloud.ErrNotFound,
			status: 404,
			code:   "NotFound",
		},
		"gRPC: forbidden": {
			err:  overGRPC(codes.PermissionDenied),
			want: ricloud.ErrForbidden, status: 403, code: "PermissionDenied",
		},
		"gRPC: unknown": {
			err:  overGRPC(codes.Unauthenticated),
			want: ricloud.ErrForbidden, status: 401, code: "Unauthenticated",
		},
		"gRPC: changed": {
			err:  overGRPC(codes.FailedPrecondition),
			want: ricloud.ErrObjectChanged, status: 412, code: "FailedPrecondition",
		},
		"gRPC: shorter": {
			err:    overGRPC(codes.OutOfRange),
			want:   ricloud.ErrSize,
			status: 416,
			code:   "OutOfRange",
		},
		"gRPC: unavailable": {err: overGRPC(codes.Unavailable)},
		"the network":       {err: errors.New("connection reset"), want: nil},
		"the caller's own":  {err: context.Canceled, want: context.Canceled},
		"the caller's, wound": {
			err:  fmt.Errorf("x: %w", context.DeadlineExceeded),
			want: context.DeadlineExceeded,
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			err := translate(tc.err, "results")
			require.ErrorIs(t, err, tc.err, "nothing is hidden from errors.Is")
			require.ErrorContains(t, err, "results")
			if tc.want != nil {
				require.ErrorIs(t, err, tc.want)
			}
			failure, ok := errors.AsType[*ricloud.StorageError](err)
			require.Equal(t, tc.status > 0, ok, "%v", err)
			if ok {
				assert.Equal(t, tc.status, failure.StatusCode)
				assert.Equal(t, tc.code, failure.Code)
				assert.NotContains(t, err.Error(), "canary", "the service may repeat what it was sent")
				assert.Contains(t, err.Error(), http.StatusText(tc.status))
			}
		})
	}
}
