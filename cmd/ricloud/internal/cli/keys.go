package cli

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"

	ricloud "github.com/reincubate/ricloud-go"
)

func (a *app) keysCurrentCommand() *cobra.Command {
	return &cobra.Command{
		Use: "current", Short: "Show the key whose token is used", Args: cobra.NoArgs,
		Example: "  ricloud keys current",
		RunE: func(cmd *cobra.Command, _ []string) error {
			return a.one(cmd.Context(), resourceNamed("keys"), http.MethodGet, "/key")
		},
	}
}

func (a *app) keysCreateCommand() *cobra.Command {
	var params ricloud.KeyCreateParams
	var file string
	cmd := &cobra.Command{
		Use: "create", Short: "Create a key", Args: cobra.NoArgs,
		Example: "  ricloud keys create --secret-file token.txt",
	}
	cmd.Flags().StringVar((*string)(&params.StorageConfig), "storage", "",
		"the key's own storage `config`")
	cmd.Flags().StringVar((*string)(&params.WebhookConfig), "webhook", "",
		"the key's own webhook `config`")
	a.completeConfigs(cmd)
	cmd.Flags().StringVar(&file, "secret-file", "",
		"write the token to this `file`, for its owner alone")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		if err := a.secretTarget(cmd, file); err != nil {
			return err
		}
		client, err := a.client()
		if err != nil {
			return err
		}
		var resp ricloud.Response
		key, err := client.Keys.Create(cmd.Context(), params, ricloud.WithResponse(&resp))
		if err != nil {
			return err
		}
		return a.keepSecret("keys", resp.Body, key.Token, file)
	}
	return cmd
}

// completeConfigs completes the configs that a key can have.
func (a *app) completeConfigs(cmd *cobra.Command) {
	_ = cmd.RegisterFlagCompletionFunc("storage", a.completeIDs("storage"))
	_ = cmd.RegisterFlagCompletionFunc("webhook", a.completeIDs("webhooks"))
}

func (a *app) keysUpdateCommand() *cobra.Command {
	var storage, webhook string
	var publish bool
	cmd := &cobra.Command{
		Use: "update ID", Short: "Change a key",
		Example: "  ricloud keys update ID --webhook 2",
	}
	cmd.Flags().StringVar(&storage, "storage", "",
		"the key's own storage `config`; empty for the organisation's")
	cmd.Flags().StringVar(&webhook, "webhook", "",
		"the key's own webhook `config`; empty for the organisation's")
	a.completeConfigs(cmd)
	cmd.Flags().BoolVar(&publish, "publish-source-files", false,
		"publish the files that data refers to (Relay)")
	return update(a, "keys", cmd, "", func(
		ctx context.Context, c *ricloud.Client, id ricloud.ID, o ricloud.CallOption,
	) (*ricloud.Key, error) {
		var params ricloud.KeyUpdateParams
		if cmd.Flags().Changed("storage") {
			params.StorageConfig = new(ricloud.ID(storage))
		}
		if cmd.Flags().Changed("webhook") {
			params.WebhookConfig = new(ricloud.ID(webhook))
		}
		if cmd.Flags().Changed("publish-source-files") {
			params.Config = &ricloud.PublishingConfig{PublishSourceFiles: &publish}
		}
		return c.Keys.Update(ctx, id, params, o)
	})
}

func (a *app) keysRotateCommand() *cobra.Command {
	var file string
	cmd := &cobra.Command{
		Use: "rotate ID", Short: "Give a key a new token", Args: cobra.ExactArgs(1),
		Example:           "  ricloud keys rotate ID --secret-file token.txt",
		ValidArgsFunction: a.completeIDs("keys"),
	}
	cmd.Flags().StringVar(&file, "secret-file", "",
		"write the token to this `file`, for its owner alone")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if err := a.secretTarget(cmd, file); err != nil {
			return err
		}
		const question = "The former token may stop working at once. Rotate it?"
		if err := a.confirm(cmd.Context(), question); err != nil {
			return err
		}
		client, err := a.client()
		if err != nil {
			return err
		}
		var resp ricloud.Response
		key, err := client.Keys.Rotate(cmd.Context(), ricloud.ID(args[0]), ricloud.KeyRotateParams{},
			ricloud.WithResponse(&resp))
		if err != nil {
			return err
		}
		return a.keepSecret("keys", resp.Body, key.Token, file)
	}
	return cmd
}

// keepSecret prints an answer that holds a secret shown only once. The secret itself goes to a
// file that only its owner can read, or to standard output with --show-secrets.
func (a *app) keepSecret(kind string, body ricloud.Raw, secret ricloud.Secret, path string) error {
	if path != "" {
		if err := writePrivate(path, []byte(secret.Reveal()+"\n")); err != nil {
			return fmt.Errorf("the API has made the secret and it could not be written to %s: %w; show it "+
				"with --show-secrets", path, err)
		}
		a.sayf("the secret is in %s\n", path)
	}
	return a.print(resourceNamed(kind), []byte(body))
}

// secretTarget refuses to make a secret that nobody would see.
func (a *app) secretTarget(cmd *cobra.Command, path string) error {
	if path == "" && !a.showSecrets && !a.dryRun {
		return usageError(cmd,
			errors.New("the answer holds a secret: say where it goes, with --secret-file FILE or "+
				"--show-secrets"))
	}
	if dir := filepath.Dir(path); path != "" && !a.dryRun {
		if info, err := os.Stat(dir); err != nil || !info.IsDir() {
			return usageError(cmd, fmt.Errorf("--secret-file: there is no folder %s", dir))
		}
	}
	return nil
}
