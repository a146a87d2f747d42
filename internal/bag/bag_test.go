package bag

import (
	"bytes"
	"crypto/md5"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func now() time.Time { return time.Date(2026, 11, 26, 8, 0, 0, 123, time.UTC) }

func info() []Field {
	return []Field{{
		Label: "External-Identifier",
		Value: "p1",
	}, {
		Label: "Ricloud-Source",
		Value: "a\nb",
	}, {
		Label: "Empty",
		Value: "",
	}}
}

// reopened returns a bag with one file, opened again, and its folder.
func reopened(t *testing.T) (dir string, b *Bag) {
	t.Helper()
	dir = t.TempDir()
	write(t, dir, map[string]string{"a": "the first"})
	root := openRoot(t, dir)
	b, err := Open(t.Context(), root, nil, now)
	require.NoError(t, err)
	return dir, b
}

// openRoot opens a folder until the end of the test.
func openRoot(t *testing.T, dir string) *os.Root {
	t.Helper()
	root, err := os.OpenRoot(dir)
	require.NoError(t, err)
	t.Cleanup(func() { _ = root.Close() })
	return root
}

// twice returns a bag that was written twice, and its log with its lines.
func twice(t *testing.T) (dir, log string, lines []string) {
	t.Helper()
	dir = t.TempDir()
	write(t, dir, map[string]string{"a": "the first"})
	write(t, dir, map[string]string{"b": "the second"})
	log = filepath.Join(dir, LogName)
	content, err := os.ReadFile(log)
	require.NoError(t, err)
	return dir, log, strings.SplitAfter(string(content), "\n")
}

// requireDamaged requires that Open refuses a bag.
func requireDamaged(t *testing.T, dir string) {
	t.Helper()
	_, err := Open(t.Context(), openRoot(t, dir), nil, now)
	require.ErrorIs(t, err, ErrDamaged)
}

// write creates or extends a bag with the given files, by name.
func write(t *testing.T, dir string, files map[string]string) {
	t.Helper()
	root := openRoot(t, dir)
	require.NoError(t, root.MkdirAll(Payload, 0o700))
	b, err := Open(t.Context(), root, info(), now)
	require.NoError(t, err)
	for name, content := range files {
		require.NoError(t, root.WriteFile(Payload+"/"+name, []byte(content), 0o600))
		e := Entry{
			Path: Payload + "/" + name, Size: int64(len(content)),
			MD5: fmt.Sprintf("%x", md5.Sum([]byte(content))), SHA256: fmt.Sprintf("%x",
				sha256.Sum256([]byte(content))),
		}
		require.NoError(t, b.Log(
			Line{
				Time: now(), Step: "published", Result: name, Fields: map[string]string{"identifier": name},
			},
			Line{Time: now(), Step: "verified", Result: name, Entry: &e}))
		assert.True(t, b.has(name, "verified"))
		assert.Equal(t, e, b.entries[e.Path])
		require.NoError(t, b.Write())
	}
	require.NoError(t, b.Log())
	require.NoError(t, b.Write())
	require.NoError(t, b.Close())
}

func verify(t *testing.T, dir string) []Difference {
	t.Helper()
	root := openRoot(t, dir)
	found, err := Verify(t.Context(), root)
	require.NoError(t, err)
	return found
}

// everyFile returns the paths of all files in dir.
func everyFile(t *testing.T, dir string) (all []string) {
	t.Helper()
	require.NoError(t, filepath.WalkDir(dir, func(path string, entry fs.DirEntry, err error) error {
		if err == nil && !entry.IsDir() {
			name, _ := filepath.Rel(dir, path)
			all = append(all, filepath.ToSlash(name))
		}
		return err
	}))
	return all
}

// A bag follows the rules of RFC 8493, section 2.
func TestBagIsBagIt(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	files := map[string]string{
		"callkit.calls": "calls", "empty": "",
		"img~0a.jpg": strings.Repeat("x", 1000),
	}
	write(t, dir, files)
	read := func(name string) string {
		text, err := os.ReadFile(filepath.Join(dir, name))
		require.NoError(t, err)
		return string(text)
	}
	// 2.1.1: bagit.txt has exactly these two lines.
	assert.Equal(t, "BagIt-Version: 1.0\nTag-File-Character-Encoding: UTF-8\n", read("bagit.txt"))
	// 2.1.2: the payload is in data/.
	info, err := os.Stat(filepath.Join(dir, "data"))
	require.NoError(t, err)
	assert.True(t, info.IsDir())
	// 2.1.3: every manifest lists each payload file once: checksum, two spaces, path from the base.
	for _, manifest := range []string{"manifest-md5.txt", "manifest-sha256.txt"} {
		lines := strings.Split(strings.TrimSuffix(read(manifest), "\n"), "\n")
		require.Len(t, lines, len(files))
		for _, line := range lines {
			sum, path, ok := strings.Cut(line, "  ")
			require.True(t, ok)
			content := files[strings.TrimPrefix(path, "data/")]
			want := fmt.Sprintf("%x", md5.Sum([]byte(content)))
			if manifest == "manifest-sha256.txt" {
				want = fmt.Sprintf("%x", sha256.Sum256([]byte(content)))
			}
			assert.Equal(t, want, sum, path)
		}
	}
	// 2.2.1: a tag manifest lists the manifests and the other tag files, and no tag manifest.
	for _, manifest := range []string{"tagmanifest-md5.txt", "tagmanifest-sha256.txt"} {
		text := read(manifest)
		for _, name := range []string{
			"bagit.txt", "bag-info.txt", "manifest-md5.txt",
			"manifest-sha256.txt", LogName,
		} {
			assert.Equal(t, 1, strings.Count(text, "  "+name+"\n"), name)
		}
		assert.NotContains(t, text, "  tagmanifest")
		assert.NotContains(t, text, "  data/")
	}
	// 2.2.2: each line of bag-info.txt has a label, a colon and a value.
	for line := range strings.Lines(read("bag-info.txt")) {
		label, value, ok := strings.Cut(strings.TrimSuffix(line, "\n"), ": ")
		assert.True(t, ok, line)
		assert.NotEmpty(t, label)
		assert.NotEmpty(t, value)
	}
	assert.Contains(t, read("bag-info.txt"), "Payload-Oxum: 1005.3\n")
	assert.Contains(t, read("bag-info.txt"), "Bagging-Date: 2026-11-26\n")
	assert.Contains(t, read("bag-info.txt"), "Ricloud-Source: a b\n")
	// 2.2.4 and 3: the bag is complete and valid.
	assert.Empty(t, verify(t, dir))
}

// Verify names exactly the file in which one bit was flipped.
func TestVerifyNamesEveryFlippedBit(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	write(t, dir, map[string]string{"a": "the first", "b": "another"})
	require.NoError(t, os.WriteFile(filepath.Join(dir, ".ricloud-0a.files"), []byte("{}\n"), 0o600))
	write(t, dir, map[string]string{"c": "the third"})
	require.Empty(t, verify(t, dir))
	for _, name := range everyFile(t, dir) {
		path := filepath.Join(dir, filepath.FromSlash(name))
		content, err := os.ReadFile(path)
		require.NoError(t, err)
		for i := range content {
			if len(content) > 500 && i%7 != 0 { // a sample is enough for a long file
				continue
			}
			flipped := bytes.Clone(content)
			flipped[i] ^= 1 << (i % 8)
			require.NoError(t, os.WriteFile(path, flipped, 0o600)) //nolint:gosec // in the test's own folder
			named := map[string]bool{}
			for _, d := range verify(t, dir) {
				named[d.Path] = true
			}
			require.Equal(t, map[string]bool{name: true}, named, "byte %d of %s", i, name)
		}
		require.NoError(t, os.WriteFile(path, content, 0o600)) //nolint:gosec // in the test's own folder
	}
}

func TestVerifyNamesWhatIsMissingOrAdded(t *testing.T) {
	t.Parallel()
	for _, name := range []string{
		"data/a", "data/b", "manifest-md5.txt", "manifest-sha256.txt", "tagmanifest-md5.txt",
		"tagmanifest-sha256.txt",
		"bag-info.txt", LogName,
	} {
		dir := t.TempDir()
		write(t, dir, map[string]string{"a": "the first", "b": ""})
		require.NoError(t, os.Remove(filepath.Join(dir, filepath.FromSlash(name))))
		found := verify(t, dir)
		require.NotEmpty(t, found, name)
		assert.Equal(t, name, found[0].Path)
	}
	for _, name := range []string{"data/new", "data/sub/new"} {
		dir := t.TempDir()
		write(t, dir, map[string]string{"a": "the first"})
		path := filepath.Join(dir, filepath.FromSlash(name))
		require.NoError(t, os.MkdirAll(filepath.Dir(path), 0o700))
		require.NoError(t, os.WriteFile(path, []byte("x"), 0o600))
		assert.Equal(t, []Difference{{Path: name, Problem: "is in no manifest"}}, verify(t, dir))
	}
	root := openRoot(t, t.TempDir())
	_, err := Verify(t.Context(), root)
	require.ErrorContains(t, err, "is not a bag")
}

// If lines were cut off the log, Open refuses to continue it.
func TestBagWithoutTheEndOfItsLog(t *testing.T) {
	t.Parallel()
	for name, cut := range map[string]func(path string, lines []string) error{
		"the last line": func(path string, lines []string) error {
			return os.WriteFile(path, []byte(strings.Join(lines[:len(lines)-2], "")), 0o600)
		},
		"all but one line": func(path string, lines []string) error {
			return os.WriteFile(path, []byte(lines[0]), 0o600)
		},
		"all lines": func(path string, _ []string) error { return os.WriteFile(path, nil, 0o600) },
		"the log":   func(path string, _ []string) error { return os.Remove(path) },
		"the log, and its line in the tag manifest": func(path string, _ []string) error {
			return errors.Join(os.Remove(path),
				os.WriteFile(filepath.Join(filepath.Dir(path), tagSHA), nil, 0o600))
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir, log, lines := twice(t)
			require.NoError(t, cut(log, lines))
			requireDamaged(t, dir)
			assert.NotEmpty(t, verify(t, dir))
		})
	}
}

