package download

import (
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/iotest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// once returns a function that calls f the first time only.
func once(f func()) func() {
	var did sync.Once
	return func() { did.Do(f) }
}

// swap puts another file in the place of the one partial file in dir.
func swap(t *testing.T, dir, content string) {
	t.Helper()
	for _, name := range names(t, dir) {
		if IsPartial(name) {
			path := filepath.Join(dir, name)
			assert.NoError(t, os.Rename(path, path+".moved"))
			assert.NoError(t, os.WriteFile(path, []byte(content), 0o600))
		}
	}
}

// saveWithin saves a file as "a", and fails the test if that does not end soon.
func saveWithin(t *testing.T, f *Folder, o *object) (Kept, error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	kept, err := f.Save(ctx, "a", limits(), o.file())
	require.NotErrorIs(t, err, context.DeadlineExceeded, "Save does not end")
	return kept, err
}

// The partial file may be replaced at any moment before it gets its name. The name then never
// stands for what replaced it, if that can still be seen, and Save never returns what it did not
// verify.
func TestPublishOfAFileThatWasReplaced(t *testing.T) {
	t.Parallel()
	const theirs = "something else"
	noLinks := func(*os.Root, string, string) error { return errors.ErrUnsupported }
	for name, hook := range map[string]func(f *Folder, swap func()){
		"before its name": func(f *Folder, swap func()) {
			f.sys.sync = func(file *os.File) error {
				defer swap()
				return file.Sync()
			}
		},
		"at the link": func(f *Folder, swap func()) {
			f.sys.link = func(root *os.Root, from, to string) error {
				swap()
				return root.Link(from, to)
			}
		},
		"at the rename": func(f *Folder, swap func()) {
			f.sys.link = noLinks
			f.sys.rename = func(root *os.Root, from, to string) error {
				swap()
				return root.Rename(from, to)
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f, dir := folder(t)
			o := &object{content: random(5000)}
			hook(f, once(func() { swap(t, dir, theirs) }))
			kept, err := saveWithin(t, f, o)
			require.NoError(t, err)
			requireContent(t, filepath.Join(dir, kept.Name), o.content)
			if name == "before its name" {
				assert.Equal(t, "a", kept.Name, "the other file never gets the name")
			}
		})
	}
}

// A partial file that another program makes shorter or longer is not published.
func TestPublishOfAFileOfAnotherSize(t *testing.T) {
	t.Parallel()
	for _, size := range []int64{0, 4999, 5001} {
		f, dir := folder(t)
		o := &object{content: random(5000)}
		changed := once(func() {
			require.NoError(t, os.Truncate(filepath.Join(dir, partialName("a", o.file())), size))
		})
		f.sys.sync = func(file *os.File) error {
			changed()
			return file.Sync()
		}
		kept, err := saveWithin(t, f, o)
		require.NoError(t, err)
		requireContent(t, filepath.Join(dir, kept.Name), o.content)
		assert.Equal(t, []string{"a"}, names(t, dir))
	}
}

// A partial file that somebody gave a second name is theirs: it is not published, and not written
// to again.
func TestPublishOfAFileWithAnotherName(t *testing.T) {
	t.Parallel()
	f, dir := folder(t)
	o := &object{content: random(5000)}
	archived := filepath.Join(dir, "archived")
	link := once(func() {
		for _, name := range names(t, dir) {
			if IsPartial(name) {
				assert.NoError(t, os.Link(filepath.Join(dir, name), archived))
			}
		}
	})
	f.sys.sync = func(file *os.File) error {
		defer link()
		return file.Sync()
	}
	kept, err := saveWithin(t, f, o)
	require.NoError(t, err)
	requireContent(t, filepath.Join(dir, kept.Name), o.content)
	requireContent(t, archived, o.content)
	ours, err := os.Stat(filepath.Join(dir, kept.Name))
	require.NoError(t, err)
	theirs, err := os.Stat(archived)
	require.NoError(t, err)
	assert.False(t, os.SameFile(ours, theirs), "the file is not the one that was archived")
}

// After a sync that failed, whatever the reason, no partial file is left to be trusted.
func TestNothingIsLeftOfAFailedSync(t *testing.T) {
	t.Parallel()
	for _, failure := range []error{syscall.EIO, syscall.ENOSPC, errors.New("another")} {
		f, dir := folder(t)
		f.sys.sync = func(*os.File) error { return failure }
		_, err := saveWithin(t, f, &object{content: random(5000)})
		require.ErrorIs(t, err, failure)
		assert.Empty(t, names(t, dir), failure.Error())
	}
}

// If another process moves the partial file as soon as it is locked, Save does not write to that
// file: it has another name by now.
func TestTheLockedFileIsTheNamedOne(t *testing.T) {
	t.Parallel()
	f, dir := folder(t)
	o := &object{content: random(5000)}
	lock, move := f.sys.lock, once(func() { swap(t, dir, "") })
	f.sys.lock = func(file *os.File) (bool, error) {
		move()
		return lock(file)
	}
	kept, err := saveWithin(t, f, o)
	require.NoError(t, err)
	requireContent(t, filepath.Join(dir, kept.Name), o.content)
	for _, name := range names(t, dir) {
		if strings.HasSuffix(name, ".moved") {
			requireContent(t, filepath.Join(dir, name), nil)
		}
	}
	assert.Equal(t, int32(1), o.opened.Load(), "nothing is read for a file that cannot be published")
}

// While another process has the lock, nothing is read and nothing is written.
func TestNothingIsWrittenWithoutTheLock(t *testing.T) {
	t.Parallel()
	f, dir := folder(t)
	o := &object{content: random(5000)}
	looks := 0
	lock := f.sys.lock
	f.sys.lock = func(file *os.File) (bool, error) {
		if looks++; looks < 3 {
			assert.Zero(t, o.opened.Load())
			return false, nil
		}
		return lock(file)
	}
	kept, err := saveWithin(t, f, o)
	require.NoError(t, err)
	assert.Equal(t, 3, looks)
	requireContent(t, filepath.Join(dir, kept.Name), o.content)
}

// If the name is taken between two looks, nothing is read for it.
func TestAFileThatIsFinishedMeanwhile(t *testing.T) {
	t.Parallel()
	f, dir := folder(t)
	o := &object{content: random(5000)}
	lock := f.sys.lock
	f.sys.lock = func(file *os.File) (bool, error) {
		if err := os.WriteFile(filepath.Join(dir, "a"), o.content, 0o600); err != nil {
			return false, err
		}
		return lock(file)
	}
	kept, err := saveWithin(t, f, o)
	require.NoError(t, err)
	assert.True(t, kept.Found)
	assert.Zero(t, o.opened.Load())
	assert.Equal(t, []string{"a"}, names(t, dir))
}

// A Save whose file is taken away from its name again and again gives up.
func TestPublishGivesUp(t *testing.T) {
	t.Parallel()
	f, _ := folder(t)
	o := &object{content: random(5000)}
	f.sys.link = func(*os.Root, string, string) error { return nil } // as if it were gone at once
	_, err := saveWithin(t, f, o)
	require.ErrorContains(t, err, "another process keeps changing that file")
	assert.Equal(t, int32(maxOvertaken), o.opened.Load())
}

// Progress tells of the bytes of an earlier Save first, and at the end of the whole file, also if
// it was there.
func TestSaveReportsItsProgress(t *testing.T) {
	t.Parallel()
	f, dir := folder(t)
	o := &object{content: random(5000)}
	var told []int64
	file := o.file()
	file.Progress = func(done int64) { told = append(told, done) }
	partial := filepath.Join(dir, partialName("a", file))
	require.NoError(t, os.WriteFile(partial, o.content[:3000], 0o600))
	_, err := f.Save(t.Context(), "a", limits(), file)
	require.NoError(t, err)
	assert.Equal(t, []int64{3000, 5000, 5000}, told)
	told = nil
	_, err = f.Save(t.Context(), "a", limits(), file)
	require.NoError(t, err)
	assert.Equal(t, []int64{5000}, told)
}

// A Save that received nothing leaves nothing.
func TestNothingIsLeftOfNothing(t *testing.T) {
	t.Parallel()
	onEverySystem(t, func(t *testing.T, f *Folder, dir string) {
		o := &object{content: random(5000)}
		o.open = func(int, Request) (*Object, error) { return nil, errBroken }
		_, err := saveWithin(t, f, o)
		require.ErrorIs(t, err, errBroken)
		assert.Empty(t, names(t, dir))
	})
}

// After a disk error while it is written, nothing of the file is trusted.
func TestNothingIsLeftOfADiskError(t *testing.T) {
	t.Parallel()
	f, dir := folder(t)
	o := &object{content: random(5000)}
	o.open = func(int, Request) (*Object, error) {
		opened := o.from(0)
		opened.Body = io.NopCloser(io.MultiReader(io.LimitReader(opened.Body, 3000),
			iotest.ErrReader(syscall.EIO)))
		return opened, nil
	}
	_, err := f.Save(t.Context(), "a", Limits{Open: time.Minute, Stall: time.Minute}, o.file())
	require.ErrorIs(t, err, syscall.EIO)
	assert.Empty(t, names(t, dir))
}

// A file of the same size is not the file.
func TestAFileOfTheSameSizeIsNotFound(t *testing.T) {
	t.Parallel()
	f, dir := folder(t)
	o := &object{content: random(5000)}
	theirs := make([]byte, 5000)
	require.NoError(t, os.WriteFile(filepath.Join(dir, "a"), theirs, 0o600))
	kept, err := saveWithin(t, f, o)
	require.NoError(t, err)
	assert.False(t, kept.Found)
	requireContent(t, filepath.Join(dir, kept.Name), o.content)
	requireContent(t, filepath.Join(dir, "a"), theirs)
}

// The empty file of a claim is removed only while it is empty: another Save may have completed it
// since it was seen.
func TestDropClaimSparesACompletedFile(t *testing.T) {
	t.Parallel()
	f, dir := folder(t)
	o := &object{content: random(5000)}
	path := filepath.Join(dir, "a")
	require.NoError(t, os.WriteFile(path, nil, 0o600))
	seen, err := os.Lstat(path)
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(path, o.content, 0o600))
	partial := partialName("a", o.file())
	claim := filepath.Join(dir, strings.TrimSuffix(partial, partialSuffix)+claimSuffix)
	require.NoError(t, os.WriteFile(claim, o.content, 0o600))
	s := &saving{Folder: f, ctx: t.Context(), file: o.file(), identifier: "a", partial: partial}
	assert.False(t, s.dropClaim("a", seen))
	requireContent(t, path, o.content)
	assert.Equal(t, []string{"a"}, names(t, dir))
}

