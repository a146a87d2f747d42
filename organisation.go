package ricloud

import (
	"context"
	"time"

	"github.com/reincubate/ricloud-go/internal/transport"
)

// Organisation owns the key that the Client uses, and other keys.
type Organisation struct {
	ID ID `json:"id" wire:"strict"`
	// Type is shown only to the API's own administrators.
	Type                 string              `json:"type,omitempty"`
	Name                 string              `json:"name"`
	Slug                 string              `json:"slug"`
	APIVersion           string              `json:"api_version,omitempty"`
	Config               PublishingConfig    `json:"config,omitzero"`
	Permissions          Permissions         `json:"permissions"` // no key can have more
	StorageConfigs       List[StorageConfig] `json:"storage_configs"`
	StorageConfigDefault ID                  `json:"storage_config_default"`
	WebhookConfigs       List[WebhookConfig] `json:"webhook_configs"`
	WebhookConfigDefault ID                  `json:"webhook_config_default"`
	State                OrganisationState   `json:"state"`
	DateCreated          time.Time           `json:"date_created,omitzero"`
}

// PublishingConfig holds settings of an organisation or a key. Those of a key
// override those of its organisation. A nil field is not set.
type PublishingConfig struct {
	// PublishSourceFiles also publishes the files that data was read from, such as
	// a database. It applies to Relay only.
	PublishSourceFiles *bool `json:"publish_source_files,omitempty"`
}

// OrganisationState is the state of an organisation.
type OrganisationState string

// The states of an organisation; see docs/contract.md#organisations.
const (
	// OrganisationUnconfigured means that there is no valid storage config: polls cannot publish.
	OrganisationUnconfigured OrganisationState = "unconfigured"
	OrganisationActive       OrganisationState = "active"
	OrganisationDeactivated  OrganisationState = "deactivated" // at the owner's request
	OrganisationBlocked      OrganisationState = "blocked"     // by the API's administrators
)

// OrganisationUpdateParams says what to change. Empty fields are not changed. A
// pointer to the empty ID clears a default:
//
//	ricloud.OrganisationUpdateParams{WebhookConfigDefault: new(ricloud.ID)}
type OrganisationUpdateParams struct {
	Name string `json:"name,omitempty"`
	// Config can be changed only with the key of an organisation administrator.
	Config               *PublishingConfig `json:"config,omitempty"`
	StorageConfigDefault *ID               `json:"storage_config_default,omitempty"`
	WebhookConfigDefault *ID               `json:"webhook_config_default,omitempty"`
}

// OrganisationService reads and changes the calling key's organisation.
type OrganisationService service

// Get returns the organisation of the calling key.
//
// GET /organisation
func (s *OrganisationService) Get(ctx context.Context, opts ...CallOption) (*Organisation, error) {
	return do[Organisation](ctx, clientFor(s), request{op: transport.OrganisationGet}, opts)
}

// Update changes the organisation and returns it.
//
// POST /organisation
func (s *OrganisationService) Update(
	ctx context.Context, params OrganisationUpdateParams, opts ...CallOption,
) (*Organisation, error) {
	r := request{op: transport.OrganisationUpdate, body: params}
	return do[Organisation](ctx, clientFor(s), r, opts)
}
