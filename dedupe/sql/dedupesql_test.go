package dedupesql_test

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	_ "github.com/go-sql-driver/mysql"
	_ "github.com/jackc/pgx/v5/stdlib"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"
	_ "modernc.org/sqlite"

	ricloud "github.com/reincubate/ricloud-go"
	dedupesql "github.com/reincubate/ricloud-go/dedupe/sql"
)

func TestMain(m *testing.M) {
	if os.Getenv(receiverDSN) != "" { // the chaos test has started this process as a receiver
		if err := receive(context.Background()); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	goleak.VerifyTestMain(m)
}

// server is a database for the tests. SQLite runs in the process. The others need a DSN in the
// environment, which "bash .ci/run databases" sets.
type server struct {
	name    string
	dialect dedupesql.Dialect
	driver  string
	dsn     string // empty: taken from env
	env     string
}

func servers(t *testing.T) []server {
	t.Helper()
	file := filepath.Join(t.TempDir(), "events.db")
	return []server{
		{
			name: "SQLite", dialect: dedupesql.SQLite, driver: "sqlite",
			dsn: "file:" + file + "?_pragma=busy_timeout(20000)&_pragma=journal_mode(WAL)&_txlock=immediate",
		},
		{name: "PostgreSQL", dialect: dedupesql.PostgreSQL, driver: "pgx", env: "RICLOUD_TEST_POSTGRES"},
		{name: "MySQL", dialect: dedupesql.MySQL, driver: "mysql", env: "RICLOUD_TEST_MYSQL"},
	}
}

var tables atomic.Int64 //nolint:gochecknoglobals // each test has its own tables

// onEach runs a test on each available database, and logs which ones are missing.
func onEach(t *testing.T, test func(t *testing.T, db *sql.DB, s server, prefix string)) {
	t.Helper()
	for _, s := range servers(t) {
		if s.env != "" {
			s.dsn = os.Getenv(s.env)
		}
		if s.dsn == "" { // "bash .ci/run databases" fails in this case
			t.Logf("%s is not set: this does not run on %s", s.env, s.name)
			continue
		}
		t.Run(s.name, func(t *testing.T) {
			t.Parallel()
			db := open(t, s)
			prefix := fmt.Sprintf("t%d_%d_", os.Getpid(), tables.Add(1))
			t.Cleanup(func() {
				for _, table := range []string{"events", "cursor", "schema", "effects"} {
					_, err := db.ExecContext(context.Background(), "DROP TABLE IF EXISTS "+prefix+table)
					assert.NoError(t, err)
				}
				assert.NoError(t, db.Close())
			})
			test(t, db, s, prefix)
		})
	}
}

func open(t *testing.T, s server) *sql.DB {
	t.Helper()
	db, err := sql.Open(s.driver, s.dsn)
	require.NoError(t, err)
	if s.dialect == dedupesql.SQLite {
		db.SetMaxOpenConns(1) // SQLite allows one writer at a time
	}
	return db
}

func migrated(
	t *testing.T, db *sql.DB, s server, prefix string, opts ...dedupesql.Option,
) *dedupesql.Deduplicator {
	t.Helper()
	opts = append([]dedupesql.Option{dedupesql.WithPrefix(prefix)}, opts...)
	d, err := dedupesql.New(db, s.dialect, opts...)
	require.NoError(t, err)
	require.NoError(t, d.Migrate(t.Context()))
	return d
}

func execute(t *testing.T, db *sql.DB, statement string) {
	t.Helper()
	_, err := db.ExecContext(t.Context(), statement)
	require.NoError(t, err)
}

func TestALeaseGoesThroughItsLife(t *testing.T) {
	t.Parallel()
	onEach(t, func(t *testing.T, db *sql.DB, s server, prefix string) {
		ctx, d := t.Context(), migrated(t, db, s, prefix)
		first, err := d.Begin(ctx, "a")
		require.NoError(t, err)
		assert.Equal(t, ricloud.ID("a"), first.Event)
		assert.WithinDuration(t, time.Now().Add(dedupesql.DefaultLease), first.Expires, time.Minute)
		_, err = d.Begin(ctx, "a")
		require.ErrorIs(t, err, ricloud.ErrEventInProgress)
		require.NoError(t, d.Failed(ctx, first))

		second, err := d.Begin(ctx, "a")
		require.NoError(t, err, "a failed event can begin again")
		require.ErrorIs(t, d.Done(ctx, first), ricloud.ErrLeaseLost)
		require.ErrorIs(t, d.Failed(ctx, first), ricloud.ErrLeaseLost)
		require.NoError(t, d.Done(ctx, second))
		require.NoError(t, d.Done(ctx, second), "it can be repeated")
		_, err = d.Begin(ctx, "a")
		require.ErrorIs(t, err, ricloud.ErrEventDone)
		require.ErrorIs(t, d.Failed(ctx, second), ricloud.ErrLeaseLost, "done stays done")
		_, err = d.Begin(ctx, "a")
		require.ErrorIs(t, err, ricloud.ErrEventDone)
	})
}

// A's lease expires, B begins the same event, and A then gets ErrLeaseLost without affecting B's
// lease.
func TestALostLeaseNeitherFreesNorOverwrites(t *testing.T) {
	t.Parallel()
	onEach(t, func(t *testing.T, db *sql.DB, s server, prefix string) {
		ctx, d := t.Context(), migrated(t, db, s, prefix)
		expire := func() { execute(t, db, "UPDATE "+prefix+"events SET lease_until = 0") }

		a, err := d.Begin(ctx, "1")
		require.NoError(t, err)
		expire()
		b, err := d.Begin(ctx, "1")
		require.NoError(t, err, "the lease expired")
		require.ErrorIs(t, d.Failed(ctx, a), ricloud.ErrLeaseLost)
		_, err = d.Begin(ctx, "1")
		require.ErrorIs(t, err, ricloud.ErrEventInProgress, "A does not release B's lease")
		require.ErrorIs(t, d.Done(ctx, a), ricloud.ErrLeaseLost)
		_, err = d.Begin(ctx, "1")
		require.ErrorIs(t, err, ricloud.ErrEventInProgress, "A does not complete B's lease")
		require.NoError(t, d.Failed(ctx, b))
		require.ErrorIs(t, d.Done(ctx, a), ricloud.ErrLeaseLost, "the row is gone")
		c, err := d.Begin(ctx, "1")
		require.NoError(t, err)
		require.NoError(t, d.Done(ctx, c))

		// A lease that has expired can still be completed if nobody else began the event.
		late, err := d.Begin(ctx, "2")
		require.NoError(t, err)
		expire()
		require.NoError(t, d.Done(ctx, late))
		_, err = d.Begin(ctx, "2")
		require.ErrorIs(t, err, ricloud.ErrEventDone)
	})
}

// IDs stay distinct even if a database might fold case, pad, truncate or reject them.
func TestIDsAreToldApart(t *testing.T) {
	t.Parallel()
	onEach(t, func(t *testing.T, db *sql.DB, s server, prefix string) {
		d := migrated(t, db, s, prefix)
		long := strings.Repeat("x", 400)
		for _, id := range []ricloud.ID{
			"a", "A", "a ", " a", "ä", "Ä", "a\u0308", "a\x00", "\xff", "%", "'", "?", "$1",
			"0e7a0c1e-5a5e-4d0b-9b1e-3f1c2a4d5e6f", ricloud.ID(long), ricloud.ID(long + "y"),
			"sha256:ca978112ca1bbdcafac231b39a23dc4da786eff8147c4e72b9807785afee48bb",
		} {
			lease, err := d.Begin(t.Context(), id)
			require.NoError(t, err, "%q", id)
			require.NoError(t, d.Done(t.Context(), lease), "%q", id)
			_, err = d.Begin(t.Context(), id)
			require.ErrorIs(t, err, ricloud.ErrEventDone, "%q", id)
		}
	})
}

func TestOneOfManyClaimsAnEvent(t *testing.T) {
	t.Parallel()
	onEach(t, func(t *testing.T, db *sql.DB, s server, prefix string) {
		d := migrated(t, db, s, prefix)
		const events, parallel = 20, 8
		for i := range events {
			id := ricloud.ID(fmt.Sprint("event ", i))
			var claimed, busy atomic.Int64
			var wg sync.WaitGroup
			for range parallel {
				wg.Go(func() {
					switch _, err := d.Begin(t.Context(), id); {
					case err == nil:
						claimed.Add(1)
					case errors.Is(err, ricloud.ErrEventInProgress):
						busy.Add(1)
					default:
						t.Error(err)
					}
				})
			}
			wg.Wait()
			assert.Equal(t, []int64{1, parallel - 1}, []int64{claimed.Load(), busy.Load()})
		}
	})
}

func TestMigrateCanBeRepeatedAndShared(t *testing.T) {
	t.Parallel()
	onEach(t, func(t *testing.T, db *sql.DB, s server, prefix string) {
		d, err := dedupesql.New(db, s.dialect, dedupesql.WithPrefix(prefix))
		require.NoError(t, err)
		var wg sync.WaitGroup
		for range 4 {
			wg.Go(func() { assert.NoError(t, d.Migrate(t.Context())) })
		}
		wg.Wait()
		lease, err := d.Begin(t.Context(), "a")
		require.NoError(t, err)
		require.NoError(t, d.Done(t.Context(), lease))
		require.NoError(t, d.Migrate(t.Context()))
		_, err = d.Begin(t.Context(), "a")
		require.ErrorIs(t, err, ricloud.ErrEventDone, "a migration keeps what is there")

		var version int
		query := "SELECT MAX(version) FROM " + prefix + "schema" //nolint:gosec // a name of the test's
		row := db.QueryRowContext(t.Context(), query)
		require.NoError(t, row.Scan(&version))
		assert.Equal(t, 1, version)
	})
}

func TestCursor(t *testing.T) {
	t.Parallel()
	onEach(t, func(t *testing.T, db *sql.DB, s server, prefix string) {
		ctx, d := t.Context(), migrated(t, db, s, prefix)
		position, err := d.Cursor(ctx)
		require.NoError(t, err)
		assert.True(t, position.IsZero())

		at := time.Date(2026, 1, 2, 3, 4, 5, 678_000, time.UTC)
		for _, move := range []time.Duration{0, -time.Hour, time.Microsecond, 0} {
			require.NoError(t, d.SetCursor(ctx, at.Add(move)))
		}
		position, err = d.Cursor(ctx)
		require.NoError(t, err)
		assert.Equal(t, at.Add(time.Microsecond), position, "it never moves back")
	})
}

// Forget keeps the events that Replay would read again, however old they are.
func TestForget(t *testing.T) {
	t.Parallel()
	onEach(t, func(t *testing.T, db *sql.DB, s server, prefix string) {
		ctx, d := t.Context(), migrated(t, db, s, prefix)
		day := 24 * time.Hour
		for id, age := range map[ricloud.ID]time.Duration{"old": 10 * day, "kept": 5 * day, "new": 0} {
			lease, err := d.Begin(ctx, id)
			require.NoError(t, err)
			require.NoError(t, d.Done(ctx, lease))
			execute(t, db, fmt.Sprintf("UPDATE %sevents SET done_at = done_at - %d WHERE owner = '%s'",
				prefix, age.Milliseconds(), lease.Owner))
		}
		_, err := d.Begin(ctx, "in progress")
		require.NoError(t, err)
		_, err = d.Begin(ctx, "abandoned")
		require.NoError(t, err)
		execute(t, db, "UPDATE "+prefix+"events SET lease_until = 0 WHERE id = 'abandoned'")
		_, err = d.Forget(ctx, 0)
		var p *ricloud.ParamError
		require.ErrorAs(t, err, &p)

		require.NoError(t, d.SetCursor(ctx, time.Now().Add(-7*day)))
		n, err := d.Forget(ctx, day)
		require.NoError(t, err)
		assert.EqualValues(t, 2, n, "the one before the position, and the abandoned claim")
		for _, id := range []ricloud.ID{"kept", "new"} {
			_, err := d.Begin(ctx, id)
			require.ErrorIs(t, err, ricloud.ErrEventDone, id)
		}
		_, err = d.Begin(ctx, "in progress")
		require.ErrorIs(t, err, ricloud.ErrEventInProgress)

		require.NoError(t, d.SetCursor(ctx, time.Now().Add(-time.Hour)))
		n, err = d.Forget(ctx, day)
		require.NoError(t, err)
		assert.EqualValues(t, 1, n)
		_, err = d.Begin(ctx, "new")
		require.ErrorIs(t, err, ricloud.ErrEventDone)
	})
}

// Without a position, the first Replay reaches back DefaultReplayReach, so Forget keeps that much.
func TestForgetWithoutAPosition(t *testing.T) {
	t.Parallel()
	onEach(t, func(t *testing.T, db *sql.DB, s server, prefix string) {
		ctx, d := t.Context(), migrated(t, db, s, prefix)
		for ago, want := range map[time.Duration]int64{
			ricloud.DefaultReplayReach:               0,
			ricloud.DefaultReplayReach + 2*time.Hour: 1, // one hour is kept for clocks that differ
		} {
			handled := time.Now().Add(-ago).UnixMilli()
			execute(t, db, fmt.Sprintf("DELETE FROM %sevents", prefix))
			lease, err := d.Begin(ctx, "a")
			require.NoError(t, err)
			require.NoError(t, d.Done(ctx, lease))
			execute(t, db, fmt.Sprintf("UPDATE %sevents SET done_at = %d", prefix, handled))
			n, err := d.Forget(ctx, time.Hour)
			require.NoError(t, err)
			assert.Equal(t, want, n, "handled %s ago", ago)
		}
	})
}

// An effect and the record of it are committed together or not at all.
func TestInTx(t *testing.T) {
	t.Parallel()
	onEach(t, func(t *testing.T, db *sql.DB, s server, prefix string) {
		d := migrated(t, db, s, prefix)
		execute(t, db, "CREATE TABLE "+prefix+"effects (event VARCHAR(64))")
		effects := func() (n int) {
			query := "SELECT COUNT(*) FROM " + prefix + "effects" //nolint:gosec // a name of the test's
			row := db.QueryRowContext(t.Context(), query)
			require.NoError(t, row.Scan(&n))
			return n
		}
		failure := errors.New("failed after its effect")
		var outcome error
		handler, err := ricloud.NewWebhookHandler(func(ctx context.Context, e *ricloud.Event) error {
			return d.InTx(ctx, func(tx *sql.Tx) error {
				//nolint:gosec // the test's own
				statement := "INSERT INTO " + prefix + "effects (event) VALUES ('" + string(e.ID) + "')"
				if _, err := tx.ExecContext(ctx, statement); err != nil {
					return err
				}
				return outcome
			})
		}, ricloud.WithWebhookDeduplicator(d))
		require.NoError(t, err)
		event := &ricloud.Event{ID: "1", Type: "poll"}

		outcome = failure
		require.ErrorIs(t, handler.Handle(t.Context(), event), failure)
		assert.Zero(t, effects(), "it was rolled back")
		outcome = nil
		for range 3 {
			require.NoError(t, handler.Handle(t.Context(), event))
			assert.Equal(t, 1, effects())
		}
		_, err = d.Begin(t.Context(), "1")
		require.ErrorIs(t, err, ricloud.ErrEventDone)

		require.ErrorContains(t, d.InTx(t.Context(), func(*sql.Tx) error { return nil }), "DoneTx")
	})
}

// InTx does not commit an effect if the lease was lost to another process.
func TestInTxRefusesALostLease(t *testing.T) {
	t.Parallel()
	onEach(t, func(t *testing.T, db *sql.DB, s server, prefix string) {
		d := migrated(t, db, s, prefix)
		called := false
		handler, err := ricloud.NewWebhookHandler(func(ctx context.Context, _ *ricloud.Event) error {
			//nolint:contextcheck // the test's own
			execute(t, db, "UPDATE "+prefix+"events SET lease_until = 0")
			if _, err := d.Begin(ctx, "1"); err != nil { // another process takes over
				return err
			}
			return d.InTx(ctx, func(*sql.Tx) error { called = true; return nil })
		}, ricloud.WithWebhookDeduplicator(d))
		require.NoError(t, err)
		err = handler.Handle(t.Context(), &ricloud.Event{ID: "1", Type: "poll"})
		require.ErrorIs(t, err, ricloud.ErrLeaseLost)
		assert.False(t, called)
	})
}

// If the lease ends during a transaction, the error is ErrLeaseLost, and not only the error of
// database/sql about an ended context.
func TestInTxSaysThatTheLeaseEnded(t *testing.T) {
	t.Parallel()
	onEach(t, func(t *testing.T, db *sql.DB, s server, prefix string) {
		d := migrated(t, db, s, prefix)
		for name, test := range map[string]struct {
			cause       error
			endBefore   bool
			effect      error
			isLeaseLost bool
		}{
			"before it begins":       {cause: ricloud.ErrLeaseLost, endBefore: true, isLeaseLost: true},
			"before it is committed": {cause: ricloud.ErrLeaseLost, isLeaseLost: true},
			"in the effect": {
				cause: ricloud.ErrLeaseLost, effect: errors.New("broken off"), isLeaseLost: true,
			},
			"the process stops": {cause: errors.New("stopping")},
		} {
			id := ricloud.ID(name)
			handler, err := ricloud.NewWebhookHandler(func(ctx context.Context, _ *ricloud.Event) error {
				ctx, end := context.WithCancelCause(ctx)
				defer end(nil)
				if test.endBefore {
					end(test.cause)
				}
				return d.InTx(ctx, func(*sql.Tx) error { end(test.cause); return test.effect })
			}, ricloud.WithWebhookDeduplicator(d))
			require.NoError(t, err)
			err = handler.Handle(t.Context(), &ricloud.Event{ID: id, Type: "poll"})
			require.Error(t, err, name)
			assert.Equal(t, test.isLeaseLost, errors.Is(err, ricloud.ErrLeaseLost), "%s: %v", name, err)
			if test.effect != nil {
				require.ErrorIs(t, err, test.effect)
			}
			lease, err := d.Begin(t.Context(), id)
			require.NoError(t, err, "%s: nothing was recorded", name)
			require.NoError(t, d.Failed(t.Context(), lease))
		}
	})
}

// The end of the lease cancels the handler's context, so that a slow handler stops before another
// process begins the event.
func TestTheLeaseBoundsTheHandler(t *testing.T) {
	t.Parallel()
	onEach(t, func(t *testing.T, db *sql.DB, s server, prefix string) {
		d := migrated(t, db, s, prefix, dedupesql.WithLease(time.Second))
		handler, err := ricloud.NewWebhookHandler(func(ctx context.Context, _ *ricloud.Event) error {
			<-ctx.Done()
			return context.Cause(ctx)
		}, ricloud.WithWebhookDeduplicator(d))
		require.NoError(t, err)
		err = handler.Handle(t.Context(), &ricloud.Event{ID: "1", Type: "poll"})
		require.ErrorIs(t, err, ricloud.ErrLeaseLost)
	})
}

func TestABrokenDatabaseIsNoVerdict(t *testing.T) {
	t.Parallel()
	onEach(t, func(t *testing.T, _ *sql.DB, s server, prefix string) {
		other := open(t, s)
		d, err := dedupesql.New(other, s.dialect, dedupesql.WithPrefix(prefix))
		require.NoError(t, err)
		_, err = d.Begin(t.Context(), "a")
		require.Error(t, err, "there is no table")
		require.NoError(t, other.Close())
		_, err = d.Begin(t.Context(), "a")
		require.Error(t, err)
		for _, verdict := range []error{
			ricloud.ErrEventDone, ricloud.ErrEventInProgress, ricloud.ErrLeaseLost,
		} {
			require.NotErrorIs(t, err, verdict)
			require.NotErrorIs(t, d.Done(t.Context(), ricloud.Lease{Event: "a", Owner: "b"}), verdict)
			require.NotErrorIs(t, d.Failed(t.Context(), ricloud.Lease{Event: "a", Owner: "b"}), verdict)
		}
	})
}

func TestNewRefuses(t *testing.T) {
	t.Parallel()
	db, err := sql.Open("sqlite", ":memory:")
	require.NoError(t, err)
	defer func() { require.NoError(t, db.Close()) }()
	for field, tt := range map[string]struct {
		db      *sql.DB
		dialect dedupesql.Dialect
		opt     dedupesql.Option
	}{
		"db":      {db: nil, dialect: dedupesql.SQLite, opt: dedupesql.WithLease(time.Minute)},
		"dialect": {db: db, dialect: 0, opt: dedupesql.WithLease(time.Minute)},
		"opts":    {db: db, dialect: dedupesql.SQLite, opt: nil},
		"WithLease": {
			db:      db,
			dialect: dedupesql.SQLite,
			opt:     dedupesql.WithLease(time.Millisecond),
		},
		"WithPrefix": {
			db:      db,
			dialect: dedupesql.SQLite,
			opt:     dedupesql.WithPrefix("x; DROP TABLE"),
		},
	} {
		_, err := dedupesql.New(tt.db, tt.dialect, tt.opt)
		var p *ricloud.ParamError
		require.ErrorAs(t, err, &p, field)
		assert.Equal(t, field, p.Field)
	}
	zero, ctx := &dedupesql.Deduplicator{}, t.Context()
	_, begin := zero.Begin(ctx, "1")
	_, cursor := zero.Cursor(ctx)
	_, forget := zero.Forget(ctx, time.Hour)
	for _, err := range []error{
		begin, cursor, forget, zero.Migrate(ctx), zero.Done(ctx, ricloud.Lease{}),
		zero.Failed(ctx, ricloud.Lease{}), zero.SetCursor(ctx, time.Now()),
		zero.InTx(ctx, func(*sql.Tx) error { return nil }),
	} {
		require.ErrorContains(t, err, "make one with New")
	}
	assert.Equal(t, "MySQL", dedupesql.MySQL.String())
	assert.Equal(t, "Dialect(9)", dedupesql.Dialect(9).String())
}

// Two processes share a SQLite file with the default settings of the driver. Neither gets an error
// because the file is locked.
func TestSQLiteFileThatIsLocked(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "events.db")
	var receivers []*dedupesql.Deduplicator
	for range 2 {
		db, err := sql.Open("sqlite", path)
		require.NoError(t, err)
		t.Cleanup(func() { assert.NoError(t, db.Close()) })
		dedupe, err := dedupesql.New(db, dedupesql.SQLite)
		require.NoError(t, err)
		require.NoError(t, dedupe.Migrate(t.Context()))
		receivers = append(receivers, dedupe)
	}
	const events = 8
	var handled atomic.Int64
	var all sync.WaitGroup
	for i := range 4 {
		all.Go(func() {
			dedupe := receivers[i%len(receivers)]
			for n := range events {
				lease, err := dedupe.Begin(t.Context(), ricloud.ID(strconv.Itoa(n)))
				if errors.Is(err, ricloud.ErrEventDone) || errors.Is(err, ricloud.ErrEventInProgress) {
					continue
				}
				if assert.NoError(t, err) && assert.NoError(t, dedupe.Done(t.Context(), lease)) {
					handled.Add(1)
				}
			}
		})
	}
	all.Wait()
	assert.EqualValues(t, events, handled.Load())
}