// If the folder of the named files becomes a symbolic link that leads out of the folder, nothing
// is written there, and the verified bytes stay where they are.
func TestPublishDoesNotLeaveTheFolder(t *testing.T) {
	t.Parallel()
	for name, change := range breaks {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir, outside := t.TempDir(), t.TempDir()
			f, err := OpenFolder(dir, "data")
			require.NoError(t, err)
			defer func() { _ = f.Close() }()
			change(&f.sys)
			f.sys.sync = func(*os.File) error {
				data := filepath.Join(dir, "data")
				return errors.Join(os.Rename(data, data+".old"), os.Symlink(outside, data))
			}
			_, err = saveWithin(t, f, &object{content: random(5000)})
			require.Error(t, err)
			assert.Empty(t, names(t, outside))
			if name != "no locks" && name != "nothing but rename" { // there, no later Save resumes
				assert.True(t, IsPartial(names(t, dir)[0]), "%v", names(t, dir))
			}
		})
	}
}

// An empty file is taken for the user's only if no claim is there at a second look either. A claim
// that stays, since it cannot be removed, does not keep Save waiting.
func TestAnEmptyFileIsLookedAtTwice(t *testing.T) {
	t.Parallel()
	f, dir := folder(t)
	o := &object{content: random(5000)}
	path := filepath.Join(dir, "a")
	require.NoError(t, os.WriteFile(path, nil, 0o600))
	seen, err := os.Lstat(path)
	require.NoError(t, err)
	partial := partialName("a", o.file())
	s := &saving{Folder: f, ctx: t.Context(), file: o.file(), identifier: "a", partial: partial}
	assert.False(t, s.isClaimed("a", seen))
	claim := filepath.Join(dir, strings.TrimSuffix(partial, partialSuffix)+claimSuffix)
	require.NoError(t, os.WriteFile(claim, o.content, 0o600))
	looks := 0
	for s.isClaimed("a", seen) {
		looks++
		require.Less(t, looks, 2*maxOvertaken)
	}
	assert.Positive(t, looks)
	require.NoError(t, os.Rename(claim, path))
	assert.True(t, s.isClaimed("a", seen), "it was completed")
}

