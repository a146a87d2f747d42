package transport

import "net/http"

// Operation is one row of the API's endpoint table: everything that is true of
// an endpoint whoever calls it. The client, the sandbox, the tests and the
// docs all read it from here.
type Operation struct {
	Name   string // as a caller writes it: "Sessions.Create"
	Method string
	Path   string // template; each "{id}" takes one escaped path segment
	Replay bool   // may be sent again when the outcome of an attempt is unknown
	Await  bool   // the endpoint honours the Ricloud-Await header
}

// Op names a row of the table.
type Op uint8

// The operations of the contract, in the order of its endpoint table.
const (
	OrganisationGet Op = iota
	OrganisationUpdate
	KeysCreate
	KeysGet
	KeysList
	KeysUpdate
	KeysCurrent
	KeysUpdateCurrent
	KeysRotate
	PermissionsCreate
	PermissionsGet
	PermissionsList
	PermissionsUpdate
	UsersCreate
	UsersGet
	UsersList
	UsersUpdate
	SourcesGet
	SourcesList
	SourcesUpdate
	SourcesChildren
	SessionsCreate
	SessionsGet
	SessionsList
	SessionsDelete
	PollsCreate
	PollsGet
	PollsList
	SubscriptionsCreate
	SubscriptionsGet
	SubscriptionsList
	SubscriptionsDelete
	TasksGet
	TasksList
	ResultsGet
	ResultsList
	ResultsAcknowledge
	ResultsAcknowledgeAll
	EventsGet
	EventsList
	StorageConfigsCreate
	StorageConfigsGet
	StorageConfigsList
	StorageConfigsUpdate
	StorageConfigsDelete
	StorageConfigsTest
	WebhookConfigsCreate
	WebhookConfigsGet
	WebhookConfigsList
	WebhookConfigsUpdate
	WebhookConfigsDelete
	WebhookConfigsTest
	opCount
)

const (
	get    = http.MethodGet
	post   = http.MethodPost
	remove = http.MethodDelete
)

// Replay is true where a second request changes nothing: reads, deletes,
// partial updates, acknowledgements, config tests, and POST /users, which
// returns the existing user. Other creates, and rotate, make something new
// each time.
//
//nolint:gochecknoglobals // the read-only table is the point of this file
var operations = [opCount]Operation{
	OrganisationGet:       {"Organisation.Get", get, "/organisation", true, false},
	OrganisationUpdate:    {"Organisation.Update", post, "/organisation", true, false},
	KeysCreate:            {"Keys.Create", post, "/keys", false, false},
	KeysGet:               {"Keys.Get", get, "/keys/{id}", true, false},
	KeysList:              {"Keys.List", get, "/keys", true, false},
	KeysUpdate:            {"Keys.Update", post, "/keys/{id}", true, false},
	KeysCurrent:           {"Keys.Current", get, "/key", true, false},
	KeysUpdateCurrent:     {"Keys.UpdateCurrent", post, "/key", true, false},
	KeysRotate:            {"Keys.Rotate", post, "/keys/{id}/rotate", false, false},
	PermissionsCreate:     {"Permissions.Create", post, "/permissions", false, false},
	PermissionsGet:        {"Permissions.Get", get, "/permissions/{id}", true, false},
	PermissionsList:       {"Permissions.List", get, "/permissions", true, false},
	PermissionsUpdate:     {"Permissions.Update", post, "/permissions/{id}", true, false},
	UsersCreate:           {"Users.Create", post, "/users", true, false},
	UsersGet:              {"Users.Get", get, "/users/{id}", true, false},
	UsersList:             {"Users.List", get, "/users", true, false},
	UsersUpdate:           {"Users.Update", post, "/users/{id}", true, false},
	SourcesGet:            {"Sources.Get", get, "/sources/{id}", true, false},
	SourcesList:           {"Sources.List", get, "/sources", true, false},
	SourcesUpdate:         {"Sources.Update", post, "/sources/{id}", true, false},
	SourcesChildren:       {"Sources.Children", get, "/sources/{id}/children", true, false},
	SessionsCreate:        {"Sessions.Create", post, "/sessions", false, true},
	SessionsGet:           {"Sessions.Get", get, "/sessions/{id}", true, false},
	SessionsList:          {"Sessions.List", get, "/sessions", true, false},
	SessionsDelete:        {"Sessions.Delete", remove, "/sessions/{id}", true, false},
	PollsCreate:           {"Polls.Create", post, "/polls", false, false},
	PollsGet:              {"Polls.Get", get, "/polls/{id}", true, false},
	PollsList:             {"Polls.List", get, "/polls", true, false},
	SubscriptionsCreate:   {"Subscriptions.Create", post, "/subscriptions", false, false},
	SubscriptionsGet:      {"Subscriptions.Get", get, "/subscriptions/{id}", true, false},
	SubscriptionsList:     {"Subscriptions.List", get, "/subscriptions", true, false},
	SubscriptionsDelete:   {"Subscriptions.Delete", remove, "/subscriptions/{id}", true, false},
	TasksGet:              {"Tasks.Get", get, "/tasks/{id}", true, false},
	TasksList:             {"Tasks.List", get, "/tasks", true, false},
	ResultsGet:            {"Results.Get", get, "/results/{id}", true, false},
	ResultsList:           {"Results.List", get, "/results", true, false},
	ResultsAcknowledge:    {"Results.Acknowledge", post, "/results/{id}/ack", true, false},
	ResultsAcknowledgeAll: {"Results.AcknowledgeAll", post, "/results/ack", true, false},
	EventsGet:             {"Events.Get", get, "/events/{id}", true, false},
	EventsList:            {"Events.List", get, "/events", true, false},
	StorageConfigsCreate:  {"StorageConfigs.Create", post, "/configs/storage", false, false},
	StorageConfigsGet:     {"StorageConfigs.Get", get, "/configs/storage/{id}", true, false},
	StorageConfigsList:    {"StorageConfigs.List", get, "/configs/storage", true, false},
	StorageConfigsUpdate:  {"StorageConfigs.Update", post, "/configs/storage/{id}", true, false},
	StorageConfigsDelete:  {"StorageConfigs.Delete", remove, "/configs/storage/{id}", true, false},
	StorageConfigsTest:    {"StorageConfigs.Test", post, "/configs/storage/{id}/test", true, true},
	WebhookConfigsCreate:  {"WebhookConfigs.Create", post, "/configs/webhook", false, false},
	WebhookConfigsGet:     {"WebhookConfigs.Get", get, "/configs/webhook/{id}", true, false},
	WebhookConfigsList:    {"WebhookConfigs.List", get, "/configs/webhook", true, false},
	WebhookConfigsUpdate:  {"WebhookConfigs.Update", post, "/configs/webhook/{id}", true, false},
	WebhookConfigsDelete:  {"WebhookConfigs.Delete", remove, "/configs/webhook/{id}", true, false},
	WebhookConfigsTest:    {"WebhookConfigs.Test", post, "/configs/webhook/{id}/test", true, true},
}

// Operation returns op's row.
func (op Op) Operation() Operation { return operations[op] }

// Operations returns every row, in the order of the endpoint table.
func Operations() []Operation { return operations[:] }
