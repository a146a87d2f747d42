package cli

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"slices"
	"time"

	"github.com/spf13/cobra"

	ricloud "github.com/reincubate/ricloud-go"
)

// listenInterval is how often the record of events is read.
const listenInterval = 2 * time.Second

func (a *app) eventsTailCommand() *cobra.Command {
	var names []string
	var since string
	cmd := &cobra.Command{
		Use: "tail", Short: "Print events as they happen", Args: cobra.NoArgs,
		Example: "  ricloud events tail --events poll.completed,task.failed",
	}
	cmd.Flags().StringSliceVar(&names, "events", nil, "only events with these `names`")
	cmd.Flags().StringVar(&since, "since", "", "begin with the events after this `moment`")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		client, err := a.client()
		if err != nil {
			return err
		}
		from, err := moment(since)
		if err != nil {
			return usageError(cmd, fmt.Errorf("--since: %w", err))
		}
		a.resume = "ricloud events tail"
		return a.tail(cmd.Context(), client, from, names, func(event object) error {
			if err := a.printItem(resourceNamed("events"), event); err != nil {
				return err
			}
			return a.printer.flush()
		})
	}
	return cmd
}

// tail reads the API's record of events and hands over each new one, oldest first.
func (a *app) tail(
	ctx context.Context, client *ricloud.Client, since time.Time, names []string,
	take func(object) error,
) error {
	seen := map[ricloud.ID]bool{}
	for begun := !since.IsZero(); ; begun = true {
		fresh, err := a.unseen(ctx, client, since, seen, begun)
		if err != nil {
			return err
		}
		for _, event := range slices.Backward(fresh) {
			if len(names) > 0 && !slices.Contains(names, eventName(event)) {
				continue
			}
			if err := take(event); err != nil {
				return err
			}
		}
		if err := pause(ctx, listenInterval); err != nil {
			return err
		}
	}
}

// unseen reads the events that are not in seen and adds them to it. Until tail has begun, it
// returns none.
func (a *app) unseen(
	ctx context.Context, client *ricloud.Client, since time.Time, seen map[ricloud.ID]bool, begun bool,
) ([]object, error) {
	var fresh []object
	known := 0
	for event, err := range a.items(
		ctx, client, resourceNamed("events"), url.Values{"limit": {"100"}},
	) {
		if err != nil {
			return nil, err
		}
		made, _ := time.Parse(time.RFC3339, show(event["date_created"]))
		if made.Before(since) {
			break
		}
		if seen[event.id()] {
			if known++; known > 100 {
				break
			}
			continue
		}
		seen[event.id()] = true
		if !begun {
			if len(seen) >= 100 {
				break
			}
			continue
		}
		fresh = append(fresh, event)
	}
	return fresh, nil
}

func (a *app) listenCommand() *cobra.Command {
	var f forwarding
	var names []string
	var since string
	var once bool
	cmd := &cobra.Command{
		Use: "listen", Short: "Receive events on this machine, without a tunnel",
		Long: `Receive events on this machine. The API's record of events is read, so that nothing on the
internet needs to reach this machine. With --forward-to, each event is signed as the API signs it
and posted to URL/EVENT-ID, and the receiver's answer is shown.`,
		Example: `  ricloud listen
  ricloud listen --forward-to http://127.0.0.1:8080/webhooks --events poll.completed`,
		Args: cobra.NoArgs,
	}
	f.flags(cmd, "post each event to this `URL`")
	cmd.Flags().StringSliceVar(&names, "events", nil, "only events with these `names`")
	cmd.Flags().StringVar(&since, "since", "", "begin with the events after this `moment`")
	cmd.Flags().BoolVar(&once, "once", false, "end after the first event")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		ctx := cmd.Context()
		client, err := a.client()
		if err != nil {
			return err
		}
		to, err := f.open(ctx, a, client)
		if err != nil {
			return err
		}
		from, err := moment(since)
		if err != nil {
			return usageError(cmd, fmt.Errorf("--since: %w", err))
		}
		a.sayf("Listening. Ctrl-C ends it.\n")
		a.resume = "ricloud listen --since 1h"
		err = a.tail(ctx, client, from, names, func(event object) error {
			kind, item := resourceNamed("events"), any(event)
			if to != nil {
				kind, item = deliveries(), to.deliver(ctx, event)
			}
			if err := a.printItem(kind, item); err != nil {
				return err
			}
			if err := a.printer.flush(); err != nil {
				return err
			}
			if once {
				return errOnce
			}
			return nil
		})
		if err == errOnce { //nolint:errorlint // our own, never wrapped
			return nil
		}
		return err
	}
	return cmd
}

var errOnce = errors.New("one event was enough")
