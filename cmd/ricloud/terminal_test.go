//go:build unix

package main

import (
	"bytes"
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/creack/pty"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	ricloud "github.com/reincubate/ricloud-go"
	"github.com/reincubate/ricloud-go/ricloudtest"
)

// console is the program running in a terminal.
type console struct {
	t      *testing.T
	tty    *os.File
	chunks chan []byte
	seen   []byte // everything that the terminal has shown
	at     int    // how much of it expect has read
	end    chan error
	public string // a secret that may appear
}

// newSandbox returns a sandbox with accounts whose secrets are canaries.
func newSandbox(t *testing.T) *ricloudtest.Server {
	t.Helper()
	account := ricloudtest.SampleAccount("Canary")
	account.Identifier, account.Password = "canary@example.com", "canary-password"
	account.Code = "canary-code"
	plain := ricloudtest.SampleAccount("Plain")
	plain.Identifier, plain.Password = "plain@example.com", "canary-password"
	server := ricloudtest.NewServer(ricloudtest.WithToken(token), ricloudtest.WithSpeed(100),
		ricloudtest.WithAccounts(account, plain))
	t.Cleanup(server.Close)
	return server
}

// environment returns environment variables that point to the sandbox and contain nothing of the
// user's.
func environment(t *testing.T, server *ricloudtest.Server, more ...string) []string {
	t.Helper()
	dir := t.TempDir()
	return append([]string{
		"PATH=" + os.Getenv("PATH"), "HOME=" + dir, "TERM=xterm", "RICLOUD_URL=" + server.URL(),
		"RICLOUD_TOKEN=" + token, "DBUS_SESSION_BUS_ADDRESS=unix:path=/nonexistent",
		"GOCOVERDIR=" + t.TempDir(), // without it, a program built for coverage prints a warning
		noSleepAtExit,
	}, more...)
}

// start runs a command line in dir, in a terminal of the given width.
func start(t *testing.T, env []string, dir string, columns uint16, args ...string) *console {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	t.Cleanup(cancel)
	cmd := exec.CommandContext(ctx, "ricloud", args...) //nolint:gosec // the test's own arguments
	cmd.Env, cmd.Dir = env, dir
	tty, err := pty.StartWithSize(cmd, &pty.Winsize{Rows: 40, Cols: columns})
	require.NoError(t, err)
	c := &console{t: t, tty: tty, chunks: make(chan []byte), end: make(chan error, 1)}
	go func() {
		defer close(c.chunks)
		for {
			buf := make([]byte, 4096)
			n, err := tty.Read(buf)
			if err != nil {
				c.end <- cmd.Wait()
				return
			}
			c.chunks <- buf[:n]
		}
	}()
	t.Cleanup(func() {
		cancel()
		for range c.chunks { // drain until the program has ended
		}
		_ = tty.Close()
	})
	return c
}

// expect waits until the terminal shows the text.
func (c *console) expect(text string) {
	c.t.Helper()
	for {
		if i := bytes.Index(c.seen[c.at:], []byte(text)); i >= 0 {
			c.at += i + len(text)
			return
		}
		chunk, more := <-c.chunks
		require.True(c.t, more, "the program ended without %q; the terminal showed:\n%s", text, c.seen)
		c.seen = append(c.seen, chunk...)
	}
}

// send types the text.
func (c *console) send(text string) {
	c.t.Helper()
	_, err := c.tty.WriteString(text)
	require.NoError(c.t, err)
}

// wait reads until the program ends and checks the output for secrets. It returns all output and
// the exit code.
func (c *console) wait() (output string, code int) {
	c.t.Helper()
	for chunk := range c.chunks {
		c.seen = append(c.seen, chunk...)
	}
	for _, secret := range secrets() {
		if secret != c.public {
			assert.NotContains(c.t, string(c.seen), secret)
		}
	}
	err := <-c.end
	if exit, ok := errors.AsType[*exec.ExitError](err); ok {
		return string(c.seen), exit.ExitCode()
	}
	require.NoError(c.t, err)
	return string(c.seen), 0
}

