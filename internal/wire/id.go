package wire

import (
	"bytes"
	"strings"
)

// ID returns the "id" of a JSON object, a string or a number, and reads no more
// of the object than it must. It returns "" if there is none. It allocates only
// what it returns, because every item of a list page is asked.
func ID(raw []byte) string {
	rest, ok := bytes.CutPrefix(trim(raw), []byte{'{'})
	for ok {
		if rest = trim(rest); len(rest) == 0 || rest[0] != '"' {
			return ""
		}
		name, after := cutValue(rest)
		if rest, ok = bytes.CutPrefix(trim(after), []byte{':'}); !ok {
			return ""
		}
		var value []byte
		if value, rest = cutValue(trim(rest)); Unquote(name) == "id" {
			return scalar(value)
		}
		rest, ok = bytes.CutPrefix(trim(rest), []byte{','})
	}
	return ""
}

func trim(raw []byte) []byte { return bytes.TrimLeft(raw, " \t\r\n") }

// cutValue returns the JSON value that raw begins with, and what follows it.
func cutValue(raw []byte) (value, rest []byte) {
	depth := 0
	for i := 0; i < len(raw); i++ {
		switch raw[i] {
		case '"':
			i = endOfString(raw, i+1)
		case '[', '{':
			depth++
			continue
		case ']', '}':
			depth--
		case ' ', '\t', '\r', '\n', ',', ':':
			continue
		default:
			for i+1 < len(raw) && strings.IndexByte(" \t\r\n,:]}", raw[i+1]) < 0 {
				i++
			}
		}
		if depth <= 0 {
			end := min(i+1, len(raw))
			return raw[:end], raw[end:]
		}
	}
	return raw, nil
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
