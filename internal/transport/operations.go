package transport

import (
	"net/http"
	"strings"
)

// Operation describes one endpoint of the API. The client, the sandbox and the
// tests all read the table below.
type Operation struct {
	Name   string // as a caller writes it: "Sessions.Create"
	Method string
	Path   string // a template; each "{id}" takes one escaped path segment
	Traits Traits
}

// Traits are the properties in which operations differ.
type Traits uint8

// The traits of an operation.
const (
	// plain is no trait. An attempt of unknown outcome can be repeated, because
	// a second request changes nothing.
	plain Traits = 0
	// once means that each request makes something new. A request of unknown
	// outcome is never sent again.
	once Traits = 1 << iota
	// awaits means that the API honours the Ricloud-Await header.
	awaits
	// emptyOK means that the API may answer without a body, or with less than
	// the whole resource.
	emptyOK
)

const (
	get    = http.MethodGet
	post   = http.MethodPost
	remove = http.MethodDelete
)

// The operations that docs/contract.md lists, in its order. POST
// /users is plain: it returns the user that exists.
//
//nolint:gochecknoglobals // the read-only table is the point of this file
var (
	OrganisationGet    = Operation{"Organisation.Get", get, "/organisation", plain}
	OrganisationUpdate = Operation{"Organisation.Update", post, "/organisation", emptyOK}

	KeysCreate        = Operation{"Keys.Create", post, "/keys", once}
	KeysGet           = Operation{"Keys.Get", get, "/keys/{id}", plain}
	KeysList          = Operation{"Keys.List", get, "/keys", plain}
	KeysUpdate        = Operation{"Keys.Update", post, "/keys/{id}", emptyOK}
	KeysCurrent       = Operation{"Keys.Current", get, "/key", plain}
	KeysUpdateCurrent = Operation{"Keys.UpdateCurrent", post, "/key", emptyOK}
	KeysRotate        = Operation{"Keys.Rotate", post, "/keys/{id}/rotate", once}

	PermissionsCreate = Operation{"Permissions.Create", post, "/permissions", once}
	PermissionsGet    = Operation{"Permissions.Get", get, "/permissions/{id}", plain}
	PermissionsList   = Operation{"Permissions.List", get, "/permissions", plain}
	PermissionsUpdate = Operation{"Permissions.Update", post, "/permissions/{id}", emptyOK}

	UsersCreate = Operation{"Users.Create", post, "/users", plain}
	UsersGet    = Operation{"Users.Get", get, "/users/{id}", plain}
	UsersList   = Operation{"Users.List", get, "/users", plain}
	UsersUpdate = Operation{"Users.Update", post, "/users/{id}", emptyOK}

	SourcesGet      = Operation{"Sources.Get", get, "/sources/{id}", plain}
	SourcesList     = Operation{"Sources.List", get, "/sources", plain}
	SourcesUpdate   = Operation{"Sources.Update", post, "/sources/{id}", emptyOK}
	SourcesChildren = Operation{"Sources.Children", get, "/sources/{id}/children", plain}

	SessionsCreate = Operation{"Sessions.Create", post, "/sessions", once | awaits}
	SessionsGet    = Operation{"Sessions.Get", get, "/sessions/{id}", plain}
	SessionsList   = Operation{"Sessions.List", get, "/sessions", plain}
	SessionsDelete = Operation{"Sessions.Delete", remove, "/sessions/{id}", emptyOK}

	PollsCreate = Operation{"Polls.Create", post, "/polls", once}
	PollsGet    = Operation{"Polls.Get", get, "/polls/{id}", plain}
	PollsList   = Operation{"Polls.List", get, "/polls", plain}

	SubscriptionsCreate = Operation{"Subscriptions.Create", post, "/subscriptions", once}
	SubscriptionsGet    = Operation{"Subscriptions.Get", get, "/subscriptions/{id}", plain}
	SubscriptionsList   = Operation{"Subscriptions.List", get, "/subscriptions", plain}
	SubscriptionsDelete = Operation{"Subscriptions.Delete", remove, "/subscriptions/{id}", emptyOK}

	TasksGet  = Operation{"Tasks.Get", get, "/tasks/{id}", plain}
	TasksList = Operation{"Tasks.List", get, "/tasks", plain}

	ResultsGet            = Operation{"Results.Get", get, "/results/{id}", plain}
	ResultsList           = Operation{"Results.List", get, "/results", plain}
	ResultsAcknowledge    = Operation{"Results.Acknowledge", post, "/results/{id}/ack", emptyOK}
	ResultsAcknowledgeAll = Operation{"Results.AcknowledgeAll", post, "/results/ack", emptyOK}

	EventsGet  = Operation{"Events.Get", get, "/events/{id}", plain}
	EventsList = Operation{"Events.List", get, "/events", plain}

	StorageConfigsCreate = Operation{"StorageConfigs.Create", post, "/configs/storage", once}
	StorageConfigsGet    = Operation{"StorageConfigs.Get", get, "/configs/storage/{id}", plain}
	StorageConfigsList   = Operation{"StorageConfigs.List", get, "/configs/storage", plain}
	StorageConfigsUpdate = Operation{"StorageConfigs.Update", post, "/configs/storage/{id}", emptyOK}
	StorageConfigsDelete = Operation{"StorageConfigs.Delete", remove, "/configs/storage/{id}", emptyOK}
	StorageConfigsTest   = Operation{"StorageConfigs.Test", post, "/configs/storage/{id}/test", awaits}

	WebhookConfigsCreate = Operation{"WebhookConfigs.Create", post, "/configs/webhook", once}
	WebhookConfigsGet    = Operation{"WebhookConfigs.Get", get, "/configs/webhook/{id}", plain}
	WebhookConfigsList   = Operation{"WebhookConfigs.List", get, "/configs/webhook", plain}
	WebhookConfigsUpdate = Operation{"WebhookConfigs.Update", post, "/configs/webhook/{id}", emptyOK}
	WebhookConfigsDelete = Operation{"WebhookConfigs.Delete", remove, "/configs/webhook/{id}", emptyOK}
	WebhookConfigsTest   = Operation{"WebhookConfigs.Test", post, "/configs/webhook/{id}/test", awaits}
)

