package cli

import (
	"context"

	"github.com/spf13/cobra"

	ricloud "github.com/reincubate/ricloud-go"
)

func (a *app) usersCreateCommand() *cobra.Command {
	return &cobra.Command{
		Use: "create IDENTIFIER", Short: "Create a user, or return the one with this identifier",
		Args:    cobra.ExactArgs(1),
		Example: "  ricloud users create customer-42",
		RunE: func(cmd *cobra.Command, args []string) error {
			return create(a, "users", func(c *ricloud.Client, o ricloud.CallOption) (*ricloud.User, error) {
				return c.Users.Create(cmd.Context(), ricloud.UserCreateParams{Identifier: args[0]}, o)
			})
		},
	}
}

func (a *app) usersUpdateCommand() *cobra.Command {
	var identifier string
	cmd := &cobra.Command{
		Use: "update ID --identifier IDENTIFIER", Short: "Change a user",
		Example: "  ricloud users update ID --identifier customer-43",
	}
	cmd.Flags().StringVar(&identifier, "identifier", "", "the new `identifier`")
	_ = cmd.MarkFlagRequired("identifier")
	return update(a, "users", cmd, "", func(
		ctx context.Context, c *ricloud.Client, id ricloud.ID, o ricloud.CallOption,
	) (*ricloud.User, error) {
		return c.Users.Update(ctx, id, ricloud.UserUpdateParams{Identifier: identifier}, o)
	})
}
