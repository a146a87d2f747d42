package wire

import (
	"encoding/json"
	"math"
	"strconv"
	"strings"
	"time"
)

// Text returns a JSON string's value, or a number or a boolean as it is spelled.
// It returns "" for any other value.
func Text(raw json.RawMessage) string {
	var s string
	switch {
	case len(raw) == 0 || raw[0] == '{' || raw[0] == '[' || string(raw) == "null":
	case json.Unmarshal(raw, &s) != nil:
		s = string(raw)
	}
	return strings.TrimSpace(s)
}

// Code returns the code of an error in any shape: a string, an object with a
// "code", an "error" or a "type", or an array with such an item. It returns "" where
// there is no error: null, false, 0, and what is empty. Any other value is an error
// without a code, and is returned as it is spelled.
func Code(raw json.RawMessage) string {
	var (
		fields map[string]json.RawMessage
		items  []json.RawMessage
	)
	switch kindOf(raw) {
	case kindObject:
		_ = json.Unmarshal(raw, &fields)
		items = []json.RawMessage{fields["code"], fields["error"], fields["type"]}
	case kindArray:
		_ = json.Unmarshal(raw, &items)
	default:
		if text := Text(raw); kindOf(raw) == kindString || text != "false" && text != "0" {
			return text
		}
		return ""
	}
	for _, item := range items {
		if code := Code(item); code != "" {
			return code
		}
	}
	if len(fields) > 0 {
		return string(raw)
	}
	return ""
}

// Count returns a whole number that is not negative, also from a string. It
// returns 0 for any other value.
func Count(raw json.RawMessage) int {
	n, err := strconv.ParseFloat(Text(raw), 64)
	if err != nil || !(n >= 0 && n < math.MaxInt32) {
		return 0
	}
	return int(n)
}

// maxUnix is the largest number that is read as the seconds of a date.
const maxUnix = 1e11

// Time returns a date in any spelling that Decode reads, or in seconds since
// 1970. It returns the zero time for any other value.
func Time(raw json.RawMessage) (t time.Time) {
	text := Text(raw)
	if seconds, err := strconv.ParseFloat(text, 64); err == nil && seconds > 0 && seconds < maxUnix {
		return time.UnixMilli(int64(seconds * 1e3)).UTC() //nolint:mnd // milliseconds
	}
	if _, err := Decode(raw, &t); err != nil {
		return time.Time{}
	}
	return t
}
