package ricloud

import (
	"bytes"
	"context"
	"crypto/md5"
	"crypto/tls"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"sync"
	"testing"
	"testing/iotest"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/reincubate/ricloud-go/internal/transport"
)

const (
	testStorage   = "storage.test"
	apiHost       = "ricloud-api.reincubate.com"
	testSignature = "X-Signature=canary-signature"
)

// vault is both the API and its storage, in memory. GET /results/{id} returns a result with a
// signed URL, which serves the object with Range and If-Match. fault may replace or damage an
// answer.
type vault struct {
	fault fault

	mu       sync.Mutex
	objects  map[string][]byte
	ids      []string
	gets     int // requests for objects
	apiGets  int
	acked    []string
	problems []string

	expires      time.Time // when the API's signed URLs expire; zero: in an hour
	noSignedURLs bool
	otherHosts   bool // treat every host but the API's as storage
}

// A fault gets the number of the request, from 0, and the undamaged answer.
type fault func(v *vault, n int, req *http.Request, resp *http.Response) (*http.Response, error)

func newVault() *vault { return &vault{objects: map[string][]byte{}} }

func (v *vault) client(t testing.TB, opts ...Option) *Client {
	t.Helper()
	c, err := NewClient("canary-token", append([]Option{
		WithTransport(v),
		WithRetryWait(time.Millisecond, time.Millisecond),
	}, opts...)...)
	require.NoError(t, err)
	return c
}

// add stores an object and returns a result that refers to it.
func (v *vault) add(identifier string, body []byte) *Result {
	v.mu.Lock()
	defer v.mu.Unlock()
	id := fmt.Sprintf("r%d", len(v.ids))
	v.ids = append(v.ids, id)
	v.objects[id] = body
	return v.result(id, identifier)
}

func (v *vault) result(id, identifier string) *Result {
	sum := md5.Sum(v.objects[id])
	return &Result{
		ID: ID(id), Identifier: identifier, URL: "s3://bucket/" + id, Size: int64(len(v.objects[id])),
		Checksum: hex.EncodeToString(sum[:]), SignedURL: signedFor(id), State: ResultAvailable,
	}
}

func signedFor(id string) SignedURL {
	return SignedURL{
		URL:         NewSecret("https://" + testStorage + "/" + id + "?" + testSignature),
		DateExpires: time.Now().Add(time.Hour),
	}
}

func (v *vault) problemf(format string, args ...any) {
	v.problems = append(v.problems, fmt.Sprintf(format, args...))
}

func (v *vault) RoundTrip(req *http.Request) (*http.Response, error) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if err := req.Context().Err(); err != nil {
		return nil, err
	}
	w := httptest.NewRecorder()
	id := req.URL.Path[strings.LastIndexByte(req.URL.Path, '/')+1:]
	if req.URL.Host != testStorage && (!v.otherHosts || req.URL.Host == apiHost) {
		v.api(w, req)
		return w.Result(), nil
	}
	if req.Header.Get("Authorization") != "" || req.Header.Get("Referer") != "" {
		v.problemf("storage got credentials or a referrer: %v", req.Header)
	}
	if req.URL.RawQuery != testSignature {
		w.WriteHeader(http.StatusForbidden)
		_, _ = io.WriteString(w,
			"<Error><Code>AccessDenied</Code><Signature>canary-signature</Signature></Error>")
	} else {
		w.Header().Set("ETag", fmt.Sprintf(`"%x"`, md5.Sum(v.objects[id])))
		http.ServeContent(w, req, "", time.Time{}, bytes.NewReader(v.objects[id]))
	}
	n := v.gets
	v.gets++
	resp := w.Result()
	if v.fault != nil {
		return v.fault(v, n, req, resp)
	}
	return resp, nil
}

