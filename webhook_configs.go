package ricloud

import (
	"context"
	"iter"
	"time"

	"github.com/reincubate/ricloud-go/internal/transport"
)

// WebhookConfig says where events are delivered.
type WebhookConfig struct {
	ID           ID          `json:"id"`
	Organisation ID          `json:"organisation,omitempty"`
	URL          string      `json:"url"`    // events are posted to {URL}/{event id}
	Secret       Secret      `json:"secret"` // signs the deliveries; made by the API
	State        ConfigState `json:"state"`
	DateCreated  time.Time   `json:"date_created,omitzero"`
}

// UnmarshalJSON reads a config, or its id alone, which then is all it has.
func (c *WebhookConfig) UnmarshalJSON(b []byte) error {
	type plain WebhookConfig
	return readRef(b, &c.ID, (*plain)(c))
}

func (c *WebhookConfig) ident() ID { return c.ID }

// WebhookConfigCreateParams describes a webhook config.
type WebhookConfigCreateParams struct {
	URL string `json:"url"` // required; the receiver must already answer there
}

func (p WebhookConfigCreateParams) check() error { return checkURL(p.URL) }

// WebhookConfigUpdateParams says what to change.
type WebhookConfigUpdateParams struct {
	URL string `json:"url"` // required
}

func (p WebhookConfigUpdateParams) check() error { return checkURL(p.URL) }

// WebhookConfigListParams filters and pages a list of webhook configs.
type WebhookConfigListParams struct{ ListParams }

// WebhookConfigsService manages where events are delivered.
type WebhookConfigsService service

// Create creates a webhook config, which the API then tests: see Test. The
// answer holds the secret that deliveries are signed with.
//
// POST /configs/webhook
func (s *WebhookConfigsService) Create(ctx context.Context, params WebhookConfigCreateParams, opts ...CallOption) (*WebhookConfig, error) {
	return do[WebhookConfig](ctx, s.client, request{op: transport.WebhookConfigsCreate.Operation(), body: params}, opts)
}

// Get returns a webhook config.
//
// GET /configs/webhook/{id}
func (s *WebhookConfigsService) Get(ctx context.Context, id ID, opts ...CallOption) (*WebhookConfig, error) {
	return do[WebhookConfig](ctx, s.client, request{op: transport.WebhookConfigsGet.Operation(), ids: []ID{id}}, opts)
}

// List returns one page of webhook configs.
//
// GET /configs/webhook
func (s *WebhookConfigsService) List(ctx context.Context, params WebhookConfigListParams, opts ...CallOption) (*List[WebhookConfig], error) {
	return list[WebhookConfig](ctx, s.client, transport.WebhookConfigsList, params, opts)
}

// All iterates over all webhook configs, page by page.
//
// GET /configs/webhook
func (s *WebhookConfigsService) All(ctx context.Context, params WebhookConfigListParams, opts ...CallOption) iter.Seq2[*WebhookConfig, error] {
	return all[WebhookConfig](ctx, s.client, transport.WebhookConfigsList, params, opts)
}

// Update changes a webhook config, which the API then tests, and returns it.
//
// POST /configs/webhook/{id}
func (s *WebhookConfigsService) Update(ctx context.Context, id ID, params WebhookConfigUpdateParams, opts ...CallOption) (*WebhookConfig, error) {
	return do[WebhookConfig](ctx, s.client, request{op: transport.WebhookConfigsUpdate.Operation(), ids: []ID{id}, body: params}, opts)
}

// Delete deletes a webhook config and returns it.
//
// DELETE /configs/webhook/{id}
func (s *WebhookConfigsService) Delete(ctx context.Context, id ID, opts ...CallOption) (*WebhookConfig, error) {
	return do[WebhookConfig](ctx, s.client, request{op: transport.WebhookConfigsDelete.Operation(), ids: []ID{id}}, opts)
}

// Test begins a test of the config, which calls its URL, and returns its task:
// Tasks.Wait tells how it ends. WithAwait lets the API hold its answer until
// then, up to 10 seconds. It may be repeated.
//
// POST /configs/webhook/{id}/test
func (s *WebhookConfigsService) Test(ctx context.Context, id ID, opts ...CallOption) (*Task, error) {
	return do[Task](ctx, s.client, request{op: transport.WebhookConfigsTest.Operation(), ids: []ID{id}}, opts)
}
