package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	ricloud "github.com/reincubate/ricloud-go"
)

// resource describes one kind of resource: how it is shown and what its list can be filtered by.
type resource struct {
	name    string // of the command, a plural: "sessions"
	one     string // "session"
	path    string // of its list: "/sessions"
	columns []column
	filters []filter
}

// object is a resource as it came: any field the API sends is kept.
type object map[string]any

func field(title string, path ...string) column {
	if len(path) == 0 {
		path = []string{title}
	}
	return column{title: title, value: func(fields map[string]any) string {
		var v any = fields
		for _, name := range path {
			m, ok := v.(map[string]any)
			if !ok {
				return show(v)
			}
			v = m[name]
		}
		return show(v)
	}}
}

func when(title, name string) column {
	return column{title: title, least: len("59s ago"), value: func(fields map[string]any) string {
		return age(fields[name], now())
	}}
}

// countOf shows how many items a nested list holds.
func countOf(title, name string) column {
	return column{title: title, value: func(fields map[string]any) string {
		switch v := fields[name].(type) {
		case []any:
			return strconv.Itoa(len(v))
		case map[string]any:
			if data, ok := v["data"].([]any); ok {
				return strconv.Itoa(len(data))
			}
			return strconv.Itoa(len(v))
		}
		return ""
	}}
}

func created() column { return when("created", "date_created") }

// tasksDone shows a poll's progress as "3/5".
func tasksDone(fields map[string]any) string {
	done, all := 0, 0
	for name, v := range fields {
		ids, ok := v.([]any)
		if !ok || !strings.HasPrefix(name, "tasks_") {
			continue
		}
		all += len(ids)
		if name == "tasks_succeeded" || name == "tasks_failed" || name == "tasks_completed" {
			done += len(ids)
		}
	}
	return fmt.Sprintf("%d/%d", done, all)
}

// eventColumn shows the name of an event.
func eventColumn(title string) column {
	return column{title: title, least: len(ricloud.EventSessionExpired), value: eventName}
}

// eventState shows the state of an event, which can change in a list that goes on.
func eventState() column {
	c := field("state")
	c.least = len(ricloud.EventDelivered)
	return c
}

// eventName returns the name of an event, or of a delivery, which has it as a field.
func eventName(fields map[string]any) string {
	if name := show(fields["name"]); name != "" {
		return name
	}
	return show(fields["type"]) + "." + show(fields["action"])
}

