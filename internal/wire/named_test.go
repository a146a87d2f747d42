package wire

import (
	"encoding/json"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestNamed(t *testing.T) {
	t.Parallel()
	for answer, want := range map[string]map[string]string{
		`null`:                             {},
		`"a"`:                              {},
		`{"acknowledged":2,"state":"ok"}`:  {},
		`["a",7,true,null,{}]`:             {"a": "", "7": ""},
		`{"results":["a"],"failed":["b"]}`: {"a": ""},
		`{"id":"a","state":"consumed"}`:    {"a": "consumed"},
		`{"data":{"data":[{"id":12345678901,"state":"available"},{"id":"b","state":3}]}}`: {
			"12345678901": "available", "b": "",
		},
		`{"errors":[{"id":"a"}],"error":["b"],"results":[["c"]]}`: {"c": ""},
	} {
		var value any
		require.NoError(t, json.Unmarshal([]byte(answer), &value))
		assert.Equal(t, want, Named(value), answer)
	}
}
