package ingest

import (
	"context"
	"time"

	ricloud "github.com/reincubate/ricloud-go"
)

const (
	together = 3         // accounts that look at the same time share one reading
	lately   = time.Hour // what was begun earlier is looked for by itself
)

// search is a reading of a list for all accounts that look, at the same time, for what their
// creates have made. When a process dies in the middle of many creates, each of the accounts would
// otherwise read lists of its own.
type search[T any] struct {
	turn  chan struct{} // holds one while nobody reads; it guards what follows
	size  pageSize
	began time.Time
	since time.Time // found holds all that was created since, and more
	found []T
	all   bool // it does
	err   error
}

func newSearch[T any]() *search[T] {
	s := &search[T]{turn: make(chan struct{}, 1), size: pageSize{max: maxPage}}
	s.turn <- struct{}{}
	return s
}

// read returns what a list shows of the time since the create of r was begun. ok is false if so few
// look now, or the list is so long, that the account had better look by itself.
func (s *search[T]) read(
	ctx context.Context, l *leader, r *stored, list func(context.Context) pageOf[T],
	see func(*T) (kept T, id ricloud.ID, created time.Time),
) (found []T, ok bool, err error) {
	select {
	case <-s.turn:
		defer func() { s.turn <- struct{}{} }()
	case <-ctx.Done():
		return nil, false, context.Cause(ctx)
	}
	// A reading is as good as one made now if it began when the account might look already.
	if s.began.Before(l.mayLook(r)) || r.Begun.Before(s.since) {
		searching, oldest := l.searching(r)
		if searching < together || time.Since(r.Begun) > lately {
			return nil, false, nil
		}
		s.began, s.since, s.found = time.Now(), oldest, nil
		s.all, s.err = walk(s.since, &s.size, func() int { return maxPage }, inTurn(ctx, l, list),
			func(one *T) (ricloud.ID, time.Time) {
				kept, id, created := see(one)
				s.found = append(s.found, kept)
				return id, created
			})
	}
	return s.found, s.all || s.err != nil, s.err
}

// mayLook says when an account may look for what its create has made.
func (l *leader) mayLook(r *stored) time.Time {
	if r.Due.IsZero() {
		return r.Begun.Add(l.settle)
	}
	return r.Due
}

// searching counts the accounts that may look now for what a create like that of r has made, and
// says when the first of those creates was begun.
func (l *leader) searching(r *stored) (n int, oldest time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	now := time.Now()
	oldest = r.Begun
	for _, it := range l.items {
		begun := time.Unix(0, int64(it.begun))
		if it.state != r.State || now.Sub(begun) > lately {
			continue
		}
		if when, _, _ := l.next(it); when > instantOf(now) {
			continue
		}
		if n++; begun.Before(oldest) {
			oldest = begun
		}
	}
	return n, oldest
}

// inTurn returns a list each of whose pages waits for its turn, unless the work ends first.
func inTurn[T any](
	ctx context.Context, l *leader, list func(context.Context) pageOf[T],
) pageOf[T] {
	return func(params ricloud.ListParams, r *ricloud.Response) (*ricloud.List[T], error) {
		turn, err := l.turn(ctx)
		if err != nil {
			return nil, err
		}
		return list(turn)(params, r)
	}
}
