package download

import (
	"bytes"
	"context"
	"encoding/hex"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// breaks holds, by name, functions that remove what a file system or an operating system may lack.
var breaks = map[string]func(*system){ //nolint:gochecknoglobals // a table of the tests
	"everything works": func(*system) {},
	"no locks": func(s *system) {
		s.lock = func(*os.File) (bool, error) { return false, syscall.ENOLCK }
	},
	"no links": func(s *system) {
		s.link = func(*os.Root, string, string) error {
			return &os.LinkError{Op: "link", Err: syscall.EPERM}
		}
	},
	"no links, and no rename that spares": func(s *system) {
		s.link = func(*os.Root, string, string) error {
			return &os.LinkError{Op: "link", Err: syscall.ENOSYS}
		}
		s.rename = func(*os.Root, string, string) error { return errors.ErrUnsupported }
	},
	"no folder fsync": func(s *system) {
		s.syncFolder = func(*os.File) error { return syscall.EINVAL }
	},
	"nothing but rename": func(s *system) {
		s.lock = func(*os.File) (bool, error) { return false, errors.ErrUnsupported }
		s.link = func(*os.Root, string, string) error {
			return &os.LinkError{Op: "link", Err: syscall.ENOTSUP}
		}
		s.rename = func(*os.Root, string, string) error { return errors.ErrUnsupported }
		s.syncFolder = func(*os.File) error { return syscall.EINVAL }
	},
}

func onEverySystem(t *testing.T, test func(t *testing.T, f *Folder, dir string)) {
	t.Helper()
	for name, change := range breaks {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f, dir := folder(t)
			change(&f.sys)
			test(t, f, dir)
		})
	}
}

func TestSaveLeavesOnlyTheFile(t *testing.T) {
	t.Parallel()
	onEverySystem(t, func(t *testing.T, f *Folder, dir string) {
		o := &object{content: random(700_000)}
		kept := requireSaved(t, f, dir, "a", o)
		assert.False(t, kept.Found)
		assert.Equal(t, []string{"a"}, names(t, dir))
		kept = requireSaved(t, f, dir, "a", o)
		assert.True(t, kept.Found)
		assert.Equal(t, int32(1), o.opened.Load())
	})
}

func TestSaveNeverOverwrites(t *testing.T) {
	t.Parallel()
	onEverySystem(t, func(t *testing.T, f *Folder, dir string) {
		path := filepath.Join(dir, "a")
		theirs := []byte("made while it was read")
		o := &object{content: random(1000)}
		o.open = func(int, Request) (*Object, error) {
			if err := os.WriteFile(path, theirs, 0o600); err != nil {
				return nil, err
			}
			return o.from(0), nil
		}
		kept := requireSaved(t, f, dir, "a", o)
		assert.NotEqual(t, "a", kept.Name)
		requireContent(t, path, theirs)
		assert.Len(t, names(t, dir), 2)
	})
}

// The saved file is correct, whatever a partial file contains.
func TestSaveWithAnyPartialFile(t *testing.T) {
	t.Parallel()
	body := random(600_000)
	for name, tc := range map[string]struct {
		partial []byte
		opened  int32
		resumed bool
	}{
		"empty":           {partial: nil, opened: 1},
		"the first bytes": {partial: body[:500_000], opened: 1, resumed: true},
		"other bytes":     {partial: random(500_001)[1:], opened: 2, resumed: true},
		"too long":        {partial: append(bytes.Clone(body), 1), opened: 1},
		"whole but wrong": {partial: random(600_001)[1:], opened: 1},
		// A complete partial file is not trusted: its flush to disk may have failed.
		"whole": {partial: body, opened: 1},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f, dir := folder(t)
			o := &object{content: body}
			o.open = func(n int, req Request) (*Object, error) {
				if n == 1 && tc.resumed {
					assert.Equal(t, int64(500_000), req.Offset)
				} else {
					assert.Zero(t, req.Offset)
				}
				return o.from(req.Offset), nil
			}
			require.NoError(t,
				os.WriteFile(filepath.Join(dir, partialName("a", o.file())), tc.partial, 0o600))
			requireSaved(t, f, dir, "a", o)
			assert.Equal(t, tc.opened, o.opened.Load())
			assert.Equal(t, []string{"a"}, names(t, dir))
		})
	}
}

