package download

import (
	"errors"
	"io/fs"
	"os"
	"strings"
	"time"
)

// publish gives the verified partial file its name, unless that name is taken.
// The caller holds the lock of the partial file, so no other Save can change it
// meanwhile. publish never overwrites the file of another process.
func (s *saving) publish(p *partial, name string) error {
	now := s.byName(p)
	if now == nil {
		return errMoved
	}
	if names, err := countNames(p.File, now); err == nil && names > 1 {
		_ = s.sys.remove(s.root, p.name)
		return errMoved
	}
	if now.Size() != s.file.Size { // another program has written to it
		s.discard(p)
		return errMoved
	}
	err := s.sys.link(s.root, p.name, name)
	if err == nil {
		if !s.isNamed(p, name) {
			return errMoved
		}
		_ = s.sys.remove(s.root, p.name) // where this fails, the next Save does it
		return nil
	}
	if !taken(err) { // this file system has no links
		err = s.sys.rename(s.root, p.name, name)
	}
	if errors.Is(err, errors.ErrUnsupported) {
		if err = s.claim(p, name); err == nil {
			s.removeClaims()
		}
	}
	if taken(err) || err == nil && !s.isNamed(p, name) {
		return errMoved
	}
	return err
}

// taken reports whether a link or a rename failed because the name is taken.
func taken(err error) bool { return errors.Is(err, fs.ErrExist) || errors.Is(err, fs.ErrNotExist) }

// isNamed reports whether name is the partial file.
func (f *Folder) isNamed(p *partial, name string) bool {
	now, err := f.root.Lstat(name)
	return err == nil && os.SameFile(now, p.info)
}

// claim gives the file its name where the file system has neither links nor a
// rename that fails if the name is taken: it creates the name, so that no other
// process gets it, and renames over it. If a Save is killed in between, an
// empty file with that name remains. The partial file then has the suffix
// ".claim", so that the next Save recognises the empty file.
func (s *saving) claim(p *partial, name string) error {
	original, claim := p.name, strings.TrimSuffix(p.name, partialSuffix)+claimSuffix
	if err := s.root.Rename(original, claim); err != nil {
		return err
	}
	p.name = claim
	gone, err := s.renameOver(p, name)
	if !gone {
		p.claims = true
	} else if err != nil && s.stillNamed(p) && s.root.Rename(p.name, original) == nil {
		p.name = original
	}
	return err
}

// renameOver creates name, so that no other process gets it, and renames the
// partial file over it. It returns false if the empty file may still have the name.
func (s *saving) renameOver(p *partial, name string) (gone bool, err error) {
	f, err := s.root.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return true, err
	}
	empty, err := f.Stat()
	if closeErr := f.Close(); err == nil {
		err = closeErr
	}
	switch {
	case err != nil:
	case !s.isEmpty(name, empty):
		err = errMoved
	default:
		err = s.sys.replace(s.root, p.name, name)
	}
	return err == nil || s.withdraw(name, empty), err
}

// withdraw removes the empty file of a claim, and returns false if the file may
// still be there.
func (s *saving) withdraw(name string, empty fs.FileInfo) bool {
	now, err := s.root.Lstat(name)
	switch {
	case err != nil:
		return errors.Is(err, fs.ErrNotExist)
	case empty == nil:
		return false
	case !os.SameFile(now, empty) || now.Size() > 0:
		return true
	}
	return s.sys.remove(s.root, name) == nil
}

const (
	claimSuffix = ".claim"
	lostSuffix  = ".lost" + claimSuffix // of a claim that another Save took away
)

// claims returns the names of the partial files of this file that are, or were,
// between the two steps of claim. Without locks, each Save has one of its own.
func (s *saving) claims() (names []string) {
	entries, err := fs.ReadDir(s.root.FS(), ".")
	if err != nil {
		return nil
	}
	for _, entry := range entries {
		if strings.HasPrefix(entry.Name(), strings.TrimSuffix(s.partial, partialSuffix)) &&
			strings.HasSuffix(entry.Name(), claimSuffix) {
			names = append(names, entry.Name())
		}
	}
	return names
}

// removeClaims removes the claims of Saves that were killed before they created
// the name. Else a user's empty file of that name would later pass for theirs.
func (s *saving) removeClaims() {
	for _, claim := range s.claims() {
		_, _ = s.removeStale(claim, time.Time{})
	}
}

// isEmpty reports whether name is the given file and still empty.
func (f *Folder) isEmpty(name string, info fs.FileInfo) bool {
	now, err := f.root.Lstat(name)
	return err == nil && info != nil && os.SameFile(now, info) && now.Size() == 0
}

// isClaimed reports whether an empty file that had no claim when it was seen is
// that of a claim. A file system may give the next empty file the same number, so
// it looks for claims again, and only so often: one that cannot be removed stays.
func (s *saving) isClaimed(name string, info fs.FileInfo) bool {
	if !s.isEmpty(name, info) {
		return true
	}
	s.seenEmpty++
	return s.seenEmpty < maxOvertaken && (len(s.claims()) > 0 || !s.isEmpty(name, info))
}

// dropClaim removes the empty file that a Save left when it was killed between
// the two steps of claim. It reports whether there was one.
func (s *saving) dropClaim(name string, info fs.FileInfo) bool {
	if info.Size() != 0 || s.file.Size == 0 || !info.Mode().IsRegular() {
		return false
	}
	claims := s.claims()
	if len(claims) == 0 {
		return false
	}
	// If the Save that made this claim is still running, it loses the claim and
	// begins again. Until the empty file is gone, the claim keeps a name that no
	// Save publishes. Whichever process is killed, the next Save then still
	// recognises the empty file.
	for i, claim := range claims {
		if lost := strings.TrimSuffix(claim, claimSuffix) + lostSuffix; !isLost(claim) &&
			s.root.Rename(claim, lost) == nil {
			claims[i] = lost
		}
	}
	if !s.withdraw(name, info) {
		return false
	}
	for _, claim := range claims {
		_ = s.sys.remove(s.root, claim)
	}
	_, err := s.root.Lstat(name)
	return errors.Is(err, fs.ErrNotExist)
}

func isLost(claim string) bool { return strings.HasSuffix(claim, lostSuffix) }