// A claim loses its name to another Save, which then publishes its own file there: that file is not
// removed. A file that takes the place of the claim is not renamed either.
func TestAClaimThatIsLostRemovesNothing(t *testing.T) {
	t.Parallel()
	const theirs = "something else"
	for name, answer := range map[string]error{
		"another Save finished": syscall.ENOENT,
		"the disk failed":       syscall.EIO,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f, dir := folder(t)
			breaks["no links, and no rename that spares"](&f.sys)
			o := &object{content: random(5000)}
			var claim string
			f.sys.replace = func(_ *os.Root, from, to string) error {
				claim = filepath.Join(dir, from)
				return errors.Join(answer, os.Remove(filepath.Join(dir, to)), os.Remove(claim),
					os.WriteFile(claim, []byte(theirs), 0o600),
					os.WriteFile(filepath.Join(dir, to), o.content, 0o600))
			}
			kept, err := saveWithin(t, f, o)
			if errors.Is(answer, syscall.ENOENT) {
				require.NoError(t, err)
				assert.True(t, kept.Found)
			} else {
				require.ErrorIs(t, err, answer)
			}
			assert.Equal(t, int32(1), o.opened.Load())
			requireContent(t, filepath.Join(dir, "a"), o.content)
			requireContent(t, claim, []byte(theirs))
		})
	}
}

