package cli

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/spf13/cobra"
	"go.yaml.in/yaml/v3"

	ricloud "github.com/reincubate/ricloud-go"
	"github.com/reincubate/ricloud-go/internal/sandboxprogram"
	"github.com/reincubate/ricloud-go/ricloudtest"
)

// sandboxSpeed makes a minute of the API's work last a few seconds.
const sandboxSpeed = 5

// sandbox is the sandbox of --sandbox. Its state is kept in a file, so that one command finds what
// another has made, even while both run: each request loads the file if another process has
// written it, and writes it if the state has changed.
type sandbox struct {
	server *ricloudtest.Server
	path   string

	mu    sync.Mutex
	state []byte // as it was written or loaded last
}

// sandboxClient returns a client of the sandbox.
func (a *app) sandboxClient(opts []ricloud.Option) (*ricloud.Client, error) {
	dir, err := os.UserCacheDir()
	if err != nil {
		return nil, err
	}
	s := &sandbox{
		server: ricloudtest.NewServer(ricloudtest.WithSpeed(sandboxSpeed)),
		path:   filepath.Join(dir, "ricloud", "sandbox.json"),
	}
	if err := os.MkdirAll(filepath.Dir(s.path), 0o700); err != nil {
		return nil, err
	}
	a.closers = append(a.closers, s.close)
	var transport http.RoundTripper = s
	if a.dryRun {
		transport = &dryRun{app: a, next: s}
	}
	return s.server.Client(append(opts, ricloud.WithTransport(transport))...), nil
}

// RoundTrip answers a request from the newest state.
func (s *sandbox) RoundTrip(r *http.Request) (*http.Response, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	unlock, err := lock(r.Context(), s.path+".lock")
	if err != nil {
		return nil, err
	}
	defer unlock()
	if err := s.load(); err != nil {
		return nil, err
	}
	resp, err := s.server.RoundTrip(r)
	if err != nil {
		return nil, err
	}
	return resp, s.save()
}

// load takes over what another process has written.
func (s *sandbox) load() error {
	raw, err := os.ReadFile(s.path)
	if errors.Is(err, os.ErrNotExist) || err == nil && bytes.Equal(raw, s.state) {
		return nil
	}
	if err != nil {
		return err
	}
	if s.server.Load(bytes.NewReader(raw)) != nil { // of another version: begin anew
		return os.Remove(s.path)
	}
	s.state = raw
	return nil
}

func (s *sandbox) save() error {
	var state bytes.Buffer
	if err := s.server.Dump(&state); err != nil {
		return err
	}
	if bytes.Equal(state.Bytes(), s.state) {
		return nil
	}
	if err := writePrivate(s.path, state.Bytes()); err != nil {
		return err
	}
	s.state = state.Bytes()
	return nil
}

// close keeps what has happened since the last request.
func (s *sandbox) close() {
	ctx, cancel := context.WithTimeout(context.Background(), staleLock)
	defer cancel()
	s.mu.Lock()
	defer s.mu.Unlock()
	if unlock, err := lock(ctx, s.path+".lock"); err == nil {
		if s.load() == nil {
			_ = s.save() // the next command begins where the last request was
		}
		unlock()
	}
	s.server.Close()
}

// staleLock is the age at which a lock's owner is taken to have died.
const staleLock = 20 * time.Second

// lock makes a folder as a lock between processes, and returns what removes it.
func lock(ctx context.Context, path string) (unlock func(), err error) {
	for {
		err := os.Mkdir(path, 0o700)
		if err == nil {
			return func() { _ = os.Remove(path) }, nil
		}
		if !errors.Is(err, os.ErrExist) {
			return nil, err
		}
		if info, err := os.Stat(path); err == nil && time.Since(info.ModTime()) > staleLock {
			_ = os.Remove(path)
			continue
		}
		if err := pause(ctx, 5*time.Millisecond); err != nil {
			return nil, err
		}
	}
}

