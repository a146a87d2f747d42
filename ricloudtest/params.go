package ricloudtest

import (
	"bytes"
	"encoding/json"
	"net/url"
	"strconv"
	"strings"
	"time"
)

// object is a JSON object on its way out.
type object = map[string]any

// params reads a request body. A getter notes what is wrong under the
// parameter's dotted name; err returns all of it as one answer.
type params struct {
	prefix string
	values object
	wrong  map[string]string // shared with nested objects
}

// parseParams accepts an object, null or nothing, as the vendor's own client
// sends all three.
func parseParams(body []byte) (*params, error) {
	p := &params{wrong: map[string]string{}}
	if len(bytes.TrimSpace(body)) == 0 {
		return p, nil
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

func (p *params) require(names ...string) {
	for _, name := range names {
		if !p.has(name) || p.values[name] == "" {
			p.note(name, "is required")
		}
	}
}

// ref reads an ID: a string, a number or an object that has one.
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
	at, ok := parseTime(text)
	if !ok {
		p.note(name, "must be an ISO 8601 time")
	}
	return at
}

// object reads a nested object; a missing one is empty.
func (p *params) object(name string) *params {
	values, ok := p.values[name].(object)
	if !ok && p.has(name) {
		p.note(name, "must be an object")
	}
	return &params{prefix: p.prefix + name + ".", values: values, wrong: p.wrong}
}

// parseTime accepts a time without a zone as UTC: the vendor's client sends
// such ones.
func parseTime(text string) (time.Time, bool) {
	for _, layout := range []string{time.RFC3339Nano, "2006-01-02T15:04:05.999999999", time.DateOnly} {
		if at, err := time.Parse(layout, text); err == nil {
			return at, true
		}
	}
	return time.Time{}, false
}

// pageSize reads a list's limit.
func pageSize(query url.Values) (int, error) {
	const standard, most = 10, 1000
	if !query.Has("limit") {
		return standard, nil
	}
	limit, err := strconv.Atoi(query.Get("limit"))
	if err != nil || limit < 1 || limit > most {
		return 0, invalid("limit", "must be a number from 1 to "+strconv.Itoa(most))
	}
	return limit, nil
}

// dateFilter splits "date_created__gt".
// Assumption: the syntax is that of the vendor's client, a suffix of two
// underscores and gt, gte, lt or lte.
func dateFilter(name, value string) (func(time.Time) bool, bool) {
	field, comparison, _ := strings.Cut(name, "__")
	bound, ok := parseTime(value)
	if field != "date_created" || !ok {
		return nil, false
	}
	keep := map[string]func(time.Time) bool{
		"gt":  bound.Before,
		"gte": func(t time.Time) bool { return !t.Before(bound) },
		"lt":  bound.After,
		"lte": func(t time.Time) bool { return !t.After(bound) },
	}[comparison]
	return keep, keep != nil
}
