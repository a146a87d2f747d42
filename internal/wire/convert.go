package wire

import (
	"encoding"
	"encoding/json"
	"math"
	"reflect"
	"strconv"
	"strings"
	"time"
)

// convert returns raw in another spelling that decodes into a t, if there is
// one. It does not convert a strict value to another type.
func convert(raw json.RawMessage, t reflect.Type, strict bool) (json.RawMessage, bool) {
	if t == reflect.TypeFor[time.Time]() {
		return convertTime(raw)
	}
	if strict {
		return nil, false
	}
	kind := t.Kind()
	if readsText(t) {
		kind = reflect.String
	}
	for _, spelling := range spellings(string(raw), kind) {
		if converted := json.RawMessage(spelling); decodes(converted, t) {
			return converted, true
		}
	}
	return nil, false
}

// readsText reports whether a t is read from a JSON string, whatever the kind of t.
func readsText(t reflect.Type) bool {
	return reflect.PointerTo(t).Implements(reflect.TypeFor[encoding.TextUnmarshaler]())
}

// spellings lists the spellings that a number, a boolean or a string may also
// have.
func spellings(raw string, want reflect.Kind) []string {
	switch kindOf([]byte(raw)) {
	case kindString:
		inner := strings.TrimSpace(Unquote([]byte(raw)))
		switch kindOf([]byte(inner)) {
		case kindNumber, kindBool:
			return append(spellings(inner, want), inner)
		}
	case kindNumber:
		switch {
		case want == reflect.String:
			return []string{strconv.Quote(raw)}
		case want == reflect.Bool && raw == "1":
			return []string{"true"}
		case want == reflect.Bool && raw == "0":
			return []string{"false"}
		}
		if f, err := strconv.ParseFloat(raw, 64); err == nil && f == math.Trunc(f) {
			return []string{strconv.FormatFloat(f, 'f', -1, 64)}
		}
	case kindBool:
		if want == reflect.String {
			return []string{strconv.Quote(raw)}
		}
	}
	return nil
}

// convertTime returns a time without a zone as UTC, and an empty one as null.
func convertTime(raw json.RawMessage) (json.RawMessage, bool) {
	if kindOf(raw) != kindString {
		return nil, false
	}
	s := strings.TrimSpace(Unquote(raw))
	if s == "" {
		return json.RawMessage("null"), true
	}
	for _, layout := range []string{
		time.RFC3339, "2006-01-02T15:04:05", time.DateTime, time.DateOnly,
		"2006-01-02 15:04:05Z07:00", "2006-01-02T15:04:05Z0700", "2006-01-02 15:04:05Z0700",
	} {
		if t, err := time.Parse(layout, s); err == nil {
			return json.RawMessage(t.UTC().Format(`"` + time.RFC3339Nano + `"`)), true
		}
	}
	return nil, false
}

// Unquote returns what a JSON string holds, or raw itself if it is not one.
func Unquote(raw []byte) string {
	if inner, ok := plainString(raw); ok {
		return string(inner)
	}
	var s string
	if json.Unmarshal(raw, &s) != nil {
		return string(raw)
	}
	return s
}

// plainString returns what is between the quotes of a string without escapes.
func plainString(raw []byte) (inner []byte, ok bool) {
	if len(raw) < 2 || raw[0] != '"' || raw[len(raw)-1] != '"' {
		return nil, false
	}
	inner = raw[1 : len(raw)-1]
	for _, c := range inner {
		if c < ' ' || c > '~' || c == '"' || c == '\\' {
			return nil, false
		}
	}
	return inner, true
}

// The kinds of JSON values, as mismatch names them.
const (
	kindString = "string"
	kindNumber = "number"
	kindBool   = "boolean"
	kindArray  = "array"
	kindObject = "object"
	kindNull   = "null"
)

// kindOf names the kind of a JSON value by its first byte, or returns "" for
// what is not JSON.
func kindOf(raw []byte) string {
	if len(raw) == 0 {
		return ""
	}
	switch c := raw[0]; {
	case c == '"':
		return kindString
	case c == '-' || '0' <= c && c <= '9':
		return kindNumber
	case string(raw) == "true", string(raw) == "false":
		return kindBool
	case c == '[':
		return kindArray
	case c == '{':
		return kindObject
	case string(raw) == "null":
		return kindNull
	}
	return ""
}

// mismatch says why raw does not decode into a t, without its value.
func mismatch(raw json.RawMessage, t reflect.Type) string {
	got, want := kindOf(raw), ""
	switch kind := t.Kind(); kind {
	case reflect.String:
		want = kindString
	case reflect.Bool:
		want = kindBool
	case reflect.Slice, reflect.Array:
		want = kindArray
	case reflect.Struct, reflect.Map:
		want = kindObject
	default:
		if reflect.Int <= kind && kind <= reflect.Float64 {
			want = kindNumber
		}
	}
	switch {
	case t == reflect.TypeFor[time.Time]():
		return "got " + got + ", want a date"
	case readsText(t) && got != kindString:
		return "got " + got + ", want string"
	case got == want, want == "":
		return "got " + got + " that does not fit " + t.String()
	}
	return "got " + got + ", want " + want
}

// Mismatch returns the error of an UnmarshalJSON method that got raw and wants
// another kind of value.
func Mismatch(raw []byte, want reflect.Type) error {
	return &json.UnmarshalTypeError{Value: kindOf(raw), Type: want}
}
