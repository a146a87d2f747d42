package s3_test

import (
	"bytes"
	"context"
	"crypto/md5"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/iotest"
	"testing/synctest"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	awss3 "github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	ricloud "github.com/reincubate/ricloud-go"
	"github.com/reincubate/ricloud-go/storage/s3"
)

const partSize = 5 << 20

// large returns a body of three parts, which differ.
func large() []byte {
	return append(twoParts(), bytes.Repeat([]byte("c"), 1000)...)
}

// twoParts returns a body of exactly two parts.
func twoParts() []byte {
	return append(bytes.Repeat([]byte("a"), partSize), bytes.Repeat([]byte("b"), partSize)...)
}

// Params that cannot work are refused before any request.
func TestSinkParams(t *testing.T) {
	t.Parallel()
	client := connect("http://127.0.0.1:1")
	later := time.Now().Add(time.Hour)
	for name, test := range map[string]struct {
		client *awss3.Client
		params s3.SinkParams
		field  string
	}{
		"no client": {params: s3.SinkParams{Bucket: bucket}, field: "client"},
		"no bucket": {client: client, field: "Bucket"},
		"tiny parts": {
			client: client, params: s3.SinkParams{Bucket: bucket, PartSize: 1}, field: "PartSize",
		},
		"negative parts": {
			client: client, params: s3.SinkParams{Bucket: bucket, PartSize: -1}, field: "PartSize",
		},
		"lock without time": {
			client: client, field: "LockMode",
			params: s3.SinkParams{Bucket: bucket, LockMode: types.ObjectLockModeGovernance},
		},
		"complete": {client: client, params: s3.SinkParams{Bucket: bucket, RetainUntil: later}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, err := s3.NewSink(test.client, test.params)
			if test.field == "" {
				require.NoError(t, err)
				return
			}
			refused, ok := errors.AsType[*ricloud.ParamError](err)
			require.True(t, ok, "%v", err)
			assert.Equal(t, test.field, refused.Field)
		})
	}
}

// A stored object has the file's bytes, both digests and the retention, and it was created only
// if its key was free.
func TestSinkStoresAFile(t *testing.T) {
	t.Parallel()
	until := time.Date(2040, 1, 2, 3, 4, 5, 0, time.UTC)
	for name, body := range map[string][]byte{
		"one request": []byte("hello"), "empty": {}, "parts": large(),
		"whole parts": twoParts(),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			server := newObjectServer()
			sink := newSink(t, server.start(t), s3.SinkParams{
				Prefix: "cases/42/", PartSize: partSize, RetainUntil: until,
			})
			// The file's end is told apart from its last byte, as a connection does.
			file := fileFrom("a.json", body, iotest.DataErrReader(bytes.NewReader(body)))
			stored, err := sink.Store(t.Context(), file)
			require.NoError(t, err)
			assert.Equal(t, "s3://"+bucket+"/cases/42/a.json", stored.Location)
			object := server.object(t, "cases/42/a.json")
			assert.True(t, bytes.Equal(body, object.body), "the object has the file's bytes")
			assert.Equal(t, file.Result.Checksum, object.header.Get("X-Amz-Meta-Ricloud-Md5"))
			if len(body) <= partSize {
				sum := sha256.Sum256(body)
				assert.Equal(t, hex.EncodeToString(sum[:]), object.header.Get("X-Amz-Meta-Ricloud-Sha256"))
			}
			assert.Equal(t, "COMPLIANCE", object.header.Get("X-Amz-Object-Lock-Mode"))
			assert.Equal(t, "2040-01-02T03:04:05Z",
				object.header.Get("X-Amz-Object-Lock-Retain-Until-Date"))
			assert.Empty(t, server.uploads, "no upload is left unfinished")
		})
	}
}

// A file that ends with any other error than io.EOF is not verified, and never becomes visible.
func TestSinkStoresNothingUnverified(t *testing.T) {
	t.Parallel()
	for name, body := range map[string][]byte{"one request": []byte("hello"), "parts": large()} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			server := newObjectServer()
			sink := newSink(t, server.start(t), s3.SinkParams{PartSize: partSize})
			for _, length := range []int{0, len(body) / 2, len(body)} {
				for _, failure := range []error{ricloud.ErrChecksum, io.ErrUnexpectedEOF} {
					bad := io.MultiReader(bytes.NewReader(body[:length]), iotest.ErrReader(failure))
					_, err := sink.Store(t.Context(), fileFrom("a.json", body, bad))
					require.ErrorIs(t, err, failure)
				}
			}
			odd := fileOf("a.json", body)
			odd.Result.Checksum = "no MD5"
			_, err := sink.Store(t.Context(), odd)
			require.ErrorContains(t, err, "is not an MD5")
			assert.Empty(t, server.keys())
			assert.Empty(t, server.uploads, "unfinished uploads are aborted")
		})
	}
}

