package cli

import (
	"context"
	"encoding/csv"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/spf13/cobra"

	ricloud "github.com/reincubate/ricloud-go"
	"github.com/reincubate/ricloud-go/ingest"
)

// fleetState says where the state of a fleet is.
type fleetState struct {
	dir, cluster string
	readEvery    time.Duration
}

func (f *fleetState) flags(cmd *cobra.Command) {
	cmd.PersistentFlags().StringVar(&f.dir, "state", "ricloud-fleet",
		"the `folder` of the state; one process at a time may use it")
	cmd.PersistentFlags().StringVar(&f.cluster, "cluster", "",
		"the `URL` of a NATS cluster for the state, instead of a folder: nats://a,nats://b,nats://c")
}

func (f *fleetState) open(ctx context.Context, a *app) (*ingest.Engine, error) {
	cfg := ingest.Config{Dir: f.dir}
	if f.cluster != "" {
		cfg = ingest.Config{URL: f.cluster}
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

func (a *app) fleetRunCommand(state *fleetState) *cobra.Command {
	var dir, passwordCommand, codeCommand string
	var keep bool
	cmd := &cobra.Command{
		Use: "run [ACCOUNTS.csv] --data TYPES", Short: "Log in to accounts and save their data",
		Long: `Log in to accounts and save their data as verified files, acknowledged once
they are on disk.

The CSV file has a row per account: identifier, password. A header row is skipped. Without
a file the accounts of an earlier run go on. Passwords are read when they are needed and
are not stored: keep the file while the fleet runs, or give a command that prints the
password of RICLOUD_ACCOUNT.

The run ends when every account has ended. A code that an account asks for is asked for on
the terminal, or of --code-command; without either, the account waits for ricloud fleet
code (--cluster).`,
		Example: `  ricloud fleet run accounts.csv --data callkit.calls --dir out --yes
  ricloud fleet run --data callkit.calls --dir out \
    --password-command 'vault read $RICLOUD_ACCOUNT'`,
		Args: cobra.MaximumNArgs(1),
	}
	payload := payloadFlags(cmd)
	cmd.Flags().StringVar(&dir, "dir", "fleet", "the `folder` to save to: one folder per account")
	cmd.Flags().StringVar(&passwordCommand, "password-command", "",
		"run this `command` for each password")
	cmd.Flags().StringVar(&codeCommand, "code-command", "",
		"run this `command` for each two-factor code")
	cmd.Flags().DurationVar(&state.readEvery, "read-every", 10*time.Second,
		"how often to look for sessions and polls that have ended; rarely costs fewer requests")
	cmd.Flags().BoolVar(&keep, "keep-running", false, "do not end when every account has ended")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		what, err := payload()
		if err != nil {
			return err
		}
		accounts := map[string]ricloud.Secret{}
		if len(args) == 1 {
			if accounts, err = readAccounts(args[0]); err != nil {
				return err
			}
		}
		if err := a.confirm(cmd.Context(),
			fmt.Sprintf("Log in to %d accounts? Their owners may be prompted.", len(accounts))); err != nil {
			return err
		}
		engine, err := state.open(cmd.Context(), a)
		if err != nil {
			return err
		}
		for key := range accounts {
			err := engine.Submit(cmd.Context(), ingest.Account{
				Key: key, Source: ricloud.SourceParams{Type: ricloud.SourceICloudAccount, Identifier: key},
				Poll: what,
			})
			if err != nil {
				return err
			}
		}
		a.resume = again(cmd, args)
		return a.runFleet(cmd.Context(), engine, dir, codeCommand, keep,
			func(ctx context.Context, key string) (ricloud.Secret, error) {
				if passwordCommand != "" {
					return passwordOf(ctx, passwordCommand, key, a.errs)
				}
				if password, ok := accounts[key]; ok {
					return password, nil
				}
				return ricloud.Secret{}, fmt.Errorf("the password of %s is not in the file", key)
			})
	}
	return cmd
}

// readAccounts reads rows of an identifier and a password, as people write them: with a header, a
// byte order mark, blank lines, semicolons or repeated rows.
func readAccounts(path string) (map[string]ricloud.Secret, error) {
	raw, err := os.ReadFile(path) //nolint:gosec // the user names the file
	if err != nil {
		return nil, err
	}
	text := strings.TrimPrefix(string(raw), "\ufeff")
	rows := csv.NewReader(strings.NewReader(text))
	rows.FieldsPerRecord, rows.TrimLeadingSpace = -1, true
	if first, _, _ := strings.Cut(text, "\n"); strings.Contains(first, ";") &&
		!strings.Contains(first, ",") {
		rows.Comma = ';'
	}
	accounts := map[string]ricloud.Secret{}
	for n := 0; ; n++ {
		row, err := rows.Read()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return nil, fmt.Errorf("cannot read %s: %w", path, err)
		}
		if len(row) < 2 {
			line, _ := rows.FieldPos(0)
			return nil, fmt.Errorf("cannot read %s: line %d is not an identifier and a password", path, line)
		}
		identifier := strings.TrimSpace(row[0])
		if n == 0 && !strings.ContainsAny(identifier, "@+0123456789") { // a header
			continue
		}
		accounts[identifier] = ricloud.NewSecret(row[1])
	}
	if len(accounts) == 0 {
		return nil, fmt.Errorf("%s has no accounts", path)
	}
	return accounts, nil
}

