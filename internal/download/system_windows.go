package download

import (
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
)

const nonBlocking = 0

// countNames returns how many names a file has.
func countNames(f *os.File, _ fs.FileInfo) (uint64, error) {
	var info syscall.ByHandleFileInformation
	if err := syscall.GetFileInformationByHandle(syscall.Handle(f.Fd()), &info); err != nil {
		return 0, err
	}
	return uint64(info.NumberOfLinks), nil
}

// cannotSync is always true: Windows has no fsync for folders.
func cannotSync(error) bool { return true }

// renameNew renames a file. MoveFile fails if the new name is taken.
func renameNew(root *os.Root, from, to string) error {
	old, err := syscall.UTF16PtrFromString(filepath.Join(root.Name(), filepath.FromSlash(from)))
	if err != nil {
		return err
	}
	name, err := syscall.UTF16PtrFromString(filepath.Join(root.Name(), filepath.FromSlash(to)))
	if err != nil {
		return err
	}
	return syscall.MoveFile(old, name)
}
