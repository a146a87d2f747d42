package cli

import (
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	ricloud "github.com/reincubate/ricloud-go"
)

// sign returns the signature header of a body, as the API makes it.
func sign(secret ricloud.Secret, at time.Time, body []byte) string {
	t := strconv.FormatInt(at.Unix(), 10)
	mac := hmac.New(sha256.New, []byte(secret.Reveal()))
	mac.Write([]byte(t + "."))
	mac.Write(body)
	return "t=" + t + ",s=" + base64.StdEncoding.EncodeToString(mac.Sum(nil))
}

// forwarder posts events to a local receiver as the API would.
type forwarder struct {
	url    string
	secret ricloud.Secret
	client *http.Client
}

// delivered is what came of one delivery to a local receiver.
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

// deliver signs and posts an event to {url}/{id}.
func (f *forwarder) deliver(ctx context.Context, event object) delivered {
	d := delivered{ID: string(event.id()), Name: eventName(event)}
	body, err := json.Marshal(event)
	if err != nil {
		d.Error = err.Error()
		return d
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, f.url+"/"+url.PathEscape(d.ID),
		bytes.NewReader(body))
	if err != nil {
		d.Error = err.Error()
		return d
	}
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set(ricloud.SignatureHeader, sign(f.secret, now(), body))
	began := time.Now()
	resp, err := f.client.Do(req)
	d.Duration = time.Since(began).Round(time.Millisecond).String()
	if err != nil {
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
		field("id"), field("name"), field("status"), field("duration"),
		field("answer"), field("error"),
	}}
}

// signingSecret returns the secret of the webhook config that the key uses.
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
		return ricloud.NewSecret(""), errors.New("there is no webhook config whose secret could sign: " +
			"give one with --secret")
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

// forwarding is what the commands share that hand events to a local receiver.
type forwarding struct {
	to, secret string
}

func (f *forwarding) flags(cmd *cobra.Command, usage string) {
	cmd.Flags().StringVar(&f.to, "forward-to", "", usage)
	cmd.Flags().StringVar(&f.secret, "secret", "",
		"read the webhook secret "+secretHelp+" (the webhook config's by default)")
}

func (f *forwarding) open(ctx context.Context, a *app, client *ricloud.Client) (*forwarder, error) {
	if f.to == "" {
		return nil, nil //nolint:nilnil // nothing is forwarded
	}
	var secret ricloud.Secret
	var err error
	if f.secret != "" {
		secret, err = a.secret(ctx, f.secret, "webhook secret")
	} else {
		secret, err = signingSecret(ctx, client)
	}
	if err != nil {
		return nil, err
	}
	return newForwarder(f.to, secret)
}

// deliver hands n events to a local receiver and prints what came of each. Without a receiver it
// prints the events.
func (a *app) deliver(
	ctx context.Context, to *forwarder, n int, get func(i int) (object, error),
) error {
	refused := 0
	for i := range n {
		event, err := get(i)
		if err != nil {
			return err
		}
		kind, item := resourceNamed("events"), any(event)
		if to != nil {
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
		return fmt.Errorf("the receiver did not take %d of %d events", refused, n)
	}
	return nil
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
		return a.deliver(ctx, to, len(ids), func(i int) (event object, err error) {
			err = client.Call(ctx, http.MethodGet, "/events/"+url.PathEscape(ids[i]), nil, &event)
			return event, err
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
		var missed []object
		seen := map[ricloud.ID]bool{}
		// an event may turn from the first to the second
		for _, state := range []string{"pending", "failed"} {
			for event, err := range a.items(ctx, client, resourceNamed("events"),
				url.Values{"state": {state}}) {
				if err != nil {
					return err
				}
				if made, _ := time.Parse(time.RFC3339, show(event["date_created"])); made.Before(after) ||
					seen[event.id()] {
					continue
				}
				seen[event.id()] = true
				missed = append(missed, event)
			}
		}
		a.printer.list()
		slices.Reverse(missed)
		return a.deliver(ctx, to, len(missed), func(i int) (object, error) { return missed[i], nil })
	}
	return cmd
}

func (a *app) triggerCommand() *cobra.Command {
	var f forwarding
	var sets []string
	var count int
	cmd := &cobra.Command{
		Use: "trigger EVENT", Short: "Send a made-up, signed event to a receiver of your own",
		Long: `Send a made-up, signed event to a receiver of your own: poll.completed, session.expired,
task.failed or any other name. No account and no request to the API is needed.`,
		Example: `  ricloud trigger poll.completed --forward-to http://127.0.0.1:8080/webhooks \
    --secret @secret.txt
  ricloud trigger task.failed --set data.error=server-error --count 3 \
    --forward-to URL --secret env:SECRET`,
		Args: cobra.ExactArgs(1),
		ValidArgsFunction: fixed(ricloud.EventSessionExpired, ricloud.EventPollCreated,
			ricloud.EventPollCompleted,
			ricloud.EventTaskCreated, ricloud.EventTaskSucceeded, ricloud.EventTaskFailed,
			ricloud.EventWebhookConfigTest),
	}
	f.flags(cmd, "the `URL` of the receiver; without it the event is printed")
	cmd.Flags().StringArrayVar(&sets, "set", nil,
		"change a field: `path=value`, such as data.state=failed")
	cmd.Flags().IntVar(&count, "count", 1, "how many `events` to send, each with an id of its own")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if count < 1 {
			return usageError(cmd, errors.New("--count must be at least 1"))
		}
		kind, action, found := strings.Cut(args[0], ".")
		if !found || kind == "" || action == "" {
			return usageError(cmd,
				fmt.Errorf("%q is not an event: use a resource and an action, such as poll.completed", args[0]))
		}
		var to *forwarder
		if f.to != "" {
			if f.secret == "" {
				return usageError(cmd, errors.New("--secret is needed to sign: @FILE, env:NAME, - or prompt"))
			}
			secret, err := a.secret(cmd.Context(), f.secret, "webhook secret")
			if err != nil {
				return err
			}
			if to, err = newForwarder(f.to, secret); err != nil {
				return usageError(cmd, err)
			}
		}
		return a.deliver(cmd.Context(), to, count, func(int) (object, error) {
			event := madeUp(kind, action)
			for _, pair := range sets {
				if err := setPath(event, pair); err != nil {
					return nil, usageError(cmd, fmt.Errorf("--set: %w", err))
				}
			}
			return event, nil
		})
	}
	return cmd
}
