package cli

import (
	"bytes"
	"cmp"
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"iter"
	"net/http"
	"net/url"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"

	ricloud "github.com/reincubate/ricloud-go"
	"github.com/reincubate/ricloud-go/ricloudtest"
)

func (a *app) eventsCommands() []*cobra.Command {
	return []*cobra.Command{a.eventsTailCommand(), a.eventsResendCommand(), a.eventsReplayCommand()}
}

// sign returns the signature header of a body, as the API makes it.
func sign(secret ricloud.Secret, at time.Time, body []byte) string {
	return ricloudtest.SignWebhook(secret.Reveal(), at, body)
}

// forwarder posts events to a local receiver as the API would.
type forwarder struct {
	url    string
	secret ricloud.Secret
	client *http.Client
}

// delivered is the result of one delivery to a local receiver.
type delivered struct {
	ID       string `json:"id"`
	Name     string `json:"name"`
	Status   int    `json:"status,omitempty"`
	Duration string `json:"duration,omitempty"`
	Answer   string `json:"answer,omitempty"`
	Error    string `json:"error,omitempty"`
}

func newForwarder(target string, secret ricloud.Secret) (*forwarder, error) {
	u, err := url.Parse(target)
	if err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" {
		return nil, fmt.Errorf("--forward-to %q is not an http or https URL", target)
	}
	client := &http.Client{
		Timeout:       30 * time.Second,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	return &forwarder{url: strings.TrimRight(target, "/"), secret: secret, client: client}, nil
}

// deliver sends events to a receiver and prints the result of each. Without a receiver it prints
// the events.
func (a *app) deliver(
	ctx context.Context, to *forwarder, events iter.Seq2[*ricloud.Event, error],
) error {
	a.printer.list()
	refused, n := 0, 0
	for event, err := range events {
		if err != nil {
			return err
		}
		n++
		kind, item := resourceNamed("events"), any([]byte(event.Body))
		switch {
		case to != nil && a.dryRun:
			kind, item = nil, to.show(event)
		case to != nil:
			d := to.deliver(ctx, event)
			if d.Status/100 != 2 {
				refused++
			}
			kind, item = deliveries(), d
		}
		if err := a.printItem(kind, item); err != nil {
			return err
		}
	}
	if refused > 0 {
		return &advised{
			fmt.Errorf("the receiver did not take %d of %d events", refused, n), receiverMissing(to),
		}
	}
	return nil
}

// target returns where an event is posted: {url}/{id}.
func (f *forwarder) target(event *ricloud.Event) string {
	return f.url + "/" + url.PathEscape(string(event.ID))
}

// show returns the request that deliver would send, for --dry-run.
func (f *forwarder) show(event *ricloud.Event) map[string]any {
	return map[string]any{
		"method": http.MethodPost, "url": f.target(event), "body": json.RawMessage(event.Body),
		"header": map[string]string{ricloud.SignatureHeader: sign(f.secret, now(), event.Body)},
	}
}

// deliver signs the body of an event and posts it.
func (f *forwarder) deliver(ctx context.Context, event *ricloud.Event) delivered {
	d := delivered{ID: string(event.ID), Name: event.Name()}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, f.target(event),
		bytes.NewReader(event.Body))
	if err != nil {
		d.Error = err.Error()
		return d
	}
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set(ricloud.SignatureHeader, sign(f.secret, now(), event.Body))
	began := time.Now()
	resp, err := f.client.Do(req)
	d.Duration = time.Since(began).Round(time.Millisecond).String()
	if err != nil {
		if sent, ok := errors.AsType[*url.Error](err); ok { // the table has no room for the URL
			err = sent.Err
		}
		d.Error = oneLine(err.Error())
		return d
	}
	defer resp.Body.Close()
	answer, _ := readAtMost(resp.Body, 512)
	d.Status, d.Answer = resp.StatusCode, oneLine(strings.TrimSpace(string(answer)))
	return d
}

func deliveries() *resource {
	return &resource{columns: []column{
		field("id"), eventColumn("name"), field("status"), field("duration").spared(1),
		{title: "answer", value: answerOf, text: true, least: leastText},
	}}
}

// answerOf shows what a receiver answered, or why it did not.
func answerOf(fields map[string]any) string {
	return cmp.Or(show(fields["error"]), show(fields["answer"]))
}

// receiverMissing says what to do if a receiver takes no events.
func receiverMissing(f *forwarder) string {
	return "see that the receiver at " + f.url + " runs, and answers 200 on every path below"
}

// signingSecret returns the secret of the webhook config that the key uses, or none if there is no
// such config.
func signingSecret(ctx context.Context, client *ricloud.Client) (ricloud.Secret, error) {
	key, err := client.Keys.Current(ctx)
	if err != nil {
		return ricloud.NewSecret(""), err
	}
	id := key.WebhookConfig
	if id == "" {
		org, err := client.Organisation.Get(ctx)
		if err != nil {
			return ricloud.NewSecret(""), err
		}
		id = org.WebhookConfigDefault
	}
	if id == "" {
		return ricloud.NewSecret(""), nil
	}
	config, err := client.WebhookConfigs.Get(ctx, id)
	if err != nil {
		return ricloud.NewSecret(""), err
	}
	if config.Secret.IsZero() {
		return ricloud.NewSecret(""), fmt.Errorf("the API does not show the secret of webhook config "+
			"%s: give it with --secret", id)
	}
	return config.Secret, nil
}

