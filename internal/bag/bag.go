// Package bag writes and verifies BagIt folders (RFC 8493) with a log whose
// lines are chained by their hashes. It knows no API: it is told which files
// there are, and what happened to them.
package bag

import (
	"bufio"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/reincubate/ricloud-go/internal/download"
)

// The names of the files in a bag.
const (
	Payload     = "data"
	LogName     = "ricloud-log.txt"
	declaration = "bagit.txt"
	infoName    = "bag-info.txt"
	manifestMD5 = "manifest-md5.txt"
	manifestSHA = "manifest-sha256.txt"
	tagMD5      = "tagmanifest-md5.txt"
	tagSHA      = "tagmanifest-sha256.txt"
	temporary   = ".ricloud-new.tag"
)

const declarationText = "BagIt-Version: 1.0\nTag-File-Character-Encoding: UTF-8\n"

// Field is a line of bag-info.txt.
type Field struct{ Label, Value string }

// Time returns the value of a time, which is none for the zero time.
func Time(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	return t.UTC().Format(time.RFC3339Nano)
}

// Entry is a file of the payload.
type Entry struct {
	Path   string `json:"path"` // "data/callkit.calls"
	Size   int64  `json:"size"`
	MD5    string `json:"md5"` // in hex
	SHA256 string `json:"sha256"`
}

// Line is one step in the log.
type Line struct {
	Time   time.Time `json:"time"`
	Step   string    `json:"step"`
	Result string    `json:"result"`
	Fields any       `json:"fields,omitempty"` // what else is known
	Entry  *Entry    `json:"entry,omitempty"`  // of a file that was verified
}

// File is a file of the payload that is on disk.
type File struct {
	Entry

	Result    string
	Fields    any // what was published
	Published time.Time
	Begun     time.Time // reading it
	Verified  time.Time
	Found     bool // it was there before
}

// Bag is a bag that is being written. It is not safe for concurrent use.
type Bag struct {
	root    *os.Root
	log     *os.File
	size    int64 // bytes of the log that are on disk
	chain   chain
	entries map[string]Entry
	written int             // how many entries there were at the last Write
	steps   map[string]bool // result and step
	info    []Field
	now     func() time.Time
	sync    func(*os.File) error
	failed  error // why the log may end in lines that the chain does not know
}

// ErrDamaged means that the log of a bag was changed, so that nothing can be
// added to it.
var ErrDamaged = errors.New("ricloud: the log of the folder is damaged")

// Open opens the bag in root, or begins one. It waits until no other process
// writes the bag.
func Open(ctx context.Context, root *os.Root, info []Field, now func() time.Time) (*Bag, error) {
	log, err := download.OpenRegular(root, LogName, os.O_RDWR|os.O_APPEND|os.O_CREATE)
	if err != nil {
		return nil, err
	}
	b := &Bag{
		root: root, log: log, entries: map[string]Entry{}, steps: map[string]bool{}, now: now,
		sync: (*os.File).Sync,
	}
	if _, err = download.LockFile(ctx, log); err == nil {
		err = b.replay()
	}
	if err == nil {
		err = b.addInfo(info)
	}
	if err != nil {
		return nil, errors.Join(err, log.Close())
	}
	return b, nil
}

// replay reads the log, from which the manifests are made.
func (b *Bag) replay() error {
	recorded, err := b.recordedLog()
	if err != nil {
		return err
	}
	input := bufio.NewReader(b.log)
	hash := sha256.New()
	var whole int64
	found := recorded == ""
	for {
		found = found || hex.EncodeToString(hash.Sum(nil)) == recorded
		text, err := input.ReadString('\n')
		if err == io.EOF { //nolint:errorlint // a bufio.Reader returns io.EOF bare
			break
		}
		if err != nil {
			return err
		}
		line, err := b.chain.read(strings.TrimSuffix(text, "\n"))
		if err != nil {
			return fmt.Errorf("%w: line %d: %w", ErrDamaged, b.chain.lines+1, err)
		}
		b.take(line)
		_, _ = io.WriteString(hash, text)
		whole += int64(len(text))
	}
	if !found {
		return fmt.Errorf("%w: lines that %s knows are missing", ErrDamaged, tagSHA)
	}
	b.size = whole
	info, err := b.log.Stat()
	if err == nil && info.Size() > whole {
		err = b.log.Truncate(whole) // a line that was cut off was never flushed
	}
	if err != nil || b.chain.lines > 0 {
		return err
	}
	return b.checkFree()
}

// checkFree returns an error if the folder of a new log is the bag of another
// program: its manifests would be replaced.
func (b *Bag) checkFree() error {
	entries, err := fs.ReadDir(b.root.FS(), ".")
	if err != nil {
		return err
	}
	for _, entry := range entries {
		name := entry.Name()
		if !strings.HasPrefix(name, "manifest-") || !entry.Type().IsRegular() {
			continue
		}
		if info, err := entry.Info(); err != nil || info.Size() > 0 {
			return fmt.Errorf("%s is of another bag, or its log is lost: choose another folder", name)
		}
	}
	return nil
}

