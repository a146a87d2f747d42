package gcs_test

import (
	"crypto/md5"
	"encoding/hex"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"cloud.google.com/go/storage"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"google.golang.org/api/option"

	ricloud "github.com/reincubate/ricloud-go"
	"github.com/reincubate/ricloud-go/storage/gcs"
)

const digits = "0123456789abcdefghij"

// newLiar returns a client of storage that is served by a handler. Google's own client does not
// retry, so that what the handler does reaches ours.
func newLiar(
	t *testing.T, handler http.HandlerFunc, options ...option.ClientOption,
) (*ricloud.Client, *gcs.Opener) {
	t.Helper()
	server := httptest.NewServer(handler)
	t.Cleanup(server.Close)
	objects, err := storage.NewClient(t.Context(), append([]option.ClientOption{
		option.WithEndpoint(server.URL), option.WithoutAuthentication(),
	}, options...)...)
	require.NoError(t, err)
	objects.SetRetry(storage.WithPolicy(storage.RetryNever))
	client, err := ricloud.NewClient("canary-token", ricloud.WithStorage("gs", gcs.New(objects)),
		ricloud.WithRetryWait(time.Millisecond, time.Millisecond))
	require.NoError(t, err)
	t.Cleanup(func() {
		client.Close()
		assert.NoError(t, objects.Close())
	})
	return client, gcs.New(objects)
}

// saveDigits saves an object that should be the digits.
func saveDigits(t *testing.T, client *ricloud.Client) error {
	t.Helper()
	sum := md5.Sum([]byte(digits))
	saved, err := client.Results.Save(t.Context(), &ricloud.Result{
		ID: "r", Identifier: "digits", URL: "gs://" + bucket + "/digits",
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
func broken(w http.ResponseWriter, part string) {
	w.Header().Set("Content-Length", strconv.Itoa(len(digits)))
	_, _ = w.Write([]byte(part))
	_ = http.NewResponseController(w).Flush()
	panic(http.ErrAbortHandler)
}

// A body may break off at any byte, of storage that names a generation or not.
func TestOpenerOfABodyThatBreaksAnywhere(t *testing.T) {
	t.Parallel()
	for _, generation := range []string{"7", ""} {
		var cut atomic.Int64
		client, opener := newLiar(t, func(w http.ResponseWriter, r *http.Request) {
			if generation != "" {
				w.Header().Set("X-Goog-Generation", generation)
			}
			if r.Header.Get("Range") == "" || cut.Load() == 0 {
				n := cut.Swap(-cut.Load())
				broken(w, digits[:n])
			}
			http.ServeContent(w, r, "", time.Time{}, strings.NewReader(digits))
		})
		for n := 1; n < len(digits); n++ {
			cut.Store(int64(n))
			require.NoError(t, saveDigits(t, client), "%d bytes", n)
			assert.Negative(t, cut.Load())
		}
		object, err := opener.OpenObject(t.Context(),
			ricloud.ObjectRequest{Bucket: bucket, Key: "digits", Offset: 5})
		require.NoError(t, err)
		assert.Equal(t, generation, object.Version)
		require.NoError(t, object.Body.Close())
	}
}

// Google's client goes on by itself, and believes what it is sent. The file is right, or there is
// an error.
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
	rest := digits[5:]
	for name, tt := range map[string]struct {
		answer http.HandlerFunc // to the request for a range
		fails  bool
		want   error
	}{
		"the whole object": {
			answer: func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte(digits)) },
			fails:  true,
		},
		"the rest": {answer: ranged("bytes 5-19/20", rest)},
		"a wrong byte": {
			answer: ranged("bytes 5-19/20", strings.ToUpper(rest)),
			want:   ricloud.ErrChecksum,
		},
		"a later range": {answer: ranged("bytes 6-19/20", digits[6:]), fails: true},
		"another size":  {answer: ranged("bytes 5-19/99", rest)},
		"no range":      {answer: ranged("", rest)},
		"wrong bytes":   {answer: ranged("", digits[:15]), want: ricloud.ErrChecksum},
		"an odd range":  {answer: ranged("lines 5-19/20", rest)},
		"another generation": {
			answer: func(w http.ResponseWriter, _ *http.Request) {
				w.Header().Set("X-Goog-Generation", "8")
				w.Header().Set("Content-Range", "bytes 5-19/20")
				w.WriteHeader(http.StatusPartialContent)
				_, _ = w.Write([]byte(rest))
			},
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			client, _ := newLiar(t, func(w http.ResponseWriter, r *http.Request) {
				w.Header().Set("X-Goog-Generation", "7")
				if r.Header.Get("Range") != "" {
					tt.answer(w, r)
					return
				}
				broken(w, digits[:5])
			})
			err := saveDigits(t, client)
			require.Equal(t, tt.fails || tt.want != nil, err != nil, "%v", err)
			if tt.want != nil {
				require.ErrorIs(t, err, tt.want)
			} else if err != nil {
				require.NotErrorIs(t, err, ricloud.ErrSize)
			}
		})
	}
}

