package transport

import (
	"net/url"
	"slices"
	"testing"

	"github.com/stretchr/testify/assert"
)

func TestNamedSecrets(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name  string
		body  string
		query url.Values
		want  []string
	}{
		{name: "nothing"},
		{name: "no JSON", body: `{"password":"hunter2"`},
		{name: "no secret", body: `{"name":"jane","n":5,"encoded":"x","postcode":"AB1","ok":true}`},
		{
			name: "a password", body: `{"source":{"user":"jane"},"Password":"hunter2"}`,
			want: []string{"hunter2"},
		},
		{
			name: "names", body: `[{"apiKey":"a"},{"private_key":"b"},{"Client-Secret":"c"},{"pin":"d"}]`,
			want: []string{"a", "b", "c", "d"},
		},
		{name: "a code as a number", body: `{"code":482913}`, want: []string{"482913"}},
		{
			name: "below a name", body: `{"credentials":{"id":"a","more":["b",{"c":null}]}}`,
			want: []string{"a", "b"},
		},
		{
			name: "a query", query: url.Values{"access_token": {"a", "b"}, "state": {"c"}},
			want: []string{"a", "b"},
		},
	} {
		got := NamedSecrets([]byte(tt.body), tt.query)
		slices.Sort(got)
		assert.Equal(t, tt.want, got, tt.name)
	}
}
