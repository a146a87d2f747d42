package gcs_test

import (
	"bytes"
	"compress/gzip"
	"crypto/md5"
	"encoding/hex"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"cloud.google.com/go/storage"
	"github.com/fsouza/fake-gcs-server/fakestorage"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"google.golang.org/api/option"

	ricloud "github.com/reincubate/ricloud-go"
	"github.com/reincubate/ricloud-go/storage/gcs"
)

const bucket = "results"

// service is a storage service in memory, with a bucket.
type service struct {
	*fakestorage.Server

	client *ricloud.Client
	opener *gcs.Opener
}

func newService(t *testing.T, between func(http.Handler) http.Handler) service {
	t.Helper()
	fake, err := fakestorage.NewServerWithOptions(fakestorage.Options{NoListener: true})
	require.NoError(t, err)
	fake.CreateBucketWithOpts(fakestorage.CreateBucketOpts{Name: bucket})
	server := httptest.NewServer(between(fake.HTTPHandler()))
	objects, err := storage.NewClient(t.Context(), option.WithEndpoint(server.URL+"/storage/v1/"),
		option.WithoutAuthentication(), storage.WithJSONReads())
	require.NoError(t, err)
	client, err := ricloud.NewClient("canary-token", ricloud.WithStorage("gs", gcs.New(objects)),
		ricloud.WithRetryWait(time.Millisecond, time.Millisecond))
	require.NoError(t, err)
	t.Cleanup(func() {
		client.Close()
		assert.NoError(t, objects.Close())
		server.Close()
		fake.Stop()
	})
	return service{fake, client, gcs.New(objects)}
}

func straight(next http.Handler) http.Handler { return next }

func (s service) put(key string, body []byte) *ricloud.Result {
	s.CreateObject(fakestorage.Object{ObjectAttrs: fakestorage.ObjectAttrs{
		BucketName: bucket,
		Name:       key,
	}, Content: body})
	sum := md5.Sum(body)
	return &ricloud.Result{
		ID: "r", Identifier: key, URL: "gs://" + bucket + "/" + key,
		Checksum: hex.EncodeToString(sum[:]), Size: int64(len(body)),
	}
}

func (s service) assertSaved(t *testing.T, r *ricloud.Result, want []byte) {
	t.Helper()
	saved, err := s.client.Results.Save(t.Context(), r, t.TempDir())
	require.NoError(t, err)
	got, err := os.ReadFile(saved.Path)
	require.NoError(t, err)
	assert.True(t, bytes.Equal(want, got))
}

func TestKeys(t *testing.T) {
	t.Parallel()
	s := newService(t, straight)
	for _, key := range []string{
		"plain", "dir/a b+c", "per%2Fcent", "q?x=1&y#f", "x//y", "/leading",
		"ключ-日本-🎉", "semi;colon=equals", `'quo"tes'`,
	} {
		body := []byte("the content of " + key)
		s.assertSaved(t, s.put(key, body), body)
	}
}

func TestWithoutAClient(t *testing.T) {
	t.Parallel()
	_, err := gcs.New(nil).OpenObject(t.Context(), ricloud.ObjectRequest{Bucket: bucket, Key: "k"})
	require.ErrorContains(t, err, "the client is nil")
}

func TestErrors(t *testing.T) {
	t.Parallel()
	s := newService(t, straight)
	r := s.put("there", []byte("there"))
	for _, url := range []string{"gs://" + bucket + "/missing", "gs://no-such-bucket/there"} {
		missing := *r
		missing.URL = url
		_, err := s.client.Results.Open(t.Context(), &missing)
		require.ErrorIs(t, err, ricloud.ErrNotFound)
	}
	s.put("there", []byte("other"))
	_, err := s.client.Results.Save(t.Context(), r, t.TempDir())
	require.ErrorIs(t, err, ricloud.ErrChecksum)
	s.put("there", []byte("longer than it was"))
	_, err = s.client.Results.Save(t.Context(), r, t.TempDir())
	require.ErrorIs(t, err, ricloud.ErrSize)
}

func TestStatuses(t *testing.T) {
	t.Parallel()
	for status, want := range map[int]error{
		http.StatusForbidden: ricloud.ErrForbidden, http.StatusUnauthorized: ricloud.ErrForbidden,
		http.StatusPreconditionFailed: ricloud.ErrObjectChanged,
	} {
		s := newService(t, func(http.Handler) http.Handler {
			return http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(status) })
		})
		r := ricloud.Result{ID: "r", URL: "gs://" + bucket + "/x", Checksum: strings.Repeat("0", 32)}
		_, err := s.client.Results.Open(t.Context(), &r)
		require.ErrorIs(t, err, want)
	}
}

type cutter struct {
	next http.Handler
	left *atomic.Int64 // number of cuts left
}

