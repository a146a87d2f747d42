package bag

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"slices"
	"strconv"
	"strings"

	"github.com/reincubate/ricloud-go/internal/download"
)

// Difference is a difference between a bag and its manifests or log.
type Difference struct {
	Path    string
	Problem string
}

// Verify reads a whole bag and returns what differs. It returns an error if the
// bag cannot be read.
func Verify(ctx context.Context, root *os.Root) ([]Difference, error) {
	v := &verifier{ctx: ctx, root: root, listed: map[string]listing{}, bad: map[string]bool{}}
	if _, err := root.Lstat(declaration); err != nil {
		return nil, fmt.Errorf("is not a bag: %w", err)
	}
	for _, check := range []func() error{v.tags, v.payload, v.log, v.others} {
		if err := check(); err != nil {
			return nil, err
		}
	}
	slices.SortFunc(v.found, func(a, b Difference) int { return strings.Compare(a.Path, b.Path) })
	return v.found, nil
}

type verifier struct {
	ctx    context.Context //nolint:containedctx // of one call
	root   *os.Root
	listed map[string]listing // by the name of the manifest
	bad    map[string]bool    // files that differ
	found  []Difference
	sizes  int64
}

// listing is a manifest as it was read: the checksums by path.
type listing map[string]string

func (v *verifier) differsf(path, format string, args ...any) {
	v.bad[path] = true
	v.found = append(v.found, Difference{path, fmt.Sprintf(format, args...)})
}

// manifest reads a manifest, which must be spelled as we write it.
func (v *verifier) manifest(name string, digits int) (listing, error) {
	if known := v.listed[name]; known != nil {
		return known, nil
	}
	l := listing{}
	v.listed[name] = l
	text, err := v.read(name)
	if err != nil {
		return l, err
	}
	for n, line := range strings.SplitAfter(text, "\n") {
		if line == "" {
			continue
		}
		sum, path, ok := strings.Cut(strings.TrimSuffix(line, "\n"), "  ")
		if !ok || len(sum) != digits || strings.Trim(sum, "0123456789abcdef") != "" ||
			!strings.HasSuffix(line, "\n") {
			v.differsf(name, "line %d is not a checksum, two spaces and a path", n+1)
			continue
		}
		path = unescape(path)
		if _, twice := l[path]; twice {
			v.differsf(name, "lists %s twice", path)
		}
		l[path] = sum
	}
	return l, nil
}

// manifests reads the MD5 and the SHA-256 manifest.
func (v *verifier) manifests(md5Name, shaName string) (md5, sha listing, err error) {
	if md5, err = v.manifest(md5Name, md5Digits); err != nil {
		return nil, nil, err
	}
	sha, err = v.manifest(shaName, shaDigits)
	return md5, sha, err
}

// unreadable says why a file cannot be read.
func (v *verifier) unreadable(name string, err error) {
	if errors.Is(err, fs.ErrNotExist) {
		v.differsf(name, "is missing")
		return
	}
	v.differsf(name, "cannot be read: %v", err)
}

// read reads a tag file. One that is not there differs.
func (v *verifier) read(name string) (string, error) {
	text, err := readFile(v.root, name)
	if err != nil && v.ctx.Err() == nil {
		v.unreadable(name, err)
		return "", nil
	}
	return string(text), err
}

const (
	md5Digits = 32
	shaDigits = 64
)

// tags verifies the tag files by the two tag manifests. A file that only one of
// them contradicts is right, and that tag manifest is not.
func (v *verifier) tags() error {
	md5, sha, err := v.manifests(tagMD5, tagSHA)
	if err != nil {
		return err
	}
	for _, name := range union(md5, sha, tagFiles()) {
		if err := v.compare(name, md5, sha, tagMD5, tagSHA); err != nil {
			return err
		}
	}
	if text, err := v.read(declaration); err != nil || text != declarationText && !v.bad[declaration] {
		v.differsf(declaration, "is not the declaration of BagIt 1.0")
	}
	return nil
}

// others reports the files beside the payload that do not belong to the bag. The
// partial files and notes of a SaveAll that was interrupted may be there.
func (v *verifier) others() error {
	known := map[string]bool{Payload: true, tagMD5: true, tagSHA: true}
	for _, name := range tagFiles() {
		known[name] = true
	}
	entries, err := fs.ReadDir(v.root.FS(), ".")
	if err != nil {
		return err
	}
	for _, entry := range entries {
		if name := entry.Name(); !known[name] && !v.bad[name] && !isOwn(name) {
			v.differsf(name, "is no file of this folder's manifest")
		}
	}
	return nil
}

// isOwn reports whether name is that of a file that SaveAll may leave: a partial
// file, notes, or a tag file that was being written.
func isOwn(name string) bool {
	return download.IsPartial(name) || name == temporary ||
		strings.HasPrefix(name, ".ricloud-") && strings.HasSuffix(name, notesSuffix)
}

