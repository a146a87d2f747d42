package cli

import (
	"context"
	"errors"
	"strings"

	"github.com/spf13/cobra"

	ricloud "github.com/reincubate/ricloud-go"
)

// The exit codes, by outcome.
const (
	exitFailed       = 1
	exitUsage        = 2
	exitNotFound     = 3
	exitAuth         = 4
	exitCodeRequired = 5
	exitQuota        = 6
	exitState        = 7
	exitVerification = 8
	exitInterrupted  = 130
)

// usage reports a mistake in the command line itself.
type usage struct {
	command string
	err     error
}

func (u *usage) Error() string { return u.err.Error() }
func (u *usage) Unwrap() error { return u.err }

func usageError(cmd *cobra.Command, err error) error {
	return &usage{command: cmd.CommandPath(), err: err}
}

// errVerification reports a file that is not what the API published.
var errVerification = errors.New("verification failed")

// advised is an error with what to do about it.
type advised struct {
	err  error
	next string
}

func (e *advised) Error() string { return e.err.Error() }
func (e *advised) Unwrap() error { return e.err }

// outcome says what a kind of error means to a person and to a script.
type outcome struct {
	is     []error
	code   int
	advice string // what to do next, with the command to run
}

// outcomes is searched from the top.
func (a *app) outcomes() []outcome {
	return []outcome{
		{[]error{errDryRun}, 0, ""},
		{
			[]error{ricloud.ErrCodeRequired},
			exitCodeRequired,
			"run the login again and enter the code that the owner's device shows: " +
				a.loginAgain(),
		},
		{
			[]error{ricloud.ErrRateLimited},
			exitQuota,
			"the quota is used up: wait, or pace the program with --quota N",
		},
		{
			[]error{errVerification, ricloud.ErrChecksum, ricloud.ErrSize, ricloud.ErrRecordCount},
			exitVerification,
			"do not acknowledge the result; fetch it again, then: " +
				a.command("results", "verify", "FOLDER"),
		},
		{
			[]error{ricloud.ErrSessionExpired},
			exitState,
			"the session has ended: " + a.loginAgain(),
		},
		{
			[]error{ricloud.ErrUnauthorized},
			exitAuth,
			"the API does not accept the token: " + a.command("auth", "login") + " stores another",
		},
		{
			[]error{ricloud.ErrForbidden, ricloud.ErrMissingScope},
			exitAuth,
			"the key lacks a scope: " + a.command("auth", "status") + " shows what it may do",
		},
		{
			[]error{ricloud.ErrLimitExceeded},
			exitAuth,
			"a permission limit would be exceeded: " + a.command("auth", "status") + " shows the limits",
		},
		{
			[]error{ricloud.ErrUnconfigured},
			exitFailed,
			"the organisation has no valid storage config: " + a.command("doctor"),
		},
		{
			[]error{ricloud.ErrNotFound},
			exitNotFound,
			"check the id with the resource's list command, and the profile with: " +
				a.command("auth", "status"),
		},
	}
}

// report prints err for a person and returns the exit code.
func (a *app) report(ctx context.Context, err error) int {
	if err == nil {
		return 0
	}
	if errors.Is(err, errInterrupted) || errors.Is(context.Cause(ctx), errInterrupted) {
		if terminal(a.errs) {
			a.sayf("\n") // after the ^C that a terminal shows
		}
		a.sayf("ricloud: interrupted\n")
		a.warnOfRepeat(err)
		a.next(a.resume)
		return exitInterrupted
	}
	if u, ok := errors.AsType[*usage](err); ok {
		a.sayf("ricloud: %s\nsee: %s --help\n", oneLine(u.Error()), u.command)
		return exitUsage
	}
	code, advice := a.classify(err)
	if own, ok := errors.AsType[*advised](err); ok {
		advice = own.next
	}
	if code == 0 {
		return 0
	}
	text := strings.TrimPrefix(err.Error(), "ricloud: ")
	text = strings.ReplaceAll(text, "\nricloud: ", "; ") // of errors that were joined
	a.sayf("ricloud: %s\n", oneLine(strings.ReplaceAll(text, ": ricloud: ", ": ")))
	a.warnOfRepeat(err)
	if advice != "" {
		a.sayf("next: %s\n", advice)
	}
	late := errors.Is(err, context.DeadlineExceeded) && a.timeout > 0
	if late || a.halfway && code != exitState {
		a.next(a.resume)
	}
	return code
}