func TestVerifyNamesWhatIsNotOfTheBag(t *testing.T) {
	t.Parallel()
	for _, name := range []string{
		"manifest-sha1.txt", "tagmanifest-sha512.txt", "fetch.txt", "notes", ".hidden",
	} {
		dir := t.TempDir()
		write(t, dir, map[string]string{"a": "the first"})
		require.NoError(t, os.WriteFile(filepath.Join(dir, name), []byte("x"), 0o600))
		found := verify(t, dir)
		require.Len(t, found, 1)
		assert.Equal(t, name, found[0].Path)
	}
}

// A process that dies while it writes leaves a log that the next process can continue.
func TestBagAfterACrash(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	write(t, dir, map[string]string{"a": "the first"})
	log, err := os.OpenFile(filepath.Join(dir, LogName), os.O_WRONLY|os.O_APPEND, 0o600)
	require.NoError(t, err)
	_, err = log.WriteString("0123456789abcdef {\"time\":")
	require.NoError(t, err)
	require.NoError(t, log.Close())
	require.NoError(t, os.WriteFile(filepath.Join(dir, temporary), []byte("half"), 0o600))
	require.NotEmpty(t, verify(t, dir))
	write(t, dir, map[string]string{"b": "the second"})
	assert.Empty(t, verify(t, dir))

	content, err := os.ReadFile(filepath.Join(dir, LogName))
	require.NoError(t, err)
	content[100] ^= 1
	//nolint:gosec // in the test's own folder
	require.NoError(t, os.WriteFile(filepath.Join(dir, LogName), content, 0o600))
	root := openRoot(t, dir)
	_, err = Open(t.Context(), root, nil, now)
	require.ErrorIs(t, err, ErrDamaged, "a damaged log is not continued as if it were not")
}

