package ricloud

import (
	"context"
	"iter"
	"net/url"
	"time"

	"github.com/reincubate/ricloud-go/internal/transport"
)

// Source is where data comes from: an iCloud account, or a device that runs
// Reincubate Relay. Creating a session creates its source. The API itself creates
// child sources.
type Source struct {
	ID   ID         `json:"id" wire:"strict"`
	User ID         `json:"user,omitempty"`
	Type SourceType `json:"type,omitempty"`
	// Identifier is unique within its type. For an account, it is the username.
	Identifier  string       `json:"identifier,omitempty"`
	Info        *SourceInfo  `json:"info,omitempty"`
	Parent      ID           `json:"parent,omitempty"`
	Children    List[Source] `json:"children,omitzero"`
	State       SourceState  `json:"state,omitempty"`
	DateCreated time.Time    `json:"date_created,omitzero"`
}

// UnmarshalJSON reads a source, or only its ID where the API sends no more.
func (s *Source) UnmarshalJSON(b []byte) error {
	type plain Source
	return readRef(b, &s.ID, (*plain)(s))
}

func (s *Source) ident() (kind string, id ID) { return "source", s.ID }

// SourceInfo describes the device of a rirelay.source.
type SourceInfo struct {
	Name         string `json:"name,omitempty"`
	IOSVersion   string `json:"ios_version,omitempty"`
	AppleModelID string `json:"apple_model_id,omitempty"`
	AppleSerial  string `json:"apple_serial,omitempty"`
	IsEncrypted  bool   `json:"is_encrypted,omitempty"`
}

// SourceType names a service and a kind of source within it. The API may send
// types that this package does not know.
type SourceType string

// The source types that are known; see docs/contract.md#sources.
const (
	SourceICloudAccount SourceType = "icloud.account"
	// SourceICloudBackup is a child of an account in early versions of the API.
	SourceICloudBackup  SourceType = "icloud.backup"
	SourceRelayInstance SourceType = "rirelay.instance" // a paired Relay app
	SourceRelayDevice   SourceType = "rirelay.source"   // a device: child of an instance
	SourceMock          SourceType = "mocks.mock"       // for tests; accepts any credentials
)

// SourceState is the state of a source.
type SourceState string

// The states of a source; see docs/contract.md#sources.
const (
	SourceUnvalidated SourceState = "unvalidated" // no session has succeeded yet
	SourceActive      SourceState = "active"
	SourceDeactivated SourceState = "deactivated" // by the organisation
	SourceBlocked     SourceState = "blocked"     // by the API's administrators
	// SourceLocked means that the service restricts the account until its owner unlocks it.
	SourceLocked SourceState = "locked"
)

// SourceUpdateParams says what to change. State is an assumption: no document
// shows what the API accepts.
type SourceUpdateParams struct {
	State SourceState `json:"state,omitempty"`
}

// SourceListParams filters and pages a list of sources.
type SourceListParams struct {
	ListParams

	User       ID
	Identifier string
}

func (p SourceListParams) values() url.Values {
	q := p.ListParams.values()
	setFilter(q, "user", p.User)
	setFilter(q, "identifier", p.Identifier)
	return q
}

// SourcesService reads sources.
type SourcesService service

// Get returns a source.
//
// GET /sources/{id}
func (s *SourcesService) Get(ctx context.Context, id ID, opts ...CallOption) (*Source, error) {
	return do[Source](ctx, clientFor(s), request{op: transport.SourcesGet, id: id}, opts)
}

// List returns one page of sources.
//
// GET /sources
func (s *SourcesService) List(
	ctx context.Context, params SourceListParams, opts ...CallOption,
) (*List[Source], error) {
	return list[Source](ctx, clientFor(s), transport.SourcesList, params, opts)
}

// All iterates over all sources, page by page.
//
// GET /sources
func (s *SourcesService) All(
	ctx context.Context, params SourceListParams, opts ...CallOption,
) iter.Seq2[*Source, error] {
	return all[Source](ctx, clientFor(s), transport.SourcesList, params, opts)
}

// Children returns one page of a source's children.
//
// GET /sources/{id}/children
func (s *SourcesService) Children(
	ctx context.Context, id ID, params ListParams, opts ...CallOption,
) (*List[Source], error) {
	return do[List[Source]](ctx, clientFor(s),
		request{op: transport.SourcesChildren, id: id, list: params}, opts)
}

// AllChildren iterates over all children of a source, page by page.
//
// GET /sources/{id}/children
func (s *SourcesService) AllChildren(
	ctx context.Context, id ID, params ListParams, opts ...CallOption,
) iter.Seq2[*Source, error] {
	return paginate[Source](ctx, clientFor(s),
		request{op: transport.SourcesChildren, id: id, list: params}, opts)
}

// Update changes a source and returns it.
//
// POST /sources/{id}
func (s *SourcesService) Update(
	ctx context.Context, id ID, params SourceUpdateParams, opts ...CallOption,
) (*Source, error) {
	r := request{op: transport.SourcesUpdate, id: id, body: params}
	return do[Source](ctx, clientFor(s), r, opts)
}