// recordedLog returns the SHA-256 of the log when the tag manifests were last
// written, or "". A crash leaves a longer log than that, never a shorter one.
func (b *Bag) recordedLog() (string, error) {
	text, err := readFile(b.root, tagSHA)
	if errors.Is(err, fs.ErrNotExist) {
		return "", nil
	}
	if err != nil {
		return "", err
	}
	for line := range strings.Lines(string(text)) {
		sum, name, _ := strings.Cut(strings.TrimSuffix(line, "\n"), "  ")
		if name == LogName && len(sum) == shaDigits {
			return sum, nil
		}
	}
	return "", fmt.Errorf("%w: %s does not list it", ErrDamaged, tagSHA)
}

// readFile reads a file that must be a regular one: a pipe would not end.
func readFile(root *os.Root, name string) ([]byte, error) {
	f, err := download.OpenRegular(root, name, os.O_RDONLY)
	if err != nil {
		return nil, err
	}
	defer func() { _ = f.Close() }() // only read
	var content bytes.Buffer
	_, err = content.ReadFrom(f)
	return content.Bytes(), err
}

func (b *Bag) take(line Line) {
	b.steps[line.Result+"\x00"+line.Step] = true
	if line.Entry != nil {
		b.entries[line.Entry.Path] = *line.Entry
	}
}

// addInfo adds fields to those that are in bag-info.txt.
func (b *Bag) addInfo(info []Field) error {
	old, err := readFile(b.root, infoName)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	for line := range strings.Lines(string(old)) {
		label, value, ok := strings.Cut(strings.TrimSuffix(line, "\n"), ": ")
		if ok && label != oxum && label != baggingDate {
			b.info = append(b.info, Field{label, value})
		}
	}
	for _, field := range info {
		if field.Value = clean(field.Value); field.Value != "" && !slices.Contains(b.info, field) {
			b.info = append(b.info, field)
		}
	}
	return nil
}

const (
	oxum        = "Payload-Oxum"
	baggingDate = "Bagging-Date"
)

// clean makes a value one line.
func clean(value string) string {
	return strings.TrimSpace(strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f {
			return ' '
		}
		return r
	}, value))
}

// has reports whether a step of a result is in the log.
func (b *Bag) has(result, step string) bool { return b.steps[result+"\x00"+step] }

// logTime returns a time in UTC. JSON has no years of five digits: an API's last
// day of 9999 in another time zone becomes the zero time, which says nothing.
func logTime(t time.Time) time.Time {
	if t = t.UTC(); t.Year() < 0 || t.Year() > 9999 {
		return time.Time{}
	}
	return t
}

// Log adds lines to the log and flushes them to disk. If that fails, it cuts the
// log off before them, because a later flush would not notice that they are lost.
// Log and Write then fail until the bag is opened again, which continues after the
// last whole line.
func (b *Bag) Log(lines ...Line) error {
	var text strings.Builder
	next := b.chain
	for i := range lines {
		lines[i].Time = logTime(lines[i].Time)
		line, err := next.write(lines[i])
		if err != nil {
			return err
		}
		text.WriteString(line + "\n")
	}
	if text.Len() == 0 || b.failed != nil {
		return b.failed
	}
	_, err := b.log.WriteString(text.String())
	if err == nil {
		err = b.sync(b.log)
	}
	if err != nil {
		b.failed = err
		_ = b.log.Truncate(b.size)
		return err
	}
	b.chain = next
	b.size += int64(text.Len())
	for _, line := range lines {
		b.take(line)
	}
	return nil
}

// Record adds the steps of files to the log. It leaves out files that an earlier
// Record has added. It writes the manifests only once a quarter more files are
// there than the last time, so that all of its writes together grow with the
// number of files, and not with its square. Write completes the manifests.
func (b *Bag) Record(files ...File) error {
	var lines []Line
	for _, f := range files {
		if b.has(f.Result, "verified") && b.entries[f.Path] == f.Entry {
			continue
		}
		fetched := "fetched"
		if f.Found {
			fetched = "found"
		}
		lines = append(lines,
			Line{Time: f.Published, Step: "published", Result: f.Result, Fields: f.Fields},
			Line{Time: f.Begun, Step: fetched, Result: f.Result},
			Line{Time: f.Verified, Step: "verified", Result: f.Result, Entry: &f.Entry})
	}
	if err := b.Log(lines...); err != nil {
		return err
	}
	if len(b.entries) < b.written+b.written/4 {
		return nil
	}
	return b.Write()
}

