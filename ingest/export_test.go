package ingest

import (
	"context"

	ricloud "github.com/reincubate/ricloud-go"
	"github.com/reincubate/ricloud-go/ingest/internal/store"
)

// OpenOn opens an engine on a store that it may share with other engines.
func OpenOn(ctx context.Context, cfg Config, s store.Store) (*Engine, error) {
	settings, err := cfg.settings()
	if err != nil {
		return nil, err
	}
	return join(ctx, settings, shared{s})
}

// shared is a store that others go on using when one engine is closed.
type shared struct{ store.Store }

// Close does nothing.
func (shared) Close() error { return nil }

// OpenSmall opens an engine that keeps few waiting accounts in memory.
func OpenSmall(ctx context.Context, cfg Config, maxWaiting int) (*Engine, error) {
	settings, err := cfg.settings()
	if err != nil {
		return nil, err
	}
	settings.maxWaiting = maxWaiting
	return join(ctx, settings, store.NewMemory())
}

// FailureOf says what of a poll that has ended did not succeed.
func FailureOf(poll *ricloud.Poll) string { return failureOf(poll) }

// IsGone reports whether the API says that something is not there.
func IsGone(err error) bool { return isGone(err) }
