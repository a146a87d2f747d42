package ricloud

import (
	"cmp"
	"context"
	"iter"
	"slices"
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

// UnmarshalJSON reads a config, or only its ID where the API sends no more.
func (c *WebhookConfig) UnmarshalJSON(b []byte) error {
	type plain WebhookConfig
	return readRef(b, &c.ID, (*plain)(c))
}

func (c *WebhookConfig) ident() (kind string, id ID) { return "webhook_config", c.ID }

// WebhookConfigCreateParams describes a webhook config.
type WebhookConfigCreateParams struct {
	URL string `json:"url"` // required; the receiver must already answer there
}

func (p WebhookConfigCreateParams) check() error { return checkWebhookURL(p.URL) }

// WebhookConfigUpdateParams says what to change.
type WebhookConfigUpdateParams struct {
	URL string `json:"url"` // required
}

func (p WebhookConfigUpdateParams) check() error { return checkWebhookURL(p.URL) }

// WebhookConfigListParams filters and pages a list of webhook configs.
type WebhookConfigListParams struct{ ListParams }

// WebhookConfigsService manages where events are delivered.
type WebhookConfigsService service

// Create creates a webhook config, which the API then tests: see Test. The
// answer holds the secret that deliveries are signed with.
//
// POST /configs/webhook
func (s *WebhookConfigsService) Create(
	ctx context.Context, params WebhookConfigCreateParams, opts ...CallOption,
) (*WebhookConfig, error) {
	req := request{op: transport.WebhookConfigsCreate, body: params}
	return do[WebhookConfig](ctx, clientFor(s), req, opts)
}

// Get returns a webhook config.
//
// GET /configs/webhook/{id}
func (s *WebhookConfigsService) Get(
	ctx context.Context, id ID, opts ...CallOption,
) (*WebhookConfig, error) {
	return do[WebhookConfig](ctx, clientFor(s), request{op: transport.WebhookConfigsGet, id: id}, opts)
}

// List returns one page of webhook configs.
//
// GET /configs/webhook
func (s *WebhookConfigsService) List(
	ctx context.Context, params WebhookConfigListParams, opts ...CallOption,
) (*List[WebhookConfig], error) {
	return list[WebhookConfig](ctx, clientFor(s), transport.WebhookConfigsList, params, opts)
}

// All iterates over all webhook configs, page by page.
//
// GET /configs/webhook
func (s *WebhookConfigsService) All(
	ctx context.Context, params WebhookConfigListParams, opts ...CallOption,
) iter.Seq2[*WebhookConfig, error] {
	return all[WebhookConfig](ctx, clientFor(s), transport.WebhookConfigsList, params, opts)
}

// Update changes a webhook config, which the API then tests, and returns it.
//
// POST /configs/webhook/{id}
func (s *WebhookConfigsService) Update(
	ctx context.Context, id ID, params WebhookConfigUpdateParams, opts ...CallOption,
) (*WebhookConfig, error) {
	req := request{op: transport.WebhookConfigsUpdate, id: id, body: params}
	return do[WebhookConfig](ctx, clientFor(s), req, opts)
}

// Delete deletes a webhook config and returns it.
//
// DELETE /configs/webhook/{id}
func (s *WebhookConfigsService) Delete(
	ctx context.Context, id ID, opts ...CallOption,
) (*WebhookConfig, error) {
	req := request{op: transport.WebhookConfigsDelete, id: id}
	return do[WebhookConfig](ctx, clientFor(s), req, opts)
}

// Test begins a test of the config, which calls its URL, and returns its task:
// Tasks.Wait tells how it ends. With WithAwait, the API holds its answer until
// then, for up to 10 seconds. It may be repeated.
//
// POST /configs/webhook/{id}/test
func (s *WebhookConfigsService) Test(
	ctx context.Context, id ID, opts ...CallOption,
) (*Task, error) {
	return do[Task](ctx, clientFor(s), request{op: transport.WebhookConfigsTest, id: id}, opts)
}

// WebhookConfigEnsureParams describes the webhook config that Ensure finds or
// creates.
type WebhookConfigEnsureParams struct {
	URL string // required; the receiver must already answer there

	// BeforeTest, if set, is called before the config is tested, with the secrets
	// to accept: first the config's own, then those of other live configs for the
	// same URL, then Secrets. Set it to WebhookHandler.SetSecrets, or to
	// WebhookHandler.AddSecrets if the handler must go on accepting the secrets
	// that it already has. It is also called if the config is valid and therefore
	// not tested. It is not called if no secret is known.
	BeforeTest func(secrets ...Secret) error

	// Secrets are secrets that are known from elsewhere: the former one while it
	// is being replaced, or the config's own where the API shows it only when
	// the config is created.
	Secrets []Secret

	MakeKeyDefault          bool // deliver the events of the calling key there
	MakeOrganisationDefault bool // and those of every key without a config of its own
}

func (p WebhookConfigEnsureParams) check() error {
	if err := checkWebhookURL(p.URL); err != nil {
		return err
	}
	if len(p.Secrets) > 0 {
		return checkWebhookSecrets(p.Secrets)
	}
	return nil
}

// Ensure has the API deliver events to a URL. It finds or creates the webhook
// config for the URL, has the API test it, and makes it a default if asked to.
// Call it at every start of a receiver, once the receiver listens.
//
// A valid config is not tested again, because a test that fails makes it
// invalid for every receiver. A test that fails is repeated twice within a few
// seconds. Receivers that start at the same time end with one config, if the API
// lists what it has created within 8 seconds. Otherwise some configs may be left:
// once they are listed, Ensure chooses the same one in every receiver, and gives
// BeforeTest the secrets of all.
//
// It returns the config with its Secret. Some versions of the API show a secret
// only when the config is created. Store it then: later, Secret is empty, and
// BeforeTest gets only the Secrets of params. If the config does not become
// valid, Ensure returns it with a *StateError that says what to check. ctx must
// leave more than 10 seconds for each test, because the API may hold its answer
// back.
//
// GET /configs/webhook, POST /configs/webhook, DELETE /configs/webhook/{id},
// POST /configs/webhook/{id}/test, GET /tasks/{id}, GET /configs/webhook/{id},
// GET /key, POST /key, GET /organisation, POST /organisation
func (s *WebhookConfigsService) Ensure(
	ctx context.Context, params WebhookConfigEnsureParams, opts ...CallOption,
) (*WebhookConfig, error) {
	const operation = "WebhookConfigs.Ensure"
	if err := cmp.Or(params.check(), refuseReplay(opts)); err != nil {
		return nil, forOperation(operation, err)
	}
	e := &webhookEnsurer{
		service: s, params: params, configs: map[ID]*WebhookConfig{},
		awaiting: slices.Concat([]CallOption{WithAwait(maxAwait)}, opts),
		opts:     slices.Concat(opts, []CallOption{forManyCalls}),
	}
	run := ensuring{
		ensurer: e, client: clientFor(s), operation: operation,
		resource: "webhook_config", url: params.URL,
		advice: "is the receiver up and reachable below this URL, with this secret and the " +
			"right time?",
	}
	id, err := run.run(ctx)
	return e.configs[id], err
}

// webhookEnsurer is the ensurer of webhook configs.
type webhookEnsurer struct {
	service        *WebhookConfigsService
	params         WebhookConfigEnsureParams
	opts, awaiting []CallOption
	configs        map[ID]*WebhookConfig // as they were last seen
}

// note keeps a config, and its secret where the API shows that only once.
func (e *webhookEnsurer) note(c *WebhookConfig) anyConfig {
	if former := e.configs[c.ID]; former != nil && c.Secret.IsZero() {
		c.Secret = former.Secret
	}
	e.configs[c.ID] = c
	return anyConfig{c.ID, c.URL, c.State, c.DateCreated}
}

func (e *webhookEnsurer) list(ctx context.Context) (configs []anyConfig, err error) {
	for c, err := range e.service.All(ctx, WebhookConfigListParams{}, e.opts...) {
		if err != nil {
			return nil, err
		}
		if sameURL(c.URL, e.params.URL) && c.State != ConfigDeactivated {
			configs = append(configs, e.note(c))
		}
	}
	return configs, nil
}

func (e *webhookEnsurer) create(ctx context.Context) (anyConfig, error) {
	c, err := e.service.Create(ctx, WebhookConfigCreateParams{URL: e.params.URL}, e.opts...)
	if err != nil {
		return anyConfig{}, err
	}
	return e.note(c), nil
}

func (e *webhookEnsurer) prepare(
	_ context.Context, chosen anyConfig, all []anyConfig, _ bool,
) (ConfigState, error) {
	var secrets []Secret
	add := func(secret Secret) {
		if !secret.IsZero() && !slices.Contains(secrets, secret) {
			secrets = append(secrets, secret)
		}
	}
	add(e.configs[chosen.id].Secret)
	for _, p := range all {
		add(e.configs[p.id].Secret)
	}
	for _, secret := range e.params.Secrets {
		add(secret)
	}
	if e.params.BeforeTest == nil || len(secrets) == 0 {
		return chosen.state, nil
	}
	return chosen.state, e.params.BeforeTest(secrets...)
}

func (e *webhookEnsurer) test(ctx context.Context, id ID) (*Task, error) {
	return e.service.Test(ctx, id, e.awaiting...)
}

func (e *webhookEnsurer) get(ctx context.Context, id ID) (anyConfig, *Response, error) {
	var resp Response
	c, err := e.service.Get(ctx, id, slices.Concat(e.opts, []CallOption{WithResponse(&resp)})...)
	if err != nil {
		return anyConfig{}, nil, err
	}
	return e.note(c), &resp, nil
}

func (e *webhookEnsurer) remove(ctx context.Context, id ID) error {
	_, err := e.service.Delete(ctx, id, e.opts...)
	return err
}

func (e *webhookEnsurer) adopt(ctx context.Context, id ID) error {
	return defaultConfigs{webhook: id}.set(ctx, clientFor(e.service), e.opts,
		e.params.MakeKeyDefault, e.params.MakeOrganisationDefault)
}
