package s3_test

import (
	"bytes"
	"crypto/md5"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"

	awss3 "github.com/aws/aws-sdk-go-v2/service/s3"
	smithyhttp "github.com/aws/smithy-go/transport/http"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	ricloud "github.com/reincubate/ricloud-go"
	"github.com/reincubate/ricloud-go/storage/s3"
)

const digits = "0123456789abcdefghij"

// saveDigits saves an object that the handler serves, which should be the digits.
func saveDigits(t *testing.T, client *awss3.Client) error {
	t.Helper()
	sum := md5.Sum([]byte(digits))
	saved, err := newClient(t, client).Results.Save(t.Context(), &ricloud.Result{
		ID: "r", Identifier: "digits", URL: "s3://" + bucket + "/digits",
		Checksum: hex.EncodeToString(sum[:]), Size: int64(len(digits)),
	}, t.TempDir())
	if err != nil {
		return err
	}
	got, err := os.ReadFile(saved.Path)
	require.NoError(t, err)
	assert.Equal(t, digits, string(got), "a wrong success")
	return nil
}

// broken sends a body that breaks off.
func broken(w http.ResponseWriter, length int, part string) {
	w.Header().Set("Content-Length", strconv.Itoa(length))
	_, _ = w.Write([]byte(part))
	_ = http.NewResponseController(w).Flush()
	panic(http.ErrAbortHandler)
}

// A body may break off at any byte.
func TestOpenerOfABodyThatBreaksAnywhere(t *testing.T) {
	t.Parallel()
	var cut atomic.Int64
	server := newObjectServer()
	server.store("digits", &object{body: []byte(digits)})
	server.before = func(w http.ResponseWriter, r *http.Request) bool {
		if r.Header.Get("Range") == "" {
			w.Header().Set("ETag", `"`+sha([]byte(digits))+`"`)
			broken(w, len(digits), digits[:cut.Load()])
		}
		return false
	}
	client := server.start(t)
	for n := 1; n < len(digits); n++ {
		cut.Store(int64(n))
		require.NoError(t, saveDigits(t, client), "%d bytes", n)
	}
}

// Storage that answers wrongly when it is asked to go on leads to an error that says so, or to a
// file that is right.
func TestOpenerOfStorageThatLies(t *testing.T) {
	t.Parallel()
	ranged := func(content, body string) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) {
			if content != "" {
				w.Header().Set("Content-Range", content)
			}
			w.WriteHeader(http.StatusPartialContent)
			_, _ = w.Write([]byte(body))
		}
	}
	whole := func(tag, body string) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("ETag", tag)
			_, _ = w.Write([]byte(body))
		}
	}
	const right = "bytes 5-19/20"
	rest := digits[5:]
	for name, tt := range map[string]struct {
		answer http.HandlerFunc // to the request for a range
		want   error            // nil and no text: the file is right
		text   string
	}{
		"the whole object":      {answer: whole(`"1"`, digits)},
		"the whole of another":  {answer: whole(`"2"`, digits), want: ricloud.ErrObjectChanged},
		"a longer object":       {answer: whole(`"1"`, digits+"k"), want: ricloud.ErrSize},
		"a wrong byte":          {answer: ranged(right, digits[:15]), want: ricloud.ErrChecksum},
		"another range's bytes": {answer: ranged(right, digits[4:19]), want: ricloud.ErrChecksum},
		"a later range":         {answer: ranged("bytes 6-19/20", digits[6:]), text: "not from 5"},
		"an earlier range":      {answer: ranged("bytes 2-19/20", digits[2:])},
		"a range of no size":    {answer: ranged("bytes 5-19/*", rest)},
		"of another size":       {answer: ranged("bytes 5-19/99", rest), want: ricloud.ErrSize},
		"a negative range":      {answer: ranged("bytes -5-19/20", rest), text: "not from 5"},
		"no range":              {answer: ranged("", rest), text: "unreadable"},
		"an odd range":          {answer: ranged("lines 5-19/20", rest), text: "unreadable"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				w.Header().Set("ETag", `"1"`)
				if r.Header.Get("Range") != "" {
					tt.answer(w, r)
					return
				}
				broken(w, len(digits), digits[:5])
			}))
			t.Cleanup(server.Close)
			err := saveDigits(t, connect(server.URL))
			require.Equal(t, tt.want == nil && tt.text == "", err == nil, "%v", err)
			if tt.want != nil {
				require.ErrorIs(t, err, tt.want)
			}
			if tt.text != "" {
				require.ErrorContains(t, err, tt.text)
				require.NotErrorIs(t, err, ricloud.ErrSize)
			}
		})
	}
}

