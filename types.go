package ricloud

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"math"
	"reflect"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/reincubate/ricloud-go/internal/wire"
)

// ID identifies a resource. The API writes ids as strings or as numbers, or
// puts the whole resource where its id is meant; all three read as the same
// ID. It is always sent as a string, and the empty ID as null, which clears a
// reference in an update.
type ID string

// UnmarshalJSON reads a string, a number, an object with an "id", or null.
func (id *ID) UnmarshalJSON(b []byte) error {
	switch c := b[0]; {
	case c == '"' && bytes.IndexByte(b, '\\') < 0 && utf8.Valid(b): // nearly always, and much cheaper
		*id = ID(b[1 : len(b)-1])
	case c == '"':
		return json.Unmarshal(b, (*string)(id))
	case c == '{':
		var ref struct {
			ID ID `json:"id"`
		}
		err := json.Unmarshal(b, &ref)
		*id = ref.ID
		return err
	case c == 'n':
		*id = ""
	case c == '-' || '0' <= c && c <= '9':
		*id = ID(b)
	default:
		return wire.Mismatch(b, reflect.TypeFor[ID]())
	}
	return nil
}

// MarshalJSON writes a string, or null for the empty ID.
func (id ID) MarshalJSON() ([]byte, error) {
	if id == "" {
		return []byte("null"), nil
	}
	return json.Marshal(string(id))
}

// Secret is a string that must not be seen: a token, a password, a code, a
// signed URL. It prints as [redacted] through fmt, slog and JSON whatever the
// verb, and as nothing when empty; string(s) is its value. Only the body of a
// request carries it.
//
// Keep it in exported fields: fmt asks nothing in an unexported field how it
// wants to be printed, and prints the value.
type Secret string

const redacted = "[redacted]"

// String returns "[redacted]", or "" for an empty Secret.
func (s Secret) String() string {
	if s == "" {
		return ""
	}
	return redacted
}

// Format prints String for every verb, %#v and %x included.
func (s Secret) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, s.String()) }

// LogValue returns String, for slog.
func (s Secret) LogValue() slog.Value { return slog.StringValue(s.String()) }

// MarshalText returns String, for JSON and what else asks for text.
func (s Secret) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// Raw is what the API sent, as it came. It may hold secrets, so it prints as a
// Secret does; string(raw) and []byte(raw) are its content.
type Raw []byte

// UnmarshalJSON keeps what comes. A JSON string that holds an object, an older
// encoding, is kept as the object.
func (d *Raw) UnmarshalJSON(b []byte) error {
	*d = nil
	if b[0] == '"' {
		if inner := []byte(strings.TrimSpace(wire.Unquote(b))); len(inner) > 0 && inner[0] == '{' && json.Valid(inner) {
			b = inner
		}
	}
	if string(b) != "null" {
		*d = append(*d, b...)
	}
	return nil
}

// MarshalJSON writes "[redacted]", or null for no data.
func (d Raw) MarshalJSON() ([]byte, error) {
	if len(d) == 0 {
		return []byte("null"), nil
	}
	return json.Marshal(redacted)
}

// String returns "[redacted]", or "" for no data.
func (d Raw) String() string { return Secret(d).String() }

// Format prints String for every verb, %#v and %x included.
func (d Raw) Format(f fmt.State, verb rune) { Secret(d).Format(f, verb) }

// LogValue returns String, for slog.
func (d Raw) LogValue() slog.Value { return Secret(d).LogValue() }

// format prints a resource without its own Format method. Types that hold a
// Secret have one because fmt, given a verb that does not fit, prints what a
// pointer inside a slice or a struct points to without asking anything in it.
func format(f fmt.State, verb rune, plain any) {
	_, _ = fmt.Fprintf(f, fmt.FormatString(f, verb), plain)
}

// Duration is a time.Duration that the API writes as a number of seconds.
type Duration time.Duration

// String formats d as time.Duration does.
func (d Duration) String() string { return time.Duration(d).String() }

// UnmarshalJSON reads a number of seconds, which may have a fraction, or null.
func (d *Duration) UnmarshalJSON(b []byte) error {
	var seconds float64
	if err := json.Unmarshal(b, &seconds); err != nil {
		return err
	}
	if math.Abs(seconds) > math.MaxInt64/float64(time.Second) {
		return wire.Mismatch(b, reflect.TypeFor[Duration]())
	}
	*d = Duration(seconds * float64(time.Second))
	return nil
}

// MarshalJSON writes a number of seconds.
func (d Duration) MarshalJSON() ([]byte, error) {
	return json.Marshal(time.Duration(d).Seconds())
}

// readRef reads a resource where the API may have put its id alone.
func readRef(b []byte, id *ID, object any) error {
	if len(b) > 0 && b[0] == '{' {
		return json.Unmarshal(b, object)
	}
	return json.Unmarshal(b, id)
}
