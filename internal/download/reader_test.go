package download

import (
	"bytes"
	"context"
	"errors"
	"io"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func readAll(t *testing.T, o *object, l Limits) ([]byte, error) {
	t.Helper()
	r := NewReader(t.Context(), l, o.file())
	defer func() { _ = r.Close() }()
	var b bytes.Buffer
	_, err := io.Copy(&b, r)
	return b.Bytes(), err
}

// Each received byte renews the retries, so a download completes however often its connection
// breaks.
func TestReaderRenewsItsRetriesWithEveryByte(t *testing.T) {
	t.Parallel()
	for name, bytesPerConnection := range map[string]int{"one byte": 1, "some": 100} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			o := &object{content: random(1000)}
			o.open = func(_ int, req Request) (*Object, error) {
				return o.broken(req.Offset, bytesPerConnection), nil
			}
			got, err := readAll(t, o, limits())
			require.NoError(t, err)
			assert.True(t, bytes.Equal(o.content, got))
		})
	}
	t.Run("no bytes", func(t *testing.T) {
		t.Parallel()
		o := &object{content: random(1000)}
		o.open = func(n int, req Request) (*Object, error) {
			if n == 1 {
				return o.broken(0, 500), nil
			}
			return o.broken(req.Offset, 0), nil
		}
		_, err := readAll(t, o, limits())
		require.ErrorIs(t, err, errBroken)
		assert.Equal(t, int32(1+4), o.opened.Load())
	})
	t.Run("the same bytes again", func(t *testing.T) {
		t.Parallel()
		o := &object{content: random(1000)}
		o.open = func(int, Request) (*Object, error) { return o.broken(0, 500), nil } // ignores offsets
		_, err := readAll(t, o, limits())
		require.ErrorIs(t, err, errBroken)
		assert.Equal(t, int32(1+4), o.opened.Load())
	})
}

// An object that should be empty is asked for, too: storage may have lost it, or have bytes.
func TestReaderOfAnEmptyObject(t *testing.T) {
	t.Parallel()
	gone := errors.New("gone")
	for name, tc := range map[string]struct {
		body string
		size int64
		err  error
		want error
	}{
		"empty":                       {size: 0},
		"empty, of unknown size":      {size: -1},
		"a byte":                      {body: "x", size: 1, want: ErrSize},
		"a byte, and of unknown size": {body: "x", size: -1, want: ErrSize},
		"not there":                   {err: gone, want: gone},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			for _, openFirst := range []bool{true, false} {
				o := &object{}
				file := o.file()
				file.Permanent = func(error) bool { return true }
				o.open = func(int, Request) (*Object, error) {
					return &Object{Body: io.NopCloser(strings.NewReader(tc.body)), Size: tc.size}, tc.err
				}
				r := NewReader(t.Context(), limits(), file)
				var err error
				if openFirst {
					err = r.Open()
				}
				if err == nil {
					_, err = io.Copy(io.Discard, r)
				}
				require.ErrorIs(t, err, tc.want)
				assert.Equal(t, int32(1), o.opened.Load())
				require.NoError(t, r.Close())
			}
		})
	}
}

func TestReaderOfBadStorage(t *testing.T) {
	t.Parallel()
	o := &object{content: random(1000)}
	for name, tc := range map[string]struct {
		open func(req Request) (*Object, error)
		want error
		text string
	}{
		"wrong bytes": {open: func(Request) (*Object, error) {
			return &Object{Body: io.NopCloser(bytes.NewReader(make([]byte, 1000))), Size: 1000}, nil
		}, want: ErrChecksum},
		"another size": {open: func(Request) (*Object, error) {
			return &Object{Body: io.NopCloser(bytes.NewReader(nil)), Size: 999}, nil
		}, want: ErrSize},
		"more than it should": {open: func(Request) (*Object, error) {
			return &Object{
				Body: io.NopCloser(bytes.NewReader(append(bytes.Clone(o.content), 'x'))),
				Size: -1,
			}, nil
		}, want: ErrSize},
		"another version": {open: func(req Request) (*Object, error) {
			if req.Offset == 0 {
				first := o.broken(0, 10)
				first.Version = "1"
				return first, nil
			}
			second := o.from(req.Offset)
			second.Version = "2"
			return second, nil
		}, want: ErrChanged},
		"another version after none": {open: func(req Request) (*Object, error) {
			opened := o.broken(req.Offset, 10)
			opened.Version = map[int64]string{0: "1", 10: ""}[req.Offset]
			if req.Offset > 10 {
				opened.Version = "2"
			}
			return opened, nil
		}, want: ErrChanged},
		//nolint:nilnil // what it tests
		"nothing at all": {open: func(Request) (*Object, error) { return nil, nil }, want: nil},
		"no body": {
			open: func(Request) (*Object, error) { return &Object{Size: 1000}, nil },
			want: nil,
		},
		"reads of nothing": {open: func(Request) (*Object, error) {
			return &Object{Body: io.NopCloser(emptyReader{}), Size: 1000}, nil
		}, want: io.ErrNoProgress},
		"a later offset": {
			open: func(Request) (*Object, error) { return o.from(1), nil },
			text: "from 1 on",
		},
		"an early end": {open: func(Request) (*Object, error) {
			return &Object{Body: io.NopCloser(bytes.NewReader(nil)), Size: 1000}, nil
		}, want: io.ErrUnexpectedEOF},
		"a bad offset": {open: func(Request) (*Object, error) {
			opened := o.from(0)
			opened.Offset = -1
			return opened, nil
		}, text: "from -1 on"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			bad := &object{content: o.content, open: func(_ int, req Request) (*Object, error) {
				return tc.open(req)
			}}
			_, err := readAll(t, bad, limits())
			require.ErrorContains(t, err, tc.text)
			require.NotErrorIs(t, err, io.EOF, "io.EOF means that all was verified")
			if tc.want != nil {
				require.ErrorIs(t, err, tc.want)
			}
			if errors.Is(err, ErrSize) || errors.Is(err, ErrChanged) {
				assert.LessOrEqual(t, bad.opened.Load(), int32(3), "it is not tried again")
			}
		})
	}
}

