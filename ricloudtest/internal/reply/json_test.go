package reply

import (
	"encoding/json"
	"testing"

	"github.com/stretchr/testify/assert"
)

// The fast encoder produces the same output as the plain one.
func FuzzAppendJSON(f *testing.F) {
	f.Add("plain", int64(-7), true)
	f.Add("日本 \"quoted\" <&> \x00\xff\u2028", int64(1<<62), false)
	f.Fuzz(func(t *testing.T, text string, n int64, yes bool) {
		v := Object{
			text: text, "n": n, "yes": yes, "nil": nil, "int": int(n), "float": 1.5,
			"raw":     json.RawMessage(`{"a":1}`),
			"strings": []string{text, ""}, "none": []string{}, "objects": []Object{{"x": text}, nil},
			"map": Object(nil),
		}
		assert.JSONEq(t, string(Encode(v)), string(AppendJSON(nil, v)))
	})
}
