package download

import (
	"errors"
	"os"
	"syscall"
	"unsafe"
)

const (
	lockExclusive       = 2   // LOCKFILE_EXCLUSIVE_LOCK
	lockFailImmediately = 1   // LOCKFILE_FAIL_IMMEDIATELY
	errLockViolation    = 33  // ERROR_LOCK_VIOLATION
	errIOPending        = 997 // ERROR_IO_PENDING
)

// lockFile takes the lock of f, which ends when f is closed. Windows locks
// bytes, and keeps others from reading them, so the one that is locked is far
// behind the end of every file.
func lockFile(f *os.File) (bool, error) {
	lockFileEx := syscall.NewLazyDLL("kernel32.dll").NewProc("LockFileEx")
	if err := lockFileEx.Find(); err != nil {
		return false, err
	}
	at := syscall.Overlapped{Offset: 0xffff_fffe, OffsetHigh: 0x7fff_ffff}
	ok, _, err := lockFileEx.Call(f.Fd(), lockExclusive|lockFailImmediately, 0, 1, 0,
		uintptr(unsafe.Pointer(&at))) //nolint:gosec // what the call takes
	switch {
	case ok != 0:
		return true, nil
	case errors.Is(err, syscall.Errno(errLockViolation)), errors.Is(err, syscall.Errno(errIOPending)):
		return false, nil
	}
	return false, err
}
