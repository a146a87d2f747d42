package main

import (
	"context"
	"database/sql"
	"fmt"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	ricloud "github.com/reincubate/ricloud-go"
	"github.com/reincubate/ricloud-go/ricloudtest"
)

// The test kills receivers, which run in the test binary.
func TestMain(m *testing.M) {
	if os.Getenv("RECEIVER_DB") == "" {
		os.Exit(m.Run())
	}
	if err := receive(context.Background()); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// receive runs the example's receiver. The effect of an event is a row. The handler then waits a
// little, so that the process can be killed between the effect and its record.
func receive(ctx context.Context) error {
	db, err := openDatabase(ctx, os.Getenv("RECEIVER_DB"))
	if err != nil {
		return err
	}
	client, err := ricloud.NewClientFromEnv()
	if err != nil {
		return err
	}
	effect := func(ctx context.Context, event *ricloud.Event) error {
		if _, err := db.ExecContext(ctx, `INSERT INTO effects (event, life) VALUES (?, ?)`,
			string(event.ID), os.Getpid()); err != nil {
			return err
		}
		select {
		case <-ctx.Done():
		case <-time.After(5 * time.Millisecond): //nolint:forbidigo // work, in real time
		}
		return nil // the effect is stored
	}
	return run(ctx, client, db, settings{
		addr: os.Getenv("RECEIVER_ADDR"), handleTimeout: 5 * time.Second,
		replayEvery: 500 * time.Millisecond,
	}, effect, nil)
}

// world is an API, and a receiver of its events that can be killed.
type world struct {
	api            *ricloudtest.Server
	db             *sql.DB
	file, receiver string
	client         *http.Client
}

func newWorld(t *testing.T) *world {
	t.Helper()
	w := &world{
		api: ricloudtest.NewServer(
			ricloudtest.WithDelays(ricloudtest.Delays{}),
			ricloudtest.WithWebhookRetries(100*time.Millisecond, 200*time.Millisecond, 400*time.Millisecond,
				800*time.Millisecond),
		),
		file:   filepath.Join(t.TempDir(), "receiver.db"),
		client: &http.Client{Timeout: time.Second},
	}
	t.Cleanup(w.api.Close)
	t.Cleanup(w.client.CloseIdleConnections)
	db, err := openDatabase(t.Context(), w.file)
	require.NoError(t, err)
	t.Cleanup(func() { _ = db.Close() })
	_, err = db.ExecContext(t.Context(),
		`CREATE TABLE effects (event TEXT NOT NULL, life INTEGER NOT NULL)`)
	require.NoError(t, err)
	w.db = db
	w.receiver = address(t)
	return w
}

// address returns a free address for the receiver. The system does not give its port to others,
// because it is below the range of ephemeral ports.
func address(t *testing.T) string {
	t.Helper()
	for {
		listener, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp",
			fmt.Sprint("127.0.0.1:", 20_000+rand.IntN(10_000)))
		if err == nil {
			require.NoError(t, listener.Close())
			return listener.Addr().String()
		}
		require.ErrorIs(t, err, syscall.EADDRINUSE)
	}
}

// begin starts the receiver and returns once it is ready.
func (w *world) begin(t *testing.T) *exec.Cmd {
	t.Helper()
	before := w.api.CountCalls("Events.List") // the receiver replays when it is ready
	//nolint:gosec // this very binary
	cmd := exec.CommandContext(context.WithoutCancel(t.Context()), os.Args[0])
	cmd.Env = append(os.Environ(), "RECEIVER_DB="+w.file, "RECEIVER_ADDR="+w.receiver,
		"RICLOUD_URL="+w.api.URL(), "RICLOUD_TOKEN="+w.api.Token())
	require.NoError(t, cmd.Start())
	t.Cleanup(func() { kill(cmd) })
	require.Eventually(t, func() bool { return w.api.CountCalls("Events.List") > before }, time.Minute,
		10*time.Millisecond)
	return cmd
}

func kill(cmd *exec.Cmd) {
	_ = cmd.Process.Signal(syscall.SIGKILL)
	_ = cmd.Wait()
}

func (w *world) count(t *testing.T, query string, args ...any) (n int) {
	t.Helper()
	require.NoError(t, w.db.QueryRowContext(t.Context(), query, args...).Scan(&n), query)
	return n
}

// deliver sends events until ctx ends, and returns their number.
func (w *world) deliver(ctx context.Context) (n int) {
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return n
		case <-tick.C:
			// While the receiver is down, there may be no valid config. The event is then only recorded, and
			// a replay finds it.
			//nolint:contextcheck // deliveries outlive the call
			_, _ = w.api.Deliver("poll", "completed",
				map[string]any{"id": fmt.Sprint("p", n), "state": "completed"})
			n++
		}
	}
}