func (v *vault) api(w *httptest.ResponseRecorder, req *http.Request) {
	switch parts := strings.Split(strings.Trim(req.URL.Path, "/"), "/"); {
	case req.URL.Path == "/results/ack":
		var body struct {
			Results []string `json:"results"`
		}
		_ = json.NewDecoder(req.Body).Decode(&body)
		v.acked = append(v.acked, body.Results...)
		_, _ = io.WriteString(w, "[]")
	case len(parts) == 2 && parts[0] == "results":
		v.apiGets++
		r := v.result(parts[1], parts[1])
		if !v.expires.IsZero() {
			r.SignedURL.DateExpires = v.expires
		}
		signed := map[string]any{"url": r.SignedURL.URL.Reveal(), "date_expires": r.SignedURL.DateExpires}
		if v.noSignedURLs {
			signed = nil
		}
		answer, _ := json.Marshal(map[string]any{ //nolint:errchkjson // strings, a number and a time
			"id": r.ID, "identifier": r.Identifier, "url": r.URL, "size": r.Size, "checksum": r.Checksum,
			"signed_url": signed,
		})
		_, _ = w.Write(answer)
	default:
		w.WriteHeader(http.StatusNotFound)
	}
}

func random(n int) []byte {
	b := make([]byte, n)
	_, _ = rand.NewChaCha8([32]byte{byte(n)}).Read(b)
	return b
}

// cutAt ends a body after n bytes with an error, as a broken connection does.
func cutAt(resp *http.Response, n int64) {
	resp.Body = io.NopCloser(io.MultiReader(io.LimitReader(resp.Body, n),
		iotest.ErrReader(io.ErrUnexpectedEOF)))
}

func read(ctx context.Context, c *Client, r *Result) ([]byte, error) {
	f, err := c.Results.Open(ctx, r)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	var b bytes.Buffer
	_, err = b.ReadFrom(f)
	return b.Bytes(), err
}

// answers returns a fault that makes storage answer with a status.
func answers(status int) fault {
	return func(*vault, int, *http.Request, *http.Response) (*http.Response, error) {
		w := httptest.NewRecorder()
		w.WriteHeader(status)
		return w.Result(), nil
	}
}

