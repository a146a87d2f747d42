package signaturetest

import (
	"bytes"
	"context"
	"crypto/md5"
	"encoding/hex"
	"fmt"
	"io"
	"iter"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"testing"
	"testing/iotest"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	awss3 "github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"github.com/versity/versitygw/backend/meta"
	"github.com/versity/versitygw/backend/posix"
	"github.com/versity/versitygw/embedgw"

	ricloud "github.com/reincubate/ricloud-go"
	"github.com/reincubate/ricloud-go/storage/s3"
)

const (
	accessKey = "AKIACANARY"
	secretKey = "canary-secret"
	bucket    = "results"
	locked    = "locked" // has object lock
)

// startServer runs an S3 server in this process, which can run only one.
func startServer(t *testing.T) (endpoint string) {
	t.Helper()
	dir := t.TempDir()
	sidecar, versions := filepath.Join(dir, "meta"), filepath.Join(dir, "versions")
	root := filepath.Join(dir, "data")
	for _, d := range []string{root, sidecar, versions} {
		require.NoError(t, os.MkdirAll(d, 0o700))
	}
	t.Chdir(root) // the server changes the directory, and the test restores it
	storer, err := meta.NewSideCar(sidecar)
	require.NoError(t, err)
	objects, err := posix.New(root, storer,
		posix.PosixOpts{SideCarDir: sidecar, VersioningDir: versions, Concurrency: 100})
	require.NoError(t, err)
	l, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	require.NoError(t, err)
	address := l.Addr().String()
	require.NoError(t, l.Close())
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() {
		ended <- embedgw.RunVersityGW(ctx, objects, &embedgw.Config{
			RootUserAccess: accessKey, RootUserSecret: secretKey, Ports: []string{address}, Quiet: true,
			KeepAlive:      true,
			MaxConnections: 1000, MaxRequests: 1000, MultipartMaxParts: 10_000,
		})
	}()
	t.Cleanup(func() {
		cancel()
		assert.NoError(t, <-ended)
	})
	require.Eventually(t, func() bool {
		conn, err := (&net.Dialer{}).DialContext(t.Context(), "tcp", address)
		if err == nil {
			_ = conn.Close()
		}
		return err == nil
	}, time.Minute, 20*time.Millisecond)
	return "http://" + address
}

func connect(endpoint string, options ...func(*awss3.Options)) *awss3.Client {
	return awss3.New(awss3.Options{
		Region: "us-east-1", BaseEndpoint: &endpoint, UsePathStyle: true, RetryMaxAttempts: 1,
		Credentials: credentials.NewStaticCredentialsProvider(accessKey, secretKey, ""),
	}, options...)
}

