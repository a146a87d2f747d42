package transport

import (
	"context"
	"net/http"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

type spanKey struct{}

// An observer sees the beginning and the end of each attempt, and can set its context and add
// headers. It cannot replace the token.
func TestAnObserverSeesEachAttempt(t *testing.T) {
	t.Parallel()
	mock := play(status(503), status(200))
	var began []int
	var ended []Attempt
	client := newClient(t, mock, func(c *Config) {
		c.RetryWaitMin, c.RetryWaitMax = time.Nanosecond, time.Nanosecond
		c.Observe = func(ctx context.Context, s Sending) (context.Context, func(Attempt)) {
			assert.Equal(t, "Polls.List", s.Request.Operation.Name)
			assert.Equal(t, "api.test", s.Host)
			began = append(began, s.Number)
			s.Header.Set("Traceparent", "00-1-2-01")
			s.Header.Set("Authorization", "Token another")
			s.Header.Set("Bad\nName", "x")
			return context.WithValue(ctx, spanKey{}, s.Number), func(a Attempt) { ended = append(ended, a) }
		}
	})
	_, err := client.Do(t.Context(), request(PollsList))
	require.NoError(t, err)
	assert.Equal(t, []int{1, 2}, began)
	require.Len(t, ended, 2)
	assert.Equal(t, 503, ended[0].StatusCode)
	assert.Equal(t, 200, ended[1].StatusCode)
	for i, req := range mock.seen {
		assert.Equal(t, i+1, req.Context().Value(spanKey{}))
		assert.Equal(t, []string{"00-1-2-01"}, req.Header["Traceparent"])
		assert.Equal(t, []string{"Token " + testToken}, req.Header["Authorization"])
		assert.Len(t, req.Header, len(mock.seen[0].Header))
		assert.NotContains(t, req.Header, http.CanonicalHeaderKey("Bad\nName"))
	}
}

// A returned context that is not derived from the attempt's context is ignored, because it would
// not end with the call.
func TestAnObserverCannotFreeAnAttemptOfItsCall(t *testing.T) {
	t.Parallel()
	mock := play(status(200))
	client := newClient(t, mock, func(c *Config) {
		c.Observe = func(context.Context, Sending) (context.Context, func(Attempt)) {
			return context.WithValue(context.Background(), spanKey{}, 1), nil
		}
	})
	_, err := client.Do(t.Context(), request(PollsList))
	require.NoError(t, err)
	assert.Nil(t, mock.seen[0].Context().Value(spanKey{}))
}

// A field that net/http would refuse is left out.
func TestIsField(t *testing.T) {
	t.Parallel()
	for name, ok := range map[string]bool{
		"X-A": true, "": false, "a b": false, "a:b": false,
		"ä": false, "a\x7f": false,
	} {
		assert.Equal(t, ok, isField(name, []string{"v"}), "name %q", name)
	}
	for value, ok := range map[string]bool{
		"": true, "a\tb ä": true, "a\nb": false, "a\x00b": false,
		"a\x7fb": false,
	} {
		assert.Equal(t, ok, isField("X", []string{value}), "value %q", value)
	}
}
