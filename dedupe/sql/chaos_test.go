package dedupesql_test

import (
	"bytes"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io"
	"log"
	"log/slog"
	"maps"
	"math/rand/v2"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	ricloud "github.com/reincubate/ricloud-go"
	dedupesql "github.com/reincubate/ricloud-go/dedupe/sql"
	"github.com/reincubate/ricloud-go/ricloudtest"
)

// Environment variables of a receiver process.
const (
	receiverDSN     = "RICLOUD_TEST_RECEIVER_DSN"
	receiverDriver  = "RICLOUD_TEST_RECEIVER_DRIVER"
	receiverDialect = "RICLOUD_TEST_RECEIVER_DIALECT"
	receiverPrefix  = "RICLOUD_TEST_RECEIVER_PREFIX"
	receiverAddr    = "RICLOUD_TEST_RECEIVER_ADDR"
	receiverAPI     = "RICLOUD_TEST_RECEIVER_API"
)

const (
	chaosSecret   = "whsec_chaos"
	chaosLease    = 5 * time.Second
	chaosReplay   = 3 * time.Second // interval between replays of a receiver
	chaosAttempts = 3               // deliveries of one event
)

// receive runs a receiver process. The effect of an event is a row in a table. For half of the
// events, one transaction writes the effect and the record that the event is done; for the others,
// they are written separately.
func receive(ctx context.Context) error {
	log.SetOutput(io.Discard)
	dialect, err := strconv.Atoi(os.Getenv(receiverDialect))
	if err != nil {
		return err
	}
	db, err := sql.Open(os.Getenv(receiverDriver), os.Getenv(receiverDSN))
	if err != nil {
		return err
	}
	if dedupesql.Dialect(dialect) == dedupesql.SQLite {
		db.SetMaxOpenConns(1)
	}
	prefix := os.Getenv(receiverPrefix)
	dedupe, err := dedupesql.New(db, dedupesql.Dialect(dialect),
		dedupesql.WithPrefix(prefix), dedupesql.WithLease(chaosLease))
	if err != nil {
		return err
	}
	handler, err := ricloud.NewWebhookHandler(func(ctx context.Context, e *ricloud.Event) error {
		effect := fmt.Sprintf( //nolint:gosec // the names are the test's own
			"INSERT INTO %seffects (event, life) VALUES ('%s', %d)", prefix, e.ID, os.Getpid())
		if isTransactional(e.ID) {
			return dedupe.InTx(ctx, func(tx *sql.Tx) error {
				_, err := tx.ExecContext(ctx, effect) //nolint:gosec // the test's own
				return err
			})
		}
		if _, err := db.ExecContext(ctx, effect); err != nil { //nolint:gosec // the test's own
			return err
		}
		pause(ctx, time.Duration(rand.IntN(5))*time.Millisecond) // the process may be killed here
		return nil
	},
		ricloud.WithWebhookSecrets(ricloud.NewSecret(chaosSecret)),
		ricloud.WithWebhookDeduplicator(dedupe), ricloud.WithWebhookLogger(slog.New(slog.DiscardHandler)))
	if err != nil {
		return err
	}
	client, err := ricloud.NewClient("token", ricloud.WithBaseURL(os.Getenv(receiverAPI)))
	if err != nil {
		return err
	}
	listener, err := (&net.ListenConfig{}).Listen(ctx, "tcp", os.Getenv(receiverAddr))
	if err != nil {
		return err
	}
	receiver := &http.Server{Handler: handler, ReadHeaderTimeout: time.Minute}
	go func() { _ = receiver.Serve(listener) }()
	for { // runs until the process is killed
		_, _ = handler.Replay(ctx, client)
		pause(ctx, chaosReplay)
	}
}

// pause waits in real time, because separate processes share no virtual time.
func pause(ctx context.Context, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
	case <-timer.C:
	}
}

func isTransactional(id ricloud.ID) bool { return strings.HasSuffix(string(id), "t") }

// chaosAPI records events and delivers them through a load balancer that drops, doubles, delays and
// reorders them.
type chaosAPI struct {
	*httptest.Server

	receivers []string // their addresses
	client    *http.Client

	mu     sync.Mutex
	events []*chaosEvent // oldest first
	counts map[string]int
}

type chaosEvent struct {
	id, state string
	created   time.Time
}