// resources lists every kind. The order is that of an account's way through the API.
func resources() []*resource {
	return []*resource{
		{
			name: "org", one: "organisation", path: "/organisation",
			columns: []column{field("id"), field("name").cuttable(), field("state"), created()},
		},
		{
			name: "keys", one: "key", path: "/keys",
			columns: []column{
				field("id"), field("type"), field("state"),
				field("storage", "storage_config").spared(2), field("webhook", "webhook_config").spared(3),
				when("expires", "date_expires"), created().spared(4),
			},
		},
		{
			name: "permissions", one: "permissions", path: "/permissions",
			columns: []column{
				field("id"), field("identifier").cuttable(), countOf("scopes", "scopes"), created(),
			},
		},
		{
			name: "users", one: "user", path: "/users",
			columns: []column{field("id"), field("identifier").cuttable(), field("state"), created()},
		},
		{
			name: "sources", one: "source", path: "/sources",
			columns: []column{
				field("id"), field("user").spared(3), field("type").spared(1),
				field("identifier").cuttable(), field("state"),
				countOf("children", "children").spared(4), created().spared(2),
			},
			filters: []filter{
				{flag: "user", usage: "only the sources of this `user`", of: "users"},
				{flag: "identifier", usage: "only the source with this `identifier`"},
			},
		},
		{
			name: "sessions", one: "session", path: "/sessions",
			columns: []column{
				field("id"), field("user").spared(2), field("source", "source", "id").spared(1),
				field("state"), field("error").cuttable(), created(),
			},
			filters: []filter{
				{flag: "source", usage: "only the sessions of this `source`", of: "sources"},
				{
					flag: "account", param: accountParam,
					usage: "only the sessions of the source with this `identifier`",
				},
				{
					flag: "state", usage: "only the sessions in this `state`",
					words: texts(ricloud.SessionPending, ricloud.SessionActive, ricloud.SessionFailed,
						ricloud.SessionExpired),
				},
			},
		},
		{
			name: "polls", one: "poll", path: "/polls",
			columns: []column{
				field("id"), field("session").spared(3), field("source").spared(2), field("state"),
				{title: "tasks", value: tasksDone},
				countOf("results", "results").spared(1), created(),
			},
			filters: []filter{
				{flag: "session", usage: "only the polls of this `session`", of: "sessions"},
				{
					flag: "subscription", usage: "only the polls of this `subscription`",
					of: "subscriptions",
				},
				{
					flag: "requestor", usage: "only the polls of this `requestor`",
					words: []string{"subscription"},
				},
				{flag: "source", usage: "only the polls of this `source`", of: "sources"},
				{
					flag: "state", usage: "only the polls in this `state`",
					words: texts(ricloud.PollPending, ricloud.PollProcessing, ricloud.PollCompleted,
						ricloud.PollFailed),
				},
			},
		},
		{
			name: "tasks", one: "task", path: "/tasks",
			columns: []column{
				field("id"), field("type").spared(1), field("target").cuttable(), field("state"),
				field("error").cuttable(), field("poll").spared(3), created().spared(2),
			},
			filters: []filter{
				{flag: "poll", usage: "only the tasks of this `poll`", of: "polls"},
				{
					flag: "source-type", param: "source_type", usage: "only the tasks of this `type` of source",
					words: sourceTypes(),
				},
			},
		},
		{
			name: "results", one: "result", path: "/results",
			columns: []column{
				field("id"), field("identifier").cuttable(), field("type").spared(2), field("size"),
				field("state"), field("poll").spared(3), created().spared(1),
			},
			filters: []filter{
				{flag: "poll", usage: "only the results of this `poll`", of: "polls"},
				{flag: "task", usage: "only the results of this `task`", of: "tasks"},
				{
					flag:  "state",
					usage: "only the results in this `state`, by default all but the consumed",
					words: texts(ricloud.ResultAvailable, ricloud.ResultConsumed, ricloud.ResultExpired),
				},
			},
		},
		{
			name: "subscriptions", one: "subscription", path: "/subscriptions",
			columns: []column{
				field("id"), field("session").spared(3), field("source").spared(2), field("state"),
				field("interval"), created().spared(1),
			},
		},
		{
			name: "events", one: "event", path: "/events",
			columns: []column{
				field("id"),
				eventColumn("name"),
				field("about", "data", "id").spared(3), eventState(),
				field("retries").spared(2), created().spared(1),
			},
			filters: []filter{
				{
					flag: "type", usage: "only the events about this `type` of resource",
					words: halves(false),
				},
				{flag: "action", usage: "only the events of this `action`", words: halves(true)},
				{
					flag: "state", usage: "only the events in this `state`",
					words: texts(ricloud.EventPending, ricloud.EventDelivered, ricloud.EventFailed),
				},
			},
		},
		{
			name: "storage", one: "storage config", path: "/configs/storage",
			columns: []column{
				field("id"), field("type"), field("url").cuttable(), field("state"), created().spared(1),
			},
		},
		{
			name: "webhooks", one: "webhook config", path: "/configs/webhook",
			columns: []column{field("id"), field("url").cuttable(), field("state"), created().spared(1)},
		},
	}
}

// resourceNamed returns a resource by its command's name.
func resourceNamed(name string) *resource {
	for _, r := range resources() {
		if r.name == name {
			return r
		}
	}
	return nil
}

// resourceCommands returns one command per resource, with what every resource has and its own.
func (a *app) resourceCommands() []*cobra.Command {
	own := a.ownCommands()
	var commands []*cobra.Command
	for _, r := range resources() {
		cmd := &cobra.Command{
			Use:     r.name,
			Aliases: aliases(r),
			Short:   "Work with " + plural(r),
			Args:    cobra.NoArgs,
			RunE:    func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
		}
		if r.name == "org" {
			cmd.AddCommand(a.orgGetCommand(r))
		} else {
			cmd.AddCommand(a.listCommand(r), a.latestCommand(r), a.getCommand(r))
		}
		cmd.AddCommand(own[r.name]...)
		commands = append(commands, cmd)
	}
	return commands
}

