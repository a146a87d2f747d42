package natsstore_test

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/reincubate/ricloud-go/ingest/internal/natsstore"
	"github.com/reincubate/ricloud-go/ingest/internal/store"
)

func options() natsstore.Options {
	return natsstore.Options{
		Name: "test", Replicas: 1, MaxBytes: 64 << 20, MaxEventBytes: 64 << 20, MaxEventAge: time.Hour,
	}
}

// serve starts a NATS server on a free loopback port.
func serve(t *testing.T) (url string) {
	t.Helper()
	return start(t).ClientURL()
}

func start(t *testing.T) *server.Server {
	t.Helper()
	srv, err := server.NewServer(&server.Options{
		Host: "127.0.0.1", Port: server.RANDOM_PORT, JetStream: true, StoreDir: t.TempDir(), NoLog: true,
		NoSigs: true,
	})
	require.NoError(t, err)
	srv.Start()
	t.Cleanup(func() { srv.Shutdown(); srv.WaitForShutdown() })
	require.True(t, srv.ReadyForConnections(time.Minute))
	return srv
}

// A folder is one process's own, and what was stored is there after a restart.
func TestEmbedded(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	s, err := natsstore.Embed(t.Context(), dir, options())
	require.NoError(t, err)
	revision, err := s.Put(t.Context(), store.Entry{Key: "acct.a", Value: []byte("x")}, 0)
	require.NoError(t, err)
	_, err = natsstore.Embed(t.Context(), dir, options())
	require.ErrorContains(t, err, "another process uses the folder "+dir)
	require.NoError(t, s.Close())

	s, err = natsstore.Embed(t.Context(), dir, options())
	require.NoError(t, err)
	e, err := s.Get(t.Context(), "acct.a")
	require.NoError(t, err)
	assert.Equal(t, store.Entry{Key: "acct.a", Value: []byte("x"), Revision: revision}, e)
	require.NoError(t, s.Close())
}

// Two processes on one server see each other's writes, messages and answers.
func TestConnected(t *testing.T) {
	t.Parallel()
	url := serve(t)
	var both [2]*natsstore.Store
	for i := range both {
		var err error
		both[i], err = natsstore.Connect(t.Context(), url, options())
		require.NoError(t, err)
		defer func() { assert.NoError(t, both[i].Close()) }()
	}
	ctx, cancel := context.WithCancel(t.Context())
	var running sync.WaitGroup
	ready, heard := make(chan bool), make(chan string, 1)
	running.Go(func() {
		assert.NoError(t, both[1].Listen(ctx, "news", func(data []byte) {
			if data == nil {
				ready <- true
			} else {
				heard <- string(data)
			}
		}))
	})
	running.Go(func() {
		assert.NoError(t, both[1].Answer(ctx, "who", func([]byte) []byte { return []byte("me") }))
	})
	running.Go(func() {
		assert.NoError(t, both[1].Watch(ctx, "acct.", func(e store.Entry) {
			switch {
			case e.Key == "":
				ready <- true
			case e.Value == nil:
				heard <- "gone"
			default:
				heard <- string(e.Value)
			}
		}))
	})
	<-ready
	<-ready
	require.NoError(t, both[0].Send(ctx, "news", []byte("hello")))
	assert.Equal(t, "hello", <-heard)
	e := store.Entry{Key: "acct.a", Value: []byte("a")}
	var err error
	e.Revision, err = both[0].Put(ctx, e, 0)
	require.NoError(t, err)
	assert.Equal(t, "a", <-heard)
	_, err = both[1].Put(ctx, store.Entry{Key: "acct.a", Value: []byte("b")}, 0)
	require.ErrorIs(t, err, store.ErrConflict)
	require.NoError(t, both[0].Remove(ctx, "acct.a", e.Revision))
	assert.Equal(t, "gone", <-heard)
	require.ErrorIs(t, both[1].Remove(ctx, "acct.a", e.Revision), store.ErrConflict)
	var answer []byte
	for err = store.ErrNobody; errors.Is(err, store.ErrNobody); {
		answer, err = both[0].Ask(ctx, "who", []byte("?"))
	}
	require.NoError(t, err)
	assert.Equal(t, "me", string(answer))
	cancel()
	running.Wait()

	_, err = natsstore.Connect(t.Context(), "nats://127.0.0.1:1", options())
	require.ErrorIs(t, err, nats.ErrNoServers)
}