func passwordOf(ctx context.Context, command, key string, errs io.Writer) (ricloud.Secret, error) {
	run := exec.CommandContext(ctx, "sh", "-c", command) //nolint:gosec // the user's own command
	run.Env = append(os.Environ(), "RICLOUD_ACCOUNT="+key)
	run.Stderr = errs
	out, err := run.Output()
	if err != nil {
		return ricloud.Secret{}, fmt.Errorf("the command failed for %s: %w", key, err)
	}
	return ricloud.NewSecret(strings.TrimRight(string(out), "\r\n")), nil
}

// runFleet runs the engine until every account has ended.
func (a *app) runFleet(
	ctx context.Context, engine *ingest.Engine, dir, codeCommand string, keep bool,
	secret func(context.Context, string) (ricloud.Secret, error),
) error {
	a.quota = 0 // the engine paces all processes together
	client, err := a.client(ricloud.WithPacer(engine.Pacer()))
	if err != nil {
		return err
	}
	ctx, finished := context.WithCancel(ctx)
	defer finished()
	codes := make(chan string, 1000)
	var asking sync.WaitGroup
	defer asking.Wait()
	defer finished()
	asking.Go(func() { a.giveCodes(ctx, engine, codeCommand, codes) })
	var mu sync.Mutex
	step := func(ctx context.Context, key string, step ingest.Step) {
		mu.Lock()
		defer mu.Unlock()
		a.sayf("%s: %s %s\n", oneLine(key), step.State, oneLine(step.Note))
		if step.State == ingest.CodeNeeded {
			select {
			case codes <- key:
			default: // so many at once are given with ricloud fleet code
			}
		}
		if !keep && ended(step.State) && open(ctx, engine) == 0 {
			finished()
		}
	}
	if !keep && open(ctx, engine) == 0 {
		return a.fleetSummary(ctx, engine)
	}
	err = engine.Run(ctx, client, ingest.Handlers{
		Secret: secret, Step: step,
		Result: func(ctx context.Context, r *ingest.Result) error {
			_, err := r.Save(ctx, filepath.Join(dir, ricloud.FileName(r.Account)))
			return err
		},
	})
	if cause := context.Cause(ctx); errors.Is(cause, errInterrupted) {
		return cause
	}
	if err != nil && !errors.Is(err, context.Canceled) {
		return err
	}
	return a.fleetSummary(context.WithoutCancel(ctx), engine)
}

// giveCodes gets the codes that accounts ask for, one at a time.
func (a *app) giveCodes(
	ctx context.Context, engine *ingest.Engine, command string, keys <-chan string,
) {
	for {
		var key string
		select {
		case key = <-keys:
		case <-ctx.Done():
			return
		}
		var code string
		var err error
		switch {
		case command != "":
			var printed ricloud.Secret
			printed, err = passwordOf(ctx, command, key, a.errs)
			code = printed.Reveal()
		case terminal(a.in):
			code, err = a.hidden(ctx, "Code of "+oneLine(key)+": ")
		default:
			a.sayf("%s asks for a code: run with --code-command, or on a terminal\n", oneLine(key))
			continue
		}
		if err == nil {
			err = engine.Code(ctx, key, ricloud.NewSecret(code))
		}
		if err != nil && ctx.Err() == nil {
			a.sayf("%s: the code was not given: %s\n", oneLine(key), oneLine(err.Error()))
		}
	}
}

// ended reports whether an account needs nothing more.
func ended(s ingest.State) bool { return s == ingest.Done || s == ingest.Dead }

// open counts the accounts that have not ended.
func open(ctx context.Context, engine *ingest.Engine) (n int) {
	stats, err := engine.Stats(ctx)
	if err != nil {
		return -1
	}
	for state, count := range stats.Accounts {
		if !ended(state) {
			n += count
		}
	}
	return n
}

func (a *app) fleetSummary(ctx context.Context, engine *ingest.Engine) error {
	stats, err := engine.Stats(ctx)
	if err != nil {
		return err
	}
	summary := map[string]any{}
	for state, n := range stats.Accounts {
		summary[string(state)] = n
	}
	if err := a.print(nil, summary); err != nil {
		return err
	}
	if n := stats.Accounts[ingest.Dead]; n > 0 {
		return fmt.Errorf("%d accounts failed: ricloud fleet dead says why", n)
	}
	return nil
}

func fleetAccounts() *resource {
	return &resource{columns: []column{
		field("id"), field("state"), when("since", "since"), field("session"), field("poll"),
		field("reason"),
	}}
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
			"poll":    status.Poll, "reason": status.Reason, "history": status.History,
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
	cmd.Flags().StringSliceVar(&states, "in", nil, "only accounts in these `states`")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		engine, err := state.open(cmd.Context(), a)
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
			engine, err := state.open(cmd.Context(), a)
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
			return err
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
		return a.print(nil, map[string]any{"id": args[0], "code": "given"})
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
			engine, err := state.open(cmd.Context(), a)
			if err != nil {
				return err
			}
			for _, key := range args {
				if err := engine.Retry(cmd.Context(), key); err != nil {
					return err
				}
			}
			return a.print(nil, map[string]any{"retried": len(args)})
		},
	}
}
