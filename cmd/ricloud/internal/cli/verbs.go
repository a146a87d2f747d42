package cli

import (
	"context"
	"fmt"
	"net/http"
	"net/url"

	"github.com/spf13/cobra"

	ricloud "github.com/reincubate/ricloud-go"
)

// ownCommands returns the verbs that only some resources have, by resource.
func (a *app) ownCommands() map[string][]*cobra.Command {
	return map[string][]*cobra.Command{
		"org": {a.orgUpdateCommand()},
		"keys": {
			a.keysCurrentCommand(), a.keysCreateCommand(), a.keysUpdateCommand(),
			a.keysRotateCommand(),
		},
		"permissions": {a.permissionsCreateCommand(), a.permissionsUpdateCommand()},
		"users":       {a.usersCreateCommand(), a.usersUpdateCommand()},
		"sources":     {a.sourcesUpdateCommand(), a.sourcesChildrenCommand()},
		"sessions": {
			a.waitCommand("sessions"), a.watchCommand("sessions"),
			a.deleteCommand("sessions"),
		},
		"polls":         {a.pollsCreateCommand(), a.waitCommand("polls"), a.watchCommand("polls")},
		"tasks":         {a.waitCommand("tasks"), a.watchCommand("tasks")},
		"results":       a.resultsCommands(),
		"subscriptions": a.subscriptionsCommands(),
		"events":        a.eventsCommands(),
		"storage":       a.storageCommands(),
		"webhooks":      a.webhooksCommands(),
	}
}

// create makes a call that returns a resource, and prints the answer as it came.
func create[T any](
	a *app, kind string, call func(*ricloud.Client, ricloud.CallOption) (*T, error),
) error {
	client, err := a.client()
	if err != nil {
		return err
	}
	var resp ricloud.Response
	if _, err := call(client, ricloud.WithResponse(&resp)); err != nil {
		return err
	}
	return a.print(resourceNamed(kind), []byte(resp.Body))
}

// update completes cmd, which changes the resource that its argument names. It asks the question
// first, in which %s is the id; an empty question is not asked.
func update[T any](
	a *app, kind string, cmd *cobra.Command, question string,
	call func(context.Context, *ricloud.Client, ricloud.ID, ricloud.CallOption) (*T, error),
) *cobra.Command {
	cmd.Args, cmd.ValidArgsFunction = cobra.ExactArgs(1), a.completeIDs(kind)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if question != "" {
			if err := a.confirm(cmd.Context(), fmt.Sprintf(question, args[0])); err != nil {
				return err
			}
		}
		return create(a, kind, func(c *ricloud.Client, o ricloud.CallOption) (*T, error) {
			return call(cmd.Context(), c, ricloud.ID(args[0]), o)
		})
	}
	return cmd
}

func (a *app) deleteCommand(name string) *cobra.Command {
	r := resourceNamed(name)
	return &cobra.Command{
		Use: "delete ID...", Short: "Delete " + r.one + " by id", Args: cobra.MinimumNArgs(1),
		Example:           fmt.Sprintf("  ricloud %s delete ID --yes", name),
		ValidArgsFunction: a.completeIDs(name),
		RunE: func(cmd *cobra.Command, ids []string) error {
			question := fmt.Sprintf("Delete %s %s?", r.one, oneLine(ids[0]))
			if len(ids) > 1 {
				question = fmt.Sprintf("Delete %d %s?", len(ids), plural(r))
			}
			if err := a.confirm(cmd.Context(), question); err != nil {
				return err
			}
			for _, id := range ids {
				if err := a.one(cmd.Context(), r, http.MethodDelete, r.path+"/"+url.PathEscape(id)); err !=
					nil {
					return err
				}
			}
			return nil
		},
	}
}
