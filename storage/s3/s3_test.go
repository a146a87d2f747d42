package s3_test

import (
	"bytes"
	"context"
	"crypto/md5"
	"encoding/hex"
	"io"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	awss3 "github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/johannesboyne/gofakes3"
	"github.com/johannesboyne/gofakes3/backend/s3mem"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	ricloud "github.com/reincubate/ricloud-go"
	"github.com/reincubate/ricloud-go/ricloudtest"
	"github.com/reincubate/ricloud-go/storage/s3"
)

const (
	bucket    = "results"
	accessKey = "AKIACANARY"
	secretKey = "canary-secret"
)

// newS3 returns a client of an S3 server in memory with one bucket. Requests pass through between.
func newS3(t testing.TB, between func(http.Handler) http.Handler) *awss3.Client {
	t.Helper()
	server := httptest.NewServer(between(gofakes3.New(s3mem.New()).Server()))
	t.Cleanup(server.Close)
	client := connect(server.URL)
	_, err := client.CreateBucket(t.Context(), &awss3.CreateBucketInput{Bucket: aws.String(bucket)})
	require.NoError(t, err)
	return client
}

func connect(endpoint string, options ...func(*awss3.Options)) *awss3.Client {
	return awss3.New(awss3.Options{
		Region: "us-east-1", BaseEndpoint: &endpoint, UsePathStyle: true, RetryMaxAttempts: 1,
		Credentials:                credentials.NewStaticCredentialsProvider(accessKey, secretKey, ""),
		RequestChecksumCalculation: aws.RequestChecksumCalculationWhenRequired,
		ResponseChecksumValidation: aws.ResponseChecksumValidationWhenRequired,
	}, options...)
}

func straight(next http.Handler) http.Handler { return next }

func put(t testing.TB, client *awss3.Client, key string, body []byte) *ricloud.Result {
	t.Helper()
	_, err := client.PutObject(t.Context(),
		&awss3.PutObjectInput{Bucket: aws.String(bucket), Key: &key, Body: bytes.NewReader(body)})
	require.NoError(t, err)
	sum := md5.Sum(body)
	return &ricloud.Result{
		ID: "r", Identifier: key, URL: "s3://" + bucket + "/" + key,
		Checksum: hex.EncodeToString(sum[:]), Size: int64(len(body)),
	}
}

func newClient(t testing.TB, client *awss3.Client) *ricloud.Client {
	t.Helper()
	c, err := ricloud.NewClient("canary-token", ricloud.WithStorage("s3", s3.New(client)),
		ricloud.WithRetryWait(time.Millisecond, time.Millisecond))
	require.NoError(t, err)
	t.Cleanup(c.Close)
	return c
}

func assertSaved(t *testing.T, c *ricloud.Client, r *ricloud.Result, want []byte) {
	t.Helper()
	saved, err := c.Results.Save(t.Context(), r, t.TempDir())
	require.NoError(t, err)
	got, err := os.ReadFile(saved.Path)
	require.NoError(t, err)
	assert.True(t, bytes.Equal(want, got))
}

// keys returns valid keys that a client may easily escape or normalise wrongly.
func keys() []string {
	return []string{
		"plain", "dir/a b+c", "per%2Fcent%zz", "q?x=1&y#f", "x//y", "/leading", "ключ-日本-🎉",
		"semi;colon=equals", `'quo"tes'`,
	}
}

func TestKeys(t *testing.T) {
	t.Parallel()
	client := newS3(t, straight)
	c := newClient(t, client)
	for _, key := range keys() {
		body := []byte("the content of " + key)
		assertSaved(t, c, put(t, client, key, body), body)
	}
}

func TestWithoutAClient(t *testing.T) {
	t.Parallel()
	_, err := s3.New(nil).OpenObject(t.Context(), ricloud.ObjectRequest{Bucket: bucket, Key: "k"})
	require.ErrorContains(t, err, "the client is nil")
	_, err = new(s3.Sink).Store(t.Context(), ricloud.SinkFile{Result: &ricloud.Result{}})
	require.ErrorContains(t, err, "the sink is zero")
}

func TestErrors(t *testing.T) {
	t.Parallel()
	client := newS3(t, straight)
	c := newClient(t, client)
	r := put(t, client, "there", []byte("there"))
	for url, want := range map[string]error{
		"s3://" + bucket + "/missing": ricloud.ErrNotFound,
		"s3://no-such-bucket/there":   ricloud.ErrNotFound,
	} {
		missing := *r
		missing.URL = url
		_, err := c.Results.Open(t.Context(), &missing)
		require.ErrorIs(t, err, want)
		assert.NotContains(t, err.Error(), "canary")
	}
	put(t, client, "there", []byte("other"))
	_, err := c.Results.Save(t.Context(), r, t.TempDir())
	require.ErrorIs(t, err, ricloud.ErrChecksum)
	put(t, client, "there", []byte("longer than it was"))
	_, err = c.Results.Save(t.Context(), r, t.TempDir())
	require.ErrorIs(t, err, ricloud.ErrSize)
}

