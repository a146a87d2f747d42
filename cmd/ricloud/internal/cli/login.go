package cli

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"

	"github.com/spf13/cobra"

	ricloud "github.com/reincubate/ricloud-go"
)

func (a *app) loginCommand() *cobra.Command {
	var password, codeFrom, codeCommand, sourceType string
	cmd := &cobra.Command{
		Use:   "login USER ACCOUNT",
		Short: "Log in to an account, with a two-factor code if it asks for one",
		Long: `Log in to an account with its owner's consent. USER is your own name for the end user; it
is created if it is new. ACCOUNT is the account's username.

A login may prompt the account's owner on their devices, so it is never sent twice on its own. A
wrong code is asked for again. The session's id is printed: ricloud fetch takes it.

Sandbox accounts: john.appleseed@example.com (no code), jane.appleseed@example.com (code 123456) and
locked@example.com, all with the password hunter2.`,
		Example: `  ricloud login customer-42 jane@example.com
  ricloud login customer-42 jane@example.com --password env:PASSWORD \
    --code-command ./read-code.sh --yes -o id
  ricloud login customer-42 jane.appleseed@example.com --sandbox`,
		Args:              cobra.ExactArgs(2),
		ValidArgsFunction: a.completeUsers,
	}
	cmd.Flags().StringVar(&password, "password", "prompt", "read the password "+secretHelp)
	cmd.Flags().StringVar(&codeFrom, "code", "prompt", "read the two-factor code "+secretHelp)
	cmd.Flags().StringVar(&codeCommand, "code-command", "",
		"run this `command` when a code is asked for; it prints the code")
	types := texts(ricloud.SourceICloudAccount, ricloud.SourceMock)
	sourceType = types[0]
	c := &choice{value: &sourceType, words: types}
	c.add(cmd, cmd.Flags(), "type", "", "the `type` of source")
	cmd.MarkFlagsMutuallyExclusive("code", "code-command")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		ctx := cmd.Context()
		a.loginLine = again(cmd, args, "code") // a code is good for one login
		a.sandboxHint("john.appleseed@example.com (no code) and jane.appleseed@example.com\n" +
			"(code 123456) have the password hunter2")
		client, secret, user, err := a.beginLogin(ctx, args[0], password, "password")
		if err != nil {
			return err
		}
		params := ricloud.SessionCreateParams{
			Source: ricloud.SourceParams{
				User: user.ID, Type: ricloud.SourceType(sourceType),
				Identifier: args[1],
			},
			Payload: ricloud.SessionPayload{Password: secret},
		}
		spinner := a.spinner("logging in to " + args[1])
		defer func() { spinner.stop() }()
		ask := func(ctx context.Context, c ricloud.CodeChallenge) (ricloud.Secret, error) {
			spinner.stop()
			a.look = "" // the session that asks for a code has ended
			code, err := a.code(ctx, codeCommand, codeFrom, c.Attempt)
			a.lookForSession()
			spinner = a.spinner("logging in to " + args[1] + " with the code")
			return code, err
		}
		a.lookForSession()
		session, err := a.login(ctx, client, params, ask)
		spinner.stop()
		if err != nil {
			return a.loginError(err, session)
		}
		a.look = ""
		if err := a.print(resourceNamed("sessions"), session); err != nil {
			return err
		}
		if a.noWait {
			return a.suggest("sessions", "wait", string(session.ID))
		}
		return a.suggest("fetch", string(session.ID), "--data", "callkit.calls,ios_messages.messages")
	}
	return cmd
}

// beginLogin makes the client, reads the secret and creates the user.
func (a *app) beginLogin(ctx context.Context, identifier, from, what string) (
	client *ricloud.Client, secret ricloud.Secret, user *ricloud.User, err error,
) {
	if client, err = a.client(); err != nil {
		return nil, secret, nil, err
	}
	if secret, err = a.secret(ctx, from, what); err != nil {
		return nil, secret, nil, err
	}
	user, err = client.Users.Create(ctx, ricloud.UserCreateParams{Identifier: identifier})
	return client, secret, user, err
}

// sandboxHint tells a person at a prompt what the sandbox accepts.
func (a *app) sandboxHint(text string) {
	if a.sandbox && terminal(a.in) {
		a.sayf("In the sandbox, %s.\n", text)
	}
}