// forwarding is what the commands that send events to a local receiver have in common.
type forwarding struct {
	to, secret string
}

func (f *forwarding) flags(cmd *cobra.Command, usage string) {
	cmd.Flags().StringVar(&f.to, "forward-to", "", usage)
	cmd.Flags().StringVar(&f.secret, "secret", "",
		"read the webhook secret "+secretHelp+
			" (by default the webhook config's, or one of your own)")
}

// open returns the forwarder, or nil if nothing is forwarded. Without a client, it looks for no
// webhook config.
func (f *forwarding) open(ctx context.Context, a *app, client *ricloud.Client) (*forwarder, error) {
	if f.to == "" {
		return nil, nil //nolint:nilnil // nothing is forwarded
	}
	var secret ricloud.Secret
	var err error
	switch {
	case f.secret != "":
		secret, err = a.secret(ctx, f.secret, "webhook secret")
	case client != nil:
		secret, err = signingSecret(ctx, client)
	}
	if err == nil && secret.IsZero() {
		secret, err = a.ownSecret()
	}
	if err != nil {
		return nil, err
	}
	to, err := newForwarder(f.to, secret)
	if err != nil {
		return nil, &usage{command: a.operation, err: err}
	}
	return to, nil
}

// ownSecret returns the secret that signs events if there is no webhook config. It is made once
// and kept in a file that only its owner can read, so that a local receiver can read it there.
func (a *app) ownSecret() (ricloud.Secret, error) {
	path, err := configPath("webhook-secret")
	if err != nil {
		return ricloud.Secret{}, err
	}
	raw, err := os.ReadFile(path) //nolint:gosec // the program's own file
	if errors.Is(err, os.ErrNotExist) {
		raw = []byte("whsec_" + rand.Text())
		err = writePrivate(path, raw)
	}
	if err != nil {
		return ricloud.Secret{}, err
	}
	a.sayf("There is no webhook config: the events are signed with the secret in %s\n", path)
	return ricloud.NewSecret(strings.TrimSpace(string(raw))), nil
}

func (a *app) eventsResendCommand() *cobra.Command {
	var f forwarding
	cmd := &cobra.Command{
		Use: "resend ID...", Short: "Send events to a receiver of your own again, signed",
		Args:              cobra.MinimumNArgs(1),
		Example:           "  ricloud events resend ID --forward-to http://127.0.0.1:8080/webhooks",
		ValidArgsFunction: a.completeIDs("events"),
	}
	f.flags(cmd, "the `URL` of the receiver")
	_ = cmd.MarkFlagRequired("forward-to")
	cmd.RunE = func(cmd *cobra.Command, ids []string) error {
		ctx := cmd.Context()
		client, err := a.client()
		if err != nil {
			return err
		}
		to, err := f.open(ctx, a, client)
		if err != nil {
			return err
		}
		return a.deliver(ctx, to, func(yield func(*ricloud.Event, error) bool) {
			for _, id := range ids {
				if event, err := client.Events.Get(ctx, ricloud.ID(id)); !yield(event, err) {
					return
				}
			}
		})
	}
	return cmd
}

func (a *app) eventsReplayCommand() *cobra.Command {
	var f forwarding
	var since string
	cmd := &cobra.Command{
		Use: "replay", Short: "Send every event that was not delivered to a receiver of your own",
		Args: cobra.NoArgs,
		Long: `Send every event that the API could not deliver, or has not yet delivered, to a receiver of
your own, oldest first. The receiver tells events that it has handled by their id.`,
		Example: "  ricloud events replay --forward-to http://127.0.0.1:8080/webhooks --since 24h",
	}
	f.flags(cmd, "the `URL` of the receiver")
	cmd.Flags().StringVar(&since, "since", "72h", "only events that are newer than this `moment`")
	_ = cmd.MarkFlagRequired("forward-to")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		ctx := cmd.Context()
		after, err := moment(since)
		if err != nil {
			return usageError(cmd, fmt.Errorf("--since: %w", err))
		}
		client, err := a.client()
		if err != nil {
			return err
		}
		to, err := f.open(ctx, a, client)
		if err != nil {
			return err
		}
		var missed []*ricloud.Event
		_, err = client.Events.Replay(ctx, after, func(_ context.Context, e *ricloud.Event) error {
			missed = append(missed, e)
			return nil
		})
		refused := a.deliver(ctx, to, func(yield func(*ricloud.Event, error) bool) {
			for _, event := range missed {
				if !yield(event, nil) {
					return
				}
			}
		})
		return errors.Join(err, refused) // err names events that cannot be read
	}
	return cmd
}
