package ricloud

import (
	"context"
	"encoding/json"
	"iter"
	"time"

	"github.com/reincubate/ricloud-go/internal/transport"
)

// Permissions say what a key may do, scope by scope.
type Permissions struct {
	ID           ID `json:"id" wire:"strict"`
	Organisation ID `json:"organisation,omitempty"`
	// Identifier is "default" in an organisation's own permissions.
	Identifier string `json:"identifier,omitempty"`
	// Scopes holds the limits of each scope, such as "data_type:icloud.*". A scope
	// without limits is unlimited.
	Scopes      map[string][]ScopeLimit `json:"scopes"`
	DateCreated time.Time               `json:"date_created,omitzero"`
}

// UnmarshalJSON reads permissions, or only their ID where the API sends no
// more.
func (p *Permissions) UnmarshalJSON(b []byte) error {
	type plain Permissions
	return readRef(b, &p.ID, (*plain)(p))
}

func (p *Permissions) ident() (kind string, id ID) { return "permissions", p.ID }

// ScopeLimit limits how often a scope may be used.
type ScopeLimit struct {
	Level string `json:"level"` // "organisation", "key" or "user": each has a count of its own
	Type  string `json:"type"`  // "count"
	Value int    `json:"value"` // the largest count that is allowed
}

// PermissionsCreateParams describes new permissions. Its fields are assumptions:
// no document shows what the API accepts.
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

// MarshalJSON writes a scope without limits as [].
func (p PermissionsCreateParams) MarshalJSON() ([]byte, error) {
	type plain PermissionsCreateParams
	p.Scopes = withoutNil(p.Scopes)
	return json.Marshal(plain(p))
}

// MarshalJSON writes a scope without limits as [].
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

// PermissionsListParams selects a page of a list of permissions.
type PermissionsListParams struct{ ListParams }

// PermissionsService manages permissions.
type PermissionsService service

// Create creates permissions. They cannot exceed those of the organisation.
//
// POST /permissions
func (s *PermissionsService) Create(
	ctx context.Context, params PermissionsCreateParams, opts ...CallOption,
) (*Permissions, error) {
	r := request{op: transport.PermissionsCreate, body: params}
	return do[Permissions](ctx, clientFor(s), r, opts)
}

// Get returns permissions.
//
// GET /permissions/{id}
func (s *PermissionsService) Get(
	ctx context.Context, id ID, opts ...CallOption,
) (*Permissions, error) {
	return do[Permissions](ctx, clientFor(s), request{op: transport.PermissionsGet, id: id}, opts)
}

// List returns one page of permissions.
//
// GET /permissions
func (s *PermissionsService) List(
	ctx context.Context, params PermissionsListParams, opts ...CallOption,
) (*List[Permissions], error) {
	return list[Permissions](ctx, clientFor(s), transport.PermissionsList, params, opts)
}

// All iterates over all permissions, page by page.
//
// GET /permissions
func (s *PermissionsService) All(
	ctx context.Context, params PermissionsListParams, opts ...CallOption,
) iter.Seq2[*Permissions, error] {
	return all[Permissions](ctx, clientFor(s), transport.PermissionsList, params, opts)
}

// Update changes permissions and returns them.
//
// POST /permissions/{id}
func (s *PermissionsService) Update(
	ctx context.Context, id ID, params PermissionsUpdateParams, opts ...CallOption,
) (*Permissions, error) {
	r := request{op: transport.PermissionsUpdate, id: id, body: params}
	return do[Permissions](ctx, clientFor(s), r, opts)
}
