package transport

import (
	"net/http"
	"strconv"
	"testing"
	"testing/synctest"
	"time"

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
		sent  []string // paths that the server received
		err   string   // "": the redirect is followed
	}{
		{
			name: "on the same host", op: PollsList,
			steps: []httpmock.Responder{to(testBase + "/b"), status(200)},
			sent:  []string{"/polls", "/b"},
			err:   "",
		},
		{
			name: "relative", op: PollsList,
			steps: []httpmock.Responder{to("/b?c=d"), status(200)},
			sent:  []string{"/polls", "/b?c=d"},
			err:   "",
		},
		{
			name: "three in a row", op: PollsList,
			steps: []httpmock.Responder{to("/b"), to("/c"), to("/d"), status(200)},
			sent:  []string{"/polls", "/b", "/c", "/d"},
			err:   "",
		},
		{
			name: "a loop", op: PollsList,
			steps: []httpmock.Responder{to("/polls")},
			sent:  []string{"/polls", "/polls", "/polls", "/polls"},
			err:   "exceeds the 3 redirects",
		},
		{
			name: "to another host", op: PollsList,
			steps: []httpmock.Responder{to("https://evil.test/?hunter2")},
			sent:  []string{"/polls"},
			err:   "status 302 points to https://evil.test",
		},
		{
			name: "to a subdomain", op: PollsList,
			steps: []httpmock.Responder{to("https://a.api.test/")},
			sent:  []string{"/polls"},
			err:   "points to",
		},
		{
			name: "to another port", op: PollsList,
			steps: []httpmock.Responder{to("https://api.test:8443/")},
			sent:  []string{"/polls"},
			err:   "points to",
		},
		{
			name: "down to http", op: PollsList,
			steps: []httpmock.Responder{to("http://api.test/")},
			sent:  []string{"/polls"},
			err:   "points to",
		},
		{
			name: "nowhere", op: PollsList,
			steps: []httpmock.Responder{status(304)},
			sent:  []string{"/polls"},
			err:   "status 304 has no usable Location",
		},
		{
			name: "to what does not parse", op: PollsList,
			steps: []httpmock.Responder{to("https://%zz?hunter2")},
			sent:  []string{"/polls"},
			err:   "no usable Location",
		},
		{
			name: "of a create", op: PollsCreate,
			steps: []httpmock.Responder{to("/b")},
			sent:  []string{"/polls"},
			err:   "came in answer to a POST",
		},
		{
			name: "of a delete", op: SessionsDelete,
			steps: []httpmock.Responder{status(308, "Location", "/b")},
			sent:  []string{"/sessions/1"},
			err:   "status 308 came in answer to a DELETE",
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

// Each request of an attempt that is redirected has a turn and is counted. The attempt's time limit
// and its duration do not count the waits between.
func TestARedirectTakesATurn(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var sent []time.Duration
		began := time.Now()
		client := newClient(t, answerFunc(func(r *http.Request) (*http.Response, error) {
			sent = append(sent, time.Since(began))
			<-time.NewTimer(time.Second).C
			if len(sent) < 3 {
				return status(302, "Location", "?a="+strconv.Itoa(len(sent)))(r)
			}
			return status(200)(r)
		}), func(c *Config) {
			c.RateLimit, c.RatePer, c.AttemptTimeout = 1, time.Minute, 5*time.Second
		})
		resp, err := client.Do(t.Context(), request(PollsList))
		require.NoError(t, err)
		assert.Equal(t, []time.Duration{0, time.Minute, 2 * time.Minute}, sent)
		require.Len(t, resp.Attempts, 1)
		assert.Equal(t, 3*time.Second, resp.Attempts[0].Duration)
		stats := client.Stats()
		assert.Equal(t, []int64{3, 3, 3, 0},
			[]int64{stats.Sent, stats.Succeeded, stats.LastHour, stats.InFlight})
	})
}

type answerFunc func(*http.Request) (*http.Response, error)

func (f answerFunc) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }
