package transport

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"html"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"testing"

	"github.com/jarcoal/httpmock"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestAnErrorThatRepeatsASecretIsMasked(t *testing.T) {
	t.Parallel()
	const secret = `pä"s\s/<w>&🔑 x`
	plain, err := json.Marshal(secret)
	require.NoError(t, err)
	python := `p\u00e4\"s\\s/<w>&\ud83d\udd11 x`
	for name, echo := range map[string]string{
		"bare":           secret,
		"as Go writes":   strings.Trim(string(plain), `"`),
		"without HTML":   `pä\"s\\s/<w>&🔑 x`,
		"as Python does": python,
		"as PHP does":    `pä\"s\\s\/<w>&🔑 x`,
		"quoted twice":   strings.Trim(quote(strings.Trim(python, `"`)), `"`),
		"quoted thrice": strings.Trim(quote(strings.Trim(quote(strings.Trim(string(plain), `"`)), `"`)),
			`"`),
		"in a query": url.QueryEscape(secret),
		"in a path":  url.PathEscape(secret),
		"the token":  testToken,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			req := &Request{Operation: SessionsCreate, Secrets: []string{"", secret}}
			resp, err := newClient(t, play(httpmock.NewStringResponder(400, "<"+echo+">"))).Do(t.Context(),
				req)
			require.NoError(t, err)
			assert.Equal(t, "<[redacted]>", string(resp.Body))

			_, err = newClient(t, play(fails(fmt.Errorf("malformed answer %s", echo)))).Do(t.Context(), req)
			require.EqualError(t, err, "malformed answer [redacted]")
			f := failure(t, err)
			assert.NotContains(t, fmt.Sprintf("%v %+v %#v", f.Attempts, f.Attempts, f.Attempts[0].Err), echo)
		})
	}
}

func quote(s string) string {
	quoted, _ := json.Marshal(s) //nolint:errchkjson // a string
	return string(quoted)
}

func TestMaskingLeavesTheCallersListAlone(t *testing.T) {
	t.Parallel()
	backing := []string{"one", "two"}
	req := &Request{Operation: PollsList, Secrets: backing[:1]}
	_, err := newClient(t, play(status(400))).Do(t.Context(), req)
	require.NoError(t, err)
	assert.Equal(t, []string{"one", "two"}, backing)
}

func TestASuccessIsNotMasked(t *testing.T) {
	t.Parallel()
	resp, err := newClient(t, play(httpmock.NewStringResponder(200, testToken))).Do(t.Context(),
		request(KeysCreate))
	require.NoError(t, err)
	assert.Equal(t, testToken, string(resp.Body), "a new key is the point of the call")
}

func TestNoURLGetsIntoAnError(t *testing.T) {
	t.Parallel()
	inner := errors.New("inner")
	nested := fmt.Errorf("proxy: %w", &url.Error{
		Op: "Get", URL: "https://p.test/?hunter2",
		Err: &url.Error{URL: "hunter2", Err: inner},
	})
	req := request(PollsCreate)
	req.Query = url.Values{"q": {"hunter2"}}
	_, err := newClient(t, play(fails(nested))).Do(t.Context(), req)
	require.ErrorIs(t, err, inner)
	assert.NotContains(t, fmt.Sprintf("%v %+v %#v", err, err, failure(t, err).Cause), "hunter2")
}

func TestWithoutCredentialsThereIsNothingToMask(t *testing.T) {
	t.Parallel()
	client := newClient(t, play(status(400)), func(c *Config) { c.Authorize = func(http.Header) {} })
	resp, err := client.Do(t.Context(), request(PollsList))
	require.NoError(t, err)
	assert.JSONEq(t, `{"message":"said so"}`, string(resp.Body))
}

func TestASecretWhereTheErrorBodyIsCut(t *testing.T) {
	t.Parallel()
	before := strings.Repeat("x", maxErrorBody-5)
	resp, err := newClient(t, play(httpmock.NewStringResponder(500, before+testToken))).Do(t.Context(),
		request(PollsCreate))
	require.NoError(t, err)
	assert.Equal(t, before+redacted[:5], string(resp.Body))
}

func TestMaskedIsTheBodyWithoutSecrets(t *testing.T) {
	t.Parallel()
	resp, err := newClient(t, play(httpmock.NewStringResponder(200, "a "+testToken))).Do(t.Context(),
		request(PollsList))
	require.NoError(t, err)
	assert.Equal(t, "a "+redacted, string(resp.Masked()))
	assert.Equal(t, "a "+testToken, string(resp.Body))
}

