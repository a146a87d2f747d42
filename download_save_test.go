package ricloud

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"iter"
	"math/rand/v2"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func files(t *testing.T, dir string) []string {
	t.Helper()
	entries, err := os.ReadDir(dir)
	require.NoError(t, err)
	names := []string{}
	for _, e := range entries {
		names = append(names, e.Name())
	}
	return names
}

func assertFile(t *testing.T, path string, want []byte) {
	t.Helper()
	got, err := os.ReadFile(path)
	require.NoError(t, err)
	assert.True(t, bytes.Equal(want, got), "%s differs", path)
}

func TestSave(t *testing.T) { //nolint:tparallel // steps, one after the other
	t.Parallel()
	v, dir := newVault(), filepath.Join(t.TempDir(), "new", "folder")
	c, body := v.client(t), random(1_000_000)
	r := v.add("callkit.calls", body)
	var seen []int64
	progress := WithProgress(func(p Progress) {
		assert.Equal(t, r.ID, p.Result.ID)
		assert.Equal(t, r.Size, p.Size)
		seen = append(seen, p.Done)
	})
	saved, err := c.Results.Save(t.Context(), r, dir, progress)
	require.NoError(t, err)
	path := saved.Path
	assert.Equal(t, filepath.Join(dir, "callkit.calls"), path)
	assert.Equal(t, r.Checksum, saved.MD5)
	assert.Equal(t, fmt.Sprintf("%x", sha256.Sum256(body)), saved.SHA256)
	assert.True(t, saved.Synced)
	assert.False(t, saved.Acknowledged)
	assertFile(t, path, body)
	assert.Equal(t, []string{"callkit.calls"}, files(t, dir))
	assert.IsNonDecreasing(t, seen)
	assert.Equal(t, r.Size, seen[len(seen)-1])
	info, err := os.Stat(path)
	require.NoError(t, err)
	assert.Equal(t, fs.FileMode(0o600), info.Mode().Perm())

	t.Run("again", func(t *testing.T) { //nolint:paralleltest // a step
		again, err := c.Results.Save(t.Context(), r, dir, progress)
		require.NoError(t, err)
		assert.Equal(t, saved, again)
		assert.Equal(t, 1, v.gets, "a file that is there is not fetched")
	})
	t.Run("equal identifiers", func(t *testing.T) { //nolint:paralleltest // a step
		bodies := [][]byte{random(1_000_001)[1:], random(5), nil}
		for range 2 {
			for i, body := range bodies {
				other, err := c.Results.Save(t.Context(), v.add("callkit.calls", body), dir)
				require.NoError(t, err)
				assertFile(t, other.Path, body)
				assert.Regexp(t, `/callkit~[0-9a-f]{20}\.calls$`, other.Path, i)
			}
		}
		assertFile(t, path, body)
		assert.Len(t, files(t, dir), 1+len(bodies))
	})
	t.Run("no free name", func(t *testing.T) { //nolint:paralleltest // a step
		in := v.add("in.the.way", []byte("x"))
		require.NoError(t, os.Mkdir(filepath.Join(dir, "in.the.way"), 0o700))
		saved, err := c.Results.Save(t.Context(), in, dir)
		require.NoError(t, err)
		path := saved.Path
		require.NoError(t, os.WriteFile(path, []byte("not x"), 0o600))
		_, err = c.Results.Save(t.Context(), in, dir)
		require.ErrorIs(t, err, fs.ErrExist)
		assertFile(t, path, []byte("not x"))
	})
}