// union returns all names that are listed or expected.
func union(a, b listing, expected []string) []string {
	all := slices.Concat(slices.Collect(maps.Keys(a)), slices.Collect(maps.Keys(b)), expected)
	slices.Sort(all)
	return slices.Compact(all)
}

// compare compares a file with what two manifests say of it.
func (v *verifier) compare(name string, md5, sha listing, md5Name, shaName string) error {
	m, s, size, err := download.HashFile(v.ctx, v.root, name)
	if v.ctx.Err() != nil {
		return err
	}
	_, missing := v.root.Lstat(name)
	if err != nil && missing != nil && (md5[name] == "" || sha[name] == "") {
		// A path that only one manifest lists is misspelt there.
		v.differsf(only(md5[name] != "", md5Name, shaName),
			"lists %s, which is not in the folder", name)
		return nil
	}
	if err != nil {
		v.unreadable(name, err)
		return nil
	}
	v.sizes += size
	okMD5, okSHA := md5[name] == hex.EncodeToString(m), sha[name] == hex.EncodeToString(s)
	switch {
	case okMD5 && okSHA:
	case !okMD5 && !okSHA && md5[name] == "" && sha[name] == "":
		v.differsf(name, "is in no manifest")
	case !okMD5 && !okSHA:
		v.differsf(name, "has other bytes than the manifests say (SHA-256 %x)", s)
	default:
		v.differsf(only(okSHA, md5Name, shaName), "does not have the checksum of %s", name)
	}
	return nil
}

func only(first bool, a, b string) string {
	if first {
		return a
	}
	return b
}

// payload verifies the payload by the two manifests.
func (v *verifier) payload() error {
	md5, sha, err := v.manifests(manifestMD5, manifestSHA)
	if err != nil {
		return err
	}
	if info, err := v.root.Lstat(Payload); err == nil && !info.IsDir() {
		v.differsf(Payload, "is not a folder")
	}
	var there []string
	err = fs.WalkDir(v.root.FS(), Payload, func(path string, entry fs.DirEntry, err error) error {
		switch {
		case v.ctx.Err() != nil:
			return v.ctx.Err()
		case err != nil && !errors.Is(err, fs.ErrNotExist):
			return err
		case err == nil && !entry.IsDir():
			there = append(there, path)
		}
		return nil
	})
	if err != nil {
		return err
	}
	// The tag manifests show which manifest is damaged. Then the payload is
	// verified by the other one alone.
	switch {
	case v.bad[manifestMD5] && !v.bad[manifestSHA]:
		return v.payloadBy(sha, there, func(_, sha []byte) []byte { return sha })
	case v.bad[manifestSHA] && !v.bad[manifestMD5]:
		return v.payloadBy(md5, there, func(md5, _ []byte) []byte { return md5 })
	}
	v.sizes = 0
	for _, name := range union(md5, sha, there) {
		if err := v.compare(name, md5, sha, manifestMD5, manifestSHA); err != nil {
			return err
		}
	}
	return v.oxum(len(there))
}

func (v *verifier) payloadBy(l listing, there []string, pick func(md5, sha []byte) []byte) error {
	for _, name := range union(l, nil, there) {
		m, s, _, err := download.HashFile(v.ctx, v.root, name)
		switch {
		case v.ctx.Err() != nil:
			return err
		case err != nil:
			v.unreadable(name, err)
		case l[name] == "":
			v.differsf(name, "is in no manifest")
		case l[name] != hex.EncodeToString(pick(m, s)):
			v.differsf(name, "has other bytes than the manifest says (SHA-256 %x)", s)
		}
	}
	return nil
}

// oxum compares the number of bytes and files with bag-info.txt.
func (v *verifier) oxum(files int) error {
	text, err := v.read(infoName)
	if err != nil {
		return err
	}
	want := oxum + ": " + strconv.FormatInt(v.sizes, 10) + "." + strconv.Itoa(files) + "\n"
	if len(v.found) == 0 && !strings.Contains(text, want) {
		v.differsf(infoName, "does not say %s", strings.TrimSpace(want))
	}
	return nil
}

// log verifies the chain of the log, and that the log and the manifests agree
// about every file.
func (v *verifier) log() error {
	text, err := v.read(LogName)
	if err != nil {
		return err
	}
	var c chain
	last := map[string]Entry{}
	for n, line := range strings.SplitAfter(text, "\n") {
		if line == "" {
			continue
		}
		parsed, err := c.read(strings.TrimSuffix(line, "\n"))
		if err != nil || !strings.HasSuffix(line, "\n") {
			v.differsf(LogName, "line %d is not as it was written", n+1)
			return nil //nolint:nilerr // it is a difference
		}
		if parsed.Entry != nil {
			last[parsed.Entry.Path] = *parsed.Entry
		}
	}
	if v.bad[manifestSHA] {
		return nil
	}
	for _, path := range slices.Sorted(maps.Keys(last)) {
		if sum := v.listed[manifestSHA][path]; sum != last[path].SHA256 {
			v.differsf(manifestSHA, "does not have the checksum that the log has for %s", path)
		}
	}
	return nil
}
