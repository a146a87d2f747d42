package ricloudtest

import (
	"bytes"
	"encoding/json"
	"io"
	"slices"
	"strconv"
	"strings"

	"github.com/reincubate/ricloud-go/ricloudtest/internal/reply"
)

// masked stands where a secret was.
const masked = "[redacted]"

// secretKeys are the JSON keys whose values are secret.
func secretKeys() []string {
	return []string{
		"password", "code", "token", "secret", "credentials", "private_key", "access_key_id",
		"secret_access_key",
	}
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
	if slices.Contains(secretKeys(), strings.ToLower(key)) {
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

// maskText drops the query of a signed URL.
func maskText(text string) string {
	at, query, found := strings.Cut(text, "?")
	if found && strings.Contains(at, "://") &&
		(strings.Contains(query, "ignature=") || strings.Contains(query, "X-Amz-")) {
		return at + "?" + masked
	}
	return text
}

// readUpTo reads at most that many bytes and fails where there are more.
func readUpTo(r io.Reader, most int64) ([]byte, error) {
	var body bytes.Buffer
	n, err := io.Copy(&body, io.LimitReader(r, most+1))
	if err == nil && n > most {
		err = refuse("it exceeds %d bytes", most)
	}
	return body.Bytes(), err
}

// maskObject masks a resource that a view wrote.
func maskObject(o object) any { return maskJSON(reply.Encode(o)) }