func TestOpen(t *testing.T) {
	t.Parallel()
	body := random(100_000)
	for name, tc := range map[string]struct {
		fault   fault
		status  int // storage always answers with it; instead of fault
		change  func(*Result)
		want    error // nil: the download succeeds
		gets    int
		apiGets int
	}{
		"plain": {gets: 1},
		"cut twice": {
			gets: 3,
			fault: func(_ *vault, n int, _ *http.Request, resp *http.Response) (*http.Response, error) {
				if n < 2 {
					cutAt(resp, 30_000)
				}
				return resp, nil
			},
		},
		"cut, and Range is ignored": {
			gets: 2,
			fault: func(v *vault, n int, _ *http.Request, resp *http.Response) (*http.Response, error) {
				if n == 0 {
					cutAt(resp, 30_000)
					return resp, nil
				}
				w := httptest.NewRecorder()
				_, _ = w.Write(v.objects["r0"])
				return w.Result(), nil
			},
		},
		"cut, then busy": {
			gets: 3,
			fault: func(_ *vault, n int, _ *http.Request, resp *http.Response) (*http.Response, error) {
				switch n {
				case 0:
					cutAt(resp, 30_000)
				case 1:
					return answers(503)(nil, 0, nil, nil)
				}
				return resp, nil
			},
		},
		"always cut at once": {
			gets: 5, want: io.ErrUnexpectedEOF,
			fault: func(_ *vault, _ int, _ *http.Request, resp *http.Response) (*http.Response, error) {
				cutAt(resp, 0)
				return resp, nil
			},
		},
		"replaced midway": {
			gets: 2, want: ErrObjectChanged,
			fault: func(v *vault, n int, _ *http.Request, resp *http.Response) (*http.Response, error) {
				if n == 0 {
					cutAt(resp, 30_000)
					v.objects["r0"] = random(100_001)[:100_000]
				}
				return resp, nil
			},
		},
		"replaced midway, and only If-Match tells": {
			gets: 2, want: ErrObjectChanged,
			fault: func(v *vault, n int, _ *http.Request, resp *http.Response) (*http.Response, error) {
				if n == 0 {
					cutAt(resp, 30_000)
					v.objects["r0"] = random(100_001)[:100_000]
				} else {
					resp.Header.Del("ETag")
				}
				return resp, nil
			},
		},
		"cut, and the ETag is weak": { // If-Match with a weak one never matches
			gets: 2,
			fault: func(_ *vault, n int, _ *http.Request, resp *http.Response) (*http.Response, error) {
				resp.Header.Set("ETag", `W/"weak"`)
				if n == 0 {
					cutAt(resp, 30_000)
				}
				return resp, nil
			},
		},
		"replaced midway, and If-Match is ignored": {
			gets: 2, want: ErrObjectChanged,
			fault: func(_ *vault, n int, req *http.Request, resp *http.Response) (*http.Response, error) {
				if n == 0 {
					cutAt(resp, 30_000)
					return resp, nil
				}
				w := httptest.NewRecorder()
				w.Header().Set("ETag", `"another"`)
				req.Header.Del("If-Match")
				http.ServeContent(w, req, "", time.Time{}, bytes.NewReader(random(100_000)))
				return w.Result(), nil
			},
		},
		"one byte is wrong": {
			gets: 1, want: ErrChecksum,
			fault: func(_ *vault, _ int, _ *http.Request, resp *http.Response) (*http.Response, error) {
				b := bytes.Clone(body)
				b[50_000] ^= 1
				resp.Body = io.NopCloser(bytes.NewReader(b))
				return resp, nil
			},
		},
		"shorter object": {
			gets: 1, want: ErrSize,
			fault: func(_ *vault, _ int, _ *http.Request, resp *http.Response) (*http.Response, error) {
				resp.ContentLength = 99_999
				return resp, nil
			},
		},
		"longer than it says": {
			gets: 1, want: ErrSize,
			fault: func(_ *vault, _ int, _ *http.Request, resp *http.Response) (*http.Response, error) {
				resp.ContentLength, resp.Body = -1, io.NopCloser(
					bytes.NewReader(append(bytes.Clone(body), 'x')),
				)
				return resp, nil
			},
		},
		"ends too early, without a length": {
			gets: 2,
			fault: func(_ *vault, n int, _ *http.Request, resp *http.Response) (*http.Response, error) {
				if n == 0 {
					resp.ContentLength, resp.Body = -1, io.NopCloser(bytes.NewReader(body[:10]))
				}
				return resp, nil
			},
		},
		"other bytes than asked for": {
			gets: 5, want: assert.AnError,
			fault: func(_ *vault, n int, _ *http.Request, resp *http.Response) (*http.Response, error) {
				if n == 0 {
					cutAt(resp, 70_000)
				}
				resp.Header.Set("Content-Range", "bytes 99000-99999/100000")
				return resp, nil
			},
		},
		"gone":      {gets: 1, want: ErrNotFound, status: 404},
		"forbidden": {gets: 2, apiGets: 1, want: ErrForbidden, status: 403},
		"down":      {gets: 5, want: ErrServer, status: 500},
		"link refused": {gets: 2, apiGets: 1, change: func(r *Result) {
			r.SignedURL.URL = NewSecret(r.SignedURL.URL.Reveal() + "stale")
		}},
		"link expired": {gets: 1, apiGets: 1, change: func(r *Result) {
			r.SignedURL.DateExpires = time.Now().Add(-time.Second)
		}},
		"link withheld": {gets: 1, apiGets: 1, change: func(r *Result) { r.SignedURL = SignedURL{} }},
		"only an id":    {gets: 1, apiGets: 1, change: func(r *Result) { *r = Result{ID: r.ID} }},
		"a redirect": {
			gets: 2,
			fault: func(_ *vault, n int, _ *http.Request, resp *http.Response) (*http.Response, error) {
				if n == 0 {
					w := httptest.NewRecorder()
					w.Header().Set("Location", "/r0?"+testSignature)
					w.WriteHeader(http.StatusFound)
					return w.Result(), nil
				}
				return resp, nil
			},
		},
		"redirects for ever": {
			gets: 4, want: assert.AnError,
			fault: func(*vault, int, *http.Request, *http.Response) (*http.Response, error) {
				w := httptest.NewRecorder()
				w.Header().Set("Location", "https://"+testStorage+"/r0?"+testSignature)
				w.WriteHeader(http.StatusFound)
				return w.Result(), nil
			},
		},
		"a redirect into the clear": {
			gets: 1, want: assert.AnError,
			fault: func(*vault, int, *http.Request, *http.Response) (*http.Response, error) {
				w := httptest.NewRecorder()
				w.Header().Set("Location", "http://"+testStorage+"/r0?"+testSignature)
				w.WriteHeader(http.StatusFound)
				return w.Result(), nil
			},
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				v := newVault()
				r := v.add("callkit.calls", body)
				v.fault = tc.fault
				if tc.status > 0 {
					v.fault = answers(tc.status)
				}
				if tc.change != nil {
					tc.change(r)
				}
				got, err := read(t.Context(), v.client(t), r)
				switch {
				case tc.want == nil:
					require.NoError(t, err)
					assert.True(t, bytes.Equal(body, got), "the bytes differ")
				case errors.Is(tc.want, assert.AnError):
					require.Error(t, err)
				default:
					require.ErrorIs(t, err, tc.want)
				}
				if err != nil {
					failed, ok := errors.AsType[*DownloadError](err)
					require.True(t, ok, "%T", err)
					assert.Equal(t, r.ID, failed.Result)
					assert.NotContains(t, err.Error(), "canary")
				}
				assert.Empty(t, v.problems)
				assert.Equal(t, tc.gets, v.gets, "requests to storage; the error is %v", err)
				assert.Equal(t, tc.apiGets, v.apiGets, "results read again")
			})
		})
	}
}

