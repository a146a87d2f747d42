package ricloudtest_test

import (
	"encoding/xml"
	"net/http"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	ricloud "github.com/reincubate/ricloud-go"
	"github.com/reincubate/ricloud-go/ricloudtest"
)

// bucketed returns a server with the objects of one poll, and their bucket and keys.
func bucketed(t *testing.T, opts ...ricloudtest.Option) (*ricloudtest.Server, []string) {
	t.Helper()
	srv := newServer(t, opts...)
	c := srv.Client()
	poll, err := c.Polls.Create(t.Context(), ricloud.PollCreateParams{
		Session: john(t.Context(), t, c).ID,
		Payload: ricloud.PollPayload{DataTypes: []string{
			"callkit.calls", "photos.photos",
			"whatsapp.messages",
		}},
	})
	require.NoError(t, err)
	poll, err = c.Polls.Wait(t.Context(), poll.ID)
	require.NoError(t, err)
	var paths []string
	for _, result := range poll.Results.Data {
		_, path, _ := strings.Cut(result.URL, "://")
		paths = append(paths, path)
	}
	require.Len(t, paths, 3)
	return srv, paths
}

// bucketAnswer is an answer with its body.
type bucketAnswer struct {
	StatusCode    int
	ContentLength int64
	Header        http.Header
}

func readBucket(
	t *testing.T, srv *ricloudtest.Server, method, path string, header http.Header,
) (bucketAnswer, []byte) {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), method, "https://storage.ricloud.test"+path,
		http.NoBody)
	require.NoError(t, err)
	r.Header = header
	res, err := srv.RoundTrip(r)
	require.NoError(t, err)
	body, err := readAll(res)
	require.NoError(t, err)
	require.NoError(t, res.Body.Close())
	return bucketAnswer{res.StatusCode, res.ContentLength, res.Header}, body
}

func aws(id string) http.Header {
	return http.Header{"Authorization": {"AWS4-HMAC-SHA256 Credential=" + id +
		"/20200101/us-east-1/s3/aws4_request, SignedHeaders=host, Signature=0"}}
}

// An S3 client can read objects, sizes, ranges and lists.
func TestBucketsSpeakS3(t *testing.T) {
	t.Parallel()
	srv, paths := bucketed(t, ricloudtest.WithStorageKey("good", "secret"))
	res, body := readBucket(t, srv, http.MethodGet, "/"+paths[0], aws("good"))
	assert.Equal(t, 200, res.StatusCode)
	head, nothing := readBucket(t, srv, http.MethodHead, "/"+paths[0], aws("good"))
	assert.EqualValues(t, len(body), head.ContentLength)
	assert.Empty(t, nothing)
	ranged := aws("good")
	ranged.Set("Range", "bytes=2-5")
	res, part := readBucket(t, srv, http.MethodGet, "/"+paths[0], ranged)
	assert.Equal(t, 206, res.StatusCode)
	assert.Equal(t, body[2:6], part)

	var list struct {
		Truncated bool   `xml:"IsTruncated"`
		Next      string `xml:"NextContinuationToken"`
		Count     int    `xml:"KeyCount"`
		Contents  []struct {
			Key  string `xml:"Key"`
			Size int64  `xml:"Size"`
		} `xml:"Contents"`
	}
	bucket, key, _ := strings.Cut(paths[0], "/")
	prefix := key[:strings.LastIndex(key, "/")]
	var keys []string
	token := ""
	for range 3 {
		res, body = readBucket(t, srv, http.MethodGet,
			"/"+bucket+"?list-type=2&max-keys=1&prefix="+prefix+token, aws("good"))
		require.Equal(t, 200, res.StatusCode)
		list.Contents = nil
		require.NoError(t, xml.Unmarshal(body, &list))
		require.Len(t, list.Contents, 1)
		assert.Positive(t, list.Contents[0].Size)
		keys = append(keys, bucket+"/"+list.Contents[0].Key)
		token = "&continuation-token=" + list.Next
	}
	assert.False(t, list.Truncated)
	assert.ElementsMatch(t, paths, keys)
	_, body = readBucket(t, srv, http.MethodGet,
		"/"+bucket+"?list-type=2&encoding-type=url&prefix="+prefix, aws("good"))
	assert.Contains(t, string(body), "<EncodingType>url</EncodingType>")
	res, _ = readBucket(t, srv, http.MethodHead, "/"+bucket, aws("good"))
	assert.Equal(t, 200, res.StatusCode)
	for path, want := range map[string]int{"/" + paths[0] + "x": 404, "/" + bucket + "/none": 404} {
		res, _ = readBucket(t, srv, http.MethodGet, path, aws("good"))
		assert.Equal(t, want, res.StatusCode)
	}
	res, body = readBucket(t, srv, http.MethodGet, "/"+paths[0], aws("bad"))
	assert.Equal(t, 403, res.StatusCode)
	assert.Contains(t, string(body), "InvalidAccessKeyId")
	res, _ = readBucket(t, srv, http.MethodPut, "/"+paths[0], aws("good"))
	assert.Equal(t, 405, res.StatusCode)
	res, _ = readBucket(t, srv, http.MethodGet, "/"+paths[0], http.Header{})
	assert.Equal(t, 403, res.StatusCode, "no credentials at all")
	res, _ = readBucket(t, srv, http.MethodGet, "/"+paths[0],
		http.Header{"Authorization": {"Token x"}})
	assert.Equal(t, 400, res.StatusCode, "the API's token is no business of storage")
}