// lookForSession says what to run after a login whose session may have been made.
func (a *app) lookForSession() { a.look = a.command("sessions", "latest") }

// login logs in, or begins to with --no-wait.
func (a *app) login(
	ctx context.Context, client *ricloud.Client, params ricloud.SessionCreateParams,
	ask func(context.Context, ricloud.CodeChallenge) (ricloud.Secret, error),
) (*ricloud.Session, error) {
	if a.noWait {
		return client.Sessions.Create(ctx, params)
	}
	return client.Sessions.Login(ctx, params, ask)
}

// code gets a two-factor code from the command, or from where from says.
func (a *app) code(ctx context.Context, command, from string, attempt int) (ricloud.Secret, error) {
	if command != "" {
		run := exec.CommandContext(ctx, "sh", "-c", command) //nolint:gosec // the user's own command
		run.Env = append(os.Environ(), fmt.Sprintf("RICLOUD_ATTEMPT=%d", attempt))
		run.Stderr = a.errs
		out, err := run.Output()
		if err != nil {
			return ricloud.NewSecret(""), fmt.Errorf("the code command failed: %w", err)
		}
		return ricloud.NewSecret(strings.TrimSpace(string(out))), nil
	}
	if attempt > 1 {
		if from != "prompt" {
			return ricloud.NewSecret(""), fmt.Errorf("the code was not accepted: %w",
				ricloud.ErrCodeRequired)
		}
		a.sayf("That code was not accepted.\n")
	}
	if from == "prompt" && !terminal(a.in) {
		return ricloud.NewSecret(""), fmt.Errorf("there is no terminal to ask for it, use --code or "+
			"--code-command: %w", ricloud.ErrCodeRequired)
	}
	return a.secret(ctx, from, "code from the owner's device")
}

// loginError says in words what a failed login means.
func (a *app) loginError(err error, session *ricloud.Session) error {
	if session != nil && session.State == ricloud.SessionPending {
		a.resume, a.look = a.command("sessions", "wait", string(session.ID)), ""
	}
	if errors.Is(err, ricloud.ErrCodeRequired) {
		return fmt.Errorf("the account asks for a two-factor code: %w", err)
	}
	return err
}

func (a *app) pairCommand() *cobra.Command {
	var from string
	cmd := &cobra.Command{
		Use: "pair USER", Short: "Pair a Relay app and list its devices",
		Long: "Pair a Relay app by the code that it shows, wait until it is connected, and list its " +
			"devices.",
		Example: "  ricloud pair customer-42\n  echo PAIR-1234 | ricloud pair customer-42 --code - " +
			"--sandbox --yes",
		Args:              cobra.ExactArgs(1),
		ValidArgsFunction: a.completeUsers,
	}
	cmd.Flags().StringVar(&from, "code", "prompt", "read the pairing code "+secretHelp)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		ctx := cmd.Context()
		a.loginLine = again(cmd, args, "code") // a code is good for one login
		a.sandboxHint("the code is PAIR-1234")
		client, code, user, err := a.beginLogin(ctx, args[0], from, "pairing code")
		if err != nil {
			return err
		}
		a.lookForSession()
		spinner := a.spinner("pairing")
		defer spinner.stop()
		session, err := a.login(ctx, client, ricloud.SessionCreateParams{
			Source:  ricloud.SourceParams{User: user.ID, Type: ricloud.SourceRelayInstance},
			Payload: ricloud.SessionPayload{Code: code},
		}, nil)
		spinner.stop()
		if err != nil {
			return a.loginError(err, session)
		}
		a.sayf("session %s is %s\n", session.ID, session.State)
		return a.printDevices(ctx, client, session)
	}
	return cmd
}

// printDevices lists the devices of a Relay app.
func (a *app) printDevices(
	ctx context.Context, client *ricloud.Client, session *ricloud.Session,
) error {
	a.printer.list()
	device := ricloud.ID("DEVICE")
	for child, err := range client.Sources.AllChildren(ctx, session.Source.ID, ricloud.ListParams{}) {
		if err != nil {
			return err
		}
		device = child.ID
		if err := a.printItem(resourceNamed("sources"), child); err != nil {
			return err
		}
	}
	return a.suggest("subscriptions", "create", string(session.ID), "--source", string(device),
		"--data", "ios_messages.messages")
}
