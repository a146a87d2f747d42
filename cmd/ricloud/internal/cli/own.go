package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"iter"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"

	ricloud "github.com/reincubate/ricloud-go"
)

// ownCommands returns the verbs that only some resources have, by resource.
func (a *app) ownCommands() map[string][]*cobra.Command {
	return map[string][]*cobra.Command{
		"org": {a.orgUpdateCommand()},
		"keys": {
			a.keysCurrentCommand(), a.keysCreateCommand(), a.keysUpdateCommand(),
			a.keysRotateCommand(),
		},
		"permissions": {a.permissionsCreateCommand(), a.permissionsUpdateCommand()},
		"users":       {a.usersCreateCommand(), a.usersUpdateCommand()},
		"sources":     {a.sourcesUpdateCommand(), a.sourcesChildrenCommand()},
		"sessions": {
			a.waitCommand("sessions"), a.watchCommand("sessions"),
			a.deleteCommand("sessions"),
		},
		"polls":         {a.pollsCreateCommand(), a.waitCommand("polls"), a.watchCommand("polls")},
		"tasks":         {a.waitCommand("tasks"), a.watchCommand("tasks")},
		"results":       a.resultsCommands(),
		"subscriptions": a.subscriptionsCommands(),
		"events":        a.eventsCommands(),
		"storage":       a.storageCommands(),
		"webhooks":      a.webhooksCommands(),
	}
}

// create makes a call that returns a resource, and prints the answer as it came.
func create[T any](
	a *app, kind string, call func(*ricloud.Client, ricloud.CallOption) (*T, error),
) error {
	client, err := a.client()
	if err != nil {
		return err
	}
	var resp ricloud.Response
	if _, err := call(client, ricloud.WithResponse(&resp)); err != nil {
		return err
	}
	return a.print(resourceNamed(kind), []byte(resp.Body))
}

func (a *app) orgUpdateCommand() *cobra.Command {
	var name string
	var publish bool
	cmd := &cobra.Command{
		Use: "update", Short: "Change the organisation", Args: cobra.NoArgs,
		Example: "  ricloud org update --name 'Example Ltd'\n  ricloud org update --publish-source-files",
	}
	cmd.Flags().StringVar(&name, "name", "", "the new `name`")
	cmd.Flags().BoolVar(&publish, "publish-source-files", false,
		"publish the files that data refers to (Relay)")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		params := ricloud.OrganisationUpdateParams{Name: name}
		if cmd.Flags().Changed("publish-source-files") {
			params.Config = &ricloud.PublishingConfig{PublishSourceFiles: &publish}
		}
		return create(a, "org",
			func(c *ricloud.Client, o ricloud.CallOption) (*ricloud.Organisation, error) {
				return c.Organisation.Update(cmd.Context(), params, o)
			})
	}
	return cmd
}

func (a *app) keysCurrentCommand() *cobra.Command {
	return &cobra.Command{
		Use: "current", Short: "Show the key whose token is used", Args: cobra.NoArgs,
		Example: "  ricloud keys current",
		RunE: func(cmd *cobra.Command, _ []string) error {
			return a.one(cmd.Context(), resourceNamed("keys"), http.MethodGet, "/key")
		},
	}
}

// keepSecret prints an answer that holds a secret shown only once. The secret itself goes to a
// file that only its owner can read, or to standard output with --show-secrets.
func (a *app) keepSecret(kind string, body ricloud.Raw, secret ricloud.Secret, path string) error {
	if path != "" {
		if err := writePrivate(path, []byte(secret.Reveal()+"\n")); err != nil {
			return fmt.Errorf("the API has made the secret and it could not be written to %s: %w; show it "+
				"with --show-secrets", path, err)
		}
		a.sayf("the secret is in %s\n", path)
	}
	return a.print(resourceNamed(kind), []byte(body))
}

// secretTarget refuses to make a secret that nobody would see.
func (a *app) secretTarget(cmd *cobra.Command, path string) error {
	if path == "" && !a.showSecrets && !a.dryRun {
		return usageError(cmd,
			errors.New("the answer holds a secret: say where it goes, with --secret-file FILE or "+
				"--show-secrets"))
	}
	if dir := filepath.Dir(path); path != "" && !a.dryRun {
		if info, err := os.Stat(dir); err != nil || !info.IsDir() {
			return usageError(cmd, fmt.Errorf("--secret-file: there is no folder %s", dir))
		}
	}
	return nil
}