// cutter ends the first answers to a GET of an object after a number of bytes.
type cutter struct {
	next http.Handler
	left *atomic.Int64 // number of cuts left
	max  int64
}

func (c cutter) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.Method == http.MethodGet && strings.Count(r.URL.Path, "/") > 1 && c.left.Add(-1) >= 0 {
		w = &cutWriter{w, rand.Int64N(c.max)}
	}
	c.next.ServeHTTP(w, r)
}

type cutWriter struct {
	http.ResponseWriter
	left int64
}

func (c *cutWriter) Write(p []byte) (int, error) {
	n := min(int64(len(p)), c.left)
	c.left -= n
	if _, err := c.ResponseWriter.Write(p[:n]); err != nil || n < int64(len(p)) {
		_ = http.NewResponseController(c.ResponseWriter).Flush()
		panic(http.ErrAbortHandler)
	}
	return len(p), nil
}

// The AWS SDK does not resume a body that broke off, but the client does.
func TestCuts(t *testing.T) {
	t.Parallel()
	var left atomic.Int64
	client := newS3(t, func(next http.Handler) http.Handler { return cutter{next, &left, 2 << 20} })
	body := make([]byte, 10<<20)
	_, _ = rand.NewChaCha8([32]byte{}).Read(body)
	r := put(t, client, "video.mov", body)
	left.Store(6)
	assertSaved(t, newClient(t, client), r, body)
	assert.Negative(t, left.Load(), "every cut was made")
}

func TestObjectChangedMidway(t *testing.T) {
	t.Parallel()
	var left atomic.Int64
	client := newS3(t, func(next http.Handler) http.Handler { return cutter{next, &left, 1 << 20} })
	r := put(t, client, "video.mov", make([]byte, 2<<20))
	left.Store(1)
	f, err := newClient(t, client).Results.Open(t.Context(), r)
	require.NoError(t, err)
	defer f.Close()
	_, err = io.CopyN(io.Discard, f, 1)
	require.NoError(t, err)
	put(t, client, "video.mov", bytes.Repeat([]byte{1}, 2<<20))
	_, err = io.Copy(io.Discard, f)
	require.ErrorIs(t, err, ricloud.ErrObjectChanged)
}

// publisher writes results to the bucket, as the API does.
type publisher struct{ client *awss3.Client }

func (p publisher) Publish(ctx context.Context, url string, content ricloudtest.Content) error {
	_, key, _ := strings.Cut(strings.TrimPrefix(url, "s3://"), "/")
	_, err := p.client.PutObject(ctx, &awss3.PutObjectInput{
		Bucket: aws.String(bucket), Key: &key, Body: io.NewSectionReader(content, 0, content.Size()),
	})
	return err
}

// The journey starts with an empty organisation and ends with records from the organisation's own
// bucket.
func TestJourney(t *testing.T) {
	t.Parallel()
	objects := newS3(t, straight)
	sandbox := ricloudtest.NewServer(ricloudtest.WithUnconfigured(),
		ricloudtest.WithPublisher(publisher{objects}), ricloudtest.WithSpeed(100))
	defer sandbox.Close()
	client := sandbox.Client(ricloud.WithStorage("s3", s3.New(objects)),
		ricloud.WithPolling(time.Millisecond, 10*time.Millisecond))
	defer client.Close()
	ctx := t.Context()
	key, err := ricloud.CredentialsFromKey("AKIACANARY", ricloud.NewSecret("canary-secret"))
	require.NoError(t, err)
	_, err = client.StorageConfigs.Ensure(ctx,
		ricloud.StorageConfigEnsureParams{
			URL: "s3://" + bucket + "/ricloud", Credentials: key,
			MakeOrganisationDefault: true,
		})
	require.NoError(t, err)
	user, err := client.Users.Create(ctx, ricloud.UserCreateParams{Identifier: "customer-42"})
	require.NoError(t, err)
	session, err := client.Sessions.Login(ctx, ricloud.SessionCreateParams{
		Source: ricloud.SourceParams{
			User: user.ID, Type: ricloud.SourceICloudAccount,
			Identifier: "john.appleseed@example.com",
		},
		Payload: ricloud.SessionPayload{Password: ricloud.NewSecret("hunter2")},
	}, nil)
	require.NoError(t, err)
	poll, err := client.Polls.Create(ctx, ricloud.PollCreateParams{
		Session: session.ID,
		Payload: ricloud.PollPayload{DataTypes: []string{"ios_messages.messages"}},
	})
	require.NoError(t, err)
	saved, err := client.Results.SaveAll(ctx, client.Polls.Results(ctx, poll.ID, ricloud.WithFiles()),
		t.TempDir(), ricloud.WithAcknowledge())
	require.NoError(t, err)
	require.Len(t, saved, 2, "messages and their attachment")
	for _, s := range saved {
		assert.True(t, s.Acknowledged)
		assert.FileExists(t, s.Path)
	}
}
