package cli

import (
	"context"
	"fmt"
	"iter"

	"github.com/spf13/cobra"

	ricloud "github.com/reincubate/ricloud-go"
)

func (a *app) waitCommand(name string) *cobra.Command {
	r := resourceNamed(name)
	return &cobra.Command{
		Use: "wait ID", Short: "Wait until " + article(r.one) + " has ended", Args: cobra.ExactArgs(1),
		Long: "Wait until " + article(r.one) +
			" has ended, and show it.\n\nThe exit code is 0 for a success and 7 for a failure.",
		Example:           fmt.Sprintf("  ricloud %s wait ID --timeout 10m", name),
		ValidArgsFunction: a.completeIDs(name),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.follow(cmd, r, args[0], false)
		},
	}
}

func (a *app) watchCommand(name string) *cobra.Command {
	r := resourceNamed(name)
	return &cobra.Command{
		Use: "watch ID", Short: "Print each change of " + article(r.one) + " until it has ended",
		Args:              cobra.ExactArgs(1),
		Example:           fmt.Sprintf("  ricloud %s watch ID -o ndjson --jq .state", name),
		ValidArgsFunction: a.completeIDs(name),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.follow(cmd, r, args[0], true)
		},
	}
}

// follow waits for a resource. It prints every change, or the last one only.
func (a *app) follow(cmd *cobra.Command, r *resource, id string, every bool) error {
	client, err := a.client()
	if err != nil {
		return err
	}
	a.resume = a.command(r.name, cmd.Name(), id)
	spinner := a.spinner("waiting for " + r.one + " " + id)
	defer spinner.stop()
	var last []byte
	var ended error
	var resp ricloud.Response
	for v, err := range watch(cmd.Context(), client, r.name, ricloud.ID(id),
		ricloud.WithResponse(&resp)) {
		ended = err
		if v == nil {
			continue
		}
		last = resp.Body
		spinner.say(r.one + " " + id + " is " + stateOf(v))
		if every {
			if err := a.print(r, last); err != nil {
				return err
			}
		}
	}
	spinner.stop()
	if !every && last != nil {
		if err := a.print(r, last); err != nil {
			return err
		}
	}
	return ended
}

// changes yields each change of a resource until it has ended, as the API sent it.
type changes func(yield func(v any, err error) bool)

// watch returns the changes of one resource of a kind that has Watch.
func watch(
	ctx context.Context, c *ricloud.Client, kind string, id ricloud.ID, opts ...ricloud.CallOption,
) changes {
	switch kind {
	case "sessions":
		return changesOf(c.Sessions.Watch(ctx, id, opts...))
	case "polls":
		return changesOf(c.Polls.Watch(ctx, id, opts...))
	case "tasks":
		return changesOf(c.Tasks.Watch(ctx, id, opts...))
	case "subscriptions":
		return changesOf(c.Subscriptions.Watch(ctx, id, opts...))
	}
	return func(func(any, error) bool) {}
}

func changesOf[T any](watched iter.Seq2[*T, error]) changes {
	return func(yield func(any, error) bool) {
		for v, err := range watched {
			if !yield(orNil(v), err) {
				return
			}
		}
	}
}

func orNil[T any](v *T) any {
	if v == nil {
		return nil
	}
	return v
}

func stateOf(v any) string {
	switch v := v.(type) {
	case *ricloud.Session:
		return string(v.State)
	case *ricloud.Poll:
		return string(v.State)
	case *ricloud.Task:
		return string(v.State)
	case *ricloud.Subscription:
		return string(v.State)
	}
	return ""
}

func article(noun string) string {
	switch noun[0] {
	case 'a', 'e', 'i', 'o':
		return "an " + noun
	}
	return "a " + noun
}