func TestSaveKeepsNothingUnverified(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		fault fault
		want  error
		left  int64 // size of the partial file; -1: there is none
	}{
		"corrupt": {fault: func(
			_ *vault, _ int, _ *http.Request, resp *http.Response,
		) (*http.Response, error) {
			resp.Body = io.NopCloser(bytes.NewReader(make([]byte, 1000)))
			return resp, nil
		}, want: ErrChecksum, left: -1},
		"another size": {fault: func(
			_ *vault, _ int, _ *http.Request, resp *http.Response,
		) (*http.Response, error) {
			resp.ContentLength = 1001
			return resp, nil
		}, want: ErrSize, left: -1},
		"gone": {fault: func(
			_ *vault, _ int, _ *http.Request, resp *http.Response,
		) (*http.Response, error) {
			resp.StatusCode = http.StatusNotFound
			return resp, nil
		}, want: ErrNotFound, left: -1},
		"interrupted": {fault: func(
			_ *vault, n int, _ *http.Request, resp *http.Response,
		) (*http.Response, error) {
			cutAt(resp, max(0, 600-int64(n)*600))
			return resp, nil
		}, want: io.ErrUnexpectedEOF, left: 600},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			v, dir := newVault(), t.TempDir()
			r := v.add("a", random(1000))
			v.fault = tc.fault
			saved, err := v.client(t).Results.Save(t.Context(), r, dir)
			require.ErrorIs(t, err, tc.want)
			assert.Nil(t, saved)
			if tc.left < 0 {
				assert.Empty(t, files(t, dir))
				return
			}
			require.Len(t, files(t, dir), 1)
			info, err := os.Stat(filepath.Join(dir, files(t, dir)[0]))
			require.NoError(t, err)
			assert.Equal(t, tc.left, info.Size())

			v.fault = func(_ *vault, _ int, req *http.Request, resp *http.Response) (*http.Response, error) {
				assert.Equal(t, "bytes=600-", req.Header.Get("Range"))
				return resp, nil
			}
			saved, err = v.client(t).Results.Save(t.Context(), r, dir)
			require.NoError(t, err)
			assertFile(t, saved.Path, v.objects["r0"])
			assert.Equal(t, []string{"a"}, files(t, dir))
		})
	}
}

func TestSaveTheSameResultAtOnce(t *testing.T) {
	t.Parallel()
	v, dir := newVault(), t.TempDir()
	c := v.client(t)
	body := random(3_000_000)
	r := v.add("a", body)
	var group sync.WaitGroup
	for range 8 {
		group.Go(func() {
			saved, err := c.Results.Save(t.Context(), r, dir)
			if assert.NoError(t, err) {
				assert.Equal(t, filepath.Join(dir, "a"), saved.Path)
			}
		})
	}
	group.Wait()
	assertFile(t, filepath.Join(dir, "a"), body)
	assert.Equal(t, []string{"a"}, files(t, dir))
	assert.Equal(t, 1, v.gets)
}

func each(results ...*Result) iter.Seq2[*Result, error] {
	return func(yield func(*Result, error) bool) {
		for _, r := range results {
			if !yield(r, nil) {
				return
			}
		}
	}
}

func TestSaveAll(t *testing.T) { //nolint:tparallel // steps, one after the other
	t.Parallel()
	v, dir := newVault(), t.TempDir()
	var results []*Result
	bodies := map[ID][]byte{}
	for i := range 250 {
		body := random(rand.IntN(3000))
		r := v.add(fmt.Sprintf("file-%d", i%200), body) // some identifiers are used twice
		bodies[r.ID] = body
		results = append(results, r)
	}
	bad := map[ID]bool{"r7": true, "r77": true, "r177": true}
	v.fault = func(_ *vault, _ int, req *http.Request, resp *http.Response) (*http.Response, error) {
		if bad[ID(strings.Trim(req.URL.Path, "/"))] {
			resp.StatusCode = http.StatusNotFound
		}
		return resp, nil
	}
	pollFailed := &StateError{Resource: "poll", ID: "p", State: "completed"}
	input := func(yield func(*Result, error) bool) {
		each(results...)(yield)
		yield(nil, pollFailed)
	}
	running := 0
	saved, err := v.client(t).Results.SaveAll(t.Context(), input, dir, WithAcknowledge(),
		WithParallel(8), WithProgress(func(Progress) {
			running++ // unsynchronised, so that the race detector would see overlaps
		}))
	require.ErrorIs(t, err, pollFailed)
	for id := range bad {
		require.ErrorContains(t, err, "result "+string(id)+" (")
	}
	require.Len(t, saved, 247)
	paths := map[string]bool{}
	last := -1
	for _, s := range saved {
		assert.False(t, bad[s.Result.ID])
		assert.True(t, s.Acknowledged)
		assertFile(t, s.Path, bodies[s.Result.ID])
		paths[s.Path] = true
		var n int
		_, _ = fmt.Sscanf(string(s.Result.ID), "r%d", &n)
		assert.Greater(t, n, last)
		last = n
	}
	assert.Len(t, v.acked, 247)
	for _, id := range v.acked {
		assert.False(t, bad[ID(id)], "acknowledged unverified: %s", id)
	}
	assert.Len(t, files(t, dir), len(paths))
	assert.Positive(t, running)

	t.Run("without WithAcknowledge", func(t *testing.T) { //nolint:paralleltest // a step
		v.acked = nil
		_, err := v.client(t).Results.SaveAll(t.Context(), each(results[0]), dir)
		require.NoError(t, err)
		assert.Empty(t, v.acked)
	})
	t.Run("a context that ended", func(t *testing.T) { //nolint:paralleltest // a step
		ctx, cancel := context.WithCancelCause(t.Context())
		why := errors.New("shutting down")
		cancel(why)
		saved, err := v.client(t).Results.SaveAll(ctx, each(results...), t.TempDir(), WithAcknowledge())
		require.ErrorIs(t, err, why)
		assert.Empty(t, saved)
		assert.Empty(t, v.acked)
	})
}

