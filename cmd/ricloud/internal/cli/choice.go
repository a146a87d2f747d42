package cli

import (
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	ricloud "github.com/reincubate/ricloud-go"
)

// choice is a flag that takes one of a list of words. It refuses any other before a request.
type choice struct {
	value *string
	words []string
	other string // how to send another word, for the error
}

// add adds the flag, and the completion of its words. The usage is followed by the words.
func (c *choice) add(cmd *cobra.Command, flags *pflag.FlagSet, name, short, usage string) {
	flags.VarP(c, name, short, usage+": "+listOf(c.words))
	_ = cmd.RegisterFlagCompletionFunc(name, fixed(c.words...))
}

func (c *choice) String() string { return *c.value }

// Set takes one of the words.
func (c *choice) Set(word string) error {
	if err := oneOf(word, c.words); err != nil {
		return fmt.Errorf("%w%s", err, c.other)
	}
	*c.value = word
	return nil
}

// Type is the word for a value in the help.
func (c *choice) Type() string { return "word" }

// oneOf refuses a word that is not in the list.
func oneOf(word string, words []string) error {
	if slices.Contains(words, word) {
		return nil
	}
	return fmt.Errorf("use %s", listOf(words))
}

// listOf writes words as a person does: "a, b or c".
func listOf(words []string) string {
	last := len(words) - 1
	if last < 1 {
		return strings.Join(words, "")
	}
	return strings.Join(words[:last], ", ") + " or " + words[last]
}

// texts returns the values of a type of the API as strings.
func texts[T ~string](values ...T) []string {
	words := make([]string, len(values))
	for i, v := range values {
		words[i] = string(v)
	}
	return words
}

// halves returns the resources of the known events or, if second is set, their actions.
func halves(second bool) []string {
	var words []string
	for _, name := range eventNames() {
		word, action, _ := strings.Cut(name, ".")
		if second {
			word = action
		}
		if !slices.Contains(words, word) {
			words = append(words, word)
		}
	}
	return words
}

// sourceTypes are the types of source that the API's documents name.
func sourceTypes() []string {
	return texts(ricloud.SourceICloudAccount, ricloud.SourceICloudBackup, ricloud.SourceRelayInstance,
		ricloud.SourceRelayDevice, ricloud.SourceMock)
}
