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
	var expiry time.Duration
	var credentials string
	add := &cobra.Command{
		Use: "create URL", Short: "Create a storage config: where results are published",
		Args: cobra.ExactArgs(1),
		Long: `Create a storage config: the bucket that the API publishes results to.

The credentials file is a Google service account as JSON, or the CSV file of an AWS access key.`,
		Example: "  ricloud storage create s3://my-bucket/results --credentials accessKeys.csv --yes",
	}
	storageFlags(add, &credentials, &signed, &expiry)
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
			URL: args[0], Credentials: secret, SignedURLsEnabled: &signed, SignedURLsExpiry: expiry,
		}
		return create(a, "storage",
			func(c *ricloud.Client, o ricloud.CallOption) (*ricloud.StorageConfig, error) {
				return c.StorageConfigs.Create(cmd.Context(), params, o)
			})
	}
	return []*cobra.Command{
		add, a.storageEnsureCommand(), a.storageUpdateCommand(), a.configTestCommand("storage"),
		a.deleteCommand("storage"),
	}
}

// storageFlags adds what describes a bucket to cmd.
func storageFlags(cmd *cobra.Command, credentials *string, signed *bool, expiry *time.Duration) {
	cmd.Flags().StringVar(credentials, "credentials", "", "the `file` of the bucket's credentials")
	cmd.Flags().BoolVar(signed, "signed-urls", true,
		"let the API sign URLs, so that results can be read without credentials")
	cmd.Flags().DurationVar(expiry, "signed-urls-expiry", 0,
		"how long a signed URL works: a `time` such as 1h")
}

// defaults are the flags that make a config the default one.
type defaults struct {
	key, organisation bool
}

func (d *defaults) flags(cmd *cobra.Command) {
	cmd.Flags().BoolVar(&d.key, "key-default", false, "make it the config of the key that is used")
	cmd.Flags().BoolVar(&d.organisation, "default", false,
		"make it the config of the organisation: of every key without one of its own")
}

func (a *app) storageEnsureCommand() *cobra.Command {
	var signed, replace bool
	var expiry time.Duration
	var credentials string
	var d defaults
	cmd := &cobra.Command{
		Use: "ensure URL", Short: "Find or create a storage config and see that it is valid",
		Args: cobra.ExactArgs(1),
		Long: `Find the storage config for a bucket or create it, let the API test it, and make it a
default if asked to. A script may run this again and again: there is one config in the end.`,
		Example: "  ricloud storage ensure s3://my-bucket/results --credentials accessKeys.csv " +
			"--default --yes",
	}
	storageFlags(cmd, &credentials, &signed, &expiry)
	cmd.Flags().BoolVar(&replace, "replace-credentials", false,
		"send the credentials even if the config is valid: after they have changed")
	d.flags(cmd)
	_ = cmd.MarkFlagRequired("credentials")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		secret, err := ricloud.CredentialsFromFile(credentials)
		if err != nil {
			return err
		}
		params := ricloud.StorageConfigEnsureParams{
			URL: args[0], Credentials: secret, SignedURLsEnabled: &signed, SignedURLsExpiry: expiry,
			ReplaceCredentials: replace, MakeKeyDefault: d.key, MakeOrganisationDefault: d.organisation,
		}
		return a.ensure(cmd, "storage", "The API will write to "+args[0]+". Go on?",
			func(c *ricloud.Client) (ricloud.ID, error) {
				config, err := c.StorageConfigs.Ensure(cmd.Context(), params)
				if config == nil {
					return "", err
				}
				return config.ID, err
			})
	}
	return cmd
}

// ensure asks, ensures a config and prints what it is then.
func (a *app) ensure(
	cmd *cobra.Command, kind, question string, call func(*ricloud.Client) (ricloud.ID, error),
) error {
	if err := a.confirm(cmd.Context(), question); err != nil {
		return err
	}
	client, err := a.client()
	if err != nil {
		return err
	}
	a.resume = again(cmd, cmd.Flags().Args())
	spinner := a.spinner("waiting for the API's test of the config")
	id, err := call(client)
	spinner.stop()
	if id == "" {
		return err
	}
	r := resourceNamed(kind)
	return errors.Join(err, a.one(cmd.Context(), r, http.MethodGet, r.path+"/"+string(id)))
}

