package ricloud

import (
	"cmp"
	"context"
	"encoding/json"
	"iter"
	"maps"
	"slices"
	"time"

	"github.com/reincubate/ricloud-go/internal/transport"
)

// StorageConfig says where results are published.
type StorageConfig struct { //nolint:recvcheck // JSON encodes values and decodes into pointers
	ID                ID            `json:"id" wire:"strict"`
	Organisation      ID            `json:"organisation,omitempty"`
	Type              string        `json:"type"` // "s3" or "gs", from the URL
	URL               string        `json:"url"`  // "s3://bucket/path", "gs://bucket/path"
	SignedURLsEnabled bool          `json:"signed_urls_enabled"`
	SignedURLsExpiry  time.Duration `json:"signed_urls_expiry,omitzero"`
	State             ConfigState   `json:"state" wire:"strict"`
	DateCreated       time.Time     `json:"date_created,omitzero"`
}

// UnmarshalJSON reads a config, or only its ID where the API sends no more.
func (c *StorageConfig) UnmarshalJSON(b []byte) error {
	type plain StorageConfig
	aux := struct {
		*plain
		SignedURLsExpiry seconds `json:"signed_urls_expiry"`
	}{plain: (*plain)(c)}
	err := readRef(b, &c.ID, &aux)
	c.SignedURLsExpiry = time.Duration(aux.SignedURLsExpiry)
	return err
}

// MarshalJSON writes the config as the API does, with SignedURLsExpiry in
// seconds.
func (c StorageConfig) MarshalJSON() ([]byte, error) {
	type plain StorageConfig
	return json.Marshal(struct {
		plain

		SignedURLsExpiry seconds `json:"signed_urls_expiry,omitzero"`
	}{plain(c), seconds(c.SignedURLsExpiry)})
}

func (c *StorageConfig) ident() (kind string, id ID) { return "storage_config", c.ID }

// ConfigState is the state of a storage or webhook config.
type ConfigState string

// The states of a config; see docs/contract.md#storage-configs.
const (
	ConfigNew         ConfigState = "new" // not tested since it was created or changed
	ConfigValid       ConfigState = "valid"
	ConfigInvalid     ConfigState = "invalid"
	ConfigDeactivated ConfigState = "deactivated"
)

// Credentials are what the API needs to write to a bucket: the fields of a
// Google service account's JSON, or of an AWS key: access_key_id and
// secret_access_key. They are only ever sent; the API does not give them back.
type Credentials map[string]Secret

func (c Credentials) check() error {
	for name, value := range c {
		if value.IsZero() {
			return invalid("Credentials", name+" is empty")
		}
		if err := checkSecret("Credentials", value); err != nil {
			return err
		}
	}
	return nil
}

func (c Credentials) secrets() []Secret {
	all := make([]Secret, 0, len(c))
	for _, name := range slices.Sorted(maps.Keys(c)) {
		all = append(all, c[name])
	}
	return all
}

func (c Credentials) wire() map[string]string {
	if c == nil {
		return nil
	}
	m := make(map[string]string, len(c))
	for name, s := range c {
		m[name] = s.Reveal()
	}
	return m
}

// StorageConfigCreateParams describes a storage config.
type StorageConfigCreateParams struct {
	URL               string        // required: "s3://bucket/path" or "gs://bucket/path"
	Credentials       Credentials   // required
	SignedURLsEnabled *bool         // results carry URLs that need no credentials
	SignedURLsExpiry  time.Duration // how long such a URL works
}

func (p StorageConfigCreateParams) check() error {
	if err := checkURL(p.URL); err != nil {
		return err
	}
	if len(p.Credentials) == 0 {
		return invalid("Credentials", "is required")
	}
	return StorageConfigUpdateParams(p).check()
}

func (p StorageConfigCreateParams) secrets() []Secret { return p.Credentials.secrets() }

func (p StorageConfigCreateParams) wire() any { return StorageConfigUpdateParams(p).wire() }

// StorageConfigUpdateParams says what to change; empty fields are not changed.
// A config that was fetched holds no credentials, so do not copy it into an
// update.
type StorageConfigUpdateParams struct {
	URL               string
	Credentials       Credentials
	SignedURLsEnabled *bool
	SignedURLsExpiry  time.Duration
}

func (p StorageConfigUpdateParams) check() error {
	if p.URL != "" {
		if err := checkURL(p.URL); err != nil {
			return err
		}
	}
	if err := checkSeconds("SignedURLsExpiry", p.SignedURLsExpiry); err != nil {
		return err
	}
	return p.Credentials.check()
}

func (p StorageConfigUpdateParams) secrets() []Secret { return p.Credentials.secrets() }

