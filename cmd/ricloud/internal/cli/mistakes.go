package cli

import (
	"cmp"
	"errors"
	"fmt"
	"regexp"
	"strconv"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// explain says of cobra's errors of a command line what to type instead.
func explain(cmd *cobra.Command, err error) error {
	text := err.Error()
	switch {
	case strings.HasPrefix(text, "unknown command "):
		quoted, _ := strconv.QuotedPrefix(strings.TrimPrefix(text, "unknown command "))
		word, _ := strconv.Unquote(quoted)
		return unknownCommand(cmd, word)
	case strings.HasPrefix(text, "accepts "), strings.HasPrefix(text, "requires at least "):
		return wrongArguments(cmd)
	case strings.HasPrefix(text, "required flag(s) "):
		names := regexp.MustCompile(`"([^"]+)"`).ReplaceAllString(text, "--$1")
		names = strings.TrimSuffix(strings.TrimPrefix(names, "required flag(s) "), " not set")
		return fmt.Errorf("%s must be given, as in: %s", names, firstExample(cmd))
	}
	return err
}

func unknownCommand(cmd *cobra.Command, word string) error {
	if !cmd.HasSubCommands() {
		return fmt.Errorf("%s takes no argument, but %q was given", cmd.CommandPath(), word)
	}
	cmd.SuggestionsMinimumDistance = 2
	text := fmt.Sprintf("unknown command %q for %q", word, cmd.CommandPath())
	if names := cmd.SuggestionsFor(word); len(names) > 0 {
		name := cmp.Or(closest(word, names), names[0])
		text += "; did you mean " + cmd.CommandPath() + " " + name + "?"
	}
	return errors.New(text)
}

// wrongArguments names the arguments that are missing, by their names in the help.
func wrongArguments(cmd *cobra.Command) error {
	wanted, given := argumentNames(cmd), cmd.Flags().NArg()
	if given >= len(wanted) {
		return fmt.Errorf("%s too many: use %s", count(given-len(wanted), "argument"), cmd.UseLine())
	}
	verb := " is missing"
	if len(wanted)-given > 1 {
		verb = " are missing"
	}
	return fmt.Errorf("%s%s, as in: %s", strings.Join(wanted[given:], " and "), verb,
		firstExample(cmd))
}

func firstExample(cmd *cobra.Command) string {
	example, _, _ := strings.Cut(strings.TrimSpace(cmd.Example), "\n")
	return strings.TrimSuffix(example, ` \`)
}

// argumentNames returns the names of the arguments that a command needs: "USER" and "ACCOUNT".
func argumentNames(cmd *cobra.Command) (names []string) {
	for _, word := range strings.Fields(cmd.Use)[1:] {
		if strings.HasPrefix(word, "-") || strings.HasPrefix(word, "[") {
			break
		}
		names = append(names, strings.TrimSuffix(word, "..."))
	}
	return names
}

// flagError names the flag that an unknown one is most like.
func flagError(cmd *cobra.Command, err error) error {
	if typed, found := strings.CutPrefix(err.Error(), "unknown flag: --"); found {
		var names []string
		cmd.Flags().VisitAll(func(f *pflag.Flag) { names = append(names, f.Name) })
		if name := closest(typed, names); name != "" {
			err = fmt.Errorf("%w; did you mean --%s?", err, name)
		}
	}
	return usageError(cmd, err)
}