// A refusal has its meaning, whatever its body is, and nothing of the body is in the error.
func TestOpenerOfOddRefusals(t *testing.T) {
	t.Parallel()
	bodies := map[string]string{
		"text as a code": "<Error><Code>Canary signature=abcdef&amp;x</Code></Error>",
		"a huge code":    "<Error><Code>" + strings.Repeat("canary", 10_000) + "</Code></Error>",
		"a message":      "<Error><Code>Busy</Code><Message>canary</Message></Error>",
		"JSON":           `{"error":"canary"}`,
		"half of HTML":   "<html>canary",
		"a huge text":    strings.Repeat("canary", 20_000),
	}
	for status, want := range map[int]error{
		http.StatusNotFound: ricloud.ErrNotFound, http.StatusForbidden: ricloud.ErrForbidden,
		http.StatusPreconditionFailed: ricloud.ErrObjectChanged,
		http.StatusTooManyRequests:    ricloud.ErrRateLimited,
		http.StatusServiceUnavailable: ricloud.ErrServer,
	} {
		server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			w.WriteHeader(status)
			_, _ = w.Write([]byte(bodies[r.Header.Get("X-Body")]))
		}))
		t.Cleanup(server.Close)
		for name := range bodies {
			t.Run(fmt.Sprintf("%d with %s", status, name), func(t *testing.T) {
				t.Parallel()
				err := saveDigits(t, connect(server.URL, awss3.WithAPIOptions(
					smithyhttp.AddHeaderValue("X-Body", name))))
				require.ErrorIs(t, err, want)
				assert.NotContains(t, strings.ToLower(err.Error()), "canary")
				refused, ok := errors.AsType[*ricloud.StorageError](err)
				require.True(t, ok)
				assert.Equal(t, status, refused.StatusCode)
				assert.NotContains(t, strings.ToLower(refused.Code), "canary")
				if name == "a message" {
					assert.Equal(t, "Busy", refused.Code)
				}
			})
		}
	}
}

// A redirect to another host never takes the signature along.
func TestOpenerIsRedirected(t *testing.T) {
	t.Parallel()
	var signed atomic.Bool
	other := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		signed.Store(signed.Load() || r.Header.Get("Authorization") != "")
		w.WriteHeader(http.StatusForbidden)
	}))
	t.Cleanup(other.Close)
	for _, status := range []int{301, 302, 303, 307, 308} {
		server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Location", strings.Replace(other.URL, "127.0.0.1", "localhost", 1)+"/?canary=1")
			w.WriteHeader(status)
		}))
		t.Cleanup(server.Close)
		err := saveDigits(t, connect(server.URL))
		require.Error(t, err)
		assert.NotContains(t, err.Error(), "canary")
	}
	assert.False(t, signed.Load())
}

// A server that ends the connection in the middle of a body does not end the download.
func TestOpenerOverAConnectionThatGoesAway(t *testing.T) {
	t.Parallel()
	var asked atomic.Int64
	server := httptest.NewUnstartedServer(http.HandlerFunc(
		func(w http.ResponseWriter, r *http.Request) {
			assert.Equal(t, 2, r.ProtoMajor)
			w.Header().Set("ETag", `"1"`)
			n := asked.Add(1) - 1
			if n > 0 {
				w.Header().Set("Content-Range", fmt.Sprintf("bytes %d-19/20", n))
			}
			if n < 2 { // one byte, then GOAWAY and the end of the stream
				w.Header().Set("Connection", "close")
			}
			if n > 0 {
				w.WriteHeader(http.StatusPartialContent)
			}
			if n == 2 {
				_, _ = w.Write([]byte(digits[n:]))
				return
			}
			_, _ = w.Write([]byte(digits[n : n+1]))
			_ = http.NewResponseController(w).Flush()
			panic(http.ErrAbortHandler)
		}))
	server.EnableHTTP2 = true
	server.StartTLS()
	t.Cleanup(server.Close)
	client := connect(server.URL, func(o *awss3.Options) { o.HTTPClient = server.Client() })
	require.NoError(t, saveDigits(t, client))
	assert.EqualValues(t, 3, asked.Load())
}