// warnOfRepeat says how to find out whether a request was applied that had no answer.
func (a *app) warnOfRepeat(err error) {
	call, _ := errors.AsType[*ricloud.CallError](err)
	switch {
	case a.look != "" && !outcomeKnown(err):
		a.sayf("to see first whether it was made: %s\n", a.look)
	case call != nil && call.MaybeApplied():
		a.sayf("the request may have been applied: look before you repeat it\n")
	}
}

// outcomeKnown reports whether err says what became of the request: the API refused it, or what it
// made has ended.
func outcomeKnown(err error) bool {
	if call, ok := errors.AsType[*ricloud.CallError](err); ok && call.MaybeApplied() {
		return false
	}
	answer, refused := errors.AsType[*ricloud.Error](err)
	_, ended := errors.AsType[*ricloud.StateError](err)
	return ended || errors.Is(err, ricloud.ErrCodeRequired) || refused && answer.StatusCode < 500
}

// classify returns the exit code of err and what to do about it.
func (a *app) classify(err error) (code int, advice string) {
	for _, o := range a.outcomes() {
		for _, target := range o.is {
			if errors.Is(err, target) {
				return o.code, o.advice
			}
		}
	}
	if state, ok := errors.AsType[*ricloud.StateError](err); ok {
		return exitState, a.stateAdvice(state)
	}
	if _, ok := errors.AsType[*ricloud.ParamError](err); ok {
		return exitUsage, ""
	}
	if _, ok := errors.AsType[*ricloud.CallError](err); ok && !a.sandbox {
		return exitFailed, a.silenceAdvice(err)
	}
	return exitFailed, ""
}

// silenceAdvice says what to do about an API that did not answer.
func (a *app) silenceAdvice(err error) string {
	_, answered := errors.AsType[*ricloud.Error](err)
	switch {
	case answered:
		return ""
	case errors.Is(err, context.DeadlineExceeded) && a.timeout > 0:
		return "the time of --timeout is over: give it more, if the API is slow"
	}
	return "see that this machine reaches " + a.reaches + ", directly or through HTTPS_PROXY; " +
		"another address: --url URL"
}

// isUsage reports whether err is one of the errors of a command line for which cobra has no types.
func isUsage(err error) bool {
	if err == nil {
		return false
	}
	for _, prefix := range []string{
		"unknown command", "accepts ", "requires ", "required flag", "at least one of the flags",
		"if any flags in the group",
	} {
		if strings.HasPrefix(err.Error(), prefix) {
			return true
		}
	}
	return false
}

// stateAdvice says what to do about a resource that ended in failure.
func (a *app) stateAdvice(s *ricloud.StateError) string {
	id := string(s.ID)
	again := a.loginAgain()
	switch {
	case s.Is(ricloud.ErrSourceLocked):
		return "the owner unlocks the account with its provider; then: " + again
	case s.Code == "credentials-invalid":
		return "check the account's name and its password, then: " + again
	case s.Code == ricloud.CodePairingInvalid:
		return "take the code that the app shows now, then: " + again
	}
	switch s.Resource {
	case "session":
		return a.command("sessions", "get", id) + " shows the session; log in again with: " + again
	case "poll":
		return "what succeeded is kept; see what failed: " + a.command("tasks", "list", "--poll", id)
	case "webhook_config":
		return receiverAdvice + a.command("webhooks", "test", id)
	case "storage_config":
		return bucketAdvice + a.command("storage", "test", id)
	}
	return a.command(s.Resource+"s", "get", id) + " shows it"
}

// What to do about a config whose test failed. The command that tests it again follows.
const (
	receiverAdvice = "see that the receiver answers 200 on every path below the config's URL, and " +
		"verifies with the config's secret; then: "
	bucketAdvice = "see that the bucket exists, and that the config's credentials may write to it; " +
		"then: "
)

// loginAgain returns the command that logs in again: the one that failed, if it was a login.
func (a *app) loginAgain() string {
	if a.loginLine != "" {
		return a.loginLine
	}
	return a.command("login", "USER", "ACCOUNT")
}

// next prints the command that continues.
func (a *app) next(command string) {
	if command != "" {
		a.sayf("to continue: %s\n", command)
	}
}

// oneLine keeps a message on one line of printable characters.
func oneLine(s string) string {
	return strings.Map(func(r rune) rune {
		switch {
		case r == '\n', r == '\r', r == '\t':
			return ' '
		case r < ' ' || r == 0x7f || 0x80 <= r && r < 0xa0:
			return -1
		}
		return r
	}, s)
}
