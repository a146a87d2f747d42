// Package dedupesql remembers in a SQL database which events were handled, so
// that several processes handle each event once, across crashes and restarts.
// It works on PostgreSQL, SQLite, MySQL and MariaDB, through database/sql and
// any driver.
//
//	db, err := sql.Open("pgx", dsn)
//	dedupe, err := dedupesql.New(db, dedupesql.PostgreSQL)
//	err = dedupe.Migrate(ctx)
//	handler, err := ricloud.NewWebhookHandler(fn, ricloud.WithWebhookDeduplicator(dedupe))
//
// # Exactly once
//
// An effect that is written to the same database can share a transaction with
// the record that the event was handled. Then it happens exactly once, at
// whatever moment a process or the database dies:
//
//	func fn(ctx context.Context, event *ricloud.Event) error {
//		return dedupe.InTx(ctx, func(tx *sql.Tx) error {
//			_, err := tx.ExecContext(ctx, "INSERT INTO completed_polls …")
//			return err
//		})
//	}
//
// # SQLite
//
// One process at a time writes to a SQLite file. A Deduplicator tries again for
// a few seconds while another holds the lock. Open the file with a busy timeout
// and write-ahead logging, so that SQLite itself waits; with modernc.org/sqlite:
//
//	db, err := sql.Open("sqlite", path+"?_pragma=busy_timeout(5000)&_pragma=journal_mode(WAL)")
//
// # Upkeep
//
// Call WebhookHandler.Replay at every start and on a timer, and Forget about
// once a day.
package dedupesql

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"database/sql"
	"encoding/hex"
	"errors"
	"fmt"
	mathrand "math/rand/v2"
	"regexp"
	"strconv"
	"strings"
	"time"

	ricloud "github.com/reincubate/ricloud-go"
)

// DefaultLease is how long an event may take unless WithLease says otherwise.
const DefaultLease = 5 * time.Minute

const (
	tries       = 3 // attempts at a statement: a deadlock or a broken connection is temporary
	triesLocked = 9 // the same while a SQLite file is locked, which takes seconds
	tryPause    = 20 * time.Millisecond
	maxTryPause = time.Second
)

// A Deduplicator is a ricloud.Deduplicator and a ricloud.Cursor in a SQL
// database. It is safe for concurrent use, by any number of processes.
//
// Leases use the database's clock. Only Lease.Expires, which ends the context of
// WebhookHandler's function, uses this process's clock.
type Deduplicator struct {
	db      *sql.DB
	dialect Dialect
	lease   time.Duration
	prefix  string

	claim, takeOver, look, done, failed, forget string
	position, insertPosition, setPosition       string
}

var (
	_ ricloud.Deduplicator = (*Deduplicator)(nil)
	_ ricloud.Cursor       = (*Deduplicator)(nil)
)

// An Option configures a Deduplicator.
type Option func(*Deduplicator)

// WithLease sets how long an event may take to be handled. After that, the
// process is believed to be dead, and another one may claim the event. The end of
// the lease also ends the context of the function that handles the event. The
// default is DefaultLease. MySQL counts the lease in whole seconds.
func WithLease(d time.Duration) Option { return func(s *Deduplicator) { s.lease = d } }

// WithPrefix sets what the names of the tables begin with: letters, digits and
// "_". The default is "ricloud_". Receivers of different organisations need
// different tables.
func WithPrefix(prefix string) Option { return func(s *Deduplicator) { s.prefix = prefix } }

