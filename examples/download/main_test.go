package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	ricloud "github.com/reincubate/ricloud-go"
)

func TestDownload(t *testing.T) {
	t.Setenv("RICLOUD_TOKEN", "")
	dir := t.TempDir()
	require.NoError(t, run(t.Context(), dir, ""))
	entries, err := os.ReadDir(filepath.Join(dir, "data"))
	require.NoError(t, err)
	var names []string
	for _, e := range entries {
		names = append(names, e.Name())
	}
	assert.Equal(t, []string{"ios_messages.messages", "video-0", "video-1", "video-2"}, names)

	require.NoError(t, os.WriteFile(filepath.Join(dir, "data", "video-1"), []byte("changed"), 0o600))
	err = ricloud.VerifyFolder(t.Context(), dir)
	require.ErrorContains(t, err, "data/video-1")
}

func TestLines(t *testing.T) {
	t.Parallel()
	sandbox := newSandbox()
	defer sandbox.Close()
	client := sandbox.Client()
	poll, err := askSandbox(t.Context(), client)
	require.NoError(t, err)
	var out strings.Builder
	bars := newBars(t.Context())
	defer bars.wait()
	require.NoError(t, download(t.Context(), client, poll, t.TempDir(), bars.show, &out))
	assert.Equal(t, 4, strings.Count(out.String(), " bytes\n"))
	assert.Len(t, bars.of, 4)
	require.Error(t, download(t.Context(), client, ricloud.ID("none"), t.TempDir(), bars.show, &out))
}
