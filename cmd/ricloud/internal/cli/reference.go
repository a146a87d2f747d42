package cli

import (
	"fmt"
	"os"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// Reference returns every command with its flags and examples, as Markdown.
func Reference() string {
	a := &app{in: os.Stdin, out: os.Stdout, errs: os.Stderr}
	root := a.rootCommand()
	root.InitDefaultCompletionCmd()
	var b strings.Builder
	b.WriteString("Flags of every command:\n\n```\n" + usages(root.PersistentFlags()) + "```\n")
	describe(&b, root)
	return b.String()
}

func describe(b *strings.Builder, parent *cobra.Command) {
	for _, cmd := range parent.Commands() {
		if !cmd.IsAvailableCommand() || cmd.Name() == "completion" {
			continue
		}
		if cmd.Runnable() && !cmd.HasSubCommands() {
			text := cmd.Long
			if text == "" {
				text = cmd.Short + "."
			}
			fmt.Fprintf(b, "\n### %s\n\n%s\n\n```\n%s\n", cmd.CommandPath(), text, cmd.UseLine())
			if flags := usages(ownFlags(cmd)); flags != "" {
				b.WriteString("\n" + flags)
			}
			fmt.Fprintf(b, "```\n\nExample:\n\n```\n%s\n```\n", cmd.Example)
		}
		describe(b, cmd)
	}
}

// ownFlags returns the flags of cmd, without those of every command.
func ownFlags(cmd *cobra.Command) *pflag.FlagSet {
	own := pflag.NewFlagSet("", pflag.ContinueOnError)
	global := cmd.Root().PersistentFlags()
	cmd.LocalFlags() // merges those of the parents
	cmd.Flags().VisitAll(func(f *pflag.Flag) {
		if global.Lookup(f.Name) == nil {
			own.AddFlag(f)
		}
	})
	return own
}

// usages lists flags, without the one for help, which every command has.
func usages(flags *pflag.FlagSet) string {
	listed := pflag.NewFlagSet("", pflag.ContinueOnError)
	listed.SortFlags = true
	flags.VisitAll(func(f *pflag.Flag) {
		if f.Name != "help" {
			listed.AddFlag(f)
		}
	})
	return listed.FlagUsages()
}
