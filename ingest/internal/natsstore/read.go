package natsstore

import (
	"context"
	"errors"
	"strings"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/reincubate/ricloud-go/ingest/internal/store"
)

// Get returns the entry of a key.
func (s *Store) Get(ctx context.Context, key string) (store.Entry, error) {
	ctx, cancel := s.bounded(ctx)
	defer cancel()
	for {
		e, err := s.last(ctx, key)
		switch {
		case err == nil && e.Value == nil:
			return store.Entry{}, store.ErrNotFound
		case err == nil, errors.Is(err, store.ErrNotFound):
			return e, err
		}
		if s.pause(ctx, retryWait) != nil {
			return store.Entry{}, s.failure(err)
		}
	}
}

// last returns what was last written under a key, a removal included.
func (s *Store) last(ctx context.Context, key string) (store.Entry, error) {
	ctx, cancel := context.WithTimeout(ctx, attemptTimeout)
	defer cancel()
	msg, err := s.records.GetLastMsgForSubject(ctx, s.subject(key))
	if errors.Is(err, jetstream.ErrMsgNotFound) {
		return store.Entry{}, store.ErrNotFound
	}
	if err != nil {
		return store.Entry{}, err
	}
	e := store.Entry{Key: key, Revision: msg.Sequence}
	if !isRemoval(msg.Header) {
		e.Value = append([]byte{}, msg.Data...)
	}
	return e, nil
}

// Watch calls fn for each key and each change.
func (s *Store) Watch(ctx context.Context, prefix string, fn func(store.Entry)) error {
	return s.follow(ctx, func(ctx context.Context) error { return s.watch(ctx, prefix, fn) })
}

func (s *Store) watch(ctx context.Context, prefix string, fn func(store.Entry)) error {
	if strings.HasSuffix(prefix, ".") {
		prefix += ">"
	}
	var opts []jetstream.WatchOpt
	read := strings.HasSuffix(prefix, ">")
	if read {
		last, err := s.read(ctx, prefix, fn)
		if err != nil || ctx.Err() != nil {
			return err
		}
		if fn(store.Entry{}); last > 0 {
			opts = append(opts, jetstream.ResumeFromRevision(last+1))
		}
	}
	watcher, err := s.watcher(ctx, prefix, opts)
	if err != nil {
		return err
	}
	defer func() { _ = watcher.Stop() }()
	for {
		select {
		case <-ctx.Done():
			return nil
		case e, ok := <-watcher.Updates():
			switch {
			case !ok:
				return errors.New("the watch has ended")
			case e == nil && read: // it was told already
			case e == nil:
				fn(store.Entry{})
			case e.Operation() == jetstream.KeyValuePut:
				fn(store.Entry{Key: e.Key(), Value: e.Value(), Revision: e.Revision()})
			default:
				fn(store.Entry{Key: e.Key(), Revision: e.Revision()})
			}
		}
	}
}

// read calls fn for each key that is there, and returns the revision of the last. A watch would be
// sent all of them at once, which takes memory in both the server and the client. However many
// there are, the time of a call bounds only how long none comes. A key that is written anew moves
// to the end and can be missed on its way, so it reads on until nothing was written since.
func (s *Store) read(
	ctx context.Context, keys string, fn func(store.Entry),
) (last uint64, err error) {
	bound, cancel := s.bounded(ctx)
	defer func() { cancel() }()
	for {
		before := last
		done, err := s.readFrom(ctx, keys, &last, fn)
		if done {
			done, err = s.readRest(ctx, keys, &last, fn)
		}
		if done {
			return last, nil
		}
		if last != before {
			cancel()
			bound, cancel = s.bounded(ctx) //nolint:fatcontext // in place of the former
		}
		if s.pause(bound, retryWait) != nil {
			return last, err
		}
	}
}

// readFrom reads on after last until it has read all, or fails.
func (s *Store) readFrom(
	ctx context.Context, keys string, last *uint64, fn func(store.Entry),
) (done bool, err error) {
	attempt, cancel := context.WithTimeout(ctx, attemptTimeout)
	defer cancel()
	consumer, err := s.records.CreateConsumer(attempt, jetstream.ConsumerConfig{
		FilterSubject: s.subject(keys), DeliverPolicy: jetstream.DeliverByStartSequencePolicy,
		OptStartSeq: *last + 1, AckPolicy: jetstream.AckNonePolicy, MemoryStorage: true, Replicas: 1,
		InactiveThreshold: callTimeout,
	})
	if err != nil {
		return false, err
	}
	name := consumer.CachedInfo().Name
	defer func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), attemptTimeout)
		defer cancel()
		_ = s.records.DeleteConsumer(ctx, name) // or it goes by itself
	}()
	for left := consumer.CachedInfo().NumPending; left > 0; {
		// FetchNoWait would wait for ever if the server died now.
		// For more than there is, it would wait until the end of attemptTimeout.
		most := int(min(readBatch, left))
		batch, err := consumer.Fetch(most, jetstream.FetchMaxWait(attemptTimeout))
		if err != nil {
			return false, err
		}
		before := *last
		for msg := range batch.Messages() {
			meta, err := msg.Metadata()
			if err != nil || ctx.Err() != nil {
				return false, err
			}
			*last, left = meta.Sequence.Stream, meta.NumPending
			e := store.Entry{Key: strings.TrimPrefix(msg.Subject(), s.subject("")), Revision: *last}
			if !isRemoval(msg.Headers()) {
				e.Value = msg.Data()
			}
			if fn(e); left == 0 {
				return true, nil // the batch would wait for more
			}
		}
		if err := batch.Error(); err != nil || ctx.Err() != nil {
			return false, err
		}
		if *last == before {
			return false, errors.New("the server sends no more")
		}
	}
	return true, nil
}

// readRest reads one by one what was written after last meanwhile.
func (s *Store) readRest(
	ctx context.Context, keys string, last *uint64, fn func(store.Entry),
) (done bool, err error) {
	for range maxRest {
		attempt, cancel := context.WithTimeout(ctx, attemptTimeout)
		msg, err := s.records.GetMsg(attempt, *last+1, jetstream.WithGetMsgSubject(s.subject(keys)))
		cancel()
		if errors.Is(err, jetstream.ErrMsgNotFound) {
			return true, nil
		}
		if err != nil || ctx.Err() != nil {
			return false, err
		}
		*last = msg.Sequence
		e := store.Entry{Key: strings.TrimPrefix(msg.Subject, s.subject("")), Revision: *last}
		if !isRemoval(msg.Header) {
			e.Value = msg.Data
		}
		fn(e)
	}
	return true, nil
}

// isRemoval reports whether a message says that its key was removed or has expired.
func isRemoval(header nats.Header) bool {
	return header.Get("KV-Operation") != "" || header.Get(jetstream.MarkerReasonHeader) != ""
}

func (s *Store) watcher(
	ctx context.Context, keys string, opts []jetstream.WatchOpt,
) (jetstream.KeyWatcher, error) {
	bound, cancel := s.bounded(ctx)
	defer cancel()
	for {
		watcher, err := s.kv.Watch(ctx, keys, opts...)
		if err == nil {
			return watcher, nil
		}
		if s.pause(bound, retryWait) != nil {
			return nil, err
		}
	}
}
