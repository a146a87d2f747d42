package ricloud

import (
	"encoding/json"
	"errors"
	"io"
	"strings"
	"testing"
	"testing/iotest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

type call struct {
	Number string `json:"number"`
	Length int    `json:"length"`
}

// collect returns the records and the errors that Records yields.
func collect[T any](r io.Reader) (records []T, failures []error) {
	for record, err := range Records[T](r) {
		if err != nil {
			failures = append(failures, err)
			continue
		}
		records = append(records, record)
	}
	return records, failures
}

func TestRecords(t *testing.T) {
	t.Parallel()
	a, b := call{"+44 1", 3}, call{"+44 2", 5}
	const two = `[{"number":"+44 1","length":3},{"number":"+44 2","length":5}]`
	for name, tc := range map[string]struct {
		document string
		want     []call
		err      string // "": no error
	}{
		"plain": {document: `{"data":` + two + `,"metadata":{"count":2}}`, want: []call{a, b}},
		"metadata first": {
			document: ` { "metadata" : {"count":2, "more":[1,{"x":[]}]} , "data": ` + two +
				` } `,
			want: []call{a, b},
		},
		"other members": {
			document: `{"x":{"data":[1,[2]]},"y":[],"z":"data","data":` + two +
				`,"n":null}`,
			want: []call{a, b},
		},
		"empty": {document: `{"data":[],"metadata":{"count":0}}`, want: nil},
		"data is null": {
			document: `{"data":null}`,
			want:     nil, err: "no array \"data\": it is null",
		},
		"data is a string":  {document: `{"data":"x"}`, want: nil, err: "it is a string"},
		"data is a number":  {document: `{"data":7}`, want: nil, err: "it is a number"},
		"data is a boolean": {document: `{"data":true}`, want: nil, err: "it is a boolean"},
		"data comes twice":  {document: `{"data":[],"data":[]}`, want: nil, err: "two arrays"},
		"neither":           {document: `{}`, want: nil, err: "no array \"data\""},
		"an error":          {document: `{"error":"server-error"}`, want: nil, err: "no array \"data\""},
		"metadata alone": {
			document: `{"metadata":{"count":0}}`,
			want:     nil, err: "no array \"data\"",
		},
		"null document": {document: `null`, want: nil, err: `want "{"`},
		"an error beside records": {
			document: `{"data":` + two + `,"errors":[{"code":"timeout"}],"metadata":{"count":2}}`,
			want:     []call{a, b}, err: "the document reports an error, so records may be missing",
		},
		"an error beside no records": {
			document: `{"error":"server-error","data":[]}`, err: "the document reports an error",
		},
		"no error": {
			document: `{"error":null,"errors":[],"data":` + two + `}`, want: []call{a, b},
		},
		"count is a string": {
			document: `{"data":` + two + `,"metadata":{"count":"2"}}`,
			want:     []call{a, b},
		},
		"count is a wrong string": {
			document: `{"data":` + two + `,"metadata":{"count":"3"}}`,
			want:     []call{a, b}, err: "it is 2, metadata.count is 3",
		},
		"count is a word": {
			document: `{"data":` + two + `,"metadata":{"count":"two"}}`,
			want:     []call{a, b}, err: "it is 2, metadata.count is not a number",
		},
		"count is null": {
			document: `{"data":` + two + `,"metadata":{"count":null}}`,
			want:     []call{a, b},
		},
		"count has a fraction": {
			document: `{"data":` + two + `,"metadata":{"count":2.0}}`,
			want:     []call{a, b},
		},
		"count is an exponent": {
			document: `{"data":` + two + `,"metadata":{"count":2e0}}`,
			want:     []call{a, b},
		},
		"count is negative": {
			document: `{"data":` + two + `,"metadata":{"count":-1}}`,
			want:     []call{a, b}, err: "it is 2, metadata.count is -1",
		},
		"count is an object": {
			document: `{"data":` + two + `,"metadata":{"count":{}}}`,
			want:     []call{a, b}, err: "it is 2, metadata.count is not a number",
		},
		"metadata is null": {
			document: `{"data":` + two + `,"metadata":null}`,
			want:     []call{a, b},
		},
		"metadata of another": {
			document: `{"data":` + two + `,"metadata":[9]}`,
			want:     []call{a, b},
		},
		"count is too large": {
			document: `{"data":` + two + `,"metadata":{"count":99999999999999999999}}`,
			want:     []call{a, b}, err: "it is 2, metadata.count is 99999999999999999999",
		},
		"count is beyond all": {
			document: `{"data":` + two + `,"metadata":{"count":1e999}}`,
			want:     []call{a, b}, err: "metadata.count is 1e999",
		},
		"count is no whole number": {
			document: `{"data":` + two + `,"metadata":{"count":2.5}}`,
			want:     []call{a, b}, err: "metadata.count is 2.5",
		},
		"count comes twice": {
			document: `{"data":` + two + `,"metadata":{"count":3,"cou\u006et":2}}`,
			want:     []call{a, b}, err: `"metadata.count" comes twice`,
		},
		"metadata comes twice": {
			document: `{"metadata":{},"data":` + two + `,"metadata":{"count":2}}`,
			want:     []call{a, b}, err: "comes twice",
		},
		"too few": {
			document: `{"data":` + two + `,"metadata":{"count":3}}`,
			want:     []call{a, b}, err: "it is 2, metadata.count is 3",
		},
		"too many": {
			document: `{"metadata":{"count":1},"data":` + two + `}`,
			want:     []call{a, b}, err: "it is 2, metadata.count is 1",
		},
		"one does not fit": {
			document: `{"data":[{"number":"+44 1","length":3},{"number":44123},` +
				`{"number":"+44 2","length":5}]}`,
			want: []call{a, b},
			err:  "record 1, at byte 39: cannot decode number: got number, want string",
		},
		"one breaks off": {
			document: `{"data":[{"number":"+44 1","length":3},{"number":"`,
			want:     []call{a}, err: "record 1, at byte 39: unexpected EOF",
		},
		"breaks off after one": {
			document: `{"data":[{"number":"+44 1","length":3}`,
			want:     []call{a}, err: "record 1, at byte 38: unexpected EOF",
		},
		"breaks off at the end": {
			document: `{"data":[{"number":"+44 1","length":3}]`,
			want:     []call{a}, err: "unexpected EOF",
		},
		"nothing":           {document: ``, want: nil, err: "unexpected EOF"},
		"not JSON":          {document: `<html>`, want: nil, err: "invalid character '<'"},
		"an array":          {document: `[]`, want: nil, err: `want "{"`},
		"data is an object": {document: `{"data":{}}`, want: nil, err: "it is an object"},
		"garbage in an array": {
			document: `{"data":[{"number":"+44 1","length":3},x]}`,
			want:     []call{a}, err: "record 1, at byte 39: invalid character 'x'",
		},
		"more data after the end": {
			document: `{"data":[]} {}`,
			want:     nil, err: "more data after the end",
		},
		"garbage follows": {document: `{"data":[]} x`, want: nil, err: "invalid character 'x'"},
		"a bracket does not fit": {
			document: `{"data":[{"number":"+44 1","length":3}}`,
			want:     []call{a}, err: "invalid character '}'",
		},
		"a number beyond all, in what is skipped": {
			document: `{"x":[1e999,-1e999],"data":` + two + `}`,
			want:     []call{a, b},
		},
		"deep, in what is skipped": {
			document: `{"x":` + strings.Repeat("[", 9000) + strings.Repeat("]", 9000) + `,"data":[]}`,
			want:     nil,
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			for _, r := range []io.Reader{
				strings.NewReader(tc.document),
				iotest.OneByteReader(strings.NewReader(tc.document)),
			} {
				got, failures := collect[call](r)
				assert.Equal(t, tc.want, got)
				if tc.err == "" {
					assert.Empty(t, failures)
					continue
				}
				require.Len(t, failures, 1)
				require.ErrorContains(t, failures[0], tc.err)
				var at *RecordError
				require.ErrorAs(t, failures[0], &at)
				assert.NotContains(t, failures[0].Error(), "44123", "a value is in the error")
			}
		})
	}
}