func (c cutter) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.Method == http.MethodGet && c.left.Add(-1) >= 0 {
		w = &cutWriter{w, rand.Int64N(1 << 19)}
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

func TestCuts(t *testing.T) {
	t.Parallel()
	var left atomic.Int64
	s := newService(t, func(next http.Handler) http.Handler { return cutter{next, &left} })
	body := make([]byte, 8<<20)
	_, _ = rand.NewChaCha8([32]byte{}).Read(body)
	r := s.put("video.mov", body)
	left.Store(5)
	s.assertSaved(t, r, body)
	assert.Negative(t, left.Load(), "every cut was made")
}

// A range begins at the requested offset, and has the version of the whole object.
func TestOpenObjectAtAnOffset(t *testing.T) {
	t.Parallel()
	s := newService(t, straight)
	s.put("digits", []byte("0123456789"))
	object, err := s.opener.OpenObject(t.Context(),
		ricloud.ObjectRequest{Bucket: bucket, Key: "digits", Offset: 4})
	require.NoError(t, err)
	defer object.Body.Close()
	var got bytes.Buffer
	_, err = got.ReadFrom(object.Body)
	require.NoError(t, err)
	assert.Equal(t, "456789", got.String())
	assert.Equal(t, int64(4), object.Offset)
	assert.Equal(t, int64(10), object.Size)
	assert.NotEmpty(t, object.Version)
}

// compressing serves an object that is stored compressed, over either API of the service.
func compressing(plain, stored []byte) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("X-Goog-Generation", "7")
		w.Header().Set("X-Goog-Stored-Content-Encoding", "gzip")
		if !strings.Contains(r.Header.Get("Accept-Encoding"), "gzip") {
			_, _ = w.Write(plain) // the service decompresses for clients that do not accept gzip
			return
		}
		w.Header().Set("Content-Encoding", "gzip")
		http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(stored))
	})
}

// newCompressing returns a storage client of a service with a compressed object, its result, its
// stored bytes, and the number of connections to cut.
func newCompressing(
	t *testing.T, options ...option.ClientOption,
) (*storage.Client, *ricloud.Result, []byte, *atomic.Int64) {
	t.Helper()
	plain := make([]byte, 600_000)
	_, _ = rand.NewChaCha8([32]byte{}).Read(plain)
	var stored bytes.Buffer
	w := gzip.NewWriter(&stored)
	_, _ = w.Write(plain)
	require.NoError(t, w.Close())
	var cuts atomic.Int64
	server := httptest.NewServer(cutter{compressing(plain, stored.Bytes()), &cuts})
	t.Cleanup(server.Close)
	objects, err := storage.NewClient(t.Context(), append(options,
		option.WithEndpoint(server.URL), option.WithoutAuthentication())...)
	require.NoError(t, err)
	t.Cleanup(func() { assert.NoError(t, objects.Close()) })
	sum := md5.Sum(stored.Bytes())
	return objects, &ricloud.Result{
		ID: "r", Identifier: "a", URL: "gs://" + bucket + "/a",
		Checksum: hex.EncodeToString(sum[:]), Size: int64(stored.Len()),
	}, stored.Bytes(), &cuts
}

// An object that is stored with Content-Encoding: gzip is read as it is stored, even if its
// connections break.
func TestOpenObjectThatIsStoredCompressed(t *testing.T) {
	t.Parallel()
	objects, result, stored, cuts := newCompressing(t)
	client, err := ricloud.NewClient("canary-token", ricloud.WithStorage("gs", gcs.New(objects)),
		ricloud.WithRetryWait(time.Millisecond, time.Millisecond))
	require.NoError(t, err)
	defer client.Close()
	for _, n := range []int64{0, 4} {
		cuts.Store(n)
		saved, err := client.Results.Save(t.Context(), result, t.TempDir())
		require.NoError(t, err)
		got, err := os.ReadFile(saved.Path)
		require.NoError(t, err)
		assert.True(t, bytes.Equal(stored, got))
	}
	cuts.Store(0)
	object, err := gcs.New(objects).OpenObject(t.Context(),
		ricloud.ObjectRequest{Bucket: bucket, Key: "a", Offset: 1000})
	require.NoError(t, err)
	defer object.Body.Close()
	var got bytes.Buffer
	_, err = got.ReadFrom(object.Body)
	require.NoError(t, err)
	assert.True(t, bytes.Equal(stored[1000:], got.Bytes()))
	assert.Equal(t, int64(len(stored)), object.Size)
	assert.Equal(t, int64(1000), object.Offset)
}

// Google's client cannot read stored bytes over JSON, and the error says what to do.
func TestOpenObjectThatIsStoredCompressedOverJSON(t *testing.T) {
	t.Parallel()
	objects, result, _, _ := newCompressing(t, storage.WithJSONReads())
	client, err := ricloud.NewClient("canary-token", ricloud.WithStorage("gs", gcs.New(objects)))
	require.NoError(t, err)
	defer client.Close()
	_, err = client.Results.Open(t.Context(), result)
	require.ErrorIs(t, err, ricloud.ErrNoStorage)
	require.ErrorContains(t, err, "WithJSONReads cannot read such objects")
}

// The version is the object's generation: a replaced object is not read further.
func TestOpenObjectOfAnotherGeneration(t *testing.T) {
	t.Parallel()
	s := newService(t, func(next http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if r.URL.Query().Get("ifGenerationMatch") == "1" { // the fake server ignores conditions
				w.WriteHeader(http.StatusPreconditionFailed)
				return
			}
			next.ServeHTTP(w, r)
		})
	})
	s.put("digits", []byte("0123456789"))
	open := func(version string) (*ricloud.Object, error) {
		return s.opener.OpenObject(t.Context(),
			ricloud.ObjectRequest{Bucket: bucket, Key: "digits", Offset: 4, Version: version})
	}
	first, err := open("")
	require.NoError(t, err)
	require.NoError(t, first.Body.Close())
	same, err := open(first.Version)
	require.NoError(t, err)
	assert.Equal(t, first.Version, same.Version)
	require.NoError(t, same.Body.Close())

	_, err = open("1")
	require.ErrorIs(t, err, ricloud.ErrObjectChanged)
	_, err = open("not a number")
	require.ErrorContains(t, err, "is not a generation")
}
