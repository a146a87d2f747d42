package ricloudtest_test

import (
	"os"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	ricloud "github.com/reincubate/ricloud-go"
	"github.com/reincubate/ricloud-go/ricloudtest"
)

// The client can save the results of every generation, with and without signed URLs.
func TestClientSavesResultsOfEveryGeneration(t *testing.T) {
	t.Parallel()
	for _, generation := range []ricloudtest.Generation{
		ricloudtest.GenerationCurrent, ricloudtest.Generation2018, ricloudtest.GenerationMixed,
	} {
		srv := newServer(t, ricloudtest.WithGeneration(generation))
		client := srv.Client()
		user, err := client.Users.Create(t.Context(), ricloud.UserCreateParams{Identifier: "x"})
		require.NoError(t, err)
		session, err := client.Sessions.Login(t.Context(), ricloud.SessionCreateParams{
			Source: ricloud.SourceParams{
				User: user.ID, Type: ricloud.SourceICloudAccount,
				Identifier: "john.appleseed@example.com",
			},
			Payload: ricloud.SessionPayload{Password: ricloud.NewSecret("hunter2")},
		}, nil)
		require.NoError(t, err)
		poll, err := client.Polls.Create(t.Context(), ricloud.PollCreateParams{
			Session: session.ID, Payload: ricloud.PollPayload{DataTypes: []string{"callkit.calls"}},
		})
		require.NoError(t, err)
		saved := 0
		for result, err := range client.Polls.Results(t.Context(), poll.ID) {
			require.NoError(t, err)
			file, err := client.Results.Save(t.Context(), result, t.TempDir())
			require.NoError(t, err)
			info, err := os.Stat(file.Path)
			require.NoError(t, err)
			assert.Equal(t, result.Size, info.Size())
			saved++
		}
		assert.Equal(t, 1, saved)
	}
}

func TestClientForAnotherToken(t *testing.T) {
	t.Parallel()
	srv := newServer(t)
	key, err := srv.Client().Keys.Current(t.Context())
	require.NoError(t, err)
	rotated, err := srv.Client().Keys.Rotate(t.Context(), key.ID, ricloud.KeyRotateParams{})
	require.NoError(t, err)
	client, err := ricloud.NewClient(rotated.Token.Reveal(), ricloud.WithTransport(srv))
	require.NoError(t, err)
	same, err := client.Keys.Current(t.Context())
	require.NoError(t, err)
	assert.Equal(t, key.ID, same.ID)
}

func TestOpenObject(t *testing.T) {
	t.Parallel()
	srv := newServer(t)
	_, err := srv.OpenObject(t.Context(), ricloud.ObjectRequest{Bucket: "sandbox", Key: "missing"})
	require.ErrorIs(t, err, ricloud.ErrNotFound)
}
