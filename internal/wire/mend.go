package wire

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"reflect"
	"slices"
	"strings"
)

// maxOdd bounds what one document can report.
const maxOdd = 100

// mender rewrites a document that does not decode into its Go type. It converts
// values, or removes them and reports them.
type mender struct{ odd []Oddity }

// mend returns raw in a form that decodes into a t, without the parts that
// cannot be decoded. It returns nil if nothing remains, and an *Error if a
// strict value cannot be decoded.
func (m *mender) mend(
	raw json.RawMessage, t reflect.Type, path string, strict bool,
) (json.RawMessage, error) {
	for t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	if decodes(raw, t) {
		return raw, nil
	}
	raw = bytes.TrimSpace(raw)
	if converted, ok := convert(raw, t, strict); ok {
		return converted, nil
	}
	known, rest := len(m.odd), raw
	var err error
	switch raw[0] {
	case '[':
		rest, err = m.mendItems(raw, t, path, strict)
	case '{':
		rest, err = m.mendFields(raw, t, path, strict)
	}
	if err != nil {
		return nil, err
	}
	if decodes(rest, t) {
		return rest, nil
	}
	path = strings.TrimPrefix(path, ".")
	if strict {
		e := &Error{Path: path, Raw: raw, Err: errors.New(mismatch(raw, t))}
		if hides(t) {
			e.Raw = nil
		}
		return nil, e
	}
	m.odd = m.odd[:known]
	m.report(path, mismatch(raw, t))
	return nil, nil
}

// hides reports whether values of type t redact themselves in logs, as a secret
// does.
func hides(t reflect.Type) bool { return t.Implements(reflect.TypeFor[slog.LogValuer]()) }

func (m *mender) report(path, reason string) {
	if len(m.odd) < maxOdd {
		m.odd = append(m.odd, Oddity{path, reason})
	}
}

// mendItems mends each item of an array. An item that cannot be decoded becomes
// null, so that the others keep their positions.
func (m *mender) mendItems(
	raw json.RawMessage, t reflect.Type, path string, strict bool,
) (json.RawMessage, error) {
	itemType := itemOf(t)
	var items []json.RawMessage
	if itemType == nil || json.Unmarshal(raw, &items) != nil {
		return raw, nil //nolint:nilerr // not an array
	}
	for i, item := range items {
		mended, err := m.mend(item, itemType, fmt.Sprintf("%s[%d]", path, i), strict)
		if err != nil {
			return nil, err
		}
		if mended == nil {
			mended = json.RawMessage("null")
		}
		items[i] = mended
	}
	return join(items, raw), nil
}

// mendFields mends each value of an object, and removes those that cannot be
// decoded.
func (m *mender) mendFields(
	raw json.RawMessage, t reflect.Type, path string, strict bool,
) (json.RawMessage, error) {
	var fields map[string]json.RawMessage
	if json.Unmarshal(raw, &fields) != nil {
		return raw, nil //nolint:nilerr // not an object
	}
	for _, name := range slices.Sorted(maps.Keys(fields)) {
		// Decode the object and not the field alone: a type with an
		// UnmarshalJSON method may accept more values than its fields, and
		// other names.
		if decodes(join(map[string]json.RawMessage{name: fields[name]}, nil), t) {
			continue
		}
		f, ok := fieldOf(t, name)
		if !ok {
			m.report(strings.TrimPrefix(path+"."+name, "."),
				"got "+kindOf(fields[name])+", which does not fit")
			delete(fields, name)
			continue
		}
		mended, err := m.mend(fields[name], f.typ, path+"."+name, strict && f.strict)
		if err != nil {
			return nil, err
		}
		if fields[name] = mended; mended == nil {
			delete(fields, name)
		}
	}
	return join(fields, raw), nil
}

// join writes parts, items or fields, as JSON.
func join(parts any, otherwise json.RawMessage) json.RawMessage {
	joined, err := json.Marshal(parts)
	if err != nil {
		return otherwise
	}
	return joined
}

// decodes reports whether raw decodes into a t.
func decodes(raw json.RawMessage, t reflect.Type) bool {
	return json.Unmarshal(raw, reflect.New(t).Interface()) == nil
}

// itemOf returns the type of the items of an array that a t reads: a slice's, or
// that of the "data" of a struct that reads both a list object and its bare
// array. It returns nil for any other type.
func itemOf(t reflect.Type) reflect.Type {
	if data, ok := fieldOf(t, "data"); ok && t.Kind() == reflect.Struct {
		t = data.typ
	}
	if t.Kind() == reflect.Slice {
		return t.Elem()
	}
	return nil
}

// field is what mender needs to know of the field that a value belongs to.
type field struct {
	typ    reflect.Type
	strict bool // strict if the object is
}

// fieldOf returns the field of a t that the name in an object means, by the
// rules of encoding/json: an exact match comes before one that ignores case.
func fieldOf(t reflect.Type, name string) (field, bool) {
	switch t.Kind() {
	case reflect.Map:
		return field{t.Elem(), true}, true
	case reflect.Struct:
	default:
		return field{}, false
	}
	var found reflect.StructField
	exact, folded, tagged := false, false, false
	for _, f := range reflect.VisibleFields(t) {
		tagged = tagged || isStrict(f)
		switch jsonName := nameOf(f); {
		case exact || jsonName == "":
		case jsonName == name:
			found, exact = f, true
		case !folded && strings.EqualFold(jsonName, name):
			found, folded = f, true
		}
	}
	return field{found.Type, isStrict(found) || !tagged}, exact || folded
}

func isStrict(f reflect.StructField) bool { return f.Tag.Get("wire") == "strict" }

// nameOf returns the name of a field in JSON, or "" for one that JSON does not
// have.
func nameOf(f reflect.StructField) string {
	tag, options, _ := strings.Cut(f.Tag.Get("json"), ",")
	switch {
	case !f.IsExported(), tag == "-" && options == "", f.Anonymous && tag == "":
		return ""
	case tag != "":
		return tag
	}
	return f.Name
}
