// Package ingest brings many accounts from a login to acknowledged results, in
// any number of processes that share one quota. It keeps its state in NATS
// JetStream: inside the process by default, in a cluster by one setting.
//
//	engine, err := ingest.Open(ctx, ingest.Config{Dir: "state"})
//	client, err := ricloud.NewClient(token, ricloud.WithPacer(engine.Pacer()))
//	handler, err := engine.WebhookHandler(ricloud.WithWebhookSecrets(secret))
//	mux.Handle("/webhooks/", handler)
//
//	err = engine.Submit(ctx, ingest.Account{
//		Key:    "customer-42",
//		Source: ricloud.SourceParams{Type: ricloud.SourceICloudAccount, Identifier: "jane@example.com"},
//		Poll:   ricloud.PollPayload{DataTypes: []string{"callkit.calls"}},
//	})
//	err = engine.Code(ctx, "customer-42", code) // when it is CodeNeeded
//	err = engine.Run(ctx, client, ingest.Handlers{
//		Secret: vault.Password,
//		Result: func(ctx context.Context, r *ingest.Result) error { … },
//	})
//
// One process at a time leads: it logs in, polls, reads lists and acknowledges
// for all. Every process handles results. When one dies, others go on within
// seconds. However a process dies, the engine logs in to an account only once.
// Before it repeats a step, it looks for what the step may have created. If it
// cannot find out, the account becomes a dead letter, and a person decides.
//
// docs/ingest.md has the picture, the guarantees and the limits.
package ingest