// If the folder cannot be made, the error names the result.
func TestSaveIntoWhatIsNoFolder(t *testing.T) {
	t.Parallel()
	v := newVault()
	r := v.add("callkit.calls", random(10))
	c := v.client(t)
	file := filepath.Join(t.TempDir(), "file")
	require.NoError(t, os.WriteFile(file, nil, 0o600))
	for _, dir := range []string{file, filepath.Join(file, "within"), "a\x00b"} {
		_, err := c.Results.Save(t.Context(), r, dir)
		failed, ok := errors.AsType[*DownloadError](err)
		require.True(t, ok, "%q: %v", dir, err)
		assert.Equal(t, r.ID, failed.Result)
	}
	_, err := c.Results.Save(t.Context(), r, "")
	param, ok := errors.AsType[*ParamError](err)
	require.True(t, ok, "%v", err)
	assert.Equal(t, "dir", param.Field)
	_, err = c.Results.SaveAll(t.Context(), each(r), "")
	param, ok = errors.AsType[*ParamError](err)
	require.True(t, ok, "%v", err)
	assert.Equal(t, "dir", param.Field)
	assert.Zero(t, v.gets)
}

// If the folder is moved away while files are saved in it, SaveAll reports that, and acknowledges
// nothing: the paths that it would return name nothing.
func TestSaveIntoAFolderThatIsMoved(t *testing.T) {
	t.Parallel()
	for name, opts := range map[string][]SaveAllOption{
		"files": {WithAcknowledge()}, "a bag": {WithAcknowledge(), WithManifest(manifestPoll())},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			v, dir := newVault(), filepath.Join(t.TempDir(), "results")
			var once sync.Once
			v.fault = func(_ *vault, _ int, _ *http.Request, resp *http.Response) (*http.Response, error) {
				once.Do(func() { assert.NoError(t, os.Rename(dir, dir+".old")) })
				return resp, nil
			}
			c := v.client(t)
			results := each(v.add("a", random(10)), v.add("b", random(20)))
			saved, err := c.Results.SaveAll(t.Context(), results, dir, opts...)
			require.ErrorContains(t, err, "result r0 (")
			require.ErrorContains(t, err, "was moved or replaced")
			assert.Empty(t, saved)
			assert.Empty(t, v.acked)
			saved, err = c.Results.SaveAll(t.Context(), results, dir, opts...)
			require.NoError(t, err)
			assert.Len(t, saved, 2)
			assert.Len(t, v.acked, 2)
		})
	}
	v, dir := newVault(), filepath.Join(t.TempDir(), "results")
	r := v.add("a", random(10))
	_, err := v.client(t).Results.Save(t.Context(), r, dir, WithProgress(func(Progress) {
		_ = os.Rename(dir, dir+".old")
	}))
	require.ErrorContains(t, err, "was moved or replaced")
}

// moments calls end at the nth moment: a request, a read of a body, or a report of progress.
type moments struct {
	http.RoundTripper

	mu   sync.Mutex
	left int
	end  func()
}

func (m *moments) next() {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.left--; m.left == 0 {
		m.end()
	}
}

func (m *moments) RoundTrip(req *http.Request) (*http.Response, error) {
	m.next()
	resp, err := m.RoundTripper.RoundTrip(req)
	if err == nil {
		resp.Body = &momentBody{resp.Body, m}
	}
	return resp, err
}

