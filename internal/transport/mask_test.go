package transport

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
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
		"quoted thrice":  strings.Trim(quote(strings.Trim(quote(strings.Trim(string(plain), `"`)), `"`)), `"`),
		"in a query":     url.QueryEscape(secret),
		"in a path":      url.PathEscape(secret),
		"the token":      testToken,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			req := &Request{Operation: SessionsCreate, Secrets: []string{"", secret}}
			resp, err := newClient(t, play(httpmock.NewStringResponder(400, "<"+echo+">"))).Do(t.Context(), req)
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
	resp, err := newClient(t, play(httpmock.NewStringResponder(200, testToken))).Do(t.Context(), request(KeysCreate))
	require.NoError(t, err)
	assert.Equal(t, testToken, string(resp.Body), "a new key is the point of the call")
}

func TestNoURLGetsIntoAnError(t *testing.T) {
	t.Parallel()
	inner := errors.New("inner")
	nested := fmt.Errorf("proxy: %w", &url.Error{Op: "Get", URL: "https://p.test/?hunter2", Err: &url.Error{URL: "hunter2", Err: inner}})
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
	resp, err := newClient(t, play(httpmock.NewStringResponder(500, before+testToken))).Do(t.Context(), request(PollsCreate))
	require.NoError(t, err)
	assert.Equal(t, before+redacted[:5], string(resp.Body))
}

func TestMaskedIsTheBodyWithoutSecrets(t *testing.T) {
	t.Parallel()
	resp, err := newClient(t, play(httpmock.NewStringResponder(200, "a "+testToken))).Do(t.Context(), request(PollsList))
	require.NoError(t, err)
	assert.Equal(t, "a "+redacted, string(resp.Masked()))
	assert.Equal(t, "a "+testToken, string(resp.Body))
}

func TestWhatIsTooShortIsNoSecret(t *testing.T) {
	t.Parallel()
	assert.NotEmpty(t, spellings("1234"))
	assert.Empty(t, spellings("123"), "it stands in much that is none")
}