// A document that is cut off anywhere is an error, and never looks complete.
func TestRecordsThatBreakOff(t *testing.T) {
	t.Parallel()
	document := `{"x":{"y":[1,{}]},"data":[{"number":"+44 \u0031","length":3},{"number":"",` +
		`"length":-5e1}],"metadata":{"count":2}}`
	for n := range len(document) {
		_, failures := collect[json.RawMessage](strings.NewReader(document[:n]))
		require.Len(t, failures, 1, "%d bytes", n)
		require.ErrorIs(t, failures[0], io.ErrUnexpectedEOF, "%d bytes", n)
		require.NotErrorIs(t, failures[0], io.EOF, "%d bytes", n)
		_, failures = collect[json.RawMessage](io.MultiReader(strings.NewReader(document[:n]),
			iotest.ErrReader(ErrChecksum)))
		require.Len(t, failures, 1, "%d bytes", n)
		require.ErrorIs(t, failures[0], ErrChecksum, "%d bytes", n)
	}
	_, failures := collect[json.RawMessage](strings.NewReader(document))
	assert.Empty(t, failures)
}

// The errors of some types quote the value that they cannot decode. RecordError does not quote it,
// and keeps those errors for errors.As.
func TestRecordErrorsQuoteNoValue(t *testing.T) {
	t.Parallel()
	type fussy struct {
		At     time.Time     `json:"at"`
		Number int           `json:"number,string"`
		Raw    []byte        `json:"raw"`
		Bits   float32       `json:"bits"`
		Length time.Duration `json:"length"`
		Small  int8          `json:"small"`
		Of     map[int]int   `json:"of"`
	}
	for _, record := range []string{
		`{"at":"canary"}`, `{"at":7712345}`, `{"number":"canary"}`, `{"number":7712345}`,
		`{"number":"7712345x"}`, `{"raw":"canary!"}`, `{"bits":7712345e99}`, `{"length":"canary"}`,
		`{"small":7712345}`, `{"of":{"canary":1}}`, `{"of":{"7712345":7712345e30}}`, `"canary"`,
		`7712345`,
	} {
		for _, err := range Records[fussy](strings.NewReader(`{"data":[` + record + `]}`)) {
			require.ErrorContains(t, err, "record 0, at byte 9: cannot decode", record)
			assert.NotContains(t, err.Error(), "canary")
			assert.NotContains(t, err.Error(), "7712345")
		}
	}
	for _, err := range Records[fussy](strings.NewReader(`{"data":[{"at":"canary"}]}`)) {
		parse, ok := errors.AsType[*time.ParseError](err)
		require.True(t, ok)
		assert.Equal(t, "canary", parse.Value)
	}
}

