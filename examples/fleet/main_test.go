package main

import (
	"context"
	"errors"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	ricloud "github.com/reincubate/ricloud-go"
	"github.com/reincubate/ricloud-go/ingest"
	"github.com/reincubate/ricloud-go/ricloudtest"
)

// The tests run the program by starting the test binary.
func TestMain(m *testing.M) {
	if os.Getenv("FLEET_TEST_CHILD") != "" {
		main()
		os.Exit(0)
	}
	os.Exit(m.Run())
}

func TestTheSandbox(t *testing.T) {
	t.Parallel()
	require.NoError(t, start(t.Context(), settings{accounts: 100, out: t.TempDir()}))
	require.ErrorContains(t, start(t.Context(), settings{accounts: -1}), "negative")
}

// fleet runs the program with a file of accounts, against a sandbox.
type fleet struct {
	sandbox *ricloudtest.Server
	dir     string
}

func newFleet(t *testing.T, accounts int, faults ...ricloudtest.Fault) fleet {
	t.Helper()
	sandbox, passwords := newSandbox(accounts, 50)
	t.Cleanup(sandbox.Close)
	require.NoError(t, sandbox.Start())
	require.NoError(t, sandbox.SetFaults(faults...))
	var rows strings.Builder
	rows.WriteString("\ufeffE-Mail;Password\r\n")
	for identifier, password := range passwords {
		row := identifier + ";" + password.Reveal() + "\r\n"
		rows.WriteString(row + row)
	}
	f := fleet{sandbox, t.TempDir()}
	require.NoError(t,
		os.WriteFile(filepath.Join(f.dir, "accounts.csv"), []byte(rows.String()), 0o600))
	return f
}

func (f fleet) command(ctx context.Context) *exec.Cmd {
	//nolint:gosec // this test itself
	cmd := exec.CommandContext(ctx, os.Args[0], "-file", filepath.Join(f.dir, "accounts.csv"),
		"-state", filepath.Join(f.dir, "state"))
	cmd.Env = append(os.Environ(), "FLEET_TEST_CHILD=1", "RICLOUD_TOKEN="+f.sandbox.Token(),
		"RICLOUD_URL="+f.sandbox.URL())
	return cmd
}

// logins returns the number of sessions that the API has created.
func (f fleet) logins(t *testing.T) (n int) {
	t.Helper()
	for _, err := range f.sandbox.Client().Sessions.All(t.Context(), ricloud.SessionListParams{}) {
		require.NoError(t, err)
		n++
	}
	return n
}

// reached waits until the API has received n requests of an operation, "" for all.
func (f fleet) reached(operation string, n int) {
	for f.sandbox.CountCalls(operation) < n {
		<-time.NewTimer(10 * time.Millisecond).C
	}
}

// The program completes its work although it is killed several times, while logins are made whose
// answers it never sees. A second process on the same folder is refused.
func TestKilled(t *testing.T) {
	t.Parallel()
	f := newFleet(t, 6,
		ricloudtest.Fault{Operation: "Sessions.Create", Count: 5, After: true, Hang: true})
	for n := range 6 {
		before := f.sandbox.CountCalls("")
		running := f.command(t.Context())
		require.NoError(t, running.Start())
		if n < 3 {
			f.reached("Sessions.Create", 2*n+1)
		} else {
			f.reached("", before+n)
		}
		if n == 0 {
			out, err := f.command(t.Context()).CombinedOutput()
			require.Error(t, err)
			assert.Contains(t, string(out), "another process uses the folder")
		}
		require.NoError(t, running.Process.Kill())
		_ = running.Wait()
	}
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
	defer cancel()
	out, err := f.command(ctx).CombinedOutput()
	require.NoError(t, err, string(out))
	assert.Contains(t, string(out), "6 done")
	assert.Equal(t, 6, f.logins(t))
}

// slowQuota runs the fleet in virtual time with a quota, and with requests that pass through
// network.
func slowQuota(
	t *testing.T, accounts, requests int, network func(http.RoundTripper) http.RoundTripper,
) (done int, logins map[string]int) {
	t.Helper()
	server, passwords := newSandbox(accounts, 1)
	defer server.Close()
	engine, err := ingest.Open(t.Context(), ingest.Config{Memory: true, Requests: requests})
	require.NoError(t, err)
	client, err := ricloud.NewClient(server.Token(), ricloud.WithPacer(engine.Pacer()),
		ricloud.WithTransport(network(server)))
	require.NoError(t, err)
	require.NoError(t, run(t.Context(), engine, client, passwords, ""))
	stats, err := engine.Stats(t.Context())
	require.NoError(t, err)
	require.NoError(t, engine.Close())
	assert.Zero(t, stats.Accounts[ingest.Dead], "no account is written off")
	logins = map[string]int{}
	for session, err := range server.Client().Sessions.All(t.Context(), ricloud.SessionListParams{}) {
		require.NoError(t, err)
		logins[session.Source.Identifier]++
	}
	return stats.Accounts[ingest.Done], logins
}

