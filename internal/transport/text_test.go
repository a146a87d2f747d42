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
		{"plain", "as it is", "as it is"},
		{"empty", "", ""},
		{"accents", "Müller 日本", "Müller 日本"},
		{"a forged line", "bad\nERROR forged", "bad ERROR forged"},
		{"every line break", "a\r\nb\vc\fd\u0085e\u2028f\u2029g", "a b c d e f g"},
		{"an escape sequence", "a\x1b[31mred", "a [31mred"},
		{"C1 controls", "a\u009b31mred", "a 31mred"},
		{"a backspace and a bell", "a\b\ab", "a b"},
		{"nul and delete", "a\x00b\x7fc", "a b c"},
		{"text direction", "a\u202eb\u2066c", "a b c"},
		{"zero width", "a\u200bb\ufeffc", "a b c"},
		{"blanks around and between", "\n a \t\n b\n", "a b"},
		{"not UTF-8", "a\xffb", "a\uFFFDb"},
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
