package cli

import (
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/spf13/cobra"

	ricloud "github.com/reincubate/ricloud-go"
)

// defaults are the flags that make a config the default one.
type defaults struct {
	key, organisation bool
}

func (d *defaults) flags(cmd *cobra.Command) {
	cmd.Flags().BoolVar(&d.key, "key-default", false, "make it the config of the key that is used")
	cmd.Flags().BoolVar(&d.organisation, "default", false,
		"make it the config of the organisation: of every key without one of its own")
}

// ensure asks the question, finds or creates a config, and prints it.
func (a *app) ensure(
	cmd *cobra.Command, kind, question string, call func(*ricloud.Client) (ricloud.ID, error),
) error {
	if err := a.confirm(cmd.Context(), question); err != nil {
		return err
	}
	client, err := a.client()
	if err != nil {
		return err
	}
	a.resume = again(cmd, cmd.Flags().Args())
	spinner := a.spinner("waiting for the API's test of the config")
	id, err := call(client)
	spinner.stop()
	if id == "" {
		return err
	}
	r := resourceNamed(kind)
	return errors.Join(err, a.one(cmd.Context(), r, http.MethodGet, r.path+"/"+string(id)))
}

// configResource is how the API names a kind of config.
func configResource(kind string) string {
	if kind == "webhooks" {
		return "webhook_config"
	}
	return "storage_config"
}

// configTestCommand tests a config and waits for the result.
func (a *app) configTestCommand(kind string) *cobra.Command {
	r := resourceNamed(kind)
	return &cobra.Command{
		Use: "test ID", Short: "Test a " + r.one, Args: cobra.ExactArgs(1),
		Example:           fmt.Sprintf("  ricloud %s test ID", kind),
		ValidArgsFunction: a.completeIDs(kind),
		RunE: func(cmd *cobra.Command, args []string) error {
			client, err := a.client()
			if err != nil {
				return err
			}
			begin := client.StorageConfigs.Test
			if kind == "webhooks" {
				begin = client.WebhookConfigs.Test
			}
			a.resume = again(cmd, args)
			spinner := a.spinner("testing " + r.one + " " + args[0])
			defer spinner.stop()
			var resp ricloud.Response
			task, err := begin(cmd.Context(), ricloud.ID(args[0]), ricloud.WithAwait(10*time.Second),
				ricloud.WithResponse(&resp))
			if err != nil {
				return err
			}
			if !a.noWait {
				task, err = client.Tasks.Wait(cmd.Context(), task.ID, ricloud.WithResponse(&resp))
			}
			spinner.stop()
			if task != nil {
				if printErr := a.print(resourceNamed("tasks"), []byte(resp.Body)); printErr != nil {
					return printErr
				}
			}
			// The test is a task; what failed it is the config.
			if state, ok := errors.AsType[*ricloud.StateError](err); ok {
				tested := *state
				tested.Resource, tested.ID = configResource(kind), ricloud.ID(args[0])
				tested.State = "invalid"
				return &tested
			}
			return err
		},
	}
}
