// Package natsstore keeps an engine's state in NATS JetStream: in a server
// inside the process, or in a cluster.
package natsstore

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/reincubate/ricloud-go/ingest/internal/store"
)

// Options describes the two streams of an engine.
type Options struct {
	Name          string // of the organisation: streams and subjects begin with it
	Replicas      int
	MaxBytes      int64 // of records
	MaxEventBytes int64
	MaxEventAge   time.Duration
}

const (
	// The limit of one request to a server: the client's 5 s would be the stall.
	attemptTimeout = 2 * time.Second
	callTimeout    = 30 * time.Second // of a read or a write, when the context has no end
	markerTTL      = time.Minute      // how long it shows that a key was removed
	retryWait      = 100 * time.Millisecond
	readBatch      = 200
	maxRest        = 1000 // read one by one, when there are always new ones
	inFlightWait   = 5 * time.Millisecond
)

// Store is a store.Store in JetStream.
type Store struct {
	conn     *nats.Conn
	js       jetstream.JetStream
	name     string
	kv       jetstream.KeyValue
	records  jetstream.Stream
	events   jetstream.Stream
	embedded *embedded     // nil: a cluster
	patience time.Duration // callTimeout, or less in tests
}

// Connect opens the state in the cluster at url, which may name several servers.
func Connect(ctx context.Context, url string, o Options, opts ...nats.Option) (*Store, error) {
	opts = append([]nats.Option{
		nats.Name("ricloud ingest"), nats.MaxReconnects(-1), nats.ReconnectWait(retryWait),
		nats.Timeout(attemptTimeout),
		nats.PingInterval(attemptTimeout), nats.MaxPingsOutstanding(2), quiet(),
	}, opts...)
	conn, err := nats.Connect(url, opts...)
	if err != nil {
		return nil, fmt.Errorf("connecting to NATS: %w", err)
	}
	s, err := open(ctx, conn, o)
	if err != nil {
		conn.Close()
		return nil, err
	}
	return s, nil
}

// quiet keeps the client from printing what goes wrong in its background: it
// connects again, and calls return their errors.
func quiet() nats.Option {
	return nats.ErrorHandler(func(*nats.Conn, *nats.Subscription, error) {})
}

// open finds or makes the streams. A cluster that elects its leaders may need
// several attempts.
func open(ctx context.Context, conn *nats.Conn, o Options) (*Store, error) {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	js, err := jetstream.New(conn, jetstream.WithDefaultTimeout(attemptTimeout))
	if err != nil {
		return nil, err
	}
	s := &Store{conn: conn, js: js, name: o.Name, patience: callTimeout}
	for {
		if err = s.streams(ctx, o); err == nil {
			return s, nil
		}
		if sleep(ctx, retryWait) != nil {
			return nil, fmt.Errorf("opening the streams of %q: %w", o.Name, err)
		}
	}
}

// bucket and stream are the names of what holds an organisation's state.
func bucket(name string) string { return name + "-state" }
func stream(name string) string { return name + "-events" }

func (s *Store) streams(ctx context.Context, o Options) (err error) {
	// A bucket made as a stream, since CreateKeyValue has any replica answer a read: one that lags
	// behind would tell a process that a job it has just claimed is not its own.
	s.records, err = s.js.CreateOrUpdateStream(ctx, jetstream.StreamConfig{
		Name: "KV_" + bucket(o.Name), Description: "ricloud ingest: accounts, work, leases, quota",
		Subjects: []string{s.subject(">")}, MaxMsgsPerSubject: 1, MaxBytes: o.MaxBytes,
		Discard: jetstream.DiscardNew, Storage: jetstream.FileStorage, Replicas: o.Replicas,
		AllowRollup: true, DenyDelete: true, AllowMsgTTL: true, SubjectDeleteMarkerTTL: markerTTL,
	})
	if err != nil {
		return err
	}
	if s.kv, err = s.js.KeyValue(ctx, bucket(o.Name)); err != nil {
		return err
	}
	s.events, err = s.js.CreateOrUpdateStream(ctx, jetstream.StreamConfig{
		Name: stream(o.Name), Description: "ricloud ingest: events, each once",
		Subjects:  []string{s.event(">")},
		Retention: jetstream.LimitsPolicy, Discard: jetstream.DiscardNew, Storage: jetstream.FileStorage,
		MaxAge: o.MaxEventAge, MaxBytes: o.MaxEventBytes, Replicas: o.Replicas, Duplicates: time.Second,
	})
	return err
}

func (s *Store) event(id string) string    { return s.name + ".event." + id }
func (s *Store) subject(key string) string { return "$KV." + bucket(s.name) + "." + key }
func (s *Store) live(name string) string   { return s.name + ".live." + name }

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

// bounded gives ctx an end if it has none.
func (s *Store) bounded(ctx context.Context) (context.Context, context.CancelFunc) {
	if _, ok := ctx.Deadline(); ok {
		return ctx, func() {}
	}
	return context.WithTimeout(ctx, s.patience)
}

// pause waits before another attempt. It returns an error if there is none to make: ctx has ended,
// or the connection is closed, which is final.
func (s *Store) pause(ctx context.Context, d time.Duration) error {
	if s.conn.IsClosed() {
		return store.ErrClosed
	}
	return sleep(ctx, d)
}

