package ricloud

import (
	"context"
	"iter"
	"maps"
	"net/url"
	"slices"
	"time"

	"github.com/reincubate/ricloud-go/internal/transport"
)

// StorageConfig says where results are published.
type StorageConfig struct {
	ID                ID          `json:"id" wire:"strict"`
	Organisation      ID          `json:"organisation,omitempty"`
	Type              string      `json:"type"` // "s3" or "gs", from the URL
	URL               string      `json:"url"`  // "s3://bucket/path", "gs://bucket/path"
	SignedURLsEnabled bool        `json:"signed_urls_enabled"`
	SignedURLsExpiry  Duration    `json:"signed_urls_expiry,omitzero"`
	State             ConfigState `json:"state" wire:"strict"`
	DateCreated       time.Time   `json:"date_created,omitzero"`
}

// UnmarshalJSON reads a config, or its id alone, which then is all it has.
func (c *StorageConfig) UnmarshalJSON(b []byte) error {
	type plain StorageConfig
	return readRef(b, &c.ID, (*plain)(c))
}

func (c *StorageConfig) ident() ID { return c.ID }

// ConfigState is the state of a storage or webhook config.
type ConfigState string

// The states of a config (contract §14, §15).
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
	URL               string      // required: "s3://bucket/path" or "gs://bucket/path"
	Credentials       Credentials // required
	SignedURLsEnabled *bool       // results carry URLs that need no credentials
	SignedURLsExpiry  Duration    // how long such a URL works
}

func (p StorageConfigCreateParams) check() error {
	if err := checkURL(p.URL); err != nil {
		return err
	}
	if len(p.Credentials) == 0 {
		return invalid("Credentials", "is required")
	}
	for name, value := range p.Credentials {
		if value.IsZero() {
			return invalid("Credentials", name+" is empty")
		}
		if err := checkSecret("Credentials", value); err != nil {
			return err
		}
	}
	return nil
}

func (p StorageConfigCreateParams) secrets() []Secret { return p.Credentials.secrets() }

func (p StorageConfigCreateParams) wire() any { return StorageConfigUpdateParams(p).wire() }

// StorageConfigUpdateParams says what to change; fields left out stay as they
// are. A config that was fetched holds no credentials: do not write it back.
type StorageConfigUpdateParams struct {
	URL               string
	Credentials       Credentials
	SignedURLsEnabled *bool
	SignedURLsExpiry  Duration
}

func (p StorageConfigUpdateParams) check() error {
	if p.URL == "" {
		return nil
	}
	return checkURL(p.URL)
}

func (p StorageConfigUpdateParams) secrets() []Secret { return p.Credentials.secrets() }

func (p StorageConfigUpdateParams) wire() any {
	return struct {
		URL               string            `json:"url,omitempty"`
		Credentials       map[string]string `json:"credentials,omitempty"`
		SignedURLsEnabled *bool             `json:"signed_urls_enabled,omitempty"`
		SignedURLsExpiry  Duration          `json:"signed_urls_expiry,omitempty"`
	}{p.URL, p.Credentials.wire(), p.SignedURLsEnabled, p.SignedURLsExpiry}
}

// checkURL refuses a config's URL that has no scheme or no host. The error
// does not repeat it: people paste credentials into URLs.
func checkURL(raw string) error {
	if raw == "" {
		return invalid("URL", "is required")
	}
	if u, err := url.Parse(raw); err != nil || u.Scheme == "" || u.Host == "" {
		return invalid("URL", "must be a whole URL, with scheme and host or bucket")
	}
	return nil
}

// StorageConfigListParams filters and pages a list of storage configs.
type StorageConfigListParams struct{ ListParams }

// StorageConfigsService manages where results are published.
type StorageConfigsService service

// Create creates a storage config, which the API then tests: see Test.
//
// POST /configs/storage
func (s *StorageConfigsService) Create(ctx context.Context, params StorageConfigCreateParams, opts ...CallOption) (*StorageConfig, error) {
	return do[StorageConfig](ctx, s.client, request{op: transport.StorageConfigsCreate, body: params}, opts)
}

// Get returns a storage config, without its credentials.
//
// GET /configs/storage/{id}
func (s *StorageConfigsService) Get(ctx context.Context, id ID, opts ...CallOption) (*StorageConfig, error) {
	return do[StorageConfig](ctx, s.client, request{op: transport.StorageConfigsGet, id: id}, opts)
}

// List returns one page of storage configs.
//
// GET /configs/storage
func (s *StorageConfigsService) List(ctx context.Context, params StorageConfigListParams, opts ...CallOption) (*List[StorageConfig], error) {
	return list[StorageConfig](ctx, s.client, transport.StorageConfigsList, params, opts)
}

