package wire

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestFileRefs(t *testing.T) {
	t.Parallel()
	for record, want := range map[string][]string{
		`{"files":[{"id":"a"},{"file_id":"b"},{"id":3}]}`:  {"a", "b", "3"},
		`{"files":{"id":"a"}}`:                             {"a"},
		`{"attachments":{"id":"a"}}`:                       {"a"},
		`{"file":{"id":{"id":"a"}}}`:                       {"a"},
		`{"id":{"id":"a"}}`:                                nil,
		`{"file":{"id":"a"}}`:                              {"a"},
		`{"file":[{"id":"a"}]}`:                            {"a"},
		`{"file":{"id":"wrong","file_id":"right"}}`:        {"right"},
		`{"file":{"id":"a","size":3,"nested":{"id":"b"}}}`: {"a"},
		`{"attachments":[{"file_id":"a"},{"file_id":"xdtouchx"},{"id":"b"},null]}`: {"a", "b"},
		`{"file_id":"a","type":"file","name":"IMG"}`:                               {"a"},
		`{"files":[{"id":"a"}],"file":{"id":"b"},"attachments":[{"file_id":"a"}]}`: {"b", "a"},
		// In the newest generation, a record may be a file itself.
		`{"id":"abc","data_type":"image"}`:                             {"abc"},
		`{"id":"abc","data_type":"file","name":"x"}`:                   {"abc"},
		`{"id":7,"data_type":"video"}`:                                 {"7"},
		`{"id":"a","data_type":"live_photo","mime_type":"image/heic"}`: {"a"},
		`{"id":"a","data_type":"live_photo"}`:                          nil,
		`{"id":"a","data_type":"ios_messages.messages","checksum":""}`: nil,
		`{"id":"a","type":"image","filepath":"DCIM/1"}`:                {"a"},
		`{"id":"a","type":"image"}`:                                    nil,
		`{"text":"hi","photo":{"id":"p","data_type":"image"}}`:         {"p"},
		`{"thread":[{"message":{"attachments":[{"id":"deep"}]}}]}`:     {"deep"},
		`{"avatar":{"file_id":"a"},"file_id":"b"}`:                     {"b", "a"},
		`{"id":"a"}`: nil,
		`{"file":"a path","files":{},"attachments":7}`: nil,
		`{"file":{"id":null},"files":[{"id":""}]}`:     nil,
		// Unusual spacing.
		"{ \"files\" : [ { \"id\" : \"a\" } ,\n\t{ \"id\" : \"b\" } ] }": {"a", "b"},
		`{"\u0066iles":[{"\u0069d":"a\u00e9\"\\"}]}`:                     {`aé"\`},
		`{"x":"\"file\":{\"id\":\"a\"}","file":{"id":"b"}}`:              {"b"},
		`{"x":"\\","file":{"id":"b"}}`:                                   {"b"},
		`{"files":[{"id":"a"},{"id":"b"},{"id":"a"}]}`:                   {"a", "b"},
		`[]`: nil, `x`: nil, ``: nil, `null`: nil, `"file"`: nil, `{"file":{"id":"a"}`: nil,
	} {
		assert.Equal(t, want, FileRefs([]byte(record)), record)
	}
}

// Time grows linearly: ten times the references take ten times as long, not a hundred times.
func TestFileRefsAreLinear(t *testing.T) {
	t.Parallel()
	var record strings.Builder
	record.WriteString(`{"files":[{"id":"0"}`)
	for i := 1; i < 100_000; i++ {
		fmt.Fprintf(&record, `,{"id":"%d"}`, i)
	}
	record.WriteString(`]}`)
	assert.Len(t, FileRefs([]byte(record.String())), 100_000) // quadratic time: minutes
}

func FuzzFileRefs(f *testing.F) {
	for _, s := range []string{
		`{"file":{"id":"a"}}`, `{"files":[{"file_id":1}]}`,
		`[{"data_type":"image","id":"\\"}]`, `{"a":"\""}`,
		`[-0.5e+1,1E9,true,false,null,"\u00e9\n",{}, []]`, `[01]`, `[1.]`, `["\x"]`, `[1e]`, `[-]`,
	} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, record string) {
		refs := FileRefs([]byte(record))
		if len(refs) > 0 {
			require.True(t, json.Valid([]byte(record)))
		}
		s := refScanner{data: []byte(record)}
		require.Equal(t, json.Valid([]byte(record)), s.document(), "%q", record)
		for _, ref := range refs {
			assert.NotEmpty(t, ref)
		}
	})
}

// What is not JSON refers to no file. Nesting is limited as in encoding/json.
func TestFileRefsOfWhatIsNotJSON(t *testing.T) {
	t.Parallel()
	const ref = `"file":{"id":"a"}`
	for _, record := range []string{
		`{` + ref, `{` + ref + `}x`, `{` + ref + `,}`, `{` + ref + `,"x"}`, `{` + ref + `,"x":}`,
		`{` + ref + `,x:1}`, `{` + ref + `,"x":tru}`, `{` + ref + `,"x":01}`, `{` + ref + `,"x":-}`,
		`{` + ref + `,"x":1.}`, `{` + ref + `,"x":1e+}`, `{` + ref + `,"x":"\x"}`,
		`{` + ref + `,"x":"\u00g0"}`, `{` + ref + `,"x":"\u00`, `{` + ref + `,"x":"\`,
		"{" + ref + ",\"x\":\"\n\"}", `{` + ref + `,"x":[1 2]}`, `{` + ref + `,"x":[1,]}`,
	} {
		assert.Empty(t, FileRefs([]byte(record)), record)
	}
	for depth, want := range map[int][]string{9999: {"a"}, 10_000: nil} {
		deep := `{` + ref + `,"x":` + strings.Repeat("[", depth) + strings.Repeat("]", depth) + `}`
		assert.Equal(t, want, FileRefs([]byte(deep)), depth)
		assert.Equal(t, want != nil, json.Valid([]byte(deep)))
	}
}
