package download

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"

	"github.com/reincubate/ricloud-go/internal/backoff"
)

// Folder keeps verified files. A file gets its name only when it is whole,
// verified and on disk; until then its bytes are in a hidden partial file, from
// which a later Save resumes. Several goroutines and processes may use the same
// folder at once.
type Folder struct {
	root *os.Root
	sub  string // where in root the named files are; "." for root itself
	sys  system

	places []place // of root and sub when they were opened

	buffers buffers
}

// place is a folder and its path.
type place struct {
	path string
	info fs.FileInfo
}

// errFolderMoved says that the files are no longer where the caller expects them.
var errFolderMoved = errors.New("the folder was moved or replaced while files were saved in it")

// system holds the calls that differ between operating systems and file systems.
// Tests replace them by calls that fail.
type system struct {
	// lock takes the lock of a file, which ends when the file is closed. It
	// returns false if another process has it, and an error if there are no
	// locks.
	lock func(*os.File) (bool, error)
	// link gives a file a second name, unless that is taken.
	link func(root *os.Root, from, to string) error
	// rename renames a file, unless the new name is taken. It returns
	// errors.ErrUnsupported where that cannot be done in one step.
	rename func(root *os.Root, from, to string) error
	// replace renames a file, also over the new name.
	replace func(root *os.Root, from, to string) error
	// remove removes a file.
	remove func(root *os.Root, name string) error
	// sync flushes the content of a file to disk.
	sync func(*os.File) error
	// syncFolder flushes the names in an open folder to disk.
	syncFolder func(*os.File) error
}

func realSystem() system {
	return system{
		lock:       lockFile,
		link:       (*os.Root).Link,
		rename:     renameNew,
		replace:    (*os.Root).Rename,
		remove:     (*os.Root).Remove,
		sync:       (*os.File).Sync,
		syncFolder: (*os.File).Sync,
	}
}

// OpenFolder opens a folder, which is created if it is not there. Files get
// their names in sub, a folder within it or "".
func OpenFolder(dir, sub string) (*Folder, error) {
	if err := os.MkdirAll(filepath.Join(dir, sub), 0o700); err != nil {
		return nil, err
	}
	return openFolder(dir, sub)
}

// openFolder opens a folder that is there.
func openFolder(dir, sub string) (*Folder, error) {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return nil, err
	}
	f := &Folder{root: root, sub: path.Clean(sub), sys: realSystem()}
	for _, name := range f.folders() {
		info, err := root.Lstat(name)
		switch at := filepath.Join(dir, name); {
		case err != nil:
			err = fmt.Errorf("%s: %w", at, err)
		case !info.IsDir(): // a link: the files would be elsewhere
			err = fmt.Errorf("%s is not a folder: remove it", at)
		}
		if err != nil {
			_ = root.Close()
			return nil, err
		}
		f.places = append(f.places, place{filepath.Join(dir, name), info})
	}
	return f, nil
}

// folders returns the folder of the named files and root.
func (f *Folder) folders() []string {
	if f.sub == "." {
		return []string{"."}
	}
	return []string{f.sub, "."}
}

// Root returns the folder itself.
func (f *Folder) Root() *os.Root { return f.root }

// Close closes the folder.
func (f *Folder) Close() error { return f.root.Close() }

// Kept is a file under its name.
type Kept struct {
	Name        string // in the folder, with slashes
	MD5, SHA256 []byte
	Found       bool // it was there before

	info fs.FileInfo
}

// errMoved says that another Save has changed the files that this one relies
// on.
var errMoved = errors.New("the file was moved by another process")

// Save keeps a file under the name of its identifier. A file of that name with
// the same content is left as it is, and nothing is read from storage. One with
// another content is never overwritten: the new file then gets a second name.
func (f *Folder) Save(
	ctx context.Context, identifier string, limits Limits, file *File,
) (Kept, error) {
	own := *file
	own.SHA256 = true
	buffer := f.buffers.get(file.Size)
	defer f.buffers.put(buffer)
	s := &saving{
		Folder: f, ctx: ctx, file: &own, identifier: identifier, reader: NewReader(ctx, limits, &own),
		partial: partialName(identifier, &own),
	}
	s.reader.buffer = *buffer
	defer s.reader.disconnect()
	for {
		kept, err := s.try()
		if errors.Is(err, errMoved) {
			s.reader.restart()
			continue
		}
		if err != nil {
			return Kept{}, s.named(err)
		}
		own.report(own.Size)
		return kept, nil
	}
}

// saving is one Save.
type saving struct {
	*Folder

	ctx        context.Context //nolint:containedctx // of one call
	file       *File
	identifier string
	partial    string // the name of the partial file
	reader     *Reader
	overtaken  int // how often another Save took the name first
	seenEmpty  int // how often the name was an empty file
}