func TestWhatIsTooShortIsNoSecret(t *testing.T) {
	t.Parallel()
	assert.NotEmpty(t, spellings("1234"))
	assert.Empty(t, spellings("123"), "it occurs too often in ordinary text")
}

// TestASecretIsMaskedInEverySpelling echoes a password in the ways of web frameworks and languages.
func TestASecretIsMaskedInEverySpelling(t *testing.T) {
	t.Parallel()
	const secret = `p&ss<w>'"q é/+ \n`
	each := func(write func(r rune) string) string {
		var b strings.Builder
		for _, r := range secret {
			b.WriteString(write(r))
		}
		return b.String()
	}
	special := func(write func(r rune) string) string {
		return each(func(r rune) string {
			if r == 'p' || r == 's' || r == 'w' || r == 'q' || r == 'n' {
				return string(r)
			}
			return write(r)
		})
	}
	format := func(f string) func(rune) string {
		return func(r rune) string { return fmt.Sprintf(f, r) }
	}
	spelled := map[string]string{
		"Go's html": html.EscapeString(secret),
		"Python's html": strings.NewReplacer("&", "&amp;", "<", "&lt;", ">", "&gt;", `"`, "&quot;",
			"'", "&#x27;").Replace(secret),
		"Django, Jinja": strings.NewReplacer("&", "&amp;", "<", "&lt;", ">", "&gt;", `"`, "&#34;",
			"'", "&#39;").Replace(secret),
		"XML": strings.NewReplacer("&", "&amp;", "<", "&lt;", ">", "&gt;", `"`, "&quot;",
			"'", "&apos;", "é", "&eacute;").Replace(secret),
		"decimal":              each(format("&#%d;")),
		"decimal, padded":      special(format("&#%05d;")),
		"hexadecimal":          each(format("&#x%x;")),
		"hexadecimal, capital": special(format("&#X%04X;")),
		"JSON, all escaped":    each(format(`\u%04x`)),
		"JSON, capital":        special(format(`\u%04X`)),
		"JavaScript":           special(format(`\x%02x`)),
		"ES6":                  special(format(`\u{%x}`)),
		"Python's wide":        special(format(`\U%08x`)),
		"octal":                special(format(`\%03o`)),
		"a query":              url.QueryEscape(secret),
		"a query, lower":       strings.ToLower(url.QueryEscape(secret)),
		"a path":               url.PathEscape(secret),
		"a path, lower":        strings.ToLower(url.PathEscape(secret)),
		"all of it in a URL":   each(func(r rune) string { return percentAll(string(r)) }),
		"a URL in Latin-1":     special(format("%%%02X")),
		"JavaScript's escape":  special(format("%%u%04X")),
		"JSON in HTML":         html.EscapeString(quote(secret)),
		"HTML in JSON":         quote(html.EscapeString(secret)),
		"HTML twice":           html.EscapeString(html.EscapeString(secret)),
		"a URL in JSON":        quote(url.QueryEscape(secret)),
		"a URL twice":          url.QueryEscape(url.QueryEscape(secret)),
		"JSON in a URL":        url.QueryEscape(quote(secret)),
		"HTML in JSON in HTML": html.EscapeString(quote(html.EscapeString(secret))),
		"base64":               base64.StdEncoding.EncodeToString([]byte(secret)),
		"base64 for URLs":      base64.RawURLEncoding.EncodeToString([]byte(secret)),
		"basic authentication": base64.StdEncoding.EncodeToString([]byte("jane@example.com:" + secret)),
		"in a longer base64":   base64.StdEncoding.EncodeToString([]byte("ab" + secret + "cd")),
		"hex":                  fmt.Sprintf("%x", secret),
		"hex, capital":         fmt.Sprintf("%X", secret),
		"Go's quotes":          strconv.QuoteToASCII(secret),
	}
	for name, spelling := range spelled {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			page := "<p>bad password " + spelling + " & 100% \\ sure &amp; so on</p>"
			req := &Request{Operation: SessionsCreate, Body: []byte("{}"), Secrets: []string{secret}}
			resp, err := newClient(t, play(httpmock.NewStringResponder(400, page))).Do(t.Context(), req)
			require.NoError(t, err)
			got := string(resp.Body)
			assert.Contains(t, got, redacted, spelling)
			assert.NotContains(t, got, spelling)
			assert.Contains(t, got, " & 100% \\ sure &amp; so on</p>", "the rest stays as it is")
			assert.Less(t, len(got), len("<p>bad password  & 100% \\ sure &amp; so on</p>")+len(redacted)+30,
				got)
		})
	}
}

