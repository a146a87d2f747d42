package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/rogpeppe/go-internal/testscript"
	"github.com/stretchr/testify/assert"

	ricloud "github.com/reincubate/ricloud-go"
	"github.com/reincubate/ricloud-go/cmd/ricloud/internal/cli"
	"github.com/reincubate/ricloud-go/ricloudtest"
)

// token is the API key's token. Neither it nor the secrets below may appear in any output.
const token = "canary-token-6f1d"

// noSleepAtExit stops the race detector from sleeping for a second when a program exits.
const noSleepAtExit = "GORACE=atexit_sleep_ms=0"

func secrets() []string {
	return []string{
		token, "canary-password", "canary-code", "canary-secret", "canary-bucket-key", "hunter2",
		"whsec_", "PAIR-1234",
	}
}

func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){"ricloud": recorded})
}

// recorded runs the program and copies its output to a log, which is searched for secrets later.
func recorded() {
	path := os.Getenv("CANARY_LOG")
	//nolint:gosec // TestCommands names the file
	log, err := os.OpenFile(path, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
	if path == "" || err != nil {
		main()
		return
	}
	var copying sync.WaitGroup
	var ends []*os.File
	for _, stream := range []**os.File{&os.Stdout, &os.Stderr} {
		if stat, err := (*stream).Stat(); err == nil && stat.Mode()&os.ModeCharDevice != 0 {
			continue // a pipe in its place would not be a terminal
		}
		r, w, err := os.Pipe()
		if err != nil {
			continue
		}
		to := *stream
		*stream = w
		ends = append(ends, w)
		copying.Go(func() { _, _ = io.Copy(io.MultiWriter(to, log), r) })
	}
	code := cli.Main(os.Args[1:])
	for _, w := range ends {
		_ = w.Close()
	}
	copying.Wait()
	os.Exit(code)
}

// TestCommands runs each script of testdata/script against its own sandbox. It searches everything
// that the commands print, and every file that they write, for secrets.
func TestCommands(t *testing.T) {
	t.Parallel()
	testscript.Run(t, testscript.Params{
		Dir:                 "testdata/script",
		RequireExplicitExec: true,
		RequireUniqueNames:  true,
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"exits": exits, "fault": fault, "keep": keep, "nats": cluster, "private": private,
		},
		Setup: func(env *testscript.Env) error {
			server := ricloudtest.NewServer(ricloudtest.WithToken(token), ricloudtest.WithSpeed(100),
				ricloudtest.WithAccounts(append(ricloudtest.DefaultAccounts(), ricloudtest.Account{
					Identifier: "canary@example.com", Password: "canary-password", Code: "canary-code",
				})...))
			env.Defer(server.Close)
			env.Values[serverKey{}] = server
			log := filepath.Join(env.WorkDir, ".canary.log")
			env.Vars = append(env.Vars,
				"RICLOUD_URL="+server.URL(), "RICLOUD_TOKEN="+token, "XDG_CONFIG_HOME="+env.WorkDir+"/config",
				"XDG_CACHE_HOME="+env.WorkDir+"/cache", "HOME="+env.WorkDir+"/home", "CANARY_LOG="+log,
				"DBUS_SESSION_BUS_ADDRESS=unix:path=/nonexistent", "RECEIVER="+receiver(env),
				"PUBLIC="+freeAddress(env), noSleepAtExit)
			t := env.T().(interface{ Name() string }) //nolint:forcetypeassert // a *testing.T behind it
			given, err := filesBelow(env.WorkDir)
			if err != nil {
				return err
			}
			env.Defer(func() { checkFiles(t.Name(), env.WorkDir, given) })
			env.Defer(func() { checkLog(t.Name(), log) })
			return os.MkdirAll(filepath.Join(env.WorkDir, "home"), 0o700)
		},
	})
	t.Cleanup(func() { assert.Empty(t, leaks.all()) }) // after the last script
}

type serverKey struct{}

// exits runs a program and checks its exit code. Usage: exits CODE PROGRAM [ARGUMENTS].
func exits(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: exits CODE PROGRAM [ARGUMENTS]")
	}
	code := 0
	if err := ts.Exec(args[1], args[2:]...); err != nil {
		exit, ok := errors.AsType[*exec.ExitError](err)
		if !ok {
			ts.Fatalf("%v", err)
		}
		code = exit.ExitCode()
	}
	if strconv.Itoa(code) != args[0] {
		ts.Fatalf("exit code %d instead of %s; it printed:\n%s%s", code, args[0],
			ts.ReadFile("stdout"), ts.ReadFile("stderr"))
	}
}

// fault sets what goes wrong in the script's sandbox, as the JSON of a ricloudtest.Fault. Without
// one, nothing does.
func fault(ts *testscript.TestScript, _ bool, args []string) {
	server, _ := ts.Value(serverKey{}).(*ricloudtest.Server)
	if len(args) == 0 {
		ts.Check(server.SetFaults())
		return
	}
	var f ricloudtest.Fault
	ts.Check(json.Unmarshal([]byte(strings.Join(args, " ")), &f))
	ts.Check(server.SetFaults(f))
}