// A receiver is killed ten times while events arrive, and handles every event. An event is handled
// twice only if the receiver was killed after its effect and before the record that it is done.
// Without a shared transaction this cannot be avoided: such an event looks like one without an
// effect, and skipping it could lose that one.
func TestKilledReceiverMissesNothing(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	made, cut := 0, 0
	for range 10 {
		cmd := w.begin(t)
		ctx, cancel := context.WithTimeout(t.Context(), 150*time.Millisecond)
		made += w.deliver(ctx)
		cancel()
		kill(cmd)
		cut += w.count(t,
			`SELECT COUNT(*) FROM effects JOIN ricloud_events ON id = event AND NOT done WHERE life = ?`,
			cmd.Process.Pid)
	}
	_ = w.begin(t)
	var events int
	require.Eventually(t, func() bool {
		events = 0
		for _, err := range w.api.Client().Events.All(t.Context(), ricloud.EventListParams{}) {
			require.NoError(t, err)
			events++
		}
		return w.count(t, `SELECT COUNT(*) FROM ricloud_events WHERE done`) == events
	}, 2*time.Minute, 100*time.Millisecond, "every event on the API's record is handled")

	effects := w.count(t, `SELECT COUNT(*) FROM effects`)
	t.Logf("10 kills, %d events: %d effects, %d events had taken effect and were not recorded when "+
		"the receiver died", events, effects, cut)
	assert.GreaterOrEqual(t, events, made)
	assert.Equal(t, events, w.count(t, `SELECT COUNT(DISTINCT event) FROM effects`),
		"no event is lost")
	assert.Equal(t, events+cut, effects, "only what was cut takes effect again")
	assert.Equal(t, effects,
		w.count(t, `SELECT COUNT(*) FROM (SELECT DISTINCT event, life FROM effects)`),
		"and never twice in one life")
}

// A second run in the same folder handles its own events too. They belong to another sandbox and
// must not be confused with those of the first run.
func TestEveryRunShowsItsEvents(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "webhook.db")
	done := func() (n int) {
		db, err := openDatabase(t.Context(), file)
		require.NoError(t, err)
		defer func() { _ = db.Close() }()
		row := db.QueryRowContext(t.Context(), `SELECT COUNT(*) FROM ricloud_events WHERE done`)
		if row.Scan(&n) != nil { // the table does not exist yet
			return 0
		}
		return n
	}
	for run := range 2 {
		before := done()
		ctx, cancel := context.WithCancel(t.Context())
		ended, addr := make(chan error, 1), address(t)
		go func() {
			ended <- start(ctx, settings{
				addr: addr, database: file, handleTimeout: 5 * time.Second, replayEvery: time.Hour,
			})
		}()
		require.Eventually(t, func() bool { return done() > before+2 }, time.Minute, 20*time.Millisecond,
			"run %d", run)
		cancel()
		if err := <-ended; err != nil { // it was still sending events
			require.ErrorIs(t, err, context.Canceled)
		}
	}
}

// The whole program runs against its sandbox: setup, deliveries, health check and shutdown.
func TestReceiver(t *testing.T) {
	t.Parallel()
	sandbox := ricloudtest.NewServer(ricloudtest.WithDelays(ricloudtest.Delays{}))
	defer sandbox.Close()
	client := sandbox.Client()
	db, err := openDatabase(t.Context(), filepath.Join(t.TempDir(), "test.db"))
	require.NoError(t, err)
	defer func() { _ = db.Close() }()
	addr := address(t)

	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	seen := map[string]bool{}
	events := make(chan string, 100)
	ended := make(chan error, 1)
	go func() {
		ended <- run(ctx, client, db,
			settings{addr: addr, handleTimeout: 5 * time.Second, replayEvery: time.Hour},
			func(_ context.Context, e *ricloud.Event) error { events <- e.Name(); return report(ctx, e) },
			func() error { return cause(ctx, client) })
	}()
	for !seen[ricloud.EventPollCompleted] || !seen[ricloud.EventWebhookConfigTest] {
		select {
		case name := <-events:
			seen[name] = true
		case err := <-ended:
			require.FailNow(t, "ended early", "%v", err)
		}
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+addr+"/healthz", http.NoBody)
	require.NoError(t, err)
	web := http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	res, err := web.Do(req)
	require.NoError(t, err)
	require.NoError(t, res.Body.Close())
	assert.Equal(t, http.StatusOK, res.StatusCode)
	cancel()
	require.NoError(t, <-ended)
}
