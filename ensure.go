package ricloud

import (
	"context"
	"errors"
	"iter"
	"net/url"
	"slices"
	"strings"
)

// ensurer is what Ensure needs to know of a kind of config.
type ensurer[T any] struct {
	resource string // "webhook_config"
	url      string
	advice   string // what to look at when the test fails

	all     func(...CallOption) iter.Seq2[*T, error]
	create  func(...CallOption) (*T, error)
	prepare func(config *T, created bool) error // before the test; may be nil
	test    func(ID, ...CallOption) (*Task, error)
	get     func(ID, ...CallOption) (*T, error)
	adopt   func(ID, ...CallOption) error // once it is valid: make it a default
}

// place is what two kinds of config have in common.
type place interface {
	ident() ID
	where() (url string, state ConfigState)
}

func (c WebhookConfig) where() (string, ConfigState) { return c.URL, c.State }
func (c StorageConfig) where() (string, ConfigState) { return c.URL, c.State }

// maxConfigTests: a create and an update begin a test, too. Where that one
// ends later and otherwise than ours, ours is repeated.
const maxConfigTests = 3

// ensure finds or creates the config for a URL, tests it and, if it is valid,
// adopts it. It returns the config also with the error that says why it is not
// valid.
func ensure[T any, P interface {
	*T
	place
}](ctx context.Context, client *Client, e ensurer[T], opts []CallOption) (*T, error) {
	awaiting := slices.Concat([]CallOption{WithAwait(maxAwait)}, opts)
	opts = slices.Concat(opts, []CallOption{withoutAwait})
	config, created, err := findOrCreate[T, P](e, opts)
	if err != nil {
		return nil, err
	}
	if e.prepare != nil {
		if err := e.prepare(config, created); err != nil {
			return config, err
		}
	}
	id := P(config).ident()
	for range maxConfigTests {
		task, err := e.test(id, awaiting...)
		if err != nil {
			return config, err
		}
		_, failure := last(client.waits.tasks.watch(ctx, "Tasks.Wait", task.ID, task, nil))
		failed, ok := errors.AsType[*StateError](failure)
		if failure != nil && !ok {
			return config, failure
		}
		latest, err := e.get(id, opts...)
		if err != nil {
			return config, err
		}
		config = latest
		switch _, state := P(config).where(); {
		case state == ConfigValid:
			return config, e.adopt(id, opts...)
		case failed != nil || state == ConfigDeactivated:
			return config, e.explain(id, state, failed)
		}
	}
	_, state := P(config).where()
	return config, e.explain(id, state, nil)
}

// findOrCreate returns the config for e's URL. A create whose outcome is
// unknown is looked for before it is an error.
func findOrCreate[T any, P interface {
	*T
	place
}](e ensurer[T], opts []CallOption) (config *T, created bool, err error) {
	find := func() (*T, error) {
		for config, err := range e.all(opts...) {
			if err != nil {
				return nil, err
			}
			if url, state := P(config).where(); sameURL(url, e.url) && state != ConfigDeactivated {
				return config, nil
			}
		}
		return nil, nil //nolint:nilnil // none is an answer
	}
	if config, err = find(); config != nil || err != nil {
		return config, false, err
	}
	config, err = e.create(opts...)
	if lost, ok := errors.AsType[*CallError](err); ok && lost.MaybeApplied() {
		if found, findErr := find(); found != nil && findErr == nil {
			return found, true, nil
		}
	}
	return config, true, err
}

// sameURL passes over a slash at the end, as the API does when it appends to
// the URL.
func sameURL(a, b string) bool { return strings.TrimSuffix(a, "/") == strings.TrimSuffix(b, "/") }

// explain says in words why a config is not valid.
func (e *ensurer[T]) explain(id ID, state ConfigState, failed *StateError) error {
	err := &StateError{Resource: e.resource, ID: id, State: string(state)}
	found := "its tests did not decide"
	if failed != nil {
		err.Code = failed.Code
		found = "its test, task " + string(failed.ID) + ", failed"
	}
	err.Detail = found + " for " + plainURL(e.url) + ": " + e.advice
	return err
}

// plainURL leaves out what may be secret in a URL.
func plainURL(raw string) string {
	u, err := url.Parse(raw)
	if err != nil {
		return redacted
	}
	return (&url.URL{Scheme: u.Scheme, Host: u.Host, Path: u.Path}).String()
}
