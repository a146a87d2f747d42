//go:build unix

package main

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/reincubate/ricloud-go/ricloudtest"
)

// TestDocsCaptures runs the commands of docs/cli.md in a terminal, in the order of the document. It
// compares the document's captures with what the terminal showed.
func TestDocsCaptures(t *testing.T) {
	t.Parallel()
	j := newJourney(t)

	c := j.start("login customer-42 jane.appleseed@example.com --sandbox")
	c.public = "hunter2" // the command's hint contains it
	c.expect("Password: ")
	c.send("hunter2\n")
	c.expect("Code from the owner's device: ")
	c.send("000000\n")
	c.expect("was not accepted.")
	c.expect("Code from the owner's device: ")
	c.send("123456\n")
	login := j.end(c, "login", 0)
	session := regexp.MustCompile(`next: ricloud fetch (\S+)`).FindStringSubmatch(login)
	require.Len(t, session, 2, login)

	fetch := "fetch " + session[1] + " --data callkit.calls,photos.photos --files --dir out --sandbox"
	c = j.start(fetch)
	c.expect("Make them? [y/N] ")
	c.send("y\n")
	j.end(c, "fetch", 0)

	c = j.start("listen --forward-to " + j.receiver + " --sandbox")
	c.expect("Listening.")
	quiet := start(t, j.env, j.dir, 120, strings.Fields("polls create "+session[1]+
		" --data callkit.calls --sandbox --yes")...)
	output, code := quiet.wait()
	require.Zero(t, code, output)
	c.expect("poll.completed")
	c.expect("OK")
	c.send("\x03")
	j.end(c, "listen", 130)

	j.end(j.start("trigger task.failed --set data.error=server-error --forward-to "+j.receiver),
		"trigger", 0)
	j.end(j.start("doctor --sandbox"), "doctor", 0)

	j.interrupt()
	j.check("../../docs/cli.md")
}

// journey is a terminal session, as a reader of docs/cli.md would have it.
type journey struct {
	t         *testing.T
	env       []string
	home, dir string
	receiver  string
	captures  map[string]string
	known     map[string]string // IDs, and the fixed IDs that replace them
	command   string            // the last command line
}

func newJourney(t *testing.T) *journey {
	t.Helper()
	receiver := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		_, _ = io.WriteString(w, "OK")
	}))
	t.Cleanup(receiver.Close)
	home := t.TempDir()
	return &journey{
		t: t, home: home, dir: t.TempDir(), receiver: receiver.URL + "/webhooks",
		captures: map[string]string{}, known: map[string]string{},
		env: []string{
			"PATH=" + os.Getenv("PATH"), "HOME=" + home, "TERM=xterm", "NO_COLOR=1",
			"DBUS_SESSION_BUS_ADDRESS=unix:path=/nonexistent", "GOCOVERDIR=" + t.TempDir(), noSleepAtExit,
		},
	}
}

// start runs a command line.
func (j *journey) start(command string) *console {
	j.t.Helper()
	j.command = command
	return start(j.t, j.env, j.dir, 120, words(command)...)
}

// end waits until the command ends, and stores the terminal's content as a capture.
func (j *journey) end(c *console, name string, want int) (output string) {
	j.t.Helper()
	output, code := c.wait()
	require.Equal(j.t, want, code, output)
	j.captures[name] = j.stable("$ ricloud " + j.command + "\n" + screenText(output))
	return output
}

