package wire

import (
	"reflect"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// hidden is a string that reflect sees as a struct.
type hidden struct{ text string }

func secrets() Secrets {
	return Secrets{reflect.TypeFor[hidden](), func(v reflect.Value) string {
		h, _ := reflect.TypeAssert[hidden](v)
		return h.text
	}}
}

func TestEncode(t *testing.T) {
	t.Parallel()
	text, replaced, err := Encode(map[string]string{"a": "<&>"})
	require.NoError(t, err)
	assert.JSONEq(t, `{"a":"<&>"}`, string(text))
	assert.NotContains(t, string(text), `\u`)
	assert.False(t, replaced)
	_, replaced, err = Encode("\xff")
	require.NoError(t, err)
	assert.True(t, replaced)
	_, _, err = Encode(func() {})
	require.Error(t, err)
}

func TestFind(t *testing.T) {
	t.Parallel()
	type params struct {
		Name   *string
		Secret hidden
		List   []any
		Bytes  []byte
		Map    map[string]any
		lower  string
	}
	good, bad := "good", "\xff"
	for want, v := range map[string]any{
		"":            params{Name: &good, Bytes: []byte(bad), lower: bad},
		"Name":        params{Name: &bad},
		"Secret":      &params{Secret: hidden{bad}},
		"List[1]":     params{List: []any{1, bad}},
		`Map["a"]`:    params{Map: map[string]any{"b": bad, "a": bad}},
		`Map["\xff"]`: params{Map: map[string]any{bad: 1}},
		`["a"]["b"]`:  map[string]any{"a": map[string]string{"b": bad}},
	} {
		assert.Equal(t, want, secrets().Find(v, secrets().NotUTF8))
	}
	loop := map[string]any{"a.b[c": []byte(bad), "n": 1}
	loop["self"] = loop
	assert.Empty(t, secrets().Find(loop, secrets().NotUTF8), "it ends")
	assert.Empty(t, secrets().Find(nil, secrets().NotUTF8))
}