// If a Save was killed after it linked the file, its partial file is a second name for a file that
// the user may have changed since. It must not be written to.
func TestSaveNeverWritesToAFileWithTwoNames(t *testing.T) {
	t.Parallel()
	for name, finished := range map[string]int{"whole": 1000, "an older, shorter one": 900} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f, dir := folder(t)
			o := &object{content: random(1000)}
			archived := filepath.Join(t.TempDir(), "archived")
			require.NoError(t, os.WriteFile(archived, o.content[:finished], 0o600))
			require.NoError(t, os.Link(archived, filepath.Join(dir, partialName("a", o.file()))))
			require.NoError(t,
				os.WriteFile(archived, append([]byte("edited "), o.content[:finished-7]...), 0o600))
			before, err := os.ReadFile(archived)
			require.NoError(t, err)
			requireSaved(t, f, dir, "a", o)
			requireContent(t, archived, before)
			assert.Equal(t, []string{"a"}, names(t, dir))
			requireContent(t, filepath.Join(dir, "a"), o.content)
		})
	}
}

// If the finished file still has its name, Save removes such a leftover.
func TestSaveRemovesTheLeftoverOfAKill(t *testing.T) {
	t.Parallel()
	f, dir := folder(t)
	o := &object{content: random(1000)}
	require.NoError(t, os.WriteFile(filepath.Join(dir, "a"), o.content, 0o600))
	require.NoError(t,
		os.Link(filepath.Join(dir, "a"), filepath.Join(dir, partialName("a", o.file()))))
	requireSaved(t, f, dir, "a", o)
	assert.Equal(t, []string{"a"}, names(t, dir))
	assert.Zero(t, o.opened.Load())
}

// If a Save was killed while it claimed a name, it left an empty file, which the next Save
// replaces.
func TestSaveHealsAClaim(t *testing.T) {
	t.Parallel()
	onEverySystem(t, func(t *testing.T, f *Folder, dir string) {
		o := &object{content: random(1000)}
		stem := strings.TrimSuffix(partialName("a", o.file()), partialSuffix)
		for _, claim := range []string{stem, stem + "-0123456789abcdef"} {
			path := filepath.Join(dir, claim+claimSuffix)
			require.NoError(t, os.WriteFile(path, o.content, 0o600))
		}
		require.NoError(t, os.WriteFile(filepath.Join(dir, "a"), nil, 0o600))
		kept := requireSaved(t, f, dir, "a", o)
		assert.Equal(t, "a", kept.Name)
		assert.Equal(t, []string{"a"}, names(t, dir))
	})
	t.Run("a user's empty file is kept", func(t *testing.T) {
		t.Parallel()
		f, dir := folder(t)
		require.NoError(t, os.WriteFile(filepath.Join(dir, "a"), nil, 0o600))
		kept := requireSaved(t, f, dir, "a", &object{content: random(1000)})
		assert.NotEqual(t, "a", kept.Name)
		requireContent(t, filepath.Join(dir, "a"), nil)
	})
}

func TestSaveDoesNotForgetAFailedSync(t *testing.T) {
	t.Parallel()
	for name, change := range breaks {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f, dir := folder(t)
			change(&f.sys)
			o := &object{content: random(1000)}
			fails := true
			f.sys.sync = func(file *os.File) error {
				if fails {
					return &fs.PathError{Op: "sync", Path: file.Name(), Err: syscall.EIO}
				}
				return file.Sync()
			}
			_, err := save(t, f, "a", o)
			require.ErrorIs(t, err, syscall.EIO)
			assert.Empty(t, names(t, dir))
			fails = false
			requireSaved(t, f, dir, "a", o)
			assert.Equal(t, int32(2), o.opened.Load(), "it is read again")
		})
	}
}