// A rename that failed leaves no empty file under the name, and the next Save resumes.
func TestAClaimThatFailsLeavesNoName(t *testing.T) {
	t.Parallel()
	f, dir := folder(t)
	breaks["no links, and no rename that spares"](&f.sys)
	o := &object{content: random(5000)}
	f.sys.replace = func(*os.Root, string, string) error { return syscall.EDQUOT }
	_, err := saveWithin(t, f, o)
	require.ErrorIs(t, err, syscall.EDQUOT)
	assert.Equal(t, []string{partialName("a", o.file())}, names(t, dir))
	f.sys.replace = (*os.Root).Rename
	requireSaved(t, f, dir, "a", o)
	assert.Equal(t, []string{"a"}, names(t, dir))
}

// Whatever fails between the steps of a claim, the next Save takes no empty file for the user's.
func TestAClaimOnADiskThatFails(t *testing.T) {
	t.Parallel()
	for name, shared := range map[string]bool{
		"no links, and no rename that spares": true, "nothing but rename": false,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f, dir := folder(t)
			breaks[name](&f.sys)
			o := &object{content: random(5000)}
			fails := func(*os.Root, string) error { return syscall.EIO }
			f.sys.remove = fails
			f.sys.replace = func(*os.Root, string, string) error { return syscall.EIO }
			_, err := saveWithin(t, f, o)
			require.ErrorIs(t, err, syscall.EIO)
			requireContent(t, filepath.Join(dir, "a"), nil)
			f.sys.replace = (*os.Root).Rename
			if shared { // the claim cannot be removed either: the file gets its second name
				kept, err := saveWithin(t, f, o)
				require.NoError(t, err)
				requireContent(t, filepath.Join(dir, kept.Name), o.content)
				require.NoError(t, os.Remove(filepath.Join(dir, kept.Name)))
			}
			f.sys.remove = (*os.Root).Remove
			kept := requireSaved(t, f, dir, "a", o)
			assert.Equal(t, "a", kept.Name)
			_, err = RemovePartials(t.Context(), dir, time.Now().Add(time.Hour))
			require.NoError(t, err)
			assert.Equal(t, []string{"a"}, names(t, dir))
		})
	}
}

