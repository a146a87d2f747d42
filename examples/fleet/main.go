// Fleet brings many accounts from a login to acknowledged results, within the
// API's quota.
//
//	go run ./examples/fleet -accounts 1000
//
// It runs against a sandbox inside the program, in fast-forward. With
// RICLOUD_TOKEN set, it runs against the live API, or the one at RICLOUD_URL, on
// the accounts of a CSV file:
//
//	RICLOUD_TOKEN=… go run ./examples/fleet -file accounts.csv
//
// It keeps what it has done in the folder of -state. After Ctrl-C or a crash, the
// same command goes on from there, and logs in to no account a second time. For
// several processes, give ingest.Config the URL of a NATS cluster in place of Dir.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"maps"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"syscall"
	"time"

	ricloud "github.com/reincubate/ricloud-go"
	"github.com/reincubate/ricloud-go/ingest"
)

type settings struct {
	file, state, out string
	accounts         int
}

func main() {
	var s settings
	flag.IntVar(&s.accounts, "accounts", 1000, "how many `accounts` the sandbox has")
	flag.StringVar(&s.file, "file", "",
		"CSV `file` of accounts, for the live API: identifier, password")
	flag.StringVar(&s.state, "state", "fleet.state", "`folder` of what was done, for the live API")
	flag.StringVar(&s.out, "out", "",
		"`folder` to save results to; without it they are read and verified only")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	context.AfterFunc(ctx, stop) // a second Ctrl-C ends the program at once
	if err := start(ctx, s); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// start runs a fleet against the live API or a sandbox.
func start(ctx context.Context, s settings) error {
	if os.Getenv("RICLOUD_TOKEN") == "" {
		if s.accounts < 0 {
			return errors.New("-accounts must not be negative")
		}
		return sandbox(ctx, s)
	}
	passwords, err := readAccounts(s.file)
	if err != nil {
		return err
	}
	engine, err := ingest.Open(ctx, ingest.Config{Dir: s.state})
	if err != nil {
		return err
	}
	client, err := ricloud.NewClientFromEnv(ricloud.WithPacer(engine.Pacer()))
	if err == nil {
		err = run(ctx, engine, client, passwords, s.out)
	}
	return errors.Join(err, engine.Close())
}

// run submits the accounts and works until each has ended or waits for a code.
func run(
	ctx context.Context, engine *ingest.Engine, client *ricloud.Client,
	passwords map[string]ricloud.Secret, out string,
) error {
	for identifier := range passwords {
		err := engine.Submit(ctx, ingest.Account{ // does nothing for an account that is known
			Key:    identifier,
			Source: ricloud.SourceParams{Type: ricloud.SourceICloudAccount, Identifier: identifier},
			Poll: ricloud.PollPayload{DataTypes: []string{
				"callkit.calls", "ios_messages.messages",
				"whatsapp.messages",
			}},
		})
		if err != nil {
			return err
		}
	}
	working, done := context.WithCancelCause(ctx)
	defer done(nil)
	go func() { done(watch(working, engine)) }()
	err := engine.Run(working, client, ingest.Handlers{
		Logger: slog.New(slog.NewTextHandler(os.Stderr, nil)),
		Drain:  5 * time.Second, // after Ctrl-C
		Secret: func(_ context.Context, key string) (ricloud.Secret, error) {
			if password, ok := passwords[key]; ok {
				return password, nil
			}
			return ricloud.Secret{}, errors.New("the account is no longer in the file")
		},
		Result: func(ctx context.Context, r *ingest.Result) error {
			if out == "" {
				return nil // the engine reads and verifies what a handler does not
			}
			_, err := r.Save(ctx, filepath.Join(out, ricloud.FileName(r.Account)))
			return err
		},
	})
	return errors.Join(err, report(context.WithoutCancel(ctx), engine), ctx.Err())
}

// watch shows the progress, and returns once no account is on its way any more.
func watch(ctx context.Context, engine *ingest.Engine) error {
	for {
		s, err := engine.Stats(ctx)
		if err != nil {
			return err
		}
		left := 0
		for state, n := range s.Accounts {
			if state != ingest.Done && state != ingest.Dead && state != ingest.CodeNeeded {
				left += n
			}
		}
		if left == 0 {
			return nil
		}
		fmt.Fprintf(os.Stderr, "%d accounts to go, %d done, %d results open\n", left,
			s.Accounts[ingest.Done], s.Results)
		select {
		case <-time.NewTimer(2 * time.Second).C:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// report prints how many accounts are in each state, and why the failed ones failed.
func report(ctx context.Context, engine *ingest.Engine) error {
	counts := map[string]int{}
	for a, err := range engine.Accounts(ctx) {
		if err != nil {
			return err
		}
		outcome := string(a.State)
		if a.State == ingest.Dead {
			fmt.Fprintf(os.Stderr, "%s: %s\n", a.Account.Key, a.Reason)
		}
		counts[outcome]++
	}
	for _, outcome := range slices.Sorted(maps.Keys(counts)) {
		fmt.Printf("%5d %s\n", counts[outcome], outcome)
	}
	return nil
}
