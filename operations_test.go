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
			op: transport.OrganisationGet,
			call: func(ctx context.Context, c *Client) error {
				return result(c.Organisation.Get(ctx))
			}, path: "/organisation", query: "", body: "",
		},
		{
			op: transport.OrganisationUpdate,
			call: func(ctx context.Context, c *Client) error {
				return result(c.Organisation.Update(ctx, OrganisationUpdateParams{
					Name: "Müller & Söhne", Config: &PublishingConfig{PublishSourceFiles: new(false)},
					StorageConfigDefault: new(ID("2")), WebhookConfigDefault: new(ID),
				}))
			}, path: "/organisation", query: "",
			body: `{"name":"Müller & Söhne","config":{"publish_source_files":false},` +
				`"storage_config_default":"2","webhook_config_default":null}`,
		},
		{
			op: transport.KeysCreate,
			call: func(ctx context.Context, c *Client) error {
				return result(c.Keys.Create(ctx, KeyCreateParams{StorageConfig: "2"}))
			}, path: "/keys", query: "", body: `{"storage_config":"2"}`,
		},
		{op: transport.KeysGet, call: func(ctx context.Context, c *Client) error {
			return result(c.Keys.Get(ctx, "1"))
		}, path: "/keys/1", query: "", body: ""},
		{op: transport.KeysList, call: func(ctx context.Context, c *Client) error {
			return result(c.Keys.List(ctx, KeyListParams{page}))
		}, path: "/keys", query: pageQuery, body: ""},
		{
			op: transport.KeysUpdate,
			call: func(ctx context.Context, c *Client) error {
				return result(c.Keys.Update(ctx, "1", KeyUpdateParams{
					Config:        &PublishingConfig{},
					StorageConfig: new(ID), WebhookConfig: new(ID("5")),
				}))
			},
			path:  "/keys/1",
			query: "",
			body:  `{"config":{},"storage_config":null,"webhook_config":"5"}`,
		},
		{
			op: transport.KeysCurrent,
			call: func(ctx context.Context, c *Client) error {
				return result(c.Keys.Current(ctx))
			}, path: "/key", query: "", body: "",
		},
		{
			op: transport.KeysUpdateCurrent,
			call: func(ctx context.Context, c *Client) error {
				return result(c.Keys.UpdateCurrent(ctx, KeyUpdateParams{}))
			}, path: "/key", query: "", body: `{}`,
		},
		{
			op: transport.KeysRotate,
			call: func(ctx context.Context, c *Client) error {
				return result(c.Keys.Rotate(ctx, "1", KeyRotateParams{Expire: 90 * time.Minute}))
			}, path: "/keys/1/rotate", query: "", body: `{"expire":5400}`,
		},
		{
			op: transport.PermissionsCreate,
			call: func(ctx context.Context, c *Client) error {
				return result(c.Permissions.Create(ctx,
					PermissionsCreateParams{Key: "1", Scopes: map[string][]ScopeLimit{"task_type:*": nil}}))
			},
			path:  "/permissions",
			query: "",
			body:  `{"key":"1","scopes":{"task_type:*":[]}}`,
		},
		{
			op: transport.PermissionsGet,
			call: func(ctx context.Context, c *Client) error {
				return result(c.Permissions.Get(ctx, "1"))
			}, path: "/permissions/1", query: "", body: "",
		},
		{
			op: transport.PermissionsList,
			call: func(ctx context.Context, c *Client) error {
				return result(c.Permissions.List(ctx, PermissionsListParams{page}))
			}, path: "/permissions", query: pageQuery, body: "",
		},
		{
			op: transport.PermissionsUpdate,
			call: func(ctx context.Context, c *Client) error {
				return result(c.Permissions.Update(ctx, "1",
					PermissionsUpdateParams{Scopes: map[string][]ScopeLimit{"x:y": {{
						Level: "user",
						Type:  "count",
						Value: 3,
					}}}}))
			},
			path:  "/permissions/1",
			query: "",
			body:  `{"scopes":{"x:y":[{"level":"user","type":"count","value":3}]}}`,
		},
		{
			op: transport.UsersCreate,
			call: func(ctx context.Context, c *Client) error {
				return result(c.Users.Create(ctx, UserCreateParams{Identifier: "müller 日本 <x>", Key: "4"}))
			},
			path:  "/users",
			query: "",
			body:  `{"identifier":"müller 日本 <x>","key":"4"}`,
		},
		{op: transport.UsersGet, call: func(ctx context.Context, c *Client) error {
			return result(c.Users.Get(ctx, "a/b c"))
		}, path: "/users/a%2Fb%20c", query: "", body: ""},
		{
			op: transport.UsersList,
			call: func(ctx context.Context, c *Client) error {
				return result(c.Users.List(ctx, UserListParams{Identifier: "x&y"}, WithQuery("z", "1"),
					WithQuery("z", "2")))
			}, path: "/users", query: "identifier=x%26y&z=1&z=2", body: "",
		},
		{
			op: transport.UsersUpdate,
			call: func(ctx context.Context, c *Client) error {
				return result(c.Users.Update(ctx, "1", UserUpdateParams{Identifier: "x"}))
			}, path: "/users/1", query: "", body: `{"identifier":"x"}`,
		},
		{
			op: transport.SourcesGet,
			call: func(ctx context.Context, c *Client) error {
				return result(c.Sources.Get(ctx, "1"))
			}, path: "/sources/1", query: "", body: "",
		},
		{
			op: transport.SourcesList,
			call: func(ctx context.Context, c *Client) error {
				return result(
					c.Sources.List(ctx, SourceListParams{User: "1", Identifier: "x", ListParams: page}),
				)
			},
			path:  "/sources",
			query: "after_id=a%2F1&before_id=b&identifier=x&limit=5&user=1",
			body:  "",
		},
		{
			op: transport.SourcesUpdate,
			call: func(ctx context.Context, c *Client) error {
				return result(c.Sources.Update(ctx, "1", SourceUpdateParams{State: SourceDeactivated}))
			}, path: "/sources/1", query: "", body: `{"state":"deactivated"}`,
		},
		{
			op: transport.SourcesChildren,
			call: func(ctx context.Context, c *Client) error {
				return result(c.Sources.Children(ctx, "1", page))
			}, path: "/sources/1/children", query: pageQuery, body: "",
		},
		{
			op: transport.SessionsCreate,
			call: func(ctx context.Context, c *Client) error {
				return result(c.Sessions.Create(ctx, SessionCreateParams{
					Source:  SourceParams{User: "1", Type: SourceICloudAccount, Identifier: "jane@example.com"},
					Payload: SessionPayload{Password: NewSecret(`pa$$ "word"`), Code: NewSecret("123456")},
				}))
			}, path: "/sessions", query: "",
			body: `{"source":{"user":"1","type":"icloud.account","identifier":"jane@example.com"},` +
				`"payload":{"password":"pa$$ \"word\"","code":"123456"}}`,
		},
		{
			op: transport.SessionsCreate,
			call: func(ctx context.Context, c *Client) error {
				return result(c.Sessions.Create(ctx, SessionCreateParams{
					Source:  SourceParams{User: "1", Type: SourceRelayInstance},
					Payload: SessionPayload{Code: NewSecret("PAIR-1234")},
				}))
			}, path: "/sessions", query: "",
			body: `{"source":{"user":"1","type":"rirelay.instance"},"payload":{"code":"PAIR-1234"}}`,
		},
		{
			op: transport.SessionsGet,
			call: func(ctx context.Context, c *Client) error {
				return result(c.Sessions.Get(ctx, "s"))
			}, path: "/sessions/s", query: "", body: "",
		},
		{
			op: transport.SessionsList,
			call: func(ctx context.Context, c *Client) error {
				return result(c.Sessions.List(ctx,
					SessionListParams{Source: "1", State: SessionActive, ListParams: ListParams{Limit: 1}}))
			}, path: "/sessions", query: "limit=1&source=1&state=active", body: "",
		},
		{
			op: transport.SessionsDelete,
			call: func(ctx context.Context, c *Client) error {
				return result(c.Sessions.Delete(ctx, "s"))
			}, path: "/sessions/s", query: "", body: "",
		},
		{
			op: transport.PollsCreate,
			call: func(ctx context.Context, c *Client) error {
				return result(c.Polls.Create(ctx,
					PollCreateParams{Session: "s", Source: "x", Type: "data", Payload: PollPayload{
						InfoTypes: []string{"*"}, DataTypes: []string{"callkit.calls"}, Files: []ID{"a/b c"},
						PublishSourceFiles: new(false), Since: noon, Until: noon,
					}}))
			}, path: "/polls", query: "",
			body: `{"session":"s","source":"x","type":"data","payload":{"info_types":["*"],` +
				`"data_types":["callkit.calls"],"files":["a/b c"],"publish_source_files":false,` +
				`"since":"2026-11-23T12:00:00.000Z","until":"2026-11-23T12:00:00.000Z"}}`,
		},
		{
			op: transport.PollsCreate,
			call: func(ctx context.Context, c *Client) error {
				return result(c.Polls.Create(ctx, PollCreateParams{Subscription: "sub", Payload: payload}))
			},
			path:  "/polls",
			query: "",
			body:  `{"subscription":"sub","payload":{"data_types":["callkit.calls"]}}`,
		},
		{op: transport.PollsGet, call: func(ctx context.Context, c *Client) error {
			return result(c.Polls.Get(ctx, "p"))
		}, path: "/polls/p", query: "", body: ""},
		{
			op: transport.PollsList,
			call: func(ctx context.Context, c *Client) error {
				return result(c.Polls.List(ctx,
					PollListParams{Session: "s", Subscription: "sub", Requestor: "subscription"}))
			},
			path:  "/polls",
			query: "requestor=subscription&session=s&subscription=sub",
			body:  "",
		},
		{
			op: transport.SubscriptionsCreate,
			call: func(ctx context.Context, c *Client) error {
				return result(c.Subscriptions.Create(ctx, SubscriptionCreateParams{
					Session: "s", Source: "x", PollPayload: payload, Interval: time.Hour, DateStart: noon,
					DateEnd: noon,
				}))
			}, path: "/subscriptions", query: "",
			body: `{"session":"s","source":"x","poll_payload":{"data_types":["callkit.calls"]},` +
				`"interval":3600,` +
				`"date_start":"2026-11-23T12:00:00.000Z","date_end":"2026-11-23T12:00:00.000Z"}`,
		},
		{
			op: transport.SubscriptionsGet,
			call: func(ctx context.Context, c *Client) error {
				return result(c.Subscriptions.Get(ctx, "s"))
			}, path: "/subscriptions/s", query: "", body: "",
		},
		{
			op: transport.SubscriptionsList,
			call: func(ctx context.Context, c *Client) error {
				return result(c.Subscriptions.List(ctx, SubscriptionListParams{page}))
			}, path: "/subscriptions", query: pageQuery, body: "",
		},
		{
			op: transport.SubscriptionsDelete,
			call: func(ctx context.Context, c *Client) error {
				return result(c.Subscriptions.Delete(ctx, "s"))
			}, path: "/subscriptions/s", query: "", body: "",
		},
		{op: transport.TasksGet, call: func(ctx context.Context, c *Client) error {
			return result(c.Tasks.Get(ctx, "t"))
		}, path: "/tasks/t", query: "", body: ""},
		{
			op: transport.TasksList,
			call: func(ctx context.Context, c *Client) error {
				return result(c.Tasks.List(ctx, TaskListParams{SourceType: SourceMock}))
			}, path: "/tasks", query: "source_type=mocks.mock", body: "",
		},
		{
			op: transport.ResultsGet,
			call: func(ctx context.Context, c *Client) error {
				return result(c.Results.Get(ctx, "r"))
			}, path: "/results/r", query: "", body: "",
		},
		{
			op: transport.ResultsList,
			call: func(ctx context.Context, c *Client) error {
				return result(c.Results.List(ctx, ResultListParams{Task: "t", State: ResultConsumed}))
			}, path: "/results", query: "state=consumed&task=t", body: "",
		},
		{
			op: transport.ResultsAcknowledge,
			call: func(ctx context.Context, c *Client) error {
				return result(c.Results.Acknowledge(ctx, "1"))
			}, path: "/results/1/ack", query: "", body: "",
		},
		{
			op: transport.ResultsAcknowledgeAll,
			call: func(ctx context.Context, c *Client) error {
				return c.Results.AcknowledgeAll(ctx, []ID{"r1", "r2"})
			}, path: "/results/ack", query: "", body: `{"results":["r1","r2"]}`,
		},
		{
			op: transport.EventsGet,
			call: func(ctx context.Context, c *Client) error {
				return result(c.Events.Get(ctx, "e"))
			}, path: "/events/e", query: "", body: "",
		},
		{
			op: transport.EventsList,
			call: func(ctx context.Context, c *Client) error {
				return result(c.Events.List(ctx,
					EventListParams{Type: "poll", Action: "completed", State: EventFailed}))
			}, path: "/events", query: "action=completed&state=failed&type=poll", body: "",
		},
		{
			op: transport.StorageConfigsCreate,
			call: func(ctx context.Context, c *Client) error {
				return result(c.StorageConfigs.Create(ctx, StorageConfigCreateParams{
					URL: "s3://bucket/path", Credentials: Credentials{
						"access_key_id":     NewSecret("AK"),
						"secret_access_key": NewSecret("SK"),
					},
					SignedURLsEnabled: new(true), SignedURLsExpiry: time.Hour,
				}))
			}, path: "/configs/storage", query: "",
			body: `{"url":"s3://bucket/path",` +
				`"credentials":{"access_key_id":"AK","secret_access_key":"SK"},` +
				`"signed_urls_enabled":true,"signed_urls_expiry":3600}`,
		},
		{
			op: transport.StorageConfigsGet,
			call: func(ctx context.Context, c *Client) error {
				return result(c.StorageConfigs.Get(ctx, "1"))
			}, path: "/configs/storage/1", query: "", body: "",
		},
		{
			op: transport.StorageConfigsList,
			call: func(ctx context.Context, c *Client) error {
				return result(c.StorageConfigs.List(ctx, StorageConfigListParams{page}))
			}, path: "/configs/storage", query: pageQuery, body: "",
		},
		{
			op: transport.StorageConfigsUpdate,
			call: func(ctx context.Context, c *Client) error {
				return result(c.StorageConfigs.Update(ctx, "1",
					StorageConfigUpdateParams{SignedURLsEnabled: new(false)}))
			}, path: "/configs/storage/1", query: "", body: `{"signed_urls_enabled":false}`,
		},
		{
			op: transport.StorageConfigsDelete,
			call: func(ctx context.Context, c *Client) error {
				return result(c.StorageConfigs.Delete(ctx, "1"))
			}, path: "/configs/storage/1", query: "", body: "",
		},
		{
			op: transport.StorageConfigsTest,
			call: func(ctx context.Context, c *Client) error {
				return result(c.StorageConfigs.Test(ctx, "1"))
			}, path: "/configs/storage/1/test", query: "", body: "",
		},
		{
			op: transport.WebhookConfigsCreate,
			call: func(ctx context.Context, c *Client) error {
				return result(c.WebhookConfigs.Create(ctx,
					WebhookConfigCreateParams{URL: "https://example.com/webhooks/"}))
			},
			path:  "/configs/webhook",
			query: "",
			body:  `{"url":"https://example.com/webhooks/"}`,
		},
		{
			op: transport.WebhookConfigsGet,
			call: func(ctx context.Context, c *Client) error {
				return result(c.WebhookConfigs.Get(ctx, "1"))
			}, path: "/configs/webhook/1", query: "", body: "",
		},
		{
			op: transport.WebhookConfigsList,
			call: func(ctx context.Context, c *Client) error {
				return result(c.WebhookConfigs.List(ctx, WebhookConfigListParams{page}))
			}, path: "/configs/webhook", query: pageQuery, body: "",
		},
		{
			op: transport.WebhookConfigsUpdate,
			call: func(ctx context.Context, c *Client) error {
				return result(c.WebhookConfigs.Update(ctx, "1",
					WebhookConfigUpdateParams{URL: "https://example.com"}))
			}, path: "/configs/webhook/1", query: "", body: `{"url":"https://example.com"}`,
		},
		{
			op: transport.WebhookConfigsDelete,
			call: func(ctx context.Context, c *Client) error {
				return result(c.WebhookConfigs.Delete(ctx, "1"))
			}, path: "/configs/webhook/1", query: "", body: "",
		},
		{
			op: transport.WebhookConfigsTest,
			call: func(ctx context.Context, c *Client) error {
				return result(c.WebhookConfigs.Test(ctx, "1"))
			}, path: "/configs/webhook/1/test", query: "", body: "",
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
			operation: "Users.Create",
			field:     "Identifier",
			call: func(ctx context.Context, c *Client) error {
				return result(c.Users.Create(ctx, UserCreateParams{}))
			},
		},
		{
			operation: "Users.Get",
			field:     "id",
			call: func(ctx context.Context, c *Client) error {
				return result(c.Users.Get(ctx, ""))
			},
		},
		{
			operation: "Users.Get",
			field:     "id",
			call: func(ctx context.Context, c *Client) error {
				return result(c.Users.Get(ctx, ".."))
			},
		},
		{
			operation: "Users.Get",
			field:     "id",
			call: func(ctx context.Context, c *Client) error {
				return result(c.Users.Get(ctx, "."))
			},
		},
		{
			operation: "Users.List",
			field:     "Limit",
			call: func(ctx context.Context, c *Client) error {
				return result(c.Users.List(ctx, UserListParams{ListParams: ListParams{Limit: 1001}}))
			},
		},
		{
			operation: "Users.List",
			field:     "Limit",
			call: func(ctx context.Context, c *Client) error {
				return result(drain(c.Users.All(ctx, UserListParams{ListParams: ListParams{Limit: -1}})))
			},
		},
		{
			operation: "Sessions.Create",
			field:     "Source.User",
			call: func(ctx context.Context, c *Client) error {
				return result(c.Sessions.Create(ctx, SessionCreateParams{}))
			},
		},
		{
			operation: "Sessions.Create",
			field:     "Source.Type",
			call: func(ctx context.Context, c *Client) error {
				return result(c.Sessions.Login(ctx, SessionCreateParams{Source: SourceParams{User: "1"}}, nil))
			},
		},
		{
			operation: "Sessions.Create",
			field:     "Source.Identifier",
			call: func(ctx context.Context, c *Client) error {
				return result(c.Sessions.Create(ctx,
					SessionCreateParams{Source: SourceParams{User: "1", Type: SourceICloudAccount}}))
			},
		},
		{
			operation: "Sessions.Create",
			field:     "Payload.Password",
			call: func(ctx context.Context, c *Client) error {
				return result(c.Sessions.Create(ctx, SessionCreateParams{Source: account}))
			},
		},
		{
			operation: "Sessions.Create",
			field:     "Payload.Code",
			call: func(ctx context.Context, c *Client) error {
				return result(c.Sessions.Create(ctx,
					SessionCreateParams{Source: SourceParams{User: "1", Type: SourceRelayInstance}}))
			},
		},
		{
			operation: "Sessions.Create",
			field:     "WithAwait",
			call: func(ctx context.Context, c *Client) error {
				return result(c.Sessions.Create(ctx, SessionCreateParams{
					Source:  account,
					Payload: SessionPayload{Password: NewSecret("x")},
				}, WithAwait(-1)))
			},
		},
		{
			operation: "Polls.Create",
			field:     "Session",
			call: func(ctx context.Context, c *Client) error {
				return result(c.Polls.Create(ctx, PollCreateParams{Payload: payload}))
			},
		},
		{
			operation: "Polls.Create",
			field:     "Subscription",
			call: func(ctx context.Context, c *Client) error {
				return result(c.Polls.Create(ctx,
					PollCreateParams{Session: "s", Subscription: "s", Payload: payload}))
			},
		},
		{
			operation: "Polls.Create",
			field:     "Payload",
			call: func(ctx context.Context, c *Client) error {
				return result(c.Polls.Create(ctx, PollCreateParams{Session: "s"}))
			},
		},
		{
			operation: "Subscriptions.Create",
			field:     "Session",
			call: func(ctx context.Context, c *Client) error {
				return result(c.Subscriptions.Create(ctx, SubscriptionCreateParams{PollPayload: payload}))
			},
		},
		{
			operation: "Subscriptions.Create",
			field:     "PollPayload",
			call: func(ctx context.Context, c *Client) error {
				return result(c.Subscriptions.Create(ctx, SubscriptionCreateParams{Session: "s"}))
			},
		},
		{
			operation: "Subscriptions.Create",
			field:     "Interval",
			call: func(ctx context.Context, c *Client) error {
				return result(c.Subscriptions.Create(ctx,
					SubscriptionCreateParams{Session: "s", PollPayload: payload, Interval: -1}))
			},
		},
		{
			operation: "Permissions.Create",
			field:     "Scopes",
			call: func(ctx context.Context, c *Client) error {
				return result(c.Permissions.Create(ctx, PermissionsCreateParams{}))
			},
		},
		{
			operation: "Permissions.Update",
			field:     "Scopes",
			call: func(ctx context.Context, c *Client) error {
				return result(c.Permissions.Update(ctx, "1", PermissionsUpdateParams{}))
			},
		},
		{
			operation: "StorageConfigs.Create",
			field:     "URL",
			call: func(ctx context.Context, c *Client) error {
				return result(c.StorageConfigs.Create(ctx, StorageConfigCreateParams{}))
			},
		},
		{
			operation: "StorageConfigs.Create",
			field:     "Credentials",
			call: func(ctx context.Context, c *Client) error {
				return result(c.StorageConfigs.Create(ctx, StorageConfigCreateParams{URL: "s3://bucket"}))
			},
		},
		{
			operation: "StorageConfigs.Create",
			field:     "Credentials",
			call: func(ctx context.Context, c *Client) error {
				return result(c.StorageConfigs.Create(ctx, StorageConfigCreateParams{
					URL:         "s3://bucket",
					Credentials: Credentials{"access_key_id": NewSecret("")},
				}))
			},
		},
		{
			operation: "StorageConfigs.Update",
			field:     "URL",
			call: func(ctx context.Context, c *Client) error {
				return result(c.StorageConfigs.Update(ctx, "1", StorageConfigUpdateParams{URL: "bucket"}))
			},
		},
		{
			operation: "WebhookConfigs.Create",
			field:     "URL",
			call: func(ctx context.Context, c *Client) error {
				return result(c.WebhookConfigs.Create(ctx,
					WebhookConfigCreateParams{URL: "example.com/webhooks"}))
			},
		},
		{
			operation: "WebhookConfigs.Update",
			field:     "URL",
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
