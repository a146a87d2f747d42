package gcs_test

import (
	"bytes"
	"net/url"
	"strings"
	"testing"

	"cloud.google.com/go/storage"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"google.golang.org/api/option"

	ricloud "github.com/reincubate/ricloud-go"
	"github.com/reincubate/ricloud-go/ricloudtest"
)

// Google's own client can read what the sandbox publishes.
func TestSandboxStorage(t *testing.T) {
	t.Parallel()
	sandbox := ricloudtest.NewServer(ricloudtest.WithDelays(ricloudtest.Delays{}))
	t.Cleanup(sandbox.Close)
	require.NoError(t, sandbox.Start())
	ctx := t.Context()
	result := sandboxResult(t, sandbox)
	at, err := url.Parse(result.URL)
	require.NoError(t, err)
	client, err := storage.NewClient(ctx, option.WithoutAuthentication(),
		option.WithEndpoint(sandbox.StorageURL()+"/storage/v1/"))
	require.NoError(t, err)
	t.Cleanup(func() { assert.NoError(t, client.Close()) })
	bucket := client.Bucket(at.Host)
	object := bucket.Object(strings.TrimPrefix(at.Path, "/"))

	attrs, err := object.Attrs(ctx)
	require.NoError(t, err)
	assert.Equal(t, result.Size, attrs.Size)
	read := func(offset, length int64) []byte {
		r, err := object.NewRangeReader(ctx, offset, length)
		require.NoError(t, err)
		var b bytes.Buffer
		_, err = b.ReadFrom(r)
		require.NoError(t, err)
		require.NoError(t, r.Close())
		return b.Bytes()
	}
	whole := read(0, -1)
	assert.Len(t, whole, int(result.Size))
	assert.Equal(t, whole[2:6], read(2, 4))
	listed, err := bucket.Objects(ctx, nil).Next()
	require.NoError(t, err)
	assert.Equal(t, object.ObjectName(), listed.Name)
	_, err = bucket.Object("missing").Attrs(ctx)
	require.ErrorIs(t, err, storage.ErrObjectNotExist)
}

// sandboxResult returns a result that the sandbox has published.
func sandboxResult(t *testing.T, sandbox *ricloudtest.Server) *ricloud.Result {
	t.Helper()
	ctx, client := t.Context(), sandbox.Client()
	user, err := client.Users.Create(ctx, ricloud.UserCreateParams{Identifier: "me"})
	require.NoError(t, err)
	session, err := client.Sessions.Login(ctx, ricloud.SessionCreateParams{
		Source:  ricloud.SourceParams{User: user.ID, Type: ricloud.SourceMock, Identifier: "mock"},
		Payload: ricloud.SessionPayload{Password: ricloud.NewSecret("any")},
	}, nil)
	require.NoError(t, err)
	poll, err := client.Polls.Create(ctx, ricloud.PollCreateParams{
		Session: session.ID, Payload: ricloud.PollPayload{DataTypes: []string{"callkit.calls"}},
	})
	require.NoError(t, err)
	poll, err = client.Polls.Wait(ctx, poll.ID)
	require.NoError(t, err)
	require.NotEmpty(t, poll.Results.Data)
	return &poll.Results.Data[0]
}