// Acknowledge adds to the log that the API has acknowledged results.
func (b *Bag) Acknowledge(results ...string) error {
	var lines []Line
	for _, result := range results {
		if !b.has(result, "acknowledged") {
			lines = append(lines, Line{Time: b.now(), Step: "acknowledged", Result: result})
		}
	}
	return b.Log(lines...)
}

// Write writes the manifests and the other tag files, each in one step.
func (b *Bag) Write() error {
	if b.failed != nil {
		return b.failed
	}
	paths := slices.Sorted(maps.Keys(b.entries))
	var md5, sha strings.Builder
	var size int64
	for _, name := range paths {
		e := b.entries[name]
		fmt.Fprintf(&md5, "%s  %s\n", e.MD5, escape(name))
		fmt.Fprintf(&sha, "%s  %s\n", e.SHA256, escape(name))
		size += e.Size
	}
	var info strings.Builder
	fields := append([]Field{{baggingDate, b.now().UTC().Format(time.DateOnly)}}, b.info...)
	fields = append(fields, Field{oxum, fmt.Sprintf("%d.%d", size, len(paths))})
	for _, field := range fields {
		fmt.Fprintf(&info, "%s: %s\n", field.Label, field.Value)
	}
	for _, tag := range []struct{ name, text string }{
		{declaration, declarationText},
		{infoName, info.String()},
		{manifestMD5, md5.String()},
		{manifestSHA, sha.String()},
	} {
		if err := b.replace(tag.name, tag.text); err != nil {
			return err
		}
	}
	if err := b.writeTagManifests(); err != nil {
		return err
	}
	b.written = len(paths)
	return nil
}

// notesSuffix ends the names of the folder's notes.
const notesSuffix = ".files"

// tagFiles are the files that the tag manifests list, in their order.
func tagFiles() []string {
	return []string{infoName, declaration, manifestMD5, manifestSHA, LogName}
}

func (b *Bag) writeTagManifests() error {
	var md5, sha strings.Builder
	names := tagFiles()
	entries, err := fs.ReadDir(b.root.FS(), ".")
	if err != nil {
		return err
	}
	for _, entry := range entries {
		if strings.HasSuffix(entry.Name(), notesSuffix) && entry.Type().IsRegular() {
			names = append(names, entry.Name())
		}
	}
	for _, name := range names {
		// Without the caller's context: what is on disk is recorded also after that has ended.
		m, s, _, err := download.HashFile(context.Background(), b.root, name)
		if err != nil {
			return err
		}
		fmt.Fprintf(&md5, "%x  %s\n", m, name)
		fmt.Fprintf(&sha, "%x  %s\n", s, name)
	}
	if err := b.replace(tagMD5, md5.String()); err != nil {
		return err
	}
	return b.replace(tagSHA, sha.String())
}

// replace writes a tag file. A reader sees either the old file or the new one.
func (b *Bag) replace(name, text string) error {
	for _, name := range []string{name, temporary} {
		if info, err := b.root.Lstat(name); err == nil && !info.Mode().IsRegular() {
			return fmt.Errorf("%s is not a regular file: remove it", name)
		}
	}
	if err := b.root.Remove(temporary); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	f, err := b.root.OpenFile(temporary, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	_, err = f.WriteString(text)
	if err == nil {
		err = b.sync(f)
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return err
	}
	return b.root.Rename(temporary, name)
}

// Close closes the log, which lets other processes write the bag.
func (b *Bag) Close() error { return b.log.Close() }

// escape writes a path as RFC 8493 asks for.
func escape(name string) string {
	return strings.NewReplacer("%", "%25", "\n", "%0A", "\r", "%0D").Replace(name)
}

func unescape(name string) string {
	return strings.NewReplacer("%25", "%", "%0A", "\n", "%0a", "\n", "%0D", "\r", "%0d",
		"\r").Replace(name)
}

// chain computes the hashes of the log. A line is its hash, a space and JSON; the
// hash is the SHA-256 of the hash of the line before and the JSON.
type chain struct {
	last  string
	lines int
}

func (c *chain) hash(text string) string {
	sum := sha256.Sum256([]byte(c.last + text))
	return hex.EncodeToString(sum[:])
}

func (c *chain) write(line Line) (string, error) {
	text, err := json.Marshal(line)
	if err != nil {
		return "", err
	}
	c.last = c.hash(string(text))
	c.lines++
	return c.last + " " + string(text), nil
}

func (c *chain) read(text string) (Line, error) {
	var line Line
	hash, body, ok := strings.Cut(text, " ")
	if !ok || hash != c.hash(body) {
		return line, errors.New("its hash does not match the lines before it")
	}
	if err := json.Unmarshal([]byte(body), &line); err != nil {
		return line, errors.New("it is not JSON")
	}
	c.last = hash
	c.lines++
	return line, nil
}
