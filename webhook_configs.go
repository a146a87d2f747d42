package ricloud

import (
	"context"
	"iter"
	"time"

	"github.com/reincubate/ricloud-go/internal/transport"
)

// WebhookConfig says where events are delivered.
type WebhookConfig struct {
	ID           ID          `json:"id" wire:"strict"`
	Organisation ID          `json:"organisation,omitempty"`
	URL          string      `json:"url"`    // events are posted to {URL}/{event id}
	Secret       Secret      `json:"secret"` // signs the deliveries; made by the API
	State        ConfigState `json:"state" wire:"strict"`
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
	return do[WebhookConfig](ctx, s.client, request{op: transport.WebhookConfigsCreate, body: params}, opts)
}

// Get returns a webhook config.
//
// GET /configs/webhook/{id}
func (s *WebhookConfigsService) Get(ctx context.Context, id ID, opts ...CallOption) (*WebhookConfig, error) {
	return do[WebhookConfig](ctx, s.client, request{op: transport.WebhookConfigsGet, id: id}, opts)
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
	return do[WebhookConfig](ctx, s.client, request{op: transport.WebhookConfigsUpdate, id: id, body: params}, opts)
}

// Delete deletes a webhook config and returns it.
//
// DELETE /configs/webhook/{id}
func (s *WebhookConfigsService) Delete(ctx context.Context, id ID, opts ...CallOption) (*WebhookConfig, error) {
	return do[WebhookConfig](ctx, s.client, request{op: transport.WebhookConfigsDelete, id: id}, opts)
}

// Test begins a test of the config, which calls its URL, and returns its task:
// Tasks.Wait tells how it ends. WithAwait lets the API hold its answer until
// then, up to 10 seconds. It may be repeated.
//
// POST /configs/webhook/{id}/test
func (s *WebhookConfigsService) Test(ctx context.Context, id ID, opts ...CallOption) (*Task, error) {
	return do[Task](ctx, s.client, request{op: transport.WebhookConfigsTest, id: id}, opts)
}

// WebhookConfigEnsureParams says which webhook config is to be there.
type WebhookConfigEnsureParams struct {
	URL string // required; the receiver must already answer there

	// BeforeTest, if set, is given the config's secret before the config is
	// tested: WebhookHandler.SetSecrets. A receiver that knows the secret
	// already does not need it.
	BeforeTest func(secrets ...Secret) error

	MakeKeyDefault          bool // deliver the events of the calling key there
	MakeOrganisationDefault bool // and of every key that has no webhook config of its own
}

// Ensure makes events arrive at a URL: it finds the webhook config for the URL
// or creates it, has the API test it, and makes it a default if asked to. It
// can be called at every start of a receiver, once that listens.
//
// It returns the config, with its Secret, also when the config is not valid:
// the error then is a *StateError and says what to look at. Two calls at a
// time may create two configs.
//
// GET /configs/webhook, POST /configs/webhook, POST /configs/webhook/{id}/test,
// GET /tasks/{id}, GET /configs/webhook/{id}, POST /key, POST /organisation
func (s *WebhookConfigsService) Ensure(ctx context.Context, params WebhookConfigEnsureParams, opts ...CallOption) (*WebhookConfig, error) {
	if err := checkURL(params.URL); err != nil {
		return nil, forOperation("WebhookConfigs.Ensure", err)
	}
	e := ensurer[WebhookConfig]{
		resource: "webhook_config",
		url:      params.URL,
		advice:   "is the receiver up and reachable from the internet, does it answer on all paths below the URL, and does it verify with this config's secret?",
		all: func(opts ...CallOption) iter.Seq2[*WebhookConfig, error] {
			return s.All(ctx, WebhookConfigListParams{}, opts...)
		},
		create: func(opts ...CallOption) (*WebhookConfig, error) {
			return s.Create(ctx, WebhookConfigCreateParams{URL: params.URL}, opts...)
		},
		test: func(id ID, opts ...CallOption) (*Task, error) { return s.Test(ctx, id, opts...) },
		get:  func(id ID, opts ...CallOption) (*WebhookConfig, error) { return s.Get(ctx, id, opts...) },
		adopt: func(id ID, opts ...CallOption) error {
			var err error
			if params.MakeKeyDefault {
				_, err = s.client.Keys.UpdateCurrent(ctx, KeyUpdateParams{WebhookConfig: &id}, opts...)
			}
			if err == nil && params.MakeOrganisationDefault {
				_, err = s.client.Organisation.Update(ctx, OrganisationUpdateParams{WebhookConfigDefault: &id}, opts...)
			}
			return err
		},
	}
	if params.BeforeTest != nil {
		e.prepare = func(config *WebhookConfig, _ bool) error { return params.BeforeTest(config.Secret) }
	}
	return ensure(ctx, s.client, e, opts)
}
