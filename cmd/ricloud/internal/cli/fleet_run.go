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

func (a *app) fleetRunCommand(state *fleetState) *cobra.Command {
	var dir, passwordCommand, codeCommand string
	var keep bool
	cmd := &cobra.Command{
		Use: "run [ACCOUNTS.csv] --data TYPES", Short: "Log in to accounts and save their data",
		Long: `Log in to accounts and save their data as verified files, acknowledged once
they are on disk.

The CSV file has a row per account: identifier, password. A header row is skipped. A
password with a comma, a quotation mark or a blank in front stands in quotation marks.
Without a file the accounts of an earlier run go on. Passwords are read when they are
needed and are not stored: keep the file while the fleet runs, or give a command that
prints the password of RICLOUD_ACCOUNT; the rows of the file may then be identifiers alone.

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
		accounts := map[string]ricloud.Secret{}
		read, open := payload, state.openMade
		question := "Go on with the accounts of an earlier run? Their owners may be prompted."
		if len(args) == 1 {
			var err error
			if accounts, err = readAccounts(args[0], passwordCommand == ""); err != nil {
				return err
			}
			read, open = required(cmd, payload), state.open
			question = "Log in to " + count(len(accounts), "account") + "? Their owners may be prompted."
		}
		what, err := read()
		if err != nil {
			return err
		}
		if err := a.confirm(cmd.Context(), question); err != nil {
			return err
		}
		engine, err := open(cmd.Context(), a)
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
		return a.runFleet(cmd.Context(), engine, state, dir, codeCommand, keep,
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
// byte order mark, blank lines, semicolons, tabs or repeated rows. A row that can be read in two
// ways is an error, because a login with the wrong password counts against its account: there are
// more columns than two only where a header names them, or between tabs. passwords says whether
// each row must have one.
func readAccounts(path string, passwords bool) (map[string]ricloud.Secret, error) {
	raw, err := os.ReadFile(path) //nolint:gosec // the user names the file
	if err != nil {
		return nil, err
	}
	text := strings.TrimPrefix(string(raw), "\ufeff")
	rows := csv.NewReader(strings.NewReader(text))
	rows.FieldsPerRecord, rows.TrimLeadingSpace = -1, true
	first, _, _ := strings.Cut(text, "\n")
	if i := strings.IndexAny(first, ",;\t"); i >= 0 {
		rows.Comma = rune(first[i])
	}
	columns := 2
	accounts := map[string]ricloud.Secret{}
	seen := map[string]string{} // passwords, by identifiers in lower case: they name one account
	for n := 0; ; n++ {
		row, err := rows.Read()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return nil, fmt.Errorf("cannot read %s: %w", path, err)
		}
		identifier, password := strings.TrimSpace(row[0]), ""
		if n == 0 && !strings.ContainsAny(identifier, "@+0123456789") { // a header
			columns = max(columns, len(row))
			continue
		}
		if len(row) > 1 {
			password = row[1]
		}
		known, again := seen[strings.ToLower(identifier)]
		problem := ""
		switch {
		case len(row) > columns && rows.Comma != '\t':
			problem = fmt.Sprintf("has %d fields: put a password with %q in it in quotation marks",
				len(row), rows.Comma)
		case identifier == "", passwords && password == "":
			problem = "is not an identifier and a password"
		case again && known != password:
			problem = "has another password for an account of a row before it"
		}
		if problem != "" {
			line, _ := rows.FieldPos(0)
			return nil, fmt.Errorf("cannot read %s: line %d %s", path, line, problem)
		}
		if !again {
			seen[strings.ToLower(identifier)] = password
			accounts[identifier] = ricloud.NewSecret(password)
		}
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
	ctx context.Context, engine *ingest.Engine, state *fleetState, dir, codeCommand string, keep bool,
	secret func(context.Context, string) (ricloud.Secret, error),
) error {
	a.quota = 0 // the engine paces all processes together
	client, err := a.client(ricloud.WithPacer(engine.Pacer()))
	if err != nil {
		return err
	}
	whole := ctx
	ctx, end := context.WithCancelCause(whole)
	finished := func() { end(nil) }
	codes := make(chan string, 1000)
	var asking sync.WaitGroup
	defer asking.Wait()
	defer finished()
	for status, err := range engine.Accounts(ctx, ingest.CodeNeeded) { // of an earlier run
		if err != nil {
			return err
		}
		select {
		case codes <- status.Account.Key:
		default: // as below
		}
	}
	asking.Go(func() {
		if err := a.giveCodes(ctx, engine, codeCommand, codes); err != nil {
			end(err)
		}
	})
	var mu sync.Mutex
	step := func(ctx context.Context, key string, step ingest.Step) {
		mu.Lock()
		defer mu.Unlock()
		a.sayf("%s: %s %s\n", oneLine(key), step.State, reason(step.Note))
		if step.State == ingest.CodeNeeded {
			select {
			case codes <- key:
			default: // so many at once are given with ricloud fleet code
			}
		}
		if !keep && ended(step.State) && openAccounts(ctx, engine) == 0 {
			finished()
		}
	}
	if !keep && openAccounts(ctx, engine) == 0 {
		return a.fleetSummary(ctx, engine, state)
	}
	err = engine.Run(ctx, client, ingest.Handlers{
		Secret: secret, Step: step,
		Result: func(ctx context.Context, r *ingest.Result) error {
			_, err := r.Save(ctx, filepath.Join(dir, ricloud.FileName(r.Account)))
			return err
		},
	})
	if whole.Err() != nil { // it was interrupted, or its time is over
		return context.Cause(whole)
	}
	if cause := context.Cause(ctx); errors.Is(cause, errInterrupted) { // at the prompt for a code
		return cause
	}
	if err != nil && !errors.Is(err, context.Canceled) {
		return err
	}
	return a.fleetSummary(context.WithoutCancel(ctx), engine, state)
}

// giveCodes gets the codes that accounts ask for, one at a time. It returns errInterrupted if the
// person at the prompt ends the run.
func (a *app) giveCodes(
	ctx context.Context, engine *ingest.Engine, command string, keys <-chan string,
) error {
	for {
		var key string
		select {
		case key = <-keys:
		case <-ctx.Done():
			return nil
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
		if errors.Is(err, errInterrupted) {
			return err
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

// openAccounts counts the accounts that have not ended.
func openAccounts(ctx context.Context, engine *ingest.Engine) (n int) {
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

func (a *app) fleetSummary(
	ctx context.Context, engine *ingest.Engine, state *fleetState,
) error {
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
		return fmt.Errorf("%s failed: %s says why", count(n, "account"), state.command(a, "dead"))
	}
	return nil
}