func newChaosAPI(t *testing.T, events int, receivers []string) *chaosAPI {
	t.Helper()
	transport := &http.Transport{MaxIdleConnsPerHost: 16}
	t.Cleanup(transport.CloseIdleConnections)
	a := &chaosAPI{
		receivers: receivers, client: &http.Client{Transport: transport, Timeout: 3 * time.Second},
		counts: map[string]int{},
	}
	for i := range events {
		id := fmt.Sprintf("event-%d-%c", i, "ot"[i%2])
		created := time.Now().Truncate(time.Second)
		a.events = append(a.events, &chaosEvent{id: id, state: "pending", created: created})
	}
	a.Server = httptest.NewServer(http.HandlerFunc(a.list))
	t.Cleanup(a.Close)
	return a
}

func (a *chaosAPI) count(what string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.counts[what]++
}

func (a *chaosAPI) body(e *chaosEvent) string {
	return fmt.Sprintf(`{"id":%q,"type":"poll","action":"completed","data":{"id":"p"},"state":%q,`+
		`"date_created":%q}`,
		e.id, e.state, e.created.UTC().Format(time.RFC3339))
}

// list answers GET /events, newest first.
func (a *chaosAPI) list(w http.ResponseWriter, r *http.Request) {
	q := r.URL.Query()
	limit, _ := strconv.Atoi(q.Get("limit"))
	behind, more := q.Get("after_id") == "", false
	var page []string
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, e := range slices.Backward(a.events) {
		if behind && e.state == q.Get("state") {
			if more = len(page) == limit; more {
				break
			}
			page = append(page, a.body(e))
		}
		behind = behind || e.id == q.Get("after_id")
	}
	w.Header().Set("Content-Type", "application/json")
	_, _ = fmt.Fprintf(w, `{"data":[%s],"has_more":%t}`, strings.Join(page, ","), more)
}

// deliver delivers all events, several at a time.
func (a *chaosAPI) deliver(ctx context.Context) {
	order := rand.Perm(len(a.events)) // in random order
	var group sync.WaitGroup
	slots := make(chan struct{}, 16)
	for _, i := range order {
		slots <- struct{}{}
		group.Go(func() {
			defer func() { <-slots }()
			a.attempt(ctx, a.events[i])
		})
	}
	group.Wait()
}

func (a *chaosAPI) attempt(ctx context.Context, e *chaosEvent) {
	state := "failed"
	for range chaosAttempts {
		if rand.Float64() < 0.05 { // the delivery is late
			a.count("late")
			pause(ctx, time.Duration(rand.IntN(300))*time.Millisecond)
		}
		if rand.Float64() < 0.1 { // the load balancer drops it
			a.count("dropped")
			continue
		}
		copies := 1
		if rand.Float64() < 0.2 {
			a.count("doubled")
			copies = 2
		}
		accepted := make(chan bool, copies)
		for range copies {
			go func() { accepted <- a.post(ctx, e) }()
		}
		ok := false
		for range copies {
			ok = <-accepted || ok
		}
		if ok && rand.Float64() < 0.05 { // the answer gets lost
			a.count("answer lost")
			ok = false
		}
		if ok {
			state = "delivered"
			break
		}
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	e.state = state
	a.counts[state]++
}

func (a *chaosAPI) post(ctx context.Context, e *chaosEvent) bool {
	a.mu.Lock()
	body := []byte(a.body(e))
	a.mu.Unlock()
	url := "http://" + a.receivers[rand.IntN(len(a.receivers))] + "/webhooks/" + e.id
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, url, bytes.NewReader(body))
	if err != nil {
		return false
	}
	r.Header.Set(ricloud.SignatureHeader, ricloudtest.SignWebhook(chaosSecret, time.Now(), body))
	resp, err := a.client.Do(r)
	if err != nil {
		return false
	}
	_, _ = io.Copy(io.Discard, resp.Body)
	_ = resp.Body.Close()
	return resp.StatusCode == http.StatusOK
}

// receivers are three processes behind the load balancer.
type receivers struct {
	t      *testing.T
	env    []string
	addrs  []string
	alive  []*exec.Cmd
	killed map[int]bool // by process ID
}

func (r *receivers) start(i int) {
	cmd := exec.CommandContext(context.Background(), os.Args[0]) //nolint:gosec // this very binary
	cmd.Env = append(slices.Clone(r.env), receiverAddr+"="+r.addrs[i])
	cmd.Stderr = os.Stderr
	require.NoError(r.t, cmd.Start())
	r.alive[i] = cmd
}

func (r *receivers) kill(i int) {
	r.killed[r.alive[i].Process.Pid] = true
	_ = r.alive[i].Process.Kill()
	_ = r.alive[i].Wait()
}

// wait returns when every receiver listens. Deliveries that begin before would all fail at once,
// and end before anything is killed.
func (r *receivers) wait() {
	for _, addr := range r.addrs {
		require.Eventually(r.t, func() bool {
			conn, err := (&net.Dialer{}).DialContext(r.t.Context(), "tcp", addr)
			if err != nil {
				return false
			}
			return conn.Close() == nil
		}, time.Minute, 10*time.Millisecond, "a receiver listens")
	}
}

