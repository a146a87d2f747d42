package ricloudtest

import (
	"bytes"
	"encoding/json"
	"io"
	"net/http"
	"time"
	"unicode/utf8"

	"github.com/reincubate/ricloud-go/ricloudtest/internal/collection"
	"github.com/reincubate/ricloud-go/ricloudtest/internal/reply"
)

// object is a JSON object.
type object = reply.Object

// maxBody bounds a request's body. Nothing that the API knows comes near it.
const maxBody = 1 << 20

// readBody reads a request's body.
func readBody(r *http.Request) ([]byte, error) {
	if r.Body == nil {
		return nil, nil
	}
	var body bytes.Buffer
	n, err := io.Copy(&body, io.LimitReader(r.Body, maxBody+1))
	if err != nil || n > maxBody {
		return nil, badRequest(codeInvalidBody, "The body cannot be read, or exceeds a megabyte.")
	}
	return body.Bytes(), nil
}

// params reads a request body. A getter notes what is wrong under the parameter's dotted name, and
// err returns all of it as one answer.
type params struct {
	prefix string
	values object
	wrong  map[string]string // shared with nested objects
}

// parseParams accepts an object, null or an empty body: the vendor's client sends all three.
func parseParams(body []byte) (*params, error) {
	p := &params{wrong: map[string]string{}}
	if len(bytes.TrimSpace(body)) == 0 {
		return p, nil
	}
	if !utf8.Valid(body) {
		return nil, badRequest(codeInvalidBody, "The body is not UTF-8.")
	}
	decoder := json.NewDecoder(bytes.NewReader(body))
	decoder.UseNumber()
	if err := decoder.Decode(&p.values); err != nil || decoder.More() {
		return nil, badRequest(codeInvalidBody, "The body is not a JSON object.")
	}
	return p, nil
}

func (p *params) note(name, why string) { p.wrong[p.prefix+name] = why }

func (p *params) err() error {
	if len(p.wrong) == 0 {
		return nil
	}
	e := invalid("", "")
	e.params = p.wrong
	return e
}

func (p *params) has(name string) bool { return p.values[name] != nil }

// text reads a string.
func (p *params) text(name string) string {
	value, ok := p.values[name].(string)
	if !ok && p.has(name) {
		p.note(name, "must be a string")
	}
	return value
}

// flag reads a boolean, or nil where there is none.
func (p *params) flag(name string) *bool {
	value, ok := p.values[name].(bool)
	if !ok && p.has(name) {
		p.note(name, "must be true or false")
	}
	if !ok {
		return nil
	}
	return &value
}

func (p *params) require(names ...string) {
	for _, name := range names {
		if !p.has(name) || p.values[name] == "" {
			p.note(name, "is required")
		}
	}
}

// ref reads an ID: a string, a number, or an object that has one.
func (p *params) ref(name string) string {
	value := p.values[name]
	if nested, ok := value.(object); ok {
		value = nested["id"]
	}
	switch id := value.(type) {
	case string:
		return id
	case json.Number:
		return id.String()
	case nil:
		return ""
	}
	p.note(name, "must be an ID")
	return ""
}

// list reads an array of strings.
func (p *params) list(name string) []string {
	if !p.has(name) {
		return nil
	}
	values, ok := p.values[name].([]any)
	out := make([]string, 0, len(values))
	for _, value := range values {
		text, isText := value.(string)
		ok = ok && isText
		out = append(out, text)
	}
	if !ok {
		p.note(name, "must be a list of strings")
	}
	return out
}

// seconds reads a number of seconds.
func (p *params) seconds(name string) time.Duration {
	if !p.has(name) {
		return 0
	}
	number, _ := p.values[name].(json.Number)
	value, err := number.Float64()
	if err != nil || value < 0 || value > 1e9 {
		p.note(name, "must be a number of seconds")
		return 0
	}
	return time.Duration(value * float64(time.Second))
}

// when reads an ISO 8601 time.
func (p *params) when(name string) time.Time {
	text := p.text(name)
	if text == "" {
		return time.Time{}
	}
	at, ok := collection.ParseTime(text)
	if !ok {
		p.note(name, "must be an ISO 8601 time")
	}
	return at
}

// object reads a nested object. A missing one is empty.
func (p *params) object(name string) *params {
	values, ok := p.values[name].(object)
	if !ok && p.has(name) {
		p.note(name, "must be an object")
	}
	return &params{prefix: p.prefix + name + ".", values: values, wrong: p.wrong}
}
