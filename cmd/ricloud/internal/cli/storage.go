package cli

import (
	"context"
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

func (a *app) storageUpdateCommand() *cobra.Command {
	var signed bool
	var expiry time.Duration
	var credentials, location string
	cmd := &cobra.Command{
		Use: "update ID", Short: "Change a storage config",
		Long: "Change a storage config. What is not given stays as it is. The API tests the config " +
			"again: ricloud storage test shows how that ends.",
		Example: "  ricloud storage update ID --credentials accessKeys.csv --yes\n" +
			"  ricloud storage update ID --signed-urls=false --yes",
	}
	storageFlags(cmd, &credentials, &signed, &expiry)
	cmd.Flags().StringVar(&location, "bucket", "", "the new `URL` of the bucket")
	cmd.MarkFlagsOneRequired("credentials", "signed-urls", "signed-urls-expiry", "bucket")
	const question = "The results of every key that uses storage config %s are affected. Change it?"
	return update(a, "storage", cmd, question, func(
		ctx context.Context, c *ricloud.Client, id ricloud.ID, o ricloud.CallOption,
	) (*ricloud.StorageConfig, error) {
		params := ricloud.StorageConfigUpdateParams{URL: location, SignedURLsExpiry: expiry}
		if credentials != "" {
			secret, err := ricloud.CredentialsFromFile(credentials)
			if err != nil {
				return nil, err
			}
			params.Credentials = secret
		}
		if cmd.Flags().Changed("signed-urls") {
			params.SignedURLsEnabled = &signed
		}
		return c.StorageConfigs.Update(ctx, id, params, o)
	})
}