// A download survives any number of cuts, because each connection makes progress.
func TestOpenSurvivesManyCuts(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		v := newVault()
		body := random(8 << 20)
		r := v.add("video.mov", body)
		v.fault = func(_ *vault, _ int, _ *http.Request, resp *http.Response) (*http.Response, error) {
			cutAt(resp, 256<<10+rand.Int64N(256<<10))
			return resp, nil
		}
		got, err := read(t.Context(), v.client(t), r)
		require.NoError(t, err)
		assert.True(t, bytes.Equal(body, got))
		assert.Greater(t, v.gets, 10)
	})
}

// silent is a body that sends nothing until its context ends.
type silent struct{ ctx context.Context } //nolint:containedctx // the request's own

func (s silent) Read([]byte) (int, error) { <-s.ctx.Done(); return 0, s.ctx.Err() }

func TestOpenBoundsSilence(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		v := newVault()
		body := random(1000)
		r := v.add("a", body)
		v.fault = func(_ *vault, n int, req *http.Request, resp *http.Response) (*http.Response, error) {
			if n < 2 {
				resp.Body = io.NopCloser(io.MultiReader(io.LimitReader(resp.Body, 100), silent{req.Context()}))
			}
			return resp, nil
		}
		began := time.Now()
		got, err := read(t.Context(), v.client(t, WithStallTimeout(10*time.Second)), r)
		require.NoError(t, err)
		assert.Equal(t, body, got)
		assert.InDelta(t, 20, time.Since(began).Seconds(), 1)

		v.gets = 0
		_, err = read(t.Context(), v.client(t, WithStallTimeout(10*time.Second), WithRetries(0)), r)
		require.ErrorContains(t, err, "silent for 10s")
		require.ErrorIs(t, err, context.DeadlineExceeded)
	})
}

// The stall timeout does not count the time that the caller takes between reads.
func TestOpenLetsTheCallerTakeItsTime(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		v := newVault()
		body := random(10)
		f, err := v.client(t).Results.Open(t.Context(), v.add("a", body))
		require.NoError(t, err)
		defer f.Close()
		got := make([]byte, 10)
		for i := range got {
			timer := time.NewTimer(time.Hour)
			<-timer.C
			_, err := f.Read(got[i : i+1])
			require.NoError(t, err)
		}
		_, err = f.Read(got)
		require.ErrorIs(t, err, io.EOF)
		assert.Equal(t, body, got)
		assert.Equal(t, 1, v.gets)
	})
}

func TestOpenEndsWithItsContext(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		v := newVault()
		r := v.add("a", random(1000))
		ctx, cancel := context.WithCancelCause(t.Context())
		defer cancel(nil)
		v.fault = func(_ *vault, _ int, req *http.Request, resp *http.Response) (*http.Response, error) {
			resp.Body = io.NopCloser(io.MultiReader(io.LimitReader(resp.Body, 100), silent{req.Context()}))
			return resp, nil
		}
		why := errors.New("shutting down")
		time.AfterFunc(time.Second, func() { cancel(why) })
		_, err := read(ctx, v.client(t), r)
		require.ErrorIs(t, err, why)
		assert.Equal(t, 1, v.gets)
	})
}

