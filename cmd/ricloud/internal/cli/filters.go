package cli

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/url"
	"strings"

	"github.com/spf13/cobra"

	ricloud "github.com/reincubate/ricloud-go"
)

// filter is a query parameter of a list, as a flag.
type filter struct {
	flag  string
	param string // "" is the flag's name
	usage string
	of    string   // the resource whose ids the flag takes, for completion
	words []string // what the flag takes; empty: anything
}

// filterFlags adds the resource's filters to cmd and returns what reads them.
func (r *resource) filterFlags(a *app, cmd *cobra.Command) func() url.Values {
	values := make([]*string, len(r.filters))
	for i, f := range r.filters {
		if len(f.words) > 0 {
			values[i] = new(string)
			c := &choice{values[i], f.words, fmt.Sprintf("; --filter %s=WORD sends any other word",
				cmp.Or(f.param, f.flag))}
			c.add(cmd, cmd.Flags(), f.flag, "", f.usage)
			continue
		}
		values[i] = cmd.Flags().String(f.flag, "", f.usage)
		if f.of != "" {
			_ = cmd.RegisterFlagCompletionFunc(f.flag, a.completeIDs(f.of))
		}
	}
	extra := parameters{}
	cmd.Flags().Var(extra, "filter", "any query parameter of the list, as `name=value`, and any word "+
		"that another flag does not take")
	return func() url.Values {
		query := url.Values{}
		for i, f := range r.filters {
			if *values[i] != "" {
				query.Set(cmp.Or(f.param, f.flag), *values[i])
			}
		}
		for name, values := range extra {
			query[name] = append(query[name], values...)
		}
		return query
	}
}

// parameters is a flag that takes query parameters, one at a time.
type parameters url.Values

func (p parameters) String() string { return "" }

// Set takes one "name=value".
func (p parameters) Set(pair string) error {
	name, value, ok := strings.Cut(pair, "=")
	if !ok || name == "" {
		return errors.New("must be name=value")
	}
	url.Values(p).Add(name, value)
	return nil
}

// Type is the word for a value in the help.
func (p parameters) Type() string { return "name=value" }

// accountParam stands for the identifier of a source, which the API's lists of sessions do not
// take.
const accountParam = " account"

// resolveAccount replaces the identifier of a source by its id.
func (a *app) resolveAccount(ctx context.Context, client *ricloud.Client, query url.Values) error {
	account := query.Get(accountParam)
	query.Del(accountParam)
	if account == "" {
		return nil
	}
	for source, err := range client.Sources.All(ctx, ricloud.SourceListParams{Identifier: account}) {
		if err != nil {
			return err
		}
		query.Set("source", string(source.ID))
		return nil
	}
	return fmt.Errorf("%w: there is no source named %s", ricloud.ErrNotFound, account)
}
