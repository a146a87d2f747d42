package ricloudtest

import (
	"net/http"
	"time"

	"github.com/reincubate/ricloud-go"
)

// Client returns a client that talks to the server in memory with its token.
// Its waits ask every 10 milliseconds at first and every second later, which
// suits the server's short delays. The options come after the server's own, so
// they can change all of it. A client with options that [ricloud.NewClient] refuses fails every call, with
// NewClient's error.
func (s *Server) Client(opts ...ricloud.Option) *ricloud.Client {
	own := []ricloud.Option{ricloud.WithBaseURL("https://" + memoryAPI), ricloud.WithTransport(s), ricloud.WithPolling(10*time.Millisecond, time.Second)}
	client, err := ricloud.NewClient(s.Token(), append(own, opts...)...)
	if err == nil {
		return client
	}
	refused := roundTripper(func(*http.Request) (*http.Response, error) { return nil, err })
	client, _ = ricloud.NewClient("refused", ricloud.WithTransport(refused), ricloud.WithRetries(0)) // both are good options
	return client
}

type roundTripper func(*http.Request) (*http.Response, error)

// RoundTrip calls the function.
func (f roundTripper) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }
