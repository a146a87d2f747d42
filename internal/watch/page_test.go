package watch

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
)

func rawItems(page string) (items []json.RawMessage) {
	for raw := range strings.FieldsSeq(page) {
		items = append(items, json.RawMessage(raw))
	}
	return items
}

// What a list shows again without a change is not decoded again.
func TestWhatAListShowsAgainIsDecodedOnce(t *testing.T) {
	t.Parallel()
	p, decoded := NewPages[job](), 0
	decode := func(raw []byte) *job {
		decoded++
		return &job{id: string(raw)}
	}
	all := func(string) bool { return true }
	read := func(page string) []*job {
		got, ok := p.Page("", rawItems(page), all, decode)
		assert.True(t, ok)
		return got.Wanted
	}
	first := read(`{"id":"a","n":1}`)
	assert.Same(t, first[0], read(`{"id":"a","n":1}`)[0])
	assert.Equal(t, 1, decoded)
	assert.NotSame(t, first[0], read(`{"id":"a","n":2}`)[0], "it has changed")
	read(`{"id":"b"}`)
	read(`{"id":"b"}`)
	assert.Equal(t, 3, decoded)
	read(`{"id":"a","n":2}`)
	assert.Equal(t, 4, decoded, "the last two reads did not show it")
}

func TestPage(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		items  string
		depth  int
		wanted int
		last   string
		ok     bool
	}{
		"nothing": {ok: true},
		"the wanted among others": {
			items: `{"id":"x"} {"id":"a"} {"id":"y"} {"id":"a2"} {"id":"z"} {"id":"q"}`,
			depth: 4, wanted: 2, last: "q", ok: true,
		},
		"items without an id": {items: `{} {"id":"a"} {}`, depth: 2, wanted: 1, last: "a", ok: true},
		"no id at all":        {items: `{} {}`},
		"one that cannot be decoded": {
			items: `{"id":"a"} {"id":"a3","bad":1}`, depth: 1, wanted: 1, last: "a3", ok: true,
		},
	}
	for name, tc := range tests {
		page, ok := NewPages[job]().Page("behind", rawItems(tc.items),
			func(id string) bool { return id[0] == 'a' },
			func(raw []byte) *job {
				if strings.Contains(string(raw), "bad") {
					return nil
				}
				return new(job)
			})
		assert.Equal(t, tc.ok, ok, name)
		assert.Equal(t, tc.depth, page.Depth, name)
		assert.Len(t, page.Wanted, tc.wanted, name)
		assert.Equal(t, tc.last, page.Last, name)
		assert.Len(t, rawItems(tc.items), page.Len, name)
	}
}
