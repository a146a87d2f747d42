package wire

import (
	"bytes"
	"encoding/json"
	"strings"
)

// FileRefs returns the IDs of the files that a JSON value refers to, each once.
// It reads the value in one pass, without decoding it: records are many, and
// most refer to no file (BenchmarkFileRefs).
//
// A file is an object with a "file_id", an object that says in "data_type" that
// it is a file, or an object within "file", "files" or "attachments", under its
// "file_id" or its "id". Those of the value itself come first, then those within
// "file", "files", "attachments", then the others.
func FileRefs(value []byte) []string {
	if !mayRefer(value) || !json.Valid(value) {
		return nil
	}
	s := refScanner{data: value}
	s.value(placeSelf, false)
	var refs uniqueStrings
	for _, found := range s.found {
		for _, id := range found {
			refs.add(id)
		}
	}
	return refs.all
}

// mayRefer reports whether value holds one of the words that a reference to a
// file needs.
func mayRefer(value []byte) bool {
	for _, word := range []string{"file", "attachments", "data_type", `\u`} {
		if bytes.Contains(value, []byte(word)) {
			return true
		}
	}
	return false
}

// place says where in a record a file was found. Its values are in the order
// of the result.
type place int

const (
	placeSelf place = iota
	placeFile
	placeFiles
	placeAttachments
	placeElsewhere
	places
)

// refScanner reads valid JSON.
type refScanner struct {
	data  []byte
	at    int
	found [places][]string
}

// value walks over one value. reference says that an object here is a file.
func (s *refScanner) value(p place, reference bool) {
	s.space()
	switch s.data[s.at] {
	case '{':
		s.object(p, reference)
	case '[':
		s.at++
		for s.more(']') {
			next := p
			if p == placeSelf {
				next = placeElsewhere
			}
			s.value(next, reference)
		}
	default:
		s.scalar()
	}
}

func (s *refScanner) object(p place, reference bool) {
	var o object
	s.at++
	for s.more('}') {
		key := s.key()
		s.space()
		s.at++ // the colon
		s.space()
		if c := s.data[s.at]; c != '{' && c != '[' {
			o.set(key, s.scalar())
			continue
		}
		switch string(key) {
		case "file":
			s.value(placeFile, s.data[s.at] == '{')
		case "files":
			s.value(placeFiles, s.data[s.at] == '[')
		case "attachments":
			s.value(placeAttachments, s.data[s.at] == '[')
		default:
			s.value(placeElsewhere, false)
		}
	}
	if id := o.ref(reference); id != "" {
		s.found[p] = append(s.found[p], id)
	}
}

// more reports whether an array or an object goes on, and moves past what ends
// or separates its members.
func (s *refScanner) more(end byte) bool {
	s.space()
	if s.data[s.at] == ',' {
		s.at++
		s.space()
	}
	if s.data[s.at] == end {
		s.at++
		return false
	}
	return true
}

func (s *refScanner) space() {
	for s.at < len(s.data) && s.data[s.at] <= ' ' {
		s.at++
	}
}

func (s *refScanner) key() []byte {
	raw := s.scalar()
	if bytes.IndexByte(raw, '\\') >= 0 {
		var name string
		_ = json.Unmarshal(raw, &name) // it is valid
		return []byte(name)
	}
	return raw[1 : len(raw)-1]
}

// scalar returns a string with its quotes, a number or a literal.
func (s *refScanner) scalar() []byte {
	begin := s.at
	if s.data[s.at] != '"' {
		for ; s.at < len(s.data); s.at++ {
			if c := s.data[s.at]; c == ',' || c == ']' || c == '}' || c <= ' ' {
				break
			}
		}
		return s.data[begin:s.at]
	}
	s.at++
	for {
		n := bytes.IndexByte(s.data[s.at:], '"')
		escapes := 0
		for s.data[s.at+n-1-escapes] == '\\' {
			escapes++
		}
		s.at += n + 1
		if escapes%2 == 0 {
			return s.data[begin:s.at]
		}
	}
}

// object holds the fields of a JSON object that show whether it is a file.
type object struct {
	fileID, id, dataType, kind []byte
	described                  bool // it has a field that only files have
}

func (o *object) set(key, value []byte) {
	switch string(key) {
	case "file_id":
		o.fileID = value
	case "id":
		o.id = value
	case "data_type":
		o.dataType = value
	case "type":
		o.kind = value
	case "mime_type", "checksum", "extension", "filename", "filepath", "file_path":
		o.described = true
	}
}

// noFile is in the IDs of attachments that have no file: Digital Touch.
const noFile = "dtouch"

// ref returns the ID of the file that the object is, or "".
func (o *object) ref(reference bool) string {
	id := idOf(o.fileID)
	if id == "" && (reference || o.isFile()) {
		id = idOf(o.id)
	}
	if strings.Contains(id, noFile) {
		return ""
	}
	return id
}

// isFile reports whether the object says that it is a file.
func (o *object) isFile() bool {
	switch string(o.dataType) {
	case `"file"`, `"image"`, `"video"`, `"audio"`:
		return true
	case "", "null", `""`:
	default:
		return o.described && bytes.IndexByte(o.dataType, '.') < 0 // "ios_messages.messages" is none
	}
	switch string(o.kind) {
	case `"file"`, `"image"`, `"video"`, `"audio"`:
		return o.described
	}
	return false
}

// idOf returns the ID that is a string or a number.
func idOf(raw []byte) string {
	if len(raw) == 0 {
		return ""
	}
	switch c := raw[0]; {
	case c == '"':
		var id string
		_ = json.Unmarshal(raw, &id) // it is valid
		return id
	case c == '-' || '0' <= c && c <= '9':
		return string(raw)
	}
	return ""
}

// uniqueStrings is a list without duplicates.
type uniqueStrings struct {
	all  []string
	seen map[string]bool
}

func (u *uniqueStrings) add(s string) {
	if u.seen == nil {
		u.seen = map[string]bool{}
	}
	if !u.seen[s] {
		u.seen[s] = true
		u.all = append(u.all, s)
	}
}
