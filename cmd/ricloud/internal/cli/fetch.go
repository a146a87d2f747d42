package cli

import (
	"bufio"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"

	"github.com/spf13/cobra"

	ricloud "github.com/reincubate/ricloud-go"
)

// fetching is what the fetch command was asked for.
type fetching struct {
	dir, poll            string
	withFiles, ack, bare bool
}

func (a *app) fetchCommand() *cobra.Command {
	var f fetching
	cmd := &cobra.Command{
		Use:   "fetch SESSION --data TYPES",
		Short: "Fetch an account's data into a folder of verified files",
		Long: `Fetch an account's data: poll it, wait, download each result and verify it
against the size and checksum that the API published. What a connection broke off is
resumed. Run the printed command to go on after an interruption: what is in the folder is
not fetched again, and no poll is made again.

A poll may count against the limits of the key, so fetch asks before it makes one; --yes
answers. --files makes another poll once the records are here, for the files that they refer
to: one for every 100 files.

The folder is a BagIt bag (RFC 8493): the files are in data, with manifests of their
hashes and a log of what was done. ricloud results verify FOLDER checks it, without a
request.

The sandbox's accounts have callkit.calls, ios_messages.messages, whatsapp.messages and
photos.photos; messages and photos refer to files.`,
		Example: `  ricloud fetch SESSION --data callkit.calls,ios_messages.messages --dir out
  ricloud fetch SESSION --data ios_messages.messages,photos.photos --files --ack --yes
  ricloud fetch SESSION --data callkit.calls --since 2026-01-01 --yes
  ricloud fetch --poll POLL --dir out`,
		Args:              cobra.MaximumNArgs(1),
		ValidArgsFunction: a.completeIDs("sessions"),
	}
	payload := required(cmd, payloadFlags(cmd))
	cmd.Flags().StringVar(&f.dir, "dir", "", "the `folder` to save to; ricloud-POLL by default")
	cmd.Flags().StringVar(&f.poll, "poll", "", "go on with this `poll` instead of making one")
	cmd.Flags().BoolVar(&f.withFiles, "files", false,
		"fetch the files that records refer to, too: this makes another poll")
	cmd.Flags().BoolVar(&f.bare, "no-manifest", false,
		"save the files alone, without manifests and log")
	manifest := cmd.Flags().Bool("manifest", true, "save manifests and a log with the files")
	_ = cmd.Flags().MarkHidden("manifest") // it is the default
	cmd.MarkFlagsMutuallyExclusive("manifest", "no-manifest")
	cmd.Flags().BoolVar(&f.ack, "ack", false, "acknowledge what was saved and verified")
	_ = cmd.RegisterFlagCompletionFunc("poll", a.completeIDs("polls"))
	a.localFilesFlag(cmd)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		f.bare = f.bare || !*manifest
		if (f.poll == "") == (len(args) == 0) {
			return usageError(cmd, errors.New("name a SESSION to poll, or a poll with --poll"))
		}
		client, err := a.client()
		if err != nil {
			return err
		}
		id := ricloud.ID(f.poll)
		if err := canWrite(cmp.Or(f.dir, ".")); err != nil {
			return err // before a poll is made
		}
		if id == "" {
			id, err = a.pollToFetch(cmd, client, ricloud.ID(args[0]), payload, f.withFiles)
		} else if f.withFiles {
			err = a.confirmPoll(cmd.Context(), "a poll for the files, unless it was made before",
				"Go on?")
		}
		if err != nil {
			return err
		}
		if f.dir == "" {
			f.dir = "ricloud-" + string(id)
		}
		a.look, a.halfway = "", true
		a.resume = again(cmd, nil, "data", "info", "file", "since", "until", "poll", "dir", "no-wait") +
			" --poll " + string(id) + " --dir " + shellQuote(f.dir)
		if f.withFiles && !a.yes { // the question is answered
			a.resume += " --yes"
		}
		if a.noWait {
			a.next(a.resume)
			return a.print(nil, map[string]any{"id": id, "dir": f.dir})
		}
		return a.fetch(cmd.Context(), client, id, f)
	}
	return cmd
}

// canWrite reports why nothing can be written to a folder, or to the one in which it will be made.
func canWrite(dir string) error {
	for dir != filepath.Dir(dir) {
		if _, err := os.Stat(dir); !errors.Is(err, os.ErrNotExist) {
			break
		}
		dir = filepath.Dir(dir)
	}
	f, err := os.CreateTemp(dir, ".ricloud-*")
	if err != nil {
		return err
	}
	return errors.Join(f.Close(), os.Remove(f.Name()))
}

