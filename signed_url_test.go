package ricloud

import (
	"bytes"
	"compress/gzip"
	"context"
	"crypto/md5"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// Storage decides whether a signed URL has expired. This machine's clock does not matter.
func TestSignedURLIsJudgedByStorage(t *testing.T) {
	t.Parallel()
	for name, ahead := range map[string]time.Duration{
		"ahead":  48 * time.Hour,
		"behind": -48 * time.Hour,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			v := newVault()
			body := random(100_000)
			r := v.add("a", body)
			v.expires = time.Now().Add(-ahead) // as a clock that is wrong by ahead shows it
			r.SignedURL.DateExpires = v.expires
			v.fault = func(_ *vault, n int, _ *http.Request, resp *http.Response) (*http.Response, error) {
				if n < 3 {
					cutAt(resp, 20_000)
				}
				return resp, nil
			}
			got, err := read(t.Context(), v.client(t), r)
			require.NoError(t, err)
			assert.True(t, bytes.Equal(body, got))
			assert.LessOrEqual(t, v.apiGets, 1, "a wrong clock costs one call, not one for each connection")
		})
	}
	for status, renewals := range map[int]int{
		http.StatusBadRequest: 1, http.StatusUnauthorized: 1, http.StatusForbidden: 1, // may be expired
		http.StatusNotFound: 0, http.StatusNotModified: 0, http.StatusMethodNotAllowed: 0,
	} {
		t.Run(fmt.Sprintf("storage answers %d", status), func(t *testing.T) {
			t.Parallel()
			v := newVault()
			v.fault = answers(status)
			r := v.add("a", random(10))
			_, err := read(t.Context(), v.client(t), r)
			refused, ok := errors.AsType[*StorageError](err)
			require.True(t, ok, "%v", err)
			assert.Equal(t, status, refused.StatusCode)
			assert.Equal(t, renewals, v.apiGets)
			assert.Equal(t, 1+renewals, v.gets)

			r.SignedURL.DateExpires = time.Now().Add(-time.Hour)
			_, err = read(t.Context(), v.client(t), r)
			require.ErrorAs(t, err, &refused)
			assert.Equal(t, renewals+1, v.apiGets, "a URL that was just renewed is not renewed again")
		})
	}
	t.Run("the API gives no new URL, and the old one works", func(t *testing.T) {
		t.Parallel()
		v := newVault()
		r := v.add("a", random(10))
		r.SignedURL.DateExpires = time.Now().Add(-time.Hour)
		v.noSignedURLs = true
		_, err := read(t.Context(), v.client(t), r)
		require.NoError(t, err)
	})
	t.Run("the API gives no new URL, and the old one fails", func(t *testing.T) {
		t.Parallel()
		v := newVault()
		r := v.add("a", random(10))
		v.noSignedURLs, v.fault = true, answers(http.StatusForbidden)
		_, err := read(t.Context(), v.client(t), r)
		require.ErrorIs(t, err, ErrNoStorage)
	})
}

func TestOpenThatIsCancelledIsCauseAndErr(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		v := newVault()
		r := v.add("a", random(1000))
		v.fault = func(_ *vault, _ int, req *http.Request, resp *http.Response) (*http.Response, error) {
			resp.Body = io.NopCloser(io.MultiReader(io.LimitReader(resp.Body, 100), silent{req.Context()}))
			return resp, nil
		}
		client, why := v.client(t), errors.New("shutting down")
		for name, call := range map[string]func(ctx context.Context) error{
			"Read": func(ctx context.Context) error { _, err := read(ctx, client, r); return err },
			"Save": func(ctx context.Context) error {
				_, err := client.Results.Save(ctx, r, t.TempDir())
				return err
			},
			"SaveAll": func(ctx context.Context) error {
				_, err := client.Results.SaveAll(ctx, each(r), t.TempDir())
				return err
			},
		} {
			ctx, cancel := context.WithCancelCause(t.Context())
			time.AfterFunc(time.Second, func() { cancel(why) })
			err := call(ctx)
			require.ErrorIs(t, err, why, name)
			require.ErrorIs(t, err, context.Canceled, name)
		}
	})
}

// tells is a transport whose errors contain the URL, as those of http.Client do.
type tells struct {
	with func(u *url.URL) error
	next http.RoundTripper
}

func (d tells) RoundTrip(req *http.Request) (*http.Response, error) {
	if req.URL.Host == testStorage {
		return nil, d.with(req.URL)
	}
	return d.next.RoundTrip(req)
}