func (a *app) keysCreateCommand() *cobra.Command {
	var params ricloud.KeyCreateParams
	var file string
	cmd := &cobra.Command{
		Use: "create", Short: "Create a key", Args: cobra.NoArgs,
		Example: "  ricloud keys create --secret-file token.txt",
	}
	cmd.Flags().StringVar((*string)(&params.StorageConfig), "storage", "",
		"the key's own storage `config`")
	cmd.Flags().StringVar((*string)(&params.WebhookConfig), "webhook", "",
		"the key's own webhook `config`")
	cmd.Flags().StringVar(&file, "secret-file", "",
		"write the token to this `file`, for its owner alone")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		if err := a.secretTarget(cmd, file); err != nil {
			return err
		}
		client, err := a.client()
		if err != nil {
			return err
		}
		var resp ricloud.Response
		key, err := client.Keys.Create(cmd.Context(), params, ricloud.WithResponse(&resp))
		if err != nil {
			return err
		}
		return a.keepSecret("keys", resp.Body, key.Token, file)
	}
	return cmd
}

func (a *app) keysUpdateCommand() *cobra.Command {
	var storage, webhook string
	var publish bool
	cmd := &cobra.Command{
		Use: "update ID", Short: "Change a key", Args: cobra.ExactArgs(1),
		Example:           "  ricloud keys update ID --webhook 2",
		ValidArgsFunction: a.completeIDs("keys"),
	}
	cmd.Flags().StringVar(&storage, "storage", "",
		"the key's own storage `config`; empty for the organisation's")
	cmd.Flags().StringVar(&webhook, "webhook", "",
		"the key's own webhook `config`; empty for the organisation's")
	cmd.Flags().BoolVar(&publish, "publish-source-files", false,
		"publish the files that data refers to (Relay)")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		var params ricloud.KeyUpdateParams
		if cmd.Flags().Changed("storage") {
			params.StorageConfig = new(ricloud.ID(storage))
		}
		if cmd.Flags().Changed("webhook") {
			params.WebhookConfig = new(ricloud.ID(webhook))
		}
		if cmd.Flags().Changed("publish-source-files") {
			params.Config = &ricloud.PublishingConfig{PublishSourceFiles: &publish}
		}
		return create(a, "keys", func(c *ricloud.Client, o ricloud.CallOption) (*ricloud.Key, error) {
			return c.Keys.Update(cmd.Context(), ricloud.ID(args[0]), params, o)
		})
	}
	return cmd
}

func (a *app) keysRotateCommand() *cobra.Command {
	var file string
	cmd := &cobra.Command{
		Use: "rotate ID", Short: "Give a key a new token", Args: cobra.ExactArgs(1),
		Example:           "  ricloud keys rotate ID --secret-file token.txt",
		ValidArgsFunction: a.completeIDs("keys"),
	}
	cmd.Flags().StringVar(&file, "secret-file", "",
		"write the token to this `file`, for its owner alone")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if err := a.secretTarget(cmd, file); err != nil {
			return err
		}
		const question = "The former token may stop working at once. Rotate it?"
		if err := a.confirm(cmd.Context(), question); err != nil {
			return err
		}
		client, err := a.client()
		if err != nil {
			return err
		}
		var resp ricloud.Response
		key, err := client.Keys.Rotate(cmd.Context(), ricloud.ID(args[0]), ricloud.KeyRotateParams{},
			ricloud.WithResponse(&resp))
		if err != nil {
			return err
		}
		return a.keepSecret("keys", resp.Body, key.Token, file)
	}
	return cmd
}

// scopesFrom reads a JSON object of scopes and their limits.
func scopesFrom(path string) (map[string][]ricloud.ScopeLimit, error) {
	raw, err := os.ReadFile(path) //nolint:gosec // the user names the file
	if err != nil {
		return nil, err
	}
	var scopes map[string][]ricloud.ScopeLimit
	if err := json.Unmarshal(raw, &scopes); err != nil {
		return nil, fmt.Errorf("cannot read the scopes in %s: %w", path, err)
	}
	return scopes, nil
}

func (a *app) permissionsCreateCommand() *cobra.Command {
	var key, file string
	cmd := &cobra.Command{
		Use: "create --scopes FILE", Short: "Create permissions", Args: cobra.NoArgs,
		Example: "  echo '{\"task_type:icloud.*\": []}' > scopes.json\n  ricloud permissions create " +
			"--scopes scopes.json",
	}
	cmd.Flags().StringVar(&key, "key", "", "the `key` that they are for")
	cmd.Flags().StringVar(&file, "scopes", "", "a JSON `file`: an object of scopes and their limits")
	_ = cmd.MarkFlagRequired("scopes")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		scopes, err := scopesFrom(file)
		if err != nil {
			return err
		}
		return create(a, "permissions",
			func(c *ricloud.Client, o ricloud.CallOption) (*ricloud.Permissions, error) {
				return c.Permissions.Create(cmd.Context(),
					ricloud.PermissionsCreateParams{Key: ricloud.ID(key), Scopes: scopes}, o)
			})
	}
	return cmd
}