func TestTerminalLoginHidesWhatIsTypedAndAsksAgainForTheCode(t *testing.T) {
	t.Parallel()
	c := start(t, environment(t, newSandbox(t)), "", 80, "login", "customer-1", "canary@example.com")
	c.expect("Password: ")
	c.send("canary-password\n")
	c.expect("Code from the owner's device: ")
	c.send("000000\n")
	c.expect("That code was not accepted.")
	c.expect("Code from the owner's device: ")
	c.send("canary-code\n")
	output, code := c.wait()
	assert.Zero(t, code, output)
	assert.Contains(t, output, "\x1b[32mactive\x1b[0m", "a state is coloured on a terminal")
	assert.Regexp(t, `next: ricloud fetch [0-9a-f-]{36} --data `, output)
	assert.NotContains(t, output, "000000", "no code is shown, right or wrong")
}

func TestTerminalCtrlCAtAPromptRestoresTheTerminal(t *testing.T) {
	t.Parallel()
	c := start(t, environment(t, newSandbox(t)), "", 80, "login", "customer-1", "canary@example.com")
	c.expect("Password: ")
	c.send("canary-pass\x03")
	output, code := c.wait()
	assert.Equal(t, 130, code, output)
	assert.Contains(t, output, "interrupted")
	assert.Contains(t, output, "to continue: ricloud login customer-1 canary@example.com\r\n")
	assert.NotContains(t, output, "to see first", "nothing was sent that may have made a session")
}

// TestTerminalCtrlCAtAFleetsPrompt interrupts a fleet that asks for a code, and goes on with the
// printed command.
func TestTerminalCtrlCAtAFleetsPrompt(t *testing.T) {
	t.Parallel()
	env, dir := environment(t, newSandbox(t)), t.TempDir()
	accounts := filepath.Join(dir, "accounts.csv")
	require.NoError(t, os.WriteFile(accounts, []byte("canary@example.com,canary-password\n"), 0o600))
	c := start(t, env, dir, 100, "fleet", "run", "accounts.csv", "--data", "callkit.calls", "--yes",
		"--read-every", "1s")
	c.expect("Code of canary@example.com: ")
	c.send("\x03")
	output, code := c.wait()
	require.Equal(t, 130, code, output)
	command := regexp.MustCompile(`to continue: ricloud (.*?)\r`).FindStringSubmatch(output)
	require.Len(t, command, 2, output)
	c = start(t, env, dir, 100, words(command[1])...)
	c.expect("Code of canary@example.com: ")
	c.send("canary-code\n")
	output, code = c.wait()
	assert.Zero(t, code, output)
	assert.Contains(t, output, "canary@example.com: done")
}

func TestTerminalShowsWhatASlowCallWaitsFor(t *testing.T) {
	t.Parallel()
	server := newSandbox(t)
	require.NoError(t, server.SetFaults(ricloudtest.Fault{
		Operation: "Organisation.Get", Delay: 1500 * time.Millisecond,
	}))
	c := start(t, environment(t, server), "", 80, "org", "get", "-o", "id")
	c.expect("waiting for 127.0.0.1:")
	output, code := c.wait()
	assert.Zero(t, code, output)
	assert.NotContains(t, screenText(output), "waiting", "the line is gone in the end")
}

// TestTerminalCtrlCWhileACreateIsUnderWay interrupts a login whose session may have been made.
func TestTerminalCtrlCWhileACreateIsUnderWay(t *testing.T) {
	t.Parallel()
	server := newSandbox(t)
	require.NoError(t, server.SetFaults(ricloudtest.Fault{Operation: "Sessions.Create", Hang: true}))
	c := start(t, environment(t, server), "", 80, "login", "customer-1", "plain@example.com")
	c.expect("Password: ")
	c.send("canary-password\n")
	c.expect("logging in to plain@example.com")
	c.send("\x03")
	output, code := c.wait()
	assert.Equal(t, 130, code, output)
	assert.Contains(t, output, "to see first whether it was made: ricloud sessions latest\r\n"+
		"to continue: ricloud login customer-1 plain@example.com\r\n")
}

