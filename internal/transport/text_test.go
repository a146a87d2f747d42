package transport

import (
	"encoding/json"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/stretchr/testify/assert"
)

func TestOneLine(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name, text, want string
	}{
		{name: "plain", text: "as it is", want: "as it is"},
		{name: "empty", text: "", want: ""},
		{name: "accents", text: "Müller 日本", want: "Müller 日本"},
		{name: "a forged line", text: "bad\nERROR forged", want: "bad ERROR forged"},
		{
			name: "every line break",
			text: "a\r\nb\vc\fd\u0085e\u2028f\u2029g",
			want: "a b c d e f g",
		},
		{name: "an escape sequence", text: "a\x1b[31mred", want: "a [31mred"},
		{name: "C1 controls", text: "a\u009b31mred", want: "a 31mred"},
		{name: "a backspace and a bell", text: "a\b\ab", want: "a b"},
		{name: "nul and delete", text: "a\x00b\x7fc", want: "a b c"},
		{name: "text direction", text: "a\u202eb\u2066c", want: "a b c"},
		{name: "zero width", text: "a\u200bb\ufeffc", want: "a b c"},
		{name: "blanks around and between", text: "\n a \t\n b\n", want: "a b"},
		{name: "not UTF-8", text: "a\xffb", want: "a\uFFFDb"},
	} {
		assert.Equal(t, tt.want, OneLine(tt.text, 100), tt.name)
	}
}

func TestOneLineIsBounded(t *testing.T) {
	t.Parallel()
	for _, text := range []string{
		strings.Repeat("x", 60<<10), strings.Repeat("日", 60<<10), strings.Repeat("\n", 60<<10),
		strings.Repeat("a ", 60<<10),
	} {
		got := OneLine(text, 50)
		assert.LessOrEqual(t, len(got), 50+len("…"))
		assert.True(t, utf8.ValidString(got))
	}
}

func TestSnapshotEndsWhereASecretMayBegin(t *testing.T) {
	t.Parallel()
	for _, key := range []string{
		"token", "secret", "password", "code", "credentials", "signed_url", "signed_urls", "url",
		"TOKEN", "new_token", "private_key", "Secret-Key",
	} {
		for _, body := range []string{
			`{"a":1,"` + key + `":"12345678",`, `"{\"a\":1,\"` + key + `\":\"12345678\"`,
			`{"a":1,"` + key + `" : "12345678","token":"12345678","url":"12345678"`,
		} {
			got := Snapshot([]byte(body))
			assert.Contains(t, got, `"a":1,"`+key+`"`)
			assert.Contains(t, got, redacted)
			assert.NotContains(t, got, "12345678")
		}
	}
	for _, body := range []string{
		`{"\u0074oken":"12345678"}`, `{'token':'12345678'}`, `token=12345678&id=1`,
		`<token>12345678</token>`, `Authorization: Token 12345678`,
		`{"message":"https://b.example.com/k?X-Amz-Signature=12345678"}`,
		`{"message":"see https:\/\/x\/?sig=12345678"}`, `http://joe:12345678@h/`,
	} {
		got := Snapshot([]byte(body))
		assert.Contains(t, got, redacted)
		assert.NotContains(t, got, "12345678")
	}
	text := strings.Repeat("x", MaxSnapshot)
	assert.Equal(t, text, Snapshot([]byte(text)))
	assert.Equal(t, text+"…", Snapshot([]byte(text+"y")))
}

// JSON in which a query was masked is still JSON.
func TestWithoutQueriesKeepsJSONValid(t *testing.T) {
	t.Parallel()
	for _, body := range []string{
		`{"message":"cannot write \"https://b/k?sig=12345678\""}`,
		`{"params":{"a":["https:\/\/b\/?s=12345678"]}}`,
		`{"a":"https://b/k?s=12345678\\","b":"http://joe:12345678@h/#12345678"}`,
	} {
		got := WithoutQueries(body)
		assert.True(t, json.Valid([]byte(got)), got)
		assert.NotContains(t, got, "12345678")
	}
}