// run kills and restarts random receivers until ctx ends: one at once, so that there is always one.
func (r *receivers) run(ctx context.Context) {
	for {
		i := rand.IntN(len(r.addrs))
		r.kill(i)
		r.start(i) //nolint:contextcheck // it outlives the killing
		pause(ctx, time.Duration(200+rand.IntN(600))*time.Millisecond)
		if ctx.Err() != nil {
			return
		}
	}
}

func freeAddress(t *testing.T) string {
	t.Helper()
	for {
		listener, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp",
			fmt.Sprint("127.0.0.1:", 20_000+rand.IntN(10_000)))
		if err == nil {
			require.NoError(t, listener.Close())
			return listener.Addr().String()
		}
	}
}

// Three receivers share a table and are killed at random, behind a load balancer that drops,
// doubles, delays and reorders events. No event is lost. An effect happens twice only if a receiver
// dies between the effect and its record, and never if both share a transaction. To run with the
// full number of events:
//
//	RICLOUD_CHAOS_EVENTS=20000 go test -run Chaos -v .
func TestChaos(t *testing.T) {
	t.Parallel()
	events := 300
	if n, err := strconv.Atoi(os.Getenv("RICLOUD_CHAOS_EVENTS")); err == nil {
		events = n
	}
	onEach(t, func(t *testing.T, db *sql.DB, s server, prefix string) {
		migrated(t, db, s, prefix)
		execute(t, db,
			"CREATE TABLE "+prefix+"effects (event VARCHAR(64) NOT NULL, life BIGINT NOT NULL)")
		r := &receivers{t: t, alive: make([]*exec.Cmd, 3), killed: map[int]bool{}}
		for range r.alive {
			r.addrs = append(r.addrs, freeAddress(t))
		}
		api := newChaosAPI(t, events, r.addrs)
		r.env = append(os.Environ(),
			receiverDSN+"="+s.dsn, receiverDriver+"="+s.driver, receiverPrefix+"="+prefix,
			receiverDialect+"="+strconv.Itoa(int(s.dialect)), receiverAPI+"="+api.URL)
		for i := range r.alive {
			r.start(i)
		}
		defer func() {
			for i := range r.alive {
				r.kill(i)
			}
		}()

		r.wait()
		begun := time.Now()
		killing, stop := context.WithCancel(t.Context())
		var killer sync.WaitGroup
		killer.Go(func() { r.run(killing) })
		api.deliver(t.Context())
		stop()
		killer.Wait()
		killed := maps.Clone(r.killed) // before the end kills all
		delivered := time.Since(begun)

		done := func() (n int) {
			//nolint:gosec // a name of the test's
			query := "SELECT COUNT(*) FROM " + prefix + "events WHERE done"
			row := db.QueryRowContext(t.Context(), query)
			require.NoError(t, row.Scan(&n))
			return n
		}
		require.Eventually(t, func() bool { return done() == events }, 5*time.Minute,
			200*time.Millisecond,
			"every event is handled")

		lives := map[string][]int{}
		query := "SELECT event, life FROM " + prefix + "effects" //nolint:gosec // a name of the test's
		rows, err := db.QueryContext(t.Context(), query)
		require.NoError(t, err)
		for rows.Next() {
			var event string
			var life int
			require.NoError(t, rows.Scan(&event, &life))
			lives[event] = append(lives[event], life)
		}
		require.NoError(t, errors.Join(rows.Err(), rows.Close()))
		lost, twice, transactionalTwice, unexplained := 0, 0, 0, 0
		for _, e := range api.events {
			switch n := len(lives[e.id]); {
			case n == 0:
				lost++
			case n > 1 && isTransactional(ricloud.ID(e.id)):
				transactionalTwice++
			case n > 1:
				twice++
				died := 0
				for _, life := range lives[e.id] {
					if killed[life] {
						died++
					}
				}
				if died < n-1 {
					unexplained++
				}
			}
		}
		t.Logf("%d events, %d kills, delivered in %s, all done after %s; %v; "+
			"lost %d, twice %d (each died between effect and record), twice in a transaction %d",
			events, len(killed), delivered.Round(time.Millisecond),
			time.Since(begun).Round(time.Millisecond),
			api.counts, lost, twice, transactionalTwice)
		assert.Zero(t, lost)
		assert.Zero(t, transactionalTwice)
		assert.Zero(t, unexplained, "an effect happened twice without a death")
		assert.NotEmpty(t, killed)
	})
}