// A full store says so, and takes again what fits once there is room.
func TestFull(t *testing.T) {
	t.Parallel()
	o := options()
	o.MaxBytes, o.MaxEventBytes = 1<<20, 1<<20
	s, err := natsstore.Embed(t.Context(), t.TempDir(), o)
	require.NoError(t, err)
	defer func() { assert.NoError(t, s.Close()) }()
	large := make([]byte, 300<<10)
	var revision uint64
	for i := 0; err == nil; i++ {
		require.Less(t, i, 10)
		var r uint64
		if r, err = s.Put(t.Context(),
			store.Entry{Key: "acct." + strings.Repeat("x", i+1), Value: large}, 0); err == nil && i == 0 {
			revision = r
		}
	}
	require.ErrorIs(t, err, store.ErrFull)
	require.NoError(t, s.Remove(t.Context(), "acct.x", revision))
	_, err = s.Put(t.Context(), store.Entry{Key: "acct.again", Value: large}, 0)
	require.NoError(t, err)
	for i := 0; err == nil; i++ {
		require.Less(t, i, 10)
		err = s.Publish(t.Context(), strings.Repeat("x", i+1), large)
	}
	require.ErrorIs(t, err, store.ErrFull)
}

// What does not fit into a message is refused at once, and stops nothing else.
func TestTooLarge(t *testing.T) {
	t.Parallel()
	s, err := natsstore.Embed(t.Context(), t.TempDir(), options())
	require.NoError(t, err)
	defer func() { assert.NoError(t, s.Close()) }()
	for _, size := range []int{1 << 20, 2 << 20, 20 << 20} {
		large, ctx := make([]byte, size), context.Background()
		_, err = s.Put(ctx, store.Entry{Key: "acct.a", Value: large}, 0)
		require.ErrorIs(t, err, store.ErrTooLarge)
		require.ErrorIs(t, s.Publish(ctx, "1", large), store.ErrTooLarge)
	}
	_, err = s.Put(t.Context(), store.Entry{Key: "acct.a", Value: []byte("x")}, 0)
	require.NoError(t, err)
}

// Records are read from the server that leads their stream: a replica that lags behind would show a
// process an older state than it has written itself. A bucket that lets replicas answer is changed.
func TestReadsAreOfTheLatest(t *testing.T) {
	t.Parallel()
	url := serve(t)
	conn, err := nats.Connect(url)
	require.NoError(t, err)
	defer conn.Close()
	js, err := jetstream.New(conn)
	require.NoError(t, err)
	old, err := js.CreateKeyValue(t.Context(), jetstream.KeyValueConfig{
		Bucket: "test-state", LimitMarkerTTL: time.Minute, MaxBytes: 64 << 20,
	})
	require.NoError(t, err)
	revision, err := old.PutString(t.Context(), "acct.a", "kept")
	require.NoError(t, err)
	s, err := natsstore.Connect(t.Context(), url, options())
	require.NoError(t, err)
	defer func() { assert.NoError(t, s.Close()) }()
	records, err := js.Stream(t.Context(), "KV_test-state")
	require.NoError(t, err)
	assert.False(t, records.CachedInfo().Config.AllowDirect)
	e, err := s.Get(t.Context(), "acct.a")
	require.NoError(t, err)
	assert.Equal(t, store.Entry{Key: "acct.a", Value: []byte("kept"), Revision: revision}, e)
}