// A line that is taken out of the log, or moved, breaks the chain.
func TestVerifyNamesALogWithoutALine(t *testing.T) {
	t.Parallel()
	for name, edit := range map[string]func([]string) []string{
		"taken out": func(lines []string) []string { return slices.Delete(lines, 1, 2) },
		"moved": func(lines []string) []string {
			lines[1], lines[2] = lines[2], lines[1]
			return lines
		},
		"the first": func(lines []string) []string { return lines[1:] },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir, log, lines := twice(t)
			require.NoError(t, os.WriteFile(log, []byte(strings.Join(edit(lines), "")), 0o600))
			retag(t, dir)
			found := verify(t, dir)
			require.Len(t, found, 1)
			assert.Equal(t, LogName, found[0].Path)
			requireDamaged(t, dir)
		})
	}
}

// A line that did not reach the disk is not in the bag, and no manifest tells of it. Opened
// again, the bag can be continued.
func TestBagOnADiskThatFails(t *testing.T) {
	t.Parallel()
	dir, b := reopened(t)
	log, err := os.ReadFile(filepath.Join(dir, LogName))
	require.NoError(t, err)
	broken := errors.New("the disk is broken")
	b.sync = func(f *os.File) error {
		if f == b.log {
			_, _ = f.WriteString("half a line")
		}
		return broken
	}
	require.ErrorIs(t, b.Write(), broken)
	assert.Empty(t, verify(t, dir), "a manifest that is not on disk replaces none")
	require.ErrorIs(t, b.Log(Line{Step: "acknowledged", Result: "a"}), broken)
	assert.False(t, b.has("a", "acknowledged"))
	after, err := os.ReadFile(filepath.Join(dir, LogName))
	require.NoError(t, err)
	assert.Equal(t, string(log), string(after), "a later flush would not notice what was lost")
	b.sync = (*os.File).Sync
	require.ErrorIs(t, b.Log(Line{Step: "late", Result: "a"}), broken, "it would not follow")
	require.ErrorIs(t, b.Write(), broken, "it would list a log that ends in half a line")
	require.NoError(t, b.Close())
	write(t, dir, map[string]string{"b": "the second"})
	assert.Empty(t, verify(t, dir))
}

