package wire_test

import (
	"bytes"
	"encoding/json"
	"testing"

	"github.com/stretchr/testify/assert"

	"github.com/reincubate/ricloud-go/internal/wire"
)

func TestCut(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct{ body, rest, object string }{
		"in the middle": {
			body:   `{"id":"1","data":{"a":[{"data":{}}],"b":"}\"{"},"n":2}`,
			rest:   `{"id":"1","data":null,"n":2}`,
			object: `{"a":[{"data":{}}],"b":"}\"{"}`,
		},
		"with blanks": {
			body: "{ \"data\" :\n\t{ } }", rest: "{ \"data\" :\n\tnull }", object: `{ }`,
		},
		"only below":            {body: `{"x":{"data":{"a":1}},"y":[{"data":{}}]}`},
		"a value of the name":   {body: `{"x":"data","y":{"a":1}}`},
		"not an object":         {body: `{"data":[1]}`},
		"a string":              {body: `{"data":"{\"a\":1}"}`},
		"null":                  {body: `{"data":null}`},
		"twice":                 {body: `{"data":{"a":1},"data":{"a":2}}`},
		"twice, then something": {body: `{"data":{"a":1},"data":7}`},
		"in other letters":      {body: `{"data":{"a":1},"DATA":{"a":2}}`},
		"perhaps escaped":       {body: `{"data":{"a":1},"d\u0061ta":{"a":2}}`},
		"escaped":               {body: `{"d\u0061ta":{"a":2}}`},
		"not closed":            {body: `{"data":{"a":1`},
		"nothing":               {body: ``},
		"not an object at all":  {body: `"data":{}`},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			rest, object := wire.Cut([]byte(test.body), "data")
			if test.rest == "" {
				test.rest = test.body
			}
			assert.Equal(t, test.rest, string(rest))
			assert.Equal(t, test.object, string(object))
			assert.Equal(t, len(object), cap(object), "appending to one part changes the other")
		})
	}
}

// A damaged body never yields parts that look valid: the parts are valid exactly if the body is,
// and contain what encoding/json reads.
func TestCutOfDamagedBodies(t *testing.T) {
	t.Parallel()
	type event struct {
		ID   string          `json:"id"`
		Data json.RawMessage `json:"data"`
		Last any             `json:"last"`
	}
	body := []byte(`{"id":"a\"b","data" : {"data":{"x":[1,{}]},"y":"}\\"},"last":[{"data":2}]}`)
	check := func(body []byte) {
		var want, got event
		valid := json.Unmarshal(body, &want) == nil
		rest, object := wire.Cut(body, "data")
		read := json.Unmarshal(rest, &got) == nil && (object == nil || json.Valid(object))
		if object != nil {
			got.Data = object
		}
		if !assert.Equal(t, valid, read, "%s", body) || valid && !assert.Equal(t, want, got) {
			t.FailNow()
		}
	}
	for i := range body {
		for _, c := range []byte(`"\{}[],: dD0n`) {
			changed := bytes.Clone(body)
			changed[i] = c
			check(changed)
			check(append(append(bytes.Clone(body[:i]), c), body[i:]...))
		}
		check(append(bytes.Clone(body[:i]), body[i+1:]...))
		check(body[:i])
	}
}