// interrupt captures a fetch that is stopped with Ctrl-C during a download.
func (j *journey) interrupt() {
	server := newSandbox(j.t)
	j.env = append(j.env, "RICLOUD_URL="+server.URL(), "RICLOUD_TOKEN="+token,
		"PASSWORD=canary-password")
	quiet := start(j.t, j.env, j.dir, 120,
		words("login customer-1 plain@example.com --password env:PASSWORD -o id")...)
	output, code := quiet.wait()
	require.Zero(j.t, code, output)
	session := regexp.MustCompile(`[0-9a-f-]{36}`).FindString(output)
	require.NoError(j.t, server.SetFaults(ricloudtest.Fault{
		Operation: "Storage.Get", Count: -1, Drip: 20 * time.Millisecond,
	}))
	c := j.start("fetch " + session + " --data callkit.calls --dir evidence --yes")
	c.expect("[=")
	c.send("\x03")
	j.end(c, "interrupt", 130)
}

// stable replaces everything that differs between runs: IDs, dates, durations, ports and folders.
func (j *journey) stable(text string) string {
	text = strings.ReplaceAll(text, j.home, "~")
	text = strings.ReplaceAll(text, j.receiver, "http://127.0.0.1:8080/webhooks")
	dates := regexp.MustCompile(`\d{4}-\d\d-\d\dT[0-9:.]+Z`)
	text = dates.ReplaceAllString(text, "2026-11-26T11:30:59Z")
	text = regexp.MustCompile(`\d+s ago`).ReplaceAllString(text, "0s ago")
	duration := regexp.MustCompile(`\b(\d+ms|0s) {2,}`)
	text = duration.ReplaceAllStringFunc(text, func(s string) string {
		return fmt.Sprintf("%-*s", len(s), "3ms")
	})
	ids := regexp.MustCompile(`[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}`)
	return ids.ReplaceAllStringFunc(text, func(id string) string {
		if j.known[id] == "" {
			n := len(j.known) + 1
			j.known[id] = fmt.Sprintf("%08x-b1a5-41dd-8f83-%012x", n*0x1c83d1, n*0x2a724fa83)
		}
		return j.known[id]
	})
}

// check compares the captures with those in a document. With -update, it writes them there.
func (j *journey) check(path string) {
	j.t.Helper()
	raw, err := os.ReadFile(path)
	require.NoError(j.t, err)
	text := string(raw)
	for name, capture := range j.captures {
		begin := "<!-- capture: " + name + " -->\n```\n"
		before, rest, found := strings.Cut(text, begin)
		_, after, closed := strings.Cut(rest, "```\n")
		require.True(j.t, found && closed, "%s has no capture %s", path, name)
		text = before + begin + capture + "```\n" + after
	}
	if *update {
		//nolint:gosec // the path is a constant
		require.NoError(j.t, os.WriteFile(path, []byte(text), 0o600))
		return
	}
	assert.Equal(j.t, string(raw), text, "run: go test ./cmd/ricloud -run Docs -update")
}

// screenText returns what a terminal shows in the end. Progress bars and spinners have been
// overwritten by then.
func screenText(output string) string {
	lines, row, column := [][]rune{nil}, 0, 0
	controls := regexp.MustCompile(`^\x1b\[(\d*)([A-Za-z])`)
	for output != "" {
		if m := controls.FindStringSubmatch(output); m != nil {
			output = output[len(m[0]):]
			n, _ := strconv.Atoi(m[1])
			switch m[2] {
			case "A":
				row = max(0, row-max(1, n))
			case "K":
				lines[row] = lines[row][:min(column, len(lines[row]))]
			case "J":
				lines[row] = lines[row][:min(column, len(lines[row]))]
				lines = lines[:row+1]
			}
			continue
		}
		r := []rune(output)[0]
		output = output[len(string(r)):]
		switch r {
		case '\r':
			column = 0
		case '\n':
			row, column = row+1, 0
			if row == len(lines) {
				lines = append(lines, nil)
			}
		default:
			for len(lines[row]) <= column {
				lines[row] = append(lines[row], ' ')
			}
			lines[row][column] = r
			column++
		}
	}
	var shown strings.Builder
	for _, line := range lines {
		shown.WriteString(strings.TrimRight(string(line), " ") + "\n")
	}
	return strings.TrimRight(shown.String(), "\n") + "\n"
}
