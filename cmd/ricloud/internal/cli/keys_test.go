package cli

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// A secret that the API shows once is not lost when its file cannot be written any more.
func TestASecretIsWrittenSomewhere(t *testing.T) {
	temporary := t.TempDir()
	t.Setenv("TMPDIR", temporary)
	folder := t.TempDir()
	path := filepath.Join(folder, "key.txt")
	written, err := writeSomewhere(path, []byte("new\n"))
	require.NoError(t, err)
	assert.Equal(t, path, written)

	require.Error(t, writable(folder), "a folder stands there")
	written, err = writeSomewhere(folder, []byte("newer\n"))
	require.Error(t, err)
	assert.Equal(t, temporary, filepath.Dir(written))
	content, err := os.ReadFile(written)
	require.NoError(t, err)
	assert.Equal(t, "newer\n", string(content))
	info, err := os.Stat(written)
	require.NoError(t, err)
	assert.Equal(t, os.FileMode(0o600), info.Mode().Perm())

	t.Setenv("TMPDIR", filepath.Join(path, "no folder"))
	written, err = writeSomewhere(folder, nil)
	require.Error(t, err)
	assert.Empty(t, written)
	require.NoError(t, writable(path), "it is replaced")
	entries, err := os.ReadDir(folder)
	require.NoError(t, err)
	assert.Len(t, entries, 1, "no trial is left")
}
