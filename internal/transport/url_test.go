package transport

import (
	"net/url"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestBaseURL(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		raw       string
		allowHTTP bool
		want      string // the resulting URL, or a part of the error
	}{
		{raw: "https://api.test", allowHTTP: false, want: "https://api.test"},
		{raw: "HTTPS://api.test:8443/", allowHTTP: false, want: "https://api.test:8443"},
		{raw: "https://api.test/a/b%2Fc/", allowHTTP: false, want: "https://api.test/a/b%2Fc"},
		{raw: "http://localhost:8080", allowHTTP: false, want: "http://localhost:8080"},
		{raw: "http://127.0.0.1", allowHTTP: false, want: "http://127.0.0.1"},
		{raw: "http://[::1]:80", allowHTTP: false, want: "http://[::1]:80"},
		{raw: "http://api.test", allowHTTP: true, want: "http://api.test"},
		{raw: "http://api.test", allowHTTP: false, want: "unencrypted to api.test"},
		{raw: "http://127.0.0.1.evil.test", allowHTTP: false, want: "unencrypted to"},
		{raw: "", allowHTTP: false, want: "must begin with https://"},
		{raw: "api.test", allowHTTP: false, want: "must begin with https://"},
		{raw: "ftp://api.test", allowHTTP: false, want: "must begin with https://"},
		{raw: "https://", allowHTTP: false, want: "has no host"},
		{raw: "https://:443", allowHTTP: false, want: "has no host"},
		{raw: "https://u:hunter2@api.test", allowHTTP: false, want: "user or password"},
		{raw: "https://api.test?token=hunter2", allowHTTP: false, want: "query or a fragment"},
		{raw: "https://api.test?", allowHTTP: false, want: "query or a fragment"},
		{raw: "https://api.test#hunter2", allowHTTP: false, want: "query or a fragment"},
		{raw: "https://api.test/a/../b", allowHTTP: false, want: `"." or ".."`},
		{raw: "https://hunter2:%zz", allowHTTP: false, want: "does not parse"},
	} {
		base, err := ParseBaseURL(tt.raw, tt.allowHTTP)
		if err != nil {
			require.ErrorContains(t, err, tt.want, tt.raw)
			assert.NotContains(t, err.Error(), "hunter2")
			continue
		}
		assert.Equal(t, tt.want, base.String(), tt.raw)
	}
}

func TestTarget(t *testing.T) {
	t.Parallel()
	client := newClient(t, play(status(200)), func(c *Config) {
		c.BaseURL = "https://api.test:443/pre%2Ffix/"
	})
	ids := func(id string) *Request { return &Request{Operation: ResultsGet, ID: id} }
	for _, tt := range []struct {
		req  *Request
		want string // the resulting URL, or a part of the error
	}{
		{req: ids("1"), want: "/results/1"},
		{req: ids("a/b?c#d%e f"), want: "/results/a%2Fb%3Fc%23d%25e%20f"},
		{req: ids("%2e%2e"), want: "/results/%252e%252e"},
		{req: ids("…"), want: "/results/%E2%80%A6"},
		{req: ids("..."), want: "/results/..."},
		{req: ids("{id}"), want: "/results/%7Bid%7D"},
		{req: ids(""), want: "id is empty"},
		{req: ids("."), want: `id "." is not the ID of a resource`},
		{req: ids(".."), want: `id ".." is not the ID of a resource`},
		{req: &Request{Operation: UsersList, ID: "1"}, want: "takes no id"},
		{
			req:  &Request{Operation: UsersList, Query: url.Values{"after_id": {"a&b"}}},
			want: "/users?after_id=a%26b",
		},
		{req: &Request{URL: "/sources/1/children"}, want: "/sources/1/children"},
		{req: &Request{URL: "/sources/a%2Fb/children"}, want: "/sources/a%2Fb/children"},
		{
			req:  &Request{URL: "/users?limit=1&x=2", Query: url.Values{"limit": {"5"}}},
			want: "/users?limit=5&x=2",
		},
		{req: &Request{URL: "https://API.test/pre%2Ffix/users#top"}, want: "/users"},
		{req: &Request{URL: "https://api.test/other"}, want: "points away"},
		{req: &Request{URL: "https://api.test:8443/pre%2Ffix/users"}, want: "points away"},
		{req: &Request{URL: "http://api.test/pre%2Ffix/users"}, want: "points away"},
		{req: &Request{URL: "//elsewhere.test/pre%2Ffix/users"}, want: "points away"},
		{req: &Request{URL: "https://api.test.evil.test/pre%2Ffix/users"}, want: "points away"},
		{
			req:  &Request{URL: "https://u:hunter2@api.test/pre%2Ffix/users"},
			want: "not a path on the API",
		},
		{req: &Request{URL: "mailto:hunter2"}, want: "not a path on the API"},
		{req: &Request{URL: "/a/../../b"}, want: `"." or ".."`},
		{req: &Request{URL: "/a/%2e%2e/b"}, want: `"." or ".."`},
		{req: &Request{URL: "users"}, want: `must begin with "/"`},
		{req: &Request{URL: "?hunter2"}, want: `must begin with "/"`},
		{req: &Request{URL: "/%zz?hunter2"}, want: "does not parse"},
		{
			req:  &Request{URL: "/a?%zz=hunter2", Query: url.Values{"a": {"b"}}},
			want: "query that does not parse",
		},
	} {
		target, err := client.target(tt.req)
		if err != nil {
			require.ErrorContains(t, err, tt.want)
			assert.NotContains(t, err.Error(), "hunter2")
			continue
		}
		assert.Equal(t, "https://api.test:443/pre%2Ffix"+tt.want, target.String())
	}
}

// FuzzTarget checks that every request stays on the API's host and below its prefix, and that an ID
// stays one path segment, whatever the ID or a list's URL contains.
func FuzzTarget(f *testing.F) {
	for _, seed := range []string{
		"1", "..", "../..", "a/b", "%2e%2e", "//evil", "https://evil.test/",
		"/a\\..\\b", "?q", "#f", "\x00", "/%2E%2E/x",
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, s string) {
		client := newClient(t, play(status(200)), func(c *Config) { c.BaseURL = "https://api.test/pre" })
		below := func(target *url.URL, path string) {
			parsed, err := url.Parse(target.String())
			require.NoError(t, err, "what is sent must parse again")
			assert.Equal(t, "https", parsed.Scheme)
			assert.Equal(t, "api.test", parsed.Host)
			assert.Truef(t, strings.HasPrefix(parsed.EscapedPath(), "/pre"+path), "%q", parsed.EscapedPath())
			assert.False(t, hasDotSegment(parsed.EscapedPath()))
		}
		if target, err := client.target(&Request{Operation: ResultsGet, ID: s}); err == nil {
			below(&target, "/results/")
			assert.Equal(t, 3, strings.Count(target.EscapedPath(), "/"), "an id is one segment")
			assert.Equal(t, "/pre/results/"+s, target.Path)
			assert.Empty(t, target.RawQuery)
		}
		if target, err := client.target(&Request{URL: s}); err == nil && s != "" {
			below(&target, "/")
		}
	})
}
