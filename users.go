package ricloud

import (
	"context"
	"iter"
	"net/url"
	"time"

	"github.com/reincubate/ricloud-go/internal/transport"
)

// User is an end user of yours, whose sources are read with consent.
type User struct {
	ID           ID        `json:"id" wire:"strict"`
	Organisation ID        `json:"organisation"`
	Key          ID        `json:"key"`
	Identifier   string    `json:"identifier"` // your own name for the user
	State        UserState `json:"state"`
	DateCreated  time.Time `json:"date_created,omitzero"`
}

func (u *User) ident() (kind string, id ID) { return "user", u.ID }

// UserState is the state of a user.
type UserState string

// The states of a user; see docs/contract.md#users.
const (
	UserActive      UserState = "active"
	UserDeactivated UserState = "deactivated" // by the organisation
	UserBlocked     UserState = "blocked"     // by the API's administrators
)

// UserCreateParams describes a user.
type UserCreateParams struct {
	Identifier string `json:"identifier"`    // required
	Key        ID     `json:"key,omitempty"` // default: the calling key
}

func (p UserCreateParams) check() error { return required("Identifier", p.Identifier) }

// UserUpdateParams says what to change. Empty fields are not changed.
type UserUpdateParams struct {
	Identifier string `json:"identifier,omitempty"`
}

// UserListParams filters and pages a list of users.
type UserListParams struct {
	ListParams

	Identifier string // an assumption: no document shows this filter
}

func (p UserListParams) values() url.Values {
	q := p.ListParams.values()
	setFilter(q, "identifier", p.Identifier)
	return q
}

// UsersService manages users.
type UsersService service

// Create returns the user with the identifier, and creates it if there is none.
// It is therefore safe to repeat, and is retried like a read.
//
// POST /users
func (s *UsersService) Create(
	ctx context.Context, params UserCreateParams, opts ...CallOption,
) (*User, error) {
	return do[User](ctx, clientFor(s), request{op: transport.UsersCreate, body: params}, opts)
}

// Get returns a user.
//
// GET /users/{id}
func (s *UsersService) Get(ctx context.Context, id ID, opts ...CallOption) (*User, error) {
	return do[User](ctx, clientFor(s), request{op: transport.UsersGet, id: id}, opts)
}

// List returns one page of users.
//
// GET /users
func (s *UsersService) List(
	ctx context.Context, params UserListParams, opts ...CallOption,
) (*List[User], error) {
	return list[User](ctx, clientFor(s), transport.UsersList, params, opts)
}

// All iterates over all users, page by page.
//
// GET /users
func (s *UsersService) All(
	ctx context.Context, params UserListParams, opts ...CallOption,
) iter.Seq2[*User, error] {
	return all[User](ctx, clientFor(s), transport.UsersList, params, opts)
}

// Update changes a user and returns it.
//
// POST /users/{id}
func (s *UsersService) Update(
	ctx context.Context, id ID, params UserUpdateParams, opts ...CallOption,
) (*User, error) {
	return do[User](ctx, clientFor(s), request{op: transport.UsersUpdate, id: id, body: params}, opts)
}
