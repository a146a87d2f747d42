package ricloudtest

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/reincubate/ricloud-go"
)

// Client returns a client that talks to the server in memory with its token.
// Its waits ask every 10 milliseconds at first and every second later, which
// suits the server's short delays. Where the server's generation has no signed
// URLs, the client reads s3:// and gs:// objects from the server, see
// OpenObject. The options come after the server's own, so they can change all
// of it. A client with options that [ricloud.NewClient] refuses fails every
// call, with NewClient's error.
//
// A client with another token, after Keys.Rotate for instance, is
// ricloud.NewClient(token, ricloud.WithTransport(server)).
func (s *Server) Client(opts ...ricloud.Option) *ricloud.Client {
	own := []ricloud.Option{ricloud.WithBaseURL("https://" + memoryAPI), ricloud.WithTransport(s), ricloud.WithPolling(10*time.Millisecond, time.Second)}
	if s.generation != GenerationCurrent {
		own = append(own, ricloud.WithStorage("s3", s), ricloud.WithStorage("gs", s))
	}
	client, err := ricloud.NewClient(s.Token(), append(own, opts...)...)
	if err == nil {
		return client
	}
	refused := roundTripper(func(*http.Request) (*http.Response, error) { return nil, err })
	client, _ = ricloud.NewClient("refused", ricloud.WithTransport(refused), ricloud.WithRetries(0)) // both are good options
	return client
}

// OpenObject opens an object in the server's own storage as a bucket's owner
// does, with credentials: it makes the server a [ricloud.ObjectOpener], for
// ricloud.WithStorage("s3", server). Faults of StorageGet strike it, too.
func (s *Server) OpenObject(ctx context.Context, req ricloud.ObjectRequest) (*ricloud.Object, error) {
	s.mu.Lock()
	expires := s.clock.now().Add(time.Minute)
	s.mu.Unlock()
	url := s.sign("https://"+memoryStorage, &stored{path: req.Bucket + "/" + req.Key}, expires)
	get, err := http.NewRequestWithContext(ctx, http.MethodGet, url, http.NoBody)
	if err != nil {
		return nil, err
	}
	if req.Offset > 0 {
		get.Header.Set("Range", fmt.Sprintf("bytes=%d-", req.Offset))
	}
	if req.Version != "" {
		get.Header.Set("If-Match", req.Version)
	}
	resp, err := s.RoundTrip(get)
	if err != nil {
		return nil, err
	}
	if resp.StatusCode >= http.StatusBadRequest {
		return nil, errors.Join(&ricloud.StorageError{Host: memoryStorage, StatusCode: resp.StatusCode}, resp.Body.Close())
	}
	object := &ricloud.Object{Body: resp.Body, Size: resp.ContentLength, Version: resp.Header.Get("ETag")}
	if resp.StatusCode == http.StatusPartialContent {
		object.Offset, object.Size = req.Offset, req.Offset+resp.ContentLength
	}
	return object, nil
}

type roundTripper func(*http.Request) (*http.Response, error)

// RoundTrip calls the function.
func (f roundTripper) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }
