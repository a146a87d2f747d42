package transport

import (
	"net/http"
	"testing"
	"testing/synctest"

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
