package cli

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"strings"
	"time"

	"github.com/spf13/cobra"

	ricloud "github.com/reincubate/ricloud-go"
	"github.com/reincubate/ricloud-go/internal/transport"
)

// errDryRun ends a run with --dry-run before it changes anything.
var errDryRun = errors.New("nothing was sent: this is a dry run")

// client returns the client of this run: of the sandbox, or of the API.
func (a *app) client(more ...ricloud.Option) (*ricloud.Client, error) {
	opts := []ricloud.Option{
		ricloud.WithUserAgent("ricloud-cli/" + ricloud.Version), ricloud.WithHooks(slowCalls{a}),
	}
	if a.quota > 0 {
		opts = append(opts, ricloud.WithRateLimit(a.quota, time.Hour))
	}
	if a.localFiles != "" {
		opts = append(opts, ricloud.WithLocalFiles(a.localFiles))
	}
	opts = append(opts, more...)
	if a.verbose {
		handler := slog.NewTextHandler(a.errs, &slog.HandlerOptions{Level: slog.LevelDebug})
		opts = append(opts, ricloud.WithLogger(slog.New(handler)))
	}
	if a.dryRun {
		opts = append(opts, ricloud.WithRetries(0)) // what is shown is shown once
	}
	if a.sandbox {
		return a.sandboxClient(opts)
	}
	found, err := a.access()
	if err != nil {
		return nil, err
	}
	a.reaches = found.url
	if err := a.checkURL(found.url); err != nil {
		return nil, err
	}
	opts = append(opts, ricloud.WithBaseURL(found.url))
	if a.dryRun {
		//nolint:forbidigo // it only sends reads
		opts = append(opts, ricloud.WithTransport(&dryRun{app: a, next: http.DefaultTransport}))
	}
	client, err := ricloud.NewClient(found.token.Reveal(), opts...)
	if err == nil {
		a.closers = append(a.closers, client.Close)
	}
	return client, err
}

// checkURL refuses a base URL in the words of this program, before the library does. It does not
// repeat the URL, which may hold a password.
func (a *app) checkURL(base string) error {
	_, err := transport.ParseBaseURL(base, false)
	if err == nil {
		return nil
	}
	reason := strings.TrimSuffix(err.Error(), ", or WithInsecureHTTP")
	return &usage{command: a.operation, err: fmt.Errorf("the API's URL %s", reason)}
}

// localFilesFlag adds the flag of the commands that read results.
func (a *app) localFilesFlag(cmd *cobra.Command) {
	cmd.Flags().StringVar(&a.localFiles, "local-files", "",
		"read local:// results, which a self-hosted API publishes to this `folder`")
}

// dryRun sends reads, and shows every other request instead of sending it.
type dryRun struct {
	app  *app
	next http.RoundTripper
}

// RoundTrip shows or sends a request.
func (d *dryRun) RoundTrip(r *http.Request) (*http.Response, error) {
	if r.Method == http.MethodGet || r.Method == http.MethodHead {
		return d.next.RoundTrip(r)
	}
	shown := map[string]any{
		"method": r.Method,
		"url":    r.URL.Scheme + "://" + r.URL.Host + r.URL.Path,
		"header": map[string]string{"Authorization": "Token " + redacted},
	}
	if r.Body != nil {
		raw, err := readAtMost(r.Body, 1<<20)
		_ = r.Body.Close()
		if err != nil {
			return nil, err
		}
		if raw = bytes.TrimSpace(raw); len(raw) > 0 {
			var body any
			if err := json.Unmarshal(raw, &body); err != nil {
				return nil, fmt.Errorf("cannot show the body: %w", err)
			}
			shown["body"] = mask(body)
		}
	}
	if err := d.app.print(nil, shown); err != nil { //nolint:forbidigo // a method
		return nil, err
	}
	return nil, errDryRun
}