func TestNoSignatureInAnyError(t *testing.T) {
	t.Parallel()
	broken := errors.New("broken pipe")
	for name, with := range map[string]func(u *url.URL) error{
		"url.Error": func(u *url.URL) error {
			return &url.Error{Op: "Get", URL: u.String(), Err: broken}
		},
		"wrapped url.Error": func(u *url.URL) error {
			return fmt.Errorf("traced: %w", &url.Error{Op: "Get", URL: u.String(), Err: broken})
		},
		"url.Error, twice": func(u *url.URL) error {
			return &url.Error{URL: u.String(), Err: &url.Error{URL: u.String(), Err: broken}}
		},
		"text": func(u *url.URL) error { return fmt.Errorf("get %s: %w", u, broken) },
		"a value in the text": func(u *url.URL) error {
			return fmt.Errorf("get with %s: %w", u.Query().Get("X-Signature"), broken)
		},
		"joined": func(u *url.URL) error {
			return errors.Join(broken, fmt.Errorf("get %s", u))
		},
		"the query by itself": func(u *url.URL) error {
			return fmt.Errorf("?%s: %w", u.RawQuery, broken)
		},
		"url.Error of nothing": func(u *url.URL) error {
			return &url.Error{Op: "Get", URL: u.String(), Err: fmt.Errorf("%q: %w", u, broken)}
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			v := newVault()
			r := v.add("a", random(10))
			c, err := NewClient("canary-token", WithTransport(tells{with, v}), WithRetries(0))
			require.NoError(t, err)
			_, err = c.Results.Save(t.Context(), r, t.TempDir())
			require.ErrorIs(t, err, broken)
			for e := err; e != nil; e = errors.Unwrap(e) {
				assert.NotContains(t, fmt.Sprintf("%v %+v %#v %q", e, e, e, e), "canary")
			}
			_, leaks := errors.AsType[*url.Error](err)
			assert.False(t, leaks)
		})
	}
	for code, kept := range map[string]bool{
		"AccessDenied": true, "/a?" + testSignature: false, testSignature: false,
		"canary-signature": false,
	} {
		t.Run("code "+code, func(t *testing.T) {
			t.Parallel()
			v := newVault()
			v.fault = func(*vault, int, *http.Request, *http.Response) (*http.Response, error) {
				w := httptest.NewRecorder()
				w.WriteHeader(http.StatusNotFound)
				_, _ = io.WriteString(w, "<Error><Code>"+code+"</Code></Error>")
				return w.Result(), nil
			}
			_, err := read(t.Context(), v.client(t), v.add("a", random(10)))
			refused, ok := errors.AsType[*StorageError](err)
			require.True(t, ok, "%T", err)
			assert.Equal(t, kept, refused.Code == code)
			assert.Equal(t, kept, strings.HasSuffix(err.Error(), ": "+code))
			refused.Code = code
			assert.NotContains(t, err.Error(), testSignature)
		})
	}
	t.Run("in a Location and in a body", func(t *testing.T) {
		t.Parallel()
		v := newVault()
		r := v.add("a", random(1000))
		const there = "https://other.test/x?token=canary-location"
		v.fault = func(_ *vault, n int, req *http.Request, resp *http.Response) (*http.Response, error) {
			if n%2 == 0 {
				w := httptest.NewRecorder()
				w.Header().Set("Location", there)
				w.WriteHeader(http.StatusTemporaryRedirect)
				return w.Result(), nil
			}
			resp.StatusCode, resp.ContentLength = http.StatusOK, 1000
			resp.Body = io.NopCloser(io.MultiReader(bytes.NewReader(make([]byte, 10)),
				errorReader{&url.Error{
					Op: "Get", URL: req.URL.String(), Err: fmt.Errorf("%s: %w", req.URL, broken),
				}}))
			return resp, nil
		}
		v.otherHosts = true
		_, err := read(t.Context(), v.client(t, WithRetries(0)), r)
		require.ErrorIs(t, err, broken)
		assert.NotContains(t, err.Error(), "canary")
		v.fault = func(*vault, int, *http.Request, *http.Response) (*http.Response, error) {
			w := httptest.NewRecorder()
			w.Header().Set("Location", "https://other.test/%zz?token=canary-location")
			w.WriteHeader(http.StatusFound)
			return w.Result(), nil
		}
		_, err = read(t.Context(), v.client(t, WithRetries(0)), r)
		require.ErrorContains(t, err, "a redirect that is not followed")
		assert.NotContains(t, err.Error(), "canary")
	})
}

