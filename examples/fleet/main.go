// Fleet brings many accounts from a login to acknowledged results, within the
// API's quota: their waits share requests.
//
//	go run ./examples/fleet -accounts 1000
//
// It runs against a sandbox inside the program, in fast-forward. With
// RICLOUD_TOKEN set, it runs against the live API, on the accounts of a CSV
// file (identifier, password). It writes what it has done to a state file:
// after Ctrl-C or a crash, the same command goes on from there, and logs in to
// no account a second time.
package main

import (
	"cmp"
	"context"
	"encoding/csv"
	"errors"
	"flag"
	"fmt"
	"io"
	"maps"
	"net/http"
	"os"
	"os/signal"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"
	"text/tabwriter"
	"time"

	"github.com/vbauerster/mpb/v8"
	"github.com/vbauerster/mpb/v8/decor"

	"github.com/reincubate/ricloud-go"
	"github.com/reincubate/ricloud-go/ricloudtest"
)

const quota = 10_000 // requests an hour that the API allows an organisation

type account struct {
	identifier string
	password   ricloud.Secret
}

type settings struct {
	accounts, atOnce int
	file, state      string
}

func main() {
	var s settings
	flag.IntVar(&s.accounts, "accounts", 1000, "how many `accounts` the sandbox has")
	flag.IntVar(&s.atOnce, "at-once", 500, "how many accounts to work on at a `time`")
	flag.StringVar(&s.file, "file", "", "CSV `file` of accounts, for the live API: identifier, password")
	flag.StringVar(&s.state, "state", "", "state `file` (default fleet.state for the live API, none for the sandbox)")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := start(ctx, s); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1) //nolint:gocritic // nothing deferred matters any more
	}
}

// start runs a fleet against the live API or a sandbox.
func start(ctx context.Context, s settings) error {
	if os.Getenv("RICLOUD_TOKEN") == "" {
		sandbox, accounts := newSandbox(s.accounts)
		defer sandbox.Close()
		requests := &counter{next: sandbox}
		return run(ctx, sandbox.Client(ricloud.WithTransport(requests)), requests, accounts, s)
	}
	accounts, err := readAccounts(s.file)
	if err != nil {
		return err
	}
	requests := &counter{next: &http.Transport{ForceAttemptHTTP2: true, MaxIdleConnsPerHost: 32, IdleConnTimeout: 50 * time.Second}}
	client, err := ricloud.NewClientFromEnv(ricloud.WithTransport(requests), ricloud.WithRateLimit(quota, time.Hour))
	if err != nil {
		return err
	}
	s.state = cmp.Or(s.state, "fleet.state")
	return run(ctx, client, requests, accounts, s)
}

// newSandbox returns an API with accounts, a few of which cannot be logged in
// to, 500 times as fast as the real one.
func newSandbox(n int) (*ricloudtest.Server, []account) {
	there, accounts := make([]ricloudtest.Account, n), make([]account, n)
	for i := range n {
		accounts[i] = account{fmt.Sprintf("customer-%d@example.com", i), ricloud.NewSecret("hunter2")}
		there[i] = ricloudtest.Account{Identifier: accounts[i].identifier, Password: "hunter2", Locked: i%100 == 99}
		if i%25 == 24 {
			there[i].Code = "123456"
		}
	}
	return ricloudtest.NewServer(
		ricloudtest.WithAccounts(there...), ricloudtest.WithSpeed(500),
		ricloudtest.WithDelays(ricloudtest.Delays{
			Session: ricloudtest.Delay{Min: 3 * time.Second, Max: 40 * time.Second},
			Task:    ricloudtest.Delay{Min: 30 * time.Second, Max: 600 * time.Second},
		}),
	), accounts
}

func readAccounts(name string) ([]account, error) {
	f, err := os.Open(name) //nolint:gosec // the user names the file
	if err != nil {
		return nil, fmt.Errorf("the live API needs -file: %w", err)
	}
	defer func() { _ = f.Close() }()
	rows := csv.NewReader(f)
	rows.FieldsPerRecord = 2
	var accounts []account
	for {
		row, err := rows.Read()
		if errors.Is(err, io.EOF) {
			return accounts, nil
		}
		if err != nil {
			return nil, err
		}
		accounts = append(accounts, account{row[0], ricloud.NewSecret(row[1])})
	}
}

// counter counts requests: they are what the quota is about.
type counter struct {
	next http.RoundTripper
	n    atomic.Int64
}

func (c *counter) RoundTrip(r *http.Request) (*http.Response, error) {
	c.n.Add(1)
	return c.next.RoundTrip(r)
}

