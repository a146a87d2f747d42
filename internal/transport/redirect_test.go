package transport

import (
	"net/http"
	"testing"

	"github.com/jarcoal/httpmock"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestRedirects(t *testing.T) {
	t.Parallel()
	to := func(location string) httpmock.Responder {
		return status(http.StatusFound, "Location", location)
	}
	for _, tt := range []struct {
		name  string
		op    Operation
		steps []httpmock.Responder
		sent  []string // paths the server saw
		err   string   // "": followed
	}{
		{
			"on the same host", PollsList,
			[]httpmock.Responder{to(testBase + "/b"), status(200)},
			[]string{"/polls", "/b"},
			"",
		},
		{
			"relative", PollsList,
			[]httpmock.Responder{to("/b?c=d"), status(200)},
			[]string{"/polls", "/b?c=d"},
			"",
		},
		{
			"three in a row", PollsList,
			[]httpmock.Responder{to("/b"), to("/c"), to("/d"), status(200)},
			[]string{"/polls", "/b", "/c", "/d"},
			"",
		},
		{
			"a loop", PollsList,
			[]httpmock.Responder{to("/polls")},
			[]string{"/polls", "/polls", "/polls", "/polls"},
			"exceeds the 3 redirects",
		},
		{
			"to another host", PollsList,
			[]httpmock.Responder{to("https://evil.test/?hunter2")},
			[]string{"/polls"},
			"status 302 points to https://evil.test",
		},
		{
			"to a subdomain", PollsList,
			[]httpmock.Responder{to("https://a.api.test/")},
			[]string{"/polls"},
			"points to",
		},
		{
			"to another port", PollsList,
			[]httpmock.Responder{to("https://api.test:8443/")},
			[]string{"/polls"},
			"points to",
		},
		{
			"down to http", PollsList,
			[]httpmock.Responder{to("http://api.test/")},
			[]string{"/polls"},
			"points to",
		},
		{
			"nowhere", PollsList,
			[]httpmock.Responder{status(304)},
			[]string{"/polls"},
			"status 304 has no usable Location",
		},
		{
			"to what does not parse", PollsList,
			[]httpmock.Responder{to("https://%zz?hunter2")},
			[]string{"/polls"},
			"no usable Location",
		},
		{
			"of a create", PollsCreate,
			[]httpmock.Responder{to("/b")},
			[]string{"/polls"},
			"came in answer to a POST",
		},
		{
			"of a delete", SessionsDelete,
			[]httpmock.Responder{status(308, "Location", "/b")},
			[]string{"/sessions/1"},
			"status 308 came in answer to a DELETE",
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			mock, req := play(tt.steps...), request(tt.op)
			if hasID(req.Operation) {
				req.ID = "1"
			}
			resp, err := newClient(t, mock).Do(t.Context(), req)
			var sent []string
			for _, r := range mock.seen {
				assert.Equal(t, "Token "+testToken, r.Header.Get("Authorization"))
				assert.Equal(t, "api.test", r.Host)
				sent = append(sent, r.URL.RequestURI())
			}
			assert.Equal(t, tt.sent, sent)
			if tt.err == "" {
				require.NoError(t, err)
				assert.Equal(t, 200, resp.StatusCode)
				assert.Len(t, resp.Attempts, 1)
				return
			}
			require.ErrorIs(t, err, ErrRedirect)
			require.ErrorContains(t, err, tt.err)
			assert.NotContains(t, err.Error(), "hunter2")
			assert.Equal(t, tt.op != PollsList, failure(t, err).MaybeApplied)
		})
	}
}

func TestARedirectsUserinfoIsDropped(t *testing.T) {
	t.Parallel()
	mock := play(status(302, "Location", "https://u:p@api.test/b"), status(200))
	_, err := newClient(t, mock).Do(t.Context(), request(PollsList))
	require.NoError(t, err)
	assert.Nil(t, mock.seen[1].URL.User)
}
