package ingest

import (
	"testing"
	"testing/synctest"

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
