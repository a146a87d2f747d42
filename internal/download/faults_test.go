package download

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"syscall"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// inject makes one operation of a file system fail at its nth call, and from then on if forever.
func inject(s *system, operation string, nth int, forever bool, failure error) {
	calls := 0
	fails := func() bool {
		calls++
		return calls == nth || forever && calls > nth
	}
	two := func(call func(*os.Root, string, string) error) func(*os.Root, string, string) error {
		return func(root *os.Root, from, to string) error {
			if fails() {
				return &os.LinkError{Op: operation, Old: from, New: to, Err: failure}
			}
			return call(root, from, to)
		}
	}
	one := func(call func(*os.File) error) func(*os.File) error {
		return func(f *os.File) error {
			if fails() {
				return &fs.PathError{Op: operation, Path: f.Name(), Err: failure}
			}
			return call(f)
		}
	}
	switch operation {
	case "lock":
		lock := s.lock
		s.lock = func(f *os.File) (bool, error) {
			if fails() {
				return false, failure
			}
			return lock(f)
		}
	case "link":
		s.link = two(s.link)
	case "rename":
		s.rename = two(s.rename)
	case "replace":
		s.replace = two(s.replace)
	case "remove":
		remove := s.remove
		s.remove = func(root *os.Root, name string) error {
			if fails() {
				return &fs.PathError{Op: operation, Path: name, Err: failure}
			}
			return remove(root, name)
		}
	case "sync":
		s.sync = one(s.sync)
	case "syncFolder":
		s.syncFolder = one(s.syncFolder)
	}
}

// Whatever operation fails, with whatever error, on whatever file system: a success is the whole
// file, nothing partial has a name, a failure names what failed, and when the disk is well again
// the next Save completes the folder.
func TestSaveUnderEveryFaultOfTheDisk(t *testing.T) {
	t.Parallel()
	for system, change := range breaks {
		for _, operation := range []string{
			"lock", "link", "rename", "replace", "remove", "sync", "syncFolder",
		} {
			t.Run(system+"/"+operation, func(t *testing.T) {
				t.Parallel()
				for _, failure := range []syscall.Errno{
					syscall.ENOSPC, syscall.EIO, syscall.EACCES,
				} {
					for nth := range 4 {
						f, dir := folder(t)
						f.sys.sync = func(*os.File) error { return nil } // a real one takes its time
						f.sys.syncFolder = f.sys.sync
						change(&f.sys)
						well := f.sys
						inject(&f.sys, operation, nth/2+1, nth%2 == 1, failure)
						saveTwo(t, f, dir, failure)
						f.sys = well
						for i := range 2 {
							kept := requireSaved(t, f, dir, strconv.Itoa(i), faulty(i))
							_, err := f.Sync(kept)
							require.NoError(t, err)
						}
					}
				}
			})
		}
	}
}

func faulty(i int) *object { return &object{content: random(100 + i)} }

// saveTwo saves two files, and checks what stands under their names.
func saveTwo(t *testing.T, f *Folder, dir string, failure error) {
	t.Helper()
	for i := range 2 {
		o := faulty(i)
		kept, err := save(t, f, strconv.Itoa(i), o)
		if err == nil {
			_, err = f.Sync(kept)
		}
		if err == nil {
			requireContent(t, filepath.Join(dir, kept.Name), o.content)
			continue
		}
		require.ErrorIs(t, err, failure)
		var path *fs.PathError
		var link *os.LinkError
		assert.True(t, errors.As(err, &path) || errors.As(err, &link), "%v", err)
		content, err := os.ReadFile(filepath.Join(dir, strconv.Itoa(i)))
		if err == nil && len(content) > 0 { // an empty file is a claim, which the next Save replaces
			assert.Equal(t, o.content, content)
		}
	}
}
