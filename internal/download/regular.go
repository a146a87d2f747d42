package download

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"

	"github.com/reincubate/ricloud-go/internal/backoff"
)

var errNotRegular = errors.New("is not a regular file")

// openRegular opens a regular file, never a symbolic link, and never waits for
// the other end of a pipe.
func openRegular(root *os.Root, name string, flag int) (*os.File, fs.FileInfo, error) {
	info, err := root.Lstat(name)
	if err != nil {
		return nil, nil, err
	}
	if !info.Mode().IsRegular() {
		return nil, nil, fmt.Errorf("%s %w: remove it", name, errNotRegular)
	}
	f, err := root.OpenFile(name, flag|nonBlocking, 0)
	if err != nil {
		return nil, nil, err
	}
	opened, err := f.Stat()
	if err == nil && (!opened.Mode().IsRegular() || !os.SameFile(info, opened)) {
		err = errMoved
	}
	if err != nil {
		_ = f.Close()
		return nil, nil, err
	}
	return f, opened, nil
}

// OpenLocal opens a regular file at an offset and returns its size.
func OpenLocal(root *os.Root, name string, offset int64) (io.ReadCloser, int64, error) {
	f, info, err := openRegular(root, name, os.O_RDONLY)
	if err != nil {
		return nil, 0, err
	}
	if _, err := f.Seek(offset, io.SeekStart); err != nil {
		return nil, 0, errors.Join(err, f.Close())
	}
	return f, info.Size(), nil
}

// LockFile takes the lock of f, which ends when f is closed. It waits while
// another process has it. Where there are no locks, it returns false.
func LockFile(ctx context.Context, f *os.File) (bool, error) {
	for {
		locked, err := lockFile(f)
		if locked || err != nil {
			return locked, nil //nolint:nilerr // there are no locks here
		}
		if err := backoff.Sleep(ctx, lockInterval); err != nil {
			return false, err
		}
	}
}

// OpenRegular opens a regular file, never a symbolic link, and creates it if
// it is not there and flag says so.
func OpenRegular(root *os.Root, name string, flag int) (*os.File, error) {
	f, _, err := openRegular(root, name, flag&^os.O_CREATE)
	if errors.Is(err, fs.ErrNotExist) && flag&os.O_CREATE != 0 {
		return root.OpenFile(name, flag|os.O_EXCL, 0o600)
	}
	return f, err
}

// HashFile returns the MD5 and the SHA-256 of a regular file, and its size.
func HashFile(
	ctx context.Context, root *os.Root, name string,
) (md5, sha256 []byte, size int64, err error) {
	f, err := OpenRegular(root, name, os.O_RDONLY)
	if err != nil {
		return nil, nil, 0, err
	}
	defer func() { _ = f.Close() }() // only read
	sums := newSums(true)
	if size, err = sums.hashAll(ctx, f, make([]byte, copyBuffer)); err != nil {
		return nil, nil, size, err
	}
	md5, sha256 = sums.sums()
	return md5, sha256, size, nil
}
