package cli

import (
	"errors"
	"net/http"
	"strings"

	"github.com/spf13/cobra"

	ricloud "github.com/reincubate/ricloud-go"
)

func (a *app) apiCommand() *cobra.Command {
	var fields []string
	var input string
	var paginate bool
	cmd := &cobra.Command{
		Use: "api METHOD PATH", Short: "Make any request", Args: cobra.ExactArgs(2),
		Long: "Make any request to the API, for what the other commands do not cover.",
		Example: `  ricloud api GET /organisation
  ricloud api GET '/results?state=consumed' --paginate --jq .id
  ricloud api POST /users -f identifier=customer-42`,
		ValidArgsFunction: fixed(http.MethodGet, http.MethodPost, http.MethodDelete),
	}
	cmd.Flags().StringArrayVarP(&fields, "field", "f", nil,
		"a `name=value` of the body; a dotted name nests, JSON values are kept")
	cmd.Flags().StringVar(&input, "input", "",
		"read the JSON body from a `file`, or - for standard input")
	cmd.Flags().BoolVar(&paginate, "paginate", false, "follow a list to its end, one item at a time")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		method, path := strings.ToUpper(args[0]), args[1]
		if !strings.HasPrefix(path, "/") {
			path = "/" + path
		}
		body, err := a.apiBody(input, fields)
		if err != nil {
			return usageError(cmd, err)
		}
		if paginate {
			if method != http.MethodGet || body != nil {
				return usageError(cmd, errors.New("--paginate is for GET without a body"))
			}
			return a.list(cmd.Context(), &resource{one: "item", path: path}, nil, 0)
		}
		client, err := a.client()
		if err != nil {
			return err
		}
		var resp ricloud.Response
		if err := client.Call(cmd.Context(), method, path, body, nil, ricloud.WithResponse(&resp)); err !=
			nil {
			return err
		}
		return a.print(nil, []byte(resp.Body))
	}
	return cmd
}
