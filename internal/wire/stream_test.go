package wire_test

import (
	"encoding/json"
	"errors"
	"io"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/reincubate/ricloud-go/internal/wire"
)

// picky accepts only "yes".
type picky struct{}

var errPicky = errors.New("not yes")

func (*picky) UnmarshalJSON(raw []byte) error {
	if string(raw) != `"yes"` {
		return errPicky
	}
	return nil
}

type list struct {
	List []int `json:"list"`
}

type record struct {
	Number string         `json:"number"`
	Length int8           `json:"length"`
	Within list           `json:"within"`
	Of     map[string]int `json:"of"`
	Any    any            `json:"any"`
	Picky  picky          `json:"picky"`
}

// A value is accepted or rejected as by encoding/json. In both cases the next value can be read. CI
// also runs this test with GOEXPERIMENT=jsonv2.
func TestStreamDecodesAsUnmarshalDoes(t *testing.T) {
	t.Parallel()
	for _, value := range []string{
		`{"number":"+44","length":3,"within":{"list":[1,2]},"of":{"a":1},"any":[1,{"b":null}]}`,
		`{"NUMBER":"+44","Length":3}`, `{"number":"a","number":"b"}`, `{"of":{"a":1},"of":{"b":2}}`,
		`{"number":null,"unknown":{"x":[1]}}`, "{\"number\":\"\xff\"}", `{"number":"\ud800"}`, `{}`,
		`null`, `{"any":12345678901234567890}`, `{"picky":"yes"}`,
		`{"length":300}`, `{"length":1.5}`, `{"length":"x"}`, `{"length":[1,[2]],"number":7}`,
		`{"number":{"a":{"b":1}}}`, `{"within":[1]}`, `{"within":{"list":{"x":1}}}`,
		`{"within":{"list":[1,"x",3]}}`, `{"of":{"a":"x"}}`, `{"of":[]}`, `[1,[2]]`, `"x"`, `7`, `true`,
		`{"picky":"no"}`, `{"picky":{"a":[1]}}`, `{"any":1e999}`,
	} {
		var want, got record
		wantErr := json.Unmarshal([]byte(value), &want)
		s := begun(t, ` [ `+value+` , "next" ] `)
		gotErr := s.Decode(&got)
		assert.Greater(t, s.InputOffset(), int64(3), value)
		if wantErr == nil {
			require.NoError(t, gotErr, value)
			assert.Equal(t, want, got, value)
		} else {
			require.Error(t, gotErr, value)
			assert.Equal(t, isMismatch(wantErr), isMismatch(gotErr), "%s: %v", value, gotErr)
			assert.Equal(t, errors.Is(wantErr, errPicky), errors.Is(gotErr, errPicky), value)
		}
		require.True(t, s.More(), value)
		var next string
		require.NoError(t, s.Decode(&next), value)
		assert.Equal(t, "next", next)
		require.False(t, s.More())
		token, err := s.Token()
		require.NoError(t, err)
		assert.Equal(t, json.Delim(']'), token)
		_, err = s.Token()
		assert.Equal(t, io.EOF, err, "bare")
	}
}

func isMismatch(err error) bool {
	_, ok := errors.AsType[*json.UnmarshalTypeError](err)
	return ok
}

// begun returns a stream whose first token has been read.
func begun(t *testing.T, text string) *wire.Stream {
	t.Helper()
	s := wire.NewStream(iotest.OneByteReader(strings.NewReader(text)))
	_, err := s.Token()
	require.NoError(t, err)
	return s
}

func TestStreamTokens(t *testing.T) {
	t.Parallel()
	s := wire.NewStream(strings.NewReader(`{"a":[true,false,null,"x\n",1]}`))
	var tokens []json.Token
	for {
		token, err := s.Token()
		if errors.Is(err, io.EOF) {
			break
		}
		require.NoError(t, err)
		tokens = append(tokens, token)
	}
	require.Len(t, tokens, 10)
	assert.Equal(t, []json.Token{
		json.Delim('{'), "a", json.Delim('['), true, false, nil, "x\n",
	}, tokens[:7])
	assert.Equal(t, []json.Token{json.Delim(']'), json.Delim('}')}, tokens[8:])
}

// If a value cannot be read, InputOffset is its beginning, and every further call returns the same
// error.
func TestStreamThatBreaks(t *testing.T) {
	t.Parallel()
	broken := errors.New("the connection broke")
	for text, want := range map[string]struct {
		text string
		is   error
	}{
		`[1 ,x]`:          {text: "invalid character 'x'"},
		`[1 ,{"a":1,]`:    {text: "invalid character ']'"},
		`[1 ,{"a":[tru`:   {is: io.ErrUnexpectedEOF},
		`[1 ,{"a":{"b":"`: {is: io.ErrUnexpectedEOF},
	} {
		s := begun(t, text)
		var v json.RawMessage
		require.NoError(t, s.Decode(&v))
		require.True(t, s.More())
		err := s.Decode(&v)
		require.ErrorContains(t, err, want.text, text)
		if want.is != nil {
			require.ErrorIs(t, err, want.is, text)
		}
		assert.Equal(t, int64(4), s.InputOffset(), text)
		again := s.Decode(&v)
		assert.Equal(t, err, again, text)

		read := wire.NewStream(io.MultiReader(strings.NewReader(text[:4]), iotest.ErrReader(broken)))
		_, err = read.Token()
		require.NoError(t, err)
		require.NoError(t, read.Decode(&v))
		require.True(t, read.More())
		require.ErrorIs(t, read.Decode(&v), broken)
	}
	// A value that has a wrong type and is then cut off counts as cut off.
	s := begun(t, `[{"length":"x","number":[1,`)
	require.ErrorIs(t, s.Decode(new(record)), io.ErrUnexpectedEOF)
}

// Long white space that comes byte by byte is not looked at again after each of them: that would
// take minutes.
func TestStreamOfLongWhiteSpace(t *testing.T) {
	t.Parallel()
	text := "[true" + strings.Repeat(" ", 1<<20) + "]"
	s := wire.NewStream(iotest.OneByteReader(strings.NewReader(text)))
	for _, want := range []json.Token{json.Delim('['), true, json.Delim(']')} {
		got, err := s.Token()
		require.NoError(t, err)
		assert.Equal(t, want, got)
	}
	assert.Equal(t, int64(len(text)), s.InputOffset())
}