type errorReader struct{ err error }

func (r errorReader) Read([]byte) (int, error) { return 0, r.err }

// localURLs returns URLs that lead to this machine or its networks, at least with some resolvers.
func localURLs() []string {
	return []string{
		"http://127.0.0.1:1/", "https://127.0.0.1/", "https://127.1/", "https://127.255.255.254/",
		"https://2130706433/",
		"https://0x7f000001/", "https://0177.0.0.1/", "https://0x7f.1/", "https://localhost/",
		"https://LOCALHOST./",
		"https://a.localhost/", "https://[::1]/", "https://[::ffff:127.0.0.1]/",
		"https://[::ffff:7f00:1]/", "https://0.0.0.0/",
		"https://0/", "https://[::]/", "https://169.254.169.254/latest/meta-data/",
		"https://[fe80::1%25eth0]/",
		"https://10.0.0.1/", "https://192.168.1.1/", "https://172.16.0.1/", "https://[fd00:ec2::254]/",
		"https://100.100.100.200/",
		"https://\u2460\u2461\u2466.0.0.1/", "https://127\u30020.0.1/", "https://[64:ff9b:1::1]/",
		"https://[64:ff9b::7f00:1]/", "https://[2002:7f00:1::]/", "https://224.0.0.1/",
		"http://storage.test/", "ftp://storage.test/",
		"https:///x", "file:///etc/passwd",
	}
}

func TestNoURLLeadsToThisMachine(t *testing.T) {
	t.Parallel()
	for _, target := range localURLs() {
		v := newVault()
		r := v.add("a", random(10))
		v.otherHosts = true
		r.SignedURL.URL = NewSecret(target)
		_, err := read(t.Context(), v.client(t), r)
		require.Error(t, err, target)
		assert.Zero(t, v.gets, "a signed URL to %s was followed", target)

		r = v.add("a", random(10))
		v.fault = func(_ *vault, n int, _ *http.Request, resp *http.Response) (*http.Response, error) {
			if n > 0 {
				return resp, nil
			}
			w := httptest.NewRecorder()
			w.Header().Set("Location", target)
			w.WriteHeader(http.StatusFound)
			return w.Result(), nil
		}
		_, err = read(t.Context(), v.client(t), r)
		require.Error(t, err, target)
		assert.Equal(t, 1, v.gets, "a redirect to %s was followed", target)
	}
	t.Run("with WithPrivateStorage", func(t *testing.T) {
		t.Parallel()
		v := newVault()
		r := v.add("a", random(10))
		v.otherHosts = true
		r.SignedURL.URL = NewSecret("https://10.0.0.1/r0?" + testSignature)
		_, err := read(t.Context(), v.client(t, WithPrivateStorage()), r)
		require.NoError(t, err)
		_, err = read(t.Context(), v.client(t, WithInsecureHTTP()), r)
		require.NoError(t, err, "what may be read without encryption may be anywhere")
	})
}

// The client's own dialer refuses a name that resolves to this machine.
func TestNoNameLeadsToThisMachine(t *testing.T) {
	t.Parallel()
	asked := make(chan struct{}, 10)
	server := httptest.NewTLSServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {
		asked <- struct{}{}
	}))
	defer server.Close()
	name, err := os.Hostname()
	require.NoError(t, err)
	if addresses, err := net.DefaultResolver.LookupHost(t.Context(), name); err != nil ||
		len(addresses) == 0 {
		name = "localhost.localdomain" // the resolver does not know this machine's name
	}
	c, err := NewClient("token", WithRetries(0))
	require.NoError(t, err)
	defer c.Close()
	r := newVault().add("a", random(10))
	_, port, err := net.SplitHostPort(server.Listener.Addr().String())
	require.NoError(t, err)
	r.SignedURL.URL = NewSecret("https://" + net.JoinHostPort(name, port) + "/?canary")
	_, err = c.Results.Open(t.Context(), r)
	require.ErrorContains(t, err, "not on the public Internet")
	assert.NotContains(t, err.Error(), "canary")
	assert.Empty(t, asked)
}

