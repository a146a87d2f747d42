package ricloud

import (
	"context"
	"io"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/jarcoal/httpmock"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/reincubate/ricloud-go/internal/transport"
)

// operationCase is one operation: how a caller makes it, and what is then sent.
type operationCase struct {
	op    transport.Operation
	call  func(context.Context, *Client) error
	path  string
	query string
	body  string
}

func result[T any](_ T, err error) error { return err }

func drain[T any](seq func(func(*T, error) bool)) (n int, err error) {
	seq(func(_ *T, e error) bool {
		if e != nil {
			err = e
			return false
		}
		n++
		return true
	})
	return n, err
}

// operationCases covers every row of the operation table at least once.
func operationCases() []operationCase {
	noon := time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)
	payload := PollPayload{DataTypes: []string{"callkit.calls"}}
	page := ListParams{Limit: 5, AfterID: "a/1", BeforeID: "b"}
	const pageQuery = "after_id=a%2F1&before_id=b&limit=5"
	return []operationCase{
		{
			op: transport.OrganisationGet, path: "/organisation",
			call: func(ctx context.Context, c *Client) error {
				return result(c.Organisation.Get(ctx))
			},
		},
		{
			op: transport.OrganisationUpdate, path: "/organisation",
			body: `{"name":"Müller & Söhne","config":{"publish_source_files":false},` +
				`"storage_config_default":"2","webhook_config_default":null}`,
			call: func(ctx context.Context, c *Client) error {
				return result(c.Organisation.Update(ctx, OrganisationUpdateParams{
					Name: "Müller & Söhne", Config: &PublishingConfig{PublishSourceFiles: new(false)},
					StorageConfigDefault: new(ID("2")), WebhookConfigDefault: new(ID),
				}))
			},
		},
		{
			op: transport.KeysCreate, path: "/keys", body: `{"storage_config":"2"}`,
			call: func(ctx context.Context, c *Client) error {
				return result(c.Keys.Create(ctx, KeyCreateParams{StorageConfig: "2"}))
			},
		},
		{
			op: transport.KeysGet, path: "/keys/1",
			call: func(ctx context.Context, c *Client) error {
				return result(c.Keys.Get(ctx, "1"))
			},
		},
		{
			op: transport.KeysList, path: "/keys", query: pageQuery,
			call: func(ctx context.Context, c *Client) error {
				return result(c.Keys.List(ctx, KeyListParams{page}))
			},
		},
		{
			op: transport.KeysUpdate, path: "/keys/1",
			body: `{"config":{},"storage_config":null,"webhook_config":"5"}`,
			call: func(ctx context.Context, c *Client) error {
				return result(c.Keys.Update(ctx, "1", KeyUpdateParams{
					Config:        &PublishingConfig{},
					StorageConfig: new(ID), WebhookConfig: new(ID("5")),
				}))
			},
		},
		{
			op: transport.KeysCurrent, path: "/key",
			call: func(ctx context.Context, c *Client) error {
				return result(c.Keys.Current(ctx))
			},
		},
		{
			op: transport.KeysUpdateCurrent, path: "/key", body: `{}`,
			call: func(ctx context.Context, c *Client) error {
				return result(c.Keys.UpdateCurrent(ctx, KeyUpdateParams{}))
			},
		},
		{
			op: transport.KeysRotate, path: "/keys/1/rotate", body: `{"expire":5400}`,
			call: func(ctx context.Context, c *Client) error {
				return result(c.Keys.Rotate(ctx, "1", KeyRotateParams{Expire: 90 * time.Minute}))
			},
		},
		{
			op: transport.PermissionsCreate, path: "/permissions",
			body: `{"key":"1","scopes":{"task_type:*":[]}}`,
			call: func(ctx context.Context, c *Client) error {
				return result(c.Permissions.Create(ctx,
					PermissionsCreateParams{Key: "1", Scopes: map[string][]ScopeLimit{"task_type:*": nil}}))
			},
		},
		{
			op: transport.PermissionsGet, path: "/permissions/1",
			call: func(ctx context.Context, c *Client) error {
				return result(c.Permissions.Get(ctx, "1"))
			},
		},
		{
			op: transport.PermissionsList, path: "/permissions", query: pageQuery,
			call: func(ctx context.Context, c *Client) error {
				return result(c.Permissions.List(ctx, PermissionsListParams{page}))
			},
		},
		{
			op: transport.PermissionsUpdate, path: "/permissions/1",
			body: `{"scopes":{"x:y":[{"level":"user","type":"count","value":3}]}}`,
			call: func(ctx context.Context, c *Client) error {
				return result(c.Permissions.Update(ctx, "1",
					PermissionsUpdateParams{Scopes: map[string][]ScopeLimit{
						"x:y": {{Level: "user", Type: "count", Value: 3}},
					}}))
			},
		},
		{
			op: transport.UsersCreate, path: "/users",
			body: `{"identifier":"müller 日本 <x>","key":"4"}`,
			call: func(ctx context.Context, c *Client) error {
				return result(c.Users.Create(ctx, UserCreateParams{Identifier: "müller 日本 <x>", Key: "4"}))
			},
		},
		{
			op: transport.UsersGet, path: "/users/a%2Fb%20c",
			call: func(ctx context.Context, c *Client) error {
				return result(c.Users.Get(ctx, "a/b c"))
			},
		},
		{
			op: transport.UsersList, path: "/users", query: "identifier=x%26y&z=1&z=2",
			call: func(ctx context.Context, c *Client) error {
				return result(c.Users.List(ctx, UserListParams{Identifier: "x&y"}, WithQuery("z", "1"),
					WithQuery("z", "2")))
			},
		},
		{
			op: transport.UsersUpdate, path: "/users/1", body: `{"identifier":"x"}`,
			call: func(ctx context.Context, c *Client) error {
				return result(c.Users.Update(ctx, "1", UserUpdateParams{Identifier: "x"}))
			},
		},
		{
			op: transport.SourcesGet, path: "/sources/1",
			call: func(ctx context.Context, c *Client) error {
				return result(c.Sources.Get(ctx, "1"))
			},
		},
		{
			op: transport.SourcesList, path: "/sources",
			query: "after_id=a%2F1&before_id=b&identifier=x&limit=5&user=1",
			call: func(ctx context.Context, c *Client) error {
				return result(
					c.Sources.List(ctx, SourceListParams{User: "1", Identifier: "x", ListParams: page}),
				)
			},
		},
		{
			op: transport.SourcesUpdate, path: "/sources/1", body: `{"state":"deactivated"}`,
			call: func(ctx context.Context, c *Client) error {
				return result(c.Sources.Update(ctx, "1", SourceUpdateParams{State: SourceDeactivated}))
			},
		},
		{
			op: transport.SourcesChildren, path: "/sources/1/children", query: pageQuery,
			call: func(ctx context.Context, c *Client) error {
				return result(c.Sources.Children(ctx, "1", page))
			},
		},
		{
			op: transport.SessionsCreate, path: "/sessions",
			body: `{"source":{"user":"1","type":"icloud.account","identifier":"jane@example.com"},` +
				`"payload":{"password":"pa$$ \"word\"","code":"123456"}}`,
			call: func(ctx context.Context, c *Client) error {
				return result(c.Sessions.Create(ctx, SessionCreateParams{
					Source:  SourceParams{User: "1", Type: SourceICloudAccount, Identifier: "jane@example.com"},
					Payload: SessionPayload{Password: NewSecret(`pa$$ "word"`), Code: NewSecret("123456")},
				}))
			},
		},
		{
			op: transport.SessionsCreate, path: "/sessions",
			body: `{"source":{"user":"1","type":"rirelay.instance"},"payload":{"code":"PAIR-1234"}}`,
			call: func(ctx context.Context, c *Client) error {
				return result(c.Sessions.Create(ctx, SessionCreateParams{
					Source:  SourceParams{User: "1", Type: SourceRelayInstance},
					Payload: SessionPayload{Code: NewSecret("PAIR-1234")},
				}))
			},
		},
		{
			op: transport.SessionsGet, path: "/sessions/s",
			call: func(ctx context.Context, c *Client) error {
				return result(c.Sessions.Get(ctx, "s"))
			},
		},
		{
			op: transport.SessionsList, path: "/sessions",
			query: "limit=1&source=1&state=active",
			call: func(ctx context.Context, c *Client) error {
				return result(c.Sessions.List(ctx,
					SessionListParams{Source: "1", State: SessionActive, ListParams: ListParams{Limit: 1}}))
			},
		},
		{
			op: transport.SessionsDelete, path: "/sessions/s",
			call: func(ctx context.Context, c *Client) error {
				return result(c.Sessions.Delete(ctx, "s"))
			},
		},
		{
			op: transport.PollsCreate, path: "/polls",
			body: `{"session":"s","source":"x","type":"data","payload":{"info_types":["*"],` +
				`"data_types":["callkit.calls"],"files":["a/b c"],"publish_source_files":false,` +
				`"since":"2026-11-23T12:00:00.000Z","until":"2026-11-23T12:00:00.000Z"}}`,
			call: func(ctx context.Context, c *Client) error {
				return result(c.Polls.Create(ctx,
					PollCreateParams{Session: "s", Source: "x", Type: "data", Payload: PollPayload{
						InfoTypes: []string{"*"}, DataTypes: []string{"callkit.calls"}, Files: []ID{"a/b c"},
						PublishSourceFiles: new(false), Since: noon, Until: noon,
					}}))
			},
		},
		{
			op: transport.PollsCreate, path: "/polls",
			body: `{"subscription":"sub","payload":{"data_types":["callkit.calls"]}}`,
			call: func(ctx context.Context, c *Client) error {
				return result(c.Polls.Create(ctx, PollCreateParams{Subscription: "sub", Payload: payload}))
			},
		},
		{
			op: transport.PollsGet, path: "/polls/p",
			call: func(ctx context.Context, c *Client) error {
				return result(c.Polls.Get(ctx, "p"))
			},
		},
		{
			op: transport.PollsList, path: "/polls",
			query: "requestor=subscription&session=s&subscription=sub",
			call: func(ctx context.Context, c *Client) error {
				return result(c.Polls.List(ctx,
					PollListParams{Session: "s", Subscription: "sub", Requestor: "subscription"}))
			},
		},
		{
			op: transport.SubscriptionsCreate, path: "/subscriptions",
			body: `{"session":"s","source":"x","poll_payload":{"data_types":["callkit.calls"]},` +
				`"interval":3600,` +
				`"date_start":"2026-11-23T12:00:00.000Z","date_end":"2026-11-23T12:00:00.000Z"}`,
			call: func(ctx context.Context, c *Client) error {
				return result(c.Subscriptions.Create(ctx, SubscriptionCreateParams{
					Session: "s", Source: "x", PollPayload: payload, Interval: time.Hour, DateStart: noon,
					DateEnd: noon,
				}))
			},
		},
		{
			op: transport.SubscriptionsGet, path: "/subscriptions/s",
			call: func(ctx context.Context, c *Client) error {
				return result(c.Subscriptions.Get(ctx, "s"))
			},
		},
		{
			op: transport.SubscriptionsList, path: "/subscriptions", query: pageQuery,
			call: func(ctx context.Context, c *Client) error {
				return result(c.Subscriptions.List(ctx, SubscriptionListParams{page}))
			},
		},
		{
			op: transport.SubscriptionsDelete, path: "/subscriptions/s",
			call: func(ctx context.Context, c *Client) error {
				return result(c.Subscriptions.Delete(ctx, "s"))
			},
		},
		{
			op: transport.TasksGet, path: "/tasks/t",
			call: func(ctx context.Context, c *Client) error {
				return result(c.Tasks.Get(ctx, "t"))
			},
		},
		{
			op: transport.TasksList, path: "/tasks", query: "source_type=mocks.mock",
			call: func(ctx context.Context, c *Client) error {
				return result(c.Tasks.List(ctx, TaskListParams{SourceType: SourceMock}))
			},
		},
		{
			op: transport.ResultsGet, path: "/results/r",
			call: func(ctx context.Context, c *Client) error {
				return result(c.Results.Get(ctx, "r"))
			},
		},
		{
			op: transport.ResultsList, path: "/results", query: "state=consumed&task=t",
			call: func(ctx context.Context, c *Client) error {
				return result(c.Results.List(ctx, ResultListParams{Task: "t", State: ResultConsumed}))
			},
		},
		{
			op: transport.ResultsAcknowledge, path: "/results/1/ack",
			call: func(ctx context.Context, c *Client) error {
				return result(c.Results.Acknowledge(ctx, "1"))
			},
		},
		{
			op: transport.ResultsAcknowledgeAll, path: "/results/ack",
			body: `{"results":["r1","r2"]}`,
			call: func(ctx context.Context, c *Client) error {
				return c.Results.AcknowledgeAll(ctx, []ID{"r1", "r2"})
			},
		},
		{
			op: transport.EventsGet, path: "/events/e",
			call: func(ctx context.Context, c *Client) error {
				return result(c.Events.Get(ctx, "e"))
			},
		},
		{
			op: transport.EventsList, path: "/events",
			query: "action=completed&state=failed&type=poll",
			call: func(ctx context.Context, c *Client) error {
				return result(c.Events.List(ctx,
					EventListParams{Type: "poll", Action: "completed", State: EventFailed}))
			},
		},
		{
			op: transport.StorageConfigsCreate, path: "/configs/storage",
			body: `{"url":"s3://bucket/path",` +
				`"credentials":{"access_key_id":"AK","secret_access_key":"SK"},` +
				`"signed_urls_enabled":true,"signed_urls_expiry":3600}`,
			call: func(ctx context.Context, c *Client) error {
				return result(c.StorageConfigs.Create(ctx, StorageConfigCreateParams{
					URL: "s3://bucket/path", Credentials: Credentials{
						"access_key_id":     NewSecret("AK"),
						"secret_access_key": NewSecret("SK"),
					},
					SignedURLsEnabled: new(true), SignedURLsExpiry: time.Hour,
				}))
			},
		},
		{
			op: transport.StorageConfigsGet, path: "/configs/storage/1",
			call: func(ctx context.Context, c *Client) error {
				return result(c.StorageConfigs.Get(ctx, "1"))
			},
		},
		{
			op: transport.StorageConfigsList, path: "/configs/storage", query: pageQuery,
			call: func(ctx context.Context, c *Client) error {
				return result(c.StorageConfigs.List(ctx, StorageConfigListParams{page}))
			},
		},
		{
			op: transport.StorageConfigsUpdate, path: "/configs/storage/1",
			body: `{"signed_urls_enabled":false}`,
			call: func(ctx context.Context, c *Client) error {
				return result(c.StorageConfigs.Update(ctx, "1",
					StorageConfigUpdateParams{SignedURLsEnabled: new(false)}))
			},
		},
		{
			op: transport.StorageConfigsDelete, path: "/configs/storage/1",
			call: func(ctx context.Context, c *Client) error {
				return result(c.StorageConfigs.Delete(ctx, "1"))
			},
		},
		{
			op: transport.StorageConfigsTest, path: "/configs/storage/1/test",
			call: func(ctx context.Context, c *Client) error {
				return result(c.StorageConfigs.Test(ctx, "1"))
			},
		},
		{
			op: transport.WebhookConfigsCreate, path: "/configs/webhook",
			body: `{"url":"https://example.com/webhooks/"}`,
			call: func(ctx context.Context, c *Client) error {
				return result(c.WebhookConfigs.Create(ctx,
					WebhookConfigCreateParams{URL: "https://example.com/webhooks/"}))
			},
		},
		{
			op: transport.WebhookConfigsGet, path: "/configs/webhook/1",
			call: func(ctx context.Context, c *Client) error {
				return result(c.WebhookConfigs.Get(ctx, "1"))
			},
		},
		{
			op: transport.WebhookConfigsList, path: "/configs/webhook", query: pageQuery,
			call: func(ctx context.Context, c *Client) error {
				return result(c.WebhookConfigs.List(ctx, WebhookConfigListParams{page}))
			},
		},
		{
			op: transport.WebhookConfigsUpdate, path: "/configs/webhook/1",
			body: `{"url":"https://example.com"}`,
			call: func(ctx context.Context, c *Client) error {
				return result(c.WebhookConfigs.Update(ctx, "1",
					WebhookConfigUpdateParams{URL: "https://example.com"}))
			},
		},
		{
			op: transport.WebhookConfigsDelete, path: "/configs/webhook/1",
			call: func(ctx context.Context, c *Client) error {
				return result(c.WebhookConfigs.Delete(ctx, "1"))
			},
		},
		{
			op: transport.WebhookConfigsTest, path: "/configs/webhook/1/test",
			call: func(ctx context.Context, c *Client) error {
				return result(c.WebhookConfigs.Test(ctx, "1"))
			},
		},
	}
}

