package ricloud

import (
	"bufio"
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"iter"
	"slices"
	"strconv"
	"strings"

	"github.com/reincubate/ricloud-go/internal/wire"
)

// ErrRecordCount means that a document does not hold as many records as its
// metadata says. [Records] yields it at the end.
var ErrRecordCount = errors.New("ricloud: the number of records differs from metadata.count")

// ErrNoRecords means that a document has no array "data", or that it reports an
// error itself. It does not mean that there are no records, or no more of them, so
// do not acknowledge the result as a whole one. [Records] yields it.
var ErrNoRecords = errors.New(`ricloud: the document has no array "data"`)

// RecordError reports what is wrong with one record, or with the document.
type RecordError struct {
	Index  int   // of the record, from 0; at the end, the number of records
	Offset int64 // where in the document, in bytes
	Err    error
}

// Error names the record and where it is, and none of its values.
func (e *RecordError) Error() string {
	cause := e.Err
	if mismatch, ok := errors.AsType[*json.UnmarshalTypeError](cause); ok {
		kind, _, _ := strings.Cut(mismatch.Value, " ") // without the number itself
		cause = fmt.Errorf("cannot decode %s: got %s, want %s", cmp.Or(mismatch.Field, "it"), kind,
			mismatch.Type)
	}
	return fmt.Sprintf("ricloud: record %d, at byte %d: %s",
		e.Index, e.Offset, strings.TrimPrefix(causeText(cause), "ricloud: "))
}

// Unwrap returns what is wrong.
func (e *RecordError) Unwrap() error { return e.Err }

// reportedError is an ErrNoRecords of a document that reports an error.
type reportedError struct{}

func (reportedError) Error() string {
	return "the document reports an error, so records may be missing"
}

func (reportedError) Is(target error) bool { return target == ErrNoRecords }

// withoutValues hides the text of the errors that a type's own decoding returns,
// such as those of time.Time: they quote the record.
func withoutValues(err error) error {
	if _, ok := errors.AsType[*json.UnmarshalTypeError](err); ok {
		return err // RecordError leaves the value out
	}
	return &undecoded{err}
}

type undecoded struct{ err error }

func (e *undecoded) Error() string {
	return fmt.Sprintf("cannot decode it: a field returned a %T, which may quote the record", e.err)
}

func (e *undecoded) Unwrap() error { return e.err }

// Records reads the records of a data result, {"data": […], "metadata":
// {"count": n}}, one after the other. Memory holds one record at a time. A value
// beside the records may have at most 16 MiB. T is a type of yours, or
// json.RawMessage for the records as they came.
//
//	file, err := client.Results.Open(ctx, result)
//	…
//	defer file.Close()
//	for call, err := range ricloud.Records[Call](file) { … }
//
// A record that cannot be decoded into T is yielded as a *RecordError, and the
// next ones follow. Every other error is yielded as a *RecordError and ends the
// iteration: io.ErrUnexpectedEOF for a document that breaks off, ErrNoRecords,
// ErrRecordCount, or an error of r. Records reads r to its end, so a damaged
// result yields ErrChecksum. Records that came before such an error are not
// verified.
func Records[T any](r io.Reader) iter.Seq2[T, error] {
	return func(yield func(T, error) bool) {
		if isNil(r) {
			var zero T
			yield(zero, &ParamError{Operation: "Records", Field: "r", Reason: "is nil"})
			return
		}
		d := newDocument(r)
		var v, zero T // one v for all records: the decoder needs its address, and it is copied
		err := d.read(func() (stop bool, err error) {
			v = zero
			begin := d.next()
			if err := d.Decode(&v); err != nil {
				if d.InputOffset() <= begin { // it is not even JSON
					return true, err
				}
				return !yield(zero, &RecordError{d.index, begin, withoutValues(err)}), nil
			}
			return !yield(v, nil), nil
		})
		if err != nil && !errors.Is(err, errStopped) {
			yield(zero, &RecordError{d.index, d.InputOffset(), err})
		}
	}
}

// document is the JSON of a data result.
type document struct {
	*wire.Stream

	input   io.Reader // what Stream reads
	limit   *limit    // on input
	index   int
	count   string // of metadata; "": none
	counted bool   // "metadata" has come
	failed  bool   // "error" or "errors" holds an error
	records bool   // "data" has come

	// object, if set, is given "data" that is an object, as older information
	// documents have it.
	object func(json.RawMessage)
	whole  bool // it was: metadata then counts something within
}

func newDocument(r io.Reader) document {
	limited := &limit{Reader: r}
	return document{Stream: wire.NewStream(limited), input: r, limit: limited}
}

