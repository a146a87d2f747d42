package transport

import (
	"bytes"
	"errors"
	"io"
	"net/http"
	"strings"
	"testing"
	"testing/iotest"
	"testing/synctest"
	"time"

	"github.com/jarcoal/httpmock"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// body records how much of it is read, and whether it is closed.
type body struct {
	io.Reader
	read   int
	closed bool
}

func (b *body) Read(p []byte) (int, error) {
	n, err := b.Reader.Read(p)
	b.read += n
	return n, err
}

func (b *body) Close() error { b.closed = true; return nil }

func TestReadBody(t *testing.T) {
	t.Parallel()
	const limit = 2 << 20
	text := func(n int) string { return strings.Repeat("x", n) }
	broken := errors.New("broken")
	for _, tt := range []struct {
		name     string
		status   int
		body     io.Reader
		length   int64
		want     int // bytes returned
		read     int // bytes read, at most; 0: want
		err      error
		errReads string
	}{
		{name: "sized", status: 200, body: strings.NewReader(text(1000)), length: 1000, want: 1000},
		{name: "empty", status: 204, body: strings.NewReader(""), length: 0},
		{
			name: "sized, a byte at a time", status: 200,
			body: iotest.OneByteReader(strings.NewReader(text(1000))), length: 1000, want: 1000,
		},
		{name: "chunked", status: 200, body: strings.NewReader(text(1000)), length: -1, want: 1000},
		{
			name: "sized above what is trusted", status: 200, body: strings.NewReader(text(maxTrust + 1)),
			length: maxTrust + 1, want: maxTrust + 1,
		},
		{
			name: "sized as large as allowed", status: 200, body: strings.NewReader(text(limit)),
			length: limit, want: limit,
		},
		{
			name: "chunked as large as allowed", status: 200, body: strings.NewReader(text(limit)),
			length: -1, want: limit,
		},
		{
			name: "sized too large", status: 200, body: strings.NewReader(text(limit + 1)),
			length: limit + 1, err: ErrBodyTooLarge, errReads: "2097153 bytes, at most 2097152",
		},
		{
			name: "chunked too large", status: 200, body: strings.NewReader(text(limit + 9)), length: -1,
			err: ErrBodyTooLarge, read: limit + 1, errReads: "more than 2097152",
		},
		{
			name: "sized, nothing came", status: 200, body: strings.NewReader(""), length: 10,
			err: io.ErrUnexpectedEOF, errReads: "after 0 bytes",
		},
		{
			name: "sized, cut short", status: 200, body: strings.NewReader("{"), length: 10,
			err: io.ErrUnexpectedEOF, read: 1, errReads: "after 1 bytes",
		},
		{
			name: "sized above what is trusted, cut short", status: 200, body: strings.NewReader("{"),
			length: maxTrust + 10, err: io.ErrUnexpectedEOF, read: 1, errReads: "after 1 bytes",
		},
		{name: "chunked, broken", status: 200, body: io.MultiReader(strings.NewReader("{"),
			iotest.ErrReader(broken)), length: -1, err: broken, read: 1, errReads: "after 1 bytes"},
		{
			name: "an error, whole", status: 400, body: strings.NewReader(text(maxErrorBody)),
			length: maxErrorBody, want: maxErrorBody,
		},
		{
			name: "an error, cut but drained", status: 500,
			body: strings.NewReader(text(maxErrorBody + maxSecret + maxDrain)), length: -1,
			want: maxErrorBody + maxSecret, read: maxErrorBody + maxSecret + maxDrain,
		},
		{
			name: "an endless error", status: 500, body: endless{}, length: -1,
			want: maxErrorBody + maxSecret, read: maxErrorBody + maxSecret + maxDrain,
		},
		{
			name: "an error with a lying length", status: 500, body: strings.NewReader(text(10)),
			length: 1 << 40, want: 10,
		},
		{name: "a 400 that broke off", status: 400, body: io.MultiReader(strings.NewReader("<html"),
			iotest.ErrReader(broken)), length: 100, want: 5},
		{name: "an error that broke off", status: 502, body: io.MultiReader(strings.NewReader("<html"),
			iotest.ErrReader(broken)), length: 100, want: 5},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			b := &body{Reader: tt.body}
			got, err := readBody(&http.Response{StatusCode: tt.status, Body: b, ContentLength: tt.length},
				limit)
			assert.Equal(t, max(tt.want, tt.read), b.read)
			if tt.err != nil {
				require.ErrorIs(t, err, tt.err)
				assert.ErrorContains(t, err, tt.errReads)
				return
			}
			require.NoError(t, err)
			assert.Equal(t, tt.want, bytes.Count(got, []byte("x"))+bytes.Count(got, []byte("<html"))*5)
		})
	}
}

