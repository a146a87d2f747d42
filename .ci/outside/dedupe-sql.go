package main

import (
	"context"
	"database/sql"
	"fmt"
	"log"

	ricloud "github.com/reincubate/ricloud-go"
	dedupesql "github.com/reincubate/ricloud-go/dedupe/sql"
)

func main() {
	dedupe, err := dedupesql.New(new(sql.DB), dedupesql.PostgreSQL)
	if err != nil {
		log.Fatal(err)
	}
	ignore := func(context.Context, *ricloud.Event) error { return nil }
	if _, err := ricloud.NewWebhookHandler(ignore, ricloud.WithWebhookDeduplicator(dedupe)); err !=
		nil {
		log.Fatal(err)
	}
	fmt.Println("a handler remembers events in PostgreSQL")
}
