package cli

import (
	"time"

	"github.com/spf13/cobra"

	ricloud "github.com/reincubate/ricloud-go"
)

func (a *app) subscriptionsCommands() []*cobra.Command {
	var source string
	var interval time.Duration
	add := &cobra.Command{
		Use: "create SESSION", Short: "Ask for data again and again", Args: cobra.ExactArgs(1),
		Long: "Ask for data at an interval. A Relay device needs a subscription before " +
			"any data can be polled.",
		Example: "  ricloud subscriptions create SESSION --source DEVICE --data " +
			"ios_messages.messages --interval 24h --yes",
		ValidArgsFunction: a.completeIDs("sessions"),
	}
	payload := required(add, payloadFlags(add))
	add.Flags().StringVar(&source, "source", "",
		"a source inside the session's `source`: Relay needs it")
	_ = add.RegisterFlagCompletionFunc("source", a.completeIDs("sources"))
	add.Flags().DurationVar(&interval, "interval", 0,
		"the `time` between polls; the API's default is 24h, its least 1h")
	add.RunE = func(cmd *cobra.Command, args []string) error {
		what, err := payload()
		if err != nil {
			return err
		}
		if err := a.confirm(cmd.Context(),
			"This makes a subscription, which polls until it is deleted. Make it?"); err != nil {
			return err
		}
		params := ricloud.SubscriptionCreateParams{
			Session: ricloud.ID(args[0]), Source: ricloud.ID(source), PollPayload: what, Interval: interval,
		}
		return create(a, "subscriptions",
			func(c *ricloud.Client, o ricloud.CallOption) (*ricloud.Subscription, error) {
				return c.Subscriptions.Create(cmd.Context(), params, o)
			})
	}
	poll := &cobra.Command{
		Use: "poll SUBSCRIPTION", Short: "Poll a subscription now", Args: cobra.ExactArgs(1),
		Example:           "  ricloud subscriptions poll ID --data ios_messages.messages --yes",
		ValidArgsFunction: a.completeIDs("subscriptions"),
	}
	now := required(poll, payloadFlags(poll))
	poll.RunE = func(cmd *cobra.Command, args []string) error {
		return a.createPoll(cmd, ricloud.PollCreateParams{Subscription: ricloud.ID(args[0])}, now)
	}
	return []*cobra.Command{
		add, poll, a.waitCommand("subscriptions"), a.watchCommand("subscriptions"),
		a.deleteCommand("subscriptions"),
	}
}
