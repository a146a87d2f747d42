package wire

import (
	"bytes"
	"slices"
)

// Cut divides a JSON object into the object that its field name holds and the
// rest, in which null takes its place. It returns body itself and nil if there
// is no such object, or if a field's name might be another spelling of name.
//
// body is valid if both parts are. So an event with large data is checked once,
// where json.Unmarshal goes over the data twice: see BenchmarkWebhook.
func Cut(body []byte, name string) (rest, object []byte) {
	const blanks = " \t\r\n"
	start, end, current := 0, 0, 0
	for i := 0; i < len(body); i++ {
		switch body[i] {
		case '{', '[':
			current++
		case '}', ']':
			if current--; current == 1 && start > end {
				end = i + 1
			}
		case '"':
			text := i + 1
			if i = endOfString(body, text); current != 1 || i == len(body) {
				continue
			}
			key := body[text:i]
			value, isKey := bytes.CutPrefix(bytes.TrimLeft(body[i+1:], blanks), []byte(":"))
			if !isKey {
				continue
			}
			value = bytes.TrimLeft(value, blanks)
			switch {
			case string(key) == name && start == 0 && bytes.HasPrefix(value, []byte("{")):
				start = len(body) - len(value)
			case bytes.EqualFold(key, []byte(name)) || bytes.IndexByte(key, '\\') >= 0:
				return body, nil
			}
		}
	}
	if end == 0 {
		return body, nil
	}
	return slices.Concat(body[:start], []byte("null"), body[end:]), body[start:end:end]
}
