package download

import (
	"errors"
	"io/fs"
	"os"
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
	dir, err := root.Open(".")
	if err != nil {
		if errors.Is(err, fs.ErrPermission) { // a folder that may be written but not read
			return errors.ErrUnsupported
		}
		return err
	}
	defer func() { _ = dir.Close() }() // only read
	old, err := syscall.BytePtrFromString(from)
	if err != nil {
		return err
	}
	name, err := syscall.BytePtrFromString(to)
	if err != nil {
		return err
	}
	//nolint:gosec // what the call takes
	_, _, errno := syscall.Syscall6(number, dir.Fd(), uintptr(unsafe.Pointer(old)),
		dir.Fd(), uintptr(unsafe.Pointer(name)), renameNoReplace, 0) //nolint:gosec // what the call takes
	if errno == 0 {
		return nil
	}
	if err := error(errno); errors.Is(err, fs.ErrExist) || errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return errors.ErrUnsupported // an old kernel, or a file system that cannot
}
