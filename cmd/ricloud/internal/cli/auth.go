package cli

import (
	"cmp"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	ricloud "github.com/reincubate/ricloud-go"
)

func (a *app) authCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use: "auth", Short: "Store, show and switch the tokens of the API", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(a.authLoginCommand(), a.authStatusCommand(), a.authSwitchCommand(),
		a.authLogoutCommand())
	return cmd
}

func (a *app) authLoginCommand() *cobra.Command {
	var from string
	cmd := &cobra.Command{
		Use: "login", Short: "Store a key's token", Args: cobra.NoArgs,
		Long: `Store a key's token, in the keyring or, if the machine has none, in a file that only
you can read. The token is checked with the API first.

RICLOUD_TOKEN and RICLOUD_URL come before what is stored. Without either, the settings of the
vendor's client in ~/.ricloud.ini are used.`,
		Example: "  ricloud auth login\n  ricloud auth login --profile staging --token @token.txt",
	}
	cmd.Flags().StringVar(&from, "token", "prompt", "read the token "+secretHelp)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		if a.sandbox {
			return usageError(cmd, errors.New("the sandbox needs no token: add --sandbox to any command"))
		}
		token, err := a.secret(cmd.Context(), from, "token")
		if err != nil {
			return err
		}
		url := cmp.Or(a.url, os.Getenv("RICLOUD_URL"))
		a.reaches = cmp.Or(url, ricloud.DefaultBaseURL)
		if err := a.checkURL(a.reaches); err != nil {
			return err
		}
		client, err := ricloud.NewClient(token.Reveal(), ricloud.WithBaseURL(a.reaches))
		if err != nil {
			return err
		}
		defer client.Close()
		org, err := client.Organisation.Get(cmd.Context())
		if err != nil {
			return fmt.Errorf("the token was not stored: %w", err)
		}
		s, err := readSettings()
		if err != nil {
			return err
		}
		name := a.profileName(s)
		where, err := s.save(name, url, token)
		if err != nil {
			return err
		}
		if err := a.print(nil,
			map[string]any{"profile": name, "organisation": org.Name, "stored": where}); err != nil {
			return err
		}
		return a.suggest("doctor")
	}
	return cmd
}

func (a *app) authStatusCommand() *cobra.Command {
	return &cobra.Command{
		Use: "status", Short: "Show which key is used, and what it may do", Args: cobra.NoArgs,
		Example: "  ricloud auth status\n  ricloud auth status --jq .scopes",
		RunE: func(cmd *cobra.Command, _ []string) error {
			from, url := "the sandbox", "in this process"
			if !a.sandbox {
				found, err := a.access()
				if err != nil {
					return err
				}
				from, url = found.source, found.url
			}
			client, err := a.client()
			if err != nil {
				return err
			}
			key, err := client.Keys.Current(cmd.Context())
			if err != nil {
				return err
			}
			org, err := client.Organisation.Get(cmd.Context())
			if err != nil {
				return err
			}
			status := map[string]any{
				"token_from": from, "url": url, "key": key.ID, "type": key.Type, "state": key.State,
				"organisation": org.Name, "organisation_state": org.State, "scopes": scopeList(org.Permissions),
			}
			if !key.DateExpires.IsZero() {
				status["date_expires"] = key.DateExpires
			}
			return a.print(nil, status)
		},
	}
}

// scopeList writes each scope with its limits: "task_type:icloud.* (3 per user)".
func scopeList(p ricloud.Permissions) []string {
	scopes := []string{}
	for scope, limits := range p.Scopes {
		var parts []string
		for _, l := range limits {
			parts = append(parts, fmt.Sprintf("%d per %s", l.Value, l.Level))
		}
		if len(parts) > 0 {
			scope += " (" + strings.Join(parts, ", ") + ")"
		}
		scopes = append(scopes, scope)
	}
	slices.Sort(scopes)
	return scopes
}

func (a *app) authSwitchCommand() *cobra.Command {
	return &cobra.Command{
		Use: "switch PROFILE", Short: "Use another profile from now on", Args: cobra.ExactArgs(1),
		Example:           "  ricloud auth switch staging",
		ValidArgsFunction: a.completeProfiles,
		RunE: func(_ *cobra.Command, args []string) error {
			s, err := readSettings()
			if err != nil {
				return err
			}
			if s.Profiles[args[0]] == nil {
				return fmt.Errorf("there is no profile %q; make it with: ricloud auth login --profile %s",
					args[0], args[0])
			}
			s.Current = args[0]
			if err := s.write(); err != nil {
				return err
			}
			return a.print(nil, map[string]any{"profile": args[0]})
		},
	}
}

func (a *app) authLogoutCommand() *cobra.Command {
	return &cobra.Command{
		Use: "logout", Short: "Remove the token of a profile from this machine", Args: cobra.NoArgs,
		Example: "  ricloud auth logout --profile staging --yes",
		RunE: func(cmd *cobra.Command, _ []string) error {
			s, err := readSettings()
			if err != nil {
				return err
			}
			name := a.profileName(s)
			if err := a.confirm(cmd.Context(),
				fmt.Sprintf("Remove the token of profile %q from this machine?", name)); err != nil {
				return err
			}
			if err := s.remove(name); err != nil {
				return err
			}
			return a.print(nil, map[string]any{"profile": name, "removed": true})
		},
	}
}
