package download

import (
	"errors"
	"io/fs"
	"os"
	"path"
	"runtime"
	"syscall"
	"unsafe"
)

const renameNoReplace = 1 // RENAME_NOREPLACE

// renameat2 returns the number of the system call, which package syscall names
// on some architectures only.
func renameat2() (uintptr, bool) {
	n, ok := map[string]uintptr{
		"386": 353, "amd64": 316, "arm": 382, "arm64": 276, "loong64": 276, "mips": 4351, "mipsle": 4351,
		"mips64": 5311, "mips64le": 5311, "ppc64": 357, "ppc64le": 357, "riscv64": 276, "s390x": 347,
	}[runtime.GOARCH]
	return n, ok
}

// renameNew renames a file in one step that fails if the new name is taken.
func renameNew(root *os.Root, from, to string) error {
	number, ok := renameat2()
	if !ok {
		return errors.ErrUnsupported
	}
	// The kernel follows symbolic links in a path, and os.Root does not let them
	// lead out of the folder. So it gets only the last part of each path.
	oldDir, err := openParent(root, from)
	if err != nil {
		return err
	}
	defer func() { _ = oldDir.Close() }() // only read
	newDir, err := openParent(root, to)
	if err != nil {
		return err
	}
	defer func() { _ = newDir.Close() }() // only read
	old, err := syscall.BytePtrFromString(path.Base(from))
	if err != nil {
		return err
	}
	name, err := syscall.BytePtrFromString(path.Base(to))
	if err != nil {
		return err
	}
	//nolint:gosec // what the call takes
	_, _, errno := syscall.Syscall6(number,
		oldDir.Fd(), uintptr(unsafe.Pointer(old)),
		newDir.Fd(), uintptr(unsafe.Pointer(name)), //nolint:gosec // what the call takes
		renameNoReplace, 0)
	if errno == 0 {
		return nil
	}
	if err := error(errno); errors.Is(err, fs.ErrExist) || errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return errors.ErrUnsupported // an old kernel, or a file system that cannot
}

func openParent(root *os.Root, name string) (*os.File, error) {
	dir, err := root.Open(path.Dir(name))
	if errors.Is(err, fs.ErrPermission) { // a folder that may be written but not read
		err = errors.ErrUnsupported
	}
	return dir, err
}
