package ricloud

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"time"
)

// decode reads an answer into v. What encoding/json refuses is looked at again
// value by value: a time in a looser spelling is mended, and what really does
// not fit is named by its path.
func decode(operation string, body []byte, v any) error {
	if nesting(body) > maxNesting {
		err := fmt.Errorf("nested deeper than %d", maxNesting)
		return &DecodeError{Operation: operation, Snapshot: snapshot(body), Err: err}
	}
	err := unmarshal(body, v)
	if err == nil {
		return nil
	}
	if _, ok := errors.AsType[*json.SyntaxError](err); ok {
		return &DecodeError{Operation: operation, Snapshot: snapshot(body), Err: err}
	}
	target := reflect.ValueOf(v).Elem()
	mended, bad := mend(body, target.Type(), "")
	if bad != nil {
		return &DecodeError{Operation: operation, Path: bad.path, Snapshot: snapshot(bad.raw), Err: bad.err}
	}
	target.SetZero()
	return unmarshal(mended, v)
}

// unmarshal is json.Unmarshal, which scans a value twice more before a type
// that reads itself does.
func unmarshal(body []byte, v any) error {
	if u, ok := v.(json.Unmarshaler); ok {
		if body = bytes.TrimLeft(body, " \t\r\n"); len(body) > 0 {
			return u.UnmarshalJSON(body)
		}
	}
	return json.Unmarshal(body, v)
}

// maxNesting is far deeper than any answer. Types that read themselves cost
// time by the square of it.
const maxNesting = 64

// nesting returns how deep arrays and objects stand in each other.
func nesting(body []byte) (deepest int) {
	depth, quoted := 0, false
	for i := 0; i < len(body); i++ {
		switch body[i] {
		case '"':
			quoted = !quoted
		case '\\':
			i++
		case '[', '{':
			if !quoted {
				depth++
				deepest = max(deepest, depth)
			}
		case ']', '}':
			if !quoted {
				depth--
			}
		}
	}
	return deepest
}

// misfit is a value that does not fit its place.
type misfit struct {
	path string
	raw  []byte
	err  error
}

// mend returns raw with its times made to fit t, or the first misfit.
func mend(raw json.RawMessage, t reflect.Type, path string) (json.RawMessage, *misfit) {
	for t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	err := json.Unmarshal(raw, reflect.New(t).Interface())
	if err == nil {
		return raw, nil
	}
	raw = bytes.TrimSpace(raw)
	mended, bad := raw, (*misfit)(nil)
	switch {
	case t == reflect.TypeFor[time.Time]():
		mended = mendTime(raw)
	case t == reflect.TypeFor[Secret](), t == reflect.TypeFor[SignedURL]():
		raw = []byte(redacted)
	case raw[0] == '[':
		mended, bad = mendItems(raw, itemType(t), path)
	case raw[0] == '{':
		mended, bad = mendFields(raw, t, path)
	}
	if bad == nil && json.Unmarshal(mended, reflect.New(t).Interface()) != nil {
		bad = &misfit{strings.TrimPrefix(path, "."), raw, err}
	}
	return mended, bad
}

func mendItems(raw json.RawMessage, t reflect.Type, path string) (json.RawMessage, *misfit) {
	if t == nil {
		return raw, nil
	}
	var items []json.RawMessage
	if err := json.Unmarshal(raw, &items); err != nil {
		return raw, nil
	}
	for i := range items {
		var bad *misfit
		if items[i], bad = mend(items[i], t, fmt.Sprintf("%s[%d]", path, i)); bad != nil {
			return nil, bad
		}
	}
	return rejoin(items, raw)
}

func mendFields(raw json.RawMessage, t reflect.Type, path string) (json.RawMessage, *misfit) {
	var fields map[string]json.RawMessage
	if err := json.Unmarshal(raw, &fields); err != nil {
		return raw, nil
	}
	names := make([]string, 0, len(fields))
	for name := range fields {
		names = append(names, name)
	}
	slices.Sort(names)
	for _, name := range names {
		ft := fieldType(t, name)
		if ft == nil {
			continue
		}
		var bad *misfit
		if fields[name], bad = mend(fields[name], ft, path+"."+name); bad != nil {
			return nil, bad
		}
	}
	return rejoin(fields, raw)
}

func rejoin(parts any, raw json.RawMessage) (json.RawMessage, *misfit) {
	joined, err := json.Marshal(parts)
	if err != nil {
		return raw, nil
	}
	return joined, nil
}

// itemType is the type of an array's items in a t: a slice, or a List.
func itemType(t reflect.Type) reflect.Type {
	if data := fieldType(t, "data"); data != nil {
		t = data
	}
	if t.Kind() == reflect.Slice {
		return t.Elem()
	}
	return nil
}

func fieldType(t reflect.Type, name string) reflect.Type {
	switch t.Kind() {
	case reflect.Map:
		return t.Elem()
	case reflect.Struct:
		for f := range t.Fields() {
			if tag, _, _ := strings.Cut(f.Tag.Get("json"), ","); tag == name {
				return f.Type
			}
		}
	}
	return nil
}

// mendTime returns a time without a zone as UTC, and an empty one as null.
func mendTime(raw json.RawMessage) json.RawMessage {
	s := strings.Trim(string(raw), `"`)
	if s == "" {
		return json.RawMessage("null")
	}
	for _, layout := range []string{"2006-01-02T15:04:05", time.DateTime, time.DateOnly, "2006-01-02 15:04:05Z07:00"} {
		if t, err := time.Parse(layout, s); err == nil {
			return json.RawMessage(t.UTC().Format(`"` + time.RFC3339Nano + `"`))
		}
	}
	return raw
}

const maxSnapshot = 512

// snapshot returns the beginning of what did not fit, up to the first key that
// may hold a secret.
func snapshot(raw []byte) string {
	head := bytes.ReplaceAll(raw[:min(len(raw), maxSnapshot)], []byte(`\`), nil) // JSON within a string has keys, too
	end := len(head)
	for _, key := range []string{`"token"`, `"secret"`, `"password"`, `"code"`, `"credentials"`, `"signed_url"`, `"signed_urls"`, `"url"`} {
		if i := bytes.Index(head[:end], []byte(key)); i >= 0 {
			end = i + len(key)
		}
	}
	if end < len(head) {
		return bounded(head[:end]) + ":" + redacted
	}
	return bounded(raw)
}

// bounded returns the beginning of text.
func bounded(text []byte) string {
	s := strings.ToValidUTF8(string(text[:min(len(text), maxSnapshot)]), "\uFFFD")
	if len(text) > maxSnapshot {
		return s + "…"
	}
	return s
}
