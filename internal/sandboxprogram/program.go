// Package sandboxprogram is the sandbox as a program: cmd/ricloud-sandbox, and "ricloud sandbox" of
// the command line, run it.
package sandboxprogram

import (
	"bytes"
	"cmp"
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	ricloud "github.com/reincubate/ricloud-go"
	"github.com/reincubate/ricloud-go/internal/download"
	"github.com/reincubate/ricloud-go/ricloudtest"
)

// Run serves the sandbox until ctx ends. It prints the banner to out, and usage and logs to errs.
// The error is flag.ErrHelp if the arguments ask for help, and matches ErrUsage if they cannot be
// used.
func Run(ctx context.Context, args []string, out, errs io.Writer) error {
	return RunWithYAML(ctx, args, out, errs, nil)
}

// RunWithYAML is Run for a program that has a YAML parser: yaml turns YAML into JSON, so that
// scenarios can be written in it.
func RunWithYAML(
	ctx context.Context, args []string, out, errs io.Writer, yaml func([]byte) ([]byte, error),
) error {
	set, err := parse(args, errs)
	if err != nil {
		return err
	}
	set.yaml = yaml
	switch {
	case set.version:
		_, err = fmt.Fprintln(out, "ricloud-sandbox", ricloud.Version)
		return err
	case set.health:
		return set.askHealth(ctx)
	case set.check != "":
		return check(set.check, out)
	case set.record != "":
		return set.recordUpstream(ctx, out, errs)
	}
	unlock, err := set.lockState(ctx)
	if err != nil {
		return err
	}
	defer unlock()
	srv, err := set.server(ctx, errs)
	if err != nil {
		return err
	}
	defer srv.Close()
	if err := srv.Start(); err != nil {
		return err
	}
	if err := printBanner(out, set.banner, srv); err != nil {
		return err
	}
	return set.keep(ctx, srv)
}

// server makes the sandbox with its listeners.
func (set *settings) server(ctx context.Context, errs io.Writer) (*ricloudtest.Server, error) {
	opts, err := set.options()
	if err != nil {
		return nil, err
	}
	if set.verbose {
		log := slog.NewTextHandler(errs, &slog.HandlerOptions{Level: slog.LevelDebug})
		opts = append(opts, ricloudtest.WithLogger(slog.New(log)))
	}
	var state []byte
	if set.state != "" {
		if state, err = os.ReadFile(set.state); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return nil, fmt.Errorf("-state: %w", err)
		}
		if err := checkWritable(filepath.Dir(set.state)); err != nil {
			return nil, fmt.Errorf("-state: %w", err)
		}
	}
	api, storage, urls, err := set.listenBoth(ctx)
	if err != nil {
		return nil, err
	}
	srv := ricloudtest.NewServer(append(opts, ricloudtest.WithListeners(api, storage),
		ricloudtest.WithPublicURLs(urls[0], urls[1]))...)
	if err = srv.Err(); err != nil {
		err = fmt.Errorf("%w: %w", err, ErrUsage)
	} else if state != nil {
		if err = srv.Load(bytes.NewReader(state)); err != nil {
			err = fmt.Errorf("-state %s: %w", set.state, err)
		}
	}
	if err != nil {
		srv.Close()
		_ = errors.Join(api.Close(), storage.Close()) // the first error is returned
		return nil, err
	}
	return srv, nil
}

// listenBoth opens the two ports and returns the addresses that clients use.
func (set *settings) listenBoth(
	ctx context.Context,
) (api, storage net.Listener, urls [2]string, err error) {
	scheme, wrap := "http", func(l net.Listener) net.Listener { return l }
	if set.tlsCert != "" {
		pair, err := tls.LoadX509KeyPair(set.tlsCert, set.tlsKey)
		if err != nil {
			return nil, nil, urls, fmt.Errorf("-tls-cert: %w", err)
		}
		config := &tls.Config{Certificates: []tls.Certificate{pair}, MinVersion: tls.VersionTLS12}
		scheme = "https"
		wrap = func(l net.Listener) net.Listener { return tls.NewListener(l, config) }
	}
	if api, err = set.listen(ctx, set.addr); err != nil {
		return nil, nil, urls, err
	}
	if storage, err = set.listen(ctx, cmp.Or(set.storageAddr, nextTo(set.addr))); err != nil {
		_ = api.Close() // the first error is returned
		return nil, nil, urls, fmt.Errorf("-storage-addr: %w", err)
	}
	urls[0] = cmp.Or(set.publicURL, scheme+"://"+reachable(api.Addr()))
	urls[1] = cmp.Or(set.publicStorageURL, scheme+"://"+reachable(storage.Addr()))
	return wrap(api), wrap(storage), urls, nil
}

// nextTo returns the address with the port after that of addr, or with port 0 if addr has port 0.
func nextTo(addr string) string {
	host, port, err := net.SplitHostPort(addr)
	number, notNumber := strconv.Atoi(port)
	if err != nil || notNumber != nil || number == 0 {
		return net.JoinHostPort(host, "0")
	}
	return net.JoinHostPort(host, strconv.Itoa(number+1))
}

// reachable returns an address for clients on this machine, even if the listener has no address.
func reachable(addr net.Addr) string {
	tcp, ok := addr.(*net.TCPAddr)
	if ok && tcp.IP.IsUnspecified() {
		return net.JoinHostPort("127.0.0.1", strconv.Itoa(tcp.Port))
	}
	return addr.String()
}

// listen refuses, unless -public is set, an address that other machines reach.
func (set *settings) listen(ctx context.Context, addr string) (net.Listener, error) {
	host, _, err := net.SplitHostPort(addr)
	if err != nil {
		return nil, err
	}
	ip := net.ParseIP(host)
	if !set.public && host != "localhost" && (ip == nil || !ip.IsLoopback()) {
		return nil, fmt.Errorf("%s is not a loopback address: the sandbox is for this machine "+
			"alone, unless -public is set", addr)
	}
	return new(net.ListenConfig).Listen(ctx, "tcp", addr)
}