type momentBody struct {
	io.ReadCloser

	moments *moments
}

func (b *momentBody) Read(p []byte) (int, error) {
	b.moments.next()
	return b.ReadCloser.Read(p)
}

// Whenever its context ends, SaveAll returns the cause, and each file that it has saved is whole.
// It acknowledges only those, and the next SaveAll completes the folder.
func TestSaveAllEndsAtAnyMoment(t *testing.T) {
	t.Parallel()
	shutdown := errors.New("shutdown")
	poll := &Poll{ID: "p"}
	for n, ended := 1, true; ended; n++ {
		v := newVault()
		m := &moments{RoundTripper: v, left: n}
		c := v.client(t, WithTransport(m))
		bodies := map[ID][]byte{}
		var results []*Result
		for i, size := range []int{0, 1, 40_000} {
			r := v.add(fmt.Sprintf("file-%d", i), random(size))
			bodies[r.ID] = v.objects[string(r.ID)]
			results = append(results, r)
		}
		ctx, cancel := context.WithCancelCause(t.Context())
		m.end = func() { cancel(shutdown) }
		dir := t.TempDir()
		saved, err := c.Results.SaveAll(ctx, each(results...), dir, WithManifest(poll),
			WithAcknowledge(), WithParallel(2), WithProgress(func(Progress) { m.next() }))
		ended = ctx.Err() != nil
		cancel(nil)
		if ended && err != nil {
			require.ErrorIs(t, err, shutdown, "moment %d", n)
			require.ErrorIs(t, err, context.Canceled, "moment %d", n)
		} else {
			require.NoError(t, err, "moment %d", n)
		}
		there := map[string]bool{}
		for _, s := range saved {
			assertFile(t, s.Path, bodies[s.Result.ID])
			there[string(s.Result.ID)] = true
		}
		for _, id := range v.acked {
			require.True(t, there[id], "%s is acknowledged at moment %d, and not saved", id, n)
		}
		saved, err = c.Results.SaveAll(t.Context(), each(results...), dir, WithManifest(poll))
		require.NoError(t, err)
		require.Len(t, saved, len(results))
		require.NoError(t, VerifyFolder(t.Context(), dir))
	}
}

// A result whose content has changed since it was saved gets a file of its own. Both are found
// later.
func TestSaveAllOfAResultThatHasChanged(t *testing.T) {
	t.Parallel()
	v, dir := newVault(), t.TempDir()
	c := v.client(t)
	first := v.add("callkit.calls", []byte("first"))
	save := func(r *Result) string {
		t.Helper()
		saved, err := c.Results.SaveAll(t.Context(), each(r), dir,
			WithManifest(&Poll{ID: "p"}))
		require.NoError(t, err)
		require.Len(t, saved, 1)
		assert.Equal(t, r.Checksum, saved[0].MD5)
		return saved[0].Path
	}
	was := save(first)
	v.objects[string(first.ID)] = []byte("second")
	second := v.result(string(first.ID), "callkit.calls")
	is := save(second)
	assert.NotEqual(t, was, is)
	gets := v.gets
	assert.Equal(t, is, save(second))
	assert.Equal(t, was, save(first))
	assert.Equal(t, gets, v.gets)
	assertFile(t, was, []byte("first"))
	assertFile(t, is, []byte("second"))
	require.NoError(t, VerifyFolder(t.Context(), dir))
}

// A folder that may be written, but not read, cannot be flushed to disk: Synced says so, and the
// results are acknowledged. Some users may read every folder.
func TestSaveIntoAFolderThatCannotBeRead(t *testing.T) {
	t.Parallel()
	v, dir := newVault(), t.TempDir()
	r := v.add("callkit.calls", random(10))
	c := v.client(t)
	require.NoError(t, os.Chmod(dir, 0o300))
	opened, err := os.Open(dir)
	mayRead := err == nil
	if mayRead {
		require.NoError(t, opened.Close())
	}
	saved, err := c.Results.SaveAll(t.Context(), each(r), dir, WithAcknowledge())
	require.NoError(t, err)
	require.Len(t, saved, 1)
	assert.Equal(t, mayRead, saved[0].Synced)
	assert.True(t, saved[0].Acknowledged)
}
