package download

import (
	"bytes"
	"context"
	"crypto/md5"
	"crypto/sha256"
	"errors"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// object is an object in storage that counts how often it is opened.
type object struct {
	content []byte
	version string
	opened  atomic.Int32
	// open, if set, replaces the default answer. n counts from 1.
	open func(n int, req Request) (*Object, error)
}

func (o *object) file() *File {
	sum := md5.Sum(o.content)
	return &File{
		Size: int64(len(o.content)), MD5: sum[:],
		Permanent: func(error) bool { return false },
		Open: func(_ context.Context, req Request) (*Object, error) {
			n := int(o.opened.Add(1))
			if o.open != nil {
				return o.open(n, req)
			}
			return o.from(req.Offset), nil
		},
	}
}

func (o *object) from(offset int64) *Object {
	return &Object{
		Body: io.NopCloser(bytes.NewReader(o.content[offset:])), Offset: offset,
		Size: int64(len(o.content)), Version: o.version,
	}
}

// broken returns the object with a body that fails after n bytes.
func (o *object) broken(offset int64, n int) *Object {
	opened := o.from(offset)
	opened.Body = io.NopCloser(io.MultiReader(io.LimitReader(opened.Body, int64(n)), failingReader{}))
	return opened
}

var errBroken = errors.New("the connection broke")

type failingReader struct{}

func (failingReader) Read([]byte) (int, error) { return 0, errBroken }

func random(n int) []byte {
	b := make([]byte, n)
	_, _ = rand.NewChaCha8([32]byte{byte(n), byte(n >> 8), byte(n >> 16)}).Read(b)
	return b
}

func limits() Limits {
	return Limits{Open: time.Minute, Stall: time.Minute, Retries: 4, FirstWait: 1, LongestWait: 1}
}

// folder returns an open Folder and its path.
func folder(t testing.TB) (*Folder, string) {
	t.Helper()
	dir := t.TempDir()
	f, err := OpenFolder(dir, "")
	require.NoError(t, err)
	t.Cleanup(func() { _ = f.Close() })
	return f, dir
}

func save(t testing.TB, f *Folder, name string, o *object) (Kept, error) {
	t.Helper()
	return f.Save(t.Context(), name, limits(), o.file())
}

func names(t testing.TB, dir string) []string {
	t.Helper()
	entries, err := os.ReadDir(dir)
	require.NoError(t, err)
	all := []string{}
	for _, e := range entries {
		all = append(all, e.Name())
	}
	return all
}

func requireContent(t testing.TB, path string, want []byte) {
	t.Helper()
	got, err := os.ReadFile(path)
	require.NoError(t, err)
	require.True(t, bytes.Equal(want, got), "%s has %d bytes that differ from the %d wanted", path,
		len(got), len(want))
}

func requireSaved(t testing.TB, f *Folder, dir, name string, o *object) Kept {
	t.Helper()
	kept, err := save(t, f, name, o)
	require.NoError(t, err)
	requireContent(t, filepath.Join(dir, kept.Name), o.content)
	sum := sha256.Sum256(o.content)
	assert.Equal(t, sum[:], kept.SHA256)
	return kept
}
