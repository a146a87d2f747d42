package natsstore

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/reincubate/ricloud-go/ingest/internal/store"
)

// Put writes a value. A write whose confirmation is lost is looked for before
// it is repeated.
func (s *Store) Put(ctx context.Context, e store.Entry, ttl time.Duration) (uint64, error) {
	opts := []jetstream.PublishOpt{jetstream.WithRetryAttempts(0)}
	if ttl > 0 {
		opts = append(opts, jetstream.WithMsgTTL(ttl))
	}
	expect := e.Revision
	return s.write(ctx, func(ctx context.Context, again bool) (uint64, error) {
		ack, err := s.js.Publish(ctx, s.subject(e.Key), e.Value,
			append(opts, jetstream.WithExpectLastSequencePerSubject(expect))...)
		if err == nil {
			return ack.Sequence, nil
		}
		if code(err) != jetstream.JSErrCodeStreamWrongLastSequence {
			return 0, err
		}
		now, lastErr := s.last(ctx, e.Key)
		switch {
		case again && lastErr == nil && bytes.Equal(now.Value, e.Value):
			return now.Revision, nil // it is this very write
		case e.Revision == 0 && lastErr == nil && now.Value == nil && expect != now.Revision:
			expect = now.Revision // a removed key
			return 0, errInFlight
		case lastErr != nil && !errors.Is(lastErr, store.ErrNotFound):
			return 0, lastErr
		}
		return 0, store.ErrConflict
	})
}

// Remove removes a key.
func (s *Store) Remove(ctx context.Context, key string, revision uint64) error {
	_, err := s.write(ctx, func(ctx context.Context, again bool) (uint64, error) {
		err := s.kv.Purge(ctx, key, jetstream.LastRevision(revision), jetstream.PurgeTTL(markerTTL))
		if code(err) == jetstream.JSErrCodeStreamWrongLastSequence {
			if now, lastErr := s.last(ctx, key); again &&
				(errors.Is(lastErr, store.ErrNotFound) || lastErr == nil && now.Value == nil) {
				return 0, nil
			}
			return 0, store.ErrConflict
		}
		return 0, err
	})
	return err
}

// Publish stores an event, unless it is stored already.
func (s *Store) Publish(ctx context.Context, id string, data []byte) error {
	_, err := s.write(ctx, func(ctx context.Context, _ bool) (uint64, error) {
		_, err := s.js.Publish(ctx, s.event(id), data,
			jetstream.WithExpectLastSequencePerSubject(0), jetstream.WithRetryAttempts(0))
		if code(err) == jetstream.JSErrCodeStreamWrongLastSequence {
			return 0, nil // stored before
		}
		return 0, err
	})
	return err
}

var errInFlight = errors.New("another write is in flight")

// write repeats a write until its outcome is known. again tells attempt that an
// earlier one may have been applied.
func (s *Store) write(
	ctx context.Context, attempt func(ctx context.Context, again bool) (uint64, error),
) (uint64, error) {
	ctx, cancel := s.bounded(ctx)
	defer cancel()
	again := false
	for {
		try, cancel := context.WithTimeout(ctx, attemptTimeout)
		revision, err := attempt(try, again)
		cancel()
		wait := retryWait
		switch {
		case err == nil:
			return revision, nil
		case errors.Is(err, store.ErrConflict):
			return 0, err
		case errors.Is(err, nats.ErrMaxPayload):
			return 0, fmt.Errorf("%w (%w)", store.ErrTooLarge, err)
		case isFull(err):
			return 0, fmt.Errorf("%w (%w)", store.ErrFull, err)
		case errors.Is(err, errInFlight), code(err) == jetstream.JSErrCodeStreamWrongLastSequenceConstant:
			wait = inFlightWait
		default:
			again = true
		}
		if s.pause(ctx, wait) != nil {
			return 0, s.failure(err)
		}
	}
}

// code returns the server's code of an error, 0 for one that it did not send.
func code(err error) jetstream.ErrorCode {
	if api, ok := errors.AsType[*jetstream.APIError](err); ok {
		return api.ErrorCode
	}
	if js, ok := errors.AsType[jetstream.JetStreamError](err); ok && js.APIError() != nil {
		return js.APIError().ErrorCode
	}
	return 0
}

// isFull reports whether an error means that a stream or a disk is full.
func isFull(err error) bool {
	switch code(err) {
	case 10077, 10047, 10023: // the stream's limit, the server's, the account's
		return true
	}
	return false
}
