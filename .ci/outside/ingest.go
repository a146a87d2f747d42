package main

import (
	"context"
	"fmt"
	"log"
	"os"

	ricloud "github.com/reincubate/ricloud-go"
	"github.com/reincubate/ricloud-go/ingest"
)

func main() {
	if err := run(context.Background()); err != nil {
		log.Fatal(err)
	}
}

func run(ctx context.Context) error {
	dir, err := os.MkdirTemp("", "ingest")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	engine, err := ingest.Open(ctx, ingest.Config{Dir: dir})
	if err != nil {
		return err
	}
	defer engine.Close()
	if _, err := ricloud.NewClient("token", ricloud.WithPacer(engine.Pacer())); err != nil {
		return err
	}
	err = engine.Submit(ctx, ingest.Account{
		Key:    "customer-42",
		Source: ricloud.SourceParams{Type: ricloud.SourceICloudAccount, Identifier: "jane@example.com"},
		Poll:   ricloud.PollPayload{DataTypes: []string{"callkit.calls"}},
	})
	if err != nil {
		return err
	}
	status, err := engine.Account(ctx, "customer-42")
	if err != nil {
		return err
	}
	fmt.Println("an engine keeps customer-42:", status.State)
	return nil
}
