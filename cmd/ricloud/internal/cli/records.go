package cli

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/spf13/cobra"

	ricloud "github.com/reincubate/ricloud-go"
)

func (a *app) recordsCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use: "records FILE|RESULT", Short: "Print the records of a data result, one per line",
		Long: `Print the records of a data result, one per line. Give a file that was fetched,
or the id of a result, which is then read from storage and verified.

Records are evidence, so nothing in them is hidden.`,
		Example: `  ricloud records out/data/callkit.calls
  ricloud records RESULT --jq .address
  ricloud records out/data/callkit.calls -o csv > calls.csv`,
		Args:              cobra.ExactArgs(1),
		ValidArgsFunction: a.completeIDs("results"),
	}
	a.localFilesFlag(cmd)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		a.resume = again(cmd, args)
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
