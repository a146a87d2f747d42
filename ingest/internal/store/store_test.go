package store_test

import (
	"bytes"
	"context"
	"fmt"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/reincubate/ricloud-go/ingest/internal/natsstore"
	"github.com/reincubate/ricloud-go/ingest/internal/store"
)

// Each store does what the engine relies on.
func TestStores(t *testing.T) {
	t.Parallel()
	o := natsstore.Options{
		Name: "test", MaxBytes: 64 << 20, MaxEventBytes: 64 << 20, MaxEventAge: time.Hour,
	}
	embedded, err := natsstore.Embed(t.Context(), t.TempDir(), o)
	require.NoError(t, err)
	for name, s := range map[string]store.Store{"memory": store.NewMemory(), "embedded": embedded} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			checkStore(t, s)
			closes(t, s)
		})
	}
}

func checkStore(t *testing.T, s store.Store) {
	t.Helper()
	for _, part := range []struct {
		name  string
		check func(*testing.T, store.Store)
	}{
		{"a key is written at its revision only", compareAndSet},
		{"one of many writers wins", oneWinner},
		{"a value with a time to live expires", expiry},
		{"a watch shows what is there and what changes, in order", watches},
		{"an event is stored once", events},
		{"messages reach all that listen", messages},
		{"a question has one answer", questions},
		{"usage counts", usage},
		{"it says what time it is", clock},
	} {
		t.Run(part.name, func(t *testing.T) { part.check(t, s) })
	}
}

// closes checks that a closed store ends what is in progress, and refuses what comes later, also
// for a context without an end.
func closes(t *testing.T, s store.Store) {
	t.Helper()
	revision := put(t, s, "closed.a", "x", 0)
	nothing := func(store.Entry) {}
	follow := map[string]func(context.Context) error{
		"Watch":     func(ctx context.Context) error { return s.Watch(ctx, "closed.", nothing) },
		"Watch key": func(ctx context.Context) error { return s.Watch(ctx, "closed.a", nothing) },
		"Subscribe": func(ctx context.Context) error {
			return s.Subscribe(ctx, time.Now(), func([]byte) {})
		},
		"Listen": func(ctx context.Context) error { return s.Listen(ctx, "closed", func([]byte) {}) },
		"Answer": func(ctx context.Context) error {
			return s.Answer(ctx, "closed", func([]byte) []byte { return nil })
		},
	}
	var following, begun sync.WaitGroup
	for name, call := range follow {
		begun.Add(1)
		following.Go(func() {
			begun.Done()
			assert.ErrorIs(t, call(context.Background()), store.ErrClosed, name)
		})
	}
	begun.Wait()
	require.NoError(t, s.Close())
	following.Wait()

	ctx := context.Background()
	follow["Get"] = func(context.Context) error { _, err := s.Get(ctx, "closed.a"); return err }
	follow["Put"] = func(context.Context) error {
		_, err := s.Put(ctx, store.Entry{Key: "closed.b"}, 0)
		return err
	}
	follow["Remove"] = func(context.Context) error { return s.Remove(ctx, "closed.a", revision) }
	follow["Publish"] = func(context.Context) error { return s.Publish(ctx, "closed", []byte("x")) }
	follow["Send"] = func(context.Context) error { return s.Send(ctx, "closed", nil) }
	follow["Ask"] = func(context.Context) error { _, err := s.Ask(ctx, "closed", nil); return err }
	follow["Now"] = func(context.Context) error { _, err := s.Now(ctx); return err }
	follow["Usage"] = func(context.Context) error { _, err := s.Usage(ctx); return err }
	for name, call := range follow {
		assert.ErrorIs(t, call(ctx), store.ErrClosed, name)
	}
}

func put(t *testing.T, s store.Store, key, value string, revision uint64) uint64 {
	t.Helper()
	revision, err := s.Put(t.Context(),
		store.Entry{Key: key, Value: []byte(value), Revision: revision}, 0)
	require.NoError(t, err)
	return revision
}

