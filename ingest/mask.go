package ingest

import (
	"net/url"
	"slices"
	"strings"

	ricloud "github.com/reincubate/ricloud-go"
)

const (
	redacted  = "[redacted]"
	minSecret = 4 // bytes: what is shorter occurs in ordinary text
)

// maskedError is an error whose text holds no secret: it is stored with the account.
type maskedError struct {
	text string
	err  error
}

func (e *maskedError) Error() string { return e.text }

func (e *maskedError) Unwrap() error { return e.err }

// masked returns an error without the secrets in its text.
func masked(err error, secrets ...ricloud.Secret) error {
	if err == nil {
		return nil
	}
	if text := maskedText(err.Error(), secrets...); text != err.Error() {
		return &maskedError{text, err}
	}
	return err
}

// maskedText returns a text without the secrets in it. Of a signed URL, these are the whole, its
// query, and the long values in that.
func maskedText(text string, secrets ...ricloud.Secret) string {
	for _, secret := range secrets {
		for _, part := range secretParts(secret.Reveal()) {
			if len(part) >= minSecret {
				text = strings.ReplaceAll(text, part, redacted)
			}
		}
	}
	return text
}

func secretParts(secret string) []string {
	parts := []string{secret, url.QueryEscape(secret), url.PathEscape(secret)}
	u, err := url.Parse(secret)
	if err != nil || u.RawQuery == "" || u.Host == "" {
		return parts
	}
	parts = append(parts, u.RawQuery)
	for _, values := range u.Query() {
		for _, value := range values {
			if len(value) > 4*minSecret {
				parts = append(parts, value, url.QueryEscape(value))
			}
		}
	}
	slices.SortFunc(parts, func(a, b string) int { return len(b) - len(a) }) // the longest first
	return parts
}