// failure returns err as store.ErrClosed if the connection is closed.
func (s *Store) failure(err error) error {
	if err != nil && s.conn.IsClosed() {
		return fmt.Errorf("%w (%w)", store.ErrClosed, err)
	}
	return err
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

// Watch calls fn for each key and each change.
func (s *Store) Watch(ctx context.Context, prefix string, fn func(store.Entry)) error {
	if strings.HasSuffix(prefix, ".") {
		prefix += ">"
	}
	var opts []jetstream.WatchOpt
	read := strings.HasSuffix(prefix, ">")
	if read {
		last, err := s.read(ctx, prefix, fn)
		if err != nil || ctx.Err() != nil {
			return ended(ctx, s.failure(err))
		}
		if fn(store.Entry{}); last > 0 {
			opts = append(opts, jetstream.ResumeFromRevision(last+1))
		}
	}
	watcher, err := s.watcher(ctx, prefix, opts)
	if err != nil {
		return ended(ctx, s.failure(err))
	}
	defer func() { _ = watcher.Stop() }()
	for {
		select {
		case <-ctx.Done():
			return nil
		case e, ok := <-watcher.Updates():
			switch {
			case !ok:
				return ended(ctx, s.failure(errors.New("the watch has ended")))
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

// Subscribe calls fn for each event.
func (s *Store) Subscribe(ctx context.Context, since time.Time, fn func([]byte)) error {
	for {
		err := s.subscribe(ctx, since, fn)
		if s.pause(ctx, retryWait) != nil {
			return ended(ctx, s.failure(err))
		}
	}
}

func (s *Store) subscribe(ctx context.Context, since time.Time, fn func([]byte)) error {
	consumer, err := s.js.OrderedConsumer(ctx, stream(s.name), jetstream.OrderedConsumerConfig{
		DeliverPolicy: jetstream.DeliverByStartTimePolicy, OptStartTime: &since,
	})
	if err != nil {
		return err
	}
	// With the defaults of 30 s, messages wait that long after a quorum returns.
	messages, err := consumer.Messages(jetstream.PullExpiry(4*time.Second),
		jetstream.PullHeartbeat(time.Second))
	if err != nil {
		return err
	}
	stop := context.AfterFunc(ctx, messages.Stop)
	defer stop()
	defer messages.Stop()
	next := jetstream.NextContext(ctx) // Stop alone is lost on a consumer that makes itself anew
	for {
		msg, err := messages.Next(next)
		if errors.Is(err, jetstream.ErrNoHeartbeat) {
			continue // the consumer makes itself anew
		}
		if err != nil {
			return err
		}
		fn(msg.Data())
	}
}

// Send reaches all that listen.
func (s *Store) Send(_ context.Context, subject string, data []byte) error {
	return s.failure(s.conn.Publish(s.live(subject), data))
}

// Listen calls fn with nil, and then for each message.
func (s *Store) Listen(ctx context.Context, subject string, fn func([]byte)) error {
	return s.listen(ctx, subject, func(msg *nats.Msg) { fn(msg.Data) }, func() { fn(nil) })
}

// Answer answers each question with fn.
func (s *Store) Answer(ctx context.Context, subject string, fn func([]byte) []byte) error {
	return s.listen(ctx, subject, func(msg *nats.Msg) {
		go func() { _ = msg.Respond(fn(msg.Data)) }() // who asked may be gone
	}, func() {})
}

func (s *Store) listen(
	ctx context.Context, subject string, fn func(*nats.Msg), listening func(),
) error {
	subscription, err := s.conn.Subscribe(s.live(subject), fn)
	if err != nil {
		return ended(ctx, s.failure(err))
	}
	over := make(chan struct{})
	subscription.SetClosedHandler(func(string) { close(over) })
	listening()
	select {
	case <-ctx.Done():
		return ended(ctx, subscription.Unsubscribe())
	case <-over:
		return ended(ctx, s.failure(errors.New("the subscription has ended")))
	}
}

// Ask returns the answer of one that answers.
func (s *Store) Ask(ctx context.Context, subject string, data []byte) ([]byte, error) {
	msg, err := s.conn.RequestWithContext(ctx, s.live(subject), data)
	if errors.Is(err, nats.ErrNoResponders) {
		return nil, store.ErrNobody
	}
	if err != nil {
		return nil, s.failure(err)
	}
	return msg.Data, nil
}

// Usage is how much the store holds.
func (s *Store) Usage(ctx context.Context) (store.Usage, error) {
	u := store.Usage{Embedded: s.embedded != nil}
	records, err := s.records.Info(ctx)
	if err != nil {
		return u, s.failure(err)
	}
	events, err := s.events.Info(ctx)
	if err != nil {
		return u, s.failure(err)
	}
	u.Records, u.Bytes = records.State.Msgs, records.State.Bytes
	u.Events, u.EventBytes = events.State.Msgs, events.State.Bytes
	u.MaxBytes, u.MaxEventBytes = limit(records.Config.MaxBytes), limit(events.Config.MaxBytes)
	return u, nil
}

func limit(n int64) uint64 { return uint64(max(n, 0)) }

// Close ends the connection, and the server inside the process.
func (s *Store) Close() error {
	s.conn.Close()
	if s.embedded != nil {
		return s.embedded.close()
	}
	return nil
}

// ended returns err, or nil if ctx has ended.
func ended(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return nil //nolint:nilerr // the end was asked for
	}
	return err
}

func sleep(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}
