package cli

import (
	"context"
	"strings"

	"github.com/spf13/cobra"

	ricloud "github.com/reincubate/ricloud-go"
)

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
		Example: "  ricloud webhooks update ID --to https://example.com/webhooks --yes",
	}
	cmd.Flags().StringVar(&location, "to", "", "the new `URL`")
	_ = cmd.MarkFlagRequired("to")
	const question = "The API will deliver the events of webhook config %s to the new URL. Change it?"
	return update(a, "webhooks", cmd, question, func(
		ctx context.Context, c *ricloud.Client, id ricloud.ID, o ricloud.CallOption,
	) (*ricloud.WebhookConfig, error) {
		return c.WebhookConfigs.Update(ctx, id, ricloud.WebhookConfigUpdateParams{URL: location}, o)
	})
}
