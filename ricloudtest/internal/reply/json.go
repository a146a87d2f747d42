package reply

import (
	"bytes"
	"encoding/json"
	"slices"
	"strconv"
)

// Object is a JSON object on its way out.
type Object = map[string]any

// Encode returns v as JSON with "&" and "<" unescaped. A value that JSON cannot express becomes
// null.
func Encode(v any) []byte {
	var out bytes.Buffer
	encoder := json.NewEncoder(&out)
	encoder.SetEscapeHTML(false)
	if err := encoder.Encode(v); err != nil {
		return []byte("null")
	}
	return bytes.TrimSuffix(out.Bytes(), []byte("\n"))
}

// AppendJSON is Encode without reflection for the types that answers consist of. Clients mostly ask
// for long lists, and BenchmarkServer shows the difference.
func AppendJSON(b []byte, v any) []byte {
	switch v := v.(type) {
	case nil:
		return append(b, "null"...)
	case string:
		return appendString(b, v)
	case bool:
		return strconv.AppendBool(b, v)
	case int:
		return strconv.AppendInt(b, int64(v), 10)
	case int64:
		return strconv.AppendInt(b, v, 10)
	case []string:
		return appendArray(b, v, appendString)
	case []Object:
		return appendArray(b, v, appendObject)
	case Object:
		return appendObject(b, v)
	}
	return append(b, Encode(v)...)
}

func appendString(b []byte, s string) []byte {
	for i := range len(s) {
		if c := s[i]; c < ' ' || c > '~' || c == '"' || c == '\\' {
			return append(b, Encode(s)...)
		}
	}
	b = append(b, '"')
	b = append(b, s...)
	return append(b, '"')
}

func appendArray[T any](b []byte, items []T, item func([]byte, T) []byte) []byte {
	b = append(b, '[')
	for i, one := range items {
		if i > 0 {
			b = append(b, ',')
		}
		b = item(b, one)
	}
	return append(b, ']')
}

func appendObject(b []byte, o Object) []byte {
	if o == nil {
		return append(b, "null"...)
	}
	keys := make([]string, 0, 32)
	for key := range o {
		keys = append(keys, key)
	}
	slices.Sort(keys)
	b = append(b, '{')
	for i, key := range keys {
		if i > 0 {
			b = append(b, ',')
		}
		b = append(appendString(b, key), ':')
		b = AppendJSON(b, o[key])
	}
	return append(b, '}')
}
