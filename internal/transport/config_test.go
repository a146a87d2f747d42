package transport

import (
	"net/http"
	"net/url"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
)

func TestTheOwnTransportIsBoundedAndReadsNoEnvironment(t *testing.T) {
	t.Parallel()
	own := newTransport(nil)
	assert.Nil(t, own.Proxy)
	assert.Equal(t, 10*time.Second, own.TLSHandshakeTimeout)
	assert.Equal(t, 50*time.Second, own.IdleConnTimeout, "less than a load balancer's 60")
	assert.EqualValues(t, 256<<10, own.MaxResponseHeaderBytes)
	assert.Equal(t, 32, own.MaxIdleConnsPerHost)
	assert.True(t, own.ForceAttemptHTTP2)
}

func TestTheOwnTransportUsesTheProxyItIsGiven(t *testing.T) {
	t.Parallel()
	asked := 0
	client := newClient(t, nil, func(c *Config) {
		c.BaseURL, c.MaxRetries = "http://127.0.0.1:1", -1
		c.Proxy = func(*http.Request) (*url.URL, error) {
			asked++
			return url.Parse("http://127.0.0.1:1")
		}
	})
	defer client.Close()
	_, err := client.Do(t.Context(), request(PollsCreate))
	assert.Equal(t, 1, asked)
	assert.False(t, failure(t, err).MaybeApplied, "a proxy that cannot be reached")
}
