package transport

import (
	"maps"
	"net/http"
	"strconv"
	"strings"
	"time"
)

// sign gives each request its header. It is below http.Client, so that
// http.Client never sees a credential and copies no header to a redirect.
type sign struct{ next http.RoundTripper }

func (s sign) RoundTrip(req *http.Request) (*http.Response, error) {
	req.Header = callFrom(req.Context()).header // the request is the call's own
	return s.next.RoundTrip(req)
}

// headerOf returns the header of a request.
func (c *Client) headerOf(req *Request) http.Header {
	header := maps.Clone(c.header)
	if req.Body != nil {
		header["Content-Type"] = header["Accept"]
	}
	if await := req.await(); await > 0 {
		header.Set("Ricloud-Await", strconv.Itoa(int(await/time.Second)))
	}
	if c.cfg.Authorize != nil { // every target, and every redirect followed, is on the base URL's host
		c.cfg.Authorize(header)
	}
	return header
}

// isToken reports whether text has only the characters that HTTP allows in a
// method and in the name of a header.
func isToken(text string) bool {
	return !strings.ContainsFunc(text, func(r rune) bool {
		return r <= ' ' || r >= 0x7f || strings.ContainsRune(`"(),/:;<=>?@[\]{}`, r)
	})
}
