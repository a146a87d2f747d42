package cli

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"time"

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
// file that only its owner can read, or to standard output with --show-secrets. If the file cannot
// be written any more, it goes to one among the temporary files, since it cannot be had again.
func (a *app) keepSecret(kind string, body ricloud.Raw, secret ricloud.Secret, path string) error {
	if path != "" {
		written, err := writeSomewhere(path, []byte(secret.Reveal()+"\n"))
		if written == "" {
			return fmt.Errorf("the API has made a secret, which is lost: no file could be written: %w", err)
		}
		if err != nil {
			a.sayf("%s could not be written: %s\n", path, oneLine(err.Error()))
		}
		a.sayf("the secret is in %s\n", written)
	}
	return a.print(resourceNamed(kind), []byte(body))
}

// writeSomewhere writes a private file at a path, or else among the temporary files. It returns
// where, with the error of the path.
func writeSomewhere(path string, content []byte) (written string, err error) {
	if err = writePrivate(path, content); err == nil {
		return path, nil
	}
	other := filepath.Join(os.TempDir(), fmt.Sprintf("ricloud-secret-%d.txt", time.Now().UnixNano()))
	if writePrivate(other, content) != nil {
		other = ""
	}
	return other, err
}

// secretTarget refuses to make a secret that nobody would see.
func (a *app) secretTarget(cmd *cobra.Command, path string) error {
	if path == "" && !a.showSecrets && !a.dryRun {
		return usageError(cmd,
			errors.New("the answer holds a secret: say where it goes, with --secret-file FILE or "+
				"--show-secrets"))
	}
	if path == "" || a.dryRun {
		return nil
	}
	if err := writable(path); err != nil {
		return usageError(cmd, fmt.Errorf("--secret-file: %w", err))
	}
	return nil
}

// writable returns an error if a private file cannot be written at a path.
func writable(path string) error {
	dir := filepath.Dir(path)
	if info, err := os.Stat(dir); err != nil || !info.IsDir() {
		return fmt.Errorf("there is no folder %s", dir)
	}
	if info, err := os.Stat(path); err == nil && info.IsDir() {
		return fmt.Errorf("%s is a folder", path)
	}
	trial, err := os.CreateTemp(dir, ".ricloud-*")
	if err != nil {
		return err
	}
	_, err = trial.Write(make([]byte, 4096))
	return errors.Join(err, trial.Sync(), trial.Close(), os.Remove(trial.Name()))
}