// ListURL reads a list at the URL that a resource has for it. It is not in the
// table.
//
//nolint:gochecknoglobals // read-only, like the table
var ListURL = Operation{"List.All", get, "{list url}", plain}

// Operations returns every operation, in the order of the table.
func Operations() []Operation {
	return []Operation{
		OrganisationGet, OrganisationUpdate, KeysCreate, KeysGet, KeysList, KeysUpdate,
		KeysCurrent, KeysUpdateCurrent, KeysRotate, PermissionsCreate, PermissionsGet,
		PermissionsList, PermissionsUpdate, UsersCreate, UsersGet, UsersList, UsersUpdate,
		SourcesGet, SourcesList, SourcesUpdate, SourcesChildren, SessionsCreate, SessionsGet,
		SessionsList, SessionsDelete, PollsCreate, PollsGet, PollsList, SubscriptionsCreate,
		SubscriptionsGet, SubscriptionsList, SubscriptionsDelete, TasksGet, TasksList,
		ResultsGet, ResultsList, ResultsAcknowledge, ResultsAcknowledgeAll, EventsGet,
		EventsList, StorageConfigsCreate, StorageConfigsGet, StorageConfigsList,
		StorageConfigsUpdate, StorageConfigsDelete, StorageConfigsTest, WebhookConfigsCreate,
		WebhookConfigsGet, WebhookConfigsList, WebhookConfigsUpdate, WebhookConfigsDelete,
		WebhookConfigsTest,
	}
}

// Once reports whether a request of unknown outcome must not be sent again.
func (op Operation) Once() bool { return op.Traits&once != 0 }

// Awaits reports whether the operation honours the Ricloud-Await header.
func (op Operation) Awaits() bool { return op.Traits&awaits != 0 }

// MayBeEmpty reports whether a success may come without the resource.
func (op Operation) MayBeEmpty() bool { return op.Traits&emptyOK != 0 }

// Shown returns the operation's name and path template as logs and hooks show
// them. The path of a custom operation is no template and may hold an ID or a
// query, so it is left out.
func (op Operation) Shown() (name, path string) {
	if name, _, custom := strings.Cut(op.Name, " "); custom {
		return name, ""
	}
	return op.Name, op.Path
}

// Custom returns the operation of an endpoint that is not in the table. It has
// the trait awaits and, unless it is a GET or a DELETE, the trait once.
func Custom(name, method, path string) Operation {
	traits := awaits | emptyOK
	if method != get && method != remove {
		traits |= once
	}
	return Operation{name, method, path, traits}
}