func TestOpenRefusesWhatItCannotVerify(t *testing.T) {
	t.Parallel()
	v := newVault()
	c := v.client(t)
	for field, change := range map[string]func(*Result){
		"Checksum":  func(r *Result) { r.Checksum = "not hex" },
		"Size":      func(r *Result) { r.Size = -1 },
		"URL":       func(r *Result) { r.URL, r.SignedURL = "s3://?X-Signature=canary", SignedURL{} },
		"SignedURL": func(r *Result) { r.SignedURL.URL = NewSecret("http://elsewhere.test/?canary") },
	} {
		r := *v.add("a", []byte("a"))
		change(&r)
		_, err := c.Results.Open(t.Context(), &r)
		refused, ok := errors.AsType[*ParamError](err)
		require.True(t, ok, "%s: %v", field, err)
		assert.Equal(t, field, refused.Field)
		assert.NotContains(t, err.Error(), "canary")
	}
	for _, checksum := range []string{"", "0123", strings.Repeat("01", 20)} { // SHA-1
		r := *v.add("a", []byte("a"))
		r.ID, r.Checksum = "", checksum
		_, err := c.Results.Open(t.Context(), &r)
		require.ErrorContains(t, err, "Checksum is not an MD5 in hex", checksum)
	}
	_, err := c.Results.Open(t.Context(), nil)
	require.ErrorContains(t, err, "result is required")
	assert.Zero(t, v.gets)
}

// What the API sends as an ID or a name forges no line of a log.
func TestErrorsAreOnOneLine(t *testing.T) {
	t.Parallel()
	const forged = "r\nforged\x1b[31m\r"
	c := newVault().client(t)
	_, err := c.Results.Save(t.Context(), &Result{ID: forged, Identifier: forged, Checksum: "x"},
		t.TempDir())
	event, parseErr := ParseEvent([]byte(
		`{"id":"e\nforged","type":"ty\nforged","action":"a\n","state":"s\n","data":[]}`))
	require.NoError(t, parseErr)
	_, noPoll := event.Poll()
	require.ErrorIs(t, noPoll, ErrEventType)
	var log bytes.Buffer
	h, handlerErr := NewWebhookHandler(func(context.Context, *Event) error { panic("at once") },
		WithWebhookLogger(slog.New(slog.NewTextHandler(&log, nil))))
	require.NoError(t, handlerErr)
	failed := h.Handle(t.Context(), event)
	for _, text := range []string{err.Error(), noPoll.Error(), fmt.Sprint(event), failed.Error()} {
		assert.Contains(t, text, "forged")
		assert.False(t, strings.ContainsAny(text, "\n\r\x1b"), "%q", text)
	}
	assert.NotContains(t, log.String(), `e\nforged`)
}

// A renewed signed URL, or a result that is read first, is not written to the caller's Result,
// which may be shared.
func TestOpenLeavesTheResultAsItIs(t *testing.T) {
	t.Parallel()
	for name, change := range map[string]func(*Result){
		"renewed": func(r *Result) { r.SignedURL.DateExpires = time.Now().Add(-time.Hour) },
		"read":    func(r *Result) { *r = Result{ID: r.ID} },
	} {
		v := newVault()
		r := v.add("a", random(10))
		change(r)
		before := *r
		_, err := read(t.Context(), v.client(t), r)
		require.NoError(t, err, name)
		assert.Equal(t, 1, v.apiGets, name)
		saved, err := v.client(t).Results.Save(t.Context(), r, t.TempDir())
		require.NoError(t, err, name)
		assert.Equal(t, before, *r, name)
		assert.Same(t, r, saved.Result, name)
	}
}

