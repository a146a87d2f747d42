package transport

import (
	"bytes"
	"encoding/base64"
	"encoding/hex"
	"html"
	"slices"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf16"
	"unicode/utf8"
)

const redacted = "[redacted]"

const (
	// minSecret is how long a secret must be to be masked: shorter strings
	// occur too often in ordinary text.
	minSecret = 4
	// maxNesting is how many encodings deep a secret is found: a page may quote
	// a body that quotes a body.
	maxNesting = 3
	// maxEscape bounds one escaped character.
	maxEscape = 34
)

// mask replaces the call's secrets in text that came from outside, because an
// API may repeat a rejected password. It also searches every decoding of the
// text, so it finds a secret however it is escaped.
func (c *call) mask(text []byte) []byte {
	var needles [][]byte
	for _, secret := range c.req.Secrets {
		needles = append(needles, spellings(secret)...)
	}
	needles = append(needles, spellings(c.credentials())...)
	if len(needles) == 0 {
		return text
	}
	m := masking{
		needles: needles, seen: map[string]bool{}, decoders: []decoder{
			{"&", entity}, {`\`, backslash}, {"%", percent}, {"%+", form},
		},
		numeric: slices.ContainsFunc(c.req.Secrets, isCode),
	}
	if slices.ContainsFunc(c.req.Secrets, mixed) { // else latin1 finds it
		m.decoders = append(m.decoders, decoder{`\`, points(backslash)}, decoder{"%", points(percent)})
	}
	if slices.ContainsFunc(c.req.Secrets, quotes) {
		m.decoders = append(m.decoders, decoder{"'", doubled}, decoder{`"`, doubled})
	}
	m.search(view{text: text}, maxNesting)
	return m.apply(text)
}

// credentials is what follows the scheme in the Authorization header.
func (c *call) credentials() string {
	value := c.header.Get("Authorization")
	return value[strings.LastIndexByte(value, ' ')+1:]
}

// spellings lists how a secret reads once all escapes are decoded.
func spellings(secret string) [][]byte {
	if len(secret) < minSecret {
		return nil
	}
	all := [][]byte{[]byte(secret)}
	if latin := latin1(secret); latin != nil {
		all = append(all, latin)
	}
	// HTML cannot carry a NUL, nor XML other control characters.
	for _, unfit := range []string{"\x00", controls} {
		if replaced := replaceAny(secret, unfit); replaced != secret {
			all = append(all, []byte(replaced))
		}
	}
	digits := hex.EncodeToString([]byte(secret))
	all = append(all, []byte(digits), []byte(strings.ToUpper(digits)))
	// Within a longer text, base64 has three spellings of a secret, by the
	// offset at which it begins. Characters that also encode a neighbouring
	// byte are left out.
	for before := range 3 {
		padded := append(make([]byte, before), secret...)
		for _, encoding := range []*base64.Encoding{base64.RawStdEncoding, base64.RawURLEncoding} {
			text := encoding.EncodeToString(padded)
			all = append(all, []byte(text[(before*8+5)/6:len(padded)*8/6]))
		}
	}
	return all
}

// controls are the control characters that XML cannot carry.
const controls = "\x00\x01\x02\x03\x04\x05\x06\x07\x08\x0b\x0c\x0e\x0f" +
	"\x10\x11\x12\x13\x14\x15\x16\x17\x18\x19\x1a\x1b\x1c\x1d\x1e\x1f\ufffe\uffff"

// replaceAny returns s with U+FFFD for each of the characters in unfit.
func replaceAny(s, unfit string) string {
	return strings.Map(func(r rune) rune {
		if strings.ContainsRune(unfit, r) {
			return utf8.RuneError
		}
		return r
	}, s)
}

// mixed reports whether s, as it is or with U+FFFD, has both characters of Latin-1
// beyond ASCII and others beyond Latin-1.
func mixed(s string) bool {
	s = replaceAny(s, controls)
	return strings.ContainsFunc(s, func(r rune) bool { return r >= utf8.RuneSelf && r <= 0xff }) &&
		strings.ContainsFunc(s, func(r rune) bool { return r > 0xff })
}

// latin1 returns s in ISO 8859-1 if it can be written so and differs then.
func latin1(s string) []byte {
	var out []byte
	for _, r := range s {
		if r > 0xff {
			return nil
		}
		out = append(out, byte(r)) //nolint:gosec // at most 0xff
	}
	if string(out) == s {
		return nil
	}
	return out
}

// masking collects the places of secrets in a text.
type masking struct {
	needles  [][]byte
	decoders []decoder
	numeric  bool            // one of them is a code, which may come back in groups
	seen     map[string]bool // the texts that were searched
	found    []span
}

// decoder reads the escapes that begin with one of the characters of begins.
type decoder struct {
	begins string
	unit   func(text []byte) (char []byte, length int)
}

// span is a range of bytes of the original text.
type span struct{ from, to int }

// view is the text with some of its escapes decoded. For each byte, at holds
// the range of the original text that it comes from. If at is nil, nothing was
// decoded.
type view struct {
	text []byte
	at   []span
}

func (v view) span(from, to int) span {
	if v.at == nil {
		return span{from, to}
	}
	return span{v.at[from].from, v.at[to-1].to}
}

// search finds the needles in v and in what it decodes to.
func (m *masking) search(v view, depth int) {
	if m.seen[string(v.text)] {
		return
	}
	m.seen[string(v.text)] = true
	for _, needle := range m.needles {
		for from := 0; ; {
			i := bytes.Index(v.text[from:], needle)
			if i < 0 {
				break
			}
			m.found = append(m.found, v.span(from+i, from+i+len(needle)))
			from += i + 1 // they may overlap
		}
	}
	if m.numeric {
		ungrouped := masking{needles: m.needles, seen: m.seen}
		ungrouped.search(v.decode(separators, ungroup), 0)
		m.found = append(m.found, ungrouped.found...)
	}
	if depth == 0 {
		return
	}
	for _, d := range m.decoders {
		if bytes.ContainsAny(v.text, d.begins) {
			m.search(v.decode(d.begins, d.unit), depth-1)
		}
	}
}

// decode returns v with its escapes decoded. An escape starts with one of the
// characters of begins; unit returns the character it stands for and its length.
func (v view) decode(begins string, unit func([]byte) ([]byte, int)) view {
	out := view{text: make([]byte, 0, len(v.text)), at: make([]span, 0, len(v.text))}
	for i := 0; i < len(v.text); {
		char, n := v.text[i:i+1], 1
		if strings.IndexByte(begins, v.text[i]) >= 0 {
			if decoded, length := unit(v.text[i:min(len(v.text), i+maxEscape)]); length > 0 {
				char, n = decoded, length
			}
		}
		for range char {
			out.at = append(out.at, v.span(i, i+n))
		}
		out.text = append(out.text, char...)
		i += n
	}
	return out
}

// apply returns text with what was found replaced.
func (m *masking) apply(text []byte) []byte {
	if len(m.found) == 0 {
		return text
	}
	slices.SortFunc(m.found, func(a, b span) int { return a.from - b.from })
	var out []byte
	end := 0
	for _, s := range m.found {
		if s.from >= end {
			out = append(append(out, text[end:s.from]...), redacted...)
		}
		end = max(end, s.to)
	}
	return append(out, text[end:]...)
}

// isCode reports whether a secret is a number that a page may write in groups,
// as "482-913".
func isCode(secret string) bool {
	return len(secret) >= minSecret && strings.Trim(secret, "0123456789") == ""
}

// separators are the first bytes of what may stand between groups of digits.
const separators = " \t-.,\xc2\xe2"

// ungroup reads what separates two groups of digits as nothing.
func ungroup(text []byte) (char []byte, length int) {
	r, n := utf8.DecodeRune(text)
	apart := unicode.IsSpace(r) || unicode.In(r, unicode.Pd, unicode.Cf) ||
		strings.ContainsRune(".,\u2212", r)
	if apart && n < len(text) && isDigit(text[n], 10) {
		return nil, n
	}
	return nil, 0
}

// entity reads an escape of HTML or XML: "&amp;", "&#38;", "&#x26;".
func entity(text []byte) (char []byte, length int) {
	if len(text) < 3 || text[1] != '#' {
		end := bytes.IndexByte(text, ';')
		name := string(text[:end+1])
		if decoded := html.UnescapeString(name); decoded != name {
			return []byte(decoded), end + 1
		}
		return nil, 0
	}
	// Not html.UnescapeString, which reads 0x80 to 0x9f as Windows does.
	digits, base := text[2:], 10
	if digits[0] == 'x' || digits[0] == 'X' {
		digits, base = digits[1:], 16
	}
	n := 0
	for n < len(digits) && n < 8 && isDigit(digits[n], base) {
		n++
	}
	length = len(text) - len(digits) + n
	if n > 0 && n < len(digits) && digits[n] == ';' {
		length++
	}
	return codePoint(digits[:n], base, length)
}

// backslash reads an escape of JSON and of the languages that quote like it.
func backslash(text []byte) (char []byte, length int) {
	if len(text) < 2 {
		return nil, 0
	}
	switch c := text[1]; c {
	case 'u':
		return unicodeEscape(text)
	case 'U':
		return fixed(text, 2, 8)
	case 'x':
		if len(text) > 3 && text[2] == '{' {
			return unicodeEscape(text)
		}
		return oneByte(text, 2)
	case '0', '1', '2', '3':
		n := 1
		for n < 4 && n < len(text) && isDigit(text[n], 8) {
			n++
		}
		value, _ := strconv.ParseUint(string(text[1:n]), 8, 16)
		return []byte{byte(value)}, n //nolint:gosec // at most 0o377
	default:
		if i := strings.IndexByte("abefnrtv", c); i >= 0 {
			return []byte{"\a\b\x1b\f\n\r\t\v"[i]}, 2
		}
		return text[1:2], 2
	}
}

// unicodeEscape reads \u0041 or %u0041, a surrogate pair of these, \u{1f511}, or
// \x{1f511}.
func unicodeEscape(text []byte) (char []byte, length int) {
	if len(text) > 3 && text[2] == '{' {
		if end := bytes.IndexByte(text, '}'); end > 0 {
			return codePoint(text[3:end], 16, end+1)
		}
	}
	high, ok := hex4(text, 2)
	if ok && utf16.IsSurrogate(high) && bytes.HasPrefix(text[6:], text[:2]) {
		if low, ok := hex4(text, 8); ok {
			return utf8.AppendRune(nil, utf16.DecodeRune(high, low)), 12
		}
	}
	return fixed(text, 2, 4)
}

// points returns unit with the bytes beyond ASCII as code points: JavaScript and
// Python write \xe9 for U+00E9 and \u20ac for what has no shorter escape.
func points(unit func([]byte) ([]byte, int)) func([]byte) ([]byte, int) {
	return func(text []byte) ([]byte, int) {
		char, length := unit(text)
		if len(char) == 1 && char[0] >= utf8.RuneSelf {
			char = utf8.AppendRune(nil, rune(char[0]))
		}
		return char, length
	}
}

// quotes reports whether s has a quotation mark, which SQL and CSV double.
func quotes(s string) bool { return strings.ContainsAny(s, `'"`) }

// doubled reads two quotation marks as one.
func doubled(text []byte) (char []byte, length int) {
	if len(text) > 1 && text[0] == text[1] {
		return text[:1], 2
	}
	return nil, 0
}

// percent reads an escape of a URL, %u0041 included.
func percent(text []byte) (char []byte, length int) {
	if len(text) > 1 && (text[1] == 'u' || text[1] == 'U') {
		return unicodeEscape(text)
	}
	return oneByte(text, 1)
}

// form reads an escape of a query, where "+" is a space.
func form(text []byte) (char []byte, length int) {
	if text[0] == '+' {
		return []byte{' '}, 1
	}
	return percent(text)
}

// oneByte reads two hex digits at i.
func oneByte(text []byte, i int) (char []byte, length int) {
	if len(text) < i+2 {
		return nil, 0
	}
	char, err := hex.DecodeString(string(text[i : i+2]))
	if err != nil {
		return nil, 0
	}
	return char, i + 2
}

// fixed reads a code point of n hex digits at i.
func fixed(text []byte, i, n int) (char []byte, length int) {
	if len(text) < i+n {
		return nil, 0
	}
	return codePoint(text[i:i+n], 16, i+n)
}

func hex4(text []byte, i int) (rune, bool) {
	if len(text) < i+4 {
		return 0, false
	}
	value, err := strconv.ParseUint(string(text[i:i+4]), 16, 16)
	return rune(value), err == nil
}

func codePoint(digits []byte, base, length int) ([]byte, int) {
	value, err := strconv.ParseUint(string(digits), base, 31)
	if err != nil {
		return nil, 0
	}
	return utf8.AppendRune(nil, rune(value)), length
}

func isDigit(c byte, base int) bool {
	_, err := strconv.ParseUint(string(c), base, 8)
	return err == nil
}
