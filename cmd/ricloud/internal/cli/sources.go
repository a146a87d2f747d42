package cli

import (
	"context"
	"net/url"

	"github.com/spf13/cobra"

	ricloud "github.com/reincubate/ricloud-go"
)

func (a *app) sourcesUpdateCommand() *cobra.Command {
	var state string
	cmd := &cobra.Command{
		Use: "update ID --state STATE", Short: "Change the state of a source",
		Example: "  ricloud sources update ID --state deactivated",
	}
	states := texts(ricloud.SourceActive, ricloud.SourceDeactivated)
	c := &choice{value: &state, words: states}
	c.add(cmd, cmd.Flags(), "state", "", "the new `state`")
	_ = cmd.MarkFlagRequired("state")
	return update(a, "sources", cmd, "", func(
		ctx context.Context, c *ricloud.Client, id ricloud.ID, o ricloud.CallOption,
	) (*ricloud.Source, error) {
		return c.Sources.Update(ctx, id,
			ricloud.SourceUpdateParams{State: ricloud.SourceState(state)}, o)
	})
}

func (a *app) sourcesChildrenCommand() *cobra.Command {
	return &cobra.Command{
		Use: "children ID", Short: "List the sources inside a source: the devices of a Relay app",
		Args:              cobra.ExactArgs(1),
		Example:           "  ricloud sources children ID",
		ValidArgsFunction: a.completeIDs("sources"),
		RunE: func(cmd *cobra.Command, args []string) error {
			children := *resourceNamed("sources")
			children.path += "/" + url.PathEscape(args[0]) + "/children"
			return a.list(cmd.Context(), &children, url.Values{}, 0)
		},
	}
}