func TestEveryBodyIsClosed(t *testing.T) {
	t.Parallel()
	for _, status := range []int{200, 204, 302, 400, 503} {
		for _, text := range []string{"", "{}", strings.Repeat("x", 200)} {
			b := &body{Reader: strings.NewReader(text)}
			client := newClient(t, play(func(req *http.Request) (*http.Response, error) {
				header := http.Header{"Location": {"https://elsewhere.test/"}}
				return &http.Response{
					StatusCode: status, Header: header, Body: b, ContentLength: -1,
					Request: req,
				}, nil
			}), func(c *Config) { c.MaxRetries, c.MaxBody = -1, 100 })
			_, _ = client.Do(t.Context(), request(PollsList)) // other tests check the result
			assert.True(t, b.closed, "%d, %d bytes", status, len(text))
		}
	}
}

// A RoundTripper may return nil where net/http never does. Both cases are handled.
func TestAnswersWithoutABody(t *testing.T) {
	t.Parallel()
	answer := func(resp *http.Response) httpmock.Responder {
		return func(*http.Request) (*http.Response, error) { return resp, nil }
	}
	once := func(c *Config) { c.MaxRetries = -1 }
	resp, err := newClient(t, play(answer(&http.Response{StatusCode: http.StatusNoContent})), once).Do(
		t.Context(), request(PollsList),
	)
	require.NoError(t, err)
	assert.Empty(t, resp.Body)

	_, err = newClient(t, play(answer(nil)), once).Do(t.Context(), request(PollsList))
	require.ErrorContains(t, err, "neither an answer nor an error")

	head := &Request{Operation: Operation{Name: "Call HEAD", Method: http.MethodHead, Path: "/polls"}}
	resp, err = newClient(t, play(answer(&http.Response{
		StatusCode:    http.StatusOK,
		ContentLength: 1 << 40, Body: http.NoBody,
	})), once).Do(t.Context(), head)
	require.NoError(t, err)
	assert.Empty(t, resp.Body)
}

type endless struct{}

func (endless) Read(p []byte) (int, error) {
	for i := range p {
		p[i] = 'x'
	}
	return len(p), nil
}

func TestAnAnswerTooLargeIsNotAskedForAgain(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		mock := play(httpmock.NewStringResponder(200, strings.Repeat("x", 101)))
		_, err := newClient(t, mock, func(c *Config) { c.MaxBody = 100 }).Do(t.Context(),
			request(PollsList))
		require.ErrorIs(t, err, ErrBodyTooLarge)
		assert.Len(t, mock.seen, 1)
		f := failure(t, err)
		assert.Equal(t, 200, f.Attempts[0].StatusCode)
		assert.False(t, f.MaybeApplied)
	})
}

func TestAnAnswerCutShortIsAskedForAgain(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		resp, err := newClient(t, play(cutShort, status(200))).Do(t.Context(), request(PollsList))
		require.NoError(t, err)
		require.Len(t, resp.Attempts, 2)
		require.ErrorIs(t, resp.Attempts[0].Err, io.ErrUnexpectedEOF)
		assert.Equal(t, 200, resp.Attempts[0].StatusCode)
	})
}

// The status is known before the body, so an error body that arrives slowly is cut off after
// maxErrorTime.
func TestADrippingErrorBodyEndsTheAttempt(t *testing.T) {
	t.Parallel()
	for _, code := range []int{400, 404, 429, 500, 503} {
		synctest.Test(t, func(t *testing.T) {
			mock := play(func(req *http.Request) (*http.Response, error) {
				resp, err := after(0, drip(1_000_000, 100*time.Millisecond))(req)
				resp.StatusCode = code
				return resp, err
			})
			began := time.Now()
			resp, err := newClient(t, mock, func(c *Config) { c.MaxRetries = -1 }).Do(t.Context(),
				request(PollsCreate))
			require.NoError(t, err)
			assert.Equal(t, code, resp.StatusCode)
			assert.Equal(t, maxErrorTime, time.Since(began))
			assert.NotEmpty(t, resp.Body, "what came of it is kept")
			time.Sleep(time.Hour) //nolint:forbidigo // virtual: lets the fake's writer end
		})
	}
}
