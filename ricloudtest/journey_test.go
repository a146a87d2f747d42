package ricloudtest_test

import (
	"context"
	"crypto/md5"
	"encoding/hex"
	"net/http"
	"testing"
	"testing/synctest"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	ricloud "github.com/reincubate/ricloud-go"
	"github.com/reincubate/ricloud-go/ricloudtest"
)

// The journey of the vendor's guide, starting with an unconfigured organisation.
func TestJourney(t *testing.T) {
	t.Parallel()
	eachGeneration(t, func(t *testing.T, generation ricloudtest.Option) {
		synctest.Test(t, func(t *testing.T) {
			ctx := t.Context()
			srv := newServer(t, generation, ricloudtest.WithUnconfigured())
			c := srv.Client()

			org, err := c.Organisation.Get(ctx)
			require.NoError(t, err)
			assert.Equal(t, "unconfigured", string(org.State))
			user := newUser(ctx, t, c)

			asked := 0
			session, err := c.Sessions.Login(ctx, ricloud.SessionCreateParams{
				Source: ricloud.SourceParams{
					User: user.ID, Type: ricloud.SourceICloudAccount,
					Identifier: "jane.appleseed@example.com",
				},
				Payload: ricloud.SessionPayload{Password: ricloud.NewSecret("hunter2")},
			}, func(context.Context, ricloud.CodeChallenge) (ricloud.Secret, error) {
				asked++
				if asked == 1 {
					return ricloud.NewSecret("000000"), nil
				}
				return ricloud.NewSecret("123456"), nil
			})
			require.NoError(t, err)
			assert.Equal(t, 2, asked, "a wrong code is asked for again")

			params := ricloud.PollCreateParams{
				Session: session.ID,
				Payload: ricloud.PollPayload{DataTypes: []string{"callkit.calls", "whatsapp.messages"}},
			}
			_, err = c.Polls.Create(ctx, params)
			require.ErrorIs(t, err, ricloud.ErrUnconfigured)

			config, err := c.StorageConfigs.Create(ctx, ricloud.StorageConfigCreateParams{
				URL: "s3://my-bucket/results",
				Credentials: ricloud.Credentials{
					"access_key_id":     ricloud.NewSecret("a"),
					"secret_access_key": ricloud.NewSecret("b"),
				},
				SignedURLsEnabled: new(true),
			})
			require.NoError(t, err)
			test, err := c.StorageConfigs.Test(ctx, config.ID)
			require.NoError(t, err)
			_, err = c.Tasks.Wait(ctx, test.ID)
			require.NoError(t, err)

			poll, err := c.Polls.Create(ctx, params)
			require.NoError(t, err)
			poll, err = c.Polls.Wait(ctx, poll.ID)
			require.NoError(t, err)
			assert.Len(t, poll.TasksSucceeded, 2)
			require.Len(t, poll.Results.Data, 2)
			for _, result := range poll.Results.Data {
				assert.Contains(t, result.URL, "s3://my-bucket/results/")
				_, err = c.Results.Acknowledge(ctx, result.ID)
				require.NoError(t, err)
			}
			left, err := c.Results.List(ctx, ricloud.ResultListParams{})
			require.NoError(t, err)
			assert.Empty(t, left.Data, "what was acknowledged is hidden")
		})
	})
}

func TestResultsAreServedAtSignedURLs(t *testing.T) {
	t.Parallel()
	t.Run("in memory", func(t *testing.T) {
		t.Parallel()
		srv := newServer(t)
		testSignedURLs(t, srv.Client(), srv)
	})
	t.Run("over loopback", func(t *testing.T) {
		t.Parallel()
		srv := newServer(t)
		sockets := &http.Transport{}
		t.Cleanup(sockets.CloseIdleConnections)
		testSignedURLs(t,
			srv.Client(ricloud.WithBaseURL(srv.URL()), ricloud.WithTransport(sockets)), sockets)
	})
}

// testSignedURLs reads a result of c at its signed URL, over rt.
func testSignedURLs(t *testing.T, c *ricloud.Client, rt http.RoundTripper) {
	t.Helper()
	ctx := t.Context()
	poll, err := c.Polls.Create(ctx, ricloud.PollCreateParams{
		Session: john(ctx, t, c).ID,
		Payload: ricloud.PollPayload{Files: []ricloud.ID{"7a10photo"}},
	})
	require.NoError(t, err)
	poll, err = c.Polls.Wait(ctx, poll.ID)
	require.NoError(t, err)
	require.Len(t, poll.Results.Data, 1)
	result := poll.Results.Data[0]
	assert.Equal(t, "7a10photo", result.Identifier)
	assert.Equal(t, "jpg", result.Type)
	signed := result.SignedURL.URL.Reveal()

	res, err := fetch(ctx, rt, signed, nil)
	require.NoError(t, err)
	body, err := readAll(res)
	require.NoError(t, err)
	require.NoError(t, res.Body.Close())
	sum := md5.Sum(body)
	assert.Equal(t, result.Checksum, hex.EncodeToString(sum[:]))
	assert.Len(t, body, int(result.Size))

	res, err = fetch(ctx, rt, signed,
		http.Header{"Range": {"bytes=100-199"}, "If-Match": {res.Header.Get("ETag")}})
	require.NoError(t, err)
	part, err := readAll(res)
	require.NoError(t, err)
	require.NoError(t, res.Body.Close())
	assert.Equal(t, http.StatusPartialContent, res.StatusCode)
	assert.Equal(t, body[100:200], part)

	for name, request := range map[string]struct {
		url    string
		header http.Header
		status int
	}{
		"a token": {
			url: signed, header: http.Header{"Authorization": {"Token x"}},
			status: http.StatusBadRequest,
		},
		"another object": {url: signed + "0", status: http.StatusForbidden},
		"a changed one": {
			url: signed, header: http.Header{"If-Match": {`"other"`}},
			status: http.StatusPreconditionFailed,
		},
		"beyond the end": {
			url: signed, header: http.Header{"Range": {"bytes=99999-"}},
			status: http.StatusRequestedRangeNotSatisfiable,
		},
		"several ranges": {
			url: signed, header: http.Header{"Range": {"bytes=0-1,4-5"}},
			status: http.StatusOK,
		},
		"nothing changed": {
			url: signed, header: http.Header{"If-None-Match": {res.Header.Get("ETag")}},
			status: http.StatusNotModified,
		},
	} {
		res, err := fetch(ctx, rt, request.url, request.header)
		require.NoError(t, err, name)
		require.NoError(t, res.Body.Close(), name)
		assert.Equal(t, request.status, res.StatusCode, name)
	}
}
