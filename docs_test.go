package ricloud_test

import (
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// Every relative link in a Markdown file points to an existing file. Code after "<!--from FILE-->"
// is quoted from FILE, and "..." stands for omitted lines.
func TestDocumentsAreTrue(t *testing.T) {
	t.Parallel()
	link := regexp.MustCompile(`(?m)(?:^|[^\w\]])\[[^\]]+\]\(([^)#:\s]+)(?:#[^)]*)?\)`)
	quote := regexp.MustCompile("(?s)<!--from (\\S+)-->\n+```\\w*\n(.*?)```")
	for _, file := range markdownFiles(t) {
		text := readFile(t, file)
		for _, found := range link.FindAllStringSubmatch(text, -1) {
			_, err := os.Stat(filepath.Join(filepath.Dir(file), found[1]))
			require.NoError(t, err, "linked from %s", file)
		}
		for _, found := range quote.FindAllStringSubmatch(text, -1) {
			source := readFile(t, found[1])
			for part := range strings.SplitSeq(found[2], "...\n") {
				assert.Contains(t, source, part, "%s quotes from %s", file, found[1])
			}
		}
	}
}

// Every Go file that docs/architecture.md names exists, in the root or at its path.
func TestArchitectureNamesFilesThatExist(t *testing.T) {
	t.Parallel()
	names := regexp.MustCompile("`([\\w/]+\\.go)`").FindAllStringSubmatch(
		readFile(t, "docs/architecture.md"), -1)
	require.NotEmpty(t, names)
	for _, name := range names {
		assert.FileExists(t, name[1])
	}
}

// markdownFiles returns the Markdown files of all modules.
func markdownFiles(t *testing.T) []string {
	t.Helper()
	var files []string
	err := filepath.WalkDir(".", func(path string, entry fs.DirEntry, err error) error {
		if err == nil && entry.IsDir() && strings.HasPrefix(entry.Name(), ".") && path != "." {
			return fs.SkipDir
		}
		if strings.HasSuffix(path, ".md") {
			files = append(files, path)
		}
		return err
	})
	require.NoError(t, err)
	require.NotEmpty(t, files)
	return files
}

func readFile(t *testing.T, name string) string {
	t.Helper()
	text, err := os.ReadFile(filepath.FromSlash(name))
	require.NoError(t, err)
	return string(text)
}
