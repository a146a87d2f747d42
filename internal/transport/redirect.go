package transport

import (
	"errors"
	"fmt"
	"net/http"
	"net/url"
)

// ErrRedirect is the cause of a Failure that ended in a redirect which is not followed.
var ErrRedirect = errors.New("redirect refused")

const maxRedirects = 3

// redirect follows a GET that stays on its host and refuses every other
// redirect: the credentials go nowhere else, and a create is not turned into a
// read. It is below http.Client, so that no Location, which may hold a
// signature, gets into an error.
type redirect struct{ next http.RoundTripper }

func (r redirect) RoundTrip(req *http.Request) (*http.Response, error) {
	for hop := 0; ; hop++ {
		resp, err := r.next.RoundTrip(req)
		if err != nil || resp.StatusCode/100 != 3 {
			return resp, err
		}
		_, _ = readBody(resp, maxErrorBody)
		_ = resp.Body.Close()
		target, err := follow(req, resp, hop)
		if err != nil {
			return nil, fmt.Errorf("%w: status %d %w", ErrRedirect, resp.StatusCode, err)
		}
		if err := callFrom(req.Context()).takeNextTurn(); err != nil { //nolint:contextcheck // as in pace
			return nil, err
		}
		req = req.Clone(req.Context())
		req.URL, req.Host = target, target.Host
	}
}

// follow returns where resp sends req, or why it does not go there.
func follow(req *http.Request, resp *http.Response, hop int) (*url.URL, error) {
	target, err := resp.Location()
	switch {
	case err != nil:
		return nil, errors.New("has no usable Location")
	case req.Method != http.MethodGet:
		return nil, fmt.Errorf("came in answer to a %s, which is not redirected", req.Method)
	}
	target = req.URL.ResolveReference(target)
	switch {
	case !sameOrigin(target, req.URL):
		return nil, fmt.Errorf("points to %s://%s", target.Scheme, target.Host)
	case hop == maxRedirects:
		return nil, fmt.Errorf("exceeds the %d redirects that are followed", maxRedirects)
	}
	target.User = nil
	return target, nil
}