// New returns a Deduplicator in db. It makes no request: call Migrate before
// its first use. It returns a *ricloud.ParamError for a setting that cannot
// work. The caller closes db.
func New(db *sql.DB, dialect Dialect, opts ...Option) (*Deduplicator, error) {
	d := &Deduplicator{db: db, dialect: dialect, lease: DefaultLease, prefix: "ricloud_"}
	for _, opt := range opts {
		if opt == nil {
			return nil, invalid("opts", "must not hold a nil Option")
		}
		opt(d)
	}
	switch {
	case db == nil:
		return nil, invalid("db", "is required")
	case dialect < PostgreSQL || dialect > MySQL:
		return nil, invalid("dialect", "must be PostgreSQL, SQLite or MySQL")
	case d.lease < time.Second:
		return nil, invalid("WithLease", "must be a second or more")
	case !regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_]{0,31}$`).MatchString(d.prefix):
		return nil, invalid("WithPrefix", "must be 1 to 32 letters, digits and underscores")
	}
	d.prepare()
	return d, nil
}

func invalid(field, reason string) error {
	return &ricloud.ParamError{Operation: "dedupesql.New", Field: field, Reason: reason}
}

// prepare writes the statements.
func (d *Deduplicator) prepare() {
	d.claim = d.statement(d.dialect.insertIgnore(
		"{events} (id, owner, done, lease_until, done_at) VALUES (?, ?, FALSE, {now} + ?, 0)"))
	d.takeOver = d.statement(`UPDATE {events} SET owner = ?, lease_until = {now} + ?
		WHERE id = ? AND NOT done AND lease_until <= {now}`)
	d.look = d.statement("SELECT owner, done FROM {events} WHERE id = ?")
	d.done = d.statement(`UPDATE {events} SET done = TRUE, done_at = {now}
		WHERE id = ? AND owner = ? AND NOT done`)
	d.failed = d.statement("DELETE FROM {events} WHERE id = ? AND owner = ? AND NOT done")
	d.forget = d.statement(`DELETE FROM {events} WHERE
		done AND done_at < {now} - ? AND done_at < ? OR
		NOT done AND lease_until < {now} - ?`)
	d.position = d.statement("SELECT position FROM {cursor} WHERE name = 'replay'")
	d.insertPosition = d.statement(d.dialect.insertIgnore(
		"{cursor} (name, position) VALUES ('replay', ?)"))
	d.setPosition = d.statement(
		"UPDATE {cursor} SET position = ? WHERE name = 'replay' AND position < ?")
}

func (d *Deduplicator) statement(text string) string {
	return d.dialect.rebind(strings.NewReplacer(
		"{events}", d.prefix+"events", "{cursor}", d.prefix+"cursor",
		"{schema}", d.prefix+"schema", "{now}", d.dialect.now(),
	).Replace(text))
}

// Migrate creates the tables, or brings those of an earlier version up to date.
// It can be called at every start, by several processes at a time. The database
// user must be allowed to create tables. To run the statements in another way,
// get them from Schema.
func (d *Deduplicator) Migrate(ctx context.Context) error {
	for _, statement := range d.Schema() {
		// PostgreSQL may fail when two processes create the same table at a time.
		if err := d.retry(ctx, func() error {
			_, err := d.db.ExecContext(ctx, statement)
			return err
		}); err != nil {
			return fmt.Errorf("dedupesql: migrating: %w", err)
		}
	}
	return nil
}

// Schema returns the statements that Migrate runs. Each can be repeated.
func (d *Deduplicator) Schema() []string {
	statements := []string{
		"CREATE TABLE IF NOT EXISTS {schema} (version INTEGER PRIMARY KEY)",
	}
	for i, migration := range d.dialect.migrations() {
		statements = append(statements, migration...)
		version := "{schema} (version) VALUES (" + strconv.Itoa(i+1) + ")"
		statements = append(statements, d.dialect.insertIgnore(version))
	}
	for i := range statements {
		statements[i] = d.statement(statements[i])
	}
	return statements
}

// Begin implements ricloud.Deduplicator.
func (d *Deduplicator) Begin(ctx context.Context, id ricloud.ID) (ricloud.Lease, error) {
	lease := ricloud.Lease{Event: id, Owner: rand.Text(), Expires: time.Now().Add(d.lease)}
	var verdict error // a claim whose answer was lost is recognised by its owner
	err := d.retry(ctx, func() (err error) {
		verdict, err = d.begin(ctx, lease)
		return err
	})
	if err == nil {
		err = verdict
	}
	if err != nil {
		return ricloud.Lease{}, err
	}
	return lease, nil
}

// begin claims an event. The verdict is nil, ErrEventDone or ErrEventInProgress.
func (d *Deduplicator) begin(ctx context.Context, lease ricloud.Lease) (verdict, err error) {
	id, millis := key(lease.Event), d.lease.Milliseconds()
	claimed, err := d.exec(ctx, d.claim, id, lease.Owner, millis)
	if err == nil && !claimed {
		claimed, err = d.exec(ctx, d.takeOver, lease.Owner, millis, id)
	}
	if claimed || err != nil {
		return nil, err
	}
	owner, done, err := d.read(ctx, d.db, lease.Event)
	switch {
	case errors.Is(err, sql.ErrNoRows): // Failed has just released it
		return ricloud.ErrEventInProgress, nil
	case err != nil:
		return nil, err
	case done:
		return ricloud.ErrEventDone, nil
	case owner == lease.Owner:
		return nil, nil
	}
	return ricloud.ErrEventInProgress, nil
}

// Done implements ricloud.Deduplicator. It returns nil if DoneTx has recorded
// the event under the same lease.
func (d *Deduplicator) Done(ctx context.Context, lease ricloud.Lease) error {
	lost := false
	err := d.retry(ctx, func() error {
		recorded, err := d.exec(ctx, d.done, key(lease.Event), lease.Owner)
		if recorded || err != nil {
			return err
		}
		owner, done, err := d.read(ctx, d.db, lease.Event)
		lost = errors.Is(err, sql.ErrNoRows) || err == nil && !(done && owner == lease.Owner)
		if lost {
			return nil
		}
		return err
	})
	if err == nil && lost {
		err = ricloud.ErrLeaseLost
	}
	return err
}

// Failed implements ricloud.Deduplicator.
func (d *Deduplicator) Failed(ctx context.Context, lease ricloud.Lease) error {
	freed := false
	again := false
	err := d.retry(ctx, func() (err error) {
		freed, err = d.exec(ctx, d.failed, key(lease.Event), lease.Owner)
		again = again || err != nil // an attempt whose answer was lost may have freed it
		return err
	})
	if err == nil && !freed && !again {
		err = ricloud.ErrLeaseLost
	}
	return err
}

// DoneTx records within tx that an event was handled. ctx is the context that
// ricloud.WebhookHandler passed to its function for that event. The event counts
// as handled only if tx is committed. If the lease is lost, DoneTx returns
// ricloud.ErrLeaseLost: roll tx back, because another process handles the event.
func (d *Deduplicator) DoneTx(ctx context.Context, tx *sql.Tx) error {
	lease, ok := ricloud.LeaseFromContext(ctx)
	if !ok {
		return errNoLease
	}
	result, err := tx.ExecContext(ctx, d.done, key(lease.Event), lease.Owner)
	if err != nil {
		return err
	}
	n, err := result.RowsAffected()
	if err == nil && n == 0 {
		return ricloud.ErrLeaseLost
	}
	return err
}

// InTx calls effect with a transaction, in which it also records that the event
// was handled, and commits the transaction. Nothing is written if effect returns
// an error or panics. ctx is the context of the handler's function, as for DoneTx.
// The error matches ricloud.ErrLeaseLost if the lease ended meanwhile: another
// process handles the event.
func (d *Deduplicator) InTx(ctx context.Context, effect func(tx *sql.Tx) error) error {
	err := d.inTx(ctx, effect)
	lost := ricloud.ErrLeaseLost
	if err != nil && errors.Is(context.Cause(ctx), lost) && !errors.Is(err, lost) {
		return fmt.Errorf("%w: %w", lost, err) // database/sql does not tell the cause
	}
	return err
}

func (d *Deduplicator) inTx(ctx context.Context, effect func(tx *sql.Tx) error) error {
	var tx *sql.Tx
	var lost error
	err := d.retry(ctx, func() (err error) {
		tx, lost, err = d.beginTx(ctx)
		return err
	})
	if err == nil {
		err = lost
	}
	if err != nil {
		return err
	}
	defer func() { _ = tx.Rollback() }() // nothing to do once it is committed
	if err := effect(tx); err != nil {
		return err
	}
	return tx.Commit()
}

// beginTx begins a transaction with the record that the event was handled: its
// row lock keeps others out until the commit. lost is an error that repeating
// does not help against.
func (d *Deduplicator) beginTx(ctx context.Context) (tx *sql.Tx, lost, err error) {
	if tx, err = d.db.BeginTx(ctx, nil); err != nil {
		return nil, nil, err
	}
	if err = d.DoneTx(ctx, tx); err == nil {
		return tx, nil, nil
	}
	_ = tx.Rollback() // the first error counts
	if errors.Is(err, ricloud.ErrLeaseLost) || errors.Is(err, errNoLease) {
		return nil, err, nil
	}
	return nil, nil, err
}

var errNoLease = errors.New("dedupesql: DoneTx needs the context of the handler's function")

// Cursor implements ricloud.Cursor.
func (d *Deduplicator) Cursor(ctx context.Context) (time.Time, error) {
	var position time.Time
	err := d.retry(ctx, func() error {
		var micros int64
		err := d.db.QueryRowContext(ctx, d.position).Scan(&micros)
		switch {
		case errors.Is(err, sql.ErrNoRows):
			return nil
		case err == nil:
			position = time.UnixMicro(micros).UTC()
		}
		return err
	})
	return position, err
}

// SetCursor implements ricloud.Cursor.
func (d *Deduplicator) SetCursor(ctx context.Context, position time.Time) error {
	micros := position.UnixMicro()
	return d.retry(ctx, func() error {
		if _, err := d.exec(ctx, d.insertPosition, micros); err != nil {
			return err
		}
		_, err := d.exec(ctx, d.setPosition, micros, micros)
		return err
	})
}

// Forget deletes the records of events that were handled longer ago than age,
// and returns how many it deleted. It also deletes claims of processes that died
// longer ago than age.
//
// Whatever the age, it keeps the records that WebhookHandler.Replay still needs:
// those since the Cursor's position or, before the first Replay, those of the
// last ricloud.DefaultReplayReach. A receiver that calls
// ricloud.EventsService.Replay with a date of its own must choose an age that
// reaches back beyond that date.
func (d *Deduplicator) Forget(ctx context.Context, age time.Duration) (int64, error) {
	if age <= 0 {
		return 0, &ricloud.ParamError{
			Operation: "dedupesql.Forget", Field: "age", Reason: "must be positive",
		}
	}
	position, err := d.Cursor(ctx)
	if err != nil {
		return 0, err
	}
	if position.IsZero() {
		position = time.Now().Add(-ricloud.DefaultReplayReach)
	}
	var deleted int64
	err = d.retry(ctx, func() error {
		result, err := d.db.ExecContext(ctx, d.forget,
			age.Milliseconds(), position.Add(-maxClockSkew).UnixMilli(), age.Milliseconds())
		if err == nil {
			deleted, err = result.RowsAffected()
		}
		return err
	})
	return deleted, err
}

// maxClockSkew is how far the API's clock may differ from the database's. A
// position is a time of the API's clock; an event is marked as handled with a time
// of the database's.
const maxClockSkew = time.Hour

// exec reports whether a statement changed a row.
func (d *Deduplicator) exec(ctx context.Context, statement string, args ...any) (bool, error) {
	result, err := d.db.ExecContext(ctx, statement, args...)
	if err != nil {
		return false, err
	}
	n, err := result.RowsAffected()
	return n > 0, err
}

func (d *Deduplicator) read(
	ctx context.Context, db *sql.DB, id ricloud.ID,
) (owner string, done bool, err error) {
	err = db.QueryRowContext(ctx, d.look, key(id)).Scan(&owner, &done)
	return owner, done, err
}

// retry repeats f a few times: a deadlock, a serialization failure or a broken
// connection is temporary. Every f can be repeated.
func (d *Deduplicator) retry(ctx context.Context, f func() error) (err error) {
	if d.db == nil {
		return errors.New("dedupesql: the Deduplicator is zero: make one with New")
	}
	for i := 1; ; i++ {
		if err = f(); err == nil || ctx.Err() != nil {
			return err
		}
		// The drivers of SQLite share no error value, only SQLite's text.
		isLocked := d.dialect == SQLite && strings.Contains(err.Error(), "is locked")
		if i >= triesLocked || i >= tries && !isLocked {
			return err
		}
		pause := min(tryPause<<i, maxTryPause)
		//nolint:gosec // spreads load, guards nothing
		timer := time.NewTimer(pause/2 + mathrand.N(pause/2))
		select {
		case <-ctx.Done():
			timer.Stop()
			return err
		case <-timer.C:
		}
	}
}

const longestKey = 200 // bytes

// key returns an event's ID as the table holds it: the ID itself, or its SHA-256
// if a database might change or truncate the ID.
func key(id ricloud.ID) string {
	plain := len(id) <= longestKey && !strings.HasPrefix(string(id), "sha256:")
	for i := 0; plain && i < len(id); i++ {
		plain = id[i] > ' ' && id[i] <= '~'
	}
	if plain {
		return string(id)
	}
	sum := sha256.Sum256([]byte(id))
	return "sha256:" + hex.EncodeToString(sum[:])
}
