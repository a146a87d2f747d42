package download

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/reincubate/ricloud-go/internal/backoff"
)

// partial is the partial file of one Save. No other process writes it: it is
// locked, or its name is random.
type partial struct {
	*os.File

	name   string
	info   fs.FileInfo
	shared bool // a later Save finds it by its name
	claims bool // by its name, a later Save recognises an empty file
}

const maxOvertaken = 10

// lockInterval is how often a Save looks whether another has finished.
const lockInterval = 50 * time.Millisecond

// openPartial opens the partial file. While another Save has it, it waits a
// little and returns errMoved.
func (s *saving) openPartial() (*partial, error) {
	p, err := s.tryPartial()
	if p != nil || err != nil {
		return p, err
	}
	if err := backoff.Sleep(s.ctx, lockInterval); err != nil {
		return nil, err
	}
	return nil, errMoved // the other Save may have finished the file meanwhile
}

// tryPartial returns nil without an error while another Save has the file.
func (s *saving) tryPartial() (*partial, error) {
	f, created, err := s.openOrCreate(s.partial)
	if f == nil || err != nil {
		return nil, err
	}
	locked, lockErr := s.sys.lock(f)
	// Only now: another Save may have written to it since it was opened.
	info, err := f.Stat()
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	if lockErr != nil { // without locks, such a file is not shared
		if created {
			s.removeSame(s.partial, info)
		}
		_ = f.Close()
		return s.uniquePartial()
	}
	p := &partial{File: f, name: s.partial, info: info, shared: true}
	if !locked || !s.stillNamed(p) {
		return nil, f.Close()
	}
	if names, err := countNames(f, info); err == nil && names > 1 {
		// A Save was killed after it gave the file its name. The file with that
		// name now belongs to the user: never write to it.
		_ = s.sys.remove(s.root, p.name)
		return nil, f.Close()
	}
	return p, nil
}

// openOrCreate returns no file and no error if name is being moved.
func (s *saving) openOrCreate(name string) (f *os.File, created bool, err error) {
	f, err = s.root.OpenFile(name, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
	if err == nil || !errors.Is(err, fs.ErrExist) {
		return f, err == nil, err
	}
	f, _, err = openRegular(s.root, name, os.O_RDWR)
	if errors.Is(err, errMoved) || errors.Is(err, fs.ErrNotExist) {
		return nil, false, nil
	}
	return f, false, err
}

// uniquePartial creates a partial file that no other Save knows.
func (s *saving) uniquePartial() (*partial, error) {
	var random [8]byte
	_, _ = rand.Read(random[:]) // never fails
	name := strings.TrimSuffix(s.partial, partialSuffix) + "-" + hex.EncodeToString(random[:]) +
		partialSuffix
	f, err := s.root.OpenFile(name, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return nil, err
	}
	info, err := f.Stat()
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return &partial{File: f, name: name, info: info}, nil
}

// stillNamed reports whether the partial file still has its name.
func (f *Folder) stillNamed(p *partial) bool { return f.byName(p) != nil }

// byName returns what is known of the partial file by its name, or nil if that
// is not its name any more.
func (f *Folder) byName(p *partial) fs.FileInfo {
	now, err := f.root.Lstat(p.name)
	if err != nil || !os.SameFile(now, p.info) {
		return nil
	}
	return now
}

// discard removes the partial file. Where it cannot be removed, or its name is
// still needed, it is emptied: its bytes must not be used again.
func (f *Folder) discard(p *partial) {
	if f.stillNamed(p) && (p.claims || f.sys.remove(f.root, p.name) != nil) {
		_ = p.Truncate(0)
	}
}

// dropPartial removes the partial file of a Save that was killed after it gave
// the file its name.
func (s *saving) dropPartial() {
	if _, err := s.root.Lstat(s.partial); err == nil {
		_, _ = s.removeStale(s.partial, time.Time{})
	}
}

// removeStale removes a partial file that no Save is writing. A zero time
// removes it whatever its age.
func (f *Folder) removeStale(name string, before time.Time) (bool, error) {
	file, info, err := openRegular(f.root, name, os.O_RDWR)
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, errMoved) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	defer func() { _ = file.Close() }()
	if !before.IsZero() && !info.ModTime().Before(before) {
		return false, nil
	}
	locked, err := f.sys.lock(file)
	if err == nil && !locked || err != nil && before.IsZero() {
		return false, nil // without locks, only the age tells
	}
	p := &partial{File: file, name: name, info: info}
	if !f.stillNamed(p) {
		return false, nil
	}
	return true, f.sys.remove(f.root, name)
}

// IsPartial reports whether name is that of a partial file.
func IsPartial(name string) bool {
	return strings.HasPrefix(name, partialPrefix) &&
		(strings.HasSuffix(name, partialSuffix) || strings.HasSuffix(name, claimSuffix))
}

