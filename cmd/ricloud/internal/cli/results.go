package cli

import (
	"bytes"
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

func (a *app) resultsCommands() []*cobra.Command {
	ack := &cobra.Command{
		Use: "ack ID...", Short: "Acknowledge results: the API then leaves them out of its lists",
		Args: cobra.MinimumNArgs(1),
		Long: "Acknowledge results that you have saved and verified. The API then leaves " +
			"them out of its lists.",
		Example:           "  ricloud results ack ID --yes",
		ValidArgsFunction: a.completeIDs("results"),
		RunE: func(cmd *cobra.Command, args []string) error {
			question := fmt.Sprintf("Acknowledge %s as saved?", count(len(args), "result"))
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
		a.resume = again(cmd, ids) // what is there is not fetched twice
		a.printer.list()
		for _, id := range ids {
			result, err := client.Results.Get(cmd.Context(), ricloud.ID(id))
			if err != nil {
				return err
			}
			bars := a.bars("", dir)
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
			if err := a.printItem(files(dir), item); err != nil {
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
if a file differs or is missing.`,
		Example: "  ricloud results verify out\n  ricloud results verify out --poll POLL",
	}
	cmd.Flags().StringVar(&poll, "poll", "", "compare with the results of this `poll`, too")
	_ = cmd.RegisterFlagCompletionFunc("poll", a.completeIDs("polls"))
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		a.resume = again(cmd, args)
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

// verified returns the table of checked files, whose names are shown without the folder.
func verified(dir string, columns ...string) *resource {
	r := &resource{}
	for _, name := range columns {
		c := field(name)
		switch name {
		case "path":
			c = pathBelow(dir)
		case "found":
			c = c.cuttable()
		}
		r.columns = append(r.columns, c)
	}
	return r
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
	var items []map[string]any
	bad, kind := 0, verified(dir, "id", "path", "state")
	for result, err := range client.Polls.Results(ctx, poll) {
		if err != nil {
			return err
		}
		path := filepath.Join(dir, ricloud.FileName(result.DataType()))
		state, found := verifyFile(path, result)
		if state != "verified" {
			bad++
			kind = verified(dir, "id", "path", "state", "found")
		}
		items = append(items,
			map[string]any{"id": result.ID, "path": path, "state": state, "found": found})
	}
	for _, item := range items {
		if err := a.printItem(kind, item); err != nil {
			return err
		}
	}
	if bad > 0 {
		return fmt.Errorf("%w: %s from what the API published", errVerification,
			fileCount(bad, " differs", " differ"))
	}
	if err := a.flush(); err != nil {
		return err
	}
	a.sayf("%s verified in %s\n", fileCount(len(items), "", ""), dir)
	return nil
}

// verifyFolder compares a folder with its own manifests.
func (a *app) verifyFolder(ctx context.Context, dir string) error {
	if _, err := os.Stat(filepath.Join(dir, "bagit.txt")); errors.Is(err, os.ErrNotExist) {
		return &advised{
			fmt.Errorf("%s is no folder with manifests, as ricloud fetch makes it", dir),
			"without manifests, compare it with what the API published: " +
				a.command("results", "verify", dir, "--poll", "POLL"),
		}
	}
	if err := ricloud.VerifyFolder(ctx, dir); err != nil {
		if _, differs := errors.AsType[*ricloud.FolderError](err); differs {
			text := strings.TrimPrefix(err.Error(), "ricloud: VerifyFolder: ")
			return &advised{
				fmt.Errorf("%w: %s", errVerification, text),
				"do not acknowledge its results; fetch them again, into another folder",
			}
		}
		return err
	}
	//nolint:gosec // the user names the folder
	manifest, err := os.ReadFile(filepath.Join(dir, "manifest-sha256.txt"))
	if err != nil {
		return err
	}
	n := bytes.Count(manifest, []byte("\n"))
	item := map[string]any{"path": dir, "files": n, "state": "verified"}
	if err := a.printItem(verified("", "path", "files", "state"), item); err != nil {
		return err
	}
	if err := a.flush(); err != nil {
		return err
	}
	a.sayf("%s verified in %s\n", fileCount(n, "", ""), dir)
	return nil
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