func TestRecordsReadToTheEnd(t *testing.T) {
	t.Parallel()
	document := `{"data":[1,2],"metadata":{"count":2}}`
	got, failures := collect[int](io.MultiReader(strings.NewReader(document),
		iotest.ErrReader(ErrChecksum)))
	assert.Equal(t, []int{1, 2}, got)
	require.Len(t, failures, 1)
	require.ErrorIs(t, failures[0], ErrChecksum)

	_, failures = collect[int](strings.NewReader(`{"data":[1],"metadata":{"count":2}}`))
	require.Len(t, failures, 1)
	require.ErrorIs(t, failures[0], ErrRecordCount)
}

func TestRecordsOfNoReader(t *testing.T) {
	t.Parallel()
	_, failures := collect[int](nil)
	require.Len(t, failures, 1)
	var refused *ParamError
	require.ErrorAs(t, failures[0], &refused)
	assert.Equal(t, "r", refused.Field)
}

func TestRecordsStops(t *testing.T) {
	t.Parallel()
	r := io.MultiReader(strings.NewReader(`{"data":[1,2,`),
		iotest.ErrReader(errors.New("must not be read")))
	for n, err := range Records[int](r) {
		require.NoError(t, err)
		if n == 2 {
			break
		}
	}
	for _, err := range Records[int](strings.NewReader(`{"data":["x","y"]}`)) {
		require.Error(t, err)
		break
	}
}

func FuzzRecords(f *testing.F) {
	for _, s := range []string{
		`{"data":[1,{"a":[]},null],"metadata":{"count":3}}`, `{"data":[1,`,
		`{"x":[[]],"data":[]}`, `[`, `{"data":[1 2]}`,
	} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, document string) {
		records, failures := collect[json.RawMessage](strings.NewReader(document))
		if len(failures) == 0 {
			require.True(t, json.Valid([]byte(document)), "accepted what is not JSON")
		} else if hasOneData(document) {
			assert.ErrorIs(t, failures[len(failures)-1], ErrRecordCount, "refused what is good")
		}
		for _, r := range records {
			assert.True(t, json.Valid(r))
			FileRefs(r)
		}
	})
}

