package cli

import (
	"net/http"

	"github.com/spf13/cobra"

	ricloud "github.com/reincubate/ricloud-go"
)

func (a *app) orgGetCommand(r *resource) *cobra.Command {
	return &cobra.Command{
		Use: "get", Short: "Show the organisation of the key", Args: cobra.NoArgs,
		Example: "  ricloud org get\n  ricloud org get --jq .state",
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := a.one(cmd.Context(), r, http.MethodGet, r.path); err != nil {
				return err
			}
			if a.sandbox {
				return a.suggest("login", "customer-42", "jane.appleseed@example.com")
			}
			return a.suggest("login", "USER", "ACCOUNT")
		},
	}
}

func (a *app) orgUpdateCommand() *cobra.Command {
	var name string
	var publish bool
	cmd := &cobra.Command{
		Use: "update", Short: "Change the organisation", Args: cobra.NoArgs,
		Example: "  ricloud org update --name 'Example Ltd'\n  ricloud org update --publish-source-files",
	}
	cmd.Flags().StringVar(&name, "name", "", "the new `name`")
	cmd.Flags().BoolVar(&publish, "publish-source-files", false,
		"publish the files that data refers to (Relay)")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		params := ricloud.OrganisationUpdateParams{Name: name}
		if cmd.Flags().Changed("publish-source-files") {
			params.Config = &ricloud.PublishingConfig{PublishSourceFiles: &publish}
		}
		return create(a, "org",
			func(c *ricloud.Client, o ricloud.CallOption) (*ricloud.Organisation, error) {
				return c.Organisation.Update(cmd.Context(), params, o)
			})
	}
	return cmd
}
