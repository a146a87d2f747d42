package transport

import (
	"regexp"
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

// MaxSnapshot is how many bytes of an answer that cannot be used an error quotes.
const MaxSnapshot = 512

// Snapshot returns the beginning of text from outside, up to the first name that
// may have a secret as its value. Queries of URLs are masked.
func Snapshot(text []byte) string {
	head := view{text: text[:min(len(text), MaxSnapshot)]}
	for range 2 { // JSON within a string has names, too
		head = head.decode(`\`, backslash)
	}
	name := regexp.MustCompile(`(?i)(?:\b[\w.-]*(?:token|secret|passw|credential|private_?key|` +
		`signed_?url|signature|authorization)[\w.-]*|["'<](?:code|url))["']?\s*[:=>]`)
	if found := name.FindIndex(head.text); found != nil {
		return Beginning(string(head.text[:found[1]])) + redacted
	}
	return WithoutQueries(Beginning(string(text)))
}

// Beginning returns at most MaxSnapshot bytes of text.
func Beginning(text string) string {
	s := strings.ToValidUTF8(text[:min(len(text), MaxSnapshot)], "\uFFFD")
	if len(text) > MaxSnapshot {
		return s + "…"
	}
	return s
}
