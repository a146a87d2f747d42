package ricloud

import (
	"bytes"
	"context"
	"crypto/md5" //nolint:gosec // what the API publishes as a checksum
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/reincubate/ricloud-go/internal/backoff"
)

// Save reads the file of a result into folder dir, which is created if need
// be, and returns its path. The file appears under its name only when its size
// and MD5 are those of the result and it is on disk.
//
// The name is that of FileName. A file of that name which is the same is left
// as it is, and nothing is fetched. One that is not is never overwritten: the
// result is then saved under a name that has "~" and a digest of its checksum
// too, so that results with equal identifiers can share a folder.
//
// Until then, the bytes are in a hidden file that ends in ".part". It stays
// behind when Save is interrupted, by an error or by the end of the process,
// and the next Save of the result goes on from there. Several goroutines, and
// on Unix several processes, may save the same result at once: one reads it.
//
// Errors are those of Open, and those of the file system. Nothing unverified
// is ever kept under a result's name.
func (s *ResultsService) Save(ctx context.Context, result *Result, dir string, opts ...DownloadOption) (string, error) {
	o := newDownloadOptions(opts)
	folder, err := openFolder(dir)
	if err != nil {
		return "", err
	}
	defer func() { _ = folder.Close() }()
	name, err := s.client.save(ctx, folder, result, o.progress)
	if err != nil {
		return "", err
	}
	return filepath.Join(dir, name), syncFolder(folder)
}

// openFolder confines what is saved to dir.
func openFolder(dir string) (*os.Root, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("ricloud: Results.Save: %w", err)
	}
	folder, err := os.OpenRoot(dir)
	if err != nil {
		return nil, fmt.Errorf("ricloud: Results.Save: %w", err)
	}
	return folder, nil
}

// saving is one result on its way into a folder.
type saving struct {
	*download
	folder *os.Root
}

// save returns the name under which result is in folder.
func (c *Client) save(ctx context.Context, folder *os.Root, result *Result, progress func(Progress)) (string, error) {
	d, err := c.download(ctx, "Results.Save", result, progress)
	if err != nil {
		return "", err
	}
	defer d.disconnect()
	s := saving{d, folder}
	for {
		name, there, err := s.place()
		if err == nil && !there {
			err = s.fetch(name)
		}
		switch {
		case err == nil:
			if there {
				_ = s.folder.Remove(s.part()) // of a Save that ended just before it did this
			}
			s.object.Offset = s.result.Size
			s.report()
			return name, nil
		case errors.Is(err, errMoved): // by another Save: look again
			s.restart()
		default:
			if _, ok := errors.AsType[*DownloadError](err); !ok {
				err = s.fail(err)
			}
			return "", err
		}
	}
}

var errMoved = errors.New("the file was moved by another process")

// place returns the name to save under, and whether the file is there already.
func (s *saving) place() (name string, there bool, err error) {
	id := s.result.Identifier
	for _, name := range []string{FileName(id), label(id, id+"\x00"+string(s.want))} {
		info, err := s.folder.Lstat(name)
		switch {
		case errors.Is(err, fs.ErrNotExist):
			return name, false, nil
		case err != nil:
			return "", false, err
		case !info.Mode().IsRegular() || info.Size() != s.result.Size:
			continue
		}
		same, err := s.same(name)
		if same || err != nil {
			return name, same, err
		}
	}
	return "", false, fmt.Errorf("%w: %s is not this result, nor is the file of its second name", fs.ErrExist, FileName(id))
}

// same reports whether a file has the result's MD5.
func (s *saving) same(name string) (bool, error) {
	f, err := s.folder.Open(name)
	if err != nil {
		return false, err
	}
	defer func() { _ = f.Close() }() // only read
	h := md5.New()                   //nolint:gosec // see the import
	if _, err := io.CopyBuffer(h, onlyReader{f}, make([]byte, min(copyBuffer, s.result.Size+1))); err != nil {
		return false, err
	}
	return bytes.Equal(h.Sum(nil), s.want), s.ctx.Err()
}

type onlyReader struct{ io.Reader }

// fetch reads the result into its partial file and gives that its name.
func (s *saving) fetch(name string) error {
	part := s.part()
	f, err := s.openPart(part)
	if err != nil {
		return err
	}
	if _, err = s.folder.Lstat(name); err == nil {
		err = errMoved // finished while this one waited
	} else {
		err = s.fill(f)
	}
	if err == nil {
		err = f.Sync()
	}
	if closeErr := f.Close(); err == nil {
		err = closeErr
	}
	if broken(err) || err != nil && s.object.Offset == 0 {
		_ = s.folder.Remove(part) // nothing to go on from
	}
	if err != nil {
		return err
	}
	return s.publish(part, name)
}

// part is the name of the partial file: one for each identifier and checksum.
func (s *saving) part() string {
	return fmt.Sprintf(".%s.%x.part", FileName(s.result.Identifier), s.want)
}

// openPart opens the partial file and waits until no other Save has it.
func (s *saving) openPart(part string) (*os.File, error) {
	for {
		f, err := s.folder.OpenFile(part, os.O_RDWR|os.O_CREATE, 0o600)
		if err != nil {
			return nil, err
		}
		locked, err := lock(f)
		if locked {
			now, statErr := s.folder.Lstat(part)
			held, heldErr := f.Stat()
			if statErr == nil && heldErr == nil && os.SameFile(now, held) {
				return f, nil
			}
			err = errMoved // finished or given up meanwhile
		}
		_ = f.Close()
		if err == nil {
			err = backoff.Sleep(s.ctx, lockInterval)
		}
		if err != nil {
			return nil, err
		}
	}
}

const lockInterval = 50 * time.Millisecond

// fill completes a partial file. One whose bytes turn out not to be the
// result's is read again from the start, once.
func (s *saving) fill(f *os.File) error {
	resumed, err := s.resume(f)
	if err == nil {
		_, err = io.Copy(f, s.download)
	}
	if resumed && broken(err) {
		s.restart()
		if err = f.Truncate(0); err == nil {
			_, err = f.Seek(0, io.SeekStart)
		}
		if err == nil {
			_, err = io.Copy(f, s.download)
		}
	}
	return err
}

// broken reports whether the bytes so far are of no use.
func broken(err error) bool {
	return errors.Is(err, ErrChecksum) || errors.Is(err, ErrSize) || errors.Is(err, ErrObjectChanged)
}

// resume takes the bytes of a partial file for the first of the download.
func (s *saving) resume(f *os.File) (bool, error) {
	info, err := f.Stat()
	if err != nil || info.Size() == 0 {
		return false, err
	}
	if info.Size() > s.result.Size {
		return false, f.Truncate(0)
	}
	s.object.Offset, err = io.CopyBuffer(s.hash, onlyReader{f}, make([]byte, copyBuffer))
	s.mark = s.object.Offset
	s.report()
	return true, err
}

// restart forgets what was read.
func (d *download) restart() {
	d.disconnect()
	d.hash.Reset()
	d.object.Offset, d.object.Version, d.mark, d.failures, d.err = 0, "", 0, 0, nil
}

// publish gives a verified file its name, unless another has it by now.
func (s *saving) publish(part, name string) error {
	err := s.folder.Link(part, name)
	switch {
	case err == nil:
		return s.folder.Remove(part)
	case errors.Is(err, fs.ErrExist), errors.Is(err, fs.ErrNotExist):
		return errMoved
	}
	// This file system knows no links.
	if _, err := s.folder.Lstat(name); err == nil {
		return errMoved
	}
	return s.folder.Rename(part, name)
}
