package ricloud

import (
	"context"
	"iter"
	"time"

	"github.com/reincubate/ricloud-go/internal/transport"
)

// Key grants access to the API with its token.
type Key struct {
	ID            ID               `json:"id" wire:"strict"`
	Organisation  ID               `json:"organisation"`
	Type          string           `json:"type"` // "standard" or "trial"
	Config        PublishingConfig `json:"config,omitzero"`
	StorageConfig ID               `json:"storage_config"` // overrides the organisation's default
	WebhookConfig ID               `json:"webhook_config"` // overrides the organisation's default
	Token         Secret           `json:"token"`
	State         KeyState         `json:"state"`
	DateCreated   time.Time        `json:"date_created,omitzero"`
	DateExpires   time.Time        `json:"date_expires,omitzero"` // zero: never; trial keys expire
}

func (k *Key) ident() (kind string, id ID) { return "key", k.ID }

// KeyState is the state of a key.
type KeyState string

// The states of a key; see docs/contract.md#keys.
const (
	KeyActive      KeyState = "active"
	KeyDeactivated KeyState = "deactivated" // by the organisation
	KeyBlocked     KeyState = "blocked"     // by the API's administrators
	KeyExpired     KeyState = "expired"     // the trial is over
)

// KeyCreateParams describes a new key. Every field is optional.
type KeyCreateParams struct {
	StorageConfig ID `json:"storage_config,omitempty"`
	WebhookConfig ID `json:"webhook_config,omitempty"`
}

// KeyUpdateParams says what to change. Empty fields are not changed. A pointer to
// the empty ID clears a config, so that the organisation's default applies again.
type KeyUpdateParams struct {
	Config        *PublishingConfig `json:"config,omitempty"`
	StorageConfig *ID               `json:"storage_config,omitempty"`
	WebhookConfig *ID               `json:"webhook_config,omitempty"`
}

// KeyRotateParams describes the rotation of a key.
type KeyRotateParams struct {
	// Expire is how long the old token still works. No document says what happens
	// if it is 0. The old token may then stop working at once.
	Expire time.Duration `json:"expire,omitempty"`
}

func (p KeyRotateParams) check() error {
	return checkSeconds("Expire", p.Expire)
}

func (p KeyRotateParams) wire() any {
	return struct {
		Expire seconds `json:"expire,omitzero"`
	}{seconds(p.Expire)}
}

// KeyListParams selects a page of a list of keys.
type KeyListParams struct{ ListParams }

// KeysService manages keys.
type KeysService service

// Current returns the key whose token the Client uses.
//
// GET /key
func (s *KeysService) Current(ctx context.Context, opts ...CallOption) (*Key, error) {
	return do[Key](ctx, clientFor(s), request{op: transport.KeysCurrent}, opts)
}

// UpdateCurrent changes the key whose token the Client uses.
//
// POST /key
func (s *KeysService) UpdateCurrent(
	ctx context.Context, params KeyUpdateParams, opts ...CallOption,
) (*Key, error) {
	return do[Key](ctx, clientFor(s), request{op: transport.KeysUpdateCurrent, body: params}, opts)
}

// Create creates a key and returns it with its token.
//
// POST /keys
func (s *KeysService) Create(
	ctx context.Context, params KeyCreateParams, opts ...CallOption,
) (*Key, error) {
	return do[Key](ctx, clientFor(s), request{op: transport.KeysCreate, body: params}, opts)
}

// Get returns a key.
//
// GET /keys/{id}
func (s *KeysService) Get(ctx context.Context, id ID, opts ...CallOption) (*Key, error) {
	return do[Key](ctx, clientFor(s), request{op: transport.KeysGet, id: id}, opts)
}

// List returns one page of keys.
//
// GET /keys
func (s *KeysService) List(
	ctx context.Context, params KeyListParams, opts ...CallOption,
) (*List[Key], error) {
	return list[Key](ctx, clientFor(s), transport.KeysList, params, opts)
}

// All iterates over all keys, page by page.
//
// GET /keys
func (s *KeysService) All(
	ctx context.Context, params KeyListParams, opts ...CallOption,
) iter.Seq2[*Key, error] {
	return all[Key](ctx, clientFor(s), transport.KeysList, params, opts)
}

// Update changes a key and returns it.
//
// POST /keys/{id}
func (s *KeysService) Update(
	ctx context.Context, id ID, params KeyUpdateParams, opts ...CallOption,
) (*Key, error) {
	return do[Key](ctx, clientFor(s), request{op: transport.KeysUpdate, id: id, body: params}, opts)
}

// Rotate gives a key a new token and returns the key with it. It is never sent
// twice: if the answer is lost, it returns a *CallError whose MaybeApplied is
// true. A Client that uses the key keeps the old token, so make a new Client.
//
// POST /keys/{id}/rotate
func (s *KeysService) Rotate(
	ctx context.Context, id ID, params KeyRotateParams, opts ...CallOption,
) (*Key, error) {
	return do[Key](ctx, clientFor(s), request{op: transport.KeysRotate, id: id, body: params}, opts)
}