func TestSync(t *testing.T) {
	t.Parallel()
	for _, unsupported := range []error{
		syscall.EINVAL, syscall.ENOTSUP, syscall.ENOSYS, syscall.EBADF, syscall.EACCES,
		errors.ErrUnsupported,
	} {
		f, dir := folder(t)
		kept := requireSaved(t, f, dir, "a", &object{content: random(10)})
		f.sys.syncFolder = func(*os.File) error { return unsupported }
		synced, err := f.Sync(kept)
		require.NoError(t, err, "%v", unsupported)
		assert.False(t, synced)
		assert.Equal(t, []string{"a"}, names(t, dir))
	}
	f, err := OpenFolder(t.TempDir(), "data")
	require.NoError(t, err)
	defer func() { _ = f.Close() }()
	answers := []error{syscall.EINVAL, nil}
	f.sys.syncFolder = func(*os.File) error {
		defer func() { answers = answers[1:] }()
		return answers[0]
	}
	synced, err := f.Sync()
	require.NoError(t, err)
	assert.False(t, synced, "one of the two folders was not flushed")
	for _, failed := range []error{
		syscall.EIO, syscall.ENOSPC, syscall.ESTALE, syscall.EROFS,
	} {
		f, dir := folder(t)
		require.NoError(t, os.WriteFile(filepath.Join(dir, "found"), random(10), 0o600))
		found := requireSaved(t, f, dir, "found", &object{content: random(10)})
		kept := requireSaved(t, f, dir, "a", &object{content: random(10)})
		f.sys.syncFolder = func(*os.File) error { return failed }
		_, err := f.Sync(found, kept)
		require.ErrorIs(t, err, failed)
		assert.Equal(t, []string{"found"}, names(t, dir),
			"what is perhaps lost is not found the next time")
		f.sys.syncFolder = (*os.File).Sync
		synced, err := f.Sync(found)
		require.NoError(t, err)
		assert.True(t, synced)
	}
}

// Sync fails if the folder, or that of the named files, is not where it was: the files are
// elsewhere then, and not removed.
func TestSyncOfAFolderThatWasMoved(t *testing.T) {
	t.Parallel()
	for moved, again := range map[string]bool{
		"": false, "again": true, "data": false, "data/again": true,
	} {
		t.Run(moved, func(t *testing.T) {
			t.Parallel()
			dir := filepath.Join(t.TempDir(), "results")
			f, err := OpenFolder(dir, "data")
			require.NoError(t, err)
			defer func() { _ = f.Close() }()
			o := &object{content: random(10)}
			kept := requireSaved(t, f, dir, "a", o)
			path := filepath.Join(dir, strings.TrimSuffix(moved, "again"))
			require.NoError(t, os.Rename(path, path+".old"))
			if again {
				require.NoError(t, os.MkdirAll(filepath.Join(dir, "data"), 0o700))
			}
			_, err = f.Sync(kept)
			require.ErrorIs(t, err, errFolderMoved)
			file := strings.Replace(filepath.Join(dir, kept.Name), path, path+".old", 1)
			requireContent(t, file, o.content)
		})
	}
}

