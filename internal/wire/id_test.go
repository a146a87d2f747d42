package wire

import (
	"testing"

	"github.com/stretchr/testify/assert"
)

func TestID(t *testing.T) {
	t.Parallel()
	for raw, want := range map[string]string{
		`{"id":"a"}`: "a", ` { "id" : 12 , "x":1}`: "12", `{"id":{"id":"b"}}`: "b", `{}`: "",
		`{"x":{"id":"no"},"y":["id","]}"],"id":"c"}`: "c", `{"x":"\\\"","id":"d"}`: "d",
		`{"\u0069d":"e\u0041"}`: "eA", `{"id":null}`: "", `{"id":[1]}`: "", `{"id":true}`: "",
		`[{"id":"f"}]`: "", `"id"`: "", `{"ID":"g"}`: "", `{"id":"é"}`: "é", "": "", "{": "",
		`{"a":{"id":"x"},"id":"b"}`: "b", `{"id":"a","b`: "a", `{"a":`: "", `7`: "", `[]`: "",
		`{"id`: "", `{"id"`: "", `{"id":`: "", `{"x" "id":1}`: "", `{1:2,"id":3}`: "",
		`{"x":-1.5e3,"n":false,"id":"h"}`: "h", `{"x":[],"o":{},"id":7}`: "7",
	} {
		assert.Equal(t, want, ID([]byte(raw)), raw)
	}
}
