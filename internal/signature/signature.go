// Package signature parses and compares the signatures of webhook deliveries.
// It works on bytes and knows neither HTTP nor events.
package signature

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"strconv"
	"strings"
	"time"
)

// Signature is a parsed header:
//
//	t=<unix seconds>,s=<base64 of HMAC-SHA256(secret, "<t>.<body>")>
type Signature struct {
	timestamp string // as it was sent: the signature covers its spelling
	digest    string // base64
	seconds   int64
}

// Parse reads a header. The fields may come in any order, with blanks around
// them, and unknown fields are ignored. It reports false when a field is
// missing, repeated or cannot be a timestamp or a digest.
func Parse(header string) (Signature, bool) {
	var s Signature
	for field := range strings.SplitSeq(header, ",") {
		name, value, _ := strings.Cut(field, "=")
		var into *string
		switch trim(name) {
		case "t":
			into = &s.timestamp
		case "s":
			into = &s.digest
		default:
			continue
		}
		value = trim(value)
		if value == "" || *into != "" {
			return Signature{}, false
		}
		*into = value
	}
	seconds, err := strconv.ParseUint(s.timestamp, 10, 62)
	if err != nil || len(s.digest) != base64.StdEncoding.EncodedLen(sha256.Size) {
		return Signature{}, false
	}
	s.seconds = int64(seconds)
	return s, true
}

func trim(s string) string { return strings.Trim(s, " \t") }

// Age returns how long before now the signature was made, in whole seconds. It
// is negative for a signature that is dated in the future.
func (s Signature) Age(now time.Time) time.Duration {
	const longest = int64(1<<63-1) / int64(time.Second)
	age := now.Unix() - s.seconds
	return time.Duration(max(-longest, min(age, longest))) * time.Second
}

// Matches reports, in constant time, whether one of the secrets signed body.
// It compares the encoded digests, because base64 has several spellings that
// decode to the same bytes.
func (s Signature) Matches(body []byte, secrets ...string) bool {
	const digits = (sha256.Size + 2) / 3 * 4 // of base64
	var given, want [digits]byte
	var digest [sha256.Size]byte
	copy(given[:], s.digest) // Parse checked its length
	prefix := append([]byte(s.timestamp), '.')
	found := false
	for _, secret := range secrets {
		mac := hmac.New(sha256.New, []byte(secret))
		mac.Write(prefix)
		mac.Write(body)
		base64.StdEncoding.Encode(want[:], mac.Sum(digest[:0]))
		found = hmac.Equal(want[:], given[:]) || found
	}
	return found
}
