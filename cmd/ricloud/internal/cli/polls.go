package cli

import (
	"context"
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	ricloud "github.com/reincubate/ricloud-go"
)

// confirmPoll asks before polls are made.
func (a *app) confirmPoll(ctx context.Context, makes, question string) error {
	return a.confirm(ctx, fmt.Sprintf("This makes %s. A poll counts against the key's limits, "+
		"if it has any: see %s. %s", makes, a.command("auth", "status"), question))
}

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
		if !from.IsZero() && !to.IsZero() && to.Before(from) {
			return ricloud.PollPayload{}, usageError(cmd, errors.New("--until must not be before --since"))
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

// required is payload for a command that cannot do without.
func required(
	cmd *cobra.Command, payload func() (ricloud.PollPayload, error),
) func() (ricloud.PollPayload, error) {
	return func() (ricloud.PollPayload, error) {
		what, err := payload()
		if err == nil && len(what.DataTypes)+len(what.InfoTypes)+len(what.Files) == 0 {
			err = usageError(cmd, errors.New("say what to ask for with --data, --info or --file, "+
				"such as --data callkit.calls"))
		}
		return what, err
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
	payload := required(cmd, payloadFlags(cmd))
	cmd.Flags().StringVar(&source, "source", "",
		"a source inside the session's `source`: a device or a backup")
	_ = cmd.RegisterFlagCompletionFunc("source", a.completeIDs("sources"))
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
	if err := a.confirmPoll(cmd.Context(), "a poll", "Make it?"); err != nil {
		return err
	}
	return create(a, "polls", func(c *ricloud.Client, o ricloud.CallOption) (*ricloud.Poll, error) {
		return c.Polls.Create(cmd.Context(), params, o)
	})
}
