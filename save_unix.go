//go:build darwin || dragonfly || freebsd || linux || netbsd || openbsd

package ricloud

import (
	"errors"
	"os"
	"syscall"
)

// lock takes the lock of f, which ends with f, unless another has it.
func lock(f *os.File) (bool, error) {
	err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
	if errors.Is(err, syscall.EWOULDBLOCK) || errors.Is(err, syscall.EINTR) {
		return false, nil
	}
	// A file system without locks is used without them.
	return err == nil || errors.Is(err, errors.ErrUnsupported), err
}

// syncFolder puts the names in folder on disk.
func syncFolder(folder *os.Root) error {
	f, err := folder.Open(".")
	if err != nil {
		return err
	}
	defer func() { _ = f.Close() }()                                    // only read
	if err := f.Sync(); err != nil && !errors.Is(err, syscall.EINVAL) { // some file systems have nothing to sync
		return err
	}
	return nil
}