// A code is masked however the page groups its digits, and other numbers are not.
func TestACodeIsMaskedInGroups(t *testing.T) {
	t.Parallel()
	for _, spelling := range []string{
		"482913", "482-913", "482 913", "48 29 13", "4 8 2 9 1 3", "482\u00a0913", "482\u2011913",
		"482&nbsp;913", `482\u002d913`, "482%20913", "482+913", "482.913", "482&#45;913",
	} {
		t.Run(spelling, func(t *testing.T) {
			t.Parallel()
			page := "the code " + spelling + " is wrong; call 555-482-914 or 1 482 91"
			req := &Request{Operation: SessionsCreate, Secrets: []string{"482913"}}
			resp, err := newClient(t, play(httpmock.NewStringResponder(400, page))).Do(t.Context(), req)
			require.NoError(t, err)
			assert.Equal(t, "the code [redacted] is wrong; call 555-482-914 or 1 482 91",
				string(resp.Body))
		})
	}
}

func percentAll(s string) string {
	var b strings.Builder
	for _, c := range []byte(s) {
		fmt.Fprintf(&b, "%%%02x", c)
	}
	return b.String()
}

// escapedPage returns a page that is full of escapes.
func escapedPage(repeats int) string {
	return strings.Repeat(`<a href="/x?a=%20b&amp;c=\"\\u0041\"">+</a>`, repeats)
}

func TestMaskingALargePageEnds(t *testing.T) {
	t.Parallel()
	page := escapedPage(2000)
	req := &Request{Operation: SessionsCreate, Secrets: []string{"a secret", "another one"}}
	_, err := newClient(t, play(httpmock.NewStringResponder(400, page))).Do(t.Context(), req)
	require.NoError(t, err)
}

func TestNoTransportsErrorShowsAQuery(t *testing.T) {
	t.Parallel()
	const signed = "https://bucket.s3.test/a/b?X-Amz-Signature=hunter2&X-Amz-Expires=60"
	inner := errors.New("connection refused")
	req := &Request{
		Operation: PollsCreate, Body: []byte("{}"),
		Query: url.Values{"user": {"hunter2@example.com"}},
	}
	for name, err := range map[string]error{
		"net/http":         &url.Error{Op: "Get", URL: signed, Err: inner},
		"without a reason": &url.Error{Op: "Get", URL: signed},
		"wrapped": fmt.Errorf("traced: %w",
			&url.Error{Op: "Get", URL: signed, Err: inner}),
		"nested": &url.Error{
			URL: signed,
			Err: fmt.Errorf("x: %w", &url.Error{URL: signed, Err: inner}),
		},
		"joined": errors.Join(&url.Error{URL: signed, Err: inner},
			&url.Error{URL: signed, Err: inner}),
		"go-retryablehttp": fmt.Errorf(
			"GET %s giving up after 5 attempt(s): %w", signed, inner,
		),
		"only text":      errors.New("Get \"" + signed + "\": EOF"),
		"in brackets":    fmt.Errorf("request <%s> failed", signed),
		"a relative URL": errors.New("/a/b?X-Amz-Signature=hunter2: EOF"),
		"with a user": errors.New("proxyconnect http://jane:hunter2@proxy.test:3128/: " +
			"refused"),
		"a fragment":                 errors.New("https://h.test/#access_token=hunter2 refused"),
		"an error that joins itself": errors.Join(inner, fmt.Errorf("%q", signed)),
	} {
		_, got := newClient(t, play(fails(err)), func(c *Config) { c.MaxRetries = -1 }).Do(t.Context(),
			req)
		for at := failure(t, got).Cause; at != nil; at = errors.Unwrap(at) {
			assert.NotContains(t, fmt.Sprintf("%v %+v %#v", at, at, at), "hunter2", name)
		}
		assert.NotContains(t, fmt.Sprintf("%v", failure(t, got).Attempts[0].Err), "hunter2", name)
	}
}
