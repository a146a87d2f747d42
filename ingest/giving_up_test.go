package ingest

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	ricloud "github.com/reincubate/ricloud-go"
	"github.com/reincubate/ricloud-go/ingest/internal/store"
)

// A file that cannot be read is tried for 24 hours, and costs no attempt. Then it is given up at
// once. What says something of the file costs an attempt.
func TestAFileIsGivenUpAfterADay(t *testing.T) {
	t.Parallel()
	storage := func(status int) error { return &ricloud.StorageError{StatusCode: status} }
	api := func(status int, code ricloud.ErrorCode) error {
		return &ricloud.Error{StatusCode: status, Code: code}
	}
	for away, errs := range map[bool][]error{
		true: {
			storage(http.StatusForbidden), storage(http.StatusBadRequest),
			storage(http.StatusUnauthorized), storage(http.StatusBadGateway),
			storage(http.StatusTooManyRequests), storage(http.StatusRequestTimeout),
			api(http.StatusServiceUnavailable, "unavailable"), api(http.StatusForbidden, ""),
			api(http.StatusTooManyRequests, "rate-limited"),
			fmt.Errorf("%w: there is no signed URL", ricloud.ErrNoStorage),
			context.DeadlineExceeded, io.ErrUnexpectedEOF, &ricloud.CallError{Err: io.EOF},
		},
		false: {
			storage(http.StatusNotFound), storage(http.StatusGone), storage(http.StatusPreconditionFailed),
			api(http.StatusNotFound, "not-found"), ricloud.ErrChecksum, ricloud.ErrSize,
			errors.New("another"),
		},
	} {
		for _, err := range errs {
			w := &worker{runner: &runner{h: Handlers{Attempts: 5, RetryWait: time.Second}}}
			j, failed := &storedJob{}, &ricloud.DownloadError{Err: err}
			fresh := task{Tries: 1}
			assert.Equal(t, ricloud.StepAgain, w.conclude(t.Context(), j, &fresh, failed), "%v", err)
			assert.Equal(t, away, fresh.Tries == 0, "%v", err)
			old := task{Tries: 1, Since: time.Now().Add(-25 * time.Hour)}
			outcome := w.conclude(t.Context(), j, &old, failed)
			assert.Equal(t, away, outcome == ricloud.StepDead, "%v", err)
			if away {
				assert.Contains(t, old.Dead, "its file could not be read for 24h0m0s: ricloud: result")
			}
		}
	}
}

// A step that keeps failing for a day makes a dead letter, unless it is for want of room.
func TestAnAccountIsGivenUpAfterADay(t *testing.T) {
	t.Parallel()
	for want, err := range map[State]error{
		Dead:    errors.New("the API is away"),
		Polling: fmt.Errorf("%w: the results of a poll take 7 bytes", store.ErrFull),
	} {
		synctest.Test(t, func(t *testing.T) {
			shared := store.NewMemory()
			l := &leader{runner: &runner{Engine: &Engine{store: shared}}}
			r := &stored{record: record{
				State: Polling, Failures: 9, FailingSince: time.Now().Add(-25 * time.Hour),
			}}
			require.NoError(t, l.failed(t.Context(), r, err))
			assert.Equal(t, want, r.State)
			assert.Equal(t, err.Error(), r.Reason)
			require.NoError(t, shared.Close())
		})
	}
}