func TestOpenerMissing(t *testing.T) {
	t.Parallel()
	c, api := newTestClient(t)
	for scheme, advice := range map[string]string{
		"s3":    `storage/s3 and the option ricloud.WithStorage("s3", s3.New(`,
		"gs":    `storage/gcs and the option ricloud.WithStorage("gs", gcs.New(`,
		"azure": "no opener for azure://",
	} {
		api.RegisterResponder(http.MethodGet, "=~/results/1$",
			jsonResponder(200, `{"id": "1", "signed_url": null}`))
		_, err := c.Results.Open(t.Context(),
			&Result{ID: "1", Checksum: checksum, URL: scheme + "://bucket/key"})
		require.ErrorIs(t, err, ErrNoStorage)
		require.ErrorContains(t, err, advice)
	}
	api.RegisterResponder(http.MethodGet, "=~/results/1$",
		jsonResponder(200, `{"id": "1", "state": "expired"}`))
	_, err := c.Results.Open(t.Context(), &Result{ID: "1", Checksum: checksum, URL: "s3://bucket/key"})
	require.ErrorIs(t, err, ErrNotFound)
	assert.ErrorContains(t, err, "expired")
}

func TestParseObjectURL(t *testing.T) {
	t.Parallel()
	for raw, want := range map[string][3]string{
		"s3://b/k":              {"s3", "b", "k"},
		"GS://b/dir/k":          {"gs", "b", "dir/k"},
		"s3://b//leading":       {"s3", "b", "/leading"},
		"s3://b/a b+c%20?x=1#f": {"s3", "b", "a b+c%20?x=1#f"},
		"s3://b/x//y/../z":      {"s3", "b", "x//y/../z"},
		"s3://b/ключ":           {"s3", "b", "ключ"},
		"local:///var/data/f":   {"local", "", "var/data/f"},
	} {
		scheme, bucket, key, err := parseObjectURL(raw)
		require.NoError(t, err, raw)
		assert.Equal(t, want, [3]string{scheme, bucket, key})
	}
	for _, raw := range []string{
		"", "s3", "s3://", "s3://bucket", "s3://bucket/", "s3:///key",
		"://b/k",
	} {
		_, _, _, err := parseObjectURL(raw)
		require.Error(t, err, raw)
	}
}

func FuzzParseObjectURL(f *testing.F) {
	f.Add("s3://bucket/a b?c#d%zz")
	f.Add("local:///x")
	f.Fuzz(func(t *testing.T, raw string) {
		scheme, bucket, key, err := parseObjectURL(raw)
		if err != nil {
			return
		}
		assert.True(t, strings.HasSuffix(raw, "://"+bucket+"/"+key))
		assert.NotContains(t, bucket, "/")
		assert.NotEmpty(t, scheme)
	})
}

func FuzzContentRange(f *testing.F) {
	f.Add("bytes 5-9/10")
	f.Add("bytes 5-9/*")
	f.Fuzz(func(t *testing.T, header string) {
		if offset, _, ok := parseContentRange(header); ok {
			assert.GreaterOrEqual(t, offset, int64(0))
		}
	})
}

func TestTransportIsBare(t *testing.T) {
	t.Parallel()
	v := newVault()
	assert.Same(t, v, v.client(t).downloads.transport)
	assert.Equal(t, transport.DefaultMaxRetries, v.client(t).downloads.limits.Retries)
	assert.Zero(t, v.client(t, WithRetries(0)).downloads.limits.Retries)
}

func TestReadAfterClose(t *testing.T) {
	t.Parallel()
	v := newVault()
	f, err := v.client(t).Results.Open(t.Context(), v.add("a", random(100)))
	require.NoError(t, err)
	n, err := f.Read(nil)
	require.NoError(t, err)
	assert.Zero(t, n)
	require.NoError(t, f.Close())
	require.NoError(t, f.Close())
	_, err = f.Read(make([]byte, 1))
	require.ErrorContains(t, err, "read after Close")
}