// An object that has the file already is accepted without reading the file. Any other object is
// left as it is, and the file gets its other key. If that is taken too, nothing is stored.
func TestSinkLeavesObjectsThatAreThere(t *testing.T) {
	t.Parallel()
	body := []byte("hello")
	server := newObjectServer()
	sink := newSink(t, server.start(t), s3.SinkParams{})
	_, err := sink.Store(t.Context(), fileOf("a.json", body))
	require.NoError(t, err)
	unread := iotest.ErrReader(errors.New("the file was read"))
	again, err := sink.Store(t.Context(), fileFrom("a.json", body, unread))
	require.NoError(t, err)
	assert.Equal(t, "s3://"+bucket+"/a.json", again.Location)
	sum := sha256.Sum256(body)
	assert.Equal(t, hex.EncodeToString(sum[:]), again.SHA256)

	other := fileOf("a.json", []byte("other"))
	stored, err := sink.Store(t.Context(), other)
	require.NoError(t, err)
	assert.Equal(t, "s3://"+bucket+"/a.json~"+other.Result.Checksum, stored.Location)
	assert.Equal(t, "hello", string(server.object(t, "a.json").body))

	third := fileOf("a.json", []byte("third"))
	server.store("a.json~"+third.Result.Checksum, &object{body: []byte("a user's own")})
	_, err = sink.Store(t.Context(), third)
	require.ErrorContains(t, err, "other objects under both keys of a.json")
	assert.Equal(t, "a user's own", string(server.object(t, "a.json~"+third.Result.Checksum).body))

	// The same digest with another size is another object.
	shorter := &object{header: http.Header{}}
	shorter.header.Set("X-Amz-Meta-Ricloud-Md5", fileOf("", body).Result.Checksum)
	server.store("b.json", shorter)
	stored, err = sink.Store(t.Context(), fileOf("b.json", body))
	require.NoError(t, err)
	assert.Contains(t, stored.Location, "/b.json~")
}

// race lets another Store take the key between this one's look and its PutObject.
func race(server *objectServer, status int, winner func()) {
	var once sync.Once
	server.before = func(w http.ResponseWriter, r *http.Request) bool {
		last := r.Method == http.MethodPut && !r.URL.Query().Has("uploadId") ||
			r.Method == http.MethodPost && r.URL.Query().Has("uploadId")
		refused := false
		if last {
			once.Do(func() {
				winner()
				refused = status != http.StatusPreconditionFailed // which the server says itself
			})
		}
		if refused {
			_, _ = io.Copy(io.Discard, r.Body)
			refuse(w, status, "ConditionalRequestConflict")
		}
		return refused
	}
}

// If another Store takes the key with the same file, both succeed with its one object: even if
// the server does not show it yet.
func TestSinkAcceptsTheObjectOfAnother(t *testing.T) {
	t.Parallel()
	for name, body := range map[string][]byte{"one request": []byte("hello"), "parts": large()} {
		for _, status := range []int{http.StatusPreconditionFailed, http.StatusConflict} {
			t.Run(name+" "+http.StatusText(status), func(t *testing.T) {
				t.Parallel()
				server := newObjectServer()
				sink := newSink(t, server.start(t), s3.SinkParams{PartSize: partSize})
				file := fileOf("a.json", body)
				race(server, status, func() {
					theirs := &object{body: body, header: http.Header{}, hidden: 2}
					theirs.header.Set("X-Amz-Meta-Ricloud-Md5", file.Result.Checksum)
					server.store("a.json", theirs)
				})
				stored, err := sink.Store(t.Context(), file)
				require.NoError(t, err)
				assert.Equal(t, "s3://"+bucket+"/a.json", stored.Location)
				assert.Equal(t, []string{"a.json"}, server.keys())
				assert.Empty(t, server.uploads)
			})
		}
	}
}

