package ricloud

import (
	"bytes"
	"encoding/json"
	"errors"
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

// ID identifies a resource. The API sends it as a string, as a number or as the
// whole resource, and all three are read as the same ID. It is always sent as a
// string. In an update, the empty ID is sent as null and clears a reference.
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

// Secret holds a string that must not be seen: a token, a password, a code, a
// signed URL. NewSecret makes one, and Reveal returns its value. Secrets can be
// compared with ==, and the zero value is the empty Secret.
//
// A Secret prints as [redacted], or as nothing if it is empty: with every verb
// of fmt, in slog and templates, and in anything else that inspects values,
// such as the differences that a test prints. Encoders (encoding/json, xml, gob
// and others) fail on a Secret that is not empty, because [redacted] could
// later be mistaken for the secret. To store a Secret, store what Reveal
// returns.
type Secret struct{ masked string }

const redacted = "[redacted]"

// NewSecret returns a Secret with the given value.
func NewSecret(value string) Secret { return Secret{string(mask(value))} }

// Reveal returns the value.
func (s Secret) Reveal() string { return string(mask(s.masked)) }

// IsZero reports whether the Secret is empty.
func (s Secret) IsZero() bool { return s.masked == "" }

// mask hides a value from code that prints memory without calling its String
// method. Masking twice restores the value. It is no encryption.
func mask(value string) []byte {
	b := []byte(value)
	for i := range b {
		b[i] ^= 0xa5
	}
	return b
}

// String returns "[redacted]", or "" for an empty Secret.
func (s Secret) String() string {
	if s.IsZero() {
		return ""
	}
	return redacted
}

// Format prints String for every verb.
func (s Secret) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, s.String()) }

// LogValue returns String, for slog.
func (s Secret) LogValue() slog.Value { return slog.StringValue(s.String()) }

// MarshalText returns an error unless the Secret is empty.
func (s Secret) MarshalText() ([]byte, error) {
	if s.IsZero() {
		return []byte{}, nil
	}
	return nil, errors.New("ricloud: a Secret is never encoded: to store its value, encode the " +
		"string that Reveal returns")
}

// MarshalBinary returns an error unless the Secret is empty.
func (s Secret) MarshalBinary() ([]byte, error) { return s.MarshalText() }

// UnmarshalText takes text as the value. It refuses the text [redacted], which
// is what a printed Secret leaves behind.
func (s *Secret) UnmarshalText(text []byte) error {
	if err := checkSecret("Secret", NewSecret(string(text))); err != nil {
		return err
	}
	*s = NewSecret(string(text))
	return nil
}

// UnmarshalBinary is UnmarshalText.
func (s *Secret) UnmarshalBinary(data []byte) error { return s.UnmarshalText(data) }

// checkSecret returns a *ParamError if a secret is what a printed Secret shows.
func checkSecret(field string, s Secret) error {
	if strings.TrimSpace(s.Reveal()) == redacted {
		return invalid(field, isRedacted)
	}
	return nil
}

const isRedacted = "is the word " + redacted +
	", which a Secret prints as, and not the secret itself"

// Raw is JSON that the API sent, unchanged. It may hold secrets, so it prints as
// [redacted], and encoders fail on it. string(raw) and []byte(raw) are its
// content.
type Raw []byte

// UnmarshalJSON keeps a copy of any JSON. It unwraps a string that holds an
// object, as older versions of the API send it, and refuses the word
// [redacted].
func (d *Raw) UnmarshalJSON(b []byte) error {
	*d = nil
	if b[0] == '"' {
		inner := strings.TrimSpace(wire.Unquote(b))
		if inner == redacted {
			return checkSecret("Raw", NewSecret(inner))
		}
		if strings.HasPrefix(inner, "{") && json.Valid([]byte(inner)) {
			b = []byte(inner)
		}
	}
	if string(b) != "null" {
		*d = append(*d, b...)
	}
	return nil
}

// MarshalJSON writes null for no data, and returns an error for any other.
func (d Raw) MarshalJSON() ([]byte, error) {
	if len(d) == 0 {
		return []byte("null"), nil
	}
	return nil, errors.New("ricloud: a Raw is never encoded: to store it, convert it to a " +
		"json.RawMessage")
}

// String returns "[redacted]", or "" for no data.
func (d Raw) String() string { return NewSecret(string(d)).String() }

// Format prints String for every verb.
func (d Raw) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, d.String()) }

// LogValue returns String, for slog.
func (d Raw) LogValue() slog.Value { return slog.StringValue(d.String()) }

// seconds is a time.Duration that the API writes as a number of seconds.
type seconds time.Duration

// checkSeconds checks a duration that is sent as seconds. One that is shorter is a number that was
// meant as seconds: 3600 is 3.6 microseconds.
func checkSeconds(field string, d time.Duration) error {
	switch {
	case d < 0:
		return invalid(field, "must not be negative")
	case d > 0 && d < time.Second:
		return invalid(field, fmt.Sprintf("is %v: give a time.Duration, such as time.Hour", d))
	}
	return nil
}

// UnmarshalJSON reads a number of seconds, which may have a fraction, or null.
func (s *seconds) UnmarshalJSON(b []byte) error {
	var n float64
	if err := json.Unmarshal(b, &n); err != nil {
		return err
	}
	if math.Abs(n) > math.MaxInt64/float64(time.Second) {
		return wire.Mismatch(b, reflect.TypeFor[time.Duration]())
	}
	*s = seconds(n * float64(time.Second))
	return nil
}

// MarshalJSON writes a number of seconds.
func (s seconds) MarshalJSON() ([]byte, error) {
	return json.Marshal(time.Duration(s).Seconds())
}

// readRef reads a resource that the API may send as its ID alone.
func readRef(b []byte, id *ID, object any) error {
	if len(b) > 0 && b[0] == '{' {
		return json.Unmarshal(b, object)
	}
	return json.Unmarshal(b, id)
}