// A refusal has its meaning, whatever its body is, and nothing of the body is in the error.
func TestOpenerOfOddRefusals(t *testing.T) {
	t.Parallel()
	for name, body := range map[string]string{
		"text as a code": `{"error":{"errors":[{"reason":"canary signature=x"}],"message":"canary"}}`,
		"a huge code":    `{"error":{"errors":[{"reason":"` + strings.Repeat("canary", 10_000) + `"}]}}`,
		"XML":            "<Error><Code>canary</Code></Error>",
		"half of HTML":   "<html>canary",
		"a huge text":    strings.Repeat("canary", 20_000),
	} {
		for status, want := range map[int]error{
			http.StatusNotFound: ricloud.ErrNotFound, http.StatusForbidden: ricloud.ErrForbidden,
			http.StatusPreconditionFailed: ricloud.ErrObjectChanged,
			http.StatusTooManyRequests:    ricloud.ErrRateLimited,
			http.StatusServiceUnavailable: ricloud.ErrServer,
		} {
			for protocol, options := range map[string][]option.ClientOption{
				"XML": nil, "JSON": {storage.WithJSONReads()},
			} {
				t.Run(fmt.Sprintf("%d with %s over %s", status, name, protocol), func(t *testing.T) {
					t.Parallel()
					client, _ := newLiar(t, func(w http.ResponseWriter, _ *http.Request) {
						w.WriteHeader(status)
						_, _ = w.Write([]byte(body))
					}, options...)
					err := saveDigits(t, client)
					require.ErrorIs(t, err, want)
					assert.NotContains(t, err.Error(), "canary")
					refused, ok := errors.AsType[*ricloud.StorageError](err)
					require.True(t, ok)
					assert.Equal(t, status, refused.StatusCode)
					assert.Empty(t, refused.Code)
				})
			}
		}
	}
}

// A server that ends the connection in the middle of a body does not end the download.
func TestOpenerOverAConnectionThatGoesAway(t *testing.T) {
	t.Parallel()
	var asked atomic.Int64
	server := httptest.NewUnstartedServer(http.HandlerFunc(
		func(w http.ResponseWriter, r *http.Request) {
			assert.Equal(t, 2, r.ProtoMajor)
			w.Header().Set("X-Goog-Generation", "7")
			n := asked.Add(1) - 1
			if n > 0 {
				w.Header().Set("Content-Range", fmt.Sprintf("bytes %d-19/20", n))
				assert.Equal(t, fmt.Sprintf("bytes=%d-", n), r.Header.Get("Range"))
				w.WriteHeader(http.StatusPartialContent)
			}
			if n == 2 {
				_, _ = w.Write([]byte(digits[n:]))
				return
			}
			w.Header().Set("Connection", "close") // one byte, then GOAWAY and the end of the stream
			if n == 0 {
				w.Header().Set("Content-Length", strconv.Itoa(len(digits)))
			}
			_, _ = w.Write([]byte(digits[n : n+1]))
			_ = http.NewResponseController(w).Flush()
			panic(http.ErrAbortHandler)
		}))
	server.EnableHTTP2 = true
	server.StartTLS()
	t.Cleanup(server.Close)
	client, _ := newLiar(t, nil, option.WithHTTPClient(server.Client()),
		option.WithEndpoint(server.URL))
	require.NoError(t, saveDigits(t, client))
	assert.EqualValues(t, 3, asked.Load())
}

// A redirect leads to the object, or to an error that does not repeat where it leads.
func TestOpenerIsRedirected(t *testing.T) {
	t.Parallel()
	var found atomic.Bool
	other := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !found.Load() {
			w.WriteHeader(http.StatusForbidden)
			return
		}
		http.ServeContent(w, r, "", time.Time{}, strings.NewReader(digits))
	}))
	t.Cleanup(other.Close)
	for _, status := range []int{301, 302, 303, 307, 308} {
		for _, finds := range []bool{false, true} {
			found.Store(finds)
			client, _ := newLiar(t, func(w http.ResponseWriter, _ *http.Request) {
				w.Header().Set("Location", other.URL+"/?canary=1")
				w.WriteHeader(status)
			})
			err := saveDigits(t, client)
			if finds {
				require.NoError(t, err)
				continue
			}
			require.ErrorIs(t, err, ricloud.ErrForbidden)
			assert.NotContains(t, err.Error(), "canary")
		}
	}
	client, _ := newLiar(t, func(w http.ResponseWriter, _ *http.Request) { // to nowhere
		w.Header().Set("Location", "http://127.0.0.1:1/?canary=1")
		w.WriteHeader(http.StatusFound)
	})
	err := saveDigits(t, client)
	require.Error(t, err)
	assert.NotContains(t, err.Error(), "canary")
}
