package ricloudtest

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"time"

	ricloud "github.com/reincubate/ricloud-go"
)

// Client returns a client that talks to the server in memory with its token. The client suits the
// server's short delays: a wait reads after 10 milliseconds at first and every second later, and a
// retry comes after a few milliseconds. If the server's generation has no signed URLs, the client
// reads s3:// and gs:// objects with [Server.OpenObject].
//
// The options are applied last, so they can change all of this. If [ricloud.NewClient] refuses the
// options, every call of the client fails with NewClient's error.
//
// For a client with another token, after Keys.Rotate for instance, call
// ricloud.NewClient(token, ricloud.WithTransport(server)).
func (s *Server) Client(opts ...ricloud.Option) *ricloud.Client {
	own := []ricloud.Option{
		ricloud.WithBaseURL("https://" + memoryAPI), ricloud.WithTransport(s),
		ricloud.WithPolling(10*time.Millisecond, time.Second),
		ricloud.WithRetryWait(time.Millisecond, 5*time.Millisecond),
	}
	s.mu.Lock()
	generation := s.generation
	s.mu.Unlock()
	if generation != GenerationCurrent {
		own = append(own, ricloud.WithStorage("s3", s), ricloud.WithStorage("gs", s))
	}
	client, err := ricloud.NewClient(s.Token(), append(own, opts...)...)
	if err == nil {
		return client
	}
	refused := roundTripper(func(*http.Request) (*http.Response, error) { return nil, err })
	client, _ = ricloud.NewClient("refused", // these options are good
		ricloud.WithTransport(refused), ricloud.WithRetries(0))
	return client
}

// OpenObject opens an object in the server's own storage as a bucket's owner does, with
// credentials. It makes the server a [ricloud.ObjectOpener], for ricloud.WithStorage("s3", server).
// Faults of StorageGet apply to it.
func (s *Server) OpenObject(
	ctx context.Context, req ricloud.ObjectRequest,
) (*ricloud.Object, error) {
	s.mu.Lock()
	expires := s.clock.Now().Add(time.Minute)
	url := s.sign("https://"+memoryStorage, req.Bucket+"/"+req.Key, expires)
	s.mu.Unlock()
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
		refused := &ricloud.StorageError{Host: memoryStorage, StatusCode: resp.StatusCode}
		return nil, errors.Join(refused, resp.Body.Close())
	}
	object := &ricloud.Object{
		Body: resp.Body, Size: resp.ContentLength, Version: resp.Header.Get("ETag"),
	}
	if resp.StatusCode == http.StatusPartialContent {
		object.Offset, object.Size = req.Offset, req.Offset+resp.ContentLength
	}
	return object, nil
}

type roundTripper func(*http.Request) (*http.Response, error)

// RoundTrip calls the function.
func (f roundTripper) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }
