package cli

import (
	"cmp"
	"context"
	"fmt"
	"iter"
	"net"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/spf13/cobra"

	ricloud "github.com/reincubate/ricloud-go"
)

func (a *app) doctorCommand() *cobra.Command {
	return &cobra.Command{
		Use: "doctor", Short: "Find out what is wrong, and say what to do", Args: cobra.NoArgs,
		Long: `Check the token, its scopes, this machine's clock, the storage and webhook configs, and
whether events are delivered. Each check that fails says what to do.`,
		Example: "  ricloud doctor\n  ricloud doctor --sandbox",
		RunE:    a.doctor,
	}
}

// check is one line of the doctor's report.
type check struct {
	Check string `json:"check"`
	State string `json:"state"` // "ok", "warning" or "failed"
	Found string `json:"found"`
	Next  string `json:"next,omitempty"`
}

func (a *app) doctor(cmd *cobra.Command, _ []string) error {
	ctx := cmd.Context()
	failed := 0
	say := func(c check) error {
		if c.State == "failed" {
			failed++
		}
		return a.printCheck(c)
	}
	a.printer.list()
	client, err := a.client()
	if err != nil {
		return err
	}
	var resp ricloud.Response
	key, err := client.Keys.Current(ctx, ricloud.WithResponse(&resp))
	if err != nil {
		_, advice := a.classify(err)
		if sayErr := say(check{"token", "failed", oneLine(err.Error()), advice}); sayErr != nil {
			return sayErr
		}
		return err
	}
	checks := []check{a.tokenCheck(key), clockCheck(resp.Header), {
		"quota", "ok", "not used up: the API took a request, and does not tell how many are left", "",
	}}
	org, err := client.Organisation.Get(ctx)
	if err != nil {
		checks = append(checks, check{
			"organisation", "failed", oneLine(err.Error()),
			"the key may lack a scope: " + a.command("auth", "status"),
		})
	} else {
		checks = append(checks, a.organisationCheck(org), scopesCheck(org))
		for c := range a.configChecks(ctx, client, org, key) {
			checks = append(checks, c)
		}
	}
	checks = append(checks, a.eventsCheck(ctx, client))
	for _, c := range checks {
		if err := say(c); err != nil {
			return err
		}
	}
	if failed > 0 {
		return fmt.Errorf("%s failed", count(failed, "check"))
	}
	return nil
}

// printCheck prints a check. On a terminal, what to do has a line of its own, whole, to be copied.
func (a *app) printCheck(c check) error {
	if a.printer.format != "table" || a.printer.query != nil {
		return a.printItem(nil, c)
	}
	state := fmt.Sprintf("%-8s", c.State)
	if a.printer.screen.colour {
		state = coloured("state", c.State) + state[len(c.State):]
	}
	_, err := fmt.Fprintf(a.out, "%s %-13s %s\n", state, c.Check, c.Found)
	if c.Next != "" && err == nil {
		_, err = fmt.Fprintf(a.out, "%22s next: %s\n", "", c.Next)
	}
	return err
}

func (a *app) tokenCheck(key *ricloud.Key) check {
	c := check{"token", "ok", fmt.Sprintf("key %s is %s", key.ID, key.State), ""}
	if key.State != ricloud.KeyActive {
		c.State, c.Next = "failed", "ask the organisation's administrator for another key, then: "+
			a.command("auth", "login")
	} else if left := time.Until(key.DateExpires); !key.DateExpires.IsZero() && left < 7*24*time.Hour {
		c.State, c.Found, c.Next = "warning", "the key expires in "+span(max(left, 0)),
			"get another key before it does"
	}
	return c
}

// clockCheck compares this machine's clock with the Date of an answer.
func clockCheck(header http.Header) check {
	date, err := http.ParseTime(header.Get("Date"))
	if err != nil {
		return check{"clock", "ok", "the API's answer has no date to compare with", ""}
	}
	skew := time.Since(date).Round(time.Second)
	if skew.Abs() < 30*time.Second {
		return check{"clock", "ok", "agrees with the API's", ""}
	}
	return check{
		"clock", "failed", "is " + skew.String() + " from the API's",
		"set this machine's clock (NTP): signatures have a date",
	}
}

// scopesCheck says what the organisation may do.
func scopesCheck(org *ricloud.Organisation) check {
	scopes := scopeList(org.Permissions)
	if len(scopes) == 0 {
		return check{
			"scopes", "warning", "the API shows no scopes", "ask the organisation's administrator " +
				"which data the key may ask for",
		}
	}
	return check{"scopes", "ok", strings.Join(scopes, ", "), ""}
}

func (a *app) organisationCheck(org *ricloud.Organisation) check {
	c := check{"organisation", "ok", org.Name + " is " + string(org.State), ""}
	switch org.State {
	case ricloud.OrganisationActive:
	case ricloud.OrganisationUnconfigured:
		c.State, c.Next = "failed", "give it a storage config: "+a.storageEnsure()
	default:
		c.State, c.Next = "failed", "ask the API's administrators"
	}
	return c
}