// transcoding returns a vault that treats an object with Content-Encoding: gzip as Google Cloud
// Storage does.
func transcoding(t *testing.T, plain []byte) (*vault, *Result) {
	t.Helper()
	var stored bytes.Buffer
	w := gzip.NewWriter(&stored)
	_, _ = w.Write(plain)
	require.NoError(t, w.Close())
	v := newVault()
	r := v.add("a", stored.Bytes())
	v.fault = func(_ *vault, _ int, req *http.Request, resp *http.Response) (*http.Response, error) {
		if strings.Contains(req.Header.Get("Accept-Encoding"), "gzip") {
			resp.Header.Set("Content-Encoding", "gzip")
			return resp, nil
		}
		return &http.Response{
			StatusCode: http.StatusOK, Header: http.Header{}, ContentLength: -1,
			Body: io.NopCloser(bytes.NewReader(plain)),
		}, nil
	}
	return v, r
}

func TestCompressedObjectsAreReadAsStored(t *testing.T) {
	t.Parallel()
	v, r := transcoding(t, bytes.Repeat([]byte("text "), 10_000))
	got, err := read(t.Context(), v.client(t), r)
	require.NoError(t, err)
	assert.True(t, bytes.Equal(v.objects["r0"], got))
	assert.Equal(t, 1, v.gets)

	t.Run("without a Content-Length", func(t *testing.T) {
		t.Parallel()
		v, r := transcoding(t, bytes.Repeat([]byte("text "), 10_000))
		transcode := v.fault
		v.fault = func(v *vault, n int, req *http.Request, resp *http.Response) (*http.Response, error) {
			resp, err := transcode(v, n, req, resp)
			resp.Header.Set("X-Goog-Stored-Content-Encoding", "gzip")
			resp.Header.Set("X-Goog-Stored-Content-Length", strconv.FormatInt(r.Size, 10))
			resp.ContentLength = -1
			return resp, err
		}
		got, err := read(t.Context(), v.client(t), r)
		require.NoError(t, err)
		assert.True(t, bytes.Equal(v.objects["r0"], got))
		assert.Equal(t, 1, v.gets)
	})
	t.Run("a server that compresses on the fly", func(t *testing.T) {
		t.Parallel()
		plain := bytes.Repeat([]byte("text "), 10_000)
		v := newVault()
		r := v.add("a", plain)
		v.fault = func(_ *vault, _ int, req *http.Request, resp *http.Response) (*http.Response, error) {
			if !strings.Contains(req.Header.Get("Accept-Encoding"), "gzip") {
				return resp, nil
			}
			var packed bytes.Buffer
			w := gzip.NewWriter(&packed)
			_, _ = w.Write(plain)
			_ = w.Close()
			resp.Header.Set("Content-Encoding", "gzip")
			resp.ContentLength, resp.Body = -1, io.NopCloser(&packed)
			return resp, nil
		}
		got, err := read(t.Context(), v.client(t), r)
		require.NoError(t, err)
		assert.True(t, bytes.Equal(plain, got))
	})
}

func TestLocalFiles(t *testing.T) {
	t.Parallel()
	v, dir := newVault(), t.TempDir()
	shared := filepath.Join(dir, "shared")
	require.NoError(t, os.Mkdir(shared, 0o700))
	write := func(path, content string) *Result {
		require.NoError(t, os.WriteFile(path, []byte(content), 0o600))
		sum := md5.Sum([]byte(content))
		return &Result{
			ID: "r0", Identifier: "a", URL: "local://" + filepath.ToSlash(path), Size: int64(len(content)),
			Checksum: hex.EncodeToString(sum[:]),
		}
	}
	v.noSignedURLs = true
	inside := write(filepath.Join(shared, "a b?c#d%20"), "inside")
	outside := write(filepath.Join(dir, "outside"), "outside")
	require.NoError(t, os.Symlink(filepath.Join(dir, "outside"), filepath.Join(shared, "link")))
	link := *outside
	link.URL = "local://" + filepath.ToSlash(filepath.Join(shared, "link"))
	above := *outside
	above.URL = "local://" + filepath.ToSlash(shared) + "/../outside"
	missing := *inside
	missing.URL += "-missing"

	_, err := read(t.Context(), v.client(t), inside)
	require.ErrorIs(t, err, ErrNoStorage, "nothing is read from disk unasked")
	require.ErrorContains(t, err, "WithLocalFiles")
	c := v.client(t, WithLocalFiles(shared))
	got, err := read(t.Context(), c, inside)
	require.NoError(t, err)
	assert.Equal(t, "inside", string(got))
	for name, r := range map[string]*Result{"outside": outside, "link": &link, "above": &above} {
		_, err = read(t.Context(), c, r)
		require.ErrorIs(t, err, ErrForbidden, name)
		if name != "link" {
			require.ErrorContains(t, err, "outside the folder of WithLocalFiles", name)
		}
	}
	_, err = read(t.Context(), c, &missing)
	require.ErrorIs(t, err, ErrNotFound)

	// A signed URL is used first. If it fails, the local file is read.
	body := random(6)
	signed := v.add("a", body)
	signed.URL = inside.URL
	got, err = read(t.Context(), c, signed)
	require.NoError(t, err)
	assert.Equal(t, body, got)
	inside.SignedURL = signed.SignedURL
	v.fault = answers(http.StatusForbidden)
	got, err = read(t.Context(), c, inside)
	require.NoError(t, err)
	assert.Equal(t, "inside", string(got))
	v.noSignedURLs = false // storage refuses the renewed URL, too
	got, err = read(t.Context(), c, inside)
	require.NoError(t, err)
	assert.Equal(t, "inside", string(got))

	_, err = NewClient("token", WithLocalFiles(""))
	var refused *ParamError
	require.ErrorAs(t, err, &refused)
	assert.Equal(t, "WithLocalFiles", refused.Field)
}