// named makes sure that err names the file, once.
func (s *saving) named(err error) error {
	if s.reader.err != nil && errors.Is(err, s.reader.err) {
		return err
	}
	return s.file.fail(s.reader.next.Offset, err)
}

func (s *saving) try() (Kept, error) {
	if s.ctx.Err() != nil {
		return Kept{}, backoff.Cause(s.ctx)
	}
	kept, err := s.find()
	if err != nil {
		return Kept{}, err
	}
	if kept.Found {
		s.dropPartial()
		return kept, nil
	}
	return s.fetch(kept.Name)
}

// find returns the file, if it is there, or else a name that is free.
func (s *saving) find() (Kept, error) {
	var names [2]string
	for i := range names {
		if names[i] = FileName(s.identifier); i == 1 {
			names[i] = otherName(s.identifier, s.file.MD5)
		}
		name := names[i]
		if s.sub != "." {
			name = path.Join(s.sub, name)
		}
		info, err := s.root.Lstat(name)
		switch {
		case errors.Is(err, fs.ErrNotExist) || err == nil && s.dropClaim(name, info):
			return Kept{Name: name}, nil
		case err != nil:
			return Kept{}, err
		case info.Size() == 0 && s.file.Size > 0 && s.isClaimed(name, info):
			return Kept{}, errMoved // another Save was between the two steps of claim
		case !info.Mode().IsRegular() || info.Size() != s.file.Size:
			continue
		}
		kept, err := s.read(name)
		if kept.Found || err != nil {
			return kept, err
		}
	}
	return Kept{}, fmt.Errorf("%w: %s and %s both hold other content", fs.ErrExist, names[0], names[1])
}

// read reports whether the file called name has the right content.
func (s *saving) read(name string) (Kept, error) {
	f, info, err := openRegular(s.root, name, os.O_RDONLY)
	if errors.Is(err, errNotRegular) || errors.Is(err, fs.ErrNotExist) {
		err = errMoved
	}
	if err != nil {
		return Kept{}, err
	}
	defer func() { _ = f.Close() }() // only read
	sums := newSums(true)
	buffer := s.buffers.get(s.file.Size + 1)
	defer s.buffers.put(buffer)
	n, err := sums.hashAll(s.ctx, f, *buffer)
	if err != nil {
		return Kept{}, err
	}
	kept := Kept{Name: name, info: info}
	kept.MD5, kept.SHA256 = sums.sums()
	kept.Found = n == s.file.Size && string(kept.MD5) == string(s.file.MD5)
	return kept, nil
}

// Sync flushes the names in the folder to disk. It returns false where the file
// system cannot do that. If it fails, it removes the files, because it cannot
// be known later whether their names were lost. It returns an error, too, if the
// folder is not at its path any more: the files then are elsewhere.
func (f *Folder) Sync(kept ...Kept) (bool, error) {
	synced := true
	for _, name := range f.folders() {
		ok, err := f.syncOne(name)
		if err != nil {
			if moved := f.moved(); moved != nil {
				return false, moved
			}
			for _, k := range kept {
				if !k.Found {
					f.removeSame(k.Name, k.info)
				}
			}
			return false, fmt.Errorf("cannot flush the folder to disk: %w", err)
		}
		synced = synced && ok
	}
	return synced, f.moved()
}

// moved returns an error if the folder is not at its path any more.
func (f *Folder) moved() error {
	for _, p := range f.places {
		now, err := os.Stat(p.path)
		switch {
		case err != nil && !errors.Is(err, fs.ErrNotExist):
			return fmt.Errorf("cannot tell whether the folder was moved: %w", err)
		case err != nil, !os.SameFile(now, p.info):
			return fmt.Errorf("%s: %w", p.path, errFolderMoved)
		}
	}
	return nil
}

func (f *Folder) syncOne(name string) (bool, error) {
	d, err := f.root.Open(name)
	if err != nil {
		if errors.Is(err, fs.ErrPermission) { // a folder that may be written but not read
			return false, nil
		}
		return false, err
	}
	defer func() { _ = d.Close() }() // only read
	err = f.sys.syncFolder(d)
	if err != nil && cannotSync(err) {
		return false, nil
	}
	return err == nil, err
}

// removeSame removes name if it still is the given file.
func (f *Folder) removeSame(name string, info fs.FileInfo) {
	if now, err := f.root.Lstat(name); err == nil && info != nil && os.SameFile(now, info) {
		_ = f.sys.remove(f.root, name)
	}
}

// Open opens a file of the folder that must be a regular one.
func (f *Folder) Open(name string) (io.ReadCloser, error) {
	file, _, err := openRegular(f.root, name, os.O_RDONLY)
	return file, err
}