func TestTerminalSaysThatAListIsEmptyOrCut(t *testing.T) {
	t.Parallel()
	server := newSandbox(t)
	env := environment(t, server)
	output, code := start(t, env, "", 80, "subscriptions", "list").wait()
	assert.Zero(t, code, output)
	assert.Equal(t, "there are no subscriptions\n", screenText(output))
	client := server.Client()
	for _, name := range []string{"one", "two"} {
		_, err := client.Users.Create(t.Context(), ricloud.UserCreateParams{Identifier: name})
		require.NoError(t, err)
	}
	output, code = start(t, env, "", 80, "users", "list", "--limit", "1").wait()
	assert.Zero(t, code, output)
	assert.Regexp(t, `(?s)^ID +IDENTIFIER.*two.*there are more: add --all or --limit N\n$`,
		screenText(output))
}

func TestTerminalTableFitsAndObeysNoColor(t *testing.T) {
	t.Parallel()
	const columns = 40
	server := newSandbox(t)
	env := environment(t, server, "NO_COLOR=1")
	c := start(t, env, "", columns, "storage", "list")
	output, code := c.wait()
	assert.Zero(t, code, output)
	assert.NotContains(t, output, "\x1b[", "no colours")
	assert.Contains(t, output, "…", "what is too wide is cut")
	for line := range strings.Lines(output) {
		line = strings.TrimRight(line, "\r\n")
		assert.LessOrEqual(t, utf8.RuneCountInString(line), columns, "%q", line)
	}
	c = start(t, env, "", columns, "storage", "list", "-o", "json")
	output, _ = c.wait()
	assert.NotContains(t, output, "…", "data is never cut")
}

// TestTerminalFetchContinuesAfterCtrlC interrupts a download, and then runs the command that the
// program prints.
func TestTerminalFetchContinuesAfterCtrlC(t *testing.T) {
	t.Parallel()
	server := newSandbox(t)
	env, dir := environment(t, server), t.TempDir()
	c := start(t, env, dir, 100, "login", "customer-1", "plain@example.com", "-o", "id")
	c.expect("Password: ")
	c.send("canary-password\n")
	output, code := c.wait()
	require.Zero(t, code, output)
	session := regexp.MustCompile(`[0-9a-f-]{36}`).FindString(output)

	require.NoError(t, server.SetFaults(ricloudtest.Fault{
		Operation: "Storage.Get", Count: -1, Drip: 20 * time.Millisecond,
	}))
	c = start(t, env, dir, 100, "fetch", session, "--data", "callkit.calls,ios_messages.messages",
		"--dir", "my evidence")
	c.expect("Make it? [y/N] ")
	c.send("y\n")
	c.expect("callkit.calls")
	c.expect("[=")
	c.send("\x03")
	output, code = c.wait()
	require.Equal(t, 130, code, output)
	command := regexp.MustCompile(`to continue: (ricloud .*?)\r`).FindStringSubmatch(output)
	require.Len(t, command, 2, output)
	assert.NoFileExists(t, filepath.Join(dir, "my evidence", "data", "callkit.calls"),
		"a file has its name only once it is verified")

	require.NoError(t, server.SetFaults())
	polls := server.CountCalls("Polls.Create")
	c = start(t, env, dir, 100, words(command[1])[1:]...)
	output, code = c.wait()
	require.Zero(t, code, output)
	assert.Contains(t, output, "files are in my evidence, verified")
	assert.Equal(t, polls, server.CountCalls("Polls.Create"), "no second poll was made")
	c = start(t, env, dir, 100, "results", "verify", "my evidence")
	output, code = c.wait()
	assert.Zero(t, code, output)
	assert.Contains(t, output, "verified")
}

// words splits a command line like a shell, as far as the lines that the program prints require.
func words(line string) []string {
	var split []string
	for _, match := range regexp.MustCompile(`'[^']*'|\S+`).FindAllString(line, -1) {
		split = append(split, strings.Trim(match, "'"))
	}
	return split
}
