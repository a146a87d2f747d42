package ricloudtest_test

import (
	"context"
	"encoding/json"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	ricloud "github.com/reincubate/ricloud-go"
	"github.com/reincubate/ricloud-go/ricloudtest"
)

// Close ends requests that wait, and later requests fail.
func TestClose(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		srv := ricloudtest.NewServer(ricloudtest.WithFaults(ricloudtest.Fault{Hang: true, Count: -1}))
		time.AfterFunc(time.Hour, srv.Close)
		began := time.Now()
		require.ErrorIs(t, try(t.Context(), t, srv, "https://api.ricloud.test", srv.Token()).err,
			net.ErrClosed)
		assert.Equal(t, time.Hour, time.Since(began))
		require.ErrorIs(t, try(t.Context(), t, srv, "https://api.ricloud.test", srv.Token()).err,
			net.ErrClosed)
		require.ErrorIs(t, srv.Start(), net.ErrClosed)
		srv.Close()
	})
}

// Closing a slow body ends a read that waits for it.
func TestABodyEndsWithItsClose(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		srv := newServer(t, ricloudtest.WithFaults(ricloudtest.Fault{Drip: time.Hour}))
		res, err := srv.RoundTrip(request(t.Context(), t, http.MethodGet, "/key", srv.Token(), ""))
		require.NoError(t, err)
		time.AfterFunc(time.Minute, func() { _ = res.Body.Close() })
		_, err = res.Body.Read(make([]byte, 1))
		require.ErrorIs(t, err, http.ErrBodyReadAfterClose)
	})
}

func TestOnlyTheSandboxsHosts(t *testing.T) {
	t.Parallel()
	srv := newServer(t)
	require.ErrorContains(t, try(t.Context(), t, srv, "https://example.com", srv.Token()).err,
		"example.com")
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	require.ErrorIs(t, try(ended, t, srv, "https://api.ricloud.test", srv.Token()).err,
		context.Canceled)
}

func TestListeners(t *testing.T) {
	t.Parallel()
	api, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	require.NoError(t, err)
	srv := newServer(t, ricloudtest.WithListeners(api, nil))
	assert.Equal(t, "http://"+api.Addr().String(), srv.URL())
}

func TestOptionsThatAreRefused(t *testing.T) {
	t.Parallel()
	_, err := newServer(t).Client(ricloud.WithBaseURL("://")).Keys.Current(t.Context())
	require.Error(t, err)
}

func TestTheLogHoldsNoSecrets(t *testing.T) {
	t.Parallel()
	var log strings.Builder
	srv := newServer(t, ricloudtest.WithLogger(slog.New(slog.NewTextHandler(&log,
		&slog.HandlerOptions{Level: slog.LevelDebug}))))
	send(t.Context(), t, srv, http.MethodGet, "/key", srv.Token(), "")
	assert.Contains(t, log.String(), "Keys.Current")
	assert.NotContains(t, log.String(), srv.Token())
}

// An account can be added or locked while the server runs.
func TestAccountsChange(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		srv := newServer(t)
		c, ctx := srv.Client(), t.Context()
		require.NoError(t, srv.AddAccount(ricloudtest.Account{Identifier: "new@example.com"}))
		session := login(ctx, t, c, "new@example.com", "anything")
		state := func() ricloud.SourceState {
			source, err := c.Sources.Get(ctx, session.Source.ID)
			require.NoError(t, err)
			return source.State
		}
		require.NoError(t, srv.LockAccount(ricloud.SourceICloudAccount, "new@example.com", true))
		assert.Equal(t, ricloud.SourceState("locked"), state())
		require.NoError(t, srv.LockAccount(ricloud.SourceICloudAccount, "new@example.com", false))
		assert.Equal(t, ricloud.SourceState("active"), state())
		require.Error(t, srv.LockAccount(ricloud.SourceICloudAccount, "nobody", true))
	})
}

// A sample account of iCloud has children. A sample account of another service has only the
// children that it names.
func TestSampleAccountsOfServices(t *testing.T) {
	t.Parallel()
	for service, children := range map[string]bool{
		"icloud.account": true, "rirelay.instance": false, "mocks.mock": false,
	} {
		var account ricloudtest.Account
		require.NoError(t, json.Unmarshal(
			[]byte(`{"service":"`+service+`","identifier":"a","sample":"Ada"}`), &account))
		assert.Equal(t, children, len(account.Children) > 0, service)
		assert.NotEmpty(t, account.Data, service)
	}
}

// The seed determines IDs and delays, and the speed divides the delays.
func TestSeedAndSpeed(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		run := func(opts ...ricloudtest.Option) (ricloud.ID, time.Duration) {
			srv := newServer(t, append(opts,
				ricloudtest.WithDelays(ricloudtest.Delays{Session: ricloudtest.Delay{
					Min: time.Minute,
					Max: time.Hour,
				}}))...)
			began := time.Now()
			client := srv.Client(ricloud.WithPolling(time.Second, 4*time.Second))
			session := john(t.Context(), t, client)
			return session.ID, time.Since(began)
		}
		id, took := run()
		again, _ := run(ricloudtest.WithSeed(1))
		other, _ := run(ricloudtest.WithSeed(2))
		assert.Equal(t, id, again)
		assert.NotEqual(t, id, other)
		_, quick := run(ricloudtest.WithSpeed(60))
		assert.InDelta(t, took/60, quick, float64(5*time.Second))
	})
}
