package cli

import (
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"

	"github.com/spf13/cobra"

	ricloud "github.com/reincubate/ricloud-go"
)

func (a *app) storageCommands() []*cobra.Command {
	var signed bool
	var credentials string
	add := &cobra.Command{
		Use: "create URL", Short: "Create a storage config: where results are published",
		Args: cobra.ExactArgs(1),
		Long: `Create a storage config: the bucket that the API publishes results to.

The credentials file is a Google service account as JSON, or the CSV file of an AWS access key.`,
		Example: "  ricloud storage create s3://my-bucket/results --credentials accessKeys.csv --yes",
	}
	add.Flags().StringVar(&credentials, "credentials", "", "the `file` of the bucket's credentials")
	add.Flags().BoolVar(&signed, "signed-urls", true,
		"let the API sign URLs, so that results can be read without credentials")
	_ = add.MarkFlagRequired("credentials")
	add.RunE = func(cmd *cobra.Command, args []string) error {
		secret, err := ricloud.CredentialsFromFile(credentials)
		if err != nil {
			return err
		}
		if err := a.confirm(cmd.Context(), "The API will write to "+args[0]+
			". Create the config?"); err != nil {
			return err
		}
		params := ricloud.StorageConfigCreateParams{
			URL: args[0], Credentials: secret,
			SignedURLsEnabled: &signed,
		}
		return create(a, "storage",
			func(c *ricloud.Client, o ricloud.CallOption) (*ricloud.StorageConfig, error) {
				return c.StorageConfigs.Create(cmd.Context(), params, o)
			})
	}
	test := a.configTestCommand("storage")
	return []*cobra.Command{add, test, a.deleteCommand("storage")}
}

// configTestCommand tests a config and waits for what comes of it.
func (a *app) configTestCommand(kind string) *cobra.Command {
	r := resourceNamed(kind)
	return &cobra.Command{
		Use: "test ID", Short: "Test a " + r.one, Args: cobra.ExactArgs(1),
		Example:           fmt.Sprintf("  ricloud %s test ID", kind),
		ValidArgsFunction: a.completeIDs(kind),
		RunE: func(cmd *cobra.Command, args []string) error {
			client, err := a.client()
			if err != nil {
				return err
			}
			begin := client.StorageConfigs.Test
			if kind == "webhooks" {
				begin = client.WebhookConfigs.Test
			}
			spinner := a.spinner("testing " + r.one + " " + args[0])
			defer spinner.stop()
			var resp ricloud.Response
			task, err := begin(cmd.Context(), ricloud.ID(args[0]), ricloud.WithAwait(10*time.Second),
				ricloud.WithResponse(&resp))
			if err != nil {
				return err
			}
			if !a.noWait {
				task, err = client.Tasks.Wait(cmd.Context(), task.ID, ricloud.WithResponse(&resp))
			}
			spinner.stop()
			if task != nil {
				if printErr := a.print(resourceNamed("tasks"), []byte(resp.Body)); printErr != nil {
					return printErr
				}
			}
			return err
		},
	}
}

func (a *app) webhooksCommands() []*cobra.Command {
	var file string
	add := &cobra.Command{
		Use: "create URL", Short: "Create a webhook config: where events are delivered",
		Args: cobra.ExactArgs(1),
		Long: `Create a webhook config: the URL that the API delivers events to. The receiver must answer
there already, on every path below the URL, since the API tests the config at once.`,
		Example: "  ricloud webhooks create https://example.com/webhooks --secret-file secret.txt --yes",
	}
	add.Flags().StringVar(&file, "secret-file", "",
		"write the secret to this `file`, for its owner alone")
	add.RunE = func(cmd *cobra.Command, args []string) error {
		if err := a.secretTarget(cmd, file); err != nil {
			return err
		}
		if err := a.confirm(cmd.Context(),
			"The API will deliver events to "+args[0]+". Create the config?"); err != nil {
			return err
		}
		client, err := a.client()
		if err != nil {
			return err
		}
		var resp ricloud.Response
		config, err := client.WebhookConfigs.Create(
			cmd.Context(), ricloud.WebhookConfigCreateParams{URL: args[0]}, ricloud.WithResponse(&resp))
		if err != nil {
			return err
		}
		return a.keepSecret("webhooks", resp.Body, config.Secret, file)
	}
	return []*cobra.Command{
		add, a.configTestCommand("webhooks"), a.deleteCommand("webhooks"), a.webhookSignCommand(),
		a.webhookVerifyCommand(),
	}
}