func compareAndSet(t *testing.T, s store.Store) {
	_, err := s.Get(t.Context(), "set.a")
	require.ErrorIs(t, err, store.ErrNotFound)
	first := put(t, s, "set.a", "one", 0)
	second := put(t, s, "set.a", "two", first)
	assert.Greater(t, second, first)
	for _, stale := range []uint64{0, first, second + 1} {
		_, err := s.Put(t.Context(), store.Entry{Key: "set.a", Value: []byte("x"), Revision: stale}, 0)
		require.ErrorIs(t, err, store.ErrConflict, stale)
	}
	require.ErrorIs(t, s.Remove(t.Context(), "set.a", first), store.ErrConflict)
	got, err := s.Get(t.Context(), "set.a")
	require.NoError(t, err)
	assert.Equal(t, store.Entry{Key: "set.a", Value: []byte("two"), Revision: second}, got)
	require.NoError(t, s.Remove(t.Context(), "set.a", second))
	_, err = s.Get(t.Context(), "set.a")
	require.ErrorIs(t, err, store.ErrNotFound)
	assert.Greater(t, put(t, s, "set.a", "again", 0), second, "a removed key is new")
}

func oneWinner(t *testing.T, s store.Store) {
	var mu sync.Mutex
	var wins []string
	var writers sync.WaitGroup
	for i := range 16 {
		writers.Go(func() {
			value := fmt.Sprint("writer ", i)
			_, err := s.Put(t.Context(), store.Entry{Key: "race.a", Value: []byte(value)}, 0)
			if err != nil {
				assert.ErrorIs(t, err, store.ErrConflict)
				return
			}
			mu.Lock()
			wins = append(wins, value)
			mu.Unlock()
		})
	}
	writers.Wait()
	require.Len(t, wins, 1)
	got, err := s.Get(t.Context(), "race.a")
	require.NoError(t, err)
	assert.Equal(t, wins[0], string(got.Value))
}

func expiry(t *testing.T, s store.Store) {
	entry := store.Entry{Key: "lease.a", Value: []byte("mine")}
	revision, err := s.Put(t.Context(), entry, time.Second)
	require.NoError(t, err)
	entry.Revision = revision
	entry.Revision, err = s.Put(t.Context(), entry, time.Second)
	require.NoError(t, err, "it is renewed")
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	var expired store.Entry
	require.NoError(t, s.Watch(ctx, "lease.a", func(e store.Entry) {
		if e.Key != "" && e.Value == nil {
			expired = e
			cancel()
		}
	}))
	assert.Equal(t, "lease.a", expired.Key)
	assert.Greater(t, expired.Revision, entry.Revision)
	put(t, s, "lease.a", "another's", 0)
}

func watches(t *testing.T, s store.Store) {
	const there = 450 // more than is read at a time
	revisions := map[string]uint64{}
	for i := range there {
		key := fmt.Sprintf("watch.%d", i)
		revisions[key] = put(t, s, key, "there", 0)
	}
	put(t, s, "watched.no", "another prefix", 0)
	gone := put(t, s, "watch.gone", "x", 0)
	require.NoError(t, s.Remove(t.Context(), "watch.gone", gone))

	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	complete, changes := 0, []string{}
	var last uint64
	require.NoError(t, s.Watch(ctx, "watch.", func(e store.Entry) {
		switch {
		case e.Key == "":
			complete++
			assert.Empty(t, revisions, "all was shown")
			put(t, s, "watch.0", "changed", mustGet(t, s, "watch.0").Revision)
			require.NoError(t, s.Remove(t.Context(), "watch.1", mustGet(t, s, "watch.1").Revision))
			put(t, s, "watch.end", "new", 0)
		case complete == 0 && e.Value != nil:
			assert.Equal(t, revisions[e.Key], e.Revision)
			assert.Greater(t, e.Revision, last)
			last = e.Revision
			delete(revisions, e.Key)
		case complete > 0:
			changes = append(changes, e.Key+"="+string(e.Value))
			if e.Key == "watch.end" {
				cancel()
			}
		}
	}))
	assert.Equal(t, 1, complete)
	assert.Equal(t, []string{"watch.0=changed", "watch.1=", "watch.end=new"}, changes)
}

