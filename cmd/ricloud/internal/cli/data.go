package cli

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"

	ricloud "github.com/reincubate/ricloud-go"
)

// pollQuestion is asked before each poll.
const pollQuestion = "This makes a poll, which may count against the key's limits. Make it?"

// payloadFlags adds what a poll asks for to cmd and returns what reads it.
func payloadFlags(cmd *cobra.Command) func() (ricloud.PollPayload, error) {
	var data, info, files []string
	var since, until string
	flags := cmd.Flags()
	flags.StringSliceVar(&data, "data", nil,
		"the data `types`, such as callkit.calls,ios_messages.messages")
	flags.StringSliceVar(&info, "info", nil, "the info `types`, such as icloud.account or *")
	flags.StringSliceVar(&files, "file", nil, "the `ids` of files")
	_ = cmd.RegisterFlagCompletionFunc("data", fixed(dataTypes()...))
	flags.StringVar(&since, "since", "", "only what is newer than this `moment`: a date or a time ago")
	flags.StringVar(&until, "until", "", "only what is older than this `moment`: a date or a time ago")
	return func() (ricloud.PollPayload, error) {
		from, err := moment(since)
		if err != nil {
			return ricloud.PollPayload{}, usageError(cmd, fmt.Errorf("--since: %w", err))
		}
		to, err := moment(until)
		if err != nil {
			return ricloud.PollPayload{}, usageError(cmd, fmt.Errorf("--until: %w", err))
		}
		ids := make([]ricloud.ID, len(files))
		for i, id := range files {
			ids[i] = ricloud.ID(id)
		}
		return ricloud.PollPayload{
			DataTypes: data, InfoTypes: info, Files: ids, Since: from, Until: to,
		}, nil
	}
}

// dataTypes are types for the completion of --data. The API has many more.
func dataTypes() []string {
	return []string{
		"callkit.calls", "ios_messages.messages", "photos.photos", "whatsapp.messages",
	}
}

func (a *app) pollsCreateCommand() *cobra.Command {
	var source string
	cmd := &cobra.Command{
		Use: "create SESSION", Short: "Ask for data", Args: cobra.ExactArgs(1),
		Long: "Ask for data, and show the poll. ricloud fetch does this, waits and " +
			"downloads the results.",
		Example:           "  ricloud polls create SESSION --data callkit.calls --yes",
		ValidArgsFunction: a.completeIDs("sessions"),
	}
	payload := payloadFlags(cmd)
	cmd.Flags().StringVar(&source, "source", "",
		"a source inside the session's `source`: a device or a backup")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		return a.createPoll(cmd, ricloud.PollCreateParams{
			Session: ricloud.ID(args[0]), Source: ricloud.ID(source),
		}, payload)
	}
	return cmd
}

// createPoll makes a poll for what the payload flags ask.
func (a *app) createPoll(
	cmd *cobra.Command, params ricloud.PollCreateParams,
	payload func() (ricloud.PollPayload, error),
) (err error) {
	if params.Payload, err = payload(); err != nil {
		return err
	}
	if err := a.confirm(cmd.Context(), pollQuestion); err != nil {
		return err
	}
	return create(a, "polls", func(c *ricloud.Client, o ricloud.CallOption) (*ricloud.Poll, error) {
		return c.Polls.Create(cmd.Context(), params, o)
	})
}

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
	payload := payloadFlags(add)
	add.Flags().StringVar(&source, "source", "",
		"a source inside the session's `source`: Relay needs it")
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
	now := payloadFlags(poll)
	poll.RunE = func(cmd *cobra.Command, args []string) error {
		return a.createPoll(cmd, ricloud.PollCreateParams{Subscription: ricloud.ID(args[0])}, now)
	}
	return []*cobra.Command{
		add, poll, a.waitCommand("subscriptions"), a.watchCommand("subscriptions"),
		a.deleteCommand("subscriptions"),
	}
}

func (a *app) resultsCommands() []*cobra.Command {
	ack := &cobra.Command{
		Use: "ack ID...", Short: "Acknowledge results: the API then leaves them out of its lists",
		Args: cobra.MinimumNArgs(1),
		Long: "Acknowledge results that you have saved and verified. The API then leaves " +
			"them out of its lists.",
		Example:           "  ricloud results ack ID --yes",
		ValidArgsFunction: a.completeIDs("results"),
		RunE: func(cmd *cobra.Command, args []string) error {
			question := fmt.Sprintf("Acknowledge %d results as saved?", len(args))
			if err := a.confirm(cmd.Context(), question); err != nil {
				return err
			}
			client, err := a.client()
			if err != nil {
				return err
			}
			ids := make([]ricloud.ID, len(args))
			for i, id := range args {
				ids[i] = ricloud.ID(id)
			}
			if err := client.Results.AcknowledgeAll(cmd.Context(), ids); err != nil {
				return err
			}
			return a.print(nil, map[string]any{"acknowledged": len(ids)})
		},
	}
	return []*cobra.Command{a.resultsDownloadCommand(), a.resultsVerifyCommand(), ack}
}

func (a *app) recordsCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use: "records FILE|RESULT", Short: "Print the records of a data result, one per line",
		Long: `Print the records of a data result, one per line. Give a file that was fetched,
or the id of a result, which is then read from storage and verified.

Records are evidence, so nothing in them is hidden.`,
		Example: `  ricloud records out/callkit.calls
  ricloud records RESULT --jq .address
  ricloud records out/callkit.calls -o csv > calls.csv`,
		Args:              cobra.ExactArgs(1),
		ValidArgsFunction: a.completeIDs("results"),
	}
	a.localFilesFlag(cmd)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		document, err := a.document(cmd, args[0])
		if err != nil {
			return err
		}
		defer document.Close()
		a.printer.reveal = true
		if a.output == "" {
			a.printer.format = "ndjson"
		}
		a.printer.list()
		for record, err := range ricloud.Records[json.RawMessage](bufio.NewReader(document)) {
			if err != nil {
				return err
			}
			if err := a.printItem(nil, record); err != nil {
				return err
			}
		}
		return nil
	}
	return cmd
}

// document opens a file, or a result of the API.
func (a *app) document(cmd *cobra.Command, name string) (io.ReadCloser, error) {
	f, err := os.Open(name) //nolint:gosec // the user names the file
	if err == nil {
		return f, nil
	}
	if !errors.Is(err, os.ErrNotExist) || strings.ContainsAny(name, "/\\") {
		return nil, err
	}
	client, err := a.client()
	if err != nil {
		return nil, err
	}
	result, err := client.Results.Get(cmd.Context(), ricloud.ID(name))
	if err != nil {
		return nil, fmt.Errorf("%s is neither a file nor a result: %w", name, err)
	}
	return client.Results.Open(cmd.Context(), result)
}

func (a *app) eventsCommands() []*cobra.Command {
	return []*cobra.Command{a.eventsTailCommand(), a.eventsResendCommand(), a.eventsReplayCommand()}
}
