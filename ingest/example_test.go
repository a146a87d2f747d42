package ingest_test

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	ricloud "github.com/reincubate/ricloud-go"
	"github.com/reincubate/ricloud-go/ingest"
	"github.com/reincubate/ricloud-go/ricloudtest"
)

// A test of your handler needs no NATS and no API: keep the state in memory and use the sandbox.
// Inside testing/synctest it also takes no time.
func ExampleConfig_memory() {
	sandbox := ricloudtest.NewServer(ricloudtest.WithAccounts(ricloudtest.Account{
		Identifier: "jane@example.com", Password: "hunter2",
		Data: map[string]ricloudtest.Content{
			"callkit.calls": ricloudtest.Records(map[string]string{"from": "+44 20 7946 0018"}),
		},
	}))
	defer sandbox.Close()
	ctx, stop := context.WithCancel(context.Background())
	defer stop()
	engine, err := ingest.Open(ctx, ingest.Config{Memory: true, ReadEvery: 10 * time.Millisecond})
	if err != nil {
		fmt.Println(err)
		return
	}
	err = engine.Submit(ctx, ingest.Account{
		Key:    "customer-42",
		Source: ricloud.SourceParams{Type: ricloud.SourceICloudAccount, Identifier: "jane@example.com"},
		Poll:   ricloud.PollPayload{DataTypes: []string{"callkit.calls"}},
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	err = engine.Run(ctx, sandbox.Client(ricloud.WithPacer(engine.Pacer())), ingest.Handlers{
		Secret: func(context.Context, string) (ricloud.Secret, error) {
			return ricloud.NewSecret("hunter2"), nil
		},
		Result: func(ctx context.Context, r *ingest.Result) error {
			file, err := r.Open(ctx)
			if err != nil {
				return err
			}
			defer file.Close()
			for record, err := range ricloud.Records[json.RawMessage](file) {
				if err != nil {
					return err
				}
				fmt.Println(r.Account, r.Identifier, string(record))
			}
			return nil
		},
		Step: func(_ context.Context, _ string, step ingest.Step) {
			if step.State == ingest.Done {
				stop() // this test has only one account
			}
		},
	})
	fmt.Println(err, engine.Close())
	// Output:
	// customer-42 callkit.calls {"from":"+44 20 7946 0018"}
	// <nil> <nil>
}
