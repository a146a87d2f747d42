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

	"github.com/reincubate/ricloud-go/internal/download"
)

// signedURL opens the object of one result through its signed URL, and renews
// the URL when storage no longer accepts it. Its requests carry no token, and
// its errors show no URL.
type signedURL struct {
	client *Client
	result *Result // a copy that may be changed
	scheme string  // of the result's URL, for the advice in an error

	withdrawn  bool // the API no longer returns a signed URL
	clockWrong bool // a URL that was just renewed looks expired
	identity   bool // storage compresses on the way if it may
}

const maxStorageRedirects = 3

// OpenObject asks for the bytes from req.Offset on. This machine's clock only
// decides whether to renew the URL before the request. Whether it has expired
// is for storage to say.
func (s *signedURL) OpenObject(ctx context.Context, req ObjectRequest) (*Object, error) {
	renewed := false
	var renewal error
	if s.result.SignedURL.URL.IsZero() || s.looksExpired() {
		renewal, renewed = s.renew(ctx), true
	}
	if s.result.SignedURL.URL.IsZero() {
		return nil, s.unsigned(renewal)
	}
	object, err := s.get(ctx, req)
	refused, ok := errors.AsType[*StorageError](err)
	if !ok || !refused.mayBeExpired() {
		return object, err
	}
	if !renewed {
		if renewal = s.renew(ctx); renewal == nil && !s.withdrawn {
			return s.get(ctx, req)
		}
	}
	if renewal != nil || s.withdrawn {
		return nil, s.unsigned(renewal)
	}
	return nil, err
}

func (s *signedURL) looksExpired() bool {
	return !s.clockWrong && s.result.SignedURL.expired()
}

// host returns the host of the signed URL, as far as it is known.
func (s *signedURL) host() string {
	u, err := url.Parse(s.result.SignedURL.URL.Reveal())
	if err != nil || u.Host == "" {
		return s.scheme
	}
	return u.Host
}

func (u SignedURL) expired() bool {
	return !u.DateExpires.IsZero() && !time.Now().Before(u.DateExpires)
}

// mayBeExpired reports whether an expired signature may be the reason: S3
// answers 403 to one, Google Cloud Storage 400.
func (e *StorageError) mayBeExpired() bool {
	return e.StatusCode == http.StatusBadRequest || e.StatusCode == http.StatusUnauthorized ||
		e.StatusCode == http.StatusForbidden
}

// renew gets a new signed URL. If the API returns none, the old one is kept,
// because storage may still accept it.
func (s *signedURL) renew(ctx context.Context) error {
	latest, err := s.client.Results.Get(ctx, s.result.ID)
	if err != nil {
		return err
	}
	s.result.State = latest.State
	if s.withdrawn = latest.SignedURL.URL.IsZero(); !s.withdrawn {
		s.result.SignedURL = latest.SignedURL
		s.clockWrong = latest.SignedURL.expired()
	}
	return nil
}

// unsigned returns the error of a result without a usable signed URL, with what
// to do.
func (s *signedURL) unsigned(renewal error) error {
	if renewal != nil {
		return renewal
	}
	if s.result.State == ResultExpired {
		return &StorageError{
			Host: s.scheme + "://", StatusCode: http.StatusGone,
			Code: "the result has expired and is deleted",
		}
	}
	module := map[string]string{"s3": "s3", "gs": "gcs"}[s.scheme]
	switch {
	case s.scheme == localScheme:
		return fmt.Errorf("%w: there is no signed URL; WithLocalFiles opens local:// files", ErrNoStorage)
	case module == "":
		return fmt.Errorf("%w: there is no signed URL, and no opener for %s:// (see ricloud.WithStorage)",
			ErrNoStorage, s.scheme)
	}
	return fmt.Errorf("%w: there is no signed URL; "+
		"add the module github.com/reincubate/ricloud-go/storage/%s "+
		"and the option ricloud.WithStorage(%q, %s.New(…)), or enable signed URLs in the storage config",
		ErrNoStorage, module, s.scheme, module)
}

// get makes the request. Size and MD5 of a result are those of the bytes as
// they are stored. Google Cloud Storage decompresses objects with a
// Content-Encoding unless gzip is accepted. Other servers compress if gzip is
// accepted: the size then differs, and get asks again without it.
func (s *signedURL) get(ctx context.Context, req ObjectRequest) (*Object, error) {
	object, encoded, err := s.follow(ctx, req)
	if err != nil || !encoded || s.identity || object.Size == s.result.Size {
		return object, err
	}
	drop(object.Body)
	s.identity = true
	object, _, err = s.follow(ctx, req)
	return object, err
}