func TestEveryOperationOnTheWire(t *testing.T) {
	t.Parallel()
	covered := map[string]bool{}
	for _, tc := range operationCases() {
		op := tc.op
		covered[op.Name] = true
		t.Run(op.Name, func(t *testing.T) {
			t.Parallel()
			c, api := newTestClient(t, WithBaseURL("https://api.example.com/prefix/"))
			require.NoError(t, tc.call(t.Context(), c))
			require.Len(t, api.all(), 1)
			got := api.last()
			assert.Equal(t, op.Method, got.Method)
			assert.Equal(t, "/prefix"+tc.path, got.Path)
			assert.Equal(t, tc.query, got.Query)
			assert.Equal(t, tc.body, got.Body)
			assert.Equal(t, "Token test-token", got.Header.Get("Authorization"))
			assert.Equal(t, "application/json", got.Header.Get("Accept"))
			assert.True(t, strings.HasPrefix(got.Header.Get("User-Agent"), "ricloud-go/"+Version),
				got.Header.Get("User-Agent"))
			assert.Empty(t, got.Header.Get("Ricloud-Await"))
			if tc.body != "" {
				assert.Equal(t, "application/json", got.Header.Get("Content-Type"))
			}
		})
	}
	for _, op := range transport.Operations() {
		assert.True(t, covered[op.Name], "%s is tried by no test", op.Name)
	}
}

