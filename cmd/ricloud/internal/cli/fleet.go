package cli

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	ricloud "github.com/reincubate/ricloud-go"
	"github.com/reincubate/ricloud-go/ingest"
)

// fleetState says where the state of a fleet is.
type fleetState struct {
	dir, cluster string
	replicas     int
	readEvery    time.Duration
	given        *pflag.FlagSet
}

func (f *fleetState) flags(cmd *cobra.Command) {
	f.given = cmd.PersistentFlags()
	cmd.PersistentFlags().StringVar(&f.dir, "state", "ricloud-fleet",
		"the `folder` of the state; one process at a time may use it")
	cmd.PersistentFlags().StringVar(&f.cluster, "cluster", "",
		"the `URL` of a NATS cluster for the state, instead of a folder: nats://a,nats://b,nats://c")
	cmd.PersistentFlags().IntVar(&f.replicas, "replicas", 3,
		"how many `servers` of the cluster hold the state")
}

func (f *fleetState) open(ctx context.Context, a *app) (*ingest.Engine, error) {
	cfg := ingest.Config{Dir: f.dir}
	if f.cluster != "" {
		cfg = ingest.Config{URL: f.cluster, Replicas: f.replicas}
	}
	cfg.ReadEvery = f.readEvery
	if a.quota > 0 {
		cfg.Requests = a.quota
	}
	engine, err := ingest.Open(ctx, cfg)
	if err != nil {
		return nil, err
	}
	a.closers = append(a.closers, func() { _ = engine.Close() })
	return engine, nil
}

// openMade opens the state of a fleet that fleet run has made. A folder without one is a mistyped
// name: a new fleet in it would look like one that has no failures.
func (f *fleetState) openMade(ctx context.Context, a *app) (*ingest.Engine, error) {
	if f.cluster == "" {
		streams := filepath.Join(f.dir, "jetstream") // NATS keeps them there
		if _, err := os.Stat(streams); errors.Is(err, fs.ErrNotExist) {
			return nil, &advised{
				fmt.Errorf("the state of a fleet in the folder %q: %w", f.dir, ricloud.ErrNotFound),
				"name the folder of an earlier ricloud fleet run with --state",
			}
		}
	}
	return f.open(ctx, a)
}

// command returns a command line that reaches the same fleet.
func (f *fleetState) command(a *app, words ...string) string {
	f.given.VisitAll(func(flag *pflag.Flag) {
		if flag.Changed {
			words = append(words, flagWords(flag)...)
		}
	})
	return a.command(append([]string{"fleet"}, words...)...)
}

// named adds to an error about an account that is not there how to see those that are.
func (f *fleetState) named(a *app, err error) error {
	if errors.Is(err, ricloud.ErrNotFound) {
		return &advised{err, "see its accounts: " + f.command(a, "status")}
	}
	return err
}

