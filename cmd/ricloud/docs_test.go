package main

import (
	"flag"
	"os"
	"os/exec"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/reincubate/ricloud-go/cmd/ricloud/internal/cli"
)

//nolint:gochecknoglobals // a flag of the test
var update = flag.Bool("update", false, "write docs/cli.md")

// marker is the line of docs/cli.md after which everything is generated.
const marker = "<!-- From here on made from the commands: go test ./cmd/ricloud -run Docs " +
	"-update -->\n\n"

// TestDocs compares the generated part of docs/cli.md with the commands. With -update, it writes
// it.
func TestDocs(t *testing.T) {
	t.Parallel()
	const path = "../../docs/cli.md"
	text, err := os.ReadFile(path)
	require.NoError(t, err)
	head, _, found := strings.Cut(string(text), marker)
	require.True(t, found, "%s has lost its marker", path)
	want := head + marker + cli.Reference()
	if *update {
		//nolint:gosec // the path is a constant
		require.NoError(t, os.WriteFile(path, []byte(want), 0o600))
		return
	}
	assert.Equal(t, want, string(text), "run: go test ./cmd/ricloud -run Docs -update")
}

// TestDocsCommandsExist parses every command that docs/cli.md shows before the reference: in the
// captures, and in the table that compares our commands with the vendor's.
func TestDocsCommandsExist(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile("../../docs/cli.md")
	require.NoError(t, err)
	head, _, _ := strings.Cut(string(text), marker)
	command := regexp.MustCompile("(?m)^\\$ ricloud (.*)$|`ricloud ([^`]*)`")
	lines := command.FindAllStringSubmatch(head, -1)
	require.Greater(t, len(lines), 22)
	for _, line := range lines {
		args := append(strings.Fields(line[1]+line[2]), "--help")
		//nolint:gosec // the arguments are the document's
		cmd := exec.CommandContext(t.Context(), "ricloud", args...)
		cmd.Env = append(os.Environ(), noSleepAtExit)
		output, err := cmd.CombinedOutput()
		require.NoError(t, err, "%s\n%s", line[0], output)
		// For an unknown verb, the program shows the help of the resource.
		verb, _, _ := strings.Cut(strings.Join(args[min(1, len(args)-1):], " "), " ")
		if strings.Contains(string(output), "Available Commands:") {
			assert.Equal(t, "--help", verb, "%s is no command", line[0])
		}
	}
}

// TestDocsCompareWithTheVendor checks that docs/cli.md has a row for each of the vendor's commands,
// and that each job takes as many commands as its table says.
func TestDocsCompareWithTheVendor(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile("../../docs/cli.md")
	require.NoError(t, err)
	head, _, _ := strings.Cut(string(text), marker)
	theirs := map[string]string{
		"config": "init view", "webhook-config": "create test", "storage-config": "create test",
		"event": "listen", "icloud session": "create retrieve latest",
		"icloud poll": "create retrieve latest download", "icloud result": "retrieve download",
		"rirelay session": "create retrieve", "rirelay sub": "create retrieve poll latest",
	}
	count := 0
	for group, verbs := range theirs {
		for verb := range strings.FieldsSeq(verbs) {
			count++
			assert.Regexp(t, "(?m)^\\| `"+group+" "+verb+"[ `]", head)
		}
	}
	assert.Equal(t, 22, count)
	_, jobs, found := strings.Cut(head, "| job | theirs | ours |\n|---|---|---|\n")
	require.True(t, found)
	jobs, _, _ = strings.Cut(jobs, "\n\n")
	command := regexp.MustCompile("`[^`]+`")
	for row := range strings.Lines(jobs) {
		for _, cell := range strings.Split(row, " | ")[1:] {
			steps, _, _ := strings.Cut(cell, ":")
			assert.Equal(t, steps, strconv.Itoa(len(command.FindAllString(cell, -1))), cell)
		}
	}
}

// TestEveryCommandHasAScript checks that each top-level command has a script of the same name,
// which runs the command and all its subcommands.
func TestEveryCommandHasAScript(t *testing.T) {
	t.Parallel()
	commands := []string{
		"completion bash", "completion fish", "completion powershell", "completion zsh",
	}
	for _, section := range strings.Split(cli.Reference(), "\n### ricloud ")[1:] {
		name, _, _ := strings.Cut(section, "\n")
		commands = append(commands, name)
	}
	require.Greater(t, len(commands), 80)
	for _, name := range commands {
		top, _, _ := strings.Cut(name, " ")
		script, err := os.ReadFile("testdata/script/" + top + ".txtar")
		require.NoError(t, err, "ricloud %s has no script", name)
		// The command runs by itself, or in a file that sh runs.
		runs := regexp.MustCompile(`(?m)^(exec |until )?ricloud ` + name + `\b`)
		assert.Regexp(t, runs, string(script), "no run of ricloud %s succeeds", name)
	}
}

// TestEveryCommandHasAnExample checks the generated reference.
func TestEveryCommandHasAnExample(t *testing.T) {
	t.Parallel()
	for _, section := range strings.Split(cli.Reference(), "\n### ")[1:] {
		name, text, _ := strings.Cut(section, "\n")
		_, example, found := strings.Cut(text, "Example:\n\n```\n")
		assert.True(t, found && strings.Contains(example, "ricloud "), "%s has no example", name)
	}
}