// lockState makes sure that no other sandbox keeps its state in the same file: each would undo what
// the other writes. The lock ends with the process, however that ends.
func (set *settings) lockState(ctx context.Context) (unlock func(), err error) {
	if set.state == "" {
		return func() {}, nil
	}
	file, err := os.OpenFile(set.state+".lock", os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, fmt.Errorf("-state: %w", err)
	}
	ctx, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	if _, err := download.LockFile(ctx, file); err != nil {
		return nil, errors.Join(file.Close(),
			fmt.Errorf("-state: another sandbox keeps its state in %s", set.state))
	}
	return func() { _ = file.Close() }, nil
}

// keep waits for the end and, with -state, writes the state every second, if it has changed, and at
// the end.
func (set *settings) keep(ctx context.Context, srv *ricloudtest.Server) error {
	if set.state == "" {
		<-ctx.Done()
		return nil
	}
	every := time.NewTicker(time.Second)
	defer every.Stop()
	var saved []byte
	for ended := false; !ended; {
		select {
		case <-every.C:
		case <-ctx.Done():
			ended = true
		}
		var state bytes.Buffer
		if err := srv.Dump(&state); err != nil {
			return fmt.Errorf("-state: %w", err)
		}
		if bytes.Equal(state.Bytes(), saved) {
			continue
		}
		if err := save(state.Bytes(), set.state); err != nil {
			return err
		}
		saved = state.Bytes()
	}
	return nil
}

// checkWritable finds out at the start whether files can be written to a folder.
func checkWritable(dir string) error {
	file, err := os.CreateTemp(dir, ".ricloud-sandbox-*")
	if err != nil {
		return err
	}
	return errors.Join(file.Close(), os.Remove(file.Name()))
}

// save replaces the file in one step, so that a crash leaves the old one.
func save(state []byte, path string) error {
	file, err := os.CreateTemp(filepath.Dir(path), ".ricloud-sandbox-*")
	if err != nil {
		return fmt.Errorf("-state: %w", err)
	}
	_, err = file.Write(state)
	if err = errors.Join(err, file.Close()); err == nil {
		err = os.Rename(file.Name(), path)
	}
	if err != nil {
		return errors.Join(fmt.Errorf("-state: %w", err), os.Remove(file.Name()))
	}
	return nil
}

// banner is what a machine reads.
type banner struct {
	Version    string          `json:"version"`
	URL        string          `json:"url"`
	StorageURL string          `json:"storage_url"`
	Page       string          `json:"page"`
	Token      string          `json:"token"`
	Accounts   []bannerAccount `json:"accounts"`
}

type bannerAccount struct {
	Service    string `json:"service"`
	Identifier string `json:"identifier,omitempty"`
	Password   string `json:"password,omitempty"`
	Code       string `json:"code,omitempty"`
	Locked     bool   `json:"locked,omitempty"`
}

func printBanner(out io.Writer, form string, srv *ricloudtest.Server) error {
	b := banner{
		Version: ricloud.Version, URL: srv.URL(), StorageURL: srv.StorageURL(),
		Page: srv.URL() + "/_sandbox/", Token: srv.Token(),
	}
	for _, a := range srv.Accounts() {
		b.Accounts = append(b.Accounts, bannerAccount{
			string(cmp.Or(a.Service, ricloud.SourceICloudAccount)), a.Identifier, a.Password, a.Code,
			a.Locked,
		})
	}
	switch form {
	case "none":
		return nil
	case "json":
		return json.NewEncoder(out).Encode(b)
	}
	var text strings.Builder
	fmt.Fprintf(&text, "URL      %s\nToken    %s\nStorage  %s\nPage     %s\n",
		b.URL, b.Token, b.StorageURL, b.Page)
	const most = 10
	for i, a := range b.Accounts {
		if i == most {
			fmt.Fprintf(&text, "         and %d more\n", len(b.Accounts)-most)
			break
		}
		text.WriteString("Account  " + a.describe() + "\n")
	}
	_, err := io.WriteString(out, text.String())
	return err
}

func (a bannerAccount) describe() string {
	parts := []string{a.Service, cmp.Or(a.Identifier, "any identifier"), "any password"}
	if a.Password != "" {
		parts[2] = "password " + a.Password
	}
	if a.Code != "" {
		parts = append(parts, "code "+a.Code)
	}
	if a.Locked {
		parts = append(parts, "locked")
	}
	return strings.Join(parts, ", ")
}

// askHealth asks the sandbox at -addr whether it is well. Containers use it.
func (set *settings) askHealth(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	scheme, transport := "http", &http.Transport{}
	if set.tlsCert != "" {
		scheme = "https"
		transport.TLSClientConfig = &tls.Config{
			InsecureSkipVerify: true, //nolint:gosec // its own certificate, on its own machine
		}
	}
	defer transport.CloseIdleConnections()
	host, port, err := net.SplitHostPort(set.addr)
	if err != nil {
		return err
	}
	if ip := net.ParseIP(host); ip == nil || ip.IsUnspecified() {
		host = "127.0.0.1"
	}
	url := scheme + "://" + net.JoinHostPort(host, port) + "/_sandbox/health"
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, url, http.NoBody)
	if err != nil {
		return err
	}
	res, err := transport.RoundTrip(r)
	if err != nil {
		return err
	}
	defer res.Body.Close()
	if res.StatusCode != http.StatusOK {
		return fmt.Errorf("health: %s answered %s", url, res.Status)
	}
	return nil
}