// A Save that was killed before it created the name leaves its claim, which the next one removes.
func TestAClaimWithoutAName(t *testing.T) {
	t.Parallel()
	f, dir := folder(t)
	breaks["no links, and no rename that spares"](&f.sys)
	o := &object{content: random(5000)}
	claim := strings.TrimSuffix(partialName("a", o.file()), partialSuffix) + claimSuffix
	require.NoError(t, os.WriteFile(filepath.Join(dir, claim), o.content, 0o600))
	requireSaved(t, f, dir, "a", o)
	assert.Equal(t, []string{"a"}, names(t, dir))
}

// An empty file that appears just before a claim is not ours to replace.
func TestAClaimDoesNotReplaceAnEmptyFile(t *testing.T) {
	t.Parallel()
	f, dir := folder(t)
	o := &object{content: random(5000)}
	f.sys.link = func(root *os.Root, from, to string) error {
		if to != "a" {
			return root.Link(from, to)
		}
		return errors.Join(syscall.EPERM, os.WriteFile(filepath.Join(dir, to), nil, 0o600))
	}
	f.sys.rename = func(*os.Root, string, string) error { return errors.ErrUnsupported }
	kept, err := saveWithin(t, f, o)
	require.NoError(t, err)
	requireContent(t, filepath.Join(dir, kept.Name), o.content)
	assert.NotEqual(t, "a", kept.Name)
	requireContent(t, filepath.Join(dir, "a"), nil)
}

// While a claim cannot be removed, Save does not take its empty file for the user's.
func TestSaveWaitsForAClaim(t *testing.T) {
	t.Parallel()
	f, dir := folder(t)
	o := &object{content: random(5000)}
	claim := strings.TrimSuffix(partialName("a", o.file()), partialSuffix) + claimSuffix
	require.NoError(t, os.WriteFile(filepath.Join(dir, "a"), nil, 0o600))
	require.NoError(t, os.WriteFile(filepath.Join(dir, claim), o.content, 0o600))
	removals := 0
	f.sys.remove = func(root *os.Root, name string) error {
		if removals++; removals <= 2 {
			return syscall.EBUSY
		}
		return root.Remove(name)
	}
	kept, err := saveWithin(t, f, o)
	require.NoError(t, err)
	assert.Equal(t, "a", kept.Name)
	requireContent(t, filepath.Join(dir, "a"), o.content)
	assert.Equal(t, []string{"a"}, names(t, dir))
}

