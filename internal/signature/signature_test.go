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
		"as the API writes it":   {header: "t=1600000000,s=" + digest, want: true},
		"reversed":               {header: "s=" + digest + ",t=1600000000", want: true},
		"blank after the comma":  {header: "t=1600000000, s=" + digest, want: true},
		"blank before the comma": {header: "t=1600000000 ,s=" + digest, want: true},
		"tab after the comma":    {header: "t=1600000000,\ts=" + digest, want: true},
		"blanks at the ends":     {header: "  t=1600000000,s=" + digest + " ", want: true},
		"blanks around the sign": {header: "t = 1600000000, s = " + digest, want: true},
		"trailing comma":         {header: "t=1600000000,s=" + digest + ",", want: true},
		"later version's field":  {header: "t=1600000000,s=" + digest + ",v2=abc=", want: true},
		"field without a value":  {header: "t=1600000000,s=" + digest + ",beta", want: true},
		"empty":                  {header: "", want: false},
		"no digest":              {header: "t=1600000000", want: false},
		"no timestamp":           {header: "s=" + digest, want: false},
		"empty timestamp":        {header: "t=,s=" + digest, want: false},
		"blank timestamp":        {header: "t= ,s=" + digest, want: false},
		"two timestamps": {
			header: "t=1600000000,t=1600000000,s=" + digest,
			want:   false,
		},
		"two digests": {
			header: "t=1600000000,s=" + digest + ",s=" + digest,
			want:   false,
		},
		"signed timestamp":         {header: "t=+1600000000,s=" + digest, want: false},
		"negative timestamp":       {header: "t=-1600000000,s=" + digest, want: false},
		"timestamp with blanks in": {header: "t=16000 00000,s=" + digest, want: false},
		"timestamp out of range":   {header: "t=99999999999999999999,s=" + digest, want: false},
		"fraction":                 {header: "t=1600000000.5,s=" + digest, want: false},
		"capital name":             {header: "T=1600000000,s=" + digest, want: false},
		"digest without padding": {
			header: "t=1600000000,s=" + strings.TrimSuffix(digest, "="),
			want:   false,
		},
		"digest too long": {header: "t=1600000000,s=" + digest + "=", want: false},
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

	// The signature covers the timestamp as it is written, not its value.
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