// Paths are written as RFC 8493 asks for, and bag-info.txt keeps what an earlier writer said.
func TestBagOfSeveralWriters(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	write(t, dir, map[string]string{"50%0A": "the first"})
	root := openRoot(t, dir)
	b, err := Open(t.Context(), root, []Field{{"External-Identifier", "p2"}}, now)
	require.NoError(t, err)
	require.NoError(t, b.Write())
	require.NoError(t, b.Close())
	manifest, err := root.ReadFile(manifestSHA)
	require.NoError(t, err)
	assert.True(t, strings.HasSuffix(string(manifest), "  data/50%250A\n"))
	text, err := root.ReadFile(infoName)
	require.NoError(t, err)
	assert.Equal(t, "Bagging-Date: 2026-11-26\nExternal-Identifier: p1\nRicloud-Source: a b\n"+
		"External-Identifier: p2\nPayload-Oxum: 9.1\n", string(text))
	assert.Empty(t, verify(t, dir))
}

// What bag-info.txt says is not said again by each run that continues the bag.
func TestBagInfoIsNotRepeated(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	var texts []string
	for range 3 {
		b, err := Open(t.Context(), openRoot(t, dir), info(), now)
		require.NoError(t, err)
		require.NoError(t, b.Write())
		require.NoError(t, b.Close())
		text, err := os.ReadFile(filepath.Join(dir, infoName))
		require.NoError(t, err)
		texts = append(texts, string(text))
	}
	assert.Equal(t, texts[0], texts[1])
	assert.Equal(t, texts[0], texts[2])
}

