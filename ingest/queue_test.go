package ingest

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/reincubate/ricloud-go/ingest/internal/store"
)

// idleLeader returns a leader that does nothing but learn.
func idleLeader(t *testing.T) *leader {
	t.Helper()
	engine, err := Open(t.Context(), Config{Memory: true})
	require.NoError(t, err)
	t.Cleanup(func() { assert.NoError(t, engine.Close()) })
	return newLeader(&runner{Engine: engine}, &lease{engine: engine, key: leaderKey})
}

// A leader may be told of an account's jobs before it is told of the account. Their end is not lost
// then: the account would stay where it is for ever.
func TestJobsThatEndBeforeTheirAccountIsKnown(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		l := idleLeader(t)
		l.acknowledged(pendingAck{group: "work.a.1.", key: "work.a.1.0", account: "a"})
		l.observeRecord(store.Entry{
			Key: "acct.a", Value: []byte(`{"state":"handling"}`), Revision: 1,
		})
		require.NotNil(t, l.items["a"])
		assert.True(t, l.items["a"].news().closed)
		assert.Equal(t, []*item{l.items["a"]}, l.ready[finishing])
	})
}

// The leader keeps nothing of accounts that have come to their end, and makes no step of one that
// is forgotten or that a newer version has written.
func TestAccountsAtTheirEndTakeNoMemory(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		l := idleLeader(t)
		for revision, value := range []string{
			`{"state":"done"}`, `{"state":"dead"}`, `{"state":"submitted"}`, `{"state":"done"}`,
			`{"state":"submitted"}`, "",
		} {
			entry := store.Entry{Key: "acct.a", Revision: uint64(revision) + 1}
			if value != "" {
				entry.Value = []byte(value)
			}
			l.observeRecord(entry)
			_, known := l.items["a"]
			assert.Equal(t, value == `{"state":"submitted"}`, known, "%d %s", revision, value)
		}
		assert.Zero(t, l.waiting)
		l.observeRecord(store.Entry{})
		it, _, _ := l.pick()
		assert.Nil(t, it)

		l.observeRecord(store.Entry{Key: "acct.b", Value: []byte(`{"state":7}`), Revision: 9})
		it, _, _ = l.pick()
		assert.Nil(t, it)
	})
}

// A process whose lease is over is dead only when it has not answered for a while, and more than
// one question: a leader that had no CPU for long has not asked.
func TestWhoIsDead(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		l := idleLeader(t)
		key := processPrefix + "other"
		assert.False(t, l.isDead("other"), "nothing is known yet")
		assert.Empty(t, l.procs.missing)
		l.observeProcess(store.Entry{})
		assert.False(t, l.isDead(l.id))
		assert.False(t, l.isDead("other"), "it is missed from now on")
		m := l.procs.missing["other"]
		for _, now := range []struct {
			silent  time.Duration // after the one before
			unheard int
			dead    bool
		}{{time.Second, 2, false}, {time.Minute, 1, false}, {0, 2, true}} {
			<-time.NewTimer(now.silent).C
			m.unheard = now.unheard
			assert.Equal(t, now.dead, l.isDead("other"), now)
		}
		l.observeProcess(store.Entry{Key: key, Value: []byte("{}")})
		assert.False(t, l.isDead("other"), "it is back")
		l.observeProcess(store.Entry{Key: key})
		assert.False(t, l.isDead("other"), "and is missed anew")
		assert.NotSame(t, m, l.procs.missing["other"])

		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		go l.askMissing(ctx)
		<-time.NewTimer(4 * time.Second).C
		assert.True(t, l.isDead("other"), "nobody answers")
	})
}
