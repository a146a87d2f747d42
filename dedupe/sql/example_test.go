package dedupesql_test

import (
	"context"
	"database/sql"
	"fmt"
	"time"

	ricloud "github.com/reincubate/ricloud-go"
	dedupesql "github.com/reincubate/ricloud-go/dedupe/sql"
)

// An event that arrives twice takes effect only once.
func Example() {
	db, err := sql.Open("sqlite", ":memory:")
	if err != nil {
		fmt.Println(err)
		return
	}
	defer func() { _ = db.Close() }()
	db.SetMaxOpenConns(1) // each connection to :memory: opens another database
	if err := handle(context.Background(), db); err != nil {
		fmt.Println(err)
	}
	// Output: rows: 1
}

func handle(ctx context.Context, db *sql.DB) error {
	if _, err := db.ExecContext(ctx, "CREATE TABLE polls (id VARCHAR(64))"); err != nil {
		return err
	}
	dedupe, err := dedupesql.New(db, dedupesql.SQLite)
	if err != nil {
		return err
	}
	if err := dedupe.Migrate(ctx); err != nil {
		return err
	}
	fn := func(ctx context.Context, event *ricloud.Event) error {
		return dedupe.InTx(ctx, func(tx *sql.Tx) error {
			_, err := tx.ExecContext(ctx, "INSERT INTO polls (id) VALUES (?)", event.ID)
			return err
		})
	}
	handler, err := ricloud.NewWebhookHandler(fn, ricloud.WithWebhookDeduplicator(dedupe))
	if err != nil {
		return err
	}

	event, err := ricloud.ParseEvent([]byte(`{"id":"e1","type":"poll","action":"completed",` +
		`"data":{"id":"p1"}}`))
	if err != nil {
		return err
	}
	for range 2 {
		if err := handler.Handle(ctx, event); err != nil {
			return err
		}
	}
	var rows int
	if err := db.QueryRowContext(ctx, "SELECT COUNT(*) FROM polls").Scan(&rows); err != nil {
		return err
	}
	fmt.Println("rows:", rows)

	_, err = dedupe.Forget(ctx, 30*24*time.Hour) // once a day
	return err
}