func (a *app) permissionsUpdateCommand() *cobra.Command {
	var file string
	cmd := &cobra.Command{
		Use: "update ID --scopes FILE", Short: "Replace the scopes of permissions",
		Args:              cobra.ExactArgs(1),
		Example:           "  ricloud permissions update ID --scopes scopes.json",
		ValidArgsFunction: a.completeIDs("permissions"),
	}
	cmd.Flags().StringVar(&file, "scopes", "", "a JSON `file`: an object of scopes and their limits")
	_ = cmd.MarkFlagRequired("scopes")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		scopes, err := scopesFrom(file)
		if err != nil {
			return err
		}
		return create(a, "permissions",
			func(c *ricloud.Client, o ricloud.CallOption) (*ricloud.Permissions, error) {
				return c.Permissions.Update(cmd.Context(), ricloud.ID(args[0]),
					ricloud.PermissionsUpdateParams{Scopes: scopes}, o)
			})
	}
	return cmd
}

func (a *app) usersCreateCommand() *cobra.Command {
	return &cobra.Command{
		Use: "create IDENTIFIER", Short: "Create a user, or return the one with this identifier",
		Args:    cobra.ExactArgs(1),
		Example: "  ricloud users create customer-42",
		RunE: func(cmd *cobra.Command, args []string) error {
			return create(a, "users", func(c *ricloud.Client, o ricloud.CallOption) (*ricloud.User, error) {
				return c.Users.Create(cmd.Context(), ricloud.UserCreateParams{Identifier: args[0]}, o)
			})
		},
	}
}

func (a *app) usersUpdateCommand() *cobra.Command {
	var identifier string
	cmd := &cobra.Command{
		Use: "update ID --identifier IDENTIFIER", Short: "Change a user", Args: cobra.ExactArgs(1),
		Example:           "  ricloud users update ID --identifier customer-43",
		ValidArgsFunction: a.completeIDs("users"),
	}
	cmd.Flags().StringVar(&identifier, "identifier", "", "the new `identifier`")
	_ = cmd.MarkFlagRequired("identifier")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		params := ricloud.UserUpdateParams{Identifier: identifier}
		return create(a, "users", func(c *ricloud.Client, o ricloud.CallOption) (*ricloud.User, error) {
			return c.Users.Update(cmd.Context(), ricloud.ID(args[0]), params, o)
		})
	}
	return cmd
}

func (a *app) sourcesUpdateCommand() *cobra.Command {
	var state string
	cmd := &cobra.Command{
		Use: "update ID --state STATE", Short: "Change the state of a source", Args: cobra.ExactArgs(1),
		Example:           "  ricloud sources update ID --state deactivated",
		ValidArgsFunction: a.completeIDs("sources"),
	}
	cmd.Flags().StringVar(&state, "state", "", "the new `state`: active or deactivated")
	_ = cmd.MarkFlagRequired("state")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		params := ricloud.SourceUpdateParams{State: ricloud.SourceState(state)}
		return create(a, "sources",
			func(c *ricloud.Client, o ricloud.CallOption) (*ricloud.Source, error) {
				return c.Sources.Update(cmd.Context(), ricloud.ID(args[0]), params, o)
			})
	}
	return cmd
}

func (a *app) sourcesChildrenCommand() *cobra.Command {
	return &cobra.Command{
		Use: "children ID", Short: "List the sources inside a source: the devices of a Relay app",
		Args:              cobra.ExactArgs(1),
		Example:           "  ricloud sources children ID",
		ValidArgsFunction: a.completeIDs("sources"),
		RunE: func(cmd *cobra.Command, args []string) error {
			children := *resourceNamed("sources")
			children.path += "/" + url.PathEscape(args[0]) + "/children"
			return a.list(cmd.Context(), &children, url.Values{}, 0)
		},
	}
}

func (a *app) deleteCommand(name string) *cobra.Command {
	r := resourceNamed(name)
	return &cobra.Command{
		Use: "delete ID...", Short: "Delete " + r.one + " by id", Args: cobra.MinimumNArgs(1),
		Example:           fmt.Sprintf("  ricloud %s delete ID --yes", name),
		ValidArgsFunction: a.completeIDs(name),
		RunE: func(cmd *cobra.Command, ids []string) error {
			if err := a.confirm(cmd.Context(), fmt.Sprintf("Delete %d %s?", len(ids), plural(r))); err !=
				nil {
				return err
			}
			for _, id := range ids {
				if err := a.one(cmd.Context(), r, http.MethodDelete, r.path+"/"+url.PathEscape(id)); err !=
					nil {
					return err
				}
			}
			return nil
		},
	}
}

