package ricloudtest_test

import (
	"bytes"
	"context"
	"crypto/md5"
	"encoding/hex"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	ricloud "github.com/reincubate/ricloud-go"
	"github.com/reincubate/ricloud-go/ricloudtest"
)

func checksum(t *testing.T, content ricloudtest.Content) string {
	t.Helper()
	hash := md5.New()
	_, err := io.Copy(hash, io.NewSectionReader(content, 0, content.Size()))
	require.NoError(t, err)
	return hex.EncodeToString(hash.Sum(nil))
}

// retrieve runs a poll for calls until it ends.
func retrieve(ctx context.Context, t *testing.T, srv *ricloudtest.Server) (*ricloud.Poll, error) {
	t.Helper()
	c := srv.Client()
	poll, err := c.Polls.Create(ctx, ricloud.PollCreateParams{
		Session: john(ctx, t, c).ID,
		Payload: ricloud.PollPayload{DataTypes: []string{"callkit.calls"}},
	})
	require.NoError(t, err)
	return c.Polls.Wait(ctx, poll.ID)
}

// A document of a gigabyte is served without being kept in memory.
func TestGigabytes(t *testing.T) {
	t.Parallel()
	const count, width = 5_000_000, 200
	big := ricloudtest.GenerateRecords(count, width, func(i int) any {
		return map[string]int{"id": i}
	})
	assert.Greater(t, big.Size(), int64(1_000_000_000))
	tail := make([]byte, 300)
	n, err := big.ReadAt(tail, big.Size()-300)
	require.NoError(t, err)
	assert.Equal(t, 300, n)
	assert.Contains(t, string(tail), `{"id":4999999}`)
	assert.True(t, strings.HasSuffix(string(tail), `],"metadata":{"count":5000000}}`))
}

func TestGenerateRecords(t *testing.T) {
	t.Parallel()
	for _, count := range []int{0, 1, 3} {
		content := ricloudtest.GenerateRecords(count, 20, func(i int) any {
			return map[string]any{"id": i, "text": strings.Repeat("x", i*10)}
		})
		var doc struct {
			Data     []json.RawMessage `json:"data"`
			Metadata struct {
				Count int `json:"count"`
			} `json:"metadata"`
		}
		require.NoError(t, json.NewDecoder(io.NewSectionReader(content, 0, content.Size())).Decode(&doc))
		assert.Len(t, doc.Data, count)
		assert.Equal(t, count, doc.Metadata.Count)
	}
	assert.Zero(t, ricloudtest.GenerateBytes(1, -5).Size())
	assert.Equal(t, checksum(t, ricloudtest.GenerateRecords(0, 5, nil)),
		checksum(t, ricloudtest.GenerateRecords(-1, -5, nil)))
	var nulls bytes.Buffer
	content := ricloudtest.GenerateRecords(2, 4, nil)
	_, err := nulls.ReadFrom(io.NewSectionReader(content, 0, content.Size()))
	require.NoError(t, err)
	assert.JSONEq(t, `{"data":[null,null],"metadata":{"count":2}}`, nulls.String())
	assert.Empty(t, ricloudtest.MockAccounts(-1))
	once := checksum(t, ricloudtest.GenerateBytes(1, 10_000))
	assert.Equal(t, once, checksum(t, ricloudtest.GenerateBytes(1, 10_000)))
	assert.NotEqual(t, once, checksum(t, ricloudtest.GenerateBytes(2, 10_000)))
	_, err = ricloudtest.GenerateBytes(1, 10).ReadAt(make([]byte, 1), 10)
	require.ErrorIs(t, err, io.EOF)
}

func TestLocalStorage(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	srv := newServer(t, ricloudtest.WithLocalStorage(dir))
	poll, err := retrieve(t.Context(), t, srv)
	require.NoError(t, err)
	result := poll.Results.Data[0]
	path, ok := strings.CutPrefix(result.URL, "local://")
	require.True(t, ok)
	written, err := os.Open(path)
	require.NoError(t, err)
	t.Cleanup(func() { assert.NoError(t, written.Close()) })
	info, err := written.Stat()
	require.NoError(t, err)
	assert.Equal(t, result.Size, info.Size())
	assert.Equal(t, result.Checksum, checksum(t, io.NewSectionReader(written, 0, info.Size())))

	for url, status := range map[string]int{
		"local://" + filepath.Join(dir, "more"): 201,
		"local:///etc":                          400, "local://" + dir + "/../x": 400,
	} {
		got, _ := send(t.Context(), t, srv, http.MethodPost, "/configs/storage", srv.Token(),
			`{"url":"`+url+`"}`)
		assert.Equal(t, status, got, url)
	}
}

