// Package wire decodes the JSON of an API whose versions disagree about the
// types of values. It knows no API: the Go types say what matters in them.
//
// A value that matters is strict, and one of the wrong type is an error. Any
// other value of the wrong type is left zero and reported, so that it does not
// cost the caller the rest of the answer. What is strict:
//
//   - the document itself;
//   - a field of a strict struct, if the field is tagged `wire:"strict"` or no
//     field of the struct is;
//   - an item of a strict slice or map.
package wire

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"strings"
)

// Oddity is a value that was left zero because it had the wrong type.
type Oddity struct {
	Path   string // where it is in the document: "data[3].size"
	Reason string // "got string, want number"; never the value
}

// Error reports a strict value of the wrong type, or a document that is not
// JSON.
type Error struct {
	Path string // where it is in the document; empty: the document itself
	Raw  []byte // the value, which may hold secrets; nil if its type hides it
	Err  error  // what is wrong, without the value
}

// Error returns the path and what is wrong there.
func (e *Error) Error() string {
	if e.Path == "" {
		return e.Err.Error()
	}
	return e.Path + ": " + e.Err.Error()
}

// Unwrap returns what is wrong.
func (e *Error) Unwrap() error { return e.Err }

// maxDepth is the deepest nesting of arrays and objects that Decode reads, far
// deeper than any answer. Types with their own UnmarshalJSON cost time by the
// square of the depth.
const maxDepth = 64

// Decode decodes body into v, which must be a non-nil pointer. It returns an
// *Error if body is not JSON or a strict value has the wrong type, and the
// other values of the wrong type, at most 100 of them.
//
// Some values of another type are still read: dates in the spellings that ISO
// 8601 allows and, where the value is not strict, numbers and booleans in a
// string, whole numbers with a fraction of zero, and numbers for a string.
func Decode(body []byte, v any) ([]Oddity, error) {
	if mayBeDeep(body) && depth(body) > maxDepth {
		return nil, &Error{Raw: body, Err: fmt.Errorf("nested deeper than %d", maxDepth)}
	}
	err := unmarshal(body, v)
	if err == nil {
		return nil, nil
	}
	if _, ok := errors.AsType[*json.SyntaxError](err); ok {
		return nil, &Error{Raw: body, Err: err}
	}
	target := reflect.ValueOf(v).Elem()
	var m mender
	mended, err := m.mend(body, target.Type(), "", true)
	if err != nil {
		return nil, err
	}
	target.SetZero()
	return m.odd, unmarshal(mended, v)
}

// unmarshal is json.Unmarshal, which scans the body twice more before it calls
// an UnmarshalJSON method.
func unmarshal(body []byte, v any) error {
	if u, ok := v.(json.Unmarshaler); ok {
		if body = bytes.TrimLeft(body, " \t\r\n"); len(body) > 0 {
			return u.UnmarshalJSON(body)
		}
	}
	return json.Unmarshal(body, v)
}

// mayBeDeep reports whether body has enough brackets to be nested too deep. It
// costs much less than depth.
func mayBeDeep(body []byte) bool {
	return bytes.Count(body, []byte{'['})+bytes.Count(body, []byte{'{'}) > maxDepth
}

// depth returns the deepest nesting of arrays and objects in body. It passes
// over each string at once: see BenchmarkWebhook.
func depth(body []byte) (deepest int) {
	current := 0
	for i := 0; i < len(body); i++ {
		switch body[i] {
		case '"':
			i = endOfString(body, i+1)
		case '[', '{':
			current++
			deepest = max(deepest, current)
		case ']', '}':
			current--
		}
	}
	return deepest
}

// endOfString returns the index of the quote that ends the string whose text
// begins at start, or len(body) if there is none.
func endOfString(body []byte, start int) int {
	for from := start; ; {
		n := bytes.IndexByte(body[from:], '"')
		if n < 0 {
			return len(body)
		}
		quote := from + n
		text := bytes.TrimRight(body[from:quote], `\`)
		if (quote-from-len(text))%2 == 0 { // no backslash belongs to the quote
			return quote
		}
		from = quote + 1
	}
}

// Pattern returns a path without its indexes, so that a field that is odd in
// every item of a list is reported once.
func Pattern(path string) string {
	var b strings.Builder
	for {
		before, after, found := strings.Cut(path, "[")
		b.WriteString(before)
		if !found {
			return b.String()
		}
		b.WriteByte('[')
		path = strings.TrimLeft(after, "0123456789")
	}
}
