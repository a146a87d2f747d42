// Ricloud-sandbox serves the ricloud API from memory, for clients in any
// language. It prints where it listens and which accounts it has, and ends
// with Ctrl-C.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"
	"time"

	"github.com/reincubate/ricloud-go/ricloudtest"
)

const usage = `ricloud-sandbox serves the ricloud API from memory.

Accounts:
  icloud.account    john.appleseed@example.com  password hunter2, no 2FA
  icloud.account    jane.appleseed@example.com  password hunter2, 2FA code 123456
  icloud.account    locked@example.com          password hunter2, locked
  rirelay.instance  pairing code PAIR-1234
  mocks.mock        any identifier, any password

Flags:
`

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := run(ctx, os.Args[1:], os.Stdout, os.Stderr)
	stop()
	switch {
	case errors.Is(err, flag.ErrHelp):
	case err != nil:
		fmt.Fprintln(os.Stderr, "ricloud-sandbox:", err)
		os.Exit(1)
	}
}

// settings are the flags.
type settings struct {
	addr, storageAddr, token, generation, dir, faults string
	speed                                             float64
	rate                                              int
	seed                                              uint64
	unconfigured, public, verbose                     bool
}

func parse(args []string, errs io.Writer) (settings, error) {
	var set settings
	flags := flag.NewFlagSet("ricloud-sandbox", flag.ContinueOnError)
	flags.SetOutput(errs)
	flags.Usage = func() {
		_, _ = io.WriteString(errs, usage) // as flag does
		flags.PrintDefaults()
	}
	flags.StringVar(&set.addr, "addr", "127.0.0.1:8321", "`host:port` of the API; port 0 takes a free one")
	flags.StringVar(&set.storageAddr, "storage-addr", "127.0.0.1:0", "`host:port` of the published objects")
	flags.StringVar(&set.token, "token", "sandbox-token", "the key's `token`")
	flags.StringVar(&set.generation, "generation", "current", "how answers are spelled: current, 2018 or mixed")
	flags.StringVar(&set.dir, "storage-dir", "", "publish to files in this `folder`, as local:// URLs")
	flags.BoolVar(&set.unconfigured, "unconfigured", false, "start with nowhere to publish to, as the vendor's guide does")
	flags.Float64Var(&set.speed, "speed", 1, "divide all delays by this `factor`")
	flags.IntVar(&set.rate, "rate-limit", 0, "`requests` an hour; 0 is no limit")
	flags.Uint64Var(&set.seed, "seed", 1, "what IDs and delays are drawn from")
	flags.StringVar(&set.faults, "faults", "", "JSON `file` of faults: an array of ricloudtest.Fault")
	flags.BoolVar(&set.public, "public", false, "allow an address that is not loopback: anyone who reaches it can use it")
	flags.BoolVar(&set.verbose, "v", false, "log each request and delivery")
	if err := flags.Parse(args); err != nil {
		return settings{}, err
	}
	if flags.NArg() > 0 {
		return settings{}, fmt.Errorf("unexpected argument %q", flags.Arg(0))
	}
	return set, nil
}

func run(ctx context.Context, args []string, out, errs io.Writer) error {
	set, err := parse(args, errs)
	if err != nil {
		return err
	}
	opts, err := set.options(errs)
	if err != nil {
		return err
	}
	api, err := set.listen(ctx, set.addr)
	if err != nil {
		return err
	}
	storage, err := set.listen(ctx, set.storageAddr)
	if err != nil {
		_ = api.Close() // the other error is the one to know
		return err
	}
	srv := ricloudtest.NewServer(append(opts, ricloudtest.WithListeners(api, storage))...)
	defer srv.Close()
	if err := srv.Start(); err != nil {
		return err
	}
	_, err = fmt.Fprintf(out, "URL      %s\nToken    %s\nAccounts john.appleseed@example.com hunter2, jane.appleseed@example.com hunter2 (code 123456), Relay PAIR-1234, mocks.mock anything\n",
		srv.URL(), srv.Token())
	<-ctx.Done()
	return err
}

// options turns the flags into what the sandbox takes.
func (set settings) options(errs io.Writer) ([]ricloudtest.Option, error) {
	generation, ok := map[string]ricloudtest.Generation{
		"current": ricloudtest.GenerationCurrent, "2018": ricloudtest.Generation2018, "mixed": ricloudtest.GenerationMixed,
	}[set.generation]
	if !ok {
		return nil, fmt.Errorf("-generation %q: want current, 2018 or mixed", set.generation)
	}
	if set.speed <= 0 {
		return nil, fmt.Errorf("-speed %v: want more than 0", set.speed)
	}
	opts := []ricloudtest.Option{
		ricloudtest.WithToken(set.token), ricloudtest.WithGeneration(generation), ricloudtest.WithSpeed(set.speed),
		ricloudtest.WithSeed(set.seed), ricloudtest.WithRateLimit(set.rate, time.Hour), ricloudtest.WithDelays(unhurried()),
	}
	if set.unconfigured {
		opts = append(opts, ricloudtest.WithUnconfigured())
	}
	if set.dir != "" {
		dir, err := filepath.Abs(set.dir)
		if err != nil {
			return nil, fmt.Errorf("-storage-dir: %w", err)
		}
		opts = append(opts, ricloudtest.WithLocalStorage(dir))
	}
	if set.verbose {
		opts = append(opts, ricloudtest.WithLogger(slog.New(slog.NewTextHandler(errs, &slog.HandlerOptions{Level: slog.LevelDebug}))))
	}
	if set.faults == "" {
		return opts, nil
	}
	faults, err := readFaults(set.faults)
	return append(opts, ricloudtest.WithFaults(faults...)), err
}

// unhurried is slow enough to see a session and a poll pass through their
// states.
func unhurried() ricloudtest.Delays {
	return ricloudtest.Delays{
		Session:      ricloudtest.Delay{Min: time.Second, Max: 2 * time.Second},
		Poll:         ricloudtest.Fixed(500 * time.Millisecond),
		Task:         ricloudtest.Delay{Min: time.Second, Max: 4 * time.Second},
		Suspend:      ricloudtest.Fixed(2 * time.Second),
		Config:       ricloudtest.Fixed(500 * time.Millisecond),
		Subscription: ricloudtest.Fixed(time.Second),
		Delivery:     ricloudtest.Fixed(100 * time.Millisecond),
	}
}

func readFaults(path string) ([]ricloudtest.Fault, error) {
	file, err := os.Open(path) //nolint:gosec // the user names the file
	if err != nil {
		return nil, err
	}
	faults, err := ricloudtest.ReadFaults(file)
	return faults, errors.Join(err, file.Close())
}

// listen refuses, unless it is told otherwise, an address that others reach.
func (set settings) listen(ctx context.Context, addr string) (net.Listener, error) {
	host, _, err := net.SplitHostPort(addr)
	if err != nil {
		return nil, err
	}
	if ip := net.ParseIP(host); !set.public && host != "localhost" && (ip == nil || !ip.IsLoopback()) {
		return nil, fmt.Errorf("%s is not a loopback address: the sandbox is for this machine alone (-public allows it)", addr)
	}
	return new(net.ListenConfig).Listen(ctx, "tcp", addr)
}
