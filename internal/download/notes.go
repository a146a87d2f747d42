package download

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"io"
	"io/fs"
	"os"
)

const notesSuffix = ".files"

// notesName returns the name of the hidden file that holds a subject's notes.
func notesName(subject string) string {
	digest := sha256.Sum256([]byte(subject))
	return partialPrefix + hex.EncodeToString(digest[:nameDigest]) + notesSuffix
}

// Note adds a note to those of a subject. Notes save work, so a failure is not
// reported, and without a folder there are none.
func (f *Folder) Note(subject string, note any) {
	line, err := json.Marshal(note)
	if f == nil || err != nil {
		return
	}
	name := notesName(subject)
	file, _, err := openRegular(f.root, name, os.O_WRONLY|os.O_APPEND)
	if errors.Is(err, fs.ErrNotExist) {
		file, err = f.root.OpenFile(name, os.O_WRONLY|os.O_APPEND|os.O_CREATE|os.O_EXCL, 0o600)
	}
	if err != nil {
		return
	}
	_, _ = file.Write(append(line, '\n'))
	_ = file.Close()
}

// Notes returns the notes of a subject, those of other kinds than T too. It leaves
// out a line that was cut off.
func Notes[T any](f *Folder, subject string) (notes []T) {
	if f == nil {
		return nil
	}
	file, info, err := openRegular(f.root, notesName(subject), os.O_RDONLY)
	if err != nil {
		return nil
	}
	defer func() { _ = file.Close() }() // only read
	text := make([]byte, info.Size())
	n, _ := io.ReadFull(file, text)
	for line := range bytes.Lines(text[:n]) {
		var note T
		if json.Unmarshal(line, &note) == nil {
			notes = append(notes, note)
		}
	}
	return notes
}

// Holds reports whether name is a regular file of a size.
func (f *Folder) Holds(name string, size int64) bool {
	info, err := f.root.Lstat(name)
	return err == nil && info.Mode().IsRegular() && info.Size() == size
}
