package wire

import (
	"bytes"
	"encoding/json"
)

// ID returns the "id" of a JSON object, a string or a number, and reads no more
// of the object than it must. It returns "" if there is none.
func ID(raw []byte) string {
	d := json.NewDecoder(bytes.NewReader(raw))
	if token, err := d.Token(); err != nil || token != json.Delim('{') {
		return ""
	}
	for d.More() {
		name, err := d.Token()
		if err != nil {
			return ""
		}
		var value json.RawMessage
		if d.Decode(&value) != nil {
			return ""
		}
		if name == "id" {
			return scalar(value)
		}
	}
	return ""
}

// scalar returns a string's value, a number's text, or the "id" of an object,
// and "" for anything else.
func scalar(raw []byte) string {
	switch kindOf(raw) {
	case kindString:
		return Unquote(raw)
	case kindNumber:
		return string(raw)
	case kindObject:
		return ID(raw)
	}
	return ""
}
