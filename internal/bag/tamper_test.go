package bag

import (
	"context"
	"crypto/md5"
	"crypto/sha256"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// change replaces text in a file of a bag.
func change(t *testing.T, dir, name, before, after string) {
	t.Helper()
	path := filepath.Join(dir, filepath.FromSlash(name))
	content, err := os.ReadFile(path)
	require.NoError(t, err)
	require.Contains(t, string(content), before)
	text := strings.Replace(string(content), before, after, 1)
	//nolint:gosec // in the test's own folder
	require.NoError(t, os.WriteFile(path, []byte(text), 0o600))
}

// replacing returns a change.
func replacing(name, before, after string) func(*testing.T, string) {
	return func(t *testing.T, dir string) {
		t.Helper()
		change(t, dir, name, before, after)
	}
}

// retag writes tag manifests that agree with what is there, as somebody who covers their tracks
// would.
func retag(t *testing.T, dir string) {
	t.Helper()
	var md5s, shas strings.Builder
	for _, name := range tagFiles() {
		content, err := os.ReadFile(filepath.Join(dir, name))
		require.NoError(t, err)
		fmt.Fprintf(&md5s, "%x  %s\n", md5.Sum(content), name)
		fmt.Fprintf(&shas, "%x  %s\n", sha256.Sum256(content), name)
	}
	require.NoError(t, os.WriteFile(filepath.Join(dir, tagMD5), []byte(md5s.String()), 0o600))
	require.NoError(t, os.WriteFile(filepath.Join(dir, tagSHA), []byte(shas.String()), 0o600))
}

func sums(content string) (md5Sum, shaSum string) {
	b := []byte(content)
	return fmt.Sprintf("%x", md5.Sum(b)), fmt.Sprintf("%x", sha256.Sum256(b))
}

// A change is named even if all manifests were rewritten to agree with it.
func TestVerifyNamesWhatAgreesWithItself(t *testing.T) {
	t.Parallel()
	md5A, shaA := sums("the first")
	md5New, shaNew := sums("a forgery")
	for name, test := range map[string]struct {
		tamper        func(t *testing.T, dir string)
		path, problem string
	}{
		"a file and its manifests": {
			path: manifestSHA, problem: "the log has for data/a",
			tamper: func(t *testing.T, dir string) {
				t.Helper()
				change(t, dir, "data/a", "the first", "a forgery")
				change(t, dir, manifestMD5, md5A, md5New)
				change(t, dir, manifestSHA, shaA, shaNew)
			},
		},
		"a file left out": {
			path: manifestSHA, problem: "the log has for data/a",
			tamper: func(t *testing.T, dir string) {
				t.Helper()
				require.NoError(t, os.Remove(filepath.Join(dir, "data", "a")))
				change(t, dir, manifestMD5, md5A+"  data/a\n", "")
				change(t, dir, manifestSHA, shaA+"  data/a\n", "")
			},
		},
		"a path twice": {
			path: manifestMD5, problem: "lists data/a twice",
			tamper: replacing(manifestMD5, md5A+"  data/a\n", md5A+"  data/a\n"+md5A+"  data/a\n"),
		},
		"another spelling": {
			path: manifestSHA, problem: "line 1 is not a checksum",
			tamper: replacing(manifestSHA, "  data/a", " *data/a"),
		},
		"a path of one manifest": {
			path: manifestMD5, problem: "lists data/x, which is not",
			tamper: replacing(manifestMD5, "data/a\n", "data/a\n"+md5A+"  data/x\n"),
		},
		"the number of files": {
			path: infoName, problem: "does not say Payload-Oxum: 16.2",
			tamper: replacing(infoName, "Payload-Oxum: 16.2", "Payload-Oxum: 16.3"),
		},
		"the declaration": {
			path: declaration, problem: "is not the declaration",
			tamper: replacing(declaration, "1.0", "0.9"),
		},
		"a line of the log": {
			path: LogName, problem: "line 2 is not as it was written",
			tamper: replacing(LogName, `"step":"verified"`, `"step":"invented"`),
		},
		"a line of the log that is not JSON": {
			path: LogName, problem: "line 1",
			tamper: func(t *testing.T, dir string) {
				t.Helper()
				var c chain
				require.NoError(t, os.WriteFile(filepath.Join(dir, LogName),
					[]byte(c.hash("no JSON")+" no JSON\n"), 0o600))
			},
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			write(t, dir, map[string]string{"a": "the first"})
			write(t, dir, map[string]string{"b": "another"})
			require.Empty(t, verify(t, dir))
			test.tamper(t, dir)
			retag(t, dir)
			found := verify(t, dir)
			require.NotEmpty(t, found)
			assert.Contains(t, fmt.Sprint(found), "{"+test.path+" ")
			assert.Contains(t, fmt.Sprint(found), test.problem)
		})
	}
}

