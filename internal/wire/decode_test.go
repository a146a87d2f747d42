package wire

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// thing is a resource that exists in no API.
type thing struct {
	ID     string           `json:"id" wire:"strict"`
	State  string           `json:"state" wire:"strict"`
	Name   string           `json:"name"`
	Count  int              `json:"count"`
	Ratio  float64          `json:"ratio"`
	Done   bool             `json:"done"`
	Since  time.Time        `json:"since"`
	Maybe  *bool            `json:"maybe"`
	Tags   []string         `json:"tags"`
	Limits map[string][]int `json:"limits"`
	Owner  owner            `json:"owner"`
	Parts  list             `json:"parts"`
	Extra  any              `json:"extra"`
}

// owner is written as an object or as its ID alone, and its name has two spellings.
type owner struct {
	ID   int    `json:"id" wire:"strict"`
	Name string `json:"name"`
}

func (o *owner) UnmarshalJSON(b []byte) error {
	if b[0] != '{' {
		return json.Unmarshal(b, &o.ID)
	}
	type plain owner
	aux := struct {
		*plain
		Nick string `json:"nick"`
	}{plain: (*plain)(o)}
	err := json.Unmarshal(b, &aux)
	if o.Name == "" {
		o.Name = aux.Nick
	}
	return err
}

// list is an object with its items in "data", or a bare array.
type list struct {
	Data  []thing `json:"data" wire:"strict"`
	Total int     `json:"total"`
}

func (l *list) UnmarshalJSON(b []byte) error {
	if b[0] == '[' {
		return json.Unmarshal(b, &l.Data)
	}
	type plain list
	return json.Unmarshal(b, (*plain)(l))
}