// If another file takes the key, this one is stored under its other key. A file in parts cannot
// be sent again, so it fails, and the next Store succeeds.
func TestSinkLosesTheKeyToAnotherFile(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		for _, body := range [][]byte{[]byte("hello"), large()} {
			server := newObjectServer()
			sink := newSink(t, connectDirectly(server), s3.SinkParams{PartSize: partSize})
			race(server, http.StatusPreconditionFailed, func() {
				server.store("a.json", &object{body: []byte("theirs")})
			})
			file := fileOf("a.json", body)
			stored, err := sink.Store(t.Context(), file)
			if len(body) > partSize {
				require.ErrorContains(t, err, "PreconditionFailed")
				assert.Empty(t, server.uploads)
				stored, err = sink.Store(t.Context(), fileOf("a.json", body))
			}
			require.NoError(t, err)
			assert.Equal(t, "s3://"+bucket+"/a.json~"+file.Result.Checksum, stored.Location)
			assert.Equal(t, "theirs", string(server.object(t, "a.json").body))
		}
	})
}

// direct calls a server without a network, so that time can be virtual.
type direct struct{ http.Handler }

func (d direct) RoundTrip(r *http.Request) (*http.Response, error) {
	if r.Body == nil {
		r.Body = http.NoBody
	}
	w := httptest.NewRecorder()
	d.ServeHTTP(w, r)
	return w.Result(), r.Context().Err()
}

func connectDirectly(server *objectServer) *awss3.Client {
	return connect("http://127.0.0.1", func(o *awss3.Options) {
		o.HTTPClient = &http.Client{Transport: direct{server}}
	})
}

// The answer to the completion of an upload is lost, and the AWS client asks again. The upload is
// no more then, because the file is stored.
func TestSinkFindsWhatItHasCompleted(t *testing.T) {
	t.Parallel()
	server := newObjectServer()
	server.before = func(w http.ResponseWriter, r *http.Request) bool {
		if r.Method != http.MethodPost || r.URL.Query().Get("uploadId") == "" {
			return false
		}
		server.before = nil
		server.ServeHTTP(httptest.NewRecorder(), r)
		refuse(w, http.StatusNotFound, "NoSuchUpload")
		return true
	}
	sink := newSink(t, connectDirectly(server), s3.SinkParams{PartSize: partSize})
	stored, err := sink.Store(t.Context(), fileOf("calls", large()))
	require.NoError(t, err)
	assert.Equal(t, "s3://"+bucket+"/calls", stored.Location)
	assert.Equal(t, []string{"calls"}, server.keys())
}

// A server that refuses the file and never shows another object ends in the server's refusal,
// within seconds, and at once if the context ends.
func TestSinkStopsLooking(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		server := newObjectServer()
		sink := newSink(t, connectDirectly(server), s3.SinkParams{})
		server.before = func(w http.ResponseWriter, r *http.Request) bool {
			if r.Method == http.MethodPut {
				refuse(w, http.StatusPreconditionFailed, "PreconditionFailed")
			}
			return r.Method == http.MethodPut
		}
		begun := time.Now()
		_, err := sink.Store(t.Context(), fileOf("a.json", []byte("hello")))
		require.ErrorContains(t, err, "412 Precondition Failed: PreconditionFailed")
		assert.Less(t, time.Since(begun), 5*time.Second)

		shutdown := errors.New("the service shuts down")
		ctx, cancel := context.WithCancelCause(t.Context())
		begun = time.Now()
		time.AfterFunc(50*time.Millisecond, func() { cancel(shutdown) })
		_, err = sink.Store(ctx, fileOf("a.json", []byte("hello")))
		require.ErrorIs(t, err, shutdown)
		require.ErrorIs(t, err, context.Canceled)
		require.ErrorContains(t, err, "PreconditionFailed")
		assert.Equal(t, 50*time.Millisecond, time.Since(begun))
	})
}

