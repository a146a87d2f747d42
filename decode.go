package ricloud

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"strings"
	"sync"

	"github.com/reincubate/ricloud-go/internal/wire"
)

// decode decodes JSON from the API into v. The error is a *DecodeError.
func decode(operation string, body []byte, v any) error {
	_, err := decodeOdd(operation, body, v)
	return err
}

// decodeOdd is decode that also returns the values that were left zero because
// they had the wrong type.
func decodeOdd(operation string, body []byte, v any) ([]wire.Oddity, error) {
	odd, err := wire.Decode(body, v)
	if err == nil {
		return odd, nil
	}
	e, ok := errors.AsType[*wire.Error](err)
	if !ok {
		e = &wire.Error{Raw: body, Err: err}
	}
	shown := redacted
	if e.Raw != nil {
		shown = snapshot(e.Raw)
	}
	return nil, &DecodeError{Operation: operation, Path: e.Path, Snapshot: shown, Err: e.Err}
}

// decode is decode that reports each odd value of an operation once.
func (c *Client) decode(operation string, body []byte, v any) error {
	odd, err := decodeOdd(operation, body, v)
	c.oddities.report(operation, odd)
	return err
}

// maxOddities bounds what a Client remembers of the odd values it has reported.
const maxOddities = 256

// oddities reports the values of answers that had the wrong type, each once.
type oddities struct {
	tell func(operation, path, reason string)

	mu   sync.Mutex
	told map[string]bool
}

func newOddities(logger *slog.Logger) *oddities {
	o := &oddities{told: map[string]bool{}}
	if logger != nil {
		o.tell = func(operation, path, reason string) {
			logger.LogAttrs(context.Background(), slog.LevelWarn, "ricloud odd value",
				slog.String("operation", operation), slog.String("path", path), slog.String("reason", reason))
		}
	}
	return o
}

func (o *oddities) report(operation string, odd []wire.Oddity) {
	if o.tell == nil {
		return
	}
	for _, odd := range odd {
		if o.first(operation + " " + wire.Pattern(odd.Path)) {
			o.tell(operation, odd.Path, odd.Reason)
		}
	}
}

// first reports whether key is new.
func (o *oddities) first(key string) bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.told[key] || len(o.told) >= maxOddities {
		return false
	}
	o.told[key] = true
	return true
}

const maxSnapshot = 512

// snapshot returns the beginning of what did not fit, up to the first key that
// may hold a secret.
func snapshot(raw []byte) string {
	head := bytes.ReplaceAll(raw[:min(len(raw), maxSnapshot)], []byte(`\`), nil) // JSON within a string has keys, too
	end := len(head)
	for _, key := range []string{`"token"`, `"secret"`, `"password"`, `"code"`, `"credentials"`, `"signed_url"`, `"signed_urls"`, `"url"`} {
		if i := bytes.Index(head[:end], []byte(key)); i >= 0 {
			end = i + len(key)
		}
	}
	if end < len(head) {
		return bounded(head[:end]) + ":" + redacted
	}
	return bounded(raw)
}

// bounded returns the beginning of text.
func bounded(text []byte) string {
	s := strings.ToValidUTF8(string(text[:min(len(text), maxSnapshot)]), "\uFFFD")
	if len(text) > maxSnapshot {
		return s + "…"
	}
	return s
}
