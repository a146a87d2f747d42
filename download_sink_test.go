package ricloud

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// memorySink is a Sink that stores files in memory.
type memorySink struct {
	read func(to io.Writer, from io.Reader) error // how the sink reads a body

	mu   sync.Mutex
	kept map[string][]byte
}

func newMemorySink() *memorySink {
	return &memorySink{kept: map[string][]byte{}, read: func(to io.Writer, from io.Reader) error {
		_, err := io.Copy(to, from)
		return err
	}}
}

func (s *memorySink) Store(_ context.Context, file SinkFile) (StoredFile, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	name := string(file.Result.ID) + "/" + file.Name
	if content, ok := s.kept[name]; ok {
		return StoredFile{
			Location: "mem://" + name, SHA256: fmt.Sprintf("%x", sha256.Sum256(content)),
		}, nil
	}
	var content bytes.Buffer
	if err := s.read(&content, file.Body); err != nil {
		return StoredFile{}, err
	}
	s.kept[name] = content.Bytes()
	return StoredFile{Location: "mem://" + name}, nil
}

func TestSaveAllToASink(t *testing.T) {
	t.Parallel()
	v, sink := newVault(), newMemorySink()
	c := v.client(t)
	bodies := [][]byte{random(100_000), random(1), nil}
	var results []*Result
	for i, body := range bodies {
		results = append(results, v.add(fmt.Sprintf("callkit.calls/%d", i), body))
	}
	for _, from := range []string{"fetched", "found"} {
		saved, err := c.Results.SaveAllTo(t.Context(), each(results...), sink, WithAcknowledge())
		require.NoError(t, err)
		require.Len(t, saved, len(bodies))
		for i, s := range saved {
			assert.Equal(t, fmt.Sprintf("mem://r%d/%s", i, FileName(results[i].Identifier)), s.Path, from)
			assert.Equal(t, results[i].Checksum, s.MD5, from)
			assert.Equal(t, fmt.Sprintf("%x", sha256.Sum256(bodies[i])), s.SHA256, from)
			assert.True(t, s.Acknowledged, from)
		}
		assert.Equal(t, 3, v.gets, "%s: what the sink has is not fetched", from)
	}
	for i, body := range bodies {
		assert.Equal(t, string(body), string(sink.kept[fmt.Sprintf("r%d/%s", i,
			FileName(results[i].Identifier))]))
	}
}

// A result that the sink did not store whole and verified is not acknowledged, and the error names
// it.
func TestSaveAllToAcknowledgesNothingUnverified(t *testing.T) {
	t.Parallel()
	full := fs.ErrInvalid
	for name, test := range map[string]struct {
		read  func(to io.Writer, from io.Reader) error
		fault fault
		is    error
		says  string
	}{
		"reads a part": {
			says: "did not read the file to its end",
			read: func(to io.Writer, from io.Reader) error {
				_, err := io.CopyN(to, from, 10)
				return err
			},
		},
		"is full": {is: full, read: func(io.Writer, io.Reader) error { return full }},
		"gets another file": {
			is: ErrChecksum,
			fault: func(_ *vault, _ int, _ *http.Request, resp *http.Response) (*http.Response, error) {
				resp.Body = io.NopCloser(bytes.NewReader(make([]byte, resp.ContentLength)))
				return resp, nil
			},
		},
		"is refused by storage": {is: ErrForbidden, fault: answers(http.StatusForbidden)},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			v, sink := newVault(), newMemorySink()
			v.fault = test.fault
			if test.read != nil {
				sink.read = test.read
			}
			c := v.client(t, WithRetries(1))
			saved, err := c.Results.SaveAllTo(t.Context(), each(v.add("callkit.calls", random(5000))), sink,
				WithAcknowledge())
			require.Error(t, err)
			if test.is != nil {
				require.ErrorIs(t, err, test.is)
			}
			require.ErrorContains(t, err, test.says)
			failed, ok := errors.AsType[*DownloadError](err)
			require.True(t, ok, "%v", err)
			assert.Equal(t, ID("r0"), failed.Result)
			assert.NotContains(t, err.Error(), "canary")
			assert.Empty(t, saved)
			assert.Empty(t, v.acked)
		})
	}
}

func TestSaveAllToRefuses(t *testing.T) {
	t.Parallel()
	c := newVault().client(t)
	for field, call := range map[string]func() error{
		"sink": func() error {
			_, err := c.Results.SaveAllTo(t.Context(), each(), nil)
			return err
		},
		"WithManifest": func() error {
			_, err := c.Results.SaveAllTo(t.Context(), each(), newMemorySink(), WithManifest(&Poll{ID: "p"}))
			return err
		},
	} {
		param, ok := errors.AsType[*ParamError](call())
		require.True(t, ok, field)
		assert.Equal(t, field, param.Field)
	}
}

// A sink that ends with its context need not know the cause: the error has it.
func TestSaveAllToReturnsTheCause(t *testing.T) {
	t.Parallel()
	v, sink := newVault(), newMemorySink()
	shutdown := errors.New("the service shuts down")
	ctx, cancel := context.WithCancelCause(t.Context())
	sink.read = func(io.Writer, io.Reader) error {
		cancel(shutdown)
		return fmt.Errorf("the store's client: %w", ctx.Err())
	}
	_, err := v.client(t).Results.SaveAllTo(ctx, each(v.add("callkit.calls", random(50))), sink)
	require.ErrorIs(t, err, shutdown)
	require.ErrorIs(t, err, context.Canceled)
	require.ErrorContains(t, err, "the store's client")

	cancelled, stop := context.WithCancel(t.Context())
	sink.read = func(io.Writer, io.Reader) error {
		stop()
		return cancelled.Err()
	}
	_, err = v.client(t).Results.SaveAllTo(cancelled, each(v.add("callkit.calls", random(50))), sink)
	require.ErrorIs(t, err, context.Canceled)
	assert.Equal(t, 1, strings.Count(err.Error(), "context canceled"), "%v", err)
}
