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
