package transport

import (
	"net/http"
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
		want      string // the URL kept, or what the error says
	}{
		{"https://api.test", false, "https://api.test"},
		{"HTTPS://api.test:8443/", false, "https://api.test:8443"},
		{"https://api.test/a/b%2Fc/", false, "https://api.test/a/b%2Fc"},
		{"http://localhost:8080", false, "http://localhost:8080"},
		{"http://127.0.0.1", false, "http://127.0.0.1"},
		{"http://[::1]:80", false, "http://[::1]:80"},
		{"http://api.test", true, "http://api.test"},
		{"http://api.test", false, "unencrypted to api.test"},
		{"http://127.0.0.1.evil.test", false, "unencrypted to"},
		{"", false, "must begin with https://"},
		{"api.test", false, "must begin with https://"},
		{"ftp://api.test", false, "must begin with https://"},
		{"https://", false, "has no host"},
		{"https://:443", false, "has no host"},
		{"https://u:hunter2@api.test", false, "user or password"},
		{"https://api.test?token=hunter2", false, "query or a fragment"},
		{"https://api.test?", false, "query or a fragment"},
		{"https://api.test#hunter2", false, "query or a fragment"},
		{"https://api.test/a/../b", false, `"." or ".."`},
		{"https://hunter2:%zz", false, "does not parse"},
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
		want string // the URL, or what the error says
	}{
		{ids("1"), "/results/1"},
		{ids("a/b?c#d%e f"), "/results/a%2Fb%3Fc%23d%25e%20f"},
		{ids("%2e%2e"), "/results/%252e%252e"},
		{ids("…"), "/results/%E2%80%A6"},
		{ids("..."), "/results/..."},
		{ids("{id}"), "/results/%7Bid%7D"},
		{ids(""), "id is empty"},
		{ids("."), `id "." is not the ID of a resource`},
		{ids(".."), `id ".." is not the ID of a resource`},
		{&Request{Operation: UsersList, ID: "1"}, "takes no id"},
		{&Request{Operation: UsersList, Query: url.Values{"after_id": {"a&b"}}}, "/users?after_id=a%26b"},
		{&Request{URL: "/sources/1/children"}, "/sources/1/children"},
		{&Request{URL: "/sources/a%2Fb/children"}, "/sources/a%2Fb/children"},
		{&Request{URL: "/users?limit=1&x=2", Query: url.Values{"limit": {"5"}}}, "/users?limit=5&x=2"},
		{&Request{URL: "https://API.test/pre%2Ffix/users#top"}, "/users"},
		{&Request{URL: "https://api.test/other"}, "points away"},
		{&Request{URL: "https://api.test:8443/pre%2Ffix/users"}, "points away"},
		{&Request{URL: "http://api.test/pre%2Ffix/users"}, "points away"},
		{&Request{URL: "//elsewhere.test/pre%2Ffix/users"}, "points away"},
		{&Request{URL: "https://api.test.evil.test/pre%2Ffix/users"}, "points away"},
		{&Request{URL: "https://u:hunter2@api.test/pre%2Ffix/users"}, "not a path on the API"},
		{&Request{URL: "mailto:hunter2"}, "not a path on the API"},
		{&Request{URL: "/a/../../b"}, `"." or ".."`},
		{&Request{URL: "/a/%2e%2e/b"}, `"." or ".."`},
		{&Request{URL: "users"}, `must begin with "/"`},
		{&Request{URL: "?hunter2"}, `must begin with "/"`},
		{&Request{URL: "/%zz?hunter2"}, "does not parse"},
		{&Request{URL: "/a?%zz=hunter2", Query: url.Values{"a": {"b"}}}, "query that does not parse"},
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

func TestHeaderIsChecked(t *testing.T) {
	t.Parallel()
	for name, ok := range map[string]bool{
		"X-A": true, "": false, "a b": false, "a:b": false,
		"ä": false, "a\x7f": false,
	} {
		assert.Equal(t, ok, checkHeader(http.Header{name: {"v"}}) == nil, "name %q", name)
	}
	for value, ok := range map[string]bool{
		"": true, "a\tb ä": true, "a\nb": false, "a\x00b": false,
		"a\x7fb": false,
	} {
		assert.Equal(t, ok, checkHeader(http.Header{"X": {value}}) == nil, "value %q", value)
	}
}

// FuzzTarget: whatever an id or a list's url holds, the request stays on the
// API's host and below its prefix, and an id stays one segment.
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
