//go:build unix

package download

import (
	"errors"
	"io/fs"
	"os"
	"slices"
	"syscall"
)

// nonBlocking keeps an open of a pipe from waiting for its other end.
const nonBlocking = syscall.O_NONBLOCK

// countNames returns how many names a file has, of which info was just read.
func countNames(_ *os.File, info fs.FileInfo) (uint64, error) {
	stat, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return 0, errors.ErrUnsupported
	}
	return uint64(stat.Nlink), nil //nolint:unconvert // its type depends on the system
}

// cannotSync reports whether the error of an fsync means that folders cannot
// be synced here, and not that syncing failed. EROFS is a failure: a file system
// that has failed makes itself read-only, and loses what it has not written.
func cannotSync(err error) bool {
	return errors.Is(err, errors.ErrUnsupported) || errors.Is(err, fs.ErrPermission) ||
		slices.ContainsFunc([]error{
			syscall.EINVAL, syscall.EBADF, syscall.EISDIR, syscall.ENOTTY, syscall.ENODEV,
		},
			func(e error) bool { return errors.Is(err, e) })
}
