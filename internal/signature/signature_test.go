package signature_test

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/reincubate/ricloud-go/internal/signature"
)

func sign(timestamp, body string) string {
	mac := hmac.New(sha256.New, []byte("secret"))
	mac.Write([]byte(timestamp + "." + body))
	return base64.StdEncoding.EncodeToString(mac.Sum(nil))
}

func TestParse(t *testing.T) {
	t.Parallel()
	digest := sign("1600000000", "{}")
	for name, tt := range map[string]struct {
		header string
		want   bool
	}{
		"as the API writes it":     {"t=1600000000,s=" + digest, true},
		"reversed":                 {"s=" + digest + ",t=1600000000", true},
		"blank after the comma":    {"t=1600000000, s=" + digest, true},
		"blank before the comma":   {"t=1600000000 ,s=" + digest, true},
		"tab after the comma":      {"t=1600000000,\ts=" + digest, true},
		"blanks at the ends":       {"  t=1600000000,s=" + digest + " ", true},
		"blanks around the sign":   {"t = 1600000000, s = " + digest, true},
		"trailing comma":           {"t=1600000000,s=" + digest + ",", true},
		"later version's field":    {"t=1600000000,s=" + digest + ",v2=abc=", true},
		"field without a value":    {"t=1600000000,s=" + digest + ",beta", true},
		"empty":                    {"", false},
		"no digest":                {"t=1600000000", false},
		"no timestamp":             {"s=" + digest, false},
		"empty timestamp":          {"t=,s=" + digest, false},
		"blank timestamp":          {"t= ,s=" + digest, false},
		"two timestamps":           {"t=1600000000,t=1600000000,s=" + digest, false},
		"two digests":              {"t=1600000000,s=" + digest + ",s=" + digest, false},
		"signed timestamp":         {"t=+1600000000,s=" + digest, false},
		"negative timestamp":       {"t=-1600000000,s=" + digest, false},
		"timestamp with blanks in": {"t=16000 00000,s=" + digest, false},
		"timestamp out of range":   {"t=99999999999999999999,s=" + digest, false},
		"fraction":                 {"t=1600000000.5,s=" + digest, false},
		"capital name":             {"T=1600000000,s=" + digest, false},
		"digest without padding":   {"t=1600000000,s=" + strings.TrimSuffix(digest, "="), false},
		"digest too long":          {"t=1600000000,s=" + digest + "=", false},
	} {
		s, ok := signature.Parse(tt.header)
		require.Equal(t, tt.want, ok, name)
		assert.Equal(t, tt.want, s.Matches([]byte("{}"), "secret"), name)
	}
}

func TestMatches(t *testing.T) {
	t.Parallel()
	s, ok := signature.Parse("t=1600000000,s=" + sign("1600000000", "{}"))
	require.True(t, ok)
	assert.True(t, s.Matches([]byte("{}"), "other", "secret"))
	assert.True(t, s.Matches([]byte("{}"), "secret", "other"))
	assert.False(t, s.Matches([]byte("{}"), "other"))
	assert.False(t, s.Matches([]byte("{}")))
	assert.False(t, s.Matches([]byte("{ }"), "secret"))

	// The signature covers the timestamp as it is spelled.
	s, ok = signature.Parse("t=01600000000,s=" + sign("1600000000", "{}"))
	require.True(t, ok)
	assert.False(t, s.Matches([]byte("{}"), "secret"))
}

func TestAge(t *testing.T) {
	t.Parallel()
	digest := sign("0", "")
	for timestamp, want := range map[string]time.Duration{
		"1600000000": 10 * time.Second,
		"1600000010": 0,
		"1600000020": -10 * time.Second,
	} {
		s, ok := signature.Parse("t=" + timestamp + ",s=" + digest)
		require.True(t, ok)
		assert.Equal(t, want, s.Age(time.Unix(1_600_000_010, 0)), timestamp)
	}
	far, ok := signature.Parse("t=4611686018427387903,s=" + digest)
	require.True(t, ok)
	assert.Less(t, far.Age(time.Now()), -100*365*24*time.Hour, "it does not wrap around")
}