// maxBeside bounds the names, strings, numbers and metadata beside the records,
// which memory holds one at a time.
const maxBeside = 16 << 20

var errBeside = errors.New(`a value beside "data" has more than 16 MiB`)

// limit is a reader that can limit how much is read for one value.
type limit struct {
	io.Reader

	on    bool
	begun bool  // the value has been read from
	left  int64 // bytes of it
}

// next allows another value, of any size if it is a record.
func (l *limit) next(record bool) { l.on, l.begun = !record, false }

func (l *limit) Read(p []byte) (int, error) {
	if l.on && !l.begun { // a buffer that records have made large may be filled
		l.begun, l.left = true, max(maxBeside, int64(len(p)))
	}
	if l.on {
		if l.left == 0 {
			return 0, errBeside
		}
		p = p[:min(int64(len(p)), l.left)]
	}
	n, err := l.Reader.Read(p)
	l.left -= int64(n)
	return n, err
}

// Token returns the next token, which is not a record.
func (d *document) Token() (json.Token, error) {
	d.limit.next(false)
	return d.Stream.Token()
}

var errStopped = errors.New("stopped")

// next returns where the next element of an array begins.
func (d *document) next() int64 {
	if d.index > 0 {
		return d.InputOffset() + 1 // after the comma
	}
	return d.InputOffset()
}

// read calls record at each record; record decodes it. If the document is damaged,
// the error of the input's end may say why.
func (d *document) read(record func() (stop bool, err error)) error {
	err := d.parse(record)
	if err == nil || errors.Is(err, errStopped) {
		return err
	}
	if _, end := io.Copy(io.Discard, d.input); end != nil && !errors.Is(err, end) {
		return fmt.Errorf("%w (%w)", end, err)
	}
	return err
}

func (d *document) parse(record func() (stop bool, err error)) error {
	if err := d.members(record); err != nil {
		if err == io.EOF { //nolint:errorlint // bare: r has ended, and the document has not
			return io.ErrUnexpectedEOF
		}
		return err
	}
	switch {
	case !d.records:
		return ErrNoRecords
	case d.failed:
		return reportedError{}
	case d.count != "" && !isCount(d.count, d.index) && !d.whole:
		return fmt.Errorf("%w: it is %d, metadata.count is %.40s", ErrRecordCount, d.index, d.count)
	}
	switch _, err := d.Token(); err {
	case nil:
		return errors.New("there is more data after the end of the document")
	case io.EOF: //nolint:errorlint // bare, it says that the reader has verified everything
		return nil
	default:
		return err
	}
}

func (d *document) members(record func() (stop bool, err error)) error {
	if err := d.expect('{'); err != nil {
		return err
	}
	for d.More() {
		name, err := d.Token()
		if err != nil {
			return err
		}
		switch name {
		case "data":
			err = d.data(record)
		case "metadata":
			err = d.metadata()
		case "error", "errors":
			err = d.reported()
		default:
			err = d.skip()
		}
		if err != nil {
			return err
		}
	}
	return d.expect('}')
}

func (d *document) expect(want json.Delim) error {
	token, err := d.Token()
	if err == nil && token != want {
		return fmt.Errorf("want %q", want)
	}
	return err
}

func (d *document) data(record func() (stop bool, err error)) error {
	if d.records {
		return errors.New(`the document has two arrays "data"`)
	}
	token, err := d.Token()
	if err != nil {
		return err
	}
	if token == json.Delim('{') && d.object != nil {
		d.records, d.whole = true, true
		d.limit.next(true)
		return d.one()
	}
	if token != json.Delim('[') {
		return fmt.Errorf("%w: it is %s", ErrNoRecords, kindOf(token))
	}
	d.records = true
	d.limit.next(true)
	for d.More() {
		stop, err := record()
		if err != nil {
			return err
		}
		d.index++
		if stop {
			return errStopped
		}
	}
	return d.expect(']')
}

// one reads "data" that is an object. The opening brace has been read.
func (d *document) one() error {
	var object bytes.Buffer
	for object.WriteByte('{'); d.More(); {
		name, err := d.Stream.Token()
		if err != nil {
			return err
		}
		var value json.RawMessage
		if err := d.Decode(&value); err != nil {
			return err
		}
		if object.Len() > 1 {
			object.WriteByte(',')
		}
		quoted, err := json.Marshal(name)
		if err != nil {
			return err
		}
		object.Write(quoted)
		object.WriteByte(':')
		object.Write(value)
	}
	object.WriteByte('}')
	d.object(object.Bytes())
	return d.expect('}')
}