// configChecks looks at the configs that the key uses.
func (a *app) configChecks(
	ctx context.Context, client *ricloud.Client, org *ricloud.Organisation, key *ricloud.Key,
) iter.Seq[check] {
	return func(yield func(check) bool) {
		storage := first(key.StorageConfig, org.StorageConfigDefault)
		webhook := first(key.WebhookConfig, org.WebhookConfigDefault)
		if !yield(a.storageCheck(ctx, client, storage)) || !yield(a.bucketCheck(ctx, client)) {
			return
		}
		yield(a.webhookCheck(ctx, client, webhook))
	}
}

func (a *app) storageEnsure() string {
	return a.command("storage", "ensure", "s3://BUCKET/FOLDER", "--credentials", "FILE", "--default")
}

func first(ids ...ricloud.ID) ricloud.ID {
	for _, id := range ids {
		if id != "" {
			return id
		}
	}
	return ""
}

func (a *app) storageCheck(ctx context.Context, client *ricloud.Client, id ricloud.ID) check {
	if id == "" {
		return check{
			"storage", "failed", "no storage config is the default",
			a.storageEnsure(),
		}
	}
	config, err := client.StorageConfigs.Get(ctx, id)
	if err != nil {
		return check{"storage", "failed", oneLine(err.Error()), a.command("storage", "list")}
	}
	c := check{
		"storage", "ok", fmt.Sprintf("config %s for %s is %s", id, config.URL, config.State),
		"",
	}
	if config.State != ricloud.ConfigValid {
		c.State, c.Next = "failed", a.command("storage", "test", string(id))
	}
	return c
}

// bucketCheck reads the first byte of the newest result, to see that this machine can.
func (a *app) bucketCheck(ctx context.Context, client *ricloud.Client) check {
	for result, err := range client.Results.All(ctx,
		ricloud.ResultListParams{ListParams: ricloud.ListParams{Limit: 1}}) {
		if err != nil {
			return check{"bucket", "failed", oneLine(err.Error()), a.command("results", "list")}
		}
		document, err := client.Results.Open(ctx, result)
		if err == nil {
			_, err = document.Read(make([]byte, 1))
			_ = document.Close()
		}
		if err != nil && result.Size > 0 {
			return check{
				"bucket", "failed", oneLine(err.Error()),
				"enable signed URLs in the storage config, or see that the object is there",
			}
		}
		return check{"bucket", "ok", "the newest result can be read", ""}
	}
	return check{"bucket", "ok", "there is no result to read yet", ""}
}

func (a *app) webhookCheck(ctx context.Context, client *ricloud.Client, id ricloud.ID) check {
	if id == "" {
		return check{
			"webhook", "warning", "no webhook config is the default",
			a.command("webhooks", "ensure", "URL", "--key-default", "--secret-file", "FILE") +
				"; without a receiver: " + a.command("listen"),
		}
	}
	config, err := client.WebhookConfigs.Get(ctx, id)
	if err != nil {
		return check{"webhook", "failed", oneLine(err.Error()), a.command("webhooks", "list")}
	}
	c := check{
		"webhook", "ok", fmt.Sprintf("config %s for %s is %s", id, config.URL, config.State),
		"",
	}
	if config.State != ricloud.ConfigValid {
		c.State, c.Next = "failed", "see that the receiver answers 200, then: "+
			a.command("webhooks", "test", string(id))
	} else if err := reach(ctx, config.URL); err != nil {
		c.State, c.Found = "warning", c.Found+", but this machine cannot reach it: "+oneLine(err.Error())
		c.Next = "see that the receiver runs, then: " + a.command("webhooks", "test", string(id))
	}
	return c
}

// reach opens a connection to the host of a URL, and sends nothing.
func reach(ctx context.Context, receiver string) error {
	u, err := url.Parse(receiver)
	if err != nil {
		return err
	}
	port := cmp.Or(u.Port(), u.Scheme) // "https" is a port's name, too
	dialer := net.Dialer{Timeout: 5 * time.Second}
	conn, err := dialer.DialContext(ctx, "tcp", net.JoinHostPort(u.Hostname(), port))
	if err != nil {
		return err
	}
	return conn.Close()
}

// eventsCheck looks for events that the API could not deliver.
func (a *app) eventsCheck(ctx context.Context, client *ricloud.Client) check {
	failed := 0
	for _, err := range a.items(ctx, client, resourceNamed("events"),
		url.Values{"state": {"failed"}, "limit": {"100"}}) {
		if err != nil {
			return check{"events", "warning", oneLine(err.Error()), a.command("events", "list")}
		}
		if failed++; failed == 100 {
			break
		}
	}
	if failed > 0 {
		return check{
			"events", "warning", fmt.Sprintf("%d or more could not be delivered", failed),
			a.command("events", "replay", "--forward-to", "URL") + " sends them again",
		}
	}
	return check{"events", "ok", "every event was delivered, or is on its way", ""}
}
