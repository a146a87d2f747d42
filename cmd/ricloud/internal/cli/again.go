package cli

import (
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// again returns the command line that runs cmd once more with args: every flag that was given
// stands in it, but for those in drop.
func again(cmd *cobra.Command, args []string, drop ...string) string {
	words := append(strings.Fields(cmd.CommandPath()), args...)
	cmd.Flags().Visit(func(f *pflag.Flag) {
		if !slices.Contains(drop, f.Name) {
			words = append(words, flagWords(f)...)
		}
	})
	return shellLine(words)
}

// flagWords writes a flag as it is given on a command line.
func flagWords(f *pflag.Flag) []string {
	name := "--" + f.Name
	switch v := f.Value.(type) {
	case pflag.SliceValue:
		if f.Value.Type() == "stringSlice" {
			return []string{name, strings.Join(v.GetSlice(), ",")}
		}
		var words []string
		for _, value := range v.GetSlice() {
			words = append(words, name, value)
		}
		return words
	default:
		if f.Value.Type() == "bool" && f.Value.String() == "true" {
			return []string{name}
		}
		if f.Value.Type() == "bool" {
			return []string{name + "=false"}
		}
		return []string{name, f.Value.String()}
	}
}

// command returns a command line that reaches the same API as this run.
func (a *app) command(words ...string) string {
	words = append([]string{"ricloud"}, words...)
	if a.sandbox {
		words = append(words, "--sandbox")
	}
	if a.profile != "" {
		words = append(words, "--profile", a.profile)
	}
	if a.url != "" {
		words = append(words, "--url", a.url)
	}
	return shellLine(words)
}

// suggest prints, after the data, the command that usually comes next.
func (a *app) suggest(words ...string) error {
	if err := a.flush(); err != nil {
		return err
	}
	a.sayf("next: %s\n", a.command(words...))
	return nil
}

func shellLine(words []string) string {
	quoted := make([]string, len(words))
	for i, word := range words {
		quoted[i] = shellQuote(word)
	}
	return strings.Join(quoted, " ")
}

// shellQuote writes a word as a POSIX shell reads it.
func shellQuote(s string) string {
	const plain = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_./~@:,=+%"
	if strings.Trim(s, plain) == "" && s != "" {
		return s
	}
	return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'"
}