// What a server says that it has not stored, or has stored otherwise, is an error.
func TestSinkOfAServerThatLies(t *testing.T) {
	t.Parallel()
	isPart := func(r *http.Request) bool { return r.URL.Query().Has("partNumber") }
	isEnd := func(r *http.Request) bool {
		return r.Method == http.MethodPost && r.URL.Query().Has("uploadId")
	}
	isPut := func(r *http.Request) bool { return r.Method == http.MethodPut && !isPart(r) }
	isBegin := func(r *http.Request) bool { return r.Method == http.MethodPost && !isEnd(r) }
	const failure = "<Error><Code>InternalError</Code><Message>canary</Message></Error>"
	ended := func(elements string) string {
		return "<CompleteMultipartUploadResult>" + elements + "</CompleteMultipartUploadResult>"
	}
	for name, tt := range map[string]struct {
		lie      func(*http.Request) bool
		body     string
		checksum string // header
		tag      string // header
	}{
		"put: 200 with an error":         {lie: isPut, body: failure, tag: `"1"`},
		"put: other bytes":               {lie: isPut, checksum: sha([]byte("other")), tag: `"1"`},
		"put: nothing":                   {lie: isPut},
		"put: a page":                    {lie: isPut, body: "<html>canary</html>"},
		"begin: 200 with an error":       {lie: isBegin, body: failure},
		"begin: no upload":               {lie: isBegin, body: "<InitiateMultipartUploadResult/>"},
		"part: 200 with an error":        {lie: isPart, body: failure, tag: `"1"`},
		"part: other bytes":              {lie: isPart, checksum: sha([]byte("other")), tag: `"1"`},
		"part: no ETag":                  {lie: isPart},
		"end: 200 with an error":         {lie: isEnd, body: failure},
		"end: 200 with spaces, an error": {lie: isEnd, body: "   \n" + failure},
		"end: nothing":                   {lie: isEnd, body: ended("")},
		"end: a page":                    {lie: isEnd, body: "<html>canary"},
		"end: other bytes": {
			lie:  isEnd,
			body: ended("<ETag>1</ETag><ChecksumSHA256>" + sha([]byte("other")) + "-2</ChecksumSHA256>"),
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			server := newObjectServer()
			server.before = func(w http.ResponseWriter, r *http.Request) bool {
				if !tt.lie(r) {
					return false
				}
				_, _ = io.Copy(io.Discard, r.Body)
				w.Header().Set("Content-Type", "application/xml")
				if tt.tag != "" {
					w.Header().Set("ETag", tt.tag)
				}
				if tt.checksum != "" {
					w.Header().Set("X-Amz-Checksum-Sha256", tt.checksum)
				}
				_, _ = w.Write([]byte(tt.body))
				return true
			}
			body := append(bytes.Repeat([]byte("a"), partSize), "b"...)
			if strings.HasPrefix(name, "put") {
				body = []byte("hello")
			}
			sink := newSink(t, server.start(t), s3.SinkParams{PartSize: partSize})
			_, err := sink.Store(t.Context(), fileOf("a.json", body))
			require.Error(t, err)
			assert.NotContains(t, err.Error(), "canary")
			assert.Empty(t, server.keys())
		})
	}
}

// A composite checksum that is right, and one of another kind, are accepted.
func TestSinkAcceptsWhatWasStored(t *testing.T) {
	t.Parallel()
	parts := sha256.New()
	for part := range slices.Chunk(twoParts(), partSize) {
		sum := sha256.Sum256(part)
		_, _ = parts.Write(sum[:])
	}
	for _, checksum := range []string{
		base64.StdEncoding.EncodeToString(parts.Sum(nil)) + "-2", sha(twoParts()), "",
	} {
		server := newObjectServer()
		server.before = func(w http.ResponseWriter, r *http.Request) bool {
			if r.Method != http.MethodPost || !r.URL.Query().Has("uploadId") {
				return false
			}
			_, _ = fmt.Fprintf(w, "<CompleteMultipartUploadResult><ETag>1</ETag><ChecksumSHA256>%s"+
				"</ChecksumSHA256></CompleteMultipartUploadResult>", checksum)
			return true
		}
		sink := newSink(t, server.start(t), s3.SinkParams{PartSize: partSize})
		_, err := sink.Store(t.Context(), fileOf("a.json", twoParts()))
		require.NoError(t, err, checksum)
	}
}

// A server that confirms nothing, and shows another object than the one it was given, has stored
// nothing.
func TestSinkOfAServerThatShowsAnotherObject(t *testing.T) {
	t.Parallel()
	server := newObjectServer()
	server.before = func(_ http.ResponseWriter, r *http.Request) bool {
		if r.Method != http.MethodPut {
			return false
		}
		server.store("a.json", &object{body: []byte("other")})
		return true
	}
	sink := newSink(t, server.start(t), s3.SinkParams{})
	_, err := sink.Store(t.Context(), fileOf("a.json", []byte("hello")))
	require.ErrorContains(t, err, "shows another object")
}