// If a request fails, its answer is the error: nothing is stored, no upload stays, and the
// error's text has nothing of the answer but its code.
func TestSinkReportsRefusals(t *testing.T) {
	t.Parallel()
	isPart := func(r *http.Request) bool { return r.URL.Query().Has("partNumber") }
	isA := func(method string) func(*http.Request) bool {
		return func(r *http.Request) bool { return r.Method == method }
	}
	for name, test := range map[string]struct {
		refused func(*http.Request) bool
		body    []byte
	}{
		"look":  {refused: isA(http.MethodHead), body: []byte("hello")},
		"put":   {refused: isA(http.MethodPut), body: []byte("hello")},
		"begin": {refused: isA(http.MethodPost), body: large()},
		"part":  {refused: isPart, body: large()},
		"end": {
			refused: func(r *http.Request) bool {
				return r.Method == http.MethodPost && r.URL.Query().Has("uploadId")
			},
			body: large(),
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			server := newObjectServer()
			server.before = func(w http.ResponseWriter, r *http.Request) bool {
				if !test.refused(r) {
					return false
				}
				_, _ = io.Copy(io.Discard, r.Body)
				refuse(w, http.StatusForbidden, "AccessDenied")
				return true
			}
			sink := newSink(t, server.start(t), s3.SinkParams{PartSize: partSize})
			_, err := sink.Store(t.Context(), fileOf("a.json", test.body))
			require.ErrorIs(t, err, ricloud.ErrForbidden)
			assert.NotContains(t, err.Error(), accessKey)
			assert.NotContains(t, err.Error(), secretKey)
			assert.Empty(t, server.keys())
			assert.Empty(t, server.uploads)
		})
	}
}

// The error of an upload that cannot be aborted says both why it failed and that it remains.
func TestSinkCannotAbort(t *testing.T) {
	t.Parallel()
	server := newObjectServer()
	server.before = func(w http.ResponseWriter, r *http.Request) bool {
		if r.Method == http.MethodDelete {
			refuse(w, http.StatusForbidden, "AccessDenied")
		}
		return r.Method == http.MethodDelete
	}
	sink := newSink(t, server.start(t), s3.SinkParams{PartSize: partSize})
	bad := io.MultiReader(bytes.NewReader(large()), iotest.ErrReader(ricloud.ErrChecksum))
	_, err := sink.Store(t.Context(), fileFrom("a.json", large(), bad))
	require.ErrorIs(t, err, ricloud.ErrChecksum)
	require.ErrorIs(t, err, ricloud.ErrForbidden)
}

// When the context ends in the middle of a request, Store returns at once. The upload is still
// aborted.
func TestSinkEndsWithItsContext(t *testing.T) {
	t.Parallel()
	server := newObjectServer()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	server.before = func(_ http.ResponseWriter, r *http.Request) bool {
		if r.URL.Query().Get("partNumber") != "2" {
			return false
		}
		_, _ = io.Copy(io.Discard, r.Body)
		cancel()
		<-r.Context().Done() // the client has left
		return true
	}
	sink := newSink(t, server.start(t), s3.SinkParams{PartSize: partSize})
	_, err := sink.Store(ctx, fileOf("a.json", large()))
	require.ErrorIs(t, err, context.Canceled)
	assert.Empty(t, server.keys())
	server.mu.Lock()
	defer server.mu.Unlock()
	assert.Empty(t, server.uploads)
}

// A put whose answer is lost is repeated by the AWS SDK, which finds its own object.
func TestSinkLosesAnAnswer(t *testing.T) {
	t.Parallel()
	server := newObjectServer()
	var lost atomic.Bool
	web := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method != http.MethodPut || lost.Swap(true) {
			server.ServeHTTP(w, r)
			return
		}
		server.ServeHTTP(httptest.NewRecorder(), r)
		panic(http.ErrAbortHandler)
	}))
	t.Cleanup(web.Close)
	client := connect(web.URL, func(o *awss3.Options) { o.RetryMaxAttempts = 3 })
	stored, err := newSink(t, client, s3.SinkParams{}).Store(t.Context(),
		fileOf("a.json", []byte("hello")))
	require.NoError(t, err)
	assert.Equal(t, "s3://"+bucket+"/a.json", stored.Location)
	assert.Equal(t, 2, server.count(http.MethodPut))
	assert.Equal(t, []string{"a.json"}, server.keys())
}

