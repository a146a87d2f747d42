package ricloud

import (
	"context"
	"crypto/md5"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"hash"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func manifestPoll() *Poll {
	return &Poll{
		ID: "p1", Organisation: "o1", Source: "s1", Session: "n1", User: "u1",
		DateCreated: time.Unix(1e9, 0),
	}
}

func TestSaveAllWithManifest(t *testing.T) {
	t.Parallel()
	v, dir := newVault(), t.TempDir()
	var results []*Result
	for i := range 230 { // more than two batches of acknowledgements
		r := v.add(fmt.Sprintf("file-%d", i), random(i*10))
		r.DateCreated = time.Unix(int64(1e9+i), 0)
		results = append(results, r)
	}
	c := v.client(t)
	saved, err := c.Results.SaveAll(t.Context(), each(results...), dir, WithManifest(manifestPoll()),
		WithAcknowledge())
	require.NoError(t, err)
	require.Len(t, saved, len(results))
	for i, s := range saved {
		assert.Equal(t, filepath.Join(dir, "data", results[i].Identifier), s.Path)
		assertFile(t, s.Path, v.objects[string(s.Result.ID)])
	}
	require.NoError(t, VerifyFolder(t.Context(), dir))
	info, err := os.ReadFile(filepath.Join(dir, "bag-info.txt"))
	require.NoError(t, err)
	for _, line := range []string{
		"Bag-Software-Agent: " + userAgent, "External-Identifier: p1", "Ricloud-Organisation: o1",
		"Ricloud-Source: s1",
		"Ricloud-Session: n1", "Ricloud-User: u1", "Ricloud-Poll: p1",
		"Ricloud-Poll-Created: 2001-09-09T01:46:40Z",
	} {
		assert.Contains(t, string(info), line+"\n")
	}
	log, err := os.ReadFile(filepath.Join(dir, "ricloud-log.txt"))
	require.NoError(t, err)
	for _, step := range []string{"published", "fetched", "verified", "acknowledged"} {
		assert.Equal(t, len(results), strings.Count(string(log), `"step":"`+step+`"`), step)
	}
	assert.NotContains(t, string(log), "canary")
	for tool, hash := range map[string]func() hash.Hash{"md5": md5.New, "sha256": sha256.New} {
		manifest := "manifest-" + tool + ".txt"
		assert.Equal(t, len(results), checkSums(t, dir, manifest, hash))
		if runtime.GOOS == "linux" { // the tools are GNU coreutils
			//nolint:gosec // a table of two
			check := exec.CommandContext(t.Context(), tool+"sum", "-c", "--quiet", "--strict", manifest)
			check.Dir = dir
			out, err := check.CombinedOutput()
			require.NoError(t, err, "%s", out)
		}
	}

	gets := v.gets
	_, err = c.Results.SaveAll(t.Context(), each(results...), dir, WithManifest(manifestPoll()),
		WithAcknowledge())
	require.NoError(t, err)
	assert.Equal(t, gets, v.gets, "a rerun fetches nothing")
	again, err := os.ReadFile(filepath.Join(dir, "ricloud-log.txt"))
	require.NoError(t, err)
	assert.Equal(t, string(log), string(again), "and adds nothing to the log")

	require.NoError(t, os.WriteFile(saved[7].Path, []byte("something else"), 0o600))
	err = VerifyFolder(t.Context(), dir)
	var differs *FolderError
	require.ErrorAs(t, err, &differs)
	require.Len(t, differs.Differences, 1)
	assert.Equal(t, "data/file-7", differs.Differences[0].Path)
	require.ErrorContains(t, err, "data/file-7: has other bytes than the manifests say")

	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	require.ErrorIs(t, VerifyFolder(ctx, dir), context.Canceled)
	require.ErrorContains(t, VerifyFolder(t.Context(), t.TempDir()), "is not a bag")
	require.ErrorIs(t, VerifyFolder(t.Context(), filepath.Join(dir, "none")), os.ErrNotExist)
}

// checkSums does what "md5sum -c" and "sha256sum -c" do, on every system. It returns the number of
// files that the manifest lists.
func checkSums(t *testing.T, dir, manifest string, newHash func() hash.Hash) (files int) {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(dir, manifest))
	require.NoError(t, err)
	for line := range strings.Lines(string(text)) {
		sum, name, ok := strings.Cut(strings.TrimSuffix(line, "\n"), "  ")
		require.True(t, ok && strings.HasSuffix(line, "\n"), line)
		content, err := os.ReadFile(filepath.Join(dir, filepath.FromSlash(name)))
		require.NoError(t, err)
		digest := newHash()
		_, _ = digest.Write(content)
		require.Equal(t, hex.EncodeToString(digest.Sum(nil)), sum, name)
		files++
	}
	return files
}