// No method fails because another process holds the lock of a SQLite file for a moment.
func TestSQLiteWaitsForTheLock(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "events.db")
	var dbs [2]*sql.DB
	for i := range dbs {
		var err error
		dbs[i], err = sql.Open("sqlite", path)
		require.NoError(t, err)
		t.Cleanup(func() { assert.NoError(t, dbs[i].Close()) })
	}
	dedupe, err := dedupesql.New(dbs[0], dedupesql.SQLite)
	require.NoError(t, err)
	require.NoError(t, dedupe.Migrate(t.Context()))
	dbs[1].SetMaxOpenConns(1)
	lock := func(ctx context.Context) {
		_, err := dbs[1].ExecContext(ctx, "BEGIN EXCLUSIVE")
		require.NoError(t, err)
		time.AfterFunc(10*time.Millisecond, func() {
			_, err := dbs[1].ExecContext(context.WithoutCancel(ctx), "COMMIT")
			assert.NoError(t, err)
		})
	}
	effects := 0
	handler, err := ricloud.NewWebhookHandler(func(ctx context.Context, _ *ricloud.Event) error {
		lock(ctx)
		return dedupe.InTx(ctx, func(*sql.Tx) error { effects++; return nil })
	}, ricloud.WithWebhookDeduplicator(dedupe))
	require.NoError(t, err)
	event, err := ricloud.ParseEvent([]byte(`{"id":"e1","type":"poll","action":"completed"}`))
	require.NoError(t, err)
	require.NoError(t, handler.Handle(t.Context(), event))
	assert.Equal(t, 1, effects)
	lock(t.Context())
	_, err = dedupe.Cursor(t.Context())
	require.NoError(t, err)
	lock(t.Context())
	_, err = dedupe.Forget(t.Context(), time.Hour)
	require.NoError(t, err)
}
