package ricloudtest_test

import (
	"context"
	"net/http"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	ricloud "github.com/reincubate/ricloud-go"
	"github.com/reincubate/ricloud-go/internal/transport"
	"github.com/reincubate/ricloud-go/ricloudtest"
)

// first returns only the error of a call.
func first[T any](_ T, err error) error { return err }

// world is a server with one resource of each kind, so that each operation can be called.
type world struct {
	*ricloud.Client

	key                *ricloud.Key
	permissions        *ricloud.Permissions
	user               *ricloud.User
	session            *ricloud.Session
	device             *ricloud.Source
	subscription       *ricloud.Subscription
	poll               *ricloud.Poll
	storage, spare     *ricloud.StorageConfig
	webhook, spareHook *ricloud.WebhookConfig
	event              *ricloud.Event
}

const receiver = "https://receiver.test/webhooks"

func accept(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusOK) }

func newWorld(ctx context.Context, t *testing.T, c *ricloud.Client) *world {
	t.Helper()
	w := &world{Client: c}
	var err error
	credentials := ricloud.Credentials{
		"access_key_id":     ricloud.NewSecret("a"),
		"secret_access_key": ricloud.NewSecret("b"),
	}
	w.storage, err = c.StorageConfigs.Create(ctx,
		ricloud.StorageConfigCreateParams{URL: "s3://bucket/a", Credentials: credentials})
	require.NoError(t, err)
	w.spare, err = c.StorageConfigs.Create(ctx,
		ricloud.StorageConfigCreateParams{URL: "gs://bucket/b", Credentials: credentials})
	require.NoError(t, err)
	w.webhook, err = c.WebhookConfigs.Create(ctx, ricloud.WebhookConfigCreateParams{URL: receiver})
	require.NoError(t, err)
	w.spareHook, err = c.WebhookConfigs.Create(ctx,
		ricloud.WebhookConfigCreateParams{URL: receiver + "/2"})
	require.NoError(t, err)
	w.key, err = c.Keys.Create(ctx, ricloud.KeyCreateParams{StorageConfig: w.storage.ID})
	require.NoError(t, err)
	w.permissions, err = c.Permissions.Create(ctx, ricloud.PermissionsCreateParams{
		Key:    w.key.ID,
		Scopes: map[string][]ricloud.ScopeLimit{"task_type:*": nil},
	})
	require.NoError(t, err)
	w.user, err = c.Users.Create(ctx, ricloud.UserCreateParams{Identifier: "customer-42"})
	require.NoError(t, err)
	w.session, err = c.Sessions.Create(ctx, ricloud.SessionCreateParams{
		Source:  ricloud.SourceParams{User: w.user.ID, Type: ricloud.SourceRelayInstance},
		Payload: ricloud.SessionPayload{Code: ricloud.NewSecret("PAIR-1234")},
	})
	require.NoError(t, err)
	w.session, err = c.Sessions.Wait(ctx, w.session.ID)
	require.NoError(t, err)
	devices, err := c.Sources.Children(ctx, w.session.Source.ID, ricloud.ListParams{})
	require.NoError(t, err)
	require.Len(t, devices.Data, 1)
	w.device = &devices.Data[0]
	payload := ricloud.PollPayload{
		DataTypes: []string{"callkit.calls"}, InfoTypes: []string{"*"},
		Files: []ricloud.ID{"7a10photo"},
	}
	w.subscription, err = c.Subscriptions.Create(ctx,
		ricloud.SubscriptionCreateParams{
			Session: w.session.ID, Source: w.device.ID, PollPayload: payload,
			Interval: time.Hour,
		})
	require.NoError(t, err)
	w.subscription, err = c.Subscriptions.Wait(ctx, w.subscription.ID)
	require.NoError(t, err)
	w.poll, err = c.Polls.Create(ctx,
		ricloud.PollCreateParams{Subscription: w.subscription.ID, Payload: payload})
	require.NoError(t, err)
	w.poll, err = c.Polls.Wait(ctx, w.poll.ID)
	require.NoError(t, err)
	events, err := c.Events.List(ctx, ricloud.EventListParams{})
	require.NoError(t, err)
	require.NotEmpty(t, events.Data)
	w.event = &events.Data[0]
	return w
}

