// Package cli holds the commands of the ricloud program.
package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"slices"
	"strings"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	ricloud "github.com/reincubate/ricloud-go"
)

// app is one run of the program: its streams, its global flags, and what it found out so far.
type app struct {
	in   *os.File
	out  io.Writer
	errs io.Writer

	output      string
	jq          string
	profile     string
	url         string
	sandbox     bool
	timeout     time.Duration
	noWait      bool
	yes         bool
	dryRun      bool
	verbose     bool
	quota       int
	showSecrets bool
	localFiles  string // the folder that a self-hosted API publishes to

	operation string   // the command that runs, for messages
	resume    string   // the command that continues this one after an interruption
	loginLine string   // the command that logs in again; "": not known
	look      string   // the command that shows whether an interrupted request was applied
	halfway   bool     // resume continues after a failure, too
	reaches   string   // the API's base URL
	closers   []func() // run at the end, last first
	printer   *printer
	busy      atomic.Int32 // how many kinds of progress are shown
	slow      atomic.Bool  // that the API is slow was said
}

// Main runs the program with its arguments and returns its exit code.
func Main(args []string) int {
	ctx, stop := interruptible()
	defer stop()
	a := &app{in: os.Stdin, out: os.Stdout, errs: os.Stderr}
	defer a.close()
	root := a.rootCommand()
	root.SetArgs(args)
	cmd, err := root.ExecuteContextC(ctx)
	if isUsage(err) {
		err = usageError(cmd, explain(cmd, err))
	}
	if flushErr := a.flush(); err == nil {
		err = flushErr
	}
	return a.report(ctx, err)
}

// errInterrupted is the cause of a context that a signal ended.
var errInterrupted = errors.New("interrupted")

// interruptible returns a context that the first Ctrl-C or SIGTERM ends. The second one ends the
// process at once, as if nothing had been caught.
func interruptible() (ctx context.Context, stop func()) {
	ctx, cancel := context.WithCancelCause(context.Background())
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, os.Interrupt, syscall.SIGTERM)
	done := make(chan struct{})
	go func() {
		select {
		case <-signals:
			signal.Stop(signals)
			cancel(errInterrupted)
		case <-done:
		}
	}()
	return ctx, func() {
		signal.Stop(signals)
		close(done)
		cancel(nil)
	}
}