func mustGet(t *testing.T, s store.Store, key string) store.Entry {
	t.Helper()
	e, err := s.Get(t.Context(), key)
	require.NoError(t, err)
	return e
}

func events(t *testing.T, s store.Store) {
	began := time.Now().Add(-time.Minute)
	var all sync.WaitGroup
	for i := range 20 {
		all.Go(func() {
			assert.NoError(t, s.Publish(t.Context(), strconv.Itoa(i%5), []byte{byte('a' + i%5)}))
		})
	}
	all.Wait()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var seen []byte
	require.NoError(t, s.Subscribe(ctx, began, func(data []byte) {
		if seen = append(seen, data...); len(seen) == 5 {
			require.NoError(t, s.Publish(t.Context(), "0", []byte("again")))
			require.NoError(t, s.Publish(t.Context(), "last", []byte("z")))
		}
		if bytes.HasSuffix(seen, []byte("z")) {
			cancel()
		}
	}))
	assert.Len(t, seen, 6)
	for _, b := range []byte("abcdez") {
		assert.Contains(t, string(seen), string(b))
	}
}

func messages(t *testing.T, s store.Store) {
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var listeners sync.WaitGroup
	listening, heard := make(chan bool, 2), make(chan string, 2)
	for range 2 {
		listeners.Go(func() {
			assert.NoError(t, s.Listen(ctx, "news", func(data []byte) {
				if data == nil {
					listening <- true
					return
				}
				heard <- string(data)
			}))
		})
	}
	for range 2 {
		<-listening
	}
	require.NoError(t, s.Send(ctx, "news", []byte("hello")))
	for range 2 {
		assert.Equal(t, "hello", <-heard)
	}
	cancel()
	listeners.Wait()
}

func questions(t *testing.T, s store.Store) {
	_, err := s.Ask(t.Context(), "who", []byte("?"))
	require.ErrorIs(t, err, store.ErrNobody)
	ctx, cancel := context.WithCancel(t.Context())
	var answering sync.WaitGroup
	answering.Go(func() {
		assert.NoError(t, s.Answer(ctx, "who", func(q []byte) []byte {
			if string(q) == "wait" {
				<-ctx.Done()
			}
			return append([]byte("me: "), q...)
		}))
	})
	var answer []byte
	for err = store.ErrNobody; err != nil; {
		answer, err = s.Ask(t.Context(), "who", []byte("?"))
	}
	assert.Equal(t, "me: ?", string(answer))
	short, stop := context.WithCancelCause(t.Context())
	stop(assert.AnError)
	_, err = s.Ask(short, "who", []byte("wait"))
	require.Error(t, err)
	cancel()
	answering.Wait()
}

func usage(t *testing.T, s store.Store) {
	before, err := s.Usage(t.Context())
	require.NoError(t, err)
	put(t, s, "usage.a", "0123456789", 0)
	require.NoError(t, s.Publish(t.Context(), "usage", []byte("event")))
	after, err := s.Usage(t.Context())
	require.NoError(t, err)
	assert.Equal(t, before.Records+1, after.Records)
	assert.Equal(t, before.Events+1, after.Events)
	assert.GreaterOrEqual(t, after.Bytes, before.Bytes+10)
}

func clock(t *testing.T, s store.Store) {
	began := time.Now()
	now, err := s.Now(t.Context())
	require.NoError(t, err)
	assert.WithinRange(t, now, began.Add(-time.Second), time.Now().Add(time.Second))
}
