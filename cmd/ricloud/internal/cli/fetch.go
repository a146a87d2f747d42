package cli

import (
	"context"
	"crypto/md5" //nolint:gosec // the API publishes MD5
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

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
not fetched again.

The folder is a BagIt bag (RFC 8493): the files are in data, with manifests of their
hashes and a log of what was done. ricloud results verify FOLDER checks it, without a
request.

The sandbox's accounts have callkit.calls, ios_messages.messages, whatsapp.messages and
photos.photos; --files adds the files that messages and photos refer to.`,
		Example: `  ricloud fetch SESSION --data callkit.calls,ios_messages.messages --dir out
  ricloud fetch SESSION --data ios_messages.messages,photos.photos --files --ack --yes
  ricloud fetch SESSION --data callkit.calls --since 2026-01-01 --yes
  ricloud fetch --poll POLL --dir out`,
		Args:              cobra.MaximumNArgs(1),
		ValidArgsFunction: a.completeIDs("sessions"),
	}
	payload := payloadFlags(cmd)
	cmd.Flags().StringVar(&f.dir, "dir", "", "the `folder` to save to; ricloud-POLL by default")
	cmd.Flags().StringVar(&f.poll, "poll", "", "go on with this `poll` instead of making one")
	cmd.Flags().BoolVar(&f.withFiles, "files", false, "fetch the files that records refer to, too")
	cmd.Flags().BoolVar(&f.bare, "no-manifest", false,
		"save the files alone, without manifests and log")
	cmd.Flags().BoolVar(&f.ack, "ack", false, "acknowledge what was saved and verified")
	_ = cmd.RegisterFlagCompletionFunc("poll", a.completeIDs("polls"))
	a.localFilesFlag(cmd)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if (f.poll == "") == (len(args) == 0) {
			return usageError(cmd, errors.New("name a SESSION to poll, or a poll with --poll"))
		}
		client, err := a.client()
		if err != nil {
			return err
		}
		id := ricloud.ID(f.poll)
		if id == "" {
			if id, err = a.pollToFetch(cmd, client, ricloud.ID(args[0]), payload); err != nil {
				return err
			}
		}
		if f.dir == "" {
			f.dir = "ricloud-" + string(id)
		}
		a.resume = again(cmd, nil, "data", "info", "file", "since", "until", "poll", "dir", "no-wait") +
			" --poll " + string(id) + " --dir " + shellQuote(f.dir)
		if a.noWait {
			a.next(a.resume)
			return a.print(nil, map[string]any{"id": id, "dir": f.dir})
		}
		return a.fetch(cmd.Context(), client, id, f)
	}
	return cmd
}

// pollToFetch makes the poll that is fetched.
func (a *app) pollToFetch(
	cmd *cobra.Command, client *ricloud.Client, session ricloud.ID,
	payload func() (ricloud.PollPayload, error),
) (ricloud.ID, error) {
	what, err := payload()
	if err != nil {
		return "", err
	}
	if err := a.confirm(cmd.Context(), pollQuestion); err != nil {
		return "", err
	}
	// An interrupted request may have made the poll.
	a.resume = a.command("polls", "list", "--session", string(session)) + " shows whether the poll " +
		"was made; then " + a.command("fetch", "--poll", "POLL") + ", or this command again"
	poll, err := client.Polls.Create(cmd.Context(),
		ricloud.PollCreateParams{Session: session, Payload: what})
	if err != nil {
		return "", err
	}
	return poll.ID, nil
}

func files() *resource {
	return &resource{columns: []column{
		field("id"), field("identifier"), field("size"), field("path"), field("acknowledged"),
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
	bars := a.bars("waiting for the results of poll " + string(id))
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
		if err := a.printItem(files(), item); err != nil {
			return err
		}
	}
	if err := errors.Join(err, a.flush()); err != nil {
		return err
	}
	a.sayf("%d files are in %s, verified\n", len(saved), f.dir)
	if len(saved) == 0 {
		a.sayf("the poll has no results: see why with: %s\n",
			a.command("tasks", "list", "--poll", string(id)))
		return nil
	}
	a.sayf("next: %s\n", shellLine([]string{"ricloud", "records", saved[0].Path}))
	return nil
}

func (a *app) resultsDownloadCommand() *cobra.Command {
	var dir string
	cmd := &cobra.Command{
		Use: "download ID...", Short: "Download results and verify them", Args: cobra.MinimumNArgs(1),
		Example:           "  ricloud results download ID --dir out",
		ValidArgsFunction: a.completeIDs("results"),
	}
	cmd.Flags().StringVar(&dir, "dir", ".", "the `folder` to save to")
	a.localFilesFlag(cmd)
	cmd.RunE = func(cmd *cobra.Command, ids []string) error {
		client, err := a.client()
		if err != nil {
			return err
		}
		if err := os.MkdirAll(dir, 0o700); err != nil {
			return err
		}
		a.printer.list()
		for _, id := range ids {
			result, err := client.Results.Get(cmd.Context(), ricloud.ID(id))
			if err != nil {
				return err
			}
			bars := a.bars("")
			saved, err := client.Results.Save(cmd.Context(), result, dir,
				ricloud.WithProgress(bars.progress))
			bars.stop()
			if err != nil {
				return err
			}
			item := map[string]any{
				"id": result.ID, "identifier": result.Identifier, "size": result.Size, "path": saved.Path,
				"checksum": saved.MD5,
			}
			if err := a.printItem(files(), item); err != nil {
				return err
			}
		}
		return nil
	}
	return cmd
}

func (a *app) resultsVerifyCommand() *cobra.Command {
	var poll string
	cmd := &cobra.Command{
		Use: "verify DIR", Short: "Hash the files of a folder again and compare them with the manifests",
		Args: cobra.ExactArgs(1),
		Long: `Hash the files of a folder again and compare them with the folder's own
manifests and log, without a request. With --poll, compare them with the size and checksum
that the API published, too: that suits folders without manifests. The exit code is 8
where a file differs or is missing.`,
		Example: "  ricloud results verify out\n  ricloud results verify out --poll POLL",
	}
	cmd.Flags().StringVar(&poll, "poll", "", "compare with the results of this `poll`, too")
	_ = cmd.RegisterFlagCompletionFunc("poll", a.completeIDs("polls"))
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		_, err := os.Stat(filepath.Join(args[0], "bagit.txt"))
		if poll == "" || err == nil {
			if err := a.verifyFolder(cmd.Context(), args[0]); err != nil {
				return err
			}
		}
		if poll == "" {
			return nil
		}
		return a.verifyWithAPI(cmd.Context(), args[0], ricloud.ID(poll))
	}
	return cmd
}

func verified() *resource {
	return &resource{columns: []column{field("id"), field("path"), field("state"), field("found")}}
}

// verifyWithAPI compares a folder with what the API published.
func (a *app) verifyWithAPI(ctx context.Context, dir string, poll ricloud.ID) error {
	client, err := a.client()
	if err != nil {
		return err
	}
	if _, err := os.Stat(filepath.Join(dir, "bagit.txt")); err == nil {
		dir = filepath.Join(dir, "data")
	}
	a.printer.list()
	bad := 0
	for result, err := range client.Polls.Results(ctx, poll) {
		if err != nil {
			return err
		}
		path := filepath.Join(dir, ricloud.FileName(result.DataType()))
		state, found := verifyFile(path, result)
		if state != "verified" {
			bad++
		}
		item := map[string]any{"id": result.ID, "path": path, "state": state, "found": found}
		if err := a.printItem(verified(), item); err != nil {
			return err
		}
	}
	if bad > 0 {
		return fmt.Errorf("%w: %d files differ from what the API published", errVerification, bad)
	}
	return nil
}

// verifyFolder compares a folder with its own manifests.
func (a *app) verifyFolder(ctx context.Context, dir string) error {
	if err := ricloud.VerifyFolder(ctx, dir); err != nil {
		if _, differs := errors.AsType[*ricloud.FolderError](err); differs {
			return fmt.Errorf("%w: %w", errVerification, err)
		}
		return err
	}
	return a.printItem(verified(), map[string]any{"path": dir, "state": "verified"})
}

// verifyFile compares a file with what the API published.
func verifyFile(path string, result *ricloud.Result) (state, found string) {
	f, err := os.Open(path) //nolint:gosec // the user names the folder
	if err != nil {
		return "missing", ""
	}
	defer f.Close()   //nolint:errcheck // only read
	hash := md5.New() //nolint:gosec // the API publishes MD5
	size, err := io.Copy(hash, f)
	sum := hex.EncodeToString(hash.Sum(nil))
	switch {
	case err != nil:
		return "failed", oneLine(err.Error())
	case size != result.Size:
		return "differs", fmt.Sprintf("%d bytes instead of %d", size, result.Size)
	case result.Checksum != "" && !strings.EqualFold(sum, result.Checksum):
		return "differs", "MD5 " + sum
	}
	return "verified", ""
}