type emptyReader struct{}

func (emptyReader) Read([]byte) (int, error) { return 0, nil }

func TestReaderBoundsSilence(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		file := (&object{content: random(10)}).file()
		file.Open = func(ctx context.Context, _ Request) (*Object, error) {
			<-ctx.Done()
			return nil, ctx.Err()
		}
		began := time.Now()
		l := Limits{Open: time.Second, Stall: time.Second, Retries: 1}
		r := NewReader(t.Context(), l, file)
		err := r.Open()
		require.ErrorIs(t, err, context.DeadlineExceeded)
		require.ErrorContains(t, err, "did not answer for 1s")
		assert.Equal(t, 2*time.Second, time.Since(began))
		require.NoError(t, r.Close())
	})
}

func TestReaderEndsWithCauseAndErr(t *testing.T) {
	t.Parallel()
	why := errors.New("shutting down")
	ctx, cancel := context.WithCancelCause(t.Context())
	file := (&object{content: random(10)}).file()
	r := NewReader(ctx, limits(), file)
	require.NoError(t, r.Open())
	cancel(why)
	_, err := r.Read(make([]byte, 5))
	require.ErrorIs(t, err, why)
	require.ErrorIs(t, err, context.Canceled)
	require.NoError(t, r.Close())

	err = NewReader(ctx, limits(), file).Open()
	require.ErrorIs(t, err, why)
	require.ErrorIs(t, err, context.Canceled)

	ctx, cancel = context.WithCancelCause(t.Context())
	r = NewReader(ctx, limits(), file)
	_, err = io.ReadFull(r, make([]byte, 10))
	require.NoError(t, err)
	cancel(why)
	_, err = r.Read(make([]byte, 1))
	require.ErrorIs(t, err, why, "after the last byte, too")
	assert.False(t, r.Verified())
}

// Closed is called once, on Close, and says whether the file was verified.
func TestReaderTellsHowItEnded(t *testing.T) {
	t.Parallel()
	type end struct {
		verified bool
		err      error
	}
	for name, row := range map[string]struct {
		read     int64
		verified bool
	}{
		"to the end": {read: 1001, verified: true}, "in part": {read: 10, verified: false},
		"every byte, but not its EOF": {read: 1000, verified: false},
	} {
		o := &object{content: random(1000)}
		file := o.file()
		var ends []end
		file.Closed = func(verified bool, err error) { ends = append(ends, end{verified, err}) }
		r := NewReader(t.Context(), limits(), file)
		require.NoError(t, r.Open(), name)
		n, _ := io.CopyN(io.Discard, struct{ io.Reader }{r}, row.read)
		assert.Equal(t, n, r.Done(), name)
		require.NoError(t, r.Close())
		require.NoError(t, r.Close())
		assert.Equal(t, row.verified, r.Verified(), name)
		assert.Equal(t, []end{{verified: row.verified, err: nil}}, ends, name)
		_, err := r.Read(make([]byte, 1))
		if row.verified {
			require.ErrorIs(t, err, io.EOF)
		} else {
			require.ErrorContains(t, err, "read after Close", name)
		}
	}
}

type writes []int

func (w *writes) Write(p []byte) (int, error) {
	*w = append(*w, len(p))
	return len(p), nil
}

// A small file that comes in pieces is written at once, and as far as it came when the storage
// fails. A large one is written as it comes.
func TestReaderWritesSmallFilesAtOnce(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		size  int
		fails bool
		want  []int
	}{
		"small":                     {size: 1000, want: []int{1000}},
		"small, cut off":            {size: 1000, fails: true, want: []int{300}},
		"larger":                    {size: smallFile + 1, want: []int{300, smallFile + 1 - 300}},
		"larger, cut off":           {size: smallFile + 1, fails: true, want: []int{300}},
		"of the size that is small": {size: smallFile, want: []int{smallFile}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			o := &object{content: random(test.size)}
			o.open = func(n int, req Request) (*Object, error) {
				switch {
				case n == 1:
					return o.broken(0, 300), nil
				case test.fails:
					return o.broken(req.Offset, 0), nil
				}
				return o.from(req.Offset), nil
			}
			r := NewReader(t.Context(), limits(), o.file())
			defer func() { _ = r.Close() }()
			var got writes
			_, err := io.Copy(&got, r)
			if test.fails {
				require.ErrorIs(t, err, errBroken)
			} else {
				require.NoError(t, err)
			}
			assert.Equal(t, test.want, []int(got))
		})
	}
}
