package download

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"net/url"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestHideURL(t *testing.T) {
	t.Parallel()
	target, err := url.Parse("https://u:canary-pass@storage.example/k?X-Sig=canary%2Fsig&n=1")
	require.NoError(t, err)
	require.NoError(t, HideURL(nil, target))

	cause := fmt.Errorf("%w: proxy refused GET %s", io.ErrClosedPipe, target)
	hidden := HideURL(&url.Error{Op: "Get", URL: target.String(), Err: cause}, target)
	require.ErrorIs(t, hidden, io.ErrClosedPipe, "what it means stays")
	for _, verb := range []string{"%v", "%+v", "%#v", "%q"} {
		assert.NotContains(t, fmt.Sprintf(verb, hidden), "canary", verb)
	}
	decoded := HideURL(errors.New("bad signature canary/sig"), target)
	assert.Equal(t, "bad signature [redacted]", decoded.Error())

	for _, row := range []struct{ target, said, want string }{
		{target: "https://s.example/k?sig=abc", said: "no /k?sig=abc", want: "no /k?[redacted]"},
		{target: "https://s.example/k?n=1&sig=6bytes", said: "no 6bytes", want: "no [redacted]"},
		{target: "https://s.example/k?n=1&sig=5byte", said: "no 5byte", want: "no 5byte"},
		{target: "https://token1@s.example/k", said: "no token1", want: "no [redacted]"},
	} {
		target, err := url.Parse(row.target)
		require.NoError(t, err)
		assert.Equal(t, row.want, HideURL(errors.New(row.said), target).Error(), row.target)
	}

	plain := errors.New("connection reset")
	assert.Equal(t, plain, HideURL(plain, target), "there is nothing to hide")
	require.ErrorContains(t, HideURL(&url.Error{Op: "Get"}, target), "without an error")
}

// What a client of storage wraps stays, except for the URLs.
func TestHideURLErrors(t *testing.T) {
	t.Parallel()
	cause := &net.OpError{Op: "dial", Err: io.ErrClosedPipe}
	failed := &url.Error{Op: "Get", URL: "https://b.example/k?sig=canary-sig", Err: cause}
	outer := &url.Error{Op: "Get", URL: "https://a.example/?to=canary", Err: failed}
	hidden := HideURLErrors(fmt.Errorf("gcs: bucket b: %w", outer))
	require.EqualError(t, hidden, "gcs: bucket b: dial: "+io.ErrClosedPipe.Error())
	require.ErrorIs(t, hidden, io.ErrClosedPipe)
	found, ok := errors.AsType[*net.OpError](hidden)
	require.True(t, ok)
	assert.Equal(t, cause, found)
	_, ok = errors.AsType[*url.Error](hidden)
	assert.False(t, ok)

	cause.Err = errors.New("no canary-sig")
	repeated := HideURLErrors(failed)
	require.EqualError(t, repeated, "dial: no [redacted]")
	require.EqualError(t, errors.Unwrap(repeated), "dial: no [redacted]")
	require.ErrorIs(t, repeated, cause.Err)
	plain := fmt.Errorf("plain: %w", io.ErrClosedPipe)
	assert.Equal(t, plain, HideURLErrors(plain))
}

func TestHideBody(t *testing.T) {
	t.Parallel()
	target, err := url.Parse("https://storage.example/k?X-Sig=canary-sig")
	require.NoError(t, err)
	body := HideBody(io.NopCloser(io.MultiReader(strings.NewReader("bytes"),
		iotest.ErrReader(errors.New("broke at canary-sig")))), target)
	var got bytes.Buffer
	_, err = got.ReadFrom(body)
	assert.Equal(t, "bytes", got.String())
	require.EqualError(t, err, "broke at [redacted]")
	_, err = got.ReadFrom(HideBody(io.NopCloser(strings.NewReader("")), target))
	require.NoError(t, err, "io.EOF stays bare")
	require.NoError(t, body.Close())
}
