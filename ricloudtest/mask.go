package ricloudtest

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"regexp"
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

// maskJSON returns a body with its secrets masked, as a value that JSON can write. A body that is
// not JSON becomes its length.
func maskJSON(raw []byte) any {
	if len(bytes.TrimSpace(raw)) == 0 {
		return nil
	}
	decoder := json.NewDecoder(bytes.NewReader(raw))
	decoder.UseNumber()
	var value any
	if err := decoder.Decode(&value); err != nil || decoder.More() {
		return "(" + strconv.Itoa(len(raw)) + " bytes that are not JSON)"
	}
	return maskValue("", value)
}

// maskValue masks a value that stands under a key.
func maskValue(key string, value any) any {
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
			out[name] = maskValue(name, item)
		}
		return out
	case []any:
		out := make([]any, len(value))
		for i, item := range value {
			out[i] = maskValue(key, item)
		}
		return out
	case string:
		return maskText(value)
	}
	return value
}

// maskText masks what is secret in a text: in the JSON that it may hold, in URLs, and behind words
// such as "Bearer" or "password=".
func maskText(text string) string {
	if inner := strings.TrimSpace(text); strings.IndexAny(inner, `{["`) == 0 &&
		json.Valid([]byte(inner)) {
		return string(reply.Encode(maskJSON([]byte(inner))))
	}
	text = urls().ReplaceAllStringFunc(text, func(address string) string {
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
	})
	return spelledOut().ReplaceAllString(text, "${1}"+masked)
}

func urls() *regexp.Regexp { return regexp.MustCompile(`[A-Za-z][A-Za-z0-9+.-]*://[^\s"'<>]+`) }

// spelledOut finds a secret behind the word that announces it.
func spelledOut() *regexp.Regexp {
	return regexp.MustCompile(`(?i)(\b(?:bearer|basic)\s+|` +
		`\b\w*(?:password|passcode|token|secret|credential|signature|code)s?\s*[=:]\s*)` +
		`[^\s,;&"']+`)
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

// maskObject masks a resource that a view wrote.
func maskObject(o object) any { return maskJSON(reply.Encode(o)) }
