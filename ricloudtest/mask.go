package ricloudtest

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/reincubate/ricloud-go/ricloudtest/internal/reply"
)

// masked stands where a secret was.
const masked = "[redacted]"

// isSecret reports whether the values of a JSON key, a header or a query parameter are secret.
func isSecret(key string) bool {
	key = strings.ToLower(key)
	for _, word := range []string{
		"password", "passcode", "token", "secret", "credential", "signature", "authorization",
		"_key", "-key", "key_", "apikey",
	} {
		if strings.Contains(key, word) {
			return true
		}
	}
	return key == "code"
}

// masker masks what is secret in what the sandbox shows of itself.
type masker struct {
	announcing       []string // the words before a secret
	urls, spelledOut *regexp.Regexp
}

func newMasker() *masker {
	schemes := []string{"bearer", "basic"}
	names := []string{"password", "passcode", "token", "secret", "credential", "signature", "code"}
	return &masker{
		announcing: append(schemes, names...),
		urls:       regexp.MustCompile(`[A-Za-z][A-Za-z0-9+.-]*://[^\s"'<>]+`),
		spelledOut: regexp.MustCompile(`(?i)(\b(?:` + strings.Join(schemes, "|") + `)\s+|` +
			`\b\w*(?:` + strings.Join(names, "|") + `)s?\s*[=:]\s*)[^\s,;&"']+`),
	}
}

// announces reports whether a secret may be spelled out in a text. Most texts have none, and it is
// much faster than the expression.
func (m *masker) announces(text string) bool {
	folded := strings.ToLower(strings.ToUpper(text)) // as (?i): the Kelvin sign to k, the long s to s
	return slices.ContainsFunc(m.announcing, func(word string) bool {
		return strings.Contains(folded, word)
	})
}

// json returns a body with its secrets masked, as a value that JSON can write. A body that is
// not JSON becomes its length.
func (m *masker) json(raw []byte) any {
	if len(bytes.TrimSpace(raw)) == 0 {
		return nil
	}
	decoder := json.NewDecoder(bytes.NewReader(raw))
	decoder.UseNumber()
	var value any
	if err := decoder.Decode(&value); err != nil || decoder.More() {
		return "(" + strconv.Itoa(len(raw)) + " bytes that are not JSON)"
	}
	return m.value("", value)
}

// value masks a value that stands under a key.
func (m *masker) value(key string, value any) any {
	if value == nil {
		return nil
	}
	if isSecret(key) {
		return masked
	}
	switch value := value.(type) {
	case map[string]any:
		out := object{}
		for name, item := range value {
			out[name] = m.value(name, item)
		}
		return out
	case []any:
		out := make([]any, len(value))
		for i, item := range value {
			out[i] = m.value(key, item)
		}
		return out
	case string:
		return m.text(value)
	}
	return value
}

// text masks what is secret in a text: in the JSON that it may hold, in URLs, and behind words
// such as "Bearer" or "password=".
func (m *masker) text(text string) string {
	if inner := strings.TrimSpace(text); strings.IndexAny(inner, `{["`) == 0 &&
		json.Valid([]byte(inner)) {
		return string(reply.Encode(m.json([]byte(inner))))
	}
	if strings.Contains(text, "://") {
		text = m.urls.ReplaceAllStringFunc(text, maskAddress)
	}
	if !m.announces(text) {
		return text
	}
	return m.spelledOut.ReplaceAllString(text, "${1}"+masked)
}

// maskAddress leaves out the user, the query and the fragment of a URL.
func maskAddress(address string) string {
	scheme, rest, _ := strings.Cut(address, "://")
	rest, query, asked := strings.Cut(rest, "?")
	rest, _, _ = strings.Cut(rest, "#")
	host, path, hasPath := strings.Cut(rest, "/")
	host = host[strings.LastIndex(host, "@")+1:]
	if hasPath {
		host += "/" + path
	}
	if asked && query != masked {
		host += "?" + masked
	}
	return scheme + "://" + host
}

// readUpTo reads at most that many bytes and fails where there are more.
func readUpTo(r io.Reader, most int64) ([]byte, error) {
	if r == nil {
		return nil, errors.New("the reader is nil")
	}
	var body bytes.Buffer
	n, err := io.Copy(&body, io.LimitReader(r, most+1))
	if err == nil && n > most {
		err = fmt.Errorf("it exceeds %d bytes", most)
	}
	return body.Bytes(), err
}

// object masks a resource that a view wrote.
func (m *masker) object(o object) any { return m.json(reply.Encode(o)) }