// Save ends soon with an error if one of its names belongs to something other than a regular file.
func TestSaveMeetsOddThings(t *testing.T) {
	t.Parallel()
	o := &object{content: random(1000)}
	partial := partialName("a", o.file())
	outside := filepath.Join(t.TempDir(), "outside")
	require.NoError(t, os.WriteFile(outside, []byte("outside"), 0o600))
	odd := map[string]func(path string) error{
		"symbolic link":            func(path string) error { return os.Symlink(outside, path) },
		"symbolic link within":     func(path string) error { return os.Symlink("elsewhere", path) },
		"symbolic link to nothing": func(path string) error { return os.Symlink("nothing", path) },
		"symbolic link to itself": func(path string) error {
			return os.Symlink(filepath.Base(path), path)
		},
		"folder": func(path string) error { return os.Mkdir(path, 0o700) },
	}
	addOddThings(odd)
	for name, create := range odd {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
			defer cancel()
			f, dir := folder(t)
			require.NoError(t, os.WriteFile(filepath.Join(dir, "elsewhere"), []byte("elsewhere"), 0o600))
			require.NoError(t, create(filepath.Join(dir, partial)))
			_, err := f.Save(ctx, "a", limits(), o.file())
			require.ErrorContains(t, err, partial+" is not a regular file")
			require.NoError(t, ctx.Err(), "it does not block")

			f, dir = folder(t)
			require.NoError(t, os.WriteFile(filepath.Join(dir, "elsewhere"), []byte("elsewhere"), 0o600))
			require.NoError(t, create(filepath.Join(dir, "a")))
			kept, err := f.Save(ctx, "a", limits(), o.file())
			require.NoError(t, err)
			requireContent(t, filepath.Join(dir, kept.Name), o.content)
			require.NoError(t, create(filepath.Join(dir, FileName("b"))))
			require.NoError(t, create(filepath.Join(dir, otherName("b", o.file().MD5))))
			_, err = f.Save(ctx, "b", limits(), o.file())
			require.ErrorIs(t, err, fs.ErrExist)
			requireContent(t, filepath.Join(dir, "elsewhere"), []byte("elsewhere"))
			requireContent(t, outside, []byte("outside"))
		})
	}
}

func TestSaveEndsWithItsContext(t *testing.T) {
	t.Parallel()
	why := errors.New("shutting down")
	t.Run("while it hashes an existing file", func(t *testing.T) {
		t.Parallel()
		f, dir := folder(t)
		file, err := os.Create(filepath.Join(dir, "a"))
		require.NoError(t, err)
		const size = 1 << 40 // a sparse file, which takes an hour to hash
		if err := file.Truncate(size); err != nil {
			require.NoError(t, file.Truncate(1<<33)) // some file systems have a smaller limit
		}
		info, err := file.Stat()
		require.NoError(t, err)
		require.NoError(t, file.Close())
		ctx, cancel := context.WithCancelCause(t.Context())
		time.AfterFunc(50*time.Millisecond, func() { cancel(why) })
		began := time.Now()
		_, err = f.Save(ctx, "a", limits(), &File{
			Size: info.Size(), MD5: make([]byte, 16), Permanent: func(error) bool { return false },
		})
		require.ErrorIs(t, err, why)
		require.ErrorIs(t, err, context.Canceled)
		assert.Less(t, time.Since(began), 5*time.Second)
	})
	t.Run("while another Save holds the lock", func(t *testing.T) {
		t.Parallel()
		f, _ := folder(t)
		f.sys.lock = func(*os.File) (bool, error) { return false, nil }
		ctx, cancel := context.WithCancelCause(t.Context())
		time.AfterFunc(50*time.Millisecond, func() { cancel(why) })
		_, err := f.Save(ctx, "a", limits(), (&object{content: random(10)}).file())
		require.ErrorIs(t, err, why)
		require.ErrorIs(t, err, context.Canceled)
	})
	t.Run("while it reads a body that ignores the context", func(t *testing.T) {
		t.Parallel()
		f, dir := folder(t)
		ctx, cancel := context.WithCancelCause(t.Context())
		file := (&object{content: random(1 << 20)}).file()
		file.Progress = func(int64) { cancel(why) }
		_, err := f.Save(ctx, "a", limits(), file)
		require.ErrorIs(t, err, why)
		assert.NotContains(t, names(t, dir), "a")
	})
}

func TestSaveAfterAPanic(t *testing.T) {
	t.Parallel()
	onEverySystem(t, func(t *testing.T, f *Folder, dir string) {
		o := &object{content: random(1 << 20)}
		file := o.file()
		file.Progress = func(int64) { panic("the callback's own") }
		assert.PanicsWithValue(t, "the callback's own", func() {
			_, _ = f.Save(t.Context(), "a", limits(), file)
		})
		requireSaved(t, f, dir, "a", o) // it does not wait for the failed Save
	})
}