// pollToFetch makes the poll that is fetched.
func (a *app) pollToFetch(
	cmd *cobra.Command, client *ricloud.Client, session ricloud.ID,
	payload func() (ricloud.PollPayload, error), withFiles bool,
) (ricloud.ID, error) {
	what, err := payload()
	if err != nil {
		return "", err
	}
	if _, err := client.Sessions.Get(cmd.Context(), session); err != nil {
		if errors.Is(err, ricloud.ErrNotFound) {
			err = &advised{
				fmt.Errorf("there is no session %s: %w", session, err),
				"SESSION is the id that ricloud login printed; " + a.command("sessions", "list") +
					" shows them",
			}
		}
		return "", err
	}
	makes, ask := "a poll", "Make it?"
	if withFiles {
		makes, ask = "a poll, and another for the files", "Make them?"
	}
	if err := a.confirmPoll(cmd.Context(), makes, ask); err != nil {
		return "", err
	}
	// An interrupted request may have made the poll.
	a.look = a.command("polls", "list", "--session", string(session))
	poll, err := client.Polls.Create(cmd.Context(),
		ricloud.PollCreateParams{Session: session, Payload: what})
	if err != nil {
		return "", err
	}
	return poll.ID, nil
}

// files returns the table of the files that were saved to a folder.
func files(dir string, more ...column) *resource {
	columns := []column{
		field("id").spared(1), field("identifier").cuttable(), field("size"), pathBelow(dir),
	}
	return &resource{columns: append(columns, more...)}
}

// pathBelow shows a path without the folder, which is named elsewhere.
func pathBelow(dir string) column {
	return column{title: "path", text: true, value: func(fields map[string]any) string {
		path := show(fields["path"])
		if below, err := filepath.Rel(dir, path); err == nil && dir != "" {
			return below
		}
		return path
	}}
}

func (a *app) fetch(
	ctx context.Context, client *ricloud.Client, id ricloud.ID, f fetching,
) error {
	poll, err := client.Polls.Get(ctx, id)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(f.dir, 0o700); err != nil {
		return err
	}
	var calls []ricloud.CallOption
	if f.withFiles {
		calls = append(calls, ricloud.WithFiles())
	}
	bars := a.bars("waiting for the results of poll "+string(id), payloadDir(f))
	kind := files(f.dir)
	if f.ack {
		kind = files(f.dir, field("acknowledged"))
	}
	opts := []ricloud.SaveAllOption{ricloud.WithProgress(bars.progress)}
	if f.ack {
		opts = append(opts, ricloud.WithAcknowledge())
	}
	if !f.bare {
		opts = append(opts, ricloud.WithManifest(poll))
	}
	saved, err := client.Results.SaveAll(ctx, client.Polls.Results(ctx, id, calls...), f.dir, opts...)
	bars.stop()
	a.printer.list()
	for _, s := range saved {
		item := map[string]any{
			"id": s.Result.ID, "identifier": s.Result.Identifier, "size": s.Result.Size, "path": s.Path,
			"md5": s.MD5, "sha256": s.SHA256, "acknowledged": s.Acknowledged,
		}
		if err := a.printItem(kind, item); err != nil {
			return err
		}
	}
	if err := errors.Join(err, a.flush()); err != nil {
		return err
	}
	a.sayf("%s in %s, verified\n", fileCount(len(saved), " is", " are"), f.dir)
	if len(saved) == 0 {
		a.sayf("the poll has no results: see why with: %s\n",
			a.command("tasks", "list", "--poll", string(id)))
		return nil
	}
	if path := a.firstRecords(saved); path != "" {
		a.sayf("next: %s\n", a.command("records", path))
	}
	verify := []string{"results", "verify", f.dir}
	if f.bare {
		verify = append(verify, "--poll", string(id))
	}
	a.sayf("next: %s\n", a.command(verify...))
	return nil
}

// payloadDir returns the folder of the files themselves.
func payloadDir(f fetching) string {
	if f.bare {
		return f.dir
	}
	return filepath.Join(f.dir, "data")
}

// count writes a number of things: "1 check", "2 checks".
func count(n int, one string) string {
	if n == 1 {
		return "1 " + one
	}
	return fmt.Sprintf("%d %ss", n, one)
}

// fileCount writes a number of files, and the verb that fits.
func fileCount(n int, one, many string) string {
	if n == 1 {
		return count(n, "file") + one
	}
	return count(n, "file") + many
}

// firstRecords returns the first file that has records. It says which data results have none: the
// API publishes an empty document for a data type that it does not know, too.
func (a *app) firstRecords(saved []ricloud.Saved) (path string) {
	for _, s := range saved {
		if s.Result.Type != "json" {
			continue
		}
		some, err := hasRecords(s.Path)
		if err != nil {
			continue // a document of another kind
		}
		name := s.Result.Identifier
		switch {
		case some && path == "":
			path = s.Path
		case !some && slices.Contains(dataTypes(), name):
			a.sayf("%s: 0 records\n", name)
		case !some:
			a.sayf("%s: 0 records: is it a data type of this account%s?\n", oneLine(name),
				orMean(closest(name, dataTypes())))
		}
	}
	return path
}

// orMean ends a question about a name that may be mistyped.
func orMean(name string) string {
	if name == "" {
		return ""
	}
	return ", or did you mean " + name
}

// hasRecords reports whether a document has a record.
func hasRecords(path string) (bool, error) {
	f, err := os.Open(path) //nolint:gosec // it was saved just now
	if err != nil {
		return false, err
	}
	defer f.Close() //nolint:errcheck // only read
	for _, err := range ricloud.Records[json.RawMessage](bufio.NewReader(f)) {
		return err == nil, err
	}
	return false, nil
}
