package main

import (
	"bufio"
	"context"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/reincubate/ricloud-go"
)

// The program is interrupted again and again, and yet logs in to each account
// once.
func TestAnInterruptedFleetGoesOn(t *testing.T) {
	t.Parallel()
	const accounts = 60
	sandbox, all := newSandbox(accounts)
	t.Cleanup(sandbox.Close)
	requests := &counter{next: sandbox}
	client := sandbox.Client(ricloud.WithTransport(requests))
	s := settings{atOnce: 20, state: filepath.Join(t.TempDir(), "fleet.state")}
	for patience := 50 * time.Millisecond; ; patience *= 2 {
		ctx, cancel := context.WithTimeout(t.Context(), patience)
		err := run(ctx, client, requests, all, s)
		cancel()
		if err == nil {
			break
		}
		require.Less(t, patience, time.Minute)
	}
	journal, err := openJournal(s.state)
	require.NoError(t, err)
	defer func() { require.NoError(t, journal.close()) }()
	assert.Equal(t, map[string]int{done: 58, needsCode: 2}, journal.outcomes())
	assert.Equal(t, accounts, sandbox.CountCalls("Sessions.Create"), "no login is repeated")
}

// A state file that cannot be read is no empty one: the logins in it would be
// made again.
func TestAStateFileThatCannotBeRead(t *testing.T) {
	t.Parallel()
	name := filepath.Join(t.TempDir(), "fleet.state")
	require.NoError(t, os.WriteFile(name, make([]byte, 1<<20), 0o600))
	_, err := openJournal(name)
	require.ErrorIs(t, err, bufio.ErrTooLong)
}
