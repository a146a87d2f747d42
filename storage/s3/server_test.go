package s3_test

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"testing/iotest"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	awss3 "github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	ricloud "github.com/reincubate/ricloud-go"
)

const (
	accessKey = "AKIACANARY"
	secretKey = "canary-secret"
)

// startServer builds and starts a server that, unlike those in memory, checks
// signatures and conditions. The build takes a minute the first time.
func startServer(t *testing.T) (endpoint string) {
	t.Helper()
	if testing.Short() {
		t.Skip("builds versitygw")
	}
	dir := t.TempDir()
	program := filepath.Join(dir, "versitygw")
	build := exec.CommandContext(t.Context(), "go", "build", "-o", program, "github.com/versity/versitygw/cmd/versitygw") //nolint:gosec // a folder of the test's own
	build.Dir, build.Env = filepath.Join("testdata", "versitygw"), append(os.Environ(), "GOWORK=off")
	if out, err := build.CombinedOutput(); err != nil {
		t.Skipf("versitygw cannot be built here: %v: %.500s", err, out)
	}
	l, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	require.NoError(t, err)
	address := l.Addr().String()
	require.NoError(t, l.Close())
	root, meta := filepath.Join(dir, "data"), filepath.Join(dir, "meta")
	require.NoError(t, os.MkdirAll(root, 0o700))
	require.NoError(t, os.MkdirAll(meta, 0o700))
	ctx, cancel := context.WithCancel(context.Background())
	server := exec.CommandContext(ctx, program, "--port", address, "posix", "--sidecar", meta, root) //nolint:gosec // built above
	server.Env = append(os.Environ(), "ROOT_ACCESS_KEY="+accessKey, "ROOT_SECRET_KEY="+secretKey)
	require.NoError(t, server.Start())
	t.Cleanup(func() {
		cancel()
		_ = server.Wait()
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

// cutOnce breaks the first body of an object after n bytes, then calls then.
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

func TestServerThatChecks(t *testing.T) {
	t.Parallel()
	endpoint := startServer(t)
	client := connect(endpoint)
	_, err := client.CreateBucket(t.Context(), &awss3.CreateBucketInput{Bucket: aws.String(bucket)})
	require.NoError(t, err)
	// through returns the client with something between it and the server.
	through := func(between http.RoundTripper, secret string) *ricloud.Client {
		return newClient(t, connect(endpoint, func(o *awss3.Options) {
			o.HTTPClient = &http.Client{Transport: between}
			o.Credentials = credentials.NewStaticCredentialsProvider(accessKey, secret, "")
		}))
	}
	transport := &http.Transport{}
	t.Cleanup(transport.CloseIdleConnections)

	for _, key := range []string{"plain", "dir/a b+c", "per%2Fcent%zz", "q?x=1&y#f", "ключ-日本-🎉", "semi;colon=equals", `'quo"tes'`} {
		body := []byte("the content of " + key)
		assertSaved(t, newClient(t, client), put(t, client, key, body), body)
	}
	body := bytes.Repeat([]byte("0123456789abcdef"), 1<<16)
	r := put(t, client, "large", body)
	assertSaved(t, through(&cutOnce{transport, 300_000, func() {}}, secretKey), r, body)

	_, err = through(transport, "canary-wrong").Results.Open(t.Context(), r)
	require.ErrorIs(t, err, ricloud.ErrForbidden)
	require.ErrorContains(t, err, "SignatureDoesNotMatch")
	assert.NotContains(t, fmt.Sprint(err), "canary")

	replaced := through(&cutOnce{transport, 300_000, func() { put(t, client, "large", bytes.Repeat([]byte("x"), len(body))) }}, secretKey)
	_, err = replaced.Results.Save(t.Context(), r, t.TempDir())
	require.ErrorIs(t, err, ricloud.ErrObjectChanged)
	require.ErrorContains(t, err, "PreconditionFailed", "the server said so")
}
