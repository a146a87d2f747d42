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

func (a *app) fetchCommand() *cobra.Command {
	var dir, poll string
	var withFiles, ack, bare bool
	cmd := &cobra.Command{
		Use:   "fetch SESSION --data TYPES",
		Short: "Fetch an account's data into a folder of verified files",
		Long: `Fetch an account's data: poll it, wait, download each result and verify it
against the size and checksum that the API published. What a connection broke off is
resumed. Run the printed command to go on after an interruption: what is in the folder is
not fetched again.

The folder is a BagIt bag (RFC 8493): the files are in data, with manifests of their
hashes and a log of what was done. ricloud results verify FOLDER checks it, without a
request.`,
		Example: `  ricloud fetch SESSION --data callkit.calls,ios_messages.messages --dir out
  ricloud fetch SESSION --data ios_messages.messages --files --ack --yes
  ricloud fetch --poll POLL --dir out`,
		Args:              cobra.MaximumNArgs(1),
		ValidArgsFunction: a.completeIDs("sessions"),
	}
	payload := payloadFlags(cmd)
	cmd.Flags().StringVar(&dir, "dir", "", "the `folder` to save to; ricloud-POLL by default")
	cmd.Flags().StringVar(&poll, "poll", "", "go on with this `poll` instead of making one")
	cmd.Flags().BoolVar(&withFiles, "files", false, "fetch the files that records refer to, too")
	cmd.Flags().BoolVar(&bare, "no-manifest", false, "save the files alone, without manifests and log")
	cmd.Flags().BoolVar(&ack, "ack", false, "acknowledge what was saved and verified")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if (poll == "") == (len(args) == 0) {
			return usageError(cmd, errors.New("name a SESSION to poll, or a poll with --poll"))
		}
		ctx := cmd.Context()
		client, err := a.client()
		if err != nil {
			return err
		}
		id := ricloud.ID(poll)
		if id == "" {
			what, err := payload()
			if err != nil {
				return err
			}
			if err := a.confirm(
				ctx, "This makes a poll, which may count against the key's limits. Make it?",
			); err != nil {
				return err
			}
			made, err := client.Polls.Create(ctx,
				ricloud.PollCreateParams{Session: ricloud.ID(args[0]), Payload: what})
			if err != nil {
				return err
			}
			id = made.ID
		}
		if dir == "" {
			dir = "ricloud-" + string(id)
		}
		a.resume = fetchAgain(id, dir, withFiles, ack, bare)
		if a.noWait {
			a.next(a.resume)
			return a.print(nil, map[string]any{"id": id, "dir": dir})
		}
		return a.fetch(cmd, client, id, dir, withFiles, ack, bare)
	}
	return cmd
}

// fetchAgain is the command that continues a fetch.
func fetchAgain(poll ricloud.ID, dir string, withFiles, ack, bare bool) string {
	command := fmt.Sprintf("ricloud fetch --poll %s --dir %s", poll, shellQuote(dir))
	if withFiles {
		command += " --files"
	}
	if ack {
		command += " --ack"
	}
	if bare {
		command += " --no-manifest"
	}
	return command
}

// shellQuote writes a word as a POSIX shell reads it.
func shellQuote(s string) string {
	if strings.Trim(s, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_./~") == "" &&
		s != "" {
		return s
	}
	return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'"
}

func files() *resource {
	return &resource{columns: []column{
		field("id"), field("identifier"), field("size"), field("path"), field("acknowledged"),
	}}
}

func (a *app) fetch(
	cmd *cobra.Command, client *ricloud.Client, id ricloud.ID, dir string, withFiles, ack, bare bool,
) error {
	ctx := cmd.Context()
	poll, err := client.Polls.Get(ctx, id)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	var calls []ricloud.CallOption
	if withFiles {
		calls = append(calls, ricloud.WithFiles())
	}
	bars := a.bars()
	opts := []ricloud.SaveAllOption{ricloud.WithProgress(bars.progress)}
	if ack {
		opts = append(opts, ricloud.WithAcknowledge())
	}
	if !bare {
		opts = append(opts, ricloud.WithManifest(poll))
	}
	saved, err := client.Results.SaveAll(ctx, client.Polls.Results(ctx, id, calls...), dir, opts...)
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
	if err != nil {
		return err
	}
	a.sayf("%d files are in %s, verified\n", len(saved), dir)
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
			bars := a.bars()
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
that the API published instead: that suits folders without manifests. The exit code is 8
where a file differs or is missing.`,
		Example: "  ricloud results verify out\n  ricloud results verify out --poll POLL",
	}
	cmd.Flags().StringVar(&poll, "poll", "", "compare with the results of this `poll`")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if poll == "" {
			return a.verifyFolder(cmd.Context(), args[0])
		}
		client, err := a.client()
		if err != nil {
			return err
		}
		columns := &resource{
			columns: []column{field("id"), field("path"), field("state"), field("found")},
		}
		a.printer.list()
		bad := 0
		for result, err := range client.Polls.Results(cmd.Context(), ricloud.ID(poll)) {
			if err != nil {
				return err
			}
			path := filepath.Join(args[0], ricloud.FileName(result.DataType()))
			if _, err := os.Stat(filepath.Join(args[0], "bagit.txt")); err == nil {
				path = filepath.Join(args[0], "data", ricloud.FileName(result.DataType()))
			}
			state, found := verifyFile(path, result)
			if state != "verified" {
				bad++
			}
			item := map[string]any{"id": result.ID, "path": path, "state": state, "found": found}
			if err := a.printItem(columns, item); err != nil {
				return err
			}
		}
		if bad > 0 {
			return fmt.Errorf("%w: %d files differ from what the API published", errVerification, bad)
		}
		return nil
	}
	return cmd
}

// verifyFolder compares a folder with its own manifests.
func (a *app) verifyFolder(ctx context.Context, dir string) error {
	if err := ricloud.VerifyFolder(ctx, dir); err != nil {
		if _, differs := errors.AsType[*ricloud.FolderError](err); differs {
			return fmt.Errorf("%w: %w", errVerification, err)
		}
		return err
	}
	return a.print(nil, map[string]any{"path": dir, "state": "verified"})
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