// A result is acknowledged only after the folder's log records it.
func TestSaveAllWithoutItsLog(t *testing.T) {
	t.Parallel()
	v, dir := newVault(), t.TempDir()
	require.NoError(t, os.MkdirAll(filepath.Join(dir, "manifest-md5.txt", "in the way"), 0o700))
	r := v.add("a", []byte("a"))
	saved, err := v.client(t).Results.SaveAll(t.Context(), each(r), dir, WithManifest(manifestPoll()),
		WithAcknowledge())
	require.ErrorContains(t, err, "result r0 (")
	require.ErrorContains(t, err, "cannot write the manifest")
	assert.Empty(t, saved)
	assert.Empty(t, v.acked)
	require.NoError(t, os.Mkdir(filepath.Join(dir, "x"), 0o700))
	require.NoError(t,
		os.WriteFile(filepath.Join(dir, "x", "ricloud-log.txt"), []byte("no hash\n"), 0o600))
	_, err = v.client(t).Results.SaveAll(t.Context(), each(r), filepath.Join(dir, "x"),
		WithManifest(manifestPoll()))
	require.ErrorContains(t, err, "the log of the folder is damaged: line 1")
}

// The manifest, the log and Saved tell of the file that was saved, also if the caller's functions
// change what they are given, or if the caller gave no more than an ID.
func TestWhatIsRecordedIsWhatWasSaved(t *testing.T) {
	t.Parallel()
	v, dir := newVault(), t.TempDir()
	whole, bare := v.add("a", random(1000)), v.add("b", random(2000))
	want := []string{whole.Checksum, bare.Checksum}
	options := []SaveAllOption{
		WithFileNames(func(r *Result) string {
			name := r.Identifier
			*r = Result{ID: "another", Checksum: "none"}
			return name
		}),
		WithProgress(func(p Progress) { *p.Result = Result{ID: "another", Checksum: "none"} }),
		WithAcknowledge(),
	}
	results := []*Result{whole, {ID: bare.ID}}
	requireRecorded := func(saved []Saved, err error) {
		t.Helper()
		require.NoError(t, err)
		assert.ElementsMatch(t, v.ids, v.acked)
		v.acked = nil
		for i, s := range saved {
			assert.True(t, s.Acknowledged)
			assert.Equal(t, want[i], s.MD5)
		}
	}
	requireRecorded(v.client(t).Results.SaveAll(t.Context(), each(results...), dir,
		append(options, WithManifest(manifestPoll()))...))
	require.NoError(t, VerifyFolder(t.Context(), dir))
	log, err := os.ReadFile(filepath.Join(dir, "ricloud-log.txt"))
	require.NoError(t, err)
	for _, checksum := range want {
		assert.Contains(t, string(log), `"md5":"`+checksum+`"`)
	}
	assert.NotContains(t, string(log), "another")
	requireRecorded(v.client(t).Results.SaveAllTo(t.Context(), each(results...),
		changingSink{newMemorySink()}, options...))
}

// changingSink is a memorySink that also changes the result.
type changingSink struct{ *memorySink }

func (s changingSink) Store(ctx context.Context, file SinkFile) (StoredFile, error) {
	stored, err := s.memorySink.Store(ctx, file)
	*file.Result = Result{}
	return stored, err
}

func TestSavedHashes(t *testing.T) {
	t.Parallel()
	v := newVault()
	body := random(300_000)
	saved, err := v.client(t).Results.Save(t.Context(), v.add("a", body), t.TempDir(),
		WithFileNames(func(r *Result) string { return "p1_" + r.DataType() }))
	require.NoError(t, err)
	assert.Equal(t, fmt.Sprintf("%x", sha256.Sum256(body)), saved.SHA256)
	assert.Equal(t, "p1_a", filepath.Base(saved.Path))
}
