package transport

import (
	"errors"
	"strings"

	"github.com/reincubate/ricloud-go/internal/download"
)

// maxErrorText bounds the text of an error that came from outside.
const maxErrorText = 400

// clean returns err as it is safe to print: without a URL's query, which may
// be signed, without a secret that the server put into its answer, on one line
// and short.
func (c *call) clean(err error) error {
	return Clean(err, func(text string) string { return string(c.mask([]byte(text))) })
}

// Clean returns err without any URL's query, on one line and short. mask, which
// may be nil, replaces what else must not be shown. errors.Is and errors.As
// still reach what err wraps, unless its text had to be changed to hide
// something.
func Clean(err error, mask func(string) string) error {
	if err == nil {
		return nil
	}
	err = download.WithoutURLError(err)
	text := err.Error()
	hidden := text
	if mask != nil { // first: what cuts queries would cut a secret with a "?" in two
		hidden = mask(hidden)
	}
	hidden = WithoutQueries(hidden)
	safe := OneLine(hidden, maxErrorText)
	switch {
	case hidden != text:
		return errors.New(safe) // what it wraps has the secret in it, too
	case safe != text:
		return &cleaned{safe, err}
	}
	return err
}

// cleaned is an error with another text.
type cleaned struct {
	text string
	err  error
}

// Error returns the safe text.
func (c *cleaned) Error() string { return c.text }

// Unwrap returns the error as it was.
func (c *cleaned) Unwrap() error { return c.err }

// WithoutQueries replaces the user, the query and the fragment of every URL in
// text. A transport may have put them into an error that is not a *url.Error, and
// the API into its answer.
func WithoutQueries(text string) string {
	if !strings.Contains(text, "?") && !strings.Contains(text, "://") {
		return text
	}
	var out strings.Builder
	for text != "" {
		end := strings.IndexAny(text, " \t\r\n\"'`<>")
		if end < 0 {
			end = len(text)
		}
		word := strings.TrimRight(text[:end], `\`) // these escape the quotation mark
		out.WriteString(withoutQuery(word) + text[len(word):end])
		if end < len(text) {
			out.WriteByte(text[end])
			end++
		}
		text = text[end:]
	}
	return out.String()
}

func withoutQuery(word string) string {
	scheme, rest, isURL := strings.Cut(word, "://")
	if !isURL {
		path, query, found := strings.Cut(word, "?")
		if !found || !strings.Contains(query, "=") {
			return word
		}
		return path + "?" + redacted
	}
	if i := strings.IndexAny(rest, "?#"); i >= 0 {
		rest = rest[:i+1] + redacted
	}
	host, _, _ := strings.Cut(rest, "/")
	if i := strings.LastIndexByte(host, '@'); i >= 0 {
		rest = redacted + rest[i:]
	}
	return scheme + "://" + rest
}
