package s3_test

import (
	"bytes"
	"net/url"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	awss3 "github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	ricloud "github.com/reincubate/ricloud-go"
	"github.com/reincubate/ricloud-go/ricloudtest"
)

// Amazon's own client can read what the sandbox publishes.
func TestSandboxStorage(t *testing.T) {
	t.Parallel()
	sandbox := ricloudtest.NewServer(ricloudtest.WithDelays(ricloudtest.Delays{}))
	t.Cleanup(sandbox.Close)
	require.NoError(t, sandbox.Start())
	ctx := t.Context()
	result := sandboxResult(t, sandbox)
	at, err := url.Parse(result.URL)
	require.NoError(t, err)
	bucket, key := aws.String(at.Host), aws.String(strings.TrimPrefix(at.Path, "/"))
	client := connect(sandbox.StorageURL())

	_, err = client.HeadBucket(ctx, &awss3.HeadBucketInput{Bucket: bucket})
	require.NoError(t, err)
	head, err := client.HeadObject(ctx, &awss3.HeadObjectInput{Bucket: bucket, Key: key})
	require.NoError(t, err)
	assert.Equal(t, result.Size, *head.ContentLength)
	read := func(span *string) []byte {
		object, err := client.GetObject(ctx,
			&awss3.GetObjectInput{Bucket: bucket, Key: key, Range: span, IfMatch: head.ETag})
		require.NoError(t, err)
		var b bytes.Buffer
		_, err = b.ReadFrom(object.Body)
		require.NoError(t, err)
		require.NoError(t, object.Body.Close())
		return b.Bytes()
	}
	whole := read(nil)
	assert.Len(t, whole, int(result.Size))
	assert.Equal(t, whole[2:6], read(aws.String("bytes=2-5")))
	listed, err := client.ListObjectsV2(ctx,
		&awss3.ListObjectsV2Input{Bucket: bucket, Prefix: aws.String("results/")})
	require.NoError(t, err)
	require.Len(t, listed.Contents, 1)
	assert.Equal(t, key, listed.Contents[0].Key)
	assert.Equal(t, result.Size, *listed.Contents[0].Size)
	_, err = client.GetObject(ctx, &awss3.GetObjectInput{Bucket: bucket, Key: aws.String("missing")})
	var missing *types.NoSuchKey
	require.ErrorAs(t, err, &missing)
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
