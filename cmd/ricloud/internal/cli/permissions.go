package cli

import (
	"context"
	"encoding/json"
	"fmt"
	"os"

	"github.com/spf13/cobra"

	ricloud "github.com/reincubate/ricloud-go"
)

func (a *app) permissionsCreateCommand() *cobra.Command {
	var key, file string
	cmd := &cobra.Command{
		Use: "create --scopes FILE", Short: "Create permissions", Args: cobra.NoArgs,
		Example: "  echo '{\"task_type:icloud.*\": []}' > scopes.json\n  ricloud permissions create " +
			"--scopes scopes.json",
	}
	cmd.Flags().StringVar(&key, "key", "", "the `key` that they are for")
	_ = cmd.RegisterFlagCompletionFunc("key", a.completeIDs("keys"))
	scopesFlag(cmd, &file)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		scopes, err := scopesFrom(file)
		if err != nil {
			return err
		}
		return create(a, "permissions",
			func(c *ricloud.Client, o ricloud.CallOption) (*ricloud.Permissions, error) {
				return c.Permissions.Create(cmd.Context(),
					ricloud.PermissionsCreateParams{Key: ricloud.ID(key), Scopes: scopes}, o)
			})
	}
	return cmd
}

func (a *app) permissionsUpdateCommand() *cobra.Command {
	var file string
	cmd := &cobra.Command{
		Use: "update ID --scopes FILE", Short: "Replace the scopes of permissions",
		Example: "  ricloud permissions update ID --scopes scopes.json",
	}
	scopesFlag(cmd, &file)
	return update(a, "permissions", cmd, "", func(
		ctx context.Context, c *ricloud.Client, id ricloud.ID, o ricloud.CallOption,
	) (*ricloud.Permissions, error) {
		scopes, err := scopesFrom(file)
		if err != nil {
			return nil, err
		}
		return c.Permissions.Update(ctx, id, ricloud.PermissionsUpdateParams{Scopes: scopes}, o)
	})
}

func scopesFlag(cmd *cobra.Command, file *string) {
	cmd.Flags().StringVar(file, "scopes", "", "a JSON `file`: an object of scopes and their limits")
	_ = cmd.MarkFlagRequired("scopes")
}

// scopesFrom reads a JSON object of scopes and their limits.
func scopesFrom(path string) (map[string][]ricloud.ScopeLimit, error) {
	raw, err := os.ReadFile(path) //nolint:gosec // the user names the file
	if err != nil {
		return nil, err
	}
	var scopes map[string][]ricloud.ScopeLimit
	if err := json.Unmarshal(raw, &scopes); err != nil {
		return nil, fmt.Errorf("cannot read the scopes in %s: %w", path, err)
	}
	return scopes, nil
}
