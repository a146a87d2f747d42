package ricloud

import (
	"context"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/reincubate/ricloud-go/internal/transport"
)

// signedURL reads a result through its signed URL, and gets a fresh one when
// that has expired. It stands on the bare transport: no token goes to a storage
// host, and no URL into an error.
type signedURL struct {
	client *Client
	result *Result
	scheme string // of the result's own URL, for the error's advice
}

const maxStorageRedirects = 3

// OpenObject asks for the bytes from req.Offset on. A refusal that an expired
// signature may explain is tried again once with a fresh one.
func (s *signedURL) OpenObject(ctx context.Context, req ObjectRequest) (*Object, error) {
	fresh := false
	for {
		if s.result.SignedURL.URL == "" || s.result.SignedURL.expired() {
			if fresh {
				return nil, s.unsigned()
			}
			if err := s.refresh(ctx); err != nil {
				return nil, err
			}
			fresh = true
			continue
		}
		object, err := s.get(ctx, req)
		refused, ok := errors.AsType[*StorageError](err)
		if fresh || !ok || !refused.mayBeExpired() {
			return object, err
		}
		s.result.SignedURL = SignedURL{}
	}
}

func (u SignedURL) expired() bool {
	return !u.DateExpires.IsZero() && !time.Now().Before(u.DateExpires)
}

// mayBeExpired reports what the services answer to an expired signature: S3
// says 403, Google Cloud Storage 400.
func (e *StorageError) mayBeExpired() bool {
	return e.StatusCode == http.StatusBadRequest || e.StatusCode == http.StatusUnauthorized || e.StatusCode == http.StatusForbidden
}

func (s *signedURL) refresh(ctx context.Context) error {
	latest, err := s.client.Results.Get(ctx, s.result.ID)
	if err == nil {
		s.result.SignedURL, s.result.State = latest.SignedURL, latest.State
	}
	return err
}

// unsigned says what to do for a result without a signed URL that works.
func (s *signedURL) unsigned() error {
	if s.result.State == ResultExpired {
		return &StorageError{Host: s.scheme + "://", StatusCode: http.StatusGone, Code: "the result has expired and is deleted"}
	}
	module := map[string]string{"s3": "s3", "gs": "gcs"}[s.scheme]
	if module == "" {
		return fmt.Errorf("%w: there is no signed URL, and no opener for %s:// (see ricloud.WithStorage)", ErrNoStorage, s.scheme)
	}
	return fmt.Errorf("%w: there is no signed URL; add the module github.com/reincubate/ricloud-go/storage/%s and the option "+
		"ricloud.WithStorage(%q, %s.New(…)), or enable signed URLs in the storage config", ErrNoStorage, module, s.scheme, module)
}

// get makes the request and follows redirects.
func (s *signedURL) get(ctx context.Context, req ObjectRequest) (*Object, error) {
	target, err := url.Parse(string(s.result.SignedURL.URL))
	if err != nil {
		return nil, invalid("SignedURL", "does not parse")
	}
	for hop := 0; ; hop++ {
		if err := s.client.downloads.allowed(target); err != nil {
			return nil, err
		}
		resp, err := s.client.downloads.transport.RoundTrip(s.request(ctx, target, req)) //nolint:bodyclose // readObject and drop do
		if err != nil {
			return nil, fmt.Errorf("storage at %s: %w", target.Host, err)
		}
		if resp.StatusCode/100 != 3 {
			return readObject(resp, target.Host, req)
		}
		drop(resp.Body)
		next, err := target.Parse(resp.Header.Get("Location"))
		if err != nil || hop == maxStorageRedirects {
			return nil, &StorageError{Host: target.Host, StatusCode: resp.StatusCode, Code: "a redirect that is not followed"}
		}
		target = next
	}
}

func (s *signedURL) request(ctx context.Context, target *url.URL, req ObjectRequest) *http.Request {
	httpReq := (&http.Request{
		Method: http.MethodGet, URL: target, Host: target.Host,
		Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1,
		Header: http.Header{
			"User-Agent":      {s.client.downloads.userAgent},
			"Accept-Encoding": {"identity"}, // size and MD5 are of the bytes as stored
		},
	}).WithContext(ctx)
	if req.Offset > 0 {
		httpReq.Header.Set("Range", fmt.Sprintf("bytes=%d-", req.Offset))
		if req.Version != "" {
			httpReq.Header.Set("If-Match", req.Version)
		}
	}
	return httpReq
}

// allowed refuses to read files in the clear, as the client does for the API.
func (d *downloads) allowed(target *url.URL) error {
	switch {
	case target.Hostname() == "":
	case target.Scheme == "https", target.Scheme == "http" && (d.allowHTTP || transport.IsLoopback(target.Hostname())):
		return nil
	}
	return invalid("SignedURL", "is not an https:// URL (see WithInsecureHTTP)")
}

// readObject makes an Object of an answer, or a *StorageError.
func readObject(resp *http.Response, host string, req ObjectRequest) (*Object, error) {
	object := &Object{Body: resp.Body, Size: resp.ContentLength, Version: resp.Header.Get("ETag")}
	if !strings.HasPrefix(object.Version, `"`) {
		object.Version = "" // a weak one says nothing of the bytes
	}
	switch resp.StatusCode {
	case http.StatusOK:
		return object, nil
	case http.StatusPartialContent:
		var ok bool
		if object.Offset, object.Size, ok = parseContentRange(resp.Header.Get("Content-Range")); ok && object.Offset <= req.Offset {
			return object, nil
		}
		drop(resp.Body)
		return nil, fmt.Errorf("storage at %s answered other bytes than were asked for", host)
	}
	var body struct {
		Code string `xml:"Code"`
	}
	_ = xml.NewDecoder(io.LimitReader(resp.Body, maxErrorXML)).Decode(&body)
	drop(resp.Body)
	return nil, &StorageError{Host: host, StatusCode: resp.StatusCode, Code: body.Code}
}

// parseContentRange reads "bytes 5-9/10"; the size is -1 where it says "*".
func parseContentRange(header string) (offset, size int64, ok bool) {
	span, total, _ := strings.Cut(strings.TrimPrefix(header, "bytes "), "/")
	first, _, _ := strings.Cut(span, "-")
	offset, err := strconv.ParseInt(first, 10, 64)
	if err != nil || offset < 0 {
		return 0, 0, false
	}
	if size, err = strconv.ParseInt(total, 10, 64); err != nil {
		size = -1
	}
	return offset, size, true
}

const (
	maxErrorXML = 16 << 10
	maxDrain    = 64 << 10 // of an answer nobody reads, so that its connection can be used again
)

func drop(body io.ReadCloser) {
	_, _ = io.CopyN(io.Discard, body, maxDrain)
	_ = body.Close()
}
