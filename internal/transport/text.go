package transport

import (
	"strings"
	"unicode"
	"unicode/utf8"
)

// OneLine returns text from outside as an error or a log may print it. Line
// breaks and everything else that does not print become single spaces, invalid
// UTF-8 becomes U+FFFD, and what is longer than limit bytes is cut.
func OneLine(text string, limit int) string {
	if printable(text) && len(text) <= limit {
		return text
	}
	var out strings.Builder
	space := false
	for _, r := range text {
		if !unicode.IsPrint(r) || r == ' ' {
			space = out.Len() > 0
			continue
		}
		if out.Len()+utf8.RuneLen(r)+1 > limit {
			out.WriteString("…")
			break
		}
		if space {
			out.WriteByte(' ')
		}
		space = false
		out.WriteRune(r)
	}
	return out.String()
}

// printable reports whether text is plain ASCII, as nearly all of it is.
func printable(text string) bool {
	for i := range len(text) {
		if text[i] < ' ' || text[i] > '~' {
			return false
		}
	}
	return true
}