// If one manifest is damaged, the payload is verified by the other one.
func TestVerifyByOneManifest(t *testing.T) {
	t.Parallel()
	for _, damaged := range []string{manifestMD5, manifestSHA} {
		dir := t.TempDir()
		write(t, dir, map[string]string{"a": "the first", "b": "another", "c": "third", "d": ""})
		change(t, dir, damaged, "  data/", "\tdata/")
		change(t, dir, "data/a", "first", "forged")
		require.NoError(t, os.Remove(filepath.Join(dir, "data", "b")))
		require.NoError(t, os.WriteFile(filepath.Join(dir, "data", "new"), nil, 0o600))
		problems := map[string]string{}
		for _, d := range verify(t, dir) {
			problems[d.Path] = d.Problem
		}
		assert.Contains(t, problems["data/a"], "has other bytes than the manifest says")
		assert.Equal(t, "is missing", problems["data/b"])
		assert.Equal(t, "is in no manifest", problems["data/new"])
		assert.Contains(t, problems, damaged)
		assert.NotContains(t, problems, "data/c")
	}
}

// What is not a regular file is named, and neither followed nor waited for.
func TestVerifyOfOddFiles(t *testing.T) {
	t.Parallel()
	for _, name := range []string{"data/a", LogName, infoName, manifestMD5, tagSHA} {
		dir := t.TempDir()
		write(t, dir, map[string]string{"a": "the first"})
		path := filepath.Join(dir, filepath.FromSlash(name))
		require.NoError(t, os.Rename(path, path+".moved"))
		require.NoError(t, os.Symlink(path+".moved", path))
		assert.Contains(t, fmt.Sprint(verify(t, dir)), name+" cannot be read")
	}
	dir := t.TempDir()
	write(t, dir, map[string]string{"a": "the first"})
	require.NoError(t, os.Symlink("a", filepath.Join(dir, "data", "extra")))
	require.NoError(t, os.WriteFile(filepath.Join(dir, ".ricloud-a.part"), nil, 0o600))
	require.NoError(t, os.WriteFile(filepath.Join(dir, ".ricloud-a.exe"), nil, 0o600))
	found := verify(t, dir)
	require.Len(t, found, 2)
	assert.Equal(t, ".ricloud-a.exe", found[0].Path)
	assert.Equal(t, "data/extra", found[1].Path)
	assert.Contains(t, found[1].Problem, "is not a regular file: remove it")
}

// A bag is not continued through a link under one of its names, and nothing is written there.
func TestBagOfLinks(t *testing.T) {
	t.Parallel()
	for _, name := range append(tagFiles(), tagMD5, tagSHA) {
		dir := t.TempDir()
		write(t, dir, map[string]string{"a": "the first"})
		path := filepath.Join(dir, name)
		before, err := os.ReadFile(path)
		require.NoError(t, err)
		require.NoError(t, os.Rename(path, path+".moved"))
		require.NoError(t, os.Symlink(name+".moved", path))
		b, err := Open(t.Context(), openRoot(t, dir), info(), now)
		if err == nil {
			err = b.Write()
			require.NoError(t, b.Close())
		}
		require.ErrorContains(t, err, name+" is not a regular file: remove it")
		after, err := os.ReadFile(path + ".moved")
		require.NoError(t, err)
		assert.Equal(t, string(before), string(after), name)
	}
}

// The folder of the payload must not be a link, even if the files are there.
func TestVerifyOfAPayloadBehindALink(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	write(t, dir, map[string]string{"a": "the first"})
	require.NoError(t, os.Rename(filepath.Join(dir, Payload), filepath.Join(dir, ".ricloud-x.part")))
	require.NoError(t, os.Symlink(".ricloud-x.part", filepath.Join(dir, Payload)))
	assert.Contains(t, verify(t, dir), Difference{Payload, "is not a folder"})
}