func (a *app) webhookSignCommand() *cobra.Command {
	var from, at string
	cmd := &cobra.Command{
		Use: "sign FILE", Short: "Sign a body as the API does, without a request",
		Args: cobra.ExactArgs(1),
		Long: "Sign a body as the API does, without a request, and print the header. FILE may be - " +
			"for standard input.",
		Example: "  ricloud webhooks sign event.json --secret @secret.txt",
	}
	cmd.Flags().StringVar(&from, "secret", "prompt", "read the webhook secret "+secretHelp)
	cmd.Flags().StringVar(&at, "at", "", "the `moment` of the signature; now by default")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if from == "-" && args[0] == "-" {
			return usageError(cmd,
				errors.New("the secret and the body cannot both come from standard input"))
		}
		secret, err := a.secret(cmd.Context(), from, "webhook secret")
		if err != nil {
			return err
		}
		body, err := a.readInput(args[0])
		if err != nil {
			return err
		}
		when, err := moment(at)
		if err != nil {
			return usageError(cmd, fmt.Errorf("--at: %w", err))
		}
		if when.IsZero() {
			when = now()
		}
		return a.print(nil,
			map[string]any{"header": ricloud.SignatureHeader, "value": sign(secret, when, body)})
	}
	return cmd
}

func (a *app) webhookVerifyCommand() *cobra.Command {
	var from, header string
	cmd := &cobra.Command{
		Use: "verify FILE", Short: "Verify the signature of a body, without a request",
		Args: cobra.ExactArgs(1),
		Long: `Verify the signature of a body, without a request. FILE may be - for standard input.

The exit code is 8 where the signature does not fit.`,
		Example: "  ricloud webhooks verify body.json --header 't=…,s=…' --secret @secret.txt",
	}
	cmd.Flags().StringVar(&from, "secret", "prompt", "read the webhook secret "+secretHelp)
	cmd.Flags().StringVar(&header, "header", "",
		"the `value` of the "+ricloud.SignatureHeader+" header")
	_ = cmd.MarkFlagRequired("header")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		secret, err := a.secret(cmd.Context(), from, "webhook secret")
		if err != nil {
			return err
		}
		body, err := a.readInput(args[0])
		if err != nil {
			return err
		}
		// The age is the caller's to judge: a stored delivery is old.
		verifier := ricloud.WebhookVerifier{
			Secrets: []ricloud.Secret{secret}, Past: century,
			Future: century,
		}
		if err := verifier.Verify(strings.TrimSpace(header), body); err != nil {
			return fmt.Errorf("%w: %w", errVerification, err)
		}
		return a.print(nil, map[string]any{"verified": true})
	}
	return cmd
}

const century = 100 * 365 * 24 * time.Hour

func (a *app) doctorCommand() *cobra.Command {
	return &cobra.Command{
		Use: "doctor", Short: "Find out what is wrong, and say what to do", Args: cobra.NoArgs,
		Long: `Check the token, its scopes, this machine's clock, the storage and webhook configs, and
whether events are delivered. Each check says what to do where it fails.`,
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
	report := &resource{columns: []column{
		field("check"), field("state"), field("found"),
		field("next"),
	}}
	failed := 0
	say := func(c check) error {
		if c.State == "failed" {
			failed++
		}
		return a.printItem(report, c)
	}
	a.printer.list()
	client, err := a.client()
	if err != nil {
		return err
	}
	var resp ricloud.Response
	key, err := client.Keys.Current(ctx, ricloud.WithResponse(&resp))
	if err != nil {
		_, advice := classify(err)
		if sayErr := say(check{"token", "failed", oneLine(err.Error()), advice}); sayErr != nil {
			return sayErr
		}
		return err
	}
	checks := []check{tokenCheck(key), clockCheck(resp.Header)}
	org, err := client.Organisation.Get(ctx)
	if err != nil {
		checks = append(checks, check{
			"organisation", "failed", oneLine(err.Error()),
			"the key may lack a scope: ricloud auth status",
		})
	} else {
		checks = append(checks, organisationCheck(org))
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
		return fmt.Errorf("%d checks failed", failed)
	}
	return nil
}

func tokenCheck(key *ricloud.Key) check {
	c := check{"token", "ok", fmt.Sprintf("key %s is %s", key.ID, key.State), ""}
	if key.State != ricloud.KeyActive {
		c.State, c.Next = "failed", "ask the organisation's administrator for another key, then: "+
			"ricloud auth login"
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

func organisationCheck(org *ricloud.Organisation) check {
	c := check{"organisation", "ok", org.Name + " is " + string(org.State), ""}
	switch org.State {
	case ricloud.OrganisationActive:
	case ricloud.OrganisationUnconfigured:
		c.State, c.Next = "failed", "give it a storage config: ricloud storage create URL "+
			"--credentials FILE"
	default:
		c.State, c.Next = "failed", "ask the API's administrators"
	}
	return c
}
