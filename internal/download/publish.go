package download

import (
	"errors"
	"io/fs"
	"os"
	"strings"
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
		err = s.claim(p, name)
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
	err := s.renameOver(p, name)
	if err != nil && s.stillNamed(p) && s.root.Rename(p.name, original) == nil {
		p.name = original
	}
	return err
}

// renameOver creates name, so that no other process gets it, and renames the
// partial file over it.
func (s *saving) renameOver(p *partial, name string) error {
	f, err := s.root.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	empty, err := f.Stat()
	if err = errors.Join(err, f.Close()); err != nil {
		return err
	}
	if !s.isEmpty(name, empty) {
		return errMoved
	}
	if err = s.sys.replace(s.root, p.name, name); err != nil && s.isEmpty(name, empty) {
		_ = s.sys.remove(s.root, name)
	}
	return err
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
	dropped := s.isEmpty(name, info) && s.sys.remove(s.root, name) == nil
	for _, claim := range claims {
		_ = s.sys.remove(s.root, claim)
	}
	return dropped
}

func isLost(claim string) bool { return strings.HasSuffix(claim, lostSuffix) }