// With a quota so small that a request waits for its turn for longer than a call may take, no
// account fails with the client's default limits.
func TestAQuotaThatIsSlow(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		began := time.Now()
		plain := func(next http.RoundTripper) http.RoundTripper { return next }
		done, logins := slowQuota(t, 30, 200, plain)
		assert.Equal(t, 29, done, "the other asks for a code")
		assert.Len(t, logins, 30)
		assert.Greater(t, time.Since(began), 20*time.Minute)
	})
}

type roundTripper func(*http.Request) (*http.Response, error)

func (f roundTripper) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

// For two minutes every answer is 503, and every tenth answer is lost. No account fails, and none
// is logged in to twice.
func TestAnOutageAndLostAnswers(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		began, n := time.Now(), 0
		var mu sync.Mutex
		done, logins := slowQuota(t, 40, 10_000, func(api http.RoundTripper) http.RoundTripper {
			return roundTripper(func(r *http.Request) (*http.Response, error) {
				if after := time.Since(began); after > 5*time.Second && after < 125*time.Second {
					return &http.Response{
						StatusCode: http.StatusServiceUnavailable, Header: http.Header{}, Body: http.NoBody,
						Request: r,
					}, nil
				}
				resp, err := api.RoundTrip(r)
				mu.Lock()
				defer mu.Unlock()
				if n++; err == nil && n%10 == 0 {
					_ = resp.Body.Close()
					return nil, errors.New("connection reset by peer")
				}
				return resp, err
			})
		})
		assert.Equal(t, 39, done, "the other asks for a code")
		assert.Len(t, logins, 40)
		for identifier, n := range logins {
			assert.Equal(t, 1, n, identifier)
		}
	})
}

// The program ends within ten seconds of Ctrl-C and starts no more logins, although requests hang.
// A second Ctrl-C ends it at once.
func TestCtrlC(t *testing.T) {
	t.Parallel()
	start := func(t *testing.T) (f fleet, cmd *exec.Cmd, logins int) {
		t.Helper()
		f = newFleet(t, 30, ricloudtest.Fault{Operation: "Polls.Create", Count: -1, Hang: true})
		cmd = f.command(t.Context())
		require.NoError(t, cmd.Start())
		f.reached("Polls.Create", 1)
		return f, cmd, f.logins(t)
	}
	t.Run("once", func(t *testing.T) {
		t.Parallel()
		f, cmd, before := start(t)
		began := time.Now()
		require.NoError(t, cmd.Process.Signal(syscall.SIGINT))
		require.Error(t, cmd.Wait())
		assert.Less(t, time.Since(began), 10*time.Second)
		assert.LessOrEqual(t, f.logins(t), before+2)
	})
	t.Run("twice", func(t *testing.T) {
		t.Parallel()
		_, cmd, _ := start(t)
		ended := make(chan struct{})
		go func() {
			_ = cmd.Wait() // the signal is its error
			close(ended)
		}()
		for {
			_ = cmd.Process.Signal(syscall.SIGINT) // it may have ended
			select {
			case <-ended:
				status, ok := cmd.ProcessState.Sys().(syscall.WaitStatus)
				require.True(t, ok)
				assert.True(t, status.Signaled(), "the second signal was caught")
				return
			case <-time.NewTimer(200 * time.Millisecond).C:
			}
		}
	})
}

func TestAccountsAsPeopleWriteThem(t *testing.T) {
	t.Parallel()
	for name, text := range map[string]string{
		"plain":           "a@example.com,one\nb@example.com,two\n",
		"mark and header": "\ufeffidentifier,password\na@example.com,one\nb@example.com,two",
		"mark only":       "\ufeffa@example.com,one\nb@example.com,two\n",
		"semicolons":      "E-Mail;Passwort\r\na@example.com;one\r\nb@example.com;two\r\n",
		"tabs, more":      "a@example.com\tone\tJane\nb@example.com\ttwo\n",
		"named columns":   "E-Mail,Password,Name\na@example.com,one,Jane\nb@example.com,two\n",
		"twice, spaces":   "a@example.com,one\n A@Example.com ,one\n\nb@example.com,two\n",
		"quotes":          "\"a@example.com\",\"one\"\n\"b@example.com\",two\n",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			accounts, err := parseAccounts(strings.NewReader(text))
			require.NoError(t, err)
			require.Len(t, accounts, 2)
			assert.Equal(t, "one", accounts["a@example.com"].Reveal())
			assert.Equal(t, "two", accounts["b@example.com"].Reveal())
		})
	}
	for name, text := range map[string]string{
		"no password":           "a@example.com\n",
		"two passwords for one": "a@example.com,one\nA@example.com,two\n",
		"a comma in a password": "a@example.com,one\nb@example.com,two,2\n",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, err := parseAccounts(strings.NewReader(text))
			require.ErrorContains(t, err, "line ")
			assert.NotContains(t, err.Error(), "two")
		})
	}
}