// A pass over keys of which some are written anew all the time shows each of them.
func TestAPassLeavesNoKeyOut(t *testing.T) {
	t.Parallel()
	const keys, passes = 60, 100
	s, err := natsstore.Connect(t.Context(), serve(t), options())
	require.NoError(t, err)
	defer func() { assert.NoError(t, s.Close()) }()
	ctx, cancel := context.WithCancel(t.Context())
	var writing, ready sync.WaitGroup
	for i := range keys {
		e := store.Entry{Key: "acct." + strconv.Itoa(i), Value: []byte("x")}
		ready.Add(1)
		writing.Go(func() {
			var err error
			e.Revision, err = s.Put(ctx, e, 0)
			for ready.Done(); err == nil && i%20 == 0; {
				<-time.NewTimer(time.Millisecond).C
				e.Revision, err = s.Put(ctx, e, 0)
			}
		})
	}
	ready.Wait()
	for range passes {
		seen := map[string]bool{}
		pass, end := context.WithCancel(ctx)
		require.NoError(t, s.Watch(pass, "acct.", func(e store.Entry) {
			if seen[e.Key] = true; e.Key == "" {
				end()
			}
		}))
		require.Len(t, seen, keys+1)
	}
	cancel()
	writing.Wait()
}

// When an operator deletes the streams, nothing is taken for stored, and nothing is made anew
// behind their back.
func TestStreamsThatAreDeleted(t *testing.T) {
	t.Parallel()
	url := serve(t)
	s, err := natsstore.Connect(t.Context(), url, options())
	require.NoError(t, err)
	defer func() { assert.NoError(t, s.Close()) }()
	conn, err := nats.Connect(url)
	require.NoError(t, err)
	defer conn.Close()
	js, err := jetstream.New(conn)
	require.NoError(t, err)
	for name := range js.StreamNames(t.Context()).Name() {
		require.NoError(t, js.DeleteStream(t.Context(), name))
	}
	ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	_, err = s.Put(ctx, store.Entry{Key: "acct.a", Value: []byte("x")}, 0)
	require.Error(t, err)
	require.NotErrorIs(t, err, store.ErrConflict)
	require.Error(t, s.Publish(ctx, "1", []byte("x")))
	_, err = s.Get(ctx, "acct.a")
	require.Error(t, err)
	_, err = s.Usage(ctx)
	require.Error(t, err)
	assert.Empty(t, js.StreamNames(t.Context()).Name())
}

// While the server is away, a call ends also if its context has no end.
func TestServerThatIsAway(t *testing.T) {
	t.Parallel()
	srv := start(t)
	s, err := natsstore.Connect(t.Context(), srv.ClientURL(), options())
	require.NoError(t, err)
	defer func() { assert.NoError(t, s.Close()) }()
	s.SetPatience(200 * time.Millisecond)
	srv.Shutdown()
	srv.WaitForShutdown()
	ctx := context.Background()
	var calls sync.WaitGroup
	for name, call := range map[string]func() error{
		"Get":       func() error { _, err := s.Get(ctx, "acct.a"); return err },
		"Put":       func() error { _, err := s.Put(ctx, store.Entry{Key: "acct.a"}, 0); return err },
		"Remove":    func() error { return s.Remove(ctx, "acct.a", 1) },
		"Publish":   func() error { return s.Publish(ctx, "1", nil) },
		"Watch":     func() error { return s.Watch(ctx, "acct.", func(store.Entry) {}) },
		"Watch key": func() error { return s.Watch(ctx, "acct.a", func(store.Entry) {}) },
		"Usage":     func() error { _, err := s.Usage(ctx); return err },
	} {
		calls.Go(func() {
			err := call()
			failed := err != nil && !errors.Is(err, store.ErrClosed)
			assert.True(t, failed, "%s: %v", name, err)
		})
	}
	calls.Wait()
}