// readFileRefs returns the IDs of the files that a document of records refers
// to. Unless the file must be a document, one that does not begin with "{"
// refers to no files.
func readFileRefs(r io.Reader, mustBeDocument bool) ([]ID, error) {
	input := bufio.NewReader(r)
	first, err := firstByte(input)
	switch {
	case err != nil && err != io.EOF: //nolint:errorlint // an io.Reader returns io.EOF bare
		return nil, err
	case !mustBeDocument && (err != nil || first != '{' && !hasMark(input)):
		return nil, nil //nolint:nilerr // an empty file
	}
	var refs idSet
	d := newDocument(input)
	d.object = func(value json.RawMessage) { refs.add(FileRefs(value)...) }
	err = d.read(func() (bool, error) {
		var record json.RawMessage
		begin := d.next()
		if err := d.Decode(&record); err != nil {
			return true, &RecordError{d.index, begin, err}
		}
		refs.add(FileRefs(record)...)
		return false, nil
	})
	return refs.all, err
}

// hasMark reports whether a document follows that begins with a byte order mark, in
// UTF-8 or UTF-16. Records refuses one.
func hasMark(r *bufio.Reader) bool {
	begin, _ := r.Peek(len("\xef\xbb\xbf{")) // the longest
	return slices.ContainsFunc([]string{"\xef\xbb\xbf{", "\xff\xfe{\x00", "\xfe\xff\x00{"},
		func(mark string) bool { return string(begin) == mark })
}

func firstByte(r *bufio.Reader) (byte, error) {
	for {
		b, err := r.ReadByte()
		if err != nil {
			return 0, err
		}
		if b > ' ' {
			return b, r.UnreadByte()
		}
	}
}

// idSet is a list of IDs without duplicates.
type idSet struct {
	all  []ID
	seen map[ID]bool
}

func (s *idSet) add(ids ...ID) {
	if s.seen == nil {
		s.seen = map[ID]bool{}
	}
	for _, id := range ids {
		if !s.seen[id] {
			s.seen[id] = true
			s.all = append(s.all, id)
		}
	}
}

// kindOf names the kind of a JSON value by its first token.
func kindOf(token json.Token) string {
	switch token.(type) {
	case json.Delim:
		return "an object"
	case string:
		return "a string"
	case bool:
		return "a boolean"
	case nil:
		return "null"
	default:
		return "a number"
	}
}

// metadata reads the count, if there is one that can be read.
func (d *document) metadata() error {
	if d.counted {
		return errors.New(`"metadata" comes twice`)
	}
	d.counted = true
	d.limit.next(false)
	var raw json.RawMessage
	if err := d.Decode(&raw); err != nil {
		return err
	}
	fields := json.NewDecoder(bytes.NewReader(raw))
	if token, _ := fields.Token(); token != json.Delim('{') {
		return nil
	}
	for counted := false; fields.More(); {
		name, err := fields.Token()
		if err != nil {
			return err
		}
		var value json.RawMessage
		if err := fields.Decode(&value); err != nil {
			return err
		}
		if name != "count" {
			continue
		}
		if counted {
			return errors.New(`"metadata.count" comes twice`)
		}
		counted, d.count = true, readCount(value)
	}
	return nil
}

// reported reads whether the document reports an error.
func (d *document) reported() error {
	d.limit.next(false)
	var raw json.RawMessage
	err := d.Decode(&raw)
	d.failed = d.failed || err == nil && wire.Code(raw) != ""
	return err
}

// readCount returns a count as it is spelled: a number, perhaps in a string. It
// returns "" for null and for an empty string.
func readCount(raw json.RawMessage) string {
	text := strings.TrimSpace(strings.Trim(string(raw), `"`))
	if text == "" || text == "null" {
		return ""
	}
	if strings.Trim(text, "+-.eE0123456789") != "" {
		return "not a number"
	}
	if _, err := strconv.ParseFloat(text, 64); err != nil && !errors.Is(err, strconv.ErrRange) {
		return "not a number"
	}
	return text
}

// isCount reports whether a number is n, in whatever spelling.
func isCount(number string, n int) bool {
	value, err := strconv.ParseFloat(number, 64)
	return err == nil && value == float64(n)
}

// skip reads past a value of any size.
func (d *document) skip() error {
	for depth := 0; ; {
		token, err := d.Token()
		if _, large := errors.AsType[*json.UnmarshalTypeError](err); err != nil && !large {
			return err
		}
		switch token {
		case json.Delim('['), json.Delim('{'):
			depth++
		case json.Delim(']'), json.Delim('}'):
			depth--
		}
		if depth == 0 {
			return nil
		}
	}
}
