package ricloud_test

import (
	"context"
	"errors"
	"net/http"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	ricloud "github.com/reincubate/ricloud-go"
	"github.com/reincubate/ricloud-go/ricloudtest"
)

const receiverURL = "https://receiver.test/webhooks"

// A receiver that starts without a secret is set up by one call: the config is
// made, its secret taken in, the test passed.
func TestEnsureWebhookConfig(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		handler, err := ricloud.NewWebhookHandler(ignore)
		require.NoError(t, err)
		srv := ricloudtest.NewServer(ricloudtest.WithReceiver(receiverURL+"/", handler))
		defer srv.Close()
		client := srv.Client()
		params := ricloud.WebhookConfigEnsureParams{
			URL: receiverURL, BeforeTest: handler.SetSecrets, MakeKeyDefault: true, MakeOrganisationDefault: true,
		}
		config, err := client.WebhookConfigs.Ensure(t.Context(), params)
		require.NoError(t, err)
		assert.Equal(t, ricloud.ConfigValid, config.State)
		assert.NotEmpty(t, config.Secret)

		key, err := client.Keys.Current(t.Context())
		require.NoError(t, err)
		assert.Equal(t, config.ID, key.WebhookConfig)
		org, err := client.Organisation.Get(t.Context())
		require.NoError(t, err)
		assert.Equal(t, config.ID, org.WebhookConfigDefault)

		params.URL += "/" // the same place
		again, err := client.WebhookConfigs.Ensure(t.Context(), params)
		require.NoError(t, err)
		assert.Equal(t, config, again, "what is there is found")
		assert.Equal(t, 1, srv.CountCalls("WebhookConfigs.Create"))
	})
}

func TestEnsureWebhookConfigExplains(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		srv := ricloudtest.NewServer(ricloudtest.WithReceiver(receiverURL, http.NotFoundHandler()))
		defer srv.Close()
		client := srv.Client()
		config, err := client.WebhookConfigs.Ensure(t.Context(), ricloud.WebhookConfigEnsureParams{
			URL: receiverURL, MakeKeyDefault: true,
		})
		failed, ok := errors.AsType[*ricloud.StateError](err)
		require.True(t, ok, "%v", err)
		assert.Equal(t, "webhook_config", failed.Resource)
		assert.Equal(t, config.ID, failed.ID)
		assert.Equal(t, ricloud.ConfigInvalid, config.State)
		assert.NotEmpty(t, config.Secret, "the secret may be what is missing")
		assert.ErrorContains(t, err, receiverURL+": is the receiver up") //nolint:testifylint // more to come
		assert.ErrorContains(t, err, "the right time?")                  //nolint:testifylint // more to come
		assert.NotContains(t, err.Error(), config.Secret.Reveal())

		key, err := client.Keys.Current(t.Context())
		require.NoError(t, err)
		assert.NotEqual(t, config.ID, key.WebhookConfig, "what is not valid is no default")
	})
}

// A create whose answer was lost is found, not repeated.
func TestEnsureWebhookConfigFindsALostCreate(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		handler := newWebhook(t, ignore)
		srv := ricloudtest.NewServer(ricloudtest.WithReceiver(receiverURL, handler))
		defer srv.Close()
		lose := lostAnswers{srv, http.MethodPost, "/configs/webhook"}
		config, err := srv.Client(ricloud.WithTransport(lose)).WebhookConfigs.Ensure(t.Context(), ricloud.WebhookConfigEnsureParams{
			URL: receiverURL, BeforeTest: handler.SetSecrets,
		})
		require.NoError(t, err)
		assert.Equal(t, ricloud.ConfigValid, config.State)
		assert.Equal(t, 1, srv.CountCalls("WebhookConfigs.Create"))
	})
}

// lostAnswers loses the answers to one kind of request.
type lostAnswers struct {
	http.RoundTripper
	method, path string
}

func (l lostAnswers) RoundTrip(r *http.Request) (*http.Response, error) {
	lost := r.Method == l.method && r.URL.Path == l.path
	res, err := l.RoundTripper.RoundTrip(r)
	if err == nil && lost {
		err = res.Body.Close()
		return nil, errors.Join(errors.New("the connection broke"), err)
	}
	return res, err
}

func TestEnsureWebhookConfigStops(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		srv := ricloudtest.NewServer(ricloudtest.WithReceiver(receiverURL, newWebhook(t, ignore)),
			ricloudtest.WithDelays(ricloudtest.Delays{Config: ricloudtest.Fixed(time.Hour)}))
		defer srv.Close()
		client := srv.Client()

		_, err := client.WebhookConfigs.Ensure(t.Context(), ricloud.WebhookConfigEnsureParams{URL: "receiver"})
		require.ErrorContains(t, err, "WebhookConfigs.Ensure: URL")
		assert.Empty(t, srv.Calls())

		refused := errors.New("refused")
		config, err := client.WebhookConfigs.Ensure(t.Context(), ricloud.WebhookConfigEnsureParams{
			URL: receiverURL, BeforeTest: func(...ricloud.Secret) error { return refused },
		})
		require.ErrorIs(t, err, refused)
		assert.NotEmpty(t, config.ID)

		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		config, err = client.WebhookConfigs.Ensure(ctx, ricloud.WebhookConfigEnsureParams{URL: receiverURL})
		require.ErrorIs(t, err, context.DeadlineExceeded)
		assert.Equal(t, ricloud.ConfigNew, config.State)
	})
}