func TestDecodeKeepsTheRestOfAnAnswer(t *testing.T) {
	t.Parallel()
	whole := thing{ID: "1", State: "new"}
	tests := []struct {
		name string
		body string // fields in addition to the ID and the state
		want thing
		odd  []Oddity
	}{
		{name: "nothing odd", body: `"count":3,"unknown":[{}]`, want: thing{Count: 3}},
		{
			name: "string for an array", body: `"tags":"a"`,
			odd: []Oddity{{Path: "tags", Reason: "got string, want array"}},
		},
		{
			name: "object for a string", body: `"name":{}`,
			odd: []Oddity{{Path: "name", Reason: "got object, want string"}},
		},
		{
			name: "array for a string", body: `"name":[]`,
			odd: []Oddity{{Path: "name", Reason: "got array, want string"}},
		},
		{
			name: "words for a number", body: `"count":"three"`,
			odd: []Oddity{{Path: "count", Reason: "got string, want number"}},
		},
		{
			name: "empty for a number", body: `"count":""`,
			odd: []Oddity{{Path: "count", Reason: "got string, want number"}},
		},
		{
			name: "fraction for an integer", body: `"count":1.5`,
			odd: []Oddity{{Path: "count", Reason: "got number that does not fit int"}},
		},
		{
			name: "huge", body: `"count":1e300,"ratio":1e999`,
			odd: []Oddity{
				{Path: "count", Reason: "got number that does not fit int"},
				{Path: "ratio", Reason: "got number that does not fit float64"},
			},
		},
		{
			name: "words for a boolean", body: `"done":"maybe"`,
			odd: []Oddity{{Path: "done", Reason: "got string, want boolean"}},
		},
		{
			name: "words for a date", body: `"since":"yesterday"`,
			odd: []Oddity{{Path: "since", Reason: "got string, want a date"}},
		},
		{
			name: "number for a date", body: `"since":1571000000`,
			odd: []Oddity{{Path: "since", Reason: "got number, want a date"}},
		},
		{
			name: "array for an object", body: `"owner":[1]`,
			odd: []Oddity{{Path: "owner", Reason: "got array, want object"}},
		},
		{
			name: "behind a pointer", body: `"maybe":[]`,
			odd: []Oddity{{Path: "maybe", Reason: "got array, want boolean"}},
		},
		{
			name: "several", body: `"name":[],"tags":{},"count":7`, want: thing{Count: 7},
			odd: []Oddity{{
				Path:   "name",
				Reason: "got array, want string",
			}, {
				Path:   "tags",
				Reason: "got object, want array",
			}},
		},
		{
			name: "an item keeps its place", body: `"tags":["a",{},"c"]`,
			want: thing{Tags: []string{"a", "", "c"}}, odd: []Oddity{{
				Path:   "tags[1]",
				Reason: "got object, want string",
			}},
		},
		{
			name: "a value of a map", body: `"limits":{"a":[1],"b":7}`,
			want: thing{Limits: map[string][]int{"a": {1}}}, odd: []Oddity{{
				Path:   "limits.b",
				Reason: "got number, want array",
			}},
		},
		{
			name: "what is strict in a field that is not", body: `"owner":{"id":{},"name":"Jo"}`,
			want: thing{Owner: owner{Name: "Jo"}}, odd: []Oddity{{
				Path:   "owner.id",
				Reason: "got object, want number",
			}},
		},
		{
			name: "a name that no field has", body: `"owner":{"id":1,"nick":[]}`,
			want: thing{Owner: owner{ID: 1}}, odd: []Oddity{{
				Path:   "owner.nick",
				Reason: "got array, which does not fit",
			}},
		},
		{
			name: "an inner list", body: `"parts":{"data":[{"id":"2","state":7,"count":true}],"total":{}}`,
			want: thing{Parts: list{Data: []thing{{ID: "2", State: "7"}}}},
			odd: []Oddity{
				{Path: "parts.data[0].count", Reason: "got boolean, want number"},
				{Path: "parts.total", Reason: "got object, want number"},
			},
		},
		{name: "another case", body: `"Count":[]`, odd: []Oddity{{
			Path:   "Count",
			Reason: "got array, want number",
		}}},

		{
			name: "a number in a string", body: `"count":"3","ratio":"0.5"`,
			want: thing{Count: 3, Ratio: 0.5},
		},
		{name: "a whole number with a fraction", body: `"count":3.0`, want: thing{Count: 3}},
		{name: "both", body: `"count":"3.0"`, want: thing{Count: 3}},
		{name: "a number for a string", body: `"name":3.50`, want: thing{Name: "3.50"}},
		{name: "a boolean for a string", body: `"name":true`, want: thing{Name: "true"}},
		{name: "a boolean in a string", body: `"done":"true"`, want: thing{Done: true}},
		{
			name: "a number for a boolean", body: `"done":1,"maybe":0`,
			want: thing{Done: true, Maybe: new(false)},
		},
		{name: "an id alone", body: `"owner":"7"`, want: thing{Owner: owner{ID: 7}}},
		{name: "no id", body: `"owner":"x"`, odd: []Oddity{{
			Path:   "owner",
			Reason: "got string, want object",
		}}},
		{
			name: "null",
			body: `"name":null,"count":null,"done":null,"since":null,"tags":null,"owner":null,"parts":null`,
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			tt.want.ID, tt.want.State = whole.ID, whole.State
			got := thing{Name: "of an earlier use"}
			if len(tt.odd) == 0 {
				got = thing{}
			}
			odd, err := Decode([]byte(`{"id":"1","state":"new",`+tt.body+`}`), &got)
			require.NoError(t, err)
			assert.Equal(t, tt.odd, odd)
			assert.Equal(t, tt.want, got)
		})
	}
}