// aliases lets a resource be named in the singular.
func aliases(r *resource) []string {
	switch r.name {
	case "org":
		return []string{"organisation"}
	case "permissions", "storage":
		return nil
	}
	return []string{strings.TrimSuffix(r.name, "s")}
}

func plural(r *resource) string {
	switch r.name {
	case "org":
		return "the organisation"
	case "permissions":
		return "permissions"
	}
	return r.one + "s"
}

func (a *app) getCommand(r *resource) *cobra.Command {
	return &cobra.Command{
		Use: "get ID...", Short: "Show " + r.one + " by id", Args: cobra.MinimumNArgs(1),
		Example:           fmt.Sprintf("  ricloud %[1]s get ID\n  ricloud %[1]s get ID -o json", r.name),
		ValidArgsFunction: a.completeIDs(r.name),
		RunE: func(cmd *cobra.Command, ids []string) error {
			for _, id := range ids {
				if err := a.one(cmd.Context(), r, http.MethodGet, r.path+"/"+url.PathEscape(id)); err != nil {
					return err
				}
			}
			return nil
		},
	}
}

// one makes a request without a body and prints the resource that it returns.
func (a *app) one(ctx context.Context, r *resource, method, path string) error {
	client, err := a.client()
	if err != nil {
		return err
	}
	var raw json.RawMessage
	if err := client.Call(ctx, method, path, nil, &raw); err != nil {
		return err
	}
	return a.print(r, raw)
}

func (a *app) listCommand(r *resource) *cobra.Command {
	var all bool
	var limit int
	cmd := &cobra.Command{
		Use: "list", Short: "List " + plural(r), Args: cobra.NoArgs,
		Example: fmt.Sprintf("  ricloud %[1]s list\n  ricloud %[1]s list --all -o ndjson --jq .id",
			r.name),
	}
	query := r.filterFlags(a, cmd)
	cmd.Flags().IntVar(&limit, "limit", 30, "the most `items` to list")
	cmd.Flags().BoolVar(&all, "all", false, "list every item")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		if limit < 1 {
			return usageError(cmd, errors.New("--limit must be at least 1"))
		}
		if all {
			limit = 0
		}
		return a.list(cmd.Context(), r, query(), limit)
	}
	return cmd
}

func (a *app) latestCommand(r *resource) *cobra.Command {
	cmd := &cobra.Command{
		Use: "latest", Short: "Show the newest " + r.one, Args: cobra.NoArgs,
		Example: fmt.Sprintf("  ricloud %s latest -o id", r.name),
	}
	query := r.filterFlags(a, cmd)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		client, err := a.client()
		if err != nil {
			return err
		}
		params := query()
		if err := a.resolveAccount(cmd.Context(), client, params); err != nil {
			return err
		}
		for item, err := range a.items(cmd.Context(), client, r, params) {
			if err != nil {
				return err
			}
			return a.print(r, item)
		}
		return fmt.Errorf("%w: there is no %s yet", ricloud.ErrNotFound, r.one)
	}
	return cmd
}

// list prints at most limit items; 0 is no limit.
func (a *app) list(ctx context.Context, r *resource, query url.Values, limit int) error {
	client, err := a.client()
	if err != nil {
		return err
	}
	if limit > 0 && query.Get("limit") == "" {
		query.Set("limit", strconv.Itoa(min(limit, 1000)))
	}
	if err := a.resolveAccount(ctx, client, query); err != nil {
		return err
	}
	a.printer.list()
	printed := 0
	for item, err := range a.items(ctx, client, r, query) {
		if err != nil {
			return err
		}
		if limit > 0 && printed == limit {
			if err := a.flush(); err != nil {
				return err
			}
			a.sayf("there are more: add --all or --limit N\n")
			return nil
		}
		if err := a.printItem(r, item); err != nil {
			return err
		}
		printed++
	}
	if printed == 0 && a.printer.format == "table" {
		a.sayf("there are no %s\n", strings.TrimPrefix(plural(r), "the "))
	}
	return nil
}
