// Package natsstore keeps an engine's state in NATS JetStream: in a server
// inside the process, or in a cluster.
package natsstore

import (
	"cmp"
	"context"
	"fmt"
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

	life context.Context //nolint:containedctx // it ends when the connection is closed
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
	life, end := context.WithCancel(context.WithoutCancel(ctx))
	conn.SetClosedHandler(func(*nats.Conn) { end() })
	s := &Store{conn: conn, js: js, name: o.Name, patience: callTimeout, life: life}
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

// follow calls call with a context that also ends when the connection is closed: the client does
// not end everything that begins just then. It returns nil if ctx has ended.
func (s *Store) follow(ctx context.Context, call func(context.Context) error) error {
	following, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(s.life, cancel)() //nolint:contextcheck // the connection's own life
	err := call(following)
	switch {
	case ctx.Err() != nil:
		return nil // the end was asked for
	case s.life.Err() != nil:
		return fmt.Errorf("%w (%w)", store.ErrClosed, cmp.Or(err, nats.ErrConnectionClosed))
	}
	return s.failure(err)
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

// Now returns the time by the clock of the server that leads the stream of records.
func (s *Store) Now(ctx context.Context) (time.Time, error) {
	ctx, cancel := context.WithTimeout(ctx, attemptTimeout)
	defer cancel()
	info, err := s.records.Info(ctx)
	if err != nil {
		return time.Time{}, s.failure(err)
	}
	return info.TimeStamp, nil
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