// The error of a custom opener decides whether it is called again.
func TestOpenerErrors(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		err   error
		calls int
	}{
		"passing":    {err: errors.New("connection refused"), calls: 5},
		"busy":       {err: &StorageError{StatusCode: 503}, calls: 5},
		"rate limit": {err: &StorageError{StatusCode: 429}, calls: 5},
		"slow":       {err: &StorageError{StatusCode: 408}, calls: 5},
		"bad":        {err: &StorageError{StatusCode: 400}, calls: 1},
		"missing":    {err: &StorageError{StatusCode: 404}, calls: 1},
		"forbidden":  {err: &StorageError{StatusCode: 403}, calls: 1},
		"changed":    {err: ErrObjectChanged, calls: 1},
		"param":      {err: invalid("Key", "is odd"), calls: 1},
		"a call":     {err: &CallError{Operation: "Results.Get", Err: io.ErrUnexpectedEOF}, calls: 1},
		"an answer":  {err: &Error{StatusCode: 500}, calls: 1},
		"no storage": {err: fmt.Errorf("%w: here", ErrNoStorage), calls: 1},
		"a proxy's rule": {
			err: fmt.Errorf("storage at h: %w", &transport.ProxyError{StatusCode: 403}), calls: 1,
		},
		"a certificate": {
			err:   fmt.Errorf("storage at h: %w", &tls.CertificateVerificationError{Err: io.ErrClosedPipe}),
			calls: 1,
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			opener := &failingOpener{err: tc.err}
			v := newVault()
			r := v.add("a", random(10))
			_, err := v.client(t, WithStorage("S3", opener)).Results.Open(t.Context(), r)
			require.ErrorIs(t, err, tc.err)
			assert.Equal(t, tc.calls, opener.calls)
			assert.Equal(t, ObjectRequest{Bucket: "bucket", Key: "r0"}, opener.last)
			assert.Zero(t, v.gets, "an opener comes before the signed URL")
		})
	}
}

type failingOpener struct {
	err   error
	calls int
	last  ObjectRequest
}

func (o *failingOpener) OpenObject(_ context.Context, req ObjectRequest) (*Object, error) {
	o.calls++
	o.last = req
	return nil, o.err
}

func TestStorageErrorMeans(t *testing.T) {
	t.Parallel()
	for status, want := range map[int]error{
		401: ErrForbidden, 403: ErrForbidden, 404: ErrNotFound, 410: ErrNotFound, 412: ErrObjectChanged,
		416: ErrSize,
		429: ErrRateLimited, 500: ErrServer, 503: ErrServer,
	} {
		err := error(&StorageError{Host: "h", StatusCode: status, Err: io.ErrClosedPipe})
		require.ErrorIs(t, err, want, status)
		require.ErrorIs(t, err, io.ErrClosedPipe)
		require.NotErrorIs(t, err, ErrChecksum)
	}
}

func TestRemovePartialsLeavesWhatIsNotItsOwn(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	require.NoError(t, os.WriteFile(filepath.Join(dir, "notes.part"), []byte("mine"), 0o600))
	removed, err := RemovePartials(t.Context(), dir, 0)
	require.NoError(t, err)
	assert.Empty(t, removed)
	assert.FileExists(t, filepath.Join(dir, "notes.part"))
	none := filepath.Join(dir, "none")
	_, err = RemovePartials(t.Context(), none, time.Hour)
	require.ErrorIs(t, err, os.ErrNotExist)
	assert.NoDirExists(t, none)
	_, err = RemovePartials(t.Context(), "", time.Hour)
	require.EqualError(t, err, "ricloud: RemovePartials: dir is empty")
	_, err = RemovePartials(t.Context(), dir, -time.Hour)
	require.EqualError(t, err, "ricloud: RemovePartials: age must not be negative")
}

// An option that does not apply to a call does not compile. Open takes DownloadOption, Save also
// takes SaveOption, and SaveAll takes all options.
func TestOptionsFitTheirCalls(t *testing.T) {
	t.Parallel()
	open, save := reflect.TypeFor[DownloadOption](), reflect.TypeFor[SaveOption]()
	all := reflect.TypeFor[SaveAllOption]()
	for name, row := range map[string]struct {
		option     any
		open, save bool
	}{
		"WithProgress":     {option: WithProgress, open: true, save: true},
		"WithFileNames":    {option: WithFileNames, open: false, save: true},
		"WithParallel":     {option: WithParallel, open: false, save: false},
		"WithAcknowledge":  {option: WithAcknowledge, open: false, save: false},
		"WithAcknowledger": {option: WithAcknowledger, open: false, save: false},
		"WithManifest":     {option: WithManifest, open: false, save: false},
	} {
		option := reflect.TypeOf(row.option).Out(0)
		assert.Equal(t, row.open, option.AssignableTo(open), name)
		assert.Equal(t, row.save, option.AssignableTo(save), name)
		assert.True(t, option.AssignableTo(all), name)
	}
}
