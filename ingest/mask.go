package ingest

import (
	"context"
	"encoding/json"
	"maps"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync"

	ricloud "github.com/reincubate/ricloud-go"
)

const (
	redacted     = "[redacted]"
	minSecret    = 4      // bytes: what is shorter occurs in ordinary text
	maxPasswords = 10_000 // accounts
)

// passwords are the latest that Handlers.Secret has returned in this process, by account. They are
// kept in memory to mask them in errors.
type passwords struct {
	mu    sync.Mutex
	of    map[string]ricloud.Secret
	order []string // the oldest account first
}

func (p *passwords) add(key string, password ricloud.Secret) {
	if password.IsZero() {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if _, known := p.of[key]; !known {
		p.order = append(p.order, key)
	}
	if p.of == nil {
		p.of = map[string]ricloud.Secret{}
	}
	p.of[key] = password
	if len(p.order) > maxPasswords {
		delete(p.of, p.order[0])
		p.order = p.order[1:]
	}
}

// get returns the password of an account, or an empty one.
func (p *passwords) get(key string) ricloud.Secret {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.of[key]
}

// all returns the passwords of all accounts.
func (p *passwords) all() []ricloud.Secret {
	p.mu.Lock()
	defer p.mu.Unlock()
	return slices.Collect(maps.Values(p.of))
}

// remembering returns a Handlers.Secret that adds what it returns.
func (p *passwords) remembering(
	secret func(context.Context, string) (ricloud.Secret, error),
) func(context.Context, string) (ricloud.Secret, error) {
	return func(ctx context.Context, key string) (ricloud.Secret, error) {
		password, err := secret(ctx, key)
		p.add(key, password)
		return password, err
	}
}

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
	quoted := strconv.Quote(secret)
	parts := []string{
		secret, url.QueryEscape(secret), url.PathEscape(secret), quoted[1 : len(quoted)-1],
	}
	if inJSON, err := json.Marshal(secret); err == nil {
		parts = append(parts, string(inJSON[1:len(inJSON)-1]))
	}
	if u, err := url.Parse(secret); err == nil && u.RawQuery != "" && u.Host != "" {
		parts = append(parts, u.RawQuery)
		for _, values := range u.Query() {
			for _, value := range values {
				if len(value) > 4*minSecret {
					parts = append(parts, value, url.QueryEscape(value))
				}
			}
		}
	}
	slices.SortFunc(parts, func(a, b string) int { return len(b) - len(a) }) // the longest first
	return parts
}