// What replaced a partial file, a saved file or a claim is not ours to remove.
func TestNothingOfOthersIsRemoved(t *testing.T) {
	t.Parallel()
	const theirs = "something else"
	requireTheirs := func(t *testing.T, path string) {
		t.Helper()
		requireContent(t, path, []byte(theirs))
	}
	o := &object{content: random(5000)}
	partial := partialName("a", o.file())
	for name, test := range map[string]func(t *testing.T, f *Folder, dir string){
		"after a failed sync": func(t *testing.T, f *Folder, dir string) {
			t.Helper()
			f.sys.sync = func(*os.File) error {
				swap(t, dir, theirs)
				return syscall.EIO
			}
			_, err := saveWithin(t, f, o)
			require.ErrorIs(t, err, syscall.EIO)
			requireTheirs(t, filepath.Join(dir, partial))
		},
		"after a failed sync of the folder": func(t *testing.T, f *Folder, dir string) {
			t.Helper()
			kept, err := saveWithin(t, f, o)
			require.NoError(t, err)
			path := filepath.Join(dir, kept.Name)
			require.NoError(t, os.Rename(path, path+".moved"))
			require.NoError(t, os.WriteFile(path, []byte(theirs), 0o600))
			f.sys.syncFolder = func(*os.File) error { return syscall.EIO }
			_, err = f.Sync(kept)
			require.ErrorIs(t, err, syscall.EIO)
			requireTheirs(t, path)
		},
		"as it gets stale": func(t *testing.T, f *Folder, dir string) {
			t.Helper()
			require.NoError(t, os.WriteFile(filepath.Join(dir, partial), o.content[:9], 0o600))
			f.sys.lock = func(file *os.File) (bool, error) {
				swap(t, dir, theirs)
				return lockFile(file)
			}
			removed, err := f.removeStale(partial, time.Time{})
			require.NoError(t, err)
			assert.False(t, removed)
			requireTheirs(t, filepath.Join(dir, partial))
		},
		"without locks": func(t *testing.T, f *Folder, dir string) {
			t.Helper()
			require.NoError(t, os.WriteFile(filepath.Join(dir, partial), []byte(theirs), 0o600))
			breaks["no locks"](&f.sys)
			for _, found := range []bool{false, true} {
				kept, err := saveWithin(t, f, o)
				require.NoError(t, err)
				assert.Equal(t, found, kept.Found)
				requireTheirs(t, filepath.Join(dir, partial))
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f, dir := folder(t)
			test(t, f, dir)
		})
	}
}

// Bytes that may be lost and cannot be removed are emptied.
func TestWhatCannotBeRemovedIsEmptied(t *testing.T) {
	t.Parallel()
	f, dir := folder(t)
	o := &object{content: random(5000)}
	f.sys.sync = func(*os.File) error { return syscall.EIO }
	f.sys.remove = func(*os.Root, string) error { return syscall.EPERM }
	_, err := saveWithin(t, f, o)
	require.ErrorIs(t, err, syscall.EIO)
	requireContent(t, filepath.Join(dir, partialName("a", o.file())), nil)
}

// Wrong bytes that all came of storage are not asked for a second time. Those of an earlier Save
// are, also if the object has another version by then.
func TestWhichBytesAreReadAgain(t *testing.T) {
	t.Parallel()
	f, dir := folder(t)
	wrong := &object{content: random(5000)}
	wrong.open = func(int, Request) (*Object, error) {
		return (&object{content: make([]byte, 5000)}).from(0), nil
	}
	_, err := saveWithin(t, f, wrong)
	require.ErrorIs(t, err, ErrChecksum)
	assert.Equal(t, int32(1), wrong.opened.Load())

	o := &object{content: random(5000)}
	partial := filepath.Join(dir, partialName("a", o.file()))
	require.NoError(t, os.WriteFile(partial, o.content[:1000], 0o600))
	o.open = func(n int, req Request) (*Object, error) {
		opened := o.from(req.Offset)
		if n == 1 {
			opened = o.broken(req.Offset, 1000)
		}
		opened.Version = []string{"old", "new", "new"}[n-1]
		return opened, nil
	}
	_, err = saveWithin(t, f, o)
	require.NoError(t, err)
	assert.Equal(t, int32(3), o.opened.Load())
}