func (a *app) rootCommand() *cobra.Command {
	root := &cobra.Command{
		Use:   "ricloud",
		Short: "Log in to accounts and fetch their data through the ricloud API",
		Long: `ricloud logs in to an account with its owner's consent, fetches the account's data as
verified files, and shows what the API does.

Start without an account: every command takes --sandbox. These are a first tour; the first
three print what usually comes next, and the last goes on until Ctrl-C:

  ricloud org get --sandbox
  ricloud login customer-42 jane.appleseed@example.com --sandbox
  ricloud fetch SESSION --data callkit.calls,photos.photos --files --sandbox
  ricloud listen --forward-to http://127.0.0.1:8080/webhooks --sandbox

With an account, run ricloud auth login first, and the same commands without --sandbox.
If something does not work, ricloud doctor says why.`,
		SilenceErrors: true,
		SilenceUsage:  true,
		PersistentPreRunE: func(cmd *cobra.Command, args []string) error {
			a.operation = cmd.CommandPath()
			a.resume = again(cmd, args)
			return a.prepare(cmd)
		},
	}
	flags := root.PersistentFlags()
	output := &choice{value: &a.output, words: formats()}
	output.add(root, flags, "output", "o",
		"output `format`, by default table on a terminal and ndjson elsewhere")
	flags.StringVar(&a.jq, "jq", "", "filter the output with a jq `expression`: "+
		"each row of a list, or the whole array with -o json or yaml")
	flags.StringVar(&a.profile, "profile", "", "the `name` of the saved settings to use")
	flags.StringVar(&a.url, "url", "", "the API's base `URL`")
	flags.BoolVar(&a.sandbox, "sandbox", false, "use a sandbox of the API on this machine")
	flags.DurationVar(&a.timeout, "timeout", 0, "give up after this `time`, such as 90s or 1h")
	flags.BoolVar(&a.noWait, "no-wait", false, "return as soon as the API has accepted the work")
	flags.BoolVarP(&a.yes, "yes", "y", false, "answer yes to every question")
	flags.BoolVar(&a.dryRun, "dry-run", false,
		"show the request that would change something, and do not send it")
	flags.BoolVarP(&a.verbose, "verbose", "v", false, "log every request to standard error")
	flags.IntVar(&a.quota, "quota", 10_000,
		"send at most this many `requests` an hour; 0 for no limit")
	flags.BoolVar(&a.showSecrets, "show-secrets", false, "print tokens and secrets in the clear")
	root.SetFlagErrorFunc(flagError)
	const width = 80 // of the help; cobra's own does not break the descriptions of flags
	root.SetUsageTemplate(strings.ReplaceAll(root.UsageTemplate(), ".FlagUsages",
		fmt.Sprintf(".FlagUsagesWrapped %d", width)))
	_ = root.RegisterFlagCompletionFunc("profile", a.completeProfiles)

	group := func(id, title string, commands ...*cobra.Command) {
		root.AddGroup(&cobra.Group{ID: id, Title: title})
		for _, c := range commands {
			c.GroupID = id
			root.AddCommand(c)
		}
	}
	group("journeys", "From an account to its data:",
		a.loginCommand(), a.pairCommand(), a.fetchCommand(), a.recordsCommand(), a.fleetCommand())
	group("events", "Events:",
		a.listenCommand(), a.triggerCommand())
	group("resources", "Resources of the API:", a.resourceCommands()...)
	group("settings", "Settings and help:",
		a.authCommand(), a.doctorCommand(), a.apiCommand(), a.sandboxCommand(), a.versionCommand())
	root.SetHelpCommandGroupID("settings")
	root.SetCompletionCommandGroupID("settings")
	return root
}

// prepare checks the global flags.
func (a *app) prepare(cmd *cobra.Command) error {
	printer, err := newPrinter(a)
	if err != nil {
		return usageError(cmd, err)
	}
	a.printer = printer
	if a.quota < 0 {
		return usageError(cmd, errors.New("--quota must not be negative"))
	}
	if a.timeout < 0 {
		return usageError(cmd, errors.New("--timeout must not be negative"))
	}
	if a.dryRun && slices.Contains(withoutDryRun(), cmd.CommandPath()) {
		return usageError(cmd, fmt.Errorf("--dry-run shows a request instead of sending it, and %s "+
			"changes more than one request could show", cmd.CommandPath()))
	}
	if a.timeout > 0 {
		ctx, cancel := context.WithTimeout(cmd.Context(), a.timeout)
		a.closers = append(a.closers, cancel)
		cmd.SetContext(ctx)
	}
	return nil
}

// withoutDryRun returns the commands that change this machine, or the state of a fleet.
func withoutDryRun() []string {
	return []string{
		"ricloud auth login", "ricloud auth logout", "ricloud auth switch", "ricloud sandbox reset",
		"ricloud fleet run", "ricloud fleet code", "ricloud fleet retry",
	}
}

func (a *app) flush() error {
	if a.printer == nil {
		return nil
	}
	return a.printer.flush()
}

func (a *app) close() {
	for _, end := range slices.Backward(a.closers) {
		end()
	}
}

// sayf writes to standard error.
func (a *app) sayf(format string, args ...any) {
	_, _ = fmt.Fprintf(a.errs, format, args...)
}

// terminal reports whether a person reads the stream.
func terminal(stream any) bool {
	f, ok := stream.(*os.File)
	return ok && term.IsTerminal(int(f.Fd()))
}

func (a *app) versionCommand() *cobra.Command {
	return &cobra.Command{
		Use:     "version",
		Short:   "Print the version",
		Example: "  ricloud version -o json",
		Args:    cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			return a.print(nil, map[string]any{"version": ricloud.Version, "api": ricloud.DefaultBaseURL})
		},
	}
}