// With a storage key, a config with other credentials becomes invalid.
func TestStorageKeyDecidesConfigs(t *testing.T) {
	t.Parallel()
	srv := newServer(t, ricloudtest.WithStorageKey("good", "secret"))
	for secret, want := range map[string]string{"secret": "valid", "wrong": "invalid"} {
		_, made := send(t.Context(), t, srv, "POST", "/configs/storage", srv.Token(),
			`{"url":"s3://b/p","credentials":{"access_key_id":"good","secret_access_key":"`+secret+`"}}`)
		srv.Advance(1e9)
		//nolint:forcetypeassert // the test may fail here
		_, config := send(t.Context(), t, srv, "GET", "/configs/storage/"+made["id"].(string),
			srv.Token(), "")
		assert.Equal(t, want, config["state"], secret)
	}
}

// Google's clients read objects with the XML API, and metadata, downloads and lists with the JSON
// API.
func TestBucketsSpeakGoogle(t *testing.T) {
	t.Parallel()
	srv, paths := bucketed(t)
	bucket, key, _ := strings.Cut(paths[0], "/")
	escaped := strings.ReplaceAll(key, "/", "%2F")
	google := http.Header{"X-Goog-Api-Client": {"gl-go/1.26"}}
	res, body := readBucket(t, srv, http.MethodGet, "/"+paths[0], google)
	assert.Equal(t, 200, res.StatusCode)
	assert.Equal(t, "1", res.Header.Get("X-Goog-Generation"))
	for _, path := range []string{
		"/download/storage/v1/b/" + bucket + "/o/" + escaped + "?alt=media",
		"/storage/v1/b/" + bucket + "/o/" + escaped + "?alt=media",
	} {
		res, again := readBucket(t, srv, http.MethodGet, path, http.Header{})
		assert.Equal(t, 200, res.StatusCode)
		assert.Equal(t, body, again)
		assert.Contains(t, res.Header.Get("X-Goog-Hash"), "md5=")
	}
	_, meta := readBucket(t, srv, http.MethodGet, "/storage/v1/b/"+bucket+"/o/"+escaped, http.Header{})
	assert.Contains(t, string(meta), `"md5Hash"`)
	_, list := readBucket(t, srv, http.MethodGet,
		"/storage/v1/b/"+bucket+"/o?prefix=results&maxResults=2", http.Header{})
	assert.Contains(t, string(list), `"nextPageToken"`)
	assert.Equal(t, 2, strings.Count(string(list), `"storage#object"`))
	res, _ = readBucket(t, srv, http.MethodGet, "/storage/v1/b/"+bucket+"/o/none", http.Header{})
	assert.Equal(t, 404, res.StatusCode)
}

// HEAD of a signed URL returns the size of the object.
func TestHeadOfSignedURL(t *testing.T) {
	t.Parallel()
	srv := newServer(t)
	poll, err := retrieve(t.Context(), t, srv)
	require.NoError(t, err)
	sockets := &http.Transport{}
	t.Cleanup(sockets.CloseIdleConnections)
	client := srv.Client(ricloud.WithBaseURL(srv.URL()), ricloud.WithTransport(sockets))
	over, err := client.Results.Get(t.Context(), poll.Results.Data[0].ID)
	require.NoError(t, err)
	for rt, url := range map[http.RoundTripper]string{
		srv: poll.Results.Data[0].SignedURL.URL.Reveal(), sockets: over.SignedURL.URL.Reveal(),
	} {
		r, err := http.NewRequestWithContext(t.Context(), http.MethodHead, url, http.NoBody)
		require.NoError(t, err)
		res, err := rt.RoundTrip(r)
		require.NoError(t, err)
		require.NoError(t, res.Body.Close())
		assert.Equal(t, 200, res.StatusCode)
		assert.Equal(t, poll.Results.Data[0].Size, res.ContentLength)
	}
	assert.True(t, strings.HasPrefix(over.SignedURL.URL.Reveal(), srv.StorageURL()))
}