// bucket is a Publisher that records what it is given.
type bucket struct {
	mu   sync.Mutex
	urls []string
	err  error
}

func (b *bucket) Publish(_ context.Context, url string, content ricloudtest.Content) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if content.Size() > 0 {
		b.urls = append(b.urls, url)
	}
	return b.err
}

func TestPublisher(t *testing.T) {
	t.Parallel()
	to := &bucket{}
	srv := newServer(t, ricloudtest.WithPublisher(to))
	poll, err := retrieve(t.Context(), t, srv)
	require.NoError(t, err)
	assert.Equal(t, []string{poll.Results.Data[0].URL}, to.urls)
	assert.Zero(t, poll.Results.Data[0].SignedURL, "the bytes are not the sandbox's to serve")

	refusing := newServer(t, ricloudtest.WithPublisher(&bucket{err: errors.New("access denied")}))
	poll, err = retrieve(t.Context(), t, refusing)
	require.Error(t, err)
	assert.Len(t, poll.TasksFailed, 1)
	c := refusing.Client()
	config, err := c.StorageConfigs.Create(t.Context(),
		ricloud.StorageConfigCreateParams{
			URL: "s3://b/p",
			Credentials: ricloud.Credentials{
				"access_key_id":     ricloud.NewSecret("a"),
				"secret_access_key": ricloud.NewSecret("b"),
			},
		})
	require.NoError(t, err)
	assert.Eventually(t, func() bool {
		config, err = c.StorageConfigs.Get(t.Context(), config.ID)
		return err == nil && config.State == "invalid"
	}, 30*time.Second, 10*time.Millisecond)
}

func TestStorageConfigStates(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		url         string
		credentials ricloud.Credentials
		want        ricloud.ConfigState
	}{
		"s3": {url: "s3://b/p", credentials: ricloud.Credentials{
			"access_key_id":     ricloud.NewSecret("a"),
			"secret_access_key": ricloud.NewSecret("b"),
		}, want: "valid"},
		"gs": {url: "gs://b/p", credentials: ricloud.Credentials{
			"client_email": ricloud.NewSecret("a"),
			"private_key":  ricloud.NewSecret("b"),
		}, want: "valid"},
		"half": {
			url:         "s3://b/p",
			credentials: ricloud.Credentials{"access_key_id": ricloud.NewSecret("a")},
			want:        "invalid",
		},
		"wrong kind": {url: "gs://b/p", credentials: ricloud.Credentials{
			"access_key_id":     ricloud.NewSecret("a"),
			"secret_access_key": ricloud.NewSecret("b"),
		}, want: "invalid"},
	} {
		srv := newServer(t)
		c := srv.Client()
		config, err := c.StorageConfigs.Create(t.Context(),
			ricloud.StorageConfigCreateParams{URL: test.url, Credentials: test.credentials})
		require.NoError(t, err)
		assert.Equal(t, ricloud.ConfigState("new"), config.State)
		srv.Advance(time.Second)
		config, err = c.StorageConfigs.Get(t.Context(), config.ID)
		require.NoError(t, err)
		assert.Equal(t, test.want, config.State, name)
	}
}

// Objects can be removed, replaced or expire independently of the API.
func TestObjectsVanishChangeAndExpire(t *testing.T) {
	t.Parallel()
	srv := newServer(t)
	poll, err := retrieve(t.Context(), t, srv)
	require.NoError(t, err)
	result := poll.Results.Data[0]
	read := func() (int, string) {
		res, err := fetch(t.Context(), srv, result.SignedURL.URL.Reveal(), nil)
		require.NoError(t, err)
		defer res.Body.Close()
		body, err := readAll(res)
		require.NoError(t, err)
		return res.StatusCode, string(body)
	}
	require.NoError(t, srv.ReplaceObject(result.ID, strings.NewReader("other")))
	_, body := read()
	assert.Equal(t, "other", body)
	require.NoError(t, srv.RemoveObject(result.ID))
	status, _ := read()
	assert.Equal(t, http.StatusNotFound, status)

	srv.Advance(time.Hour)
	status, _ = read()
	assert.Equal(t, http.StatusForbidden, status)
	late, err := srv.Client().Results.Get(t.Context(), result.ID)
	require.NoError(t, err)
	assert.Zero(t, late.SignedURL, "null once it has expired")

	require.NoError(t, srv.ExpireResult(result.ID))
	gone, err := srv.Client().Results.Get(t.Context(), result.ID)
	require.NoError(t, err)
	assert.Equal(t, ricloud.ResultExpired, gone.State)
	for _, err := range []error{
		srv.ExpireResult("x"), srv.RemoveObject("x"),
		srv.ReplaceObject("x", nil), srv.ReplaceObject(result.ID, nil),
	} {
		require.Error(t, err)
	}
}