// The log has each step of a file once, and says whether the file was read or found.
func TestRecord(t *testing.T) {
	t.Parallel()
	root := openRoot(t, t.TempDir())
	b, err := Open(t.Context(), root, nil, now)
	require.NoError(t, err)
	read, found := File{Entry: Entry{Path: "data/a"}, Result: "1"}, File{Result: "2", Found: true}
	require.NoError(t, b.Record(read, found))
	require.NoError(t, b.Acknowledge("1"))
	require.NoError(t, b.Acknowledge("1", "2"))
	require.NoError(t, b.Record(read))
	read.Size = 1
	require.NoError(t, b.Record(read), "another content under the name")
	require.NoError(t, b.Close())
	log, err := root.ReadFile(LogName)
	require.NoError(t, err)
	var steps []string
	for text := range strings.Lines(string(log)) {
		var line Line
		_, body, _ := strings.Cut(text, " ")
		require.NoError(t, json.Unmarshal([]byte(body), &line))
		steps = append(steps, line.Result+" "+line.Step)
	}
	assert.Equal(t, []string{
		"1 published", "1 fetched", "1 verified", "2 published", "2 found", "2 verified",
		"1 acknowledged", "2 acknowledged", "1 published", "1 fetched", "1 verified",
	}, steps)
}

// Record writes as many bytes for each file of a large folder as for those of a small one. After a
// crash, the manifests lack at most a fifth of the files, and the next writer completes them.
func TestRecordIsLinear(t *testing.T) {
	t.Parallel()
	const batch = 100
	root, err := os.OpenRoot(t.TempDir())
	require.NoError(t, err)
	defer func() { _ = root.Close() }()
	listed := func() (files int, bytes int64) {
		text, err := root.ReadFile(manifestSHA)
		require.NoError(t, err)
		return strings.Count(string(text), "\n"), int64(len(text))
	}
	b, err := Open(t.Context(), root, nil, now)
	require.NoError(t, err)
	var written int64
	b.sync = func(f *os.File) error {
		info, err := f.Stat()
		if f != b.log {
			written += info.Size()
		}
		return err
	}
	files := make([]File, 10_000)
	md5Sum, shaSum := sums("")
	for i := range files {
		name := fmt.Sprintf("%s/%d", Payload, i)
		files[i] = File{Result: name, Entry: Entry{Path: name, MD5: md5Sum, SHA256: shaSum}}
	}
	for done := batch; done <= len(files); done += batch {
		require.NoError(t, b.Record(files[done-batch:done]...))
		if done%1000 == 0 {
			count, _ := listed()
			require.GreaterOrEqual(t, count*5, (done-batch)*4)
		}
	}
	require.NoError(t, b.Close(), "as after a crash: without Write")

	b, err = Open(t.Context(), root, nil, now)
	require.NoError(t, err)
	require.NoError(t, b.Record(files[0]))
	require.NoError(t, b.Close())
	count, size := listed()
	assert.Equal(t, len(files), count)
	assert.Less(t, written, 10*size, "both manifests, at most five times each")
}

func TestTime(t *testing.T) {
	t.Parallel()
	assert.Empty(t, Time(time.Time{}))
	assert.Equal(t, "2026-01-02T02:04:05.5Z",
		Time(time.Date(2026, 1, 2, 3, 4, 5, 5e8, time.FixedZone("", 3600))))
}

// A date that JSON cannot hold does not keep the files from being recorded.
func TestRecordOfOddDates(t *testing.T) {
	t.Parallel()
	west := time.FixedZone("west", -5*3600)
	for date, want := range map[time.Time]string{
		time.Date(9999, 12, 31, 23, 59, 59, 0, west):  "0001-01-01T00:00:00Z",
		time.Date(-1, 1, 1, 0, 0, 0, 0, time.UTC):     "0001-01-01T00:00:00Z",
		time.Date(9999, 12, 31, 0, 0, 0, 0, time.UTC): "9999-12-31T00:00:00Z",
		time.Date(2026, 11, 27, 19, 0, 0, 0, west):    "2026-11-28T00:00:00Z",
		{}: "0001-01-01T00:00:00Z",
	} {
		dir := t.TempDir()
		b, err := Open(t.Context(), openRoot(t, dir), nil, now)
		require.NoError(t, err)
		require.NoError(t, b.Record(File{Entry: Entry{Path: "data/a"}, Result: "1", Published: date}))
		require.NoError(t, b.Close())
		log, err := os.ReadFile(filepath.Join(dir, LogName))
		require.NoError(t, err)
		assert.Contains(t, string(log), `{"time":"`+want+`","step":"published"`)
	}
}