// rest calls every operation that was not needed to create the world.
func (w *world) rest(ctx context.Context) map[transport.Operation]error {
	result := w.poll.Results.Data[0].ID
	return map[transport.Operation]error{
		transport.OrganisationGet: first(w.Organisation.Get(ctx)),
		transport.OrganisationUpdate: first(w.Organisation.Update(ctx,
			ricloud.OrganisationUpdateParams{Name: "Müller & Söhne"})),
		transport.KeysGet:  first(w.Keys.Get(ctx, w.key.ID)),
		transport.KeysList: first(w.Keys.List(ctx, ricloud.KeyListParams{})),
		transport.KeysUpdate: first(w.Keys.Update(ctx, w.key.ID,
			ricloud.KeyUpdateParams{WebhookConfig: &w.webhook.ID})),
		transport.KeysCurrent: first(w.Keys.Current(ctx)),
		transport.KeysUpdateCurrent: first(w.Keys.UpdateCurrent(ctx,
			ricloud.KeyUpdateParams{Config: &ricloud.PublishingConfig{PublishSourceFiles: new(true)}})),
		transport.KeysRotate:      first(w.Keys.Rotate(ctx, w.key.ID, ricloud.KeyRotateParams{})),
		transport.PermissionsGet:  first(w.Permissions.Get(ctx, w.permissions.ID)),
		transport.PermissionsList: first(w.Permissions.List(ctx, ricloud.PermissionsListParams{})),
		transport.PermissionsUpdate: first(w.Permissions.Update(ctx, w.permissions.ID,
			ricloud.PermissionsUpdateParams{Scopes: map[string][]ricloud.ScopeLimit{"data_type:*": nil}})),
		transport.UsersGet: first(w.Users.Get(ctx, w.user.ID)),
		transport.UsersList: first(w.Users.List(ctx,
			ricloud.UserListParams{Identifier: "customer-42"})),
		transport.UsersUpdate: first(w.Users.Update(ctx, w.user.ID,
			ricloud.UserUpdateParams{Identifier: "customer-43"})),
		transport.SourcesGet: first(w.Sources.Get(ctx, w.device.ID)),
		transport.SourcesList: first(w.Sources.List(ctx,
			ricloud.SourceListParams{User: w.user.ID})),
		transport.SourcesUpdate: first(w.Sources.Update(ctx, w.device.ID,
			ricloud.SourceUpdateParams{State: "deactivated"})),
		transport.SessionsGet: first(w.Sessions.Get(ctx, w.session.ID)),
		transport.SessionsList: first(w.Sessions.List(ctx,
			ricloud.SessionListParams{Source: w.session.Source.ID})),
		transport.PollsList: first(w.Polls.List(ctx,
			ricloud.PollListParams{Subscription: w.subscription.ID, Requestor: "subscription"})),
		transport.SubscriptionsList: first(
			w.Subscriptions.List(ctx, ricloud.SubscriptionListParams{}),
		),
		transport.SubscriptionsDelete: first(w.Subscriptions.Delete(ctx, w.subscription.ID)),
		transport.SessionsDelete:      first(w.Sessions.Delete(ctx, w.session.ID)),
		transport.TasksGet:            first(w.Tasks.Get(ctx, w.poll.TasksSucceeded[0])),
		transport.TasksList: first(w.Tasks.List(ctx,
			ricloud.TaskListParams{SourceType: "rirelay.source"})),
		transport.ResultsGet:            first(w.Results.Get(ctx, result)),
		transport.ResultsList:           first(w.Results.List(ctx, ricloud.ResultListParams{})),
		transport.ResultsAcknowledge:    first(w.Results.Acknowledge(ctx, result)),
		transport.ResultsAcknowledgeAll: w.Results.AcknowledgeAll(ctx, []ricloud.ID{result}),
		transport.EventsGet:             first(w.Events.Get(ctx, w.event.ID)),
		transport.StorageConfigsGet:     first(w.StorageConfigs.Get(ctx, w.storage.ID)),
		transport.StorageConfigsList: first(w.StorageConfigs.List(ctx,
			ricloud.StorageConfigListParams{})),
		transport.StorageConfigsUpdate: first(w.StorageConfigs.Update(ctx, w.storage.ID,
			ricloud.StorageConfigUpdateParams{SignedURLsEnabled: new(true)})),
		transport.StorageConfigsTest:   first(w.StorageConfigs.Test(ctx, w.storage.ID)),
		transport.StorageConfigsDelete: first(w.StorageConfigs.Delete(ctx, w.spare.ID)),
		transport.WebhookConfigsGet:    first(w.WebhookConfigs.Get(ctx, w.webhook.ID)),
		transport.WebhookConfigsList: first(w.WebhookConfigs.List(ctx,
			ricloud.WebhookConfigListParams{})),
		transport.WebhookConfigsUpdate: first(w.WebhookConfigs.Update(ctx, w.webhook.ID,
			ricloud.WebhookConfigUpdateParams{URL: receiver})),
		transport.WebhookConfigsTest:   first(w.WebhookConfigs.Test(ctx, w.webhook.ID)),
		transport.WebhookConfigsDelete: first(w.WebhookConfigs.Delete(ctx, w.spareHook.ID)),
	}
}

func TestEveryOperation(t *testing.T) {
	t.Parallel()
	eachGeneration(t, func(t *testing.T, generation ricloudtest.Option) {
		synctest.Test(t, func(t *testing.T) {
			srv := newServer(t, generation,
				ricloudtest.WithReceiver(receiver, http.HandlerFunc(accept)))
			w := newWorld(t.Context(), t, srv.Client())
			for op, err := range w.rest(t.Context()) {
				require.NoError(t, err, op.Name)
			}
			counts := srv.CallCounts()
			for _, op := range transport.Operations() {
				assert.Positive(t, counts[op.Name], "%s was never called", op.Name)
			}
			for _, call := range srv.Calls() {
				assert.Less(t, call.Status, 300, "%s %s", call.Operation, call.Path)
			}
		})
	})
}
