package ricloud

import (
	"net/http"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestUsersGet(t *testing.T) {
	t.Parallel()
	client, api := newTestClient(t)
	api.RegisterResponder(http.MethodGet, "=~/users/1$", respondWith("2018/user.json"))

	user, err := client.Users.Get(t.Context(), "1")
	require.NoError(t, err)
	assert.Equal(t, &User{
		ID: "1", Organisation: "1", Key: "1", Identifier: "<your user identifier>", State: UserActive,
		DateCreated: time.Date(2018, 11, 22, 13, 49, 37, 215516000, time.UTC),
	}, user)
}

func TestUsersCreateNeedsAnIdentifier(t *testing.T) {
	t.Parallel()
	client, api := newTestClient(t)

	_, err := client.Users.Create(t.Context(), UserCreateParams{})
	require.ErrorAs(t, err, new(*ParamError))
	assert.Empty(t, api.all(), "no request was sent")
}
