package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	ricloud "github.com/reincubate/ricloud-go"
	"github.com/reincubate/ricloud-go/ingest"
	"github.com/reincubate/ricloud-go/ricloudtest"
)

// speed is how much faster the sandbox is than the live API. Its signed URLs last
// for an hour divided by that, and the machine must read every file in that time.
const speed = 100

// sandbox runs a fleet against an API inside the program. It ends with the
// program, and so does the state.
func sandbox(ctx context.Context, s settings) error {
	server, passwords := newSandbox(s.accounts, speed)
	defer server.Close()
	engine, err := ingest.Open(ctx, ingest.Config{
		Memory: true, Requests: 10_000 * speed, ReadEvery: 10 * time.Second / speed,
	})
	if err != nil {
		return err
	}
	err = run(ctx, engine, server.Client(ricloud.WithPacer(engine.Pacer())), passwords, s.out)
	requests := server.CountCalls("") - server.CountCalls(ricloudtest.StorageGet)
	fmt.Printf("%d requests, %.2f an account\n", requests,
		float64(requests)/float64(max(s.accounts, 1)))
	return errors.Join(err, engine.Close())
}

// newSandbox returns an API with accounts, a few of which cannot be logged in to.
func newSandbox(n int, speed float64) (*ricloudtest.Server, map[string]ricloud.Secret) {
	accounts, passwords := make([]ricloudtest.Account, n), map[string]ricloud.Secret{}
	for i := range n {
		a := ricloudtest.Account{
			Identifier: fmt.Sprintf("customer-%d@example.com", i), Password: "hunter2", Locked: i%100 == 99,
		}
		if i%25 == 24 {
			a.Code = "123456"
		}
		accounts[i], passwords[a.Identifier] = a, ricloud.NewSecret(a.Password)
	}
	return ricloudtest.NewServer(
		ricloudtest.WithAccounts(accounts...), ricloudtest.WithSpeed(speed),
		ricloudtest.WithDelays(ricloudtest.Delays{
			Session: ricloudtest.Delay{Min: 3 * time.Second, Max: 40 * time.Second},
			Task:    ricloudtest.Delay{Min: 30 * time.Second, Max: 600 * time.Second},
		}),
	), passwords
}
