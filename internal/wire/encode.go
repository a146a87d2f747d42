package wire

import (
	"bytes"
	"encoding/json"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"unicode/utf8"
)

// Encode writes v as JSON. It leaves "<", ">" and "&" as they are. replaced reports
// whether a string of v may hold invalid UTF-8, which JSON cannot carry.
func Encode(v any) (text []byte, replaced bool, err error) {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(v); err != nil {
		return nil, false, err
	}
	// encoding/json replaces invalid UTF-8 by this escape or, when it is built on
	// json/v2, by the character itself, which the text may also have.
	replaced = bytes.Contains(b.Bytes(), []byte(`\ufffd`)) ||
		bytes.Contains(b.Bytes(), []byte("\ufffd"))
	return bytes.TrimRight(b.Bytes(), "\n"), replaced, nil
}

// Secrets finds strings in values. Secrets are strings of a type of their own.
type Secrets struct {
	Type   reflect.Type
	Reveal func(reflect.Value) string // the text of a value of Type
}

// NotUTF8 reports whether a string or a secret is not valid UTF-8.
func (s Secrets) NotUTF8(v reflect.Value) bool {
	if v.Type() == s.Type {
		return !utf8.ValidString(s.Reveal(v))
	}
	return !utf8.ValidString(v.String())
}

// Find returns the Go path of the first string or secret in v that matches, or "".
func (s Secrets) Find(v any, matches func(reflect.Value) bool) string {
	return s.find(reflect.ValueOf(v), "", 0, matches)
}

// maxFindDepth is how deep Find looks: far deeper than any params, and short of what
// a value that holds itself has.
const maxFindDepth = 32

func (s Secrets) find(
	v reflect.Value, path string, depth int, matches func(reflect.Value) bool,
) string {
	if depth++; depth > maxFindDepth {
		return ""
	}
	kind := v.Kind()
	if kind == reflect.Struct && v.Type() == s.Type {
		kind = reflect.String
	}
	switch kind {
	case reflect.String:
		if matches(v) {
			return strings.TrimPrefix(path, ".")
		}
	case reflect.Pointer, reflect.Interface:
		if !v.IsNil() {
			return s.find(v.Elem(), path, depth, matches)
		}
	case reflect.Struct:
		for f, field := range v.Fields() {
			if !f.IsExported() {
				continue
			}
			if found := s.find(field, path+"."+f.Name, depth, matches); found != "" {
				return found
			}
		}
	case reflect.Slice, reflect.Array:
		if k := v.Type().Elem().Kind(); k >= reflect.Bool && k <= reflect.Complex128 {
			return ""
		}
		for i := range v.Len() {
			if found := s.find(v.Index(i), fmt.Sprintf("%s[%d]", path, i), depth, matches); found != "" {
				return found
			}
		}
	case reflect.Map:
		return s.findInMap(v, path, depth, matches)
	}
	return ""
}

func (s Secrets) findInMap(
	v reflect.Value, path string, depth int, matches func(reflect.Value) bool,
) string {
	var found []string
	for key, value := range v.Seq2() {
		name := fmt.Sprintf("%s[%q]", path, fmt.Sprint(key))
		if key.Kind() == reflect.String && matches(key) {
			found = append(found, name)
		}
		if in := s.find(value, name, depth, matches); in != "" {
			found = append(found, in)
		}
	}
	if len(found) == 0 {
		return ""
	}
	return strings.TrimPrefix(slices.Min(found), ".")
}