func TestAwaitIsSentWhereItIsKnown(t *testing.T) {
	t.Parallel()
	c, api := newTestClient(t)
	_, err := c.WebhookConfigs.Test(t.Context(), "1", WithAwait(3*time.Second))
	require.NoError(t, err)
	assert.Equal(t, "3", api.last().Header.Get("Ricloud-Await"))

	_, err = c.Polls.Get(t.Context(), "p", WithAwait(time.Second))
	require.EqualError(t, err, "ricloud: Polls.Get: WithAwait does not apply to this call")
	assert.Len(t, api.all(), 1)
}

func TestBadParamsAreRefusedBeforeAnyRequest(t *testing.T) {
	t.Parallel()
	payload := PollPayload{DataTypes: []string{"x"}}
	account := SourceParams{User: "1", Type: SourceICloudAccount, Identifier: "jane"}
	tests := []struct {
		operation, field string
		call             func(context.Context, *Client) error
	}{
		{
			operation: "Users.Create", field: "Identifier",
			call: func(ctx context.Context, c *Client) error {
				return result(c.Users.Create(ctx, UserCreateParams{}))
			},
		},
		{
			operation: "Users.Get", field: "id",
			call: func(ctx context.Context, c *Client) error {
				return result(c.Users.Get(ctx, ""))
			},
		},
		{
			operation: "Users.Get", field: "id",
			call: func(ctx context.Context, c *Client) error {
				return result(c.Users.Get(ctx, ".."))
			},
		},
		{
			operation: "Users.Get", field: "id",
			call: func(ctx context.Context, c *Client) error {
				return result(c.Users.Get(ctx, "."))
			},
		},
		{
			operation: "Users.List", field: "Limit",
			call: func(ctx context.Context, c *Client) error {
				return result(c.Users.List(ctx, UserListParams{ListParams: ListParams{Limit: 1001}}))
			},
		},
		{
			operation: "Users.List", field: "Limit",
			call: func(ctx context.Context, c *Client) error {
				return result(drain(c.Users.All(ctx, UserListParams{ListParams: ListParams{Limit: -1}})))
			},
		},
		{
			operation: "Sessions.Create", field: "Source.User",
			call: func(ctx context.Context, c *Client) error {
				return result(c.Sessions.Create(ctx, SessionCreateParams{}))
			},
		},
		{
			operation: "Sessions.Create", field: "Source.Type",
			call: func(ctx context.Context, c *Client) error {
				return result(c.Sessions.Login(ctx, SessionCreateParams{Source: SourceParams{User: "1"}}, nil))
			},
		},
		{
			operation: "Sessions.Create", field: "Source.Identifier",
			call: func(ctx context.Context, c *Client) error {
				return result(c.Sessions.Create(ctx,
					SessionCreateParams{Source: SourceParams{User: "1", Type: SourceICloudAccount}}))
			},
		},
		{
			operation: "Sessions.Create", field: "Payload.Password",
			call: func(ctx context.Context, c *Client) error {
				return result(c.Sessions.Create(ctx, SessionCreateParams{Source: account}))
			},
		},
		{
			operation: "Sessions.Create", field: "Payload.Code",
			call: func(ctx context.Context, c *Client) error {
				return result(c.Sessions.Create(ctx,
					SessionCreateParams{Source: SourceParams{User: "1", Type: SourceRelayInstance}}))
			},
		},
		{
			operation: "Sessions.Create", field: "WithAwait",
			call: func(ctx context.Context, c *Client) error {
				return result(c.Sessions.Create(ctx, SessionCreateParams{
					Source:  account,
					Payload: SessionPayload{Password: NewSecret("x")},
				}, WithAwait(-1)))
			},
		},
		{
			operation: "Sessions.Create", field: "WithAwait",
			call: func(ctx context.Context, c *Client) error {
				return result(c.Sessions.Create(ctx, SessionCreateParams{
					Source:  account,
					Payload: SessionPayload{Password: NewSecret("x")},
				}, WithAwait(11*time.Second)))
			},
		},
		{
			operation: "Polls.Create", field: "Payload.Until",
			call: func(ctx context.Context, c *Client) error {
				now := time.Now()
				return result(c.Polls.Create(ctx, PollCreateParams{Session: "1", Payload: PollPayload{
					DataTypes: []string{"a.b"}, Since: now, Until: now.Add(-time.Second),
				}}))
			},
		},
		{
			operation: "Subscriptions.Create", field: "DateEnd",
			call: func(ctx context.Context, c *Client) error {
				now := time.Now()
				return result(c.Subscriptions.Create(ctx, SubscriptionCreateParams{
					Session: "1", PollPayload: payload, DateStart: now, DateEnd: now.Add(-time.Second),
				}))
			},
		},
		{
			operation: "Polls.Create", field: "Session",
			call: func(ctx context.Context, c *Client) error {
				return result(c.Polls.Create(ctx, PollCreateParams{Payload: payload}))
			},
		},
		{
			operation: "Polls.Create", field: "Subscription",
			call: func(ctx context.Context, c *Client) error {
				return result(c.Polls.Create(ctx,
					PollCreateParams{Session: "s", Subscription: "s", Payload: payload}))
			},
		},
		{
			operation: "Polls.Create", field: "Payload",
			call: func(ctx context.Context, c *Client) error {
				return result(c.Polls.Create(ctx, PollCreateParams{Session: "s"}))
			},
		},
		{
			operation: "Subscriptions.Create", field: "Session",
			call: func(ctx context.Context, c *Client) error {
				return result(c.Subscriptions.Create(ctx, SubscriptionCreateParams{PollPayload: payload}))
			},
		},
		{
			operation: "Subscriptions.Create", field: "PollPayload",
			call: func(ctx context.Context, c *Client) error {
				return result(c.Subscriptions.Create(ctx, SubscriptionCreateParams{Session: "s"}))
			},
		},
		{
			operation: "Subscriptions.Create", field: "Interval",
			call: func(ctx context.Context, c *Client) error {
				return result(c.Subscriptions.Create(ctx,
					SubscriptionCreateParams{Session: "s", PollPayload: payload, Interval: -1}))
			},
		},
		{
			operation: "Subscriptions.Create", field: "Interval",
			call: func(ctx context.Context, c *Client) error {
				return result(c.Subscriptions.Create(ctx,
					SubscriptionCreateParams{Session: "s", PollPayload: payload, Interval: 3600}))
			},
		},
		{
			operation: "Keys.Rotate", field: "Expire",
			call: func(ctx context.Context, c *Client) error {
				return result(c.Keys.Rotate(ctx, "1", KeyRotateParams{Expire: 3600}))
			},
		},
		{
			operation: "StorageConfigs.Update", field: "SignedURLsExpiry",
			call: func(ctx context.Context, c *Client) error {
				return result(c.StorageConfigs.Update(ctx, "1",
					StorageConfigUpdateParams{SignedURLsExpiry: time.Second - 1}))
			},
		},
		{
			operation: "StorageConfigs.Create", field: "SignedURLsExpiry",
			call: func(ctx context.Context, c *Client) error {
				return result(c.StorageConfigs.Create(ctx, StorageConfigCreateParams{
					URL: "s3://bucket", Credentials: Credentials{"a": NewSecret("x")}, SignedURLsExpiry: -1,
				}))
			},
		},
		{
			operation: "Permissions.Create", field: "Scopes",
			call: func(ctx context.Context, c *Client) error {
				return result(c.Permissions.Create(ctx, PermissionsCreateParams{}))
			},
		},
		{
			operation: "Permissions.Update", field: "Scopes",
			call: func(ctx context.Context, c *Client) error {
				return result(c.Permissions.Update(ctx, "1", PermissionsUpdateParams{}))
			},
		},
		{
			operation: "StorageConfigs.Create", field: "URL",
			call: func(ctx context.Context, c *Client) error {
				return result(c.StorageConfigs.Create(ctx, StorageConfigCreateParams{}))
			},
		},
		{
			operation: "StorageConfigs.Create", field: "Credentials",
			call: func(ctx context.Context, c *Client) error {
				return result(c.StorageConfigs.Create(ctx, StorageConfigCreateParams{URL: "s3://bucket"}))
			},
		},
		{
			operation: "StorageConfigs.Create", field: "Credentials",
			call: func(ctx context.Context, c *Client) error {
				return result(c.StorageConfigs.Create(ctx, StorageConfigCreateParams{
					URL:         "s3://bucket",
					Credentials: Credentials{"access_key_id": NewSecret("")},
				}))
			},
		},
		{
			operation: "StorageConfigs.Update", field: "URL",
			call: func(ctx context.Context, c *Client) error {
				return result(c.StorageConfigs.Update(ctx, "1", StorageConfigUpdateParams{URL: "bucket"}))
			},
		},
		{
			operation: "WebhookConfigs.Create", field: "URL",
			call: func(ctx context.Context, c *Client) error {
				return result(c.WebhookConfigs.Create(ctx,
					WebhookConfigCreateParams{URL: "example.com/webhooks"}))
			},
		},
		{
			operation: "WebhookConfigs.Update", field: "URL",
			call: func(ctx context.Context, c *Client) error {
				return result(c.WebhookConfigs.Update(ctx, "1", WebhookConfigUpdateParams{}))
			},
		},
	}
	for _, tc := range tests {
		t.Run(tc.operation+" "+tc.field, func(t *testing.T) {
			t.Parallel()
			c, api := newTestClient(t)
			err := tc.call(t.Context(), c)
			var param *ParamError
			require.ErrorAs(t, err, &param)
			assert.Equal(t, tc.operation, param.Operation)
			assert.Equal(t, tc.field, param.Field)
			assert.Contains(t, err.Error(), tc.operation+": "+tc.field)
			assert.Empty(t, api.all(), "nothing may be sent")
		})
	}
}