// fetch reads the file into its partial file and gives that its name.
func (s *saving) fetch(name string) (Kept, error) {
	p, err := s.openPartial()
	if err != nil {
		return Kept{}, err
	}
	// Closing gives the lock back, also when a callback of the user panics.
	// Until then, no other process publishes or removes the partial file.
	defer func() { _ = p.Close() }()
	if _, err := s.root.Lstat(name); err == nil { // finished meanwhile
		if p.info.Size() == 0 {
			s.discard(p)
		}
		return Kept{}, errMoved
	}
	err = s.fill(p)
	if err == nil {
		err = s.syncPartial(p)
	}
	if err == nil {
		err = s.publish(p, name)
		if errors.Is(err, errMoved) {
			if s.overtaken++; s.overtaken == maxOvertaken {
				err = fmt.Errorf(
					"cannot give the file the name %s: another process keeps changing that file", name,
				)
			}
		}
	}
	if err == nil {
		kept := Kept{Name: name, info: p.info}
		kept.MD5, kept.SHA256 = s.reader.Sums()
		return kept, nil
	}
	if !p.shared || useless(err) || s.reader.next.Offset == 0 || errors.Is(err, syscall.EIO) {
		s.discard(p)
	}
	return Kept{}, err
}

// syncPartial flushes the bytes to disk. A sync that fails may have lost bytes,
// and a later sync would not notice. The file is therefore not used again.
func (s *saving) syncPartial(p *partial) error {
	err := s.sys.sync(p.File)
	if err == nil {
		return nil
	}
	s.discard(p)
	return fmt.Errorf("cannot flush the file to disk: %w", err)
}

// fill completes the partial file. Bytes of an earlier Save that turn out not
// to be the file's are read again, once.
func (s *saving) fill(p *partial) error {
	resumed, err := s.resume(p)
	if err == nil {
		_, err = io.Copy(p.File, s.reader)
	}
	if !resumed || !useless(err) {
		return err
	}
	s.reader.restart()
	if err := rewind(p.File); err != nil {
		return err
	}
	_, err = io.Copy(p.File, s.reader)
	return err
}

func rewind(f *os.File) error {
	if err := f.Truncate(0); err != nil {
		return err
	}
	_, err := f.Seek(0, io.SeekStart)
	return err
}

// useless reports whether the bytes that were read cannot be used.
func useless(err error) bool {
	return errors.Is(err, ErrChecksum) || errors.Is(err, ErrSize) || errors.Is(err, ErrChanged)
}

// resume continues after the bytes of the partial file. It does not trust a
// partial file of full size: a Save leaves one only if it ended while it
// flushed the bytes to disk, so some may be lost.
func (s *saving) resume(p *partial) (bool, error) {
	size := p.info.Size()
	if size == 0 {
		return false, nil
	}
	if size >= s.file.Size {
		return false, rewind(p.File)
	}
	buffer := s.buffers.get(s.file.Size)
	defer s.buffers.put(buffer)
	n, err := s.reader.sums.hashAll(s.ctx, p.File, *buffer)
	s.reader.next.Offset = n
	s.file.report(n)
	return true, err
}

const (
	partialPrefix = ".ricloud-"
	partialSuffix = ".part"
)

// partialName returns the name of a file's partial file. It depends on the
// content, and is short whatever the identifier.
func partialName(identifier string, file *File) string {
	text := append(make([]byte, 0, maxReadable+len(file.MD5)), identifier...)
	text = hex.AppendEncode(append(text, 0), file.MD5)
	digest := sha256.Sum256(strconv.AppendInt(append(text, 0), file.Size, 10))
	name := append(make([]byte, 0, maxReadable), partialPrefix...)
	return string(append(hex.AppendEncode(name, digest[:nameDigest]), partialSuffix...))
}

// RemovePartials removes the partial files in dir that were last written before
// a time and that no Save is writing, and returns their names.
func RemovePartials(ctx context.Context, dir string, before time.Time) ([]string, error) {
	f, err := openFolder(dir, "")
	if err != nil {
		return nil, err
	}
	defer func() { _ = f.Close() }()
	entries, err := fs.ReadDir(f.root.FS(), ".")
	if err != nil {
		return nil, err
	}
	var removed []string
	var failures []error
	for _, entry := range entries {
		if ctx.Err() != nil {
			failures = append(failures, backoff.Cause(ctx))
			break
		}
		if !IsPartial(entry.Name()) {
			continue
		}
		ok, err := f.removeStale(entry.Name(), before)
		if ok {
			removed = append(removed, entry.Name())
		}
		if err != nil {
			failures = append(failures, err)
		}
	}
	return removed, errors.Join(failures...)
}