func put(t testing.TB, client *awss3.Client, key string, body []byte) *ricloud.Result {
	t.Helper()
	_, err := client.PutObject(t.Context(),
		&awss3.PutObjectInput{Bucket: aws.String(bucket), Key: &key, Body: bytes.NewReader(body)})
	require.NoError(t, err)
	sum := md5.Sum(body)
	return &ricloud.Result{
		ID: ricloud.ID(key), Identifier: key, URL: "s3://" + bucket + "/" + key,
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

// cutOnce breaks the first body of an object after n bytes, and then calls then.
type cutOnce struct {
	http.RoundTripper

	n    int64
	then func()
}

func (c *cutOnce) RoundTrip(req *http.Request) (*http.Response, error) {
	resp, err := c.RoundTripper.RoundTrip(req)
	if err != nil || c.then == nil {
		return resp, err
	}
	c.then()
	c.then = nil
	resp.Body = struct {
		io.Reader
		io.Closer
	}{io.MultiReader(io.LimitReader(resp.Body, c.n), iotest.ErrReader(io.ErrUnexpectedEOF)), resp.Body}
	return resp, nil
}

//nolint:paralleltest // it changes the folder of the process
func TestServerThatChecks(t *testing.T) {
	endpoint := startServer(t)
	client := connect(endpoint)
	for _, name := range []string{bucket, locked} {
		_, err := client.CreateBucket(t.Context(), &awss3.CreateBucketInput{
			Bucket: aws.String(name), ObjectLockEnabledForBucket: aws.Bool(name == locked),
		})
		require.NoError(t, err)
	}
	transport := &http.Transport{}
	t.Cleanup(transport.CloseIdleConnections)
	//nolint:paralleltest // steps
	t.Run("opener", func(t *testing.T) { testOpener(t, endpoint, transport) })
	//nolint:paralleltest // steps
	t.Run("sink", func(t *testing.T) { testSink(t, client) })
	//nolint:paralleltest // steps
	t.Run("object lock", func(t *testing.T) { testObjectLock(t, client) })
}

func testOpener(t *testing.T, endpoint string, transport *http.Transport) {
	t.Helper()
	client := connect(endpoint)
	// through returns a client whose requests to the server pass through between.
	through := func(between http.RoundTripper, secret string) *ricloud.Client {
		return newClient(t, connect(endpoint, func(o *awss3.Options) {
			o.HTTPClient = &http.Client{Transport: between}
			o.Credentials = credentials.NewStaticCredentialsProvider(accessKey, secret, "")
		}))
	}
	for _, key := range []string{
		"plain", "dir/a b+c", "per%2Fcent%zz", "q?x=1&y#f",
		"ключ-日本-🎉", "semi;colon=equals", `'quo"tes'`,
	} {
		body := []byte("the content of " + key)
		assertSaved(t, newClient(t, client), put(t, client, key, body), body)
	}
	body := bytes.Repeat([]byte("0123456789abcdef"), 1<<16)
	r := put(t, client, "large", body)
	assertSaved(t, through(&cutOnce{transport, 300_000, func() {}}, secretKey), r, body)

	_, err := through(transport, "canary-wrong").Results.Open(t.Context(), r)
	require.ErrorIs(t, err, ricloud.ErrForbidden)
	require.ErrorContains(t, err, "SignatureDoesNotMatch")
	assert.NotContains(t, fmt.Sprint(err), "canary")

	replaced := through(&cutOnce{transport, 300_000, func() {
		put(t, client, "large", bytes.Repeat([]byte("x"), len(body)))
	}}, secretKey)
	_, err = replaced.Results.Save(t.Context(), r, t.TempDir())
	require.ErrorIs(t, err, ricloud.ErrObjectChanged)
	require.ErrorContains(t, err, "PreconditionFailed", "the server said so")
}

func each(results ...*ricloud.Result) iter.Seq2[*ricloud.Result, error] {
	return func(yield func(*ricloud.Result, error) bool) {
		for _, r := range results {
			if !yield(r, nil) {
				return
			}
		}
	}
}

func random(n int) []byte {
	b := make([]byte, n)
	_, _ = rand.NewChaCha8([32]byte{byte(n), byte(n >> 8)}).Read(b)
	return b
}

// keysOf returns the keys in a bucket with a prefix. It fails if an upload is unfinished.
func keysOf(t *testing.T, client *awss3.Client, name, prefix string) (keys []string) {
	t.Helper()
	list, err := client.ListObjectsV2(t.Context(),
		&awss3.ListObjectsV2Input{Bucket: &name, Prefix: &prefix})
	require.NoError(t, err)
	for _, o := range list.Contents {
		keys = append(keys, *o.Key)
	}
	uploads, err := client.ListMultipartUploads(t.Context(),
		&awss3.ListMultipartUploadsInput{Bucket: &name})
	require.NoError(t, err)
	assert.Empty(t, uploads.Uploads, "an upload is left over")
	return keys
}

func testSink(t *testing.T, client *awss3.Client) {
	t.Helper()
	c := newClient(t, client)
	sink, err := s3.NewSink(client, s3.SinkParams{Bucket: bucket, Prefix: "sink/", PartSize: 5 << 20})
	require.NoError(t, err)
	small, empty, large := put(t, client, "small", random(1000)), put(t, client, "empty", nil), put(t,
		client, "big", random(12<<20))
	for round := range 2 {
		saved, err := c.Results.SaveAllTo(t.Context(), each(small, empty, large), sink)
		require.NoError(t, err)
		require.Len(t, saved, 3)
		for i, want := range []string{"small", "empty", "big"} {
			assert.Equal(t, "s3://"+bucket+"/sink/"+want, saved[i].Path)
			if round == 0 || want != "big" {
				assert.Len(t, saved[i].SHA256, 64)
			}
			// Read the stored object and verify it by its own MD5.
			copied := *saved[i].Result
			copied.URL = saved[i].Path
			file, err := c.Results.Open(t.Context(), &copied)
			require.NoError(t, err)
			_, err = io.Copy(io.Discard, file)
			require.NoError(t, err)
			require.NoError(t, file.Close())
		}
	}
	assert.Equal(t, []string{"sink/big", "sink/empty", "sink/small"},
		keysOf(t, client, bucket, "sink/"))

	// An object that is not verified never becomes visible.
	for _, r := range []*ricloud.Result{
		put(t, client, "bad", random(2000)),
		put(t, client, "bad-large", random(11<<20)),
	} {
		damaged := *r
		damaged.Checksum = hex.EncodeToString(make([]byte, 16))
		_, err := c.Results.SaveAllTo(t.Context(), each(&damaged), sink)
		require.ErrorIs(t, err, ricloud.ErrChecksum)
		require.ErrorContains(t, err, "result "+string(r.ID)+" (")
	}
	assert.Empty(t, keysOf(t, client, bucket, "sink/bad"))

	// A different object with the same key is not overwritten.
	theirs := put(t, client, "sink/taken", []byte("theirs"))
	ours := put(t, client, "taken", []byte("ours"))
	saved, err := c.Results.SaveAllTo(t.Context(), each(ours), sink)
	require.NoError(t, err)
	assert.Equal(t, "s3://"+bucket+"/sink/taken~"+ours.Checksum, saved[0].Path)
	assertSaved(t, c, theirs, []byte("theirs"))

	// Several saves of the same file run at once. All succeed, and one object remains.
	body := random(3000)
	same := put(t, client, "same", body)
	saved, err = c.Results.SaveAllTo(t.Context(), each(same, same, same, same, same, same), sink,
		ricloud.WithParallel(6))
	require.NoError(t, err)
	assert.Len(t, saved, 6)
	assert.Equal(t, []string{"sink/same"}, keysOf(t, client, bucket, "sink/same"))
}

func testObjectLock(t *testing.T, client *awss3.Client) {
	t.Helper()
	until := time.Now().Add(time.Hour).Truncate(time.Second).UTC()
	sink, err := s3.NewSink(client, s3.SinkParams{
		Bucket: locked, RetainUntil: until,
		PartSize: 5 << 20, LockMode: types.ObjectLockModeGovernance,
	})
	require.NoError(t, err)
	for _, r := range []*ricloud.Result{
		put(t, client, "kept", random(100)),
		put(t, client, "kept-large", random(6<<20)),
	} {
		saved, err := newClient(t, client).Results.SaveAllTo(t.Context(), each(r), sink)
		require.NoError(t, err)
		require.Len(t, saved, 1)
		retention, err := client.GetObjectRetention(t.Context(),
			&awss3.GetObjectRetentionInput{Bucket: aws.String(locked), Key: aws.String(r.Identifier)})
		require.NoError(t, err)
		assert.Equal(t, until, retention.Retention.RetainUntilDate.UTC())
		assert.Equal(t, types.ObjectLockRetentionModeGovernance, retention.Retention.Mode)
	}
}