// Move copies accounts, jobs and events, leaves leases behind, and closes the folder for good. It
// can be repeated as long as nothing else has been written.
func TestMove(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	from, err := natsstore.Embed(t.Context(), dir, options())
	require.NoError(t, err)
	ctx := t.Context()
	for _, key := range []string{"acct.a", "acct.b", "work.a.1.0", "quota.slots", "lease.leader"} {
		_, err := from.Put(ctx, store.Entry{Key: key, Value: []byte("value of " + key)}, 0)
		require.NoError(t, err)
	}
	require.NoError(t, from.Publish(ctx, "1", []byte(`{"id":"1"}`)))
	require.NoError(t, from.Publish(ctx, "2", []byte(`{"id":"2"}`)))
	require.NoError(t, from.Close())

	to, err := natsstore.Connect(ctx, serve(t), options())
	require.NoError(t, err)
	defer func() { assert.NoError(t, to.Close()) }()
	for range 2 {
		records, events, err := natsstore.Move(ctx, dir, to, "nats://there", options())
		require.NoError(t, err)
		assert.Equal(t, 4, records)
		assert.Equal(t, 2, events)
		e, err := to.Get(ctx, "acct.a")
		require.NoError(t, err)
		assert.Equal(t, "value of acct.a", string(e.Value))
		_, err = to.Get(ctx, "lease.leader")
		require.ErrorIs(t, err, store.ErrNotFound)
		u, err := to.Usage(ctx)
		require.NoError(t, err)
		assert.EqualValues(t, 2, u.Events)

		_, err = natsstore.Embed(ctx, dir, options())
		require.ErrorContains(t, err, "has moved to nats://there: set Config.URL")
		require.NoError(t, os.Remove(filepath.Join(dir, "moved"))) // as if it had been interrupted
	}
	e, err := to.Get(ctx, "acct.b")
	require.NoError(t, err)
	e.Value = []byte("another")
	_, err = to.Put(ctx, e, 0)
	require.NoError(t, err)
	_, _, err = natsstore.Move(ctx, dir, to, "nats://there", options())
	require.ErrorContains(t, err, "acct.b is in the cluster already, and differs")
	_, moved := natsstore.Moved(dir)
	assert.False(t, moved)
}

// A subscription ends with its context also while its consumer makes itself anew.
func TestSubscribeEndsWhileItBeginsAgain(t *testing.T) {
	t.Parallel()
	srv := start(t)
	create := []byte("$JS.API.CONSUMER.CREATE.test-events.")
	creating, answer := make(chan struct{}, 100), make(chan struct{}, 100)
	s, err := natsstore.Connect(t.Context(), srv.ClientURL(), options(),
		nats.SetCustomDialer(dialer(func(sent []byte) {
			if bytes.Contains(sent, create) {
				creating <- struct{}{}
				<-answer
			}
		})))
	require.NoError(t, err)
	defer func() { assert.NoError(t, s.Close()) }()
	direct, err := nats.Connect(srv.ClientURL())
	require.NoError(t, err)
	defer direct.Close()
	js, err := jetstream.New(direct)
	require.NoError(t, err)
	events, err := js.Stream(t.Context(), "test-events")
	require.NoError(t, err)
	for range 20 {
		ctx, cancel := context.WithCancel(t.Context())
		heard, ended := make(chan struct{}, 100), make(chan error)
		require.NoError(t, s.Publish(t.Context(), rand.Text(), []byte("x")))
		go func() { ended <- s.Subscribe(ctx, time.Time{}, func([]byte) { heard <- struct{}{} }) }()
		answer <- struct{}{}
		<-creating
		<-heard
		for name := range events.ConsumerNames(t.Context()).Name() {
			require.NoError(t, events.DeleteConsumer(t.Context(), name))
		}
		<-creating
		cancel()
		answer <- struct{}{}
		require.NoError(t, <-ended)
	}
}

// dialer is a dialer whose connections show what they are about to send.
type dialer func([]byte)

func (d dialer) Dial(network, address string) (net.Conn, error) {
	conn, err := new(net.Dialer).DialContext(context.Background(), network, address)
	return &watched{conn, d}, err
}

type watched struct {
	net.Conn

	see dialer
}

func (c *watched) Write(p []byte) (int, error) {
	c.see(p)
	return c.Conn.Write(p)
}