// All iterates over all storage configs, page by page.
//
// GET /configs/storage
func (s *StorageConfigsService) All(ctx context.Context, params StorageConfigListParams, opts ...CallOption) iter.Seq2[*StorageConfig, error] {
	return all[StorageConfig](ctx, s.client, transport.StorageConfigsList, params, opts)
}

// Update changes a storage config, which the API then tests, and returns it.
//
// POST /configs/storage/{id}
func (s *StorageConfigsService) Update(ctx context.Context, id ID, params StorageConfigUpdateParams, opts ...CallOption) (*StorageConfig, error) {
	return do[StorageConfig](ctx, s.client, request{op: transport.StorageConfigsUpdate, id: id, body: params}, opts)
}

// Delete deletes a storage config and returns it.
//
// DELETE /configs/storage/{id}
func (s *StorageConfigsService) Delete(ctx context.Context, id ID, opts ...CallOption) (*StorageConfig, error) {
	return do[StorageConfig](ctx, s.client, request{op: transport.StorageConfigsDelete, id: id}, opts)
}

// Test begins a test of the config and returns its task: Tasks.Wait tells how
// it ends. WithAwait lets the API hold its answer until then, up to 10
// seconds. It may be repeated.
//
// POST /configs/storage/{id}/test
func (s *StorageConfigsService) Test(ctx context.Context, id ID, opts ...CallOption) (*Task, error) {
	return do[Task](ctx, s.client, request{op: transport.StorageConfigsTest, id: id}, opts)
}

// StorageConfigEnsureParams says which storage config is to be there.
type StorageConfigEnsureParams struct {
	URL               string      // required: "s3://bucket/path" or "gs://bucket/path"
	Credentials       Credentials // required: see CredentialsFromFile
	SignedURLsEnabled *bool       // results carry URLs that need no credentials
	SignedURLsExpiry  Duration    // how long such a URL works

	MakeKeyDefault          bool // publish the results of the calling key there
	MakeOrganisationDefault bool // and of every key that has no storage config of its own
}

// Ensure makes results arrive in a bucket: it finds the storage config for the
// URL or creates it, has the API test it, and makes it a default if asked to.
// A config that is there is given the credentials and settings of params: the
// API does not tell whether they are the same. It can be called at every start.
//
// It returns the config also when it is not valid: the error then is a
// *StateError and says what to look at. Two calls at a time may create two
// configs.
//
// GET /configs/storage, POST /configs/storage, POST /configs/storage/{id}, POST
// /configs/storage/{id}/test, GET /tasks/{id}, GET /configs/storage/{id}, POST
// /key, POST /organisation.
func (s *StorageConfigsService) Ensure(ctx context.Context, params StorageConfigEnsureParams, opts ...CallOption) (*StorageConfig, error) {
	create := StorageConfigCreateParams{params.URL, params.Credentials, params.SignedURLsEnabled, params.SignedURLsExpiry}
	if err := create.check(); err != nil {
		return nil, forOperation("StorageConfigs.Ensure", err)
	}
	update := StorageConfigUpdateParams(create)
	update.URL = "" // it is the same
	return ensure(ctx, s.client, ensurer[StorageConfig]{
		resource: "storage_config",
		url:      params.URL,
		advice:   "does the bucket exist, and may these credentials write to it?",
		all: func(opts ...CallOption) iter.Seq2[*StorageConfig, error] {
			return s.All(ctx, StorageConfigListParams{}, opts...)
		},
		create: func(opts ...CallOption) (*StorageConfig, error) { return s.Create(ctx, create, opts...) },
		prepare: func(config *StorageConfig, created bool) error {
			if created {
				return nil
			}
			_, err := s.Update(ctx, config.ID, update, slices.Concat(opts, []CallOption{withoutAwait})...)
			return err
		},
		test: func(id ID, opts ...CallOption) (*Task, error) { return s.Test(ctx, id, opts...) },
		get:  func(id ID, opts ...CallOption) (*StorageConfig, error) { return s.Get(ctx, id, opts...) },
		adopt: func(id ID, opts ...CallOption) error {
			var err error
			if params.MakeKeyDefault {
				_, err = s.client.Keys.UpdateCurrent(ctx, KeyUpdateParams{StorageConfig: &id}, opts...)
			}
			if err == nil && params.MakeOrganisationDefault {
				_, err = s.client.Organisation.Update(ctx, OrganisationUpdateParams{StorageConfigDefault: &id}, opts...)
			}
			return err
		},
	}, opts)
}