// changes yields each change of a resource until it has ended, as the API sent it.
type changes func(yield func(v any, err error) bool)

// watch returns the changes of one resource of a kind that has Watch.
func watch(
	ctx context.Context, c *ricloud.Client, kind string, id ricloud.ID, opts ...ricloud.CallOption,
) changes {
	switch kind {
	case "sessions":
		return changesOf(c.Sessions.Watch(ctx, id, opts...))
	case "polls":
		return changesOf(c.Polls.Watch(ctx, id, opts...))
	case "tasks":
		return changesOf(c.Tasks.Watch(ctx, id, opts...))
	case "subscriptions":
		return changesOf(c.Subscriptions.Watch(ctx, id, opts...))
	}
	return func(func(any, error) bool) {}
}

func changesOf[T any](watched iter.Seq2[*T, error]) changes {
	return func(yield func(any, error) bool) {
		for v, err := range watched {
			if !yield(orNil(v), err) {
				return
			}
		}
	}
}

func orNil[T any](v *T) any {
	if v == nil {
		return nil
	}
	return v
}

func (a *app) waitCommand(name string) *cobra.Command {
	r := resourceNamed(name)
	return &cobra.Command{
		Use: "wait ID", Short: "Wait until " + article(r.one) + " has ended", Args: cobra.ExactArgs(1),
		Long: "Wait until " + article(r.one) +
			" has ended, and show it.\n\nThe exit code is 0 for a success and 7 for a failure.",
		Example:           fmt.Sprintf("  ricloud %s wait ID --timeout 10m", name),
		ValidArgsFunction: a.completeIDs(name),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.follow(cmd, r, args[0], false)
		},
	}
}

func (a *app) watchCommand(name string) *cobra.Command {
	r := resourceNamed(name)
	return &cobra.Command{
		Use: "watch ID", Short: "Print each change of " + article(r.one) + " until it has ended",
		Args:              cobra.ExactArgs(1),
		Example:           fmt.Sprintf("  ricloud %s watch ID -o ndjson --jq .state", name),
		ValidArgsFunction: a.completeIDs(name),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.follow(cmd, r, args[0], true)
		},
	}
}

// follow waits for a resource. It prints every change, or the last one only.
func (a *app) follow(cmd *cobra.Command, r *resource, id string, every bool) error {
	client, err := a.client()
	if err != nil {
		return err
	}
	a.resume = fmt.Sprintf("ricloud %s %s %s", r.name, cmd.Name(), id)
	spinner := a.spinner("waiting for " + r.one + " " + id)
	defer spinner.stop()
	var last []byte
	var ended error
	var resp ricloud.Response
	for v, err := range watch(cmd.Context(), client, r.name, ricloud.ID(id),
		ricloud.WithResponse(&resp)) {
		ended = err
		if v == nil {
			continue
		}
		last = resp.Body
		spinner.say(r.one + " " + id + " is " + stateOf(v))
		if every {
			if err := a.print(r, last); err != nil {
				return err
			}
		}
	}
	spinner.stop()
	if !every && last != nil {
		if err := a.print(r, last); err != nil {
			return err
		}
	}
	return ended
}

func stateOf(v any) string {
	switch v := v.(type) {
	case *ricloud.Session:
		return string(v.State)
	case *ricloud.Poll:
		return string(v.State)
	case *ricloud.Task:
		return string(v.State)
	case *ricloud.Subscription:
		return string(v.State)
	}
	return ""
}

func article(noun string) string {
	switch noun[0] {
	case 'a', 'e', 'i', 'o':
		return "an " + noun
	}
	return "a " + noun
}

// when parses a moment: RFC 3339, a date, or a time ago such as 24h.
func moment(text string) (time.Time, error) {
	if text == "" {
		return time.Time{}, nil
	}
	if ago, err := time.ParseDuration(text); err == nil {
		return now().Add(-ago), nil
	}
	for _, layout := range []string{time.RFC3339, time.DateTime, time.DateOnly} {
		if t, err := time.Parse(layout, text); err == nil {
			return t, nil
		}
	}
	return time.Time{}, fmt.Errorf("%q is not a moment: use 2026-01-31, 2026-01-31T12:00:00Z or a "+
		"time ago such as 24h", text)
}
