package cli

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	ricloud "github.com/reincubate/ricloud-go"
)

func (a *app) triggerCommand() *cobra.Command {
	var f forwarding
	var sets []string
	var count int
	cmd := &cobra.Command{
		Use: "trigger EVENT", Short: "Send a made-up, signed event to a receiver of your own",
		Long: `Send a made-up, signed event to a receiver of your own: poll.completed, session.expired,
task.failed or any other name. No account and no request to the API is needed. Without --secret,
the event is signed with a secret that ricloud keeps in a file of yours.`,
		Example: `  ricloud trigger poll.completed --forward-to http://127.0.0.1:8080/webhooks
  ricloud trigger task.failed --set data.error=server-error --count 3 \
    --forward-to URL --secret env:SECRET`,
		Args:              cobra.ExactArgs(1),
		ValidArgsFunction: fixed(eventNames()...),
	}
	f.flags(cmd, "the `URL` of the receiver; without it the event is printed")
	cmd.Flags().StringArrayVar(&sets, "set", nil,
		"change a field: `path=value`, such as data.state=failed")
	cmd.Flags().IntVar(&count, "count", 1, "how many `events` to send, each with an id of its own")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if count < 1 {
			return usageError(cmd, errors.New("--count must be at least 1"))
		}
		kind, action, found := strings.Cut(args[0], ".")
		if !found || kind == "" || action == "" {
			return usageError(cmd,
				fmt.Errorf("%q is not an event: use a resource and an action, such as poll.completed", args[0]))
		}
		a.warnOfEvent(args[0])
		if f.secret != "" && f.to == "" {
			return usageError(cmd, errors.New("--secret signs what --forward-to posts: give both"))
		}
		to, err := f.open(cmd.Context(), a, nil)
		if err != nil {
			return err
		}
		err = a.deliver(cmd.Context(), to, func(yield func(*ricloud.Event, error) bool) {
			for range count {
				event, err := madeUpEvent(cmd, kind, action, sets)
				if !yield(event, err) || err != nil {
					return
				}
			}
		})
		if err != nil || to != nil {
			return err
		}
		if err := a.flush(); err != nil {
			return err
		}
		a.sayf("this was printed only: --forward-to URL signs it and sends it to a receiver\n")
		return nil
	}
	return cmd
}

// warnOfEvent says that an event is not one of those that are known.
func (a *app) warnOfEvent(name string) {
	names := eventNames()
	if slices.Contains(names, name) {
		return
	}
	question := ""
	if known := closest(name, names); known != "" {
		question = "; did you mean " + known + "?"
	}
	a.sayf("%s is not one of the events that the API sends%s\nit sends %s\n", oneLine(name),
		question, listOf(names))
}

// madeUpEvent returns an event with the fields that --set changes.
func madeUpEvent(cmd *cobra.Command, kind, action string, sets []string) (*ricloud.Event, error) {
	fields := madeUp(kind, action)
	for _, pair := range sets {
		if err := setPath(fields, pair); err != nil {
			return nil, usageError(cmd, fmt.Errorf("--set: %w", err))
		}
	}
	body, err := json.Marshal(fields)
	if err != nil {
		return nil, err
	}
	event, err := ricloud.ParseEvent(body)
	if err != nil {
		return nil, usageError(cmd, fmt.Errorf("--set: %w", err))
	}
	return event, nil
}