func (p StorageConfigUpdateParams) wire() any {
	return struct {
		URL               string            `json:"url,omitempty"`
		Credentials       map[string]string `json:"credentials,omitempty"`
		SignedURLsEnabled *bool             `json:"signed_urls_enabled,omitempty"`
		SignedURLsExpiry  seconds           `json:"signed_urls_expiry,omitzero"`
	}{p.URL, p.Credentials.wire(), p.SignedURLsEnabled, seconds(p.SignedURLsExpiry)}
}

// StorageConfigListParams filters and pages a list of storage configs.
type StorageConfigListParams struct{ ListParams }

// StorageConfigsService manages where results are published.
type StorageConfigsService service

// Create creates a storage config, which the API then tests: see Test.
//
// POST /configs/storage
func (s *StorageConfigsService) Create(
	ctx context.Context, params StorageConfigCreateParams, opts ...CallOption,
) (*StorageConfig, error) {
	req := request{op: transport.StorageConfigsCreate, body: params}
	return do[StorageConfig](ctx, clientFor(s), req, opts)
}

// Get returns a storage config, without its credentials.
//
// GET /configs/storage/{id}
func (s *StorageConfigsService) Get(
	ctx context.Context, id ID, opts ...CallOption,
) (*StorageConfig, error) {
	return do[StorageConfig](ctx, clientFor(s), request{op: transport.StorageConfigsGet, id: id}, opts)
}

// List returns one page of storage configs.
//
// GET /configs/storage
func (s *StorageConfigsService) List(
	ctx context.Context, params StorageConfigListParams, opts ...CallOption,
) (*List[StorageConfig], error) {
	return list[StorageConfig](ctx, clientFor(s), transport.StorageConfigsList, params, opts)
}

// All iterates over all storage configs, page by page.
//
// GET /configs/storage
func (s *StorageConfigsService) All(
	ctx context.Context, params StorageConfigListParams, opts ...CallOption,
) iter.Seq2[*StorageConfig, error] {
	return all[StorageConfig](ctx, clientFor(s), transport.StorageConfigsList, params, opts)
}

// Update changes a storage config, which the API then tests, and returns it.
//
// POST /configs/storage/{id}
func (s *StorageConfigsService) Update(
	ctx context.Context, id ID, params StorageConfigUpdateParams, opts ...CallOption,
) (*StorageConfig, error) {
	req := request{op: transport.StorageConfigsUpdate, id: id, body: params}
	return do[StorageConfig](ctx, clientFor(s), req, opts)
}

// Delete deletes a storage config and returns it.
//
// DELETE /configs/storage/{id}
func (s *StorageConfigsService) Delete(
	ctx context.Context, id ID, opts ...CallOption,
) (*StorageConfig, error) {
	req := request{op: transport.StorageConfigsDelete, id: id}
	return do[StorageConfig](ctx, clientFor(s), req, opts)
}

// Test begins a test of the config and returns its task: Tasks.Wait tells how
// it ends. With WithAwait, the API holds its answer until then, for up to 10
// seconds. It may be repeated.
//
// POST /configs/storage/{id}/test
func (s *StorageConfigsService) Test(
	ctx context.Context, id ID, opts ...CallOption,
) (*Task, error) {
	return do[Task](ctx, clientFor(s), request{op: transport.StorageConfigsTest, id: id}, opts)
}

// StorageConfigEnsureParams describes the storage config that Ensure finds or
// creates.
type StorageConfigEnsureParams struct {
	URL               string        // required: "s3://bucket/path" or "gs://bucket/path"
	Credentials       Credentials   // required: see CredentialsFromFile
	SignedURLsEnabled *bool         // results carry URLs that need no credentials
	SignedURLsExpiry  time.Duration // how long such a URL works

	// ReplaceCredentials sends the Credentials even if the config is valid. Set
	// it after they have changed: the API does not tell which ones it has.
	ReplaceCredentials bool

	MakeKeyDefault          bool // publish the results of the calling key there
	MakeOrganisationDefault bool // and those of every key without a config of its own
}

func (p StorageConfigEnsureParams) create() StorageConfigCreateParams {
	return StorageConfigCreateParams{
		URL: p.URL, Credentials: p.Credentials,
		SignedURLsEnabled: p.SignedURLsEnabled, SignedURLsExpiry: p.SignedURLsExpiry,
	}
}

// matches reports whether a config has the settings that params ask for.
func (p StorageConfigEnsureParams) matches(c *StorageConfig) bool {
	return (p.SignedURLsEnabled == nil || *p.SignedURLsEnabled == c.SignedURLsEnabled) &&
		(p.SignedURLsExpiry == 0 || p.SignedURLsExpiry == c.SignedURLsExpiry)
}

