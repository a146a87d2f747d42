package ricloudtest_test

import (
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	ricloud "github.com/reincubate/ricloud-go"
	"github.com/reincubate/ricloud-go/ricloudtest"
)

// A new key has the configs and settings with which it is created.
func TestKeyCreateWithConfigs(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		srv := newServer(t, ricloudtest.WithReceiver(receiver, &inbox{status: 200}),
			ricloudtest.WithWebhooks(receiver))
		ctx, token := t.Context(), srv.Token()
		pass(time.Minute)
		_, key := send(ctx, t, srv, "POST", "/keys", token,
			`{"storage_config":"1","webhook_config":"1","config":{"publish_source_files":true}}`)
		id, _ := key["id"].(string)
		got, err := srv.Client().Keys.Get(ctx, ricloud.ID(id))
		require.NoError(t, err)
		assert.Equal(t, ricloud.ID("1"), got.StorageConfig)
		assert.Equal(t, ricloud.ID("1"), got.WebhookConfig)
		require.NotNil(t, got.Config.PublishSourceFiles)
		assert.True(t, *got.Config.PublishSourceFiles)

		status, _ := send(ctx, t, srv, "POST", "/keys", token, `{"storage_config":"99"}`)
		assert.Equal(t, 400, status)
		_, keys := send(ctx, t, srv, "GET", "/keys", token, "")
		assert.Len(t, keys["data"], 2, "a refused one is not made")
	})
}

// An update ends a key: its token is refused from then on. The config may be named by its resource.
func TestKeyUpdateEndsAKey(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		srv := newServer(t)
		ctx := t.Context()
		_, key := send(ctx, t, srv, "POST", "/keys", srv.Token(), `{}`)
		token, _ := key["token"].(string)
		id, _ := key["id"].(string)
		status, _ := send(ctx, t, srv, "GET", "/key", token, "")
		assert.Equal(t, 200, status)
		_, key = send(ctx, t, srv, "POST", "/keys/"+id, srv.Token(),
			`{"state":"deactivated","storage_config":{"id":"1","resource":"storage_config"}}`)
		assert.Equal(t, "deactivated", key["state"])
		assert.Equal(t, "1", key["storage_config"])
		status, _ = send(ctx, t, srv, "GET", "/key", token, "")
		assert.Equal(t, 401, status)
	})
}

// A user belongs to the key that makes it, unless it names another one.
func TestUserOfAnotherKey(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		srv := newServer(t)
		ctx := t.Context()
		_, key := send(ctx, t, srv, "POST", "/keys", srv.Token(), `{}`)
		other, _ := key["id"].(string)
		status, user := send(ctx, t, srv, "POST", "/users", srv.Token(),
			`{"identifier":"u","key":"`+other+`"}`)
		assert.Equal(t, 201, status)
		assert.Equal(t, other, user["key"])
		status, refused := send(ctx, t, srv, "POST", "/users", srv.Token(),
			`{"identifier":"v","key":"99"}`)
		assert.Equal(t, 400, status)
		assert.Contains(t, fmt.Sprint(refused), "names no key")
	})
}

// An update sets the organisation's defaults, and null clears them.
func TestOrganisationDefaults(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		srv := newServer(t, ricloudtest.WithReceiver(receiver, &inbox{status: 200}),
			ricloudtest.WithWebhooks(receiver))
		ctx, token := t.Context(), srv.Token()
		pass(time.Minute)
		update := func(body string) []any {
			status, org := send(ctx, t, srv, "POST", "/organisation", token, body)
			require.Equal(t, 200, status, "%v", org)
			return []any{org["storage_config_default"], org["webhook_config_default"]}
		}
		assert.Equal(t, []any{nil, "1"}, update(`{"storage_config_default":null}`))
		assert.Equal(t, []any{nil, nil}, update(`{"webhook_config_default":null}`))
		assert.Equal(t, []any{"1", nil}, update(`{"storage_config_default":"1"}`))
		assert.Equal(t, []any{"1", "1"}, update(`{"webhook_config_default":"1"}`))
		assert.Equal(t, []any{"1", "1"}, update(`{"name":"Acme"}`))
		status, _ := send(ctx, t, srv, "POST", "/organisation", token, `{"storage_config_default":"9"}`)
		assert.Equal(t, 400, status)
	})
}

// A deleted storage config is not listed, and nothing refers to it any more. What used it can no
// longer publish.
func TestDeletedStorageConfig(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		srv := newServer(t)
		ctx, c := t.Context(), srv.Client()
		session := john(ctx, t, c)
		one := ricloud.ID("1")
		_, err := c.Keys.UpdateCurrent(ctx, ricloud.KeyUpdateParams{StorageConfig: &one})
		require.NoError(t, err)
		params := ricloud.PollCreateParams{
			Session: session.ID, Payload: ricloud.PollPayload{DataTypes: []string{"callkit.calls"}},
		}
		_, err = c.Polls.Create(ctx, params)
		require.NoError(t, err)

		config, err := c.StorageConfigs.Delete(ctx, one)
		require.NoError(t, err)
		assert.Equal(t, ricloud.ConfigDeactivated, config.State)
		_, err = c.StorageConfigs.Get(ctx, one)
		require.ErrorIs(t, err, ricloud.ErrNotFound)
		list, err := c.StorageConfigs.List(ctx, ricloud.StorageConfigListParams{})
		require.NoError(t, err)
		assert.Empty(t, list.Data)
		key, err := c.Keys.Current(ctx)
		require.NoError(t, err)
		assert.Empty(t, key.StorageConfig)
		org, err := c.Organisation.Get(ctx)
		require.NoError(t, err)
		assert.Empty(t, org.StorageConfigDefault)
		_, err = c.Polls.Create(ctx, params)
		require.ErrorIs(t, err, ricloud.ErrUnconfigured)
	})
}
