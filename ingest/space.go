package ingest

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/reincubate/ricloud-go/ingest/internal/store"
)

const (
	// How many bytes an account gains on its way at most: what it holds beyond the Account itself. Its
	// history is cut to fit. A subscribed one remembers polls as well.
	recordGrowth     = 3 << 10
	subscribedGrowth = 6 << 10
	roomLook         = time.Second
	// A sixteenth of what is free is given away before the store is asked again, since other
	// processes give it away, too.
	roomShare = 16
	// Counting the accounts on their way takes at most a hundredth of the time.
	roomCount = 100
	roomRest  = time.Minute
	// An eighth is spared: in a full store not even a lease can be renewed. New jobs leave it to what
	// is begun, too, since a job that is handled grows before it goes.
	roomSpare  = 8
	jobGrowth  = 256 // of a job
	taskGrowth = maxDead + 150
	maxDead    = 300 // bytes as JSON, of the reason why a result is given up
)

// space is how much more may be submitted: what is free beyond the growth of the accounts that are
// on their way. It is safe for concurrent use.
type space struct {
	mu      sync.Mutex
	left    int64     // bytes that may be given away before the next look
	look    time.Time // when to look at the latest
	open    int64     // bytes that the accounts on their way may gain, when they were counted
	counted int64     // records of all kinds then
	count   time.Time // when they may be counted again

	jobs     int64     // bytes that jobs may take before the next look
	jobsLook time.Time // when to look at the latest

	refused atomic.Int64 // when the store last refused a write, in nanoseconds since 1970
}

// growth is how many bytes an account gains on its way at most.
func (a Account) growth() int {
	if a.Every > 0 {
		return subscribedGrowth
	}
	return recordGrowth
}

// take takes the room of an account, of so many bytes and its growth, or returns ErrStoreFull.
func (e *Engine) take(ctx context.Context, a Account, size int) error {
	s, need := &e.space, int64(size+a.growth())
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
	growing := records * subscribedGrowth
	if free-growing < need { // not every record is of an account that grows so much
		if !s.count.After(time.Now()) {
			if err := e.countOpen(ctx); err != nil {
				return err
			}
			s.counted = records
		}
		growing = s.open + max(records-s.counted, 0)*subscribedGrowth
	}
	free -= growing
	s.left = max(free/roomShare, min(free, need))
	return nil
}

// encode returns the record as it is stored, cut to what was reserved for it.
func (r *record) encode() ([]byte, error) {
	// How long reasons and the notes of the history may be, as JSON, and how many steps that may have:
	// the mildest cut first.
	cuts := []struct{ reason, note, steps int }{
		{600, 240, maxHistory}, {600, 240, 12}, {600, 80, 12}, {600, 80, 6}, {300, 80, 6}, {80, 80, 6},
	}
	value, err := json.Marshal(r)
	if err != nil || len(value) <= recordGrowth {
		return value, err
	}
	account, err := json.Marshal(r.Account)
	if err != nil {
		return nil, err
	}
	r.History, r.Open = slices.Clone(r.History), slices.Clone(r.Open) // a copy may hold them, too
	for _, most := range cuts {
		if len(value) <= len(account)+r.Account.growth() {
			break
		}
		r.Reason = shortened(r.Reason, most.reason)
		for i := range r.Open {
			r.Open[i].Failed = shortened(r.Open[i].Failed, most.reason)
		}
		first := most.steps / 4
		if over := len(r.History) - most.steps; over > 0 {
			r.History = slices.Delete(r.History, first, first+over)
		}
		for i := range r.History {
			r.History[i].Note = shortened(r.History[i].Note, most.note)
		}
		if value, err = json.Marshal(r); err != nil {
			return nil, err
		}
	}
	return value, nil
}

func encodedLen(s string) int {
	encoded, err := json.Marshal(s)
	if err != nil {
		return len(s) // a string always encodes
	}
	return len(encoded)
}

// shortened returns the beginning of a text, which takes at most so many bytes as JSON.
func shortened(s string, atMost int) string {
	const more = "…"
	if encodedLen(s) <= atMost {
		return s
	}
	n := 2 + len(more) // quotes
	for i, char := range s {
		if n += encodedLen(string(char)) - 2; n > atMost {
			return s[:i] + more
		}
	}
	return s
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
		need += int64(len(value) + jobGrowth + len(j.Tasks)*taskGrowth)
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

// briefGrowth is what countOpen needs of a record.
type briefGrowth struct {
	State   State   `json:"state"`
	Account Account `json:"account"`
}

// countOpen counts what the accounts that are on their way may gain. s.mu is held.
func (e *Engine) countOpen(ctx context.Context) error {
	began := time.Now()
	e.space.open = 0
	err := e.each(ctx, accountPrefix, func(entry store.Entry) {
		var r briefGrowth
		err := json.Unmarshal(entry.Value, &r)
		if err != nil || r.State != Done && r.State != Dead {
			e.space.open += int64(r.Account.growth())
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