func TestCallReachesUnknownEndpoints(t *testing.T) {
	t.Parallel()
	c, api := newTestClient(t)
	var out struct{ Name string }
	api.RegisterResponder(http.MethodPost, "=~.*", jsonResponder(200, `{"name":"x"}`))
	err := c.Call(t.Context(), http.MethodPost, "/of/tomorrow", map[string]int{"a": 1}, &out,
		WithQuery("q", "1"))
	require.NoError(t, err)
	assert.Equal(t, "x", out.Name)
	got := api.last()
	assert.Equal(t, []string{"POST", "/of/tomorrow", "q=1", `{"a":1}`},
		[]string{got.Method, got.Path, got.Query, got.Body})
	require.NoError(t, c.Call(t.Context(), http.MethodPost, "/of/tomorrow", nil, nil))
	assert.Empty(t, api.last().Body)
	require.NoError(t,
		c.Call(t.Context(), http.MethodPost, "/x", "a<b>&c", nil, WithAwait(2*time.Second)))
	assert.Equal(t, "2", api.last().Header.Get("Ricloud-Await"))
	assert.Equal(t, `"a<b>&c"`, api.last().Body, "as it is, and nothing behind it")
	err = c.Call(t.Context(), http.MethodPost, "/x", func() {}, nil)
	require.ErrorContains(t, err, "ricloud: Call POST /x: params cannot be encoded")
}

func TestCallIsRetriedWhereThatIsSafe(t *testing.T) {
	t.Parallel()
	for method, calls := range map[string]int{
		http.MethodGet: 5, http.MethodDelete: 5,
		http.MethodPost: 1, http.MethodPatch: 1,
	} {
		t.Run(method, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				c, api := newTestClient(t)
				api.RegisterNoResponder(httpmock.NewErrorResponder(io.ErrUnexpectedEOF))
				err := c.Call(t.Context(), method, "/x?signature=canary", nil, nil)
				require.ErrorContains(t, err, "ricloud: Call "+method+" /x: ")
				assert.NotContains(t, err.Error(), "canary")
				assert.Len(t, api.all(), calls)
			})
		})
	}
}
