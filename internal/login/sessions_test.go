package login

import (
	"context"
	"strconv"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestSameName(t *testing.T) {
	t.Parallel()
	assert.True(t, SameName(" Jane@Example.com\n", "jane@example.com"))
	assert.False(t, SameName("jane@example.com", "joe@example.com"))
}

func TestSessionsAreRemembered(t *testing.T) {
	t.Parallel()
	var s Sessions
	for n := range maxKnown + 1 {
		assert.True(t, s.Add(strconv.Itoa(n)))
	}
	assert.False(t, s.Add("1"))
	assert.True(t, s.Has("1"))
	assert.False(t, s.Has("0"), "the oldest is forgotten")
}

// Logins to one account take turns, however its identifier is written. Others do not wait.
func TestTurns(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var s Sessions
		jane := Account{User: "1", Type: "t", Identifier: "jane"}
		done, err := s.Turn(t.Context(), jane)
		require.NoError(t, err)
		began := time.Now()
		time.AfterFunc(time.Minute, done)
		for _, other := range []Account{{}, {User: "2", Type: "t", Identifier: "jane"}} {
			done, err := s.Turn(t.Context(), other)
			require.NoError(t, err)
			done()
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		_, err = s.Turn(ctx, jane)
		require.ErrorIs(t, err, context.DeadlineExceeded)
		done, err = s.Turn(t.Context(), Account{User: "1", Type: "t", Identifier: " JANE"})
		require.NoError(t, err)
		assert.Equal(t, time.Minute, time.Since(began))
		done()
		synctest.Wait()
		assert.Empty(t, s.turns)
	})
}

// Settle waits for the creates in progress.
func TestSettle(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var s Sessions
		jane := Account{User: "1", Type: "t", Identifier: "jane"}
		s.Begin(Account{})()
		time.AfterFunc(time.Minute, s.Begin(jane))
		time.AfterFunc(time.Hour, s.Begin(jane))
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		require.ErrorIs(t, s.Settle(ctx, jane), context.DeadlineExceeded)
		began := time.Now().Add(-time.Second)
		require.NoError(t, s.Settle(t.Context(), jane))
		assert.Equal(t, time.Hour, time.Since(began))
		synctest.Wait()
		assert.Empty(t, s.creating)
	})
}
