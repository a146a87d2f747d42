package transport

import (
	"errors"
	"fmt"
	"maps"
	"net"
	"net/url"
	"strings"
)

// ParseBaseURL checks the base URL. Its errors say what is wrong with it and
// never quote it: a URL with a password in it is one of the mistakes it finds.
func ParseBaseURL(raw string, allowHTTP bool) (*url.URL, error) {
	u, err := url.Parse(raw)
	switch {
	case err != nil:
		return nil, errors.New("does not parse as a URL")
	case u.Scheme != "https" && u.Scheme != "http":
		return nil, errors.New("must begin with https://")
	case u.Hostname() == "":
		return nil, errors.New("has no host")
	case u.User != nil:
		return nil, errors.New("must not have a user or password")
	case u.RawQuery != "" || u.ForceQuery || u.Fragment != "":
		return nil, errors.New("must not have a query or a fragment")
	case hasDotSegment(u.Path):
		return nil, errors.New(`must not have "." or ".." in its path`)
	case u.Scheme == "http" && !allowHTTP && !IsLoopback(u.Hostname()):
		return nil, fmt.Errorf("would send the token unencrypted to %s: use https, or WithInsecureHTTP",
			u.Hostname())
	}
	base := &url.URL{Scheme: u.Scheme, Host: u.Host}
	setPath(base, strings.TrimRight(u.EscapedPath(), "/"))
	return base, nil
}

// IsLoopback reports whether host, a name or an address without a port, is this machine.
func IsLoopback(host string) bool {
	ip := net.ParseIP(host)
	return strings.EqualFold(host, "localhost") || ip != nil && ip.IsLoopback()
}

// target returns the URL of req, which is always on the base URL's host.
func (c *Client) target(req *Request) (url.URL, error) {
	var path, query string
	var err error
	if req.URL != "" {
		path, query, err = c.relative(req.URL)
		path = c.prefix + path
	} else {
		path, err = expand(c.prefix, req.Operation.Path, req.ID)
	}
	if err != nil {
		return url.URL{}, err
	}
	if len(req.Query) > 0 {
		values, err := url.ParseQuery(query)
		if err != nil {
			return url.URL{}, errors.New("url has a query that does not parse")
		}
		maps.Copy(values, req.Query)
		query = values.Encode()
	}
	u := url.URL{Scheme: c.base.Scheme, Host: c.base.Host, RawQuery: query}
	setPath(&u, path)
	return u, nil
}

// relative returns the escaped path below the base, and the query, of a URL as
// a list carries it: "/sources/1/children", or the same with the base before it.
func (c *Client) relative(raw string) (path, query string, err error) {
	u, err := url.Parse(raw)
	switch {
	case err != nil:
		return "", "", errors.New("url does not parse")
	case u.Opaque != "" || u.User != nil:
		return "", "", errors.New("url is not a path on the API's host")
	case hasDotSegment(u.Path):
		return "", "", errors.New(`url must not have a "." or ".." in its path`)
	}
	path = u.EscapedPath()
	if u.Scheme != "" || u.Host != "" {
		below, found := strings.CutPrefix(path, c.prefix)
		if !sameOrigin(u, c.base) || !found {
			return "", "", fmt.Errorf("url points away from the API, to host %q", u.Hostname())
		}
		path = below
	}
	if !strings.HasPrefix(path, "/") {
		return "", "", errors.New(`url must begin with "/"`)
	}
	return path, u.RawQuery, nil
}

// expand returns prefix and template, with id, escaped, in the place of "{id}".
func expand(prefix, template, id string) (string, error) {
	before, after, found := strings.Cut(template, "{id}")
	switch {
	case !found && id != "":
		return "", fmt.Errorf("path %s takes no id", template)
	case !found:
		return prefix + template, nil
	case id == "":
		return "", errors.New("id is empty")
	case id == "." || id == "..":
		return "", fmt.Errorf("id %q is not the ID of a resource", id)
	}
	return prefix + before + url.PathEscape(id) + after, nil
}

// setPath sets u's path from its escaped form, which must be valid.
func setPath(u *url.URL, escaped string) {
	u.Path = escaped
	if strings.Contains(escaped, "%") {
		u.Path, _ = url.PathUnescape(escaped)
		u.RawPath = escaped
	}
}

func hasDotSegment(path string) bool {
	for segment := range strings.SplitSeq(path, "/") {
		if segment == "." || segment == ".." {
			return true
		}
	}
	return false
}

// sameOrigin reports whether a and b share scheme, host and port.
func sameOrigin(a, b *url.URL) bool {
	return strings.EqualFold(a.Scheme, b.Scheme) && strings.EqualFold(a.Hostname(), b.Hostname()) &&
		port(a) == port(b)
}

func port(u *url.URL) string {
	if p := u.Port(); p != "" {
		return p
	}
	return map[string]string{"https": "443", "http": "80"}[strings.ToLower(u.Scheme)]
}
