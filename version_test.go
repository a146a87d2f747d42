package ricloud_test

import (
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	ricloud "github.com/reincubate/ricloud-go"
)

// Version, the newest release in CHANGELOG.md and the version that the other modules require are
// the same, and no tag is newer.
func TestVersionAgrees(t *testing.T) {
	t.Parallel()
	changelog, err := os.ReadFile("CHANGELOG.md")
	require.NoError(t, err)
	releases := regexp.MustCompile(`(?m)^## \[(\d+\.\d+\.\d+)\]`).FindAllSubmatch(changelog, -1)
	require.NotEmpty(t, releases, "CHANGELOG.md has no release")
	assert.Equal(t, ricloud.Version, string(releases[0][1]), "CHANGELOG.md's newest release")

	required := regexp.MustCompile(`(?m)^(?:require |\t)github\.com/reincubate/ricloud-go\S* (v\S+)`)
	err = filepath.WalkDir(".", func(path string, _ fs.DirEntry, err error) error {
		if err != nil || filepath.Base(path) != "go.mod" {
			return err
		}
		mod, err := os.ReadFile(path) //nolint:gosec // our own tree
		for _, require := range required.FindAllSubmatch(mod, -1) {
			assert.Equal(t, "v"+ricloud.Version, string(require[1]), path)
		}
		return err
	})
	require.NoError(t, err)

	for _, tag := range tags(t) {
		assert.Contains(t, string(changelog), "\n## ["+strings.TrimPrefix(tag, "v")+"]", "tag %s", tag)
	}
}

// tags returns the tags of the root module. It returns none if the module is not a git checkout.
func tags(t *testing.T) []string {
	t.Helper()
	if _, err := os.Stat(".git"); err != nil {
		return nil
	}
	out, err := exec.CommandContext(t.Context(), "git", "tag", "--list", "v*").Output()
	require.NoError(t, err)
	return strings.Fields(string(out))
}