// bannerOutput takes --output and --jq out of the arguments of the sandbox. With either, the banner
// that tells where it listens is printed as data.
func (a *app) bannerOutput(args []string) (rest []string, out io.Writer, err error) {
	for i := 0; i < len(args); i++ {
		name, value, given := strings.Cut(args[i], "=")
		flags := map[string]*string{"--jq": &a.jq, "-o": &a.output, "--output": &a.output}
		target := flags[name]
		if target == nil {
			rest = append(rest, args[i])
			continue
		}
		if !given {
			if i++; i == len(args) {
				return nil, nil, fmt.Errorf("flag needs an argument: %s", name)
			}
			value = args[i]
		}
		*target = value
	}
	if len(rest) == len(args) {
		return args, a.out, nil
	}
	if a.output != "" {
		if err := oneOf(a.output, formats()); err != nil {
			return nil, nil, fmt.Errorf("--output %s: %w", a.output, err)
		}
	}
	if a.printer, err = newPrinter(a); err != nil {
		return nil, nil, err
	}
	a.printer.reveal = true // nothing in a sandbox is secret
	return append(rest, "-banner", "json"), bannerPrinter{a}, nil
}

// yamlToJSON turns a scenario that is written in YAML into JSON.
func yamlToJSON(text []byte) ([]byte, error) {
	var value any
	if err := yaml.Unmarshal(text, &value); err != nil {
		return nil, err
	}
	return json.Marshal(value)
}

// bannerPrinter prints the banner as data.
type bannerPrinter struct{ app *app }

// Write takes the whole banner. What is no JSON, such as the version, is written as it is.
func (p bannerPrinter) Write(b []byte) (int, error) {
	if !json.Valid(b) {
		return p.app.out.Write(b)
	}
	if err := p.app.print(nil, json.RawMessage(b)); err != nil { //nolint:forbidigo // a method
		return 0, err
	}
	return len(b), p.app.flush()
}

const sandboxState = `--sandbox needs none of this. It keeps its state in the file
ricloud/sandbox.json of your cache folder: ~/.cache or $XDG_CACHE_HOME on Linux,
~/Library/Caches on macOS, %LocalAppData% on Windows.
ricloud sandbox reset begins anew.`

func (a *app) sandboxCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use: "sandbox [FLAGS]", Short: "Serve the sandbox on this machine, for programs in any language",
		Long: `Serve the sandbox on this machine, for programs in any language.
docs/sandbox.md describes it. With --output or --jq, where it listens is printed as data.

` + sandboxState,
		Example: "  ricloud sandbox -addr 127.0.0.1:8321 -speed 10\n" +
			"  ricloud sandbox -addr 127.0.0.1:0 --jq .url\n" +
			"  ricloud sandbox -help\n  ricloud sandbox reset",
		DisableFlagParsing: true, // the flags are the sandbox's own
		RunE: func(cmd *cobra.Command, args []string) error {
			args, out, err := a.bannerOutput(args)
			if err != nil {
				return usageError(cmd, err)
			}
			err = sandboxprogram.RunWithYAML(cmd.Context(), args, out, a.errs, yamlToJSON)
			if errors.Is(err, flag.ErrHelp) {
				a.sayf("\n%s\n", sandboxState)
				return nil
			}
			if errors.Is(err, sandboxprogram.ErrUsage) {
				return usageError(cmd, err)
			}
			return err
		},
	}
	cmd.AddCommand(&cobra.Command{
		Use: "reset", Short: "Make the sandbox of --sandbox new again", Args: cobra.NoArgs,
		Example: "  ricloud sandbox reset",
		RunE: func(*cobra.Command, []string) error {
			dir, err := os.UserCacheDir()
			if err != nil {
				return err
			}
			err = os.Remove(filepath.Join(dir, "ricloud", "sandbox.json"))
			if err != nil && !errors.Is(err, os.ErrNotExist) {
				return err
			}
			return a.print(nil, map[string]any{"reset": true})
		},
	})
	return cmd
}