// hasOneData reports whether the document certainly has one array "data" at its top level. It has
// no escapes, so no other spelling of the name can occur.
func hasOneData(document string) bool {
	var top map[string]json.RawMessage
	return json.Unmarshal([]byte(document), &top) == nil &&
		strings.HasPrefix(string(top["data"]), "[") &&
		strings.Count(document, "data") == 1 && !strings.Contains(document, `\`)
}

// A file's own document may hold one object where others hold a list. Its references are found too.
func TestFileRefsOfASingleObject(t *testing.T) {
	t.Parallel()
	document := `{"data":{"name":"a","file_id":"f1","nested":[{"file_id":"f2"}]}}`
	refs, err := readFileRefs(strings.NewReader(document), true)
	require.NoError(t, err)
	assert.Equal(t, FileRefs([]byte(`{"file_id":"f1","nested":[{"file_id":"f2"}]}`)), refs)
	assert.Len(t, refs, 2)
	for _, broken := range []string{
		`{"data":{"name":`, `{"data":{"name":"a"`, `{"data":{"name" 1}}`, `{"data":{1:2}}`,
	} {
		_, err := readFileRefs(strings.NewReader(broken), true)
		require.Error(t, err, broken)
	}
	for _, text := range []string{"", "  BEGIN:VCARD", `[{"file_id":"f1"}]`} {
		refs, err := readFileRefs(strings.NewReader(text), false)
		require.NoError(t, err)
		assert.Empty(t, refs)
		_, err = readFileRefs(strings.NewReader(text), true)
		require.Error(t, err, "a result that says that it has records must have them")
	}
	for _, marked := range []string{
		"\xef\xbb\xbf{\"data\":[]}", "\xff\xfe{\x00}\x00", "\xfe\xff\x00{\x00}",
	} {
		_, err := readFileRefs(strings.NewReader(marked), false)
		require.ErrorContains(t, err, "invalid character", "a document that cannot be read is not none")
	}
	document = `{"data":{"file_id":"f1"},"metadata":{"count":7}}`
	refs, err = readFileRefs(strings.NewReader(document), true)
	require.NoError(t, err, "the count is of something within the object")
	assert.Equal(t, []ID{"f1"}, refs)
}

// Records have nothing of the records before them, and keep what they have.
func TestRecordsShareNothing(t *testing.T) {
	t.Parallel()
	const document = `{"data":[{"n":1,"list":[1,2],"map":{"a":1},"p":5},{"list":[3]},` +
		`{"map":{"b":2}},{}]}`
	type record struct {
		N    int            `json:"n"`
		List []int          `json:"list"`
		Map  map[string]int `json:"map"`
		P    *int           `json:"p"`
	}
	five := 5
	typed, failures := collect[record](strings.NewReader(document))
	require.Empty(t, failures)
	assert.Equal(t, []record{
		{N: 1, List: []int{1, 2}, Map: map[string]int{"a": 1}, P: &five},
		{List: []int{3}},
		{Map: map[string]int{"b": 2}},
		{},
	}, typed)
	raw, failures := collect[json.RawMessage](strings.NewReader(document))
	require.Empty(t, failures)
	require.Len(t, raw, 4)
	assert.JSONEq(t, `{"n":1,"list":[1,2],"map":{"a":1},"p":5}`, string(raw[0]))
	assert.JSONEq(t, `{"list":[3]}`, string(raw[1]))
	maps, failures := collect[map[string]any](strings.NewReader(document))
	require.Empty(t, failures)
	require.Len(t, maps, 4)
	assert.Equal(t, map[string]any{"list": []any{3.0}}, maps[1])
	assert.Equal(t, map[string]any{}, maps[3])
}

// If damage breaks the JSON, the error still says that the file is damaged.
func TestRecordsOfADamagedFile(t *testing.T) {
	t.Parallel()
	const text = `{"data": [{"a": 1}, {"a": 2}], "metadata": {"count": 2}}`
	for i := range len(text) {
		damaged := text[:i] + string(text[i]^0x10) + text[i+1:]
		var last error
		for _, err := range Records[json.RawMessage](io.MultiReader(strings.NewReader(damaged),
			iotest.ErrReader(ErrChecksum))) {
			last = err
		}
		require.ErrorIs(t, last, ErrChecksum, damaged)
	}
}

// A record can have any size, but what is beside the records is not held in memory whatever its
// size.
func TestRecordsOfALargeValue(t *testing.T) {
	t.Parallel()
	large := `"` + strings.Repeat("a", 20<<20) + `"`
	for name, tt := range map[string]struct {
		document []string
		want     int
		err      string
	}{
		"a record": {
			document: []string{`{"metadata":{"count":1},"data":[`, large, `],"x":"y","z":[1,2]}`}, want: 1,
		},
		"a string": {document: []string{`{"x":`, large, `,"data":[]}`}, err: "more than 16 MiB"},
		"a string within": {
			document: []string{`{"data":[1],"x":[{"y":`, large, `}]}`}, want: 1, err: "more than 16 MiB",
		},
		"a name":   {document: []string{`{`, large, `:1,"data":[]}`}, err: "more than 16 MiB"},
		"metadata": {document: []string{`{"metadata":[`, large, `],"data":[]}`}, err: "more than 16 MiB"},
		"many": {
			document: []string{`{"x":[`, strings.Repeat(large[:1<<20]+`",`, 20), `1],"data":[]}`},
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var parts []io.Reader
			for _, part := range tt.document {
				parts = append(parts, strings.NewReader(part))
			}
			n, failed := 0, error(nil)
			for _, err := range Records[json.RawMessage](io.MultiReader(parts...)) {
				if err != nil {
					failed = err
					continue
				}
				n++
			}
			assert.Equal(t, tt.want, n)
			if tt.err == "" {
				require.NoError(t, failed)
			} else {
				require.ErrorContains(t, failed, tt.err)
			}
		})
	}
}