func TestSaveOfTheSameFileAtOnce(t *testing.T) {
	t.Parallel()
	onEverySystem(t, func(t *testing.T, f *Folder, dir string) {
		o := &object{content: random(1 << 20)}
		var group sync.WaitGroup
		for range 8 {
			group.Go(func() {
				kept, err := f.Save(t.Context(), "a", limits(), o.file())
				if assert.NoError(t, err) {
					assert.Equal(t, "a", kept.Name)
				}
			})
		}
		group.Wait()
		requireContent(t, filepath.Join(dir, "a"), o.content)
		assert.Equal(t, []string{"a"}, names(t, dir))
	})
}

func TestSaveInASubfolder(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	f, err := OpenFolder(dir, "data")
	require.NoError(t, err)
	defer func() { _ = f.Close() }()
	kept := requireSaved(t, f, dir, "a", &object{content: random(10)})
	assert.Equal(t, "data/a", kept.Name)
	synced, err := f.Sync(kept)
	require.NoError(t, err)
	assert.True(t, synced)
	assert.Equal(t, []string{"data"}, names(t, dir))
}

// Nothing is saved through a link in place of the folder of the named files.
func TestSubfolderThatIsALink(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	require.NoError(t, os.Mkdir(filepath.Join(dir, "elsewhere"), 0o700))
	require.NoError(t, os.Symlink("elsewhere", filepath.Join(dir, "data")))
	_, err := OpenFolder(dir, "data")
	require.ErrorContains(t, err, "data is not a folder: remove it")

	link := filepath.Join(t.TempDir(), "link") // what the caller names may be a link
	require.NoError(t, os.Symlink(t.TempDir(), link))
	f, err := OpenFolder(link, "data")
	require.NoError(t, err)
	require.NoError(t, f.Close())
}

// File names have at most 143 bytes, which is the limit of encrypting file systems.
func TestNamesAreShort(t *testing.T) {
	t.Parallel()
	for _, id := range []string{
		"a", strings.Repeat("x", 1300),
		strings.Repeat("é", 99) + ".extension",
	} {
		o := &object{content: random(10)}
		for _, name := range []string{
			FileName(id), otherName(id, o.file().MD5),
			partialName(id, o.file()) + "-0123456789abcdef",
		} {
			assert.LessOrEqual(t, len(name), 143, name)
		}
	}
}

func TestRemovePartials(t *testing.T) {
	t.Parallel()
	f, dir := folder(t)
	o := &object{content: random(1000)}
	o.open = func(_ int, req Request) (*Object, error) {
		return o.broken(req.Offset, max(0, 600-int(req.Offset))), nil
	}
	_, err := save(t, f, "old", o)
	require.ErrorIs(t, err, errBroken)
	require.Len(t, names(t, dir), 1)
	require.NoError(t, os.WriteFile(filepath.Join(dir, "kept"), nil, 0o600))
	require.NoError(t, os.Symlink("kept", filepath.Join(dir, ".ricloud-link.part")))
	removed, err := RemovePartials(t.Context(), dir, time.Now().Add(-time.Hour))
	require.Error(t, err, "what is no file is named")
	assert.Empty(t, removed)
	require.NoError(t, os.Remove(filepath.Join(dir, ".ricloud-link.part")))

	locked, err := f.root.Open(partialName("old", o.file()))
	require.NoError(t, err)
	ok, err := lockFile(locked)
	require.NoError(t, err)
	require.True(t, ok)
	removed, err = RemovePartials(t.Context(), dir, time.Now().Add(time.Hour))
	require.NoError(t, err)
	assert.Empty(t, removed, "a Save is writing it")
	require.NoError(t, locked.Close())

	removed, err = RemovePartials(t.Context(), dir, time.Now().Add(time.Hour))
	require.NoError(t, err)
	assert.Len(t, removed, 1)
	assert.Equal(t, []string{"kept"}, names(t, dir))
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err = RemovePartials(ctx, dir, time.Now())
	require.ErrorIs(t, err, context.Canceled)
}