func (a *app) fleetCommand() *cobra.Command {
	var state fleetState
	cmd := &cobra.Command{
		Use: "fleet", Short: "Fetch the data of many accounts, in as many processes as you like",
		Args: cobra.NoArgs,
		Long: `Fetch the data of many accounts within the quota. The state is on disk: after
Ctrl-C or a crash the same command goes on, and logs in to no account twice. With
--cluster any number of processes, on any number of machines, share the work.`,
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	state.flags(cmd)
	cmd.AddCommand(a.fleetRunCommand(&state), a.fleetStatusCommand(&state), a.fleetCodeCommand(&state),
		a.fleetRetryCommand(&state), a.fleetDeadCommand(&state))
	return cmd
}

func fleetAccounts() *resource {
	return &resource{columns: []column{
		field("id").cuttable(), field("state"), when("since", "since"), field("session").spared(2),
		field("poll").spared(1), field("reason").cuttable(),
	}}
}

// reason returns why an account is where it is, without the name of the library in it.
func reason(note string) string {
	return oneLine(strings.ReplaceAll(note, ": ricloud: ", ": "))
}

func (a *app) printAccounts(
	ctx context.Context, engine *ingest.Engine, states ...ingest.State,
) error {
	a.printer.list()
	for status, err := range engine.Accounts(ctx, states...) {
		if err != nil {
			return err
		}
		item := map[string]any{
			"id": status.Account.Key, "state": status.State, "since": status.Since,
			"session": status.Session,
			"poll":    status.Poll, "reason": reason(status.Reason), "history": status.History,
		}
		if err := a.printItem(fleetAccounts(), item); err != nil {
			return err
		}
	}
	return nil
}

func (a *app) fleetStatusCommand(state *fleetState) *cobra.Command {
	var states []string
	cmd := &cobra.Command{
		Use: "status", Short: "Show every account and how far it is", Args: cobra.NoArgs,
		Example: "  ricloud fleet status\n  ricloud fleet status --in code-needed --jq .id",
	}
	known := texts(ingest.Submitted, ingest.LoggingIn, ingest.Connecting, ingest.CodeNeeded,
		ingest.Connected, ingest.Requesting, ingest.Polling, ingest.Subscribed, ingest.Handling,
		ingest.Done, ingest.Dead)
	cmd.Flags().StringSliceVar(&states, "in", nil, "only accounts in these `states`: "+listOf(known))
	_ = cmd.RegisterFlagCompletionFunc("in", fixed(known...))
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		for _, state := range states {
			if err := oneOf(state, known); err != nil {
				return usageError(cmd, fmt.Errorf("--in %q: %w", state, err))
			}
		}
		engine, err := state.openMade(cmd.Context(), a)
		if err != nil {
			return err
		}
		wanted := make([]ingest.State, len(states))
		for i, s := range states {
			wanted[i] = ingest.State(s)
		}
		return a.printAccounts(cmd.Context(), engine, wanted...)
	}
	return cmd
}

func (a *app) fleetDeadCommand(state *fleetState) *cobra.Command {
	return &cobra.Command{
		Use: "dead", Short: "Show the accounts that failed, and why", Args: cobra.NoArgs,
		Example: "  ricloud fleet dead\n  ricloud fleet dead --jq '.id + \": \" + .reason'",
		RunE: func(cmd *cobra.Command, _ []string) error {
			engine, err := state.openMade(cmd.Context(), a)
			if err != nil {
				return err
			}
			return a.printAccounts(cmd.Context(), engine, ingest.Dead)
		},
	}
}

func (a *app) fleetCodeCommand(state *fleetState) *cobra.Command {
	var from string
	cmd := &cobra.Command{
		Use: "code ACCOUNT", Short: "Give the two-factor code that an account asks for",
		Args: cobra.ExactArgs(1),
		Long: `Give the two-factor code that an account of a cluster's fleet asks for, while
the fleet runs elsewhere. A code is never stored: it travels to the process that logs in.
A fleet on a folder is one process, which asks for codes itself, or runs --code-command.`,
		Example: "  ricloud fleet code jane@example.com --cluster nats://a,nats://b,nats://c",
	}
	cmd.Flags().StringVar(&from, "code", "prompt", "read the code "+secretHelp)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if state.cluster == "" {
			return usageError(cmd,
				errors.New("--cluster is needed: a fleet on a folder asks for its codes itself"))
		}
		engine, err := state.open(cmd.Context(), a)
		if err != nil {
			return err
		}
		status, err := engine.Account(cmd.Context(), args[0])
		if err != nil {
			return state.named(a, err)
		}
		if status.State != ingest.CodeNeeded {
			return fmt.Errorf("%s asks for no code: it is %s", args[0], status.State)
		}
		code, err := a.secret(cmd.Context(), from, "code")
		if err != nil {
			return err
		}
		if err := engine.Code(cmd.Context(), args[0], code); err != nil {
			return err
		}
		return a.print(nil, map[string]any{"id": args[0], "given": true})
	}
	return cmd
}

func (a *app) fleetRetryCommand(state *fleetState) *cobra.Command {
	return &cobra.Command{
		Use: "retry ACCOUNT...", Short: "Try accounts again that failed", Args: cobra.MinimumNArgs(1),
		Example: "  ricloud fleet retry jane@example.com --yes",
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := a.confirm(cmd.Context(),
				"This may log in again, which can prompt the account's owner. Go on?"); err != nil {
				return err
			}
			engine, err := state.openMade(cmd.Context(), a)
			if err != nil {
				return err
			}
			for _, key := range args {
				if err := engine.Retry(cmd.Context(), key); err != nil {
					return state.named(a, err)
				}
			}
			return a.print(nil, map[string]any{"retried": len(args)})
		},
	}
}
