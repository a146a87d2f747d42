package ricloud

import (
	"context"
	"encoding/json"
	"iter"
	"time"

	"github.com/reincubate/ricloud-go/internal/transport"
)

// Permissions say what may be done, scope by scope.
type Permissions struct {
	ID           ID                      `json:"id" wire:"strict"`
	Organisation ID                      `json:"organisation,omitempty"`
	Identifier   string                  `json:"identifier,omitempty"` // "default" for an organisation's own
	Scopes       map[string][]ScopeLimit `json:"scopes"`               // "data_type:icloud.*" and its limits; none: unlimited
	DateCreated  time.Time               `json:"date_created,omitzero"`
}

// UnmarshalJSON reads permissions, or their id alone.
func (p *Permissions) UnmarshalJSON(b []byte) error {
	type plain Permissions
	return readRef(b, &p.ID, (*plain)(p))
}

func (p *Permissions) ident() ID { return p.ID }

// ScopeLimit bounds a scope.
type ScopeLimit struct {
	Level string `json:"level"` // what is counted within: "organisation", "key" or "user"
	Type  string `json:"type"`  // "count"
	Value int    `json:"value"` // the most that is allowed
}

// PermissionsCreateParams describes new permissions. The contract does not
// show what the API takes here; these are its attributes.
type PermissionsCreateParams struct {
	Key    ID                      `json:"key,omitempty"`
	Scopes map[string][]ScopeLimit `json:"scopes"` // required
}

func (p PermissionsCreateParams) check() error {
	if len(p.Scopes) == 0 {
		return invalid("Scopes", "is required")
	}
	return nil
}

// PermissionsUpdateParams replaces the scopes.
type PermissionsUpdateParams struct {
	Scopes map[string][]ScopeLimit `json:"scopes"` // required
}

func (p PermissionsUpdateParams) check() error {
	return PermissionsCreateParams{Scopes: p.Scopes}.check()
}

// MarshalJSON writes a scope without limits as the API does, as [].
func (p PermissionsCreateParams) MarshalJSON() ([]byte, error) {
	type plain PermissionsCreateParams
	p.Scopes = withoutNil(p.Scopes)
	return json.Marshal(plain(p))
}

// MarshalJSON writes a scope without limits as the API does, as [].
func (p PermissionsUpdateParams) MarshalJSON() ([]byte, error) {
	type plain PermissionsUpdateParams
	p.Scopes = withoutNil(p.Scopes)
	return json.Marshal(plain(p))
}

func withoutNil(scopes map[string][]ScopeLimit) map[string][]ScopeLimit {
	full := make(map[string][]ScopeLimit, len(scopes))
	for scope, limits := range scopes {
		full[scope] = append([]ScopeLimit{}, limits...)
	}
	return full
}

// PermissionsListParams filters and pages a list of permissions.
type PermissionsListParams struct{ ListParams }

// PermissionsService manages permissions.
type PermissionsService service

// Create creates permissions; they cannot exceed the organisation's own.
//
// POST /permissions
func (s *PermissionsService) Create(ctx context.Context, params PermissionsCreateParams, opts ...CallOption) (*Permissions, error) {
	return do[Permissions](ctx, s.client, request{op: transport.PermissionsCreate, body: params}, opts)
}

// Get returns permissions.
//
// GET /permissions/{id}
func (s *PermissionsService) Get(ctx context.Context, id ID, opts ...CallOption) (*Permissions, error) {
	return do[Permissions](ctx, s.client, request{op: transport.PermissionsGet, id: id}, opts)
}

// List returns one page of permissions.
//
// GET /permissions
func (s *PermissionsService) List(ctx context.Context, params PermissionsListParams, opts ...CallOption) (*List[Permissions], error) {
	return list[Permissions](ctx, s.client, transport.PermissionsList, params, opts)
}

// All iterates over all permissions, page by page.
//
// GET /permissions
func (s *PermissionsService) All(ctx context.Context, params PermissionsListParams, opts ...CallOption) iter.Seq2[*Permissions, error] {
	return all[Permissions](ctx, s.client, transport.PermissionsList, params, opts)
}

// Update changes permissions and returns them.
//
// POST /permissions/{id}
func (s *PermissionsService) Update(ctx context.Context, id ID, params PermissionsUpdateParams, opts ...CallOption) (*Permissions, error) {
	return do[Permissions](ctx, s.client, request{op: transport.PermissionsUpdate, id: id, body: params}, opts)
}
