package wire

import (
	"encoding/json"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// Decode returns a value or an error for any input, and agrees with encoding/json on every value
// that encoding/json accepts.
func FuzzDecode(f *testing.F) {
	for _, seed := range []string{
		`{}`, `[]`, `null`, `{"id":"1","state":"new","count":"3","owner":{"nick":[]},"parts":[{"id":7}]}`,
		`{"data":[{"id":"1"}],"total":"3"}`,
		`{"since":"2018-11-22 13:49:37","limits":{"a":[1.0]},"tags":[[]]}`, `{"id":1e999}`, "\xff",
		`{"parts":{"data":{"data":[]}}}`,
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		for _, pair := range [][2]any{
			{new(thing), new(thing)},
			{new(list), new(list)},
			{new(owner), new(owner)},
		} {
			odd, err := Decode(body, pair[0])
			if json.Unmarshal(body, pair[1]) == nil && depth(body) <= maxDepth {
				require.NoError(t, err)
				assert.Empty(t, odd)
				assert.Equal(t, pair[1], pair[0])
			}
			if err != nil {
				assert.Empty(t, odd)
			}
		}
		_ = ID(body)
		_ = Pattern(string(body))
	})
}