func TestNotes(t *testing.T) {
	t.Parallel()
	f, dir := folder(t)
	assert.Empty(t, Notes[int](f, "poll"))
	for _, note := range []any{1, "two", func() {}, 3} { // a function is not JSON
		f.Note("poll", note)
	}
	f.Note("another", 4)
	assert.Equal(t, []int{1, 3}, Notes[int](f, "poll"))
	assert.Equal(t, []string{"two"}, Notes[string](f, "poll"))
	text, err := os.ReadFile(filepath.Join(dir, notesName("poll")))
	require.NoError(t, err)
	assert.Equal(t, "1\n\"two\"\n3\n", string(text))
	var none *Folder
	none.Note("poll", 1)
	assert.Empty(t, Notes[int](none, "poll"))
	require.NoError(t, os.WriteFile(filepath.Join(dir, "a"), random(10), 0o600))
	assert.True(t, f.Holds("a", 10))
	assert.False(t, f.Holds("a", 11))
	opened, err := f.Open("a")
	require.NoError(t, err)
	got := make([]byte, 20)
	n, _ := io.ReadFull(opened, got)
	assert.Equal(t, 10, n)
	require.NoError(t, opened.Close())
}

func TestOpenAndHashAreOfRegularFiles(t *testing.T) {
	t.Parallel()
	f, dir := folder(t)
	root := f.Root()
	require.NoError(t, os.WriteFile(filepath.Join(dir, "a"), []byte("hello"), 0o600))
	require.NoError(t, os.Mkdir(filepath.Join(dir, "folder"), 0o700))

	body, size, err := OpenLocal(root, "a", 2)
	require.NoError(t, err)
	var rest bytes.Buffer
	_, err = rest.ReadFrom(body)
	require.NoError(t, err)
	require.NoError(t, body.Close())
	assert.Equal(t, "llo", rest.String())
	assert.Equal(t, int64(5), size)
	md5, sha, size, err := HashFile(t.Context(), root, "a")
	require.NoError(t, err)
	assert.Equal(t, "5d41402abc4b2a76b9719d911017c592", hex.EncodeToString(md5))
	assert.Equal(t, "2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824",
		hex.EncodeToString(sha))
	assert.Equal(t, int64(5), size)

	for _, name := range []string{"folder", "none", "../a"} {
		_, _, err = OpenLocal(root, name, 0)
		require.Error(t, err, name)
		_, _, _, err = HashFile(t.Context(), root, name)
		require.Error(t, err, name)
	}
	_, _, err = OpenLocal(root, "a", -1)
	require.Error(t, err)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, _, _, err = HashFile(ctx, root, "a")
	require.ErrorIs(t, err, context.Canceled)
}

// Only one holder can have a lock. Waiting for it ends with the context.
func TestLockFile(t *testing.T) {
	t.Parallel()
	f, _ := folder(t)
	open := func() *os.File {
		file, err := OpenRegular(f.Root(), "lock", os.O_RDWR|os.O_CREATE)
		require.NoError(t, err)
		return file
	}
	first, second := open(), open()
	defer func() { assert.NoError(t, second.Close()) }()
	locked, err := LockFile(t.Context(), first)
	require.NoError(t, err)
	require.True(t, locked)
	ctx, cancel := context.WithCancelCause(t.Context())
	stopping := errors.New("stopping")
	time.AfterFunc(lockInterval, func() { cancel(stopping) })
	_, err = LockFile(ctx, second)
	require.ErrorIs(t, err, stopping)
	require.NoError(t, first.Close())
	locked, err = LockFile(t.Context(), second)
	require.NoError(t, err)
	require.True(t, locked)
}