// keep stores the output of the last command in a variable. Usage: keep NAME.
func keep(ts *testscript.TestScript, _ bool, args []string) {
	ts.Setenv(args[0], strings.TrimSpace(ts.ReadFile("stdout")))
}

// cluster starts a NATS server for the script, and sets $NATS to its URL.
func cluster(ts *testscript.TestScript, _ bool, _ []string) {
	nats, err := server.NewServer(&server.Options{
		Host: "127.0.0.1", Port: -1, JetStream: true, StoreDir: ts.MkAbs("nats"),
		NoLog: true, NoSigs: true,
	})
	ts.Check(err)
	nats.Start()
	ts.Defer(func() {
		nats.Shutdown()
		nats.WaitForShutdown()
	})
	ts.Setenv("NATS", nats.ClientURL())
}

// private checks that only their owner can read the files.
func private(ts *testscript.TestScript, _ bool, args []string) {
	for _, name := range args {
		info, err := os.Stat(ts.MkAbs(name))
		ts.Check(err)
		if info.Mode().Perm() != 0o600 {
			ts.Fatalf("%s has mode %o, not 600", name, info.Mode().Perm())
		}
	}
}

// freeAddress returns a local address on which nothing listens.
func freeAddress(env *testscript.Env) string {
	listener, err := new(net.ListenConfig).Listen(context.Background(), "tcp", "127.0.0.1:0")
	if err != nil {
		env.T().Fatal(err)
	}
	defer listener.Close() //nolint:errcheck // it served its purpose
	return listener.Addr().String()
}

// receiver returns the URL of an event receiver. Its answer says whether an event was signed with
// canary-secret.
func receiver(env *testscript.Env) string {
	signed := ricloud.WebhookVerifier{Secrets: []ricloud.Secret{ricloud.NewSecret("canary-secret")}}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, 1<<20)) //nolint:forbidigo // bounded
		event, parseErr := ricloud.ParseEvent(body)
		if err != nil || parseErr != nil {
			http.Error(w, "no event", http.StatusBadRequest)
			return
		}
		verb := "saw"
		if signed.Verify(r.Header.Get(ricloud.SignatureHeader), body) == nil {
			verb = "taken"
		}
		_, _ = io.WriteString(w, verb+" "+event.Name())
	}))
	env.Defer(server.Close)
	return server.URL
}

// leaks collects what checkLog finds in the log of each script, after the script has ended.
var leaks found //nolint:gochecknoglobals // the scripts run in parallel and share nothing else

type found struct {
	mu    sync.Mutex
	lines []string
}

func (f *found) add(line string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.lines = append(f.lines, line)
}

func (f *found) all() []string {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.lines
}

// keepsSecrets lists the files that are meant to hold secrets: the settings on a machine without a
// keyring, the targets of --secret-file, and the sandbox's state, which includes its accounts.
func keepsSecrets() []string {
	return []string{
		"settings.json", "webhook-secret", "sandbox.json",
		"key.txt", "former.txt", "first.txt", "hook.txt",
	}
}

func filesBelow(dir string) (files []string, err error) {
	err = filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err == nil && d.Type().IsRegular() {
			files = append(files, path)
		}
		return err
	})
	return files, err
}

// checkFiles searches the files that the script's commands wrote. Only the files of keepsSecrets
// may hold a secret, and only if nobody but their owner can read them.
func checkFiles(script, dir string, given []string) {
	written, err := filesBelow(dir)
	if err != nil {
		leaks.add(script + ": " + err.Error())
	}
	for _, path := range written {
		if slices.Contains(given, path) {
			continue
		}
		raw, err := os.ReadFile(path)
		if err != nil {
			leaks.add(script + ": " + err.Error())
			continue
		}
		for _, secret := range secrets() {
			if !bytes.Contains(raw, []byte(secret)) {
				continue
			}
			name, mode := filepath.Base(path), fs.FileMode(0)
			if info, err := os.Stat(path); err == nil {
				mode = info.Mode().Perm()
			}
			if !slices.Contains(keepsSecrets(), name) || mode != 0o600 {
				leaks.add(fmt.Sprintf("%s wrote a secret to %s (%o)", script, path, mode))
			}
		}
	}
}

func checkLog(script, path string) {
	raw, err := os.ReadFile(path)
	if err != nil {
		return // the script printed nothing
	}
	for _, secret := range secrets() {
		if before, after, printed := bytes.Cut(raw, []byte(secret)); printed {
			begin := before[bytes.LastIndexByte(before, '\n')+1:]
			end, _, _ := bytes.Cut(after, []byte("\n"))
			leaks.add(script + " printed a secret: " + string(begin) + secret + string(end))
		}
	}
}