// Verify ends with its context, and says so.
func TestVerifyEndsWithItsContext(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	write(t, dir, map[string]string{"a": "the first"})
	root := openRoot(t, dir)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err := Verify(ctx, root)
	require.ErrorIs(t, err, context.Canceled)
}

// While one process writes a bag, another waits, and no longer than its context lasts.
func TestOpenWaitsForTheOtherWriter(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	root := openRoot(t, dir)
	first, err := Open(t.Context(), root, nil, now)
	require.NoError(t, err)
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
	defer cancel()
	_, err = Open(ctx, root, nil, now)
	require.ErrorIs(t, err, context.DeadlineExceeded)
	require.NoError(t, first.Close())
	second, err := Open(t.Context(), root, nil, now)
	require.NoError(t, err)
	require.NoError(t, second.Close())
}

// A bag whose own files are odd is an error of Open or of Write.
func TestBagOfOddFiles(t *testing.T) {
	t.Parallel()
	for _, name := range []string{LogName, infoName, tagSHA, temporary, manifestMD5} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			for thing, create := range map[string]func(path string) error{
				"a full folder": func(path string) error {
					return os.MkdirAll(filepath.Join(path, "within"), 0o700)
				},
				"an empty folder": func(path string) error { return os.Mkdir(path, 0o700) },
				"a link":          func(path string) error { return os.Symlink("nothing", path) },
			} {
				dir := t.TempDir()
				path := filepath.Join(dir, name)
				require.NoError(t, create(path))
				before, err := os.Lstat(path)
				require.NoError(t, err)
				b, err := Open(t.Context(), openRoot(t, dir), info(), now)
				if err == nil {
					err = b.Write()
					require.NoError(t, b.Close())
				}
				require.ErrorContains(t, err, name, thing)
				after, err := os.Lstat(path)
				require.NoError(t, err)
				assert.True(t, os.SameFile(before, after), thing)
			}
		})
	}
}

// The manifests of another program's bag are not replaced. Empty ones list nothing.
func TestOpenOfAnotherBag(t *testing.T) {
	t.Parallel()
	for _, name := range []string{manifestMD5, manifestSHA, "manifest-sha512.txt"} {
		dir := t.TempDir()
		path := filepath.Join(dir, name)
		require.NoError(t, os.WriteFile(path, nil, 0o600))
		b, err := Open(t.Context(), openRoot(t, dir), nil, now)
		require.NoError(t, err)
		require.NoError(t, b.Close())
		require.NoError(t, os.WriteFile(path, []byte("theirs"), 0o600))
		_, err = Open(t.Context(), openRoot(t, dir), nil, now)
		require.ErrorContains(t, err, name+" is of another bag")
	}
}

func TestBagDoesNotWriteThroughALink(t *testing.T) {
	t.Parallel()
	dir, outside := t.TempDir(), filepath.Join(t.TempDir(), "outside")
	require.NoError(t, os.WriteFile(outside, []byte("theirs"), 0o600))
	require.NoError(t, os.Symlink(outside, filepath.Join(dir, LogName)))
	root := openRoot(t, dir)
	_, err := Open(t.Context(), root, nil, now)
	require.Error(t, err)
	content, err := os.ReadFile(outside)
	require.NoError(t, err)
	assert.Equal(t, "theirs", string(content))
}

// A line that cannot be written leaves the log as it was: the next lines continue it.
func TestLogOfALineThatCannotBeWritten(t *testing.T) {
	t.Parallel()
	dir, b := reopened(t)
	require.Error(t, b.Log(
		Line{Time: now(), Step: "good", Result: "b"}, Line{Time: now(), Step: "bad", Fields: func() {}}))
	assert.False(t, b.has("b", "good"))
	require.Error(t, b.Record(File{Result: "c", Fields: func() {}}))
	assert.False(t, b.has("c", "published"))
	require.NoError(t, b.Acknowledge("a"))
	require.NoError(t, b.Write())
	require.NoError(t, b.Close())
	assert.Empty(t, verify(t, dir))
	require.Error(t, b.Log(Line{Time: now(), Step: "late", Result: "a"}), "the log is closed")
}
