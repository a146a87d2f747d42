package transport

import (
	"encoding/base64"
	"encoding/hex"
	"encoding/xml"
	"errors"
	"fmt"
	"html"
	"net/url"
	"strconv"
	"strings"
	"testing"
	"unicode/utf8"
)

// spellers are the ways in which web frameworks and languages write a text.
func spellers() []func(string) string {
	each := func(escape func(rune) (string, bool)) func(string) string {
		return func(s string) string {
			var b strings.Builder
			for _, r := range s {
				if text, ok := escape(r); ok {
					b.WriteString(text)
				} else {
					b.WriteRune(r)
				}
			}
			return b.String()
		}
	}
	unquoted := func(s string) string { return s[1 : len(s)-1] }
	lower := func(s string) string { // the hex digits only
		for i := 0; i+2 < len(s); i++ {
			if s[i] == '%' {
				s = s[:i] + strings.ToLower(s[i:i+3]) + s[i+3:]
			}
		}
		return s
	}
	odd := func(r rune) bool { return r < ' ' || r > '~' }
	utf16Escape := func(r rune) string { return unquoted(strconv.QuoteToASCII(string(r))) }
	return []func(string) string{
		func(s string) string { return s },
		func(s string) string { return unquoted(quote(s)) }, // Go's JSON
		func(s string) string { // PHP's JSON
			return strings.ReplaceAll(unquoted(asciiJSON(s)), "/", `\/`)
		},
		func(s string) string { return unquoted(asciiJSON(s)) }, // Python's JSON
		url.QueryEscape,
		func(s string) string { return strings.ReplaceAll(url.QueryEscape(s), "+", "%20") },
		func(s string) string { return lower(url.QueryEscape(s)) },
		url.PathEscape,
		html.EscapeString,
		func(s string) string {
			var b strings.Builder
			if xml.EscapeText(&b, []byte(s)) != nil {
				return s
			}
			return b.String()
		},
		each(func(r rune) (string, bool) { return fmt.Sprintf("&#%d;", r), r != 'a' }),
		each(func(r rune) (string, bool) { return fmt.Sprintf("&#x%X;", r), r != 'b' }),
		func(s string) string { return unquoted(strconv.Quote(s)) },
		func(s string) string { return unquoted(strconv.QuoteToASCII(s)) },
		each(func(r rune) (string, bool) { // Python's repr, and YAML's quotes
			switch {
			case r == '\\' || r == '\'':
				return `\` + string(r), true
			case r < ' ' || r > '~' && r <= 0xff:
				return fmt.Sprintf(`\x%02x`, r), true
			}
			return utf16Escape(r), r > '~'
		}),
		func(s string) string { // Python's repr of bytes, and C's
			var b strings.Builder
			for _, c := range []byte(s) {
				switch {
				case c == '\\' || c == '\'':
					b.WriteString(`\` + string(rune(c)))
				case odd(rune(c)):
					fmt.Fprintf(&b, `\x%02x`, c)
				default:
					b.WriteByte(c)
				}
			}
			return b.String()
		},
		// PHP's var_export and addslashes.
		strings.NewReplacer(`\`, `\\`, `'`, `\'`).Replace,
		strings.NewReplacer(`\`, `\\`, `'`, `\'`, `"`, `\"`).Replace,
		// Ruby and JavaScript, and Perl.
		each(func(r rune) (string, bool) { return fmt.Sprintf(`\u{%x}`, r), true }),
		each(func(r rune) (string, bool) { return fmt.Sprintf(`\x{%x}`, r), odd(r) || r == '\\' }),
		each(func(r rune) (string, bool) { // JavaScript's escape
			if r > 0xffff {
				return fmt.Sprintf("%%u%04X%%u%04X", 0xd800+(r-0x10000)>>10, 0xdc00+(r-0x10000)&0x3ff), true
			} else if r > 0xff {
				return fmt.Sprintf("%%u%04X", r), true
			}
			return fmt.Sprintf("%%%02X", r), odd(r) || r == '%' || r == ' ' || r == '+'
		}),
		func(s string) string { return strings.ReplaceAll(s, "'", "''") }, // SQL
		func(s string) string { return strings.ReplaceAll(s, `"`, `""`) }, // CSV
		func(s string) string { return base64.StdEncoding.EncodeToString([]byte(s)) },
		func(s string) string { return base64.RawURLEncoding.EncodeToString([]byte("u:" + s)) },
		func(s string) string { return base64.StdEncoding.EncodeToString([]byte("a" + s + "z")) },
		func(s string) string { return hex.EncodeToString([]byte(s)) },
		func(s string) string { return strings.ToUpper(hex.EncodeToString([]byte(s))) },
	}
}

// encodings is how many of the last spellers encode, and do not escape.
const encodings = 5

// asciiJSON is JSON without other characters than those of ASCII.
func asciiJSON(s string) string {
	var b strings.Builder
	for _, r := range quote(s) {
		switch {
		case r < utf8.RuneSelf:
			b.WriteRune(r)
		case r > 0xffff:
			r -= 0x10000
			fmt.Fprintf(&b, `\u%04x\u%04x`, 0xd800+r>>10, 0xdc00+r&0x3ff)
		default:
			fmt.Fprintf(&b, `\u%04x`, r)
		}
	}
	return b.String()
}

// FuzzMask checks that no secret which is given to a call stands in a page or an error after
// masking, however the page spells it. A page may spell it twice over.
func FuzzMask(f *testing.F) {
	all := spellers()
	plain := len(all) - encodings
	for i := range all {
		for _, secret := range []string{
			`p&ss<w>'"q é/+ \n`, "p\u00e9\u20ac\u0085\U0001f511z", "482913", "a'b\"c", "?a=b://c#d",
			"\\x41\\u0041%41&#65;", "[re]", "a\x00b\tc\nd\x7f", "ab\u00a0\u2028\ufeff", "pass",
		} {
			f.Add(secret, uint8(i), uint8(0))
		}
		f.Add(`p&ss<w>'"q é/+ \n`, uint8(i), uint8(i+1))
	}
	f.Fuzz(func(t *testing.T, secret string, first, second uint8) {
		if len(secret) < minSecret || len(secret) > 200 || !utf8.ValidString(secret) {
			return // not masked, or not sent
		}
		spelled := all[int(first)%len(all)](secret)
		spelled = all[int(second)%plain](spelled) // what is escaped in base64 is not found
		const before, after = "<p>bad password: ", " is wrong</p>"
		clean := before + after + redacted
		if strings.Contains(clean, secret) {
			return // the page shows it anyway
		}
		c := &call{client: &Client{}, req: &Request{Secrets: []string{secret}}}
		page := string(c.mask([]byte(before + spelled + after)))
		text := c.clean(errors.New(before + spelled + after)).Error()
		for name, shown := range map[string]string{"page": page, "error": text} {
			if strings.Contains(shown, secret) || strings.Contains(shown, spelled) {
				t.Errorf("%s shows %q as %q: %q", name, secret, spelled, shown)
			}
			if !strings.Contains(shown, redacted) {
				t.Errorf("%s hides nothing: %q as %q: %q", name, secret, spelled, shown)
			}
		}
		// Characters of base64 that also encode a neighbouring byte stay.
		rest := len(page) - len(before+redacted+after)
		if escaped := int(first)%len(all) < plain; escaped && rest >= minSecret {
			t.Errorf("a part of %q as %q is left: %q", secret, spelled, page)
		}
	})
}