func TestOptionsThatCannotWorkAreRefused(t *testing.T) {
	t.Parallel()
	v := newVault()
	c, r := v.client(t), v.add("a", []byte("a"))
	refuses := func(field string, err error) {
		t.Helper()
		var refused *ParamError
		require.ErrorAs(t, err, &refused)
		assert.Equal(t, field, refused.Field)
	}
	_, err := c.Results.Open(t.Context(), r, nil)
	refuses("opts", err)
	_, err = c.Results.Open(t.Context(), r, WithProgress(nil))
	refuses("WithProgress", err)
	_, err = c.Results.Save(t.Context(), r, t.TempDir(), WithFileNames(nil))
	refuses("WithFileNames", err)
	for field, opt := range map[string]SaveAllOption{
		"opts": nil, "WithParallel": WithParallel(0), "WithManifest": WithManifest(nil),
		"WithAcknowledger": WithAcknowledger(nil),
	} {
		_, err = c.Results.SaveAll(t.Context(), each(r), t.TempDir(), opt)
		refuses(field, err)
	}
	_, err = c.Results.SaveAllTo(t.Context(), each(r), nil)
	refuses("sink", err)
	_, err = c.Results.SaveAll(t.Context(), nil, t.TempDir())
	refuses("results", err)
	_, err = c.Results.SaveAllTo(t.Context(), nil, nil)
	refuses("results", err)
	assert.Zero(t, v.gets)
}

// A server that ends the connection in the middle of a body, also behind a redirect, does not end
// the download. The redirect is followed each time, with the range.
func TestSignedURLOverAConnectionThatGoesAway(t *testing.T) {
	t.Parallel()
	body := random(20)
	var asked, redirected atomic.Int64
	server := httptest.NewUnstartedServer(http.HandlerFunc(
		func(w http.ResponseWriter, req *http.Request) {
			assert.Equal(t, 2, req.ProtoMajor)
			if req.URL.Path == "/r0" {
				redirected.Add(1)
				w.Header().Set("Location", "/elsewhere?canary-signature")
				w.WriteHeader(http.StatusTemporaryRedirect)
				return
			}
			w.Header().Set("ETag", `"1"`)
			n := int(asked.Add(1)) - 1
			if n > 0 {
				assert.Equal(t, fmt.Sprintf("bytes=%d-", n), req.Header.Get("Range"))
				assert.Equal(t, `"1"`, req.Header.Get("If-Match"))
				w.Header().Set("Content-Range", fmt.Sprintf("bytes %d-19/20", n))
				w.WriteHeader(http.StatusPartialContent)
			}
			if n == 3 {
				_, _ = w.Write(body[n:])
				return
			}
			w.Header().Set("Connection", "close") // one byte, then GOAWAY and the end of the stream
			_, _ = w.Write(body[n : n+1])
			_ = http.NewResponseController(w).Flush()
			panic(http.ErrAbortHandler)
		}))
	server.EnableHTTP2 = true
	server.StartTLS()
	t.Cleanup(server.Close)
	v := newVault()
	r := v.add("a", body)
	r.SignedURL.URL = NewSecret(server.URL + "/r0?canary-signature")
	c := v.client(t, WithTransport(server.Client().Transport), WithPrivateStorage())
	saved, err := c.Results.Save(t.Context(), r, t.TempDir())
	require.NoError(t, err)
	assertFile(t, saved.Path, body)
	assert.EqualValues(t, 4, asked.Load())
	assert.EqualValues(t, 4, redirected.Load())
}