// run works on all accounts that the state file does not hold as ended.
func run(ctx context.Context, client *ricloud.Client, requests *counter, accounts []account, s settings) (err error) {
	journal, err := openJournal(s.state)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, journal.close()) }()
	// It draws on terminals only.
	screen := mpb.New(mpb.WithOutput(os.Stderr))
	bar := screen.AddBar(int64(len(accounts)), mpb.AppendDecorators(decor.Any(func(decor.Statistics) string {
		return progress(journal.outcomes(), requests.n.Load())
	})))
	work := make(chan account)
	var workers sync.WaitGroup
	for range max(s.atOnce, 1) {
		workers.Go(func() {
			for a := range work {
				r := journal.get(a.identifier)
				if r.Outcome == "" {
					r = bring(ctx, client, journal, a, r)
				}
				if r.Outcome != "" {
					bar.Increment()
				}
			}
		})
	}
	for _, a := range accounts {
		if ctx.Err() != nil {
			break
		}
		work <- a
	}
	close(work)
	workers.Wait()
	bar.Abort(false) // unless it is full
	screen.Wait()
	report(journal, requests.n.Load(), len(accounts))
	if ctx.Err() != nil {
		return errors.New("interrupted: run the same command to go on")
	}
	return nil
}

// bring does what is left to do for an account. A failure ends that account
// alone; an interrupted one goes on at the next start.
func bring(ctx context.Context, client *ricloud.Client, journal *journal, a account, r record) record {
	err := steps(ctx, client, journal, a, &r)
	switch {
	case err == nil:
		r.Outcome = done
	case ctx.Err() != nil:
		return r
	case errors.Is(err, ricloud.ErrCodeRequired):
		r.Outcome = needsCode
	default:
		r.Outcome = "failed: " + reason(err)
	}
	if err := journal.put(r); err != nil {
		r.Outcome = "failed: " + err.Error()
	}
	return r
}

func steps(ctx context.Context, client *ricloud.Client, journal *journal, a account, r *record) error {
	if r.Session == "" {
		if err := login(ctx, client, journal, a, r); err != nil {
			return err
		}
	}
	if _, err := client.Sessions.Wait(ctx, r.Session); err != nil {
		return err
	}
	if r.Poll == "" {
		poll, err := client.Polls.Create(ctx, ricloud.PollCreateParams{
			Session: r.Session, Payload: ricloud.PollPayload{DataTypes: []string{"callkit.calls", "ios_messages.messages", "whatsapp.messages"}},
		})
		if err != nil {
			return err
		}
		r.Poll = poll.ID
		if err := journal.put(*r); err != nil {
			return err
		}
	}
	var saved []ricloud.ID
	for result, err := range client.Polls.Results(ctx, r.Poll) {
		if err != nil {
			return err
		}
		saved = append(saved, result.ID) // a real service would call client.Results.Save first
	}
	return client.Results.AcknowledgeAll(ctx, saved)
}

// errMayBeLoggedIn is a login whose session is not known.
var errMayBeLoggedIn = errors.New("a login was begun and its session is not known")

// login begins a session, and writes that down before and after.
func login(ctx context.Context, client *ricloud.Client, journal *journal, a account, r *record) error {
	if r.Begun {
		return errMayBeLoggedIn // look for it with Sessions.List before another
	}
	user, err := client.Users.Create(ctx, ricloud.UserCreateParams{Identifier: a.identifier})
	if err != nil {
		return err
	}
	r.Begun = true
	if err := journal.put(*r); err != nil {
		return err
	}
	session, err := client.Sessions.Create(context.WithoutCancel(ctx), ricloud.SessionCreateParams{ // Ctrl-C must not lose its id
		Source:  ricloud.SourceParams{User: user.ID, Type: ricloud.SourceICloudAccount, Identifier: a.identifier},
		Payload: ricloud.SessionPayload{Password: a.password},
	}, ricloud.WithAwait(10*time.Second))
	if err != nil {
		return err
	}
	r.Session = session.ID
	return journal.put(*r)
}

// reason is the API's code for a failure, or else the error in full.
func reason(err error) string {
	if state, ok := errors.AsType[*ricloud.StateError](err); ok {
		return string(cmp.Or(state.Code, ricloud.ErrorCode(state.Resource+" "+state.State)))
	}
	if answer, ok := errors.AsType[*ricloud.Error](err); ok && answer.Code != "" {
		return string(answer.Code)
	}
	return err.Error()
}

func progress(outcomes map[string]int, requests int64) string {
	failed := 0
	for outcome, n := range outcomes {
		if outcome != done && outcome != needsCode && outcome != "interrupted" {
			failed += n
		}
	}
	ended := outcomes[done] + outcomes[needsCode] + failed
	return fmt.Sprintf("%d done, %d waiting for codes, %d failed, %.1f requests an account, %d of the quota left",
		outcomes[done], outcomes[needsCode], failed, float64(requests)/float64(max(ended, 1)), max(quota-requests, 0))
}

// report prints the table of outcomes.
func report(journal *journal, requests int64, accounts int) {
	w := tabwriter.NewWriter(os.Stdout, 0, 0, 2, ' ', 0)
	_, _ = fmt.Fprintln(w, "\naccounts\toutcome")
	outcomes := journal.outcomes()
	for _, outcome := range slices.Sorted(maps.Keys(outcomes)) {
		_, _ = fmt.Fprintf(w, "%d\t%s\n", outcomes[outcome], outcome)
	}
	_ = w.Flush()
	fmt.Printf("%d requests, %.2f an account\n", requests, float64(requests)/float64(max(accounts, 1)))
}
