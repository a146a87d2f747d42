package main

import (
	"context"
	"database/sql"
	"errors"
	"time"

	ricloud "github.com/reincubate/ricloud-go"
)

// schema is what ricloud.Deduplicator documents.
const schema = `CREATE TABLE IF NOT EXISTS ricloud_events (
	id          VARCHAR(64) PRIMARY KEY,
	done        BOOLEAN NOT NULL,
	lease_until BIGINT  NOT NULL -- unix milliseconds
)`

// deduplicator is a ricloud.Deduplicator in a table that processes share. Its
// SQL is understood by SQLite and PostgreSQL; PostgreSQL writes $1 for ?.
type deduplicator struct {
	db    *sql.DB
	lease time.Duration // longer than an event may take: then who has it is dead
}

var _ ricloud.Deduplicator = deduplicator{}

// Begin takes an event that nobody has.
func (d deduplicator) Begin(ctx context.Context, id ricloud.ID) error {
	now := time.Now()
	res, err := d.db.ExecContext(ctx, `INSERT INTO ricloud_events (id, done, lease_until) VALUES (?, FALSE, ?)
		ON CONFLICT (id) DO UPDATE SET lease_until = excluded.lease_until
		WHERE NOT ricloud_events.done AND ricloud_events.lease_until <= ?`,
		string(id), now.Add(d.lease).UnixMilli(), now.UnixMilli())
	if err != nil {
		return err
	}
	if taken, err := res.RowsAffected(); err != nil || taken == 1 {
		return err
	}
	var done bool
	err = d.db.QueryRowContext(ctx, `SELECT done FROM ricloud_events WHERE id = ?`, string(id)).Scan(&done)
	switch {
	case done:
		return ricloud.ErrEventDone
	case err == nil, errors.Is(err, sql.ErrNoRows): // given back this moment
		return ricloud.ErrEventInProgress
	}
	return err
}

// Done records that an event was handled.
func (d deduplicator) Done(ctx context.Context, id ricloud.ID) error {
	_, err := d.db.ExecContext(ctx, `UPDATE ricloud_events SET done = TRUE WHERE id = ?`, string(id))
	return err
}

// Failed gives an event back.
func (d deduplicator) Failed(ctx context.Context, id ricloud.ID) error {
	_, err := d.db.ExecContext(ctx, `DELETE FROM ricloud_events WHERE id = ? AND NOT done`, string(id))
	return err
}

// forget deletes what no delivery and no replay will bring again.
func (d deduplicator) forget(ctx context.Context, age time.Duration) error {
	_, err := d.db.ExecContext(ctx, `DELETE FROM ricloud_events WHERE done AND lease_until < ?`, time.Now().Add(-age).UnixMilli())
	return err
}
