package transport

import (
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
