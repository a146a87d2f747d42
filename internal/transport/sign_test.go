package transport

import (
	"net/http"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hashicorp/go-retryablehttp"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestHTTPClientSeesNoCredentials(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		mock := play(status(500), status(502), status(200))
		client := newClient(t, mock)
		seen := 0
		client.loop.RequestLogHook = func(_ retryablehttp.Logger, req *http.Request, _ int) {
			seen++
			assert.Empty(t, req.Header)
		}
		_, err := client.Do(t.Context(), request(PollsList))
		require.NoError(t, err)
		assert.Equal(t, 3, seen)
		for _, req := range mock.seen {
			assert.Equal(t, http.Header{
				"Accept": {"application/json"}, "Authorization": {"Token " + testToken},
				"User-Agent": {"ricloud-go/test"},
			}, req.Header)
		}
	})
}

// What one request has in its header is in no other's.
func TestHeadersAreNotShared(t *testing.T) {
	t.Parallel()
	mock := play(status(200))
	client := newClient(t, mock)
	for _, req := range []*Request{createAwaiting(time.Second), request(PollsList)} {
		_, err := client.Do(t.Context(), req)
		require.NoError(t, err)
	}
	assert.Contains(t, mock.seen[0].Header, "Ricloud-Await")
	assert.NotContains(t, mock.seen[1].Header, "Ricloud-Await")
	assert.NotContains(t, mock.seen[1].Header, "Content-Type")
}