// SaveAllTo stores verified files alone. A second run stores and reads nothing.
func TestSaveAllToABucket(t *testing.T) {
	t.Parallel()
	server := newObjectServer()
	objects := server.start(t)
	client := newClient(t, objects)
	sink := newSink(t, objects, s3.SinkParams{Prefix: "kept/"})
	good, bad := put(t, objects, "good", []byte("good")), put(t, objects, "bad", []byte("bad"))
	bad.Checksum = strings.Repeat("0", 32)
	results := func(yield func(*ricloud.Result, error) bool) {
		_ = yield(good, nil) && yield(bad, nil)
	}
	for range 2 {
		saved, err := client.Results.SaveAllTo(t.Context(), results, sink)
		require.ErrorIs(t, err, ricloud.ErrChecksum)
		require.Len(t, saved, 1)
		assert.Equal(t, "s3://"+bucket+"/kept/good", saved[0].Path)
		assert.Equal(t, []string{"bad", "good", "kept/good"}, server.keys())
	}
	assert.Equal(t, 3, server.count(http.MethodPut), "two of the test, and one of the sink")
}

// A connection that breaks is resumed at its byte, of the same object.
func TestOpenerResumes(t *testing.T) {
	t.Parallel()
	server := newObjectServer()
	client := server.start(t)
	body := bytes.Repeat([]byte("0123456789"), 10_000)
	r := put(t, client, "large", body)
	var ranges []string // of one request at a time
	server.before = func(w http.ResponseWriter, r *http.Request) bool {
		ranges = append(ranges, r.Header.Get("Range")+" "+r.Header.Get("If-Match"))
		if len(ranges) > 1 {
			return false
		}
		w.Header().Set("Content-Length", "100000")
		w.Header().Set("ETag", `"`+sha(body)+`"`)
		_, _ = w.Write(body[:40_000])
		panic(http.ErrAbortHandler)
	}
	assertSaved(t, newClient(t, client), r, body)
	assert.Equal(t, []string{" ", `bytes=40000- "` + sha(body) + `"`}, ranges)
}

// An answer to a range that is not understood is an error. A whole answer to a range is used.
func TestOpenerReadsRanges(t *testing.T) {
	t.Parallel()
	server := newObjectServer()
	opener := s3.New(server.start(t))
	answer := ""
	server.before = func(w http.ResponseWriter, _ *http.Request) bool {
		if answer != "" {
			w.Header().Set("Content-Range", answer)
			w.WriteHeader(http.StatusPartialContent)
		}
		_, _ = w.Write([]byte("lo"))
		return true
	}
	want := ricloud.ObjectRequest{Bucket: bucket, Key: "a", Offset: 3}
	whole, err := opener.OpenObject(t.Context(), want)
	require.NoError(t, err)
	assert.Zero(t, whole.Offset)
	require.NoError(t, whole.Body.Close())
	answer = "bytes 3-4/5"
	part, err := opener.OpenObject(t.Context(), want)
	require.NoError(t, err)
	assert.Equal(t, int64(3), part.Offset)
	require.NoError(t, part.Body.Close())
	answer = "lines 3-4/5"
	_, err = opener.OpenObject(t.Context(), want)
	require.ErrorContains(t, err, "unreadable Content-Range")
}

// Without an answer there is no status, and the error is retried.
func TestOpenerWithoutAServer(t *testing.T) {
	t.Parallel()
	closed := httptest.NewServer(http.NotFoundHandler())
	closed.Close()
	_, err := s3.New(connect(closed.URL)).OpenObject(t.Context(),
		ricloud.ObjectRequest{Bucket: bucket, Key: "a"})
	require.ErrorContains(t, err, "s3: bucket "+bucket)
	_, ok := errors.AsType[*ricloud.StorageError](err)
	assert.False(t, ok)
	assert.NotContains(t, err.Error(), secretKey)
}

// The opener asks for no checksum, whatever the AWS client does: the client of the API verifies the
// file, and an object that is stored in parts has a checksum of its parts.
func TestOpenerAsksForNoChecksum(t *testing.T) {
	t.Parallel()
	server := newObjectServer()
	body := large()
	server.store("a", &object{body: body})
	server.before = func(w http.ResponseWriter, r *http.Request) bool {
		assert.Empty(t, r.Header.Get("X-Amz-Checksum-Mode"))
		w.Header().Set("X-Amz-Checksum-Crc32", "AAAAAA==")
		return false
	}
	client := awss3.New(server.start(t).Options(), func(o *awss3.Options) {
		o.ResponseChecksumValidation = aws.ResponseChecksumValidationWhenSupported
	})
	sum := md5.Sum(body)
	assertSaved(t, newClient(t, client), &ricloud.Result{
		ID: "r", Identifier: "a", URL: "s3://" + bucket + "/a",
		Checksum: hex.EncodeToString(sum[:]), Size: int64(len(body)),
	}, body)
}
