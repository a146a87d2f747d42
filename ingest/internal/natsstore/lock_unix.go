//go:build unix

package natsstore

import (
	"errors"
	"os"
	"syscall"
)

// lockFolder takes the lock of a folder for as long as the file is open.
func lockFolder(name string) (*os.File, error) {
	//nolint:gosec // the user names the folder
	f, err := os.OpenFile(name, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, err
	}
	err = syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
	if errors.Is(err, syscall.EWOULDBLOCK) {
		err = errLocked(name)
	}
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return f, nil
}
