package cli

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"golang.org/x/term"

	ricloud "github.com/reincubate/ricloud-go"
)

// maxSecret bounds what is read as a secret, in bytes.
const maxSecret = 64 << 10

// secretHelp ends the description of each flag that takes a secret. A secret is never an argument:
// other users of the machine could read it in the list of processes.
//
//nolint:gosec // a help text
const secretHelp = "`from` where: prompt, - (standard input), @FILE or env:NAME"

// secret reads a secret from where from says. what names it in the prompt and in errors.
func (a *app) secret(ctx context.Context, from, what string) (ricloud.Secret, error) {
	value, err := a.readSecret(ctx, from, what)
	if err != nil {
		return ricloud.NewSecret(""), err
	}
	value = strings.TrimRight(value, "\r\n")
	if value == "" {
		return ricloud.NewSecret(""), fmt.Errorf("the %s is empty", what)
	}
	return ricloud.NewSecret(value), nil
}

func (a *app) readSecret(ctx context.Context, from, what string) (string, error) {
	switch {
	case from == "-":
		raw, err := readAtMost(a.in, maxSecret)
		return string(raw), err
	case strings.HasPrefix(from, "@"):
		f, err := os.Open(from[1:])
		if err != nil {
			return "", fmt.Errorf("cannot read the %s: %w", what, err)
		}
		defer f.Close() //nolint:errcheck // only read
		raw, err := readAtMost(f, maxSecret)
		return string(raw), err
	case strings.HasPrefix(from, "env:"):
		value, set := os.LookupEnv(from[4:])
		if !set {
			return "", fmt.Errorf("cannot read the %s: the variable %s is not set", what, from[4:])
		}
		return value, nil
	case from == "" || from == "prompt":
		return a.hidden(ctx, strings.ToUpper(what[:1])+what[1:]+": ")
	}
	return "", &usage{command: a.operation, err: fmt.Errorf("the %s cannot be an argument, where "+
		"others could read it: use prompt, -, @FILE or env:NAME", what)}
}

// hidden asks on the terminal without showing what is typed.
func (a *app) hidden(ctx context.Context, prompt string) (string, error) {
	if !terminal(a.in) {
		return "", &usage{
			command: a.operation,
			err:     errors.New("there is no terminal to ask on: use -, @FILE or env:NAME"),
		}
	}
	// The echo is off before the prompt is shown: term.ReadPassword would show what comes at once.
	before, err := term.MakeRaw(int(a.in.Fd()))
	if err != nil {
		return "", err
	}
	defer term.Restore(int(a.in.Fd()), before) //nolint:errcheck // there is no way to mend it
	t := term.NewTerminal(keyboard{a.in, a.errs}, "")
	value, err := await(ctx, func() (string, error) { return t.ReadPassword(prompt) })
	if errors.Is(err, io.EOF) { // Ctrl-C is a key here, and no signal
		a.sayf("\r\n")
		return "", errInterrupted
	}
	return value, err
}

// keyboard reads one byte at a time, so that what is typed ahead is left for the next prompt.
type keyboard struct {
	in  io.Reader
	out io.Writer
}

func (k keyboard) Read(p []byte) (int, error)  { return k.in.Read(p[:min(1, len(p))]) }
func (k keyboard) Write(p []byte) (int, error) { return k.out.Write(p) }

// line asks on the terminal for one line.
func (a *app) line(ctx context.Context, prompt string) (string, error) {
	a.sayf("%s", prompt)
	text, err := await(ctx, func() (string, error) { return bufio.NewReader(a.in).ReadString('\n') })
	if err != nil && !errors.Is(err, io.EOF) {
		a.sayf("\n")
		return "", err
	}
	return strings.TrimSpace(text), nil
}

// await lets Ctrl-C end a read that cannot be interrupted.
func await[T any](ctx context.Context, read func() (T, error)) (T, error) {
	type answer struct {
		value T
		err   error
	}
	answers := make(chan answer, 1)
	go func() {
		value, err := read()
		answers <- answer{value, err}
	}()
	select {
	case got := <-answers:
		return got.value, got.err
	case <-ctx.Done():
		var none T
		return none, context.Cause(ctx)
	}
}

// confirm asks before something that costs or deletes. Without a terminal only --yes says yes.
func (a *app) confirm(ctx context.Context, question string) error {
	if a.yes || a.dryRun {
		return nil
	}
	if !terminal(a.in) {
		return &usage{
			command: a.operation,
			err:     fmt.Errorf("%s There is no terminal to ask on: add --yes", question),
		}
	}
	answer, err := a.line(ctx, question+" [y/N] ")
	if err != nil {
		return err
	}
	if strings.EqualFold(answer, "y") || strings.EqualFold(answer, "yes") {
		return nil
	}
	return errors.New("nothing was done")
}
