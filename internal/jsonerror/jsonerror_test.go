package jsonerror

import (
	"encoding/json"
	"errors"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

type colour string

// JSON implements Describer.
func (colour) JSON() string { return `a colour such as "red"` }

func TestInWords(t *testing.T) {
	t.Parallel()
	type target struct {
		Name   string         `json:"name"`
		Count  int            `json:"count"`
		Seed   uint64         `json:"seed"`
		Rate   *float64       `json:"rate"`
		Locked bool           `json:"locked"`
		List   []string       `json:"list"`
		Info   map[string]any `json:"info"`
		Colour colour         `json:"colour"`
		Inner  struct {
			Name string `json:"name"`
		} `json:"inner"`
	}
	for _, row := range []struct{ body, want string }{
		{body: `{"name": 5}`, want: "name: want a string, got number"},
		{body: `{"count": 1.5}`, want: "count: want a whole number, got number 1.5"},
		{body: `{"seed": -1}`, want: "seed: want a whole number that is not negative, got number -1"},
		{body: `{"rate": "x"}`, want: "rate: want a number, got string"},
		{body: `{"locked": 1}`, want: "locked: want true or false, got number"},
		{body: `{"list": {}}`, want: "list: want an array, got object"},
		{body: `{"info": []}`, want: "info: want an object, got array"},
		{body: `{"colour": []}`, want: `colour: want a colour such as "red", got array`},
		{body: `{"inner": {"name": false}}`, want: "inner.name: want a string, got bool"},
		{body: `[]`, want: "the JSON: want an object, got array"},
		{body: `{"nonsense": 1}`, want: `there is no field "nonsense"`},
		{body: `{`, want: "unexpected EOF"},
	} {
		decoder := json.NewDecoder(strings.NewReader(row.body))
		decoder.DisallowUnknownFields()
		require.EqualError(t, InWords(decoder.Decode(new(target))), row.want, row.body)
	}
	require.NoError(t, InWords(nil))
	other := errors.New("other")
	require.Equal(t, other, InWords(other))
}
