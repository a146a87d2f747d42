package cli

import (
	"context"
	"iter"
	"net/http"
	"net/url"
	"time"

	"github.com/spf13/cobra"

	ricloud "github.com/reincubate/ricloud-go"
)

func now() time.Time { return time.Now() }

// items iterates over a list as the API sends it, page by page.
func (a *app) items(
	ctx context.Context, client *ricloud.Client, r *resource, query url.Values,
) iter.Seq2[object, error] {
	return func(yield func(object, error) bool) {
		path := r.path
		if len(query) > 0 {
			path += "?" + query.Encode()
		}
		var page ricloud.List[object]
		if err := client.Call(ctx, http.MethodGet, path, nil, &page); err != nil {
			yield(nil, err)
			return
		}
		page.URL = path
		for item, err := range page.All(ctx, client) {
			if err != nil {
				yield(nil, err)
				return
			}
			if !yield(*item, nil) {
				return
			}
		}
	}
}

// completeIDs completes ids from the API, each with its name and state.
func (a *app) completeIDs(name string) cobra.CompletionFunc {
	return func(cmd *cobra.Command, _ []string, _ string) ([]string, cobra.ShellCompDirective) {
		return a.complete(cmd, name, "id")
	}
}

// complete completes a field of resources from the API.
func (a *app) complete(
	cmd *cobra.Command, name, key string,
) ([]string, cobra.ShellCompDirective) {
	ctx, cancel := context.WithTimeout(cmd.Context(), 3*time.Second)
	defer cancel()
	client, err := a.client()
	if err != nil {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	var found []string
	for item, err := range a.items(ctx, client, resourceNamed(name), url.Values{"limit": {"50"}}) {
		if err != nil || len(found) == 50 {
			break
		}
		about := show(item["identifier"]) + " " + show(item["state"])
		found = append(found, oneLine(show(item[key]))+"\t"+oneLine(about))
	}
	return found, cobra.ShellCompDirectiveNoFileComp
}

// completeUsers completes the identifiers of users as the first argument.
func (a *app) completeUsers(
	cmd *cobra.Command, args []string, _ string,
) ([]string, cobra.ShellCompDirective) {
	if len(args) > 0 {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	return a.complete(cmd, "users", "identifier")
}

// fixed completes from a fixed set of words.
func fixed(words ...string) cobra.CompletionFunc {
	return func(*cobra.Command, []string, string) ([]string, cobra.ShellCompDirective) {
		return words, cobra.ShellCompDirectiveNoFileComp
	}
}
