package transport

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strings"
	"unicode/utf16"
	"unicode/utf8"
)

const redacted = "[redacted]"

// mask replaces the call's secrets in text that came from outside: an API that
// repeats a rejected password must not put it into an error.
func (c *call) mask(text []byte) []byte {
	for _, secret := range slices.Concat(c.req.Secrets, []string{c.credentials()}) {
		for _, form := range forms(secret) {
			text = bytes.ReplaceAll(text, []byte(form), []byte(redacted))
		}
	}
	return text
}

// credentials is what follows the scheme in the Authorization header.
func (c *call) credentials() string {
	value := c.header.Get("Authorization")
	return value[strings.LastIndexByte(value, ' ')+1:]
}

// maxNesting is how deep in JSON a secret is looked for: a server may quote a
// body that quotes a body.
const maxNesting = 3

// minSecret is how short a secret may be: what is shorter stands in too much
// that is none.
const minSecret = 4

// forms lists how a secret may be written: bare, in a URL, and in JSON, itself
// in JSON, with more or less of it escaped.
func forms(secret string) []string {
	if len(secret) < minSecret {
		return nil
	}
	all, level := []string{url.QueryEscape(secret), url.PathEscape(secret)}, []string{secret}
	for range maxNesting {
		all = append(all, level...)
		var next []string
		for _, form := range level {
			next = append(next, jsonForms(form)...)
		}
		slices.Sort(next)
		level = slices.Compact(next)
	}
	return append(all, level...)
}

// jsonForms lists how s may be written in a JSON string.
func jsonForms(s string) []string {
	quoted, _ := json.Marshal(s) //nolint:errchkjson // a string always encodes
	escaped := string(quoted[1 : len(quoted)-1])
	plain := strings.NewReplacer(`\u003c`, "<", `\u003e`, ">", `\u0026`, "&").Replace(escaped)
	return []string{escaped, plain, ascii(plain), strings.ReplaceAll(plain, "/", `\/`)}
}

// ascii escapes what is not ASCII, like many JSON writers do.
func ascii(text string) string {
	var out []byte
	for _, r := range text {
		if r < utf8.RuneSelf {
			out = utf8.AppendRune(out, r)
			continue
		}
		for _, unit := range utf16.AppendRune(nil, r) {
			out = fmt.Appendf(out, `\u%04x`, unit)
		}
	}
	return string(out)
}

// clean returns err without the URLs that net/http puts into its errors, and
// without a secret the server put into its answer.
func (c *call) clean(err error) error {
	for {
		wrapped, ok := errors.AsType[*url.Error](err)
		if !ok {
			break
		}
		err = wrapped.Err
	}
	if err == nil {
		return nil
	}
	text := err.Error()
	if masked := string(c.mask([]byte(text))); masked != text {
		return errors.New(masked) // what it wraps has the secret in it too
	}
	return err
}