func (a *app) storageUpdateCommand() *cobra.Command {
	var signed bool
	var expiry time.Duration
	var credentials, location string
	cmd := &cobra.Command{
		Use: "update ID", Short: "Change a storage config", Args: cobra.ExactArgs(1),
		Long: "Change a storage config. What is not given stays as it is. The API tests the config " +
			"again: ricloud storage test shows how that ends.",
		Example: "  ricloud storage update ID --credentials accessKeys.csv --yes\n" +
			"  ricloud storage update ID --signed-urls=false --yes",
		ValidArgsFunction: a.completeIDs("storage"),
	}
	storageFlags(cmd, &credentials, &signed, &expiry)
	cmd.Flags().StringVar(&location, "bucket", "", "the new `URL` of the bucket")
	cmd.MarkFlagsOneRequired("credentials", "signed-urls", "signed-urls-expiry", "bucket")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		params := ricloud.StorageConfigUpdateParams{URL: location, SignedURLsExpiry: expiry}
		if credentials != "" {
			secret, err := ricloud.CredentialsFromFile(credentials)
			if err != nil {
				return err
			}
			params.Credentials = secret
		}
		if cmd.Flags().Changed("signed-urls") {
			params.SignedURLsEnabled = &signed
		}
		if err := a.confirm(cmd.Context(), "The results of every key that uses storage config "+
			args[0]+" are affected. Change it?"); err != nil {
			return err
		}
		return create(a, "storage",
			func(c *ricloud.Client, o ricloud.CallOption) (*ricloud.StorageConfig, error) {
				return c.StorageConfigs.Update(cmd.Context(), ricloud.ID(args[0]), params, o)
			})
	}
	return cmd
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
		if err := a.keepSecret("webhooks", resp.Body, config.Secret, file); err != nil {
			return err
		}
		return a.suggest("webhooks", "ensure", args[0], "--key-default")
	}
	return []*cobra.Command{
		add, a.webhookEnsureCommand(), a.webhookUpdateCommand(), a.configTestCommand("webhooks"),
		a.deleteCommand("webhooks"), a.webhookSignCommand(), a.webhookVerifyCommand(),
	}
}

func (a *app) webhookEnsureCommand() *cobra.Command {
	var file string
	var d defaults
	cmd := &cobra.Command{
		Use: "ensure URL", Short: "Find or create a webhook config and see that it is valid",
		Args: cobra.ExactArgs(1),
		Long: `Find the webhook config for a URL or create it, let the API test it, and make it a default
if asked to. The receiver must answer there already. A script may run this again and again: there
is one config in the end.

With --secret-file, the receiver's secrets are written before the API tests the config, one per
line: a receiver that reads the file accepts the test.`,
		Example: "  ricloud webhooks ensure https://example.com/webhooks --key-default " +
			"--secret-file secret.txt --yes",
	}
	cmd.Flags().StringVar(&file, "secret-file", "",
		"write the secrets to this `file`, for its owner alone")
	d.flags(cmd)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		params := ricloud.WebhookConfigEnsureParams{
			URL: args[0], MakeKeyDefault: d.key, MakeOrganisationDefault: d.organisation,
		}
		if file != "" {
			params.BeforeTest = func(secrets ...ricloud.Secret) error {
				var lines strings.Builder
				for _, secret := range secrets {
					lines.WriteString(secret.Reveal() + "\n")
				}
				return writePrivate(file, []byte(lines.String()))
			}
		}
		return a.ensure(cmd, "webhooks", "The API will deliver events to "+args[0]+". Go on?",
			func(c *ricloud.Client) (ricloud.ID, error) {
				config, err := c.WebhookConfigs.Ensure(cmd.Context(), params)
				if config == nil {
					return "", err
				}
				return config.ID, err
			})
	}
	return cmd
}

func (a *app) webhookUpdateCommand() *cobra.Command {
	var location string
	cmd := &cobra.Command{
		Use: "update ID --to URL", Short: "Deliver a webhook config's events to another URL",
		Args:              cobra.ExactArgs(1),
		Example:           "  ricloud webhooks update ID --to https://example.com/webhooks --yes",
		ValidArgsFunction: a.completeIDs("webhooks"),
	}
	cmd.Flags().StringVar(&location, "to", "", "the new `URL`")
	_ = cmd.MarkFlagRequired("to")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if err := a.confirm(cmd.Context(), "The API will deliver the events of webhook config "+
			args[0]+" to "+location+". Change it?"); err != nil {
			return err
		}
		params := ricloud.WebhookConfigUpdateParams{URL: location}
		return create(a, "webhooks",
			func(c *ricloud.Client, o ricloud.CallOption) (*ricloud.WebhookConfig, error) {
				return c.WebhookConfigs.Update(cmd.Context(), ricloud.ID(args[0]), params, o)
			})
	}
	return cmd
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
		secret, body, err := a.secretAndBody(cmd, from, args[0])
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

// secretAndBody reads what a signature is made of.
func (a *app) secretAndBody(
	cmd *cobra.Command, from, path string,
) (secret ricloud.Secret, body []byte, err error) {
	if from == "-" && path == "-" {
		return secret, nil, usageError(cmd,
			errors.New("the secret and the body cannot both come from standard input"))
	}
	if secret, err = a.secret(cmd.Context(), from, "webhook secret"); err != nil {
		return secret, nil, err
	}
	body, err = a.readInput(path)
	return secret, body, err
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
		secret, body, err := a.secretAndBody(cmd, from, args[0])
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
		_, advice := classify(err)
		if sayErr := say(check{"token", "failed", oneLine(err.Error()), advice}); sayErr != nil {
			return sayErr
		}
		return err
	}
	checks := []check{tokenCheck(key), clockCheck(resp.Header), {
		"quota", "ok", "not used up: the API took a request, and does not tell how many are left", "",
	}}
	org, err := client.Organisation.Get(ctx)
	if err != nil {
		checks = append(checks, check{
			"organisation", "failed", oneLine(err.Error()),
			"the key may lack a scope: ricloud auth status",
		})
	} else {
		checks = append(checks, organisationCheck(org), scopesCheck(org))
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
		c.State, c.Next = "failed", "give it a storage config: ricloud storage ensure "+
			"s3://BUCKET/FOLDER --credentials FILE --default"
	default:
		c.State, c.Next = "failed", "ask the API's administrators"
	}
	return c
}