// Ensure sets up a bucket for results. It finds or creates the storage config
// for the URL, has the API test it, and makes it a default if asked to. It can
// be called at every start.
//
// A valid config with the settings of params is left as it is, unless
// ReplaceCredentials is set: a test that fails would make it invalid for
// everyone. Any other config is given the credentials and settings of params and
// tested. A test that fails is repeated twice within a few seconds. Processes
// that start at the same time end with one config, if the API lists what it has
// created within 8 seconds. Otherwise some configs may be left: once they are
// listed, Ensure chooses the same one everywhere.
//
// If the config does not become valid, Ensure returns it with a *StateError
// that says what to check. ctx must leave more
// than 10 seconds for each test, because the API may hold its answer back.
//
// GET /configs/storage, POST /configs/storage, POST /configs/storage/{id},
// DELETE /configs/storage/{id}, POST /configs/storage/{id}/test,
// GET /tasks/{id}, GET /configs/storage/{id}, GET /key, POST /key,
// GET /organisation, POST /organisation
func (s *StorageConfigsService) Ensure(
	ctx context.Context, params StorageConfigEnsureParams, opts ...CallOption,
) (*StorageConfig, error) {
	const operation = "StorageConfigs.Ensure"
	if err := cmp.Or(params.create().check(), refuseReplay(opts)); err != nil {
		return nil, forOperation(operation, err)
	}
	e := &storageEnsurer{
		service: s, params: params, configs: map[ID]*StorageConfig{},
		awaiting: slices.Concat([]CallOption{WithAwait(maxAwait)}, opts),
		opts:     slices.Concat(opts, []CallOption{forManyCalls}),
	}
	run := ensuring{
		ensurer: e, client: clientFor(s), operation: operation,
		resource: "storage_config", url: params.URL,
		advice: "check that the bucket exists and that these credentials may write to it",
	}
	id, err := run.run(ctx)
	return e.configs[id], err
}

// storageEnsurer is the ensurer of storage configs.
type storageEnsurer struct {
	service        *StorageConfigsService
	params         StorageConfigEnsureParams
	opts, awaiting []CallOption
	configs        map[ID]*StorageConfig // as they were last seen
}

func (e *storageEnsurer) note(c *StorageConfig) anyConfig {
	e.configs[c.ID] = c
	return anyConfig{c.ID, c.URL, c.State, c.DateCreated}
}

func (e *storageEnsurer) list(ctx context.Context) (configs []anyConfig, err error) {
	for c, err := range e.service.All(ctx, StorageConfigListParams{}, e.opts...) {
		if err != nil {
			return nil, err
		}
		if sameURL(c.URL, e.params.URL) && c.State != ConfigDeactivated {
			configs = append(configs, e.note(c))
		}
	}
	return configs, nil
}

func (e *storageEnsurer) create(ctx context.Context) (anyConfig, error) {
	c, err := e.service.Create(ctx, e.params.create(), e.opts...)
	if err != nil {
		return anyConfig{}, err
	}
	return e.note(c), nil
}

func (e *storageEnsurer) prepare(
	ctx context.Context, chosen anyConfig, _ []anyConfig, created bool,
) (ConfigState, error) {
	left := chosen.state == ConfigValid && !e.params.ReplaceCredentials &&
		e.params.matches(e.configs[chosen.id])
	if created || left {
		return chosen.state, nil
	}
	params := StorageConfigUpdateParams(e.params.create())
	params.URL = "" // it is the same
	c, err := e.service.Update(ctx, chosen.id, params, e.opts...)
	if err != nil {
		return chosen.state, err
	}
	e.note(c)
	return ConfigNew, nil
}

func (e *storageEnsurer) test(ctx context.Context, id ID) (*Task, error) {
	return e.service.Test(ctx, id, e.awaiting...)
}

func (e *storageEnsurer) get(ctx context.Context, id ID) (anyConfig, *Response, error) {
	var resp Response
	c, err := e.service.Get(ctx, id, slices.Concat(e.opts, []CallOption{WithResponse(&resp)})...)
	if err != nil {
		return anyConfig{}, nil, err
	}
	return e.note(c), &resp, nil
}

func (e *storageEnsurer) remove(ctx context.Context, id ID) error {
	_, err := e.service.Delete(ctx, id, e.opts...)
	return err
}

func (e *storageEnsurer) adopt(ctx context.Context, id ID) error {
	return defaultConfigs{storage: id}.set(ctx, clientFor(e.service), e.opts,
		e.params.MakeKeyDefault, e.params.MakeOrganisationDefault)
}
