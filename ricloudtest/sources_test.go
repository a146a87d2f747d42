package ricloudtest_test

import (
	"testing"
	"testing/synctest"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	ricloud "github.com/reincubate/ricloud-go"
)

// A Relay app has its own identifier, which is known only after a successful pairing. Its devices
// are active sources of the same user, with descriptions.
func TestRelaySources(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		srv := newServer(t)
		ctx, c := t.Context(), srv.Client()
		user := newUser(ctx, t, c)
		pair := func(code string) *ricloud.Session {
			session, err := c.Sessions.Create(ctx, ricloud.SessionCreateParams{
				Source: ricloud.SourceParams{
					User: user.ID, Type: ricloud.SourceRelayInstance, Identifier: "not its own",
				},
				Payload: ricloud.SessionPayload{Code: ricloud.NewSecret(code)},
			})
			require.NoError(t, err)
			session, err = c.Sessions.Wait(ctx, session.ID)
			if code == "PAIR-1234" {
				require.NoError(t, err)
			}
			return session
		}
		assert.Empty(t, pair("PAIR-0000").Source.Identifier)
		paired := pair("PAIR-1234").Source
		assert.NotEmpty(t, paired.Identifier)
		assert.NotEqual(t, "not its own", paired.Identifier)

		children, err := c.Sources.Children(ctx, paired.ID, ricloud.ListParams{})
		require.NoError(t, err)
		require.Len(t, children.Data, 1)
		child := children.Data[0]
		assert.Equal(t, user.ID, child.User)
		assert.Equal(t, ricloud.SourceState("active"), child.State)
		_, raw := send(ctx, t, srv, "GET", "/sources/"+string(child.ID), srv.Token(), "")
		assert.Equal(t, map[string]any{
			"name": child.Identifier, "apple_serial": child.Identifier,
			"apple_model_id": "iPhone10,4", "ios_version": "13.2", "is_encrypted": true,
		}, raw["info"])
	})
}
