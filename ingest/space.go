package ingest

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"sync"
	"sync/atomic"
	"time"

	"github.com/reincubate/ricloud-go/ingest/internal/store"
)

const (
	// recordGrowth is how many bytes an account gains on its way: its history and its jobs.
	recordGrowth = 2048
	roomLook     = time.Second
	// A sixteenth of what is free is given away before the store is asked again, since other
	// processes give it away, too.
	roomShare = 16
	// Counting the accounts on their way takes at most a hundredth of the time.
	roomCount = 100
	roomRest  = time.Minute
	// An eighth is spared: in a full store not even a lease can be renewed. New jobs leave it to what
	// is begun, too, since a job that is handled grows before it goes.
	roomSpare = 8
	jobGrowth = 256 // of a job, and a quarter of it for each of its results
)

// space is how much more may be submitted: what is free beyond the growth of the accounts that are
// on their way. It is safe for concurrent use.
type space struct {
	mu      sync.Mutex
	left    int64     // bytes that may be given away before the next look
	look    time.Time // when to look at the latest
	open    int64     // accounts on their way when they were counted
	counted int64     // records of all kinds then
	count   time.Time // when they may be counted again

	jobs     int64     // bytes that jobs may take before the next look
	jobsLook time.Time // when to look at the latest

	refused atomic.Int64 // when the store last refused a write, in nanoseconds since 1970
}

// take takes the room of an account of so many bytes, or returns ErrStoreFull.
func (e *Engine) take(ctx context.Context, size int) error {
	s, need := &e.space, int64(size+recordGrowth)
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.left < need || !s.look.After(time.Now()) {
		if err := e.lookForRoom(ctx, need); err != nil {
			return storeError("Submit", err)
		}
	}
	if s.left < need {
		return ErrStoreFull
	}
	s.left -= need
	return nil
}

// lookForRoom sees how much room is left. s.mu is held.
func (e *Engine) lookForRoom(ctx context.Context, need int64) error {
	s := &e.space
	u, err := e.store.Usage(ctx)
	if err != nil {
		return err
	}
	s.look = time.Now().Add(roomLook)
	if u.MaxBytes == 0 {
		s.left = math.MaxInt64
		return nil
	}
	//nolint:gosec // no disk holds so much
	free, records := int64(u.MaxBytes-u.MaxBytes/roomSpare)-int64(u.Bytes), int64(u.Records)
	growing := records
	if free-growing*recordGrowth < need { // not every record is of an account that grows
		if !s.count.After(time.Now()) {
			if err := e.countOpen(ctx); err != nil {
				return err
			}
			s.counted = records
		}
		growing = s.open + max(records-s.counted, 0)
	}
	free -= growing * recordGrowth
	s.left = max(free/roomShare, min(free, need))
	return nil
}

// takeForJobs takes the room of jobs, or returns store.ErrFull. Then the results of a poll have to
// wait until those of others are handled.
func (e *Engine) takeForJobs(ctx context.Context, jobs []*storedJob) error {
	var need int64
	for _, j := range jobs {
		value, err := json.Marshal(j.job)
		if err != nil {
			return err
		}
		need += int64(len(value) + jobGrowth + len(j.Tasks)*jobGrowth/4)
	}
	s := &e.space
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.jobs < need || !s.jobsLook.After(time.Now()) {
		u, err := e.store.Usage(ctx)
		if err != nil {
			return err
		}
		s.jobsLook, s.jobs = time.Now().Add(roomLook), math.MaxInt64
		if u.MaxBytes > 0 {
			//nolint:gosec // no disk holds so much
			s.jobs = int64(u.MaxBytes-u.MaxBytes/roomSpare) - int64(u.Bytes)
		}
	}
	if s.jobs < need {
		return fmt.Errorf("%w: the results of a poll take %d bytes", store.ErrFull, need)
	}
	s.jobs -= need
	return nil
}

// countOpen counts the accounts that are on their way. s.mu is held.
func (e *Engine) countOpen(ctx context.Context) error {
	began := time.Now()
	e.space.open = 0
	err := e.each(ctx, accountPrefix, func(entry store.Entry) {
		var r brief
		if json.Unmarshal(entry.Value, &r) != nil || r.State != Done && r.State != Dead {
			e.space.open++
		}
	})
	e.space.count = time.Now().Add(roomCount * time.Since(began))
	return err
}

// isFull reports whether Submit would return ErrStoreFull, or the store has refused a write lately.
func (e *Engine) isFull(ctx context.Context) (bool, error) {
	s := &e.space
	s.mu.Lock()
	defer s.mu.Unlock()
	const need = recordGrowth + 1024 // of a large account
	err := e.lookForRoom(ctx, need)
	return s.left < need || s.rest() > 0, err
}

// noteFull notes and logs if an error says that the store has refused a write for want of room.
func (r *runner) noteFull(ctx context.Context, err error) {
	if !errors.Is(err, store.ErrFull) {
		return
	}
	if r.space.rest() <= 0 {
		r.log(ctx, "the store is full: no login is begun until it has room; Forget what is done",
			slog.Any("error", err))
	}
	r.space.refused.Store(time.Now().UnixNano())
}

// rest is how long no login is begun: what is begun already needs the room.
func (s *space) rest() time.Duration {
	return time.Until(time.Unix(0, s.refused.Load()).Add(roomRest))
}