func TestDecodeRefusesWhatMatters(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name string
		body string
		v    any
		path string
		text string
	}{
		{name: "id", body: `{"id":7}`, v: new(thing), path: "id", text: "id: got number, want string"},
		{
			name: "state", body: `{"id":"1","state":{}}`, v: new(thing), path: "state",
			text: "got object, want string",
		},
		{
			name: "of an item", body: `{"data":[{"id":"1"},{"id":[]}],"total":"3"}`, v: new(list),
			path: "data[1].id", text: "want string",
		},
		{
			name: "of an item of an array", body: `[{"id":"1"},{"id":[]}]`, v: new(list), path: "[1].id",
			text: "want string",
		},
		{
			name: "an item", body: `{"data":["x"]}`, v: new(list), path: "data[0]",
			text: "got string, want object",
		},
		{
			name: "the items", body: `{"data":{}}`, v: new(list), path: "data",
			text: "got object, want array",
		},
		{name: "the document", body: `"x"`, v: new(thing), text: "got string, want object"},
		{
			name: "a type without tags", body: `{"A":[{"b":"x"}]}`, v: new(struct{ A []struct{ B int } }),
			path: "A[0].b", text: "got string, want number",
		},
		{name: "cut", body: `{"id":"1","state"`, v: new(thing), text: "unexpected end of JSON input"},
		{name: "not JSON", body: `<html>`, v: new(thing), text: "invalid character '<'"},
		{name: "nothing", body: ``, v: new(thing), text: "unexpected end of JSON input"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			odd, err := Decode([]byte(tt.body), tt.v)
			assert.Empty(t, odd)
			var e *Error
			require.ErrorAs(t, err, &e)
			assert.Equal(t, tt.path, e.Path)
			assert.ErrorContains(t, err, tt.text)
		})
	}
}

func TestDecodeReadsDatesInManySpellings(t *testing.T) {
	t.Parallel()
	want := time.Date(2018, 11, 22, 13, 49, 37, 0, time.UTC)
	for _, text := range []string{
		"2018-11-22T13:49:37Z", "2018-11-22T14:49:37+01:00", "2018-11-22T14:49:37+0100",
		"2018-11-22T13:49:37", "2018-11-22 13:49:37",
		"2018-11-22 14:49:37+01:00", "2018-11-22T13:49:37.000000Z", " 2018-11-22T13:49:37Z\n",
	} {
		var v thing
		text, err := json.Marshal(text)
		require.NoError(t, err)
		odd, err := Decode([]byte(`{"since":`+string(text)+`}`), &v)
		require.NoError(t, err)
		assert.Empty(t, odd, "%s", text)
		assert.True(t, want.Equal(v.Since), "%s: %v", text, v.Since)
	}
	var v thing
	odd, err := Decode([]byte(`{"since":"2018-11-22"}`), &v)
	require.NoError(t, err)
	assert.Empty(t, odd)
	assert.True(t, time.Date(2018, 11, 22, 0, 0, 0, 0, time.UTC).Equal(v.Since))
}

func TestDecodeBoundsWhatItReports(t *testing.T) {
	t.Parallel()
	var v list
	odd, err := Decode([]byte(`{"data":[`+strings.Repeat(`{"id":"1","count":[]},`, 1000)+`{}]}`), &v)
	require.NoError(t, err)
	assert.Len(t, v.Data, 1001)
	assert.Len(t, odd, maxOdd)
}

func TestDepthIsOfTheDocument(t *testing.T) {
	t.Parallel()
	for body, want := range map[string]int{
		`1`: 0, `{}`: 1, `[{"a":[]},[]]`: 3, `["[[["]`: 1, `["\"[[["]`: 1, `["]]]",[[]]]`: 3,
		`["\\",[[]]]`: 3, `["\\\"[",[]]`: 2, `["\"\"[",[]]`: 2, `["[`: 1, `["`: 1, `["\`: 1,
	} {
		assert.Equal(t, want, depth([]byte(body)), body)
	}
	deep := func(n int) []byte { return []byte(strings.Repeat("[", n) + strings.Repeat("]", n)) }
	_, err := Decode(deep(maxDepth), new(any))
	require.NoError(t, err)
	_, err = Decode(deep(maxDepth+1), new(any))
	require.ErrorContains(t, err, "nested deeper than 64")
}

func TestPattern(t *testing.T) {
	t.Parallel()
	for path, want := range map[string]string{
		"": "", "a.b": "a.b", "data[3].size": "data[].size", "[3].id": "[].id",
		"a[1][22].b[3]": "a[][].b[]", "a]b[": "a]b[",
	} {
		assert.Equal(t, want, Pattern(path), path)
	}
}
