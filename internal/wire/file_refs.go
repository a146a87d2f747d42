package wire

import (
	"bytes"
	"encoding/json"
	"strings"
)

// FileRefs returns the IDs of the files that a JSON value refers to, each once.
// It reads the value in one pass, without decoding it: records are many, and
// most refer to no file (BenchmarkFileRefs in the root package).
//
// A file is an object with a "file_id", an object that says in "data_type" that
// it is a file, or an object within "file", "files" or "attachments", under its
// "file_id" or its "id". Those of the value itself come first, then those within
// "file", "files", "attachments", then the others.
func FileRefs(value []byte) []string {
	if !mayRefer(value) {
		return nil
	}
	s := refScanner{data: value}
	if !s.document() {
		return nil
	}
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

// maxRefDepth is how deep values may be nested, as in encoding/json.
const maxRefDepth = 10_000

// refScanner reads a JSON value and checks it on the way: json.Valid alone
// would cost more than the reading. Its methods return false for what is not JSON.
type refScanner struct {
	data  []byte
	at    int
	depth int
	found [places][]string
}

// document reads the whole of the data.
func (s *refScanner) document() bool {
	if !s.value(placeSelf, false) {
		return false
	}
	s.peek()
	return s.at == len(s.data)
}

// value reads one value. reference says that an object here is a file.
func (s *refScanner) value(p place, reference bool) bool {
	switch s.peek() {
	case '{':
		return s.object(p, reference)
	case '[':
		if p == placeSelf {
			p = placeElsewhere
		}
		return s.members('[', ']', func() bool { return s.value(p, reference) })
	}
	_, ok := s.scalar()
	return ok
}

func (s *refScanner) object(p place, reference bool) bool {
	var o object
	if !s.members('{', '}', func() bool { return s.member(&o, p, reference) }) {
		return false
	}
	if id := o.ref(reference); id != "" {
		s.found[p] = append(s.found[p], id)
	}
	return true
}

// member reads one member of an object.
func (s *refScanner) member(o *object, p place, reference bool) bool {
	key, ok := s.key()
	if !ok || s.peek() != ':' {
		return false
	}
	s.at++
	first := s.peek()
	if first != '{' && first != '[' {
		value, ok := s.scalar()
		o.set(key, value)
		return ok
	}
	switch string(key) {
	case "file":
		return s.value(placeFile, true)
	case "files":
		return s.value(placeFiles, true)
	case "attachments":
		return s.value(placeAttachments, true)
	case "file_id", "id":
		if reference { // an ID that is an object with an ID
			return s.value(p, true)
		}
	}
	return s.value(placeElsewhere, false)
}

// members reads the members of an array or an object.
func (s *refScanner) members(begin, end byte, member func() bool) bool {
	s.depth++
	defer func() { s.depth-- }()
	if s.peek() != begin || s.depth > maxRefDepth {
		return false
	}
	s.at++
	if s.peek() == end {
		s.at++
		return true
	}
	for {
		if !member() {
			return false
		}
		switch s.peek() {
		case ',':
			s.at++
		case end:
			s.at++
			return true
		default:
			return false
		}
	}
}

// peek moves past white space and returns the next byte, 0 at the end.
func (s *refScanner) peek() byte {
	for ; s.at < len(s.data); s.at++ {
		switch c := s.data[s.at]; c {
		case ' ', '\t', '\r', '\n':
		default:
			return c
		}
	}
	return 0
}

func (s *refScanner) key() ([]byte, bool) {
	if s.peek() != '"' {
		return nil, false
	}
	raw, ok := s.string()
	if !ok {
		return nil, false
	}
	if bytes.IndexByte(raw, '\\') >= 0 {
		var name string
		_ = json.Unmarshal(raw, &name) // it is valid
		return []byte(name), true
	}
	return raw[1 : len(raw)-1], true
}

// scalar returns a string with its quotes, a number or a literal.
func (s *refScanner) scalar() ([]byte, bool) {
	switch c := s.peek(); {
	case c == '"':
		return s.string()
	case c == '-' || isDigit(c):
		return s.number()
	}
	for _, literal := range []string{"null", "true", "false"} {
		if bytes.HasPrefix(s.data[s.at:], []byte(literal)) {
			s.at += len(literal)
			return s.data[s.at-len(literal) : s.at], true
		}
	}
	return nil, false
}

func (s *refScanner) string() ([]byte, bool) {
	begin := s.at
	for s.at++; s.at < len(s.data); s.at++ {
		switch c := s.data[s.at]; {
		case c == '"':
			s.at++
			return s.data[begin:s.at], true
		case c < ' ':
			return nil, false
		case c == '\\' && !s.escape():
			return nil, false
		}
	}
	return nil, false
}

// escape moves to the last byte of an escape.
func (s *refScanner) escape() bool {
	s.at++
	if s.at == len(s.data) {
		return false
	}
	if s.data[s.at] != 'u' {
		return strings.IndexByte(`"\/bfnrt`, s.data[s.at]) >= 0
	}
	for range 4 {
		s.at++
		if s.at == len(s.data) || !isHex(s.data[s.at]) {
			return false
		}
	}
	return true
}

func (s *refScanner) number() ([]byte, bool) {
	begin := s.at
	s.accept("-")
	zero := s.at
	ok := s.digits() && (s.data[zero] != '0' || s.at == zero+1)
	if s.accept(".") {
		ok = s.digits() && ok
	}
	if s.accept("eE") {
		s.accept("+-")
		ok = s.digits() && ok
	}
	return s.data[begin:s.at], ok
}

// accept moves past the next byte if it is one of these.
func (s *refScanner) accept(these string) bool {
	if s.at == len(s.data) || strings.IndexByte(these, s.data[s.at]) < 0 {
		return false
	}
	s.at++
	return true
}

// digits moves past digits, and reports whether there were any.
func (s *refScanner) digits() bool {
	begin := s.at
	for s.at < len(s.data) && isDigit(s.data[s.at]) {
		s.at++
	}
	return s.at > begin
}

func isDigit(c byte) bool { return '0' <= c && c <= '9' }

func isHex(c byte) bool {
	return isDigit(c) || 'a' <= c && c <= 'f' || 'A' <= c && c <= 'F'
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

// noFile occurs in the IDs of attachments without a file, as Digital Touch
// messages have them.
const noFile = "dtouch"

// ref returns the ID of the file that the object is, or "".
func (o *object) ref(reference bool) string {
	id := scalar(o.fileID)
	if id == "" && (reference || o.isFile()) {
		id = scalar(o.id)
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
		return o.described && bytes.IndexByte(o.dataType, '.') < 0 // "ios_messages.messages" is a module
	}
	switch string(o.kind) {
	case `"file"`, `"image"`, `"video"`, `"audio"`:
		return o.described
	}
	return false
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
