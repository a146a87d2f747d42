package main

import (
	"fmt"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	ricloud "github.com/reincubate/ricloud-go"
	"github.com/reincubate/ricloud-go/ingest"
)

// Accounts that were submitted to a folder are in the cluster afterwards, and the folder is closed.
func TestMove(t *testing.T) {
	t.Parallel()
	srv, err := server.NewServer(&server.Options{
		Host: "127.0.0.1", Port: -1, JetStream: true,
		StoreDir: t.TempDir(), NoLog: true, NoSigs: true,
	})
	require.NoError(t, err)
	srv.Start()
	t.Cleanup(func() { srv.Shutdown(); srv.WaitForShutdown() })
	require.True(t, srv.ReadyForConnections(10*time.Second))

	dir := t.TempDir()
	engine, err := ingest.Open(t.Context(), ingest.Config{Dir: dir})
	require.NoError(t, err)
	for i := range 20 {
		require.NoError(t, engine.Submit(t.Context(), ingest.Account{
			Key: fmt.Sprintf("customer %d", i),
			Source: ricloud.SourceParams{
				Type:       ricloud.SourceICloudAccount,
				Identifier: fmt.Sprintf("customer-%d@example.com", i),
			},
			Poll: ricloud.PollPayload{DataTypes: []string{"callkit.calls"}},
		}))
	}
	args := []string{"-dir", dir, "-url", srv.ClientURL(), "-replicas", "1", "-max-bytes", "10000000"}
	require.ErrorContains(t, run(t.Context(), args), "another process uses the folder")
	require.NoError(t, engine.Close())
	require.NoError(t, run(t.Context(), args))

	_, err = ingest.Open(t.Context(), ingest.Config{Dir: dir})
	require.ErrorContains(t, err, "has moved to "+srv.ClientURL())
	moved, err := ingest.Open(t.Context(),
		ingest.Config{URL: srv.ClientURL(), Replicas: 1, MaxBytes: 10_000_000})
	require.NoError(t, err)
	n := 0
	for a, err := range moved.Accounts(t.Context(), ingest.Submitted) {
		require.NoError(t, err)
		assert.Len(t, a.History, 1)
		n++
	}
	assert.Equal(t, 20, n)
	require.NoError(t, moved.Close())
}