// follow makes the request and follows redirects. It reports whether the body
// has a Content-Encoding.
func (s *signedURL) follow(
	ctx context.Context, req ObjectRequest,
) (object *Object, encoded bool, err error) {
	target, err := url.Parse(s.result.SignedURL.URL.Reveal())
	if err != nil {
		return nil, false, invalid("SignedURL", "does not parse")
	}
	d := &s.client.downloads
	seen := []*url.URL{target}
	for hop := 0; ; hop++ {
		if err := d.policy.Check(target); err != nil {
			return nil, false, invalid("SignedURL", err.Error())
		}
		httpReq := s.request(d.policy.Guard(ctx, target), target, req)
		resp, err := d.transport.RoundTrip(httpReq) //nolint:bodyclose // readObject and drop do
		if _, local := errors.AsType[*download.LocalError](err); local {
			return nil, false, invalid("SignedURL", fmt.Sprintf("leads to %s: %s", target.Host,
				(&download.LocalError{}).Error()))
		}
		if err != nil {
			return nil, false, fmt.Errorf("storage at %s: %w", target.Host, download.HideURL(err, seen...))
		}
		if resp.StatusCode/100 != 3 {
			resp.Body = download.HideBody(resp.Body, seen...)
			object, err := readObject(resp, target.Host, seen)
			encoding := resp.Header.Get("Content-Encoding")
			return object, encoding != "" && encoding != "identity", err
		}
		drop(resp.Body)
		next, err := target.Parse(resp.Header.Get("Location"))
		if err != nil || hop == maxStorageRedirects || resp.Header.Get("Location") == "" {
			return nil, false, &StorageError{
				Host: target.Host, StatusCode: resp.StatusCode, Code: "a redirect that is not followed",
			}
		}
		target, seen = next, append(seen, next)
	}
}

func (s *signedURL) request(ctx context.Context, target *url.URL, req ObjectRequest) *http.Request {
	encoding := "gzip"
	if s.identity {
		encoding = "identity"
	}
	httpReq := (&http.Request{
		Method: http.MethodGet, URL: target, Host: target.Host,
		Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1,
		Header: http.Header{
			"User-Agent":      {s.client.downloads.userAgent},
			"Accept-Encoding": {encoding},
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

// readObject makes an Object of an answer, or a *StorageError. A proxy may repeat
// one of the URLs in place of a code.
func readObject(
	resp *http.Response, host string, urls []*url.URL,
) (*Object, error) {
	object := &Object{Body: resp.Body, Size: resp.ContentLength, Version: resp.Header.Get("ETag")}
	if !strings.HasPrefix(object.Version, `"`) {
		object.Version = "" // a weak ETag does not identify the bytes
	}
	switch resp.StatusCode {
	case http.StatusOK:
		if object.Size < 0 && resp.Header.Get("Content-Encoding") != "" {
			object.Size = storedSize(resp.Header)
		}
		return object, nil
	case http.StatusPartialContent:
		var ok bool
		object.Offset, object.Size, ok = parseContentRange(resp.Header.Get("Content-Range"))
		if ok { // the reader compares the offsets
			return object, nil
		}
		drop(resp.Body)
		return nil, fmt.Errorf("storage at %s sent a different range than requested", host)
	}
	var body struct {
		Code string `xml:"Code"`
	}
	_ = xml.NewDecoder(io.LimitReader(resp.Body, maxErrorXML)).Decode(&body)
	drop(resp.Body)
	failed := &StorageError{Host: host, StatusCode: resp.StatusCode, Code: body.Code}
	if hidden := download.HideURL(errors.New(body.Code), urls...); !isStorageCode(body.Code) ||
		hidden.Error() != body.Code {
		failed.Code = ""
	}
	return nil, failed
}

// storedSize returns the size that Google Cloud Storage gives of an object that it
// sends as it is stored, or -1. A proxy may have left out its Content-Length.
func storedSize(h http.Header) int64 {
	size, err := strconv.ParseInt(h.Get("X-Goog-Stored-Content-Length"), 10, 64)
	if err != nil || size < 0 || h.Get("X-Goog-Stored-Content-Encoding") != h.Get("Content-Encoding") {
		return -1
	}
	return size
}

// parseContentRange reads "bytes 5-9/10"; the size is -1 where it says "*".
func parseContentRange(header string) (offset, size int64, ok bool) {
	span, total, _ := strings.Cut(strings.TrimPrefix(strings.ToLower(header), "bytes "), "/")
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
	maxDrain    = 64 << 10 // read from an answer that is not used, to keep its connection
)

func drop(body io.ReadCloser) {
	_, _ = io.CopyN(io.Discard, body, maxDrain)
	_ = body.Close()
}
