package cli

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"slices"
	"strings"

	"github.com/itchyny/gojq"
	"go.yaml.in/yaml/v3"
)

// redacted stands for a secret in all output.
const redacted = "[redacted]"

// printer writes data to standard output: whole values, or items as they come.
type printer struct {
	out    io.Writer
	format string
	query  *gojq.Code
	reveal bool
	table  *table
	names  []string // the columns of csv
	screen screen
	items  []any // for json and yaml, which need the whole list
	listed bool
}

func newPrinter(a *app) (*printer, error) {
	p := &printer{out: a.out, format: a.output, reveal: a.showSecrets, screen: screenOf(a.out)}
	if p.format == "" {
		p.format = "ndjson"
		if p.screen.terminal {
			p.format = "table"
		}
		if a.jq != "" {
			p.format = "ndjson"
		}
	}
	if a.jq == "" {
		return p, nil
	}
	query, err := gojq.Parse(a.jq)
	if err != nil {
		return nil, fmt.Errorf("--jq: %w", err)
	}
	if p.query, err = gojq.Compile(query); err != nil {
		return nil, fmt.Errorf("--jq: %w", err)
	}
	return p, nil
}

// formats are the values of --output.
func formats() []string { return []string{"table", "json", "ndjson", "yaml", "csv", "id"} }

// print writes one value: JSON bytes, or what encoding/json can write. kind may be nil.
func (a *app) print(kind *resource, v any) error {
	value, err := plain(v)
	if err != nil {
		return err
	}
	return a.printer.value(kind, value, false)
}

// printItem writes one item of a list. flush ends the list.
func (a *app) printItem(kind *resource, v any) error {
	value, err := plain(v)
	if err != nil {
		return err
	}
	return a.printer.value(kind, value, true)
}

// plain turns v into what encoding/json decodes, with whole numbers as int.
func plain(v any) (any, error) {
	var raw []byte
	switch v := v.(type) {
	case []byte:
		raw = v
	case json.RawMessage:
		raw = v
	default:
		var err error
		if raw, err = json.Marshal(v); err != nil {
			return nil, err
		}
	}
	if len(bytes.TrimSpace(raw)) == 0 {
		return map[string]any{}, nil
	}
	dec := json.NewDecoder(bytes.NewReader(raw))
	dec.UseNumber()
	var value any
	if err := dec.Decode(&value); err != nil {
		return nil, err
	}
	return numbers(value), nil
}

// numbers replaces each json.Number by an int where it is whole, else by a float64: what gojq
// calculates with.
func numbers(v any) any {
	switch v := v.(type) {
	case map[string]any:
		for k, item := range v {
			v[k] = numbers(item)
		}
	case []any:
		for i, item := range v {
			v[i] = numbers(item)
		}
	case json.Number:
		if n, err := v.Int64(); err == nil && n >= math.MinInt && n <= math.MaxInt {
			return int(n)
		}
		f, _ := v.Float64()
		return f
	}
	return v
}

func (p *printer) value(kind *resource, v any, item bool) error {
	if !p.reveal {
		v = mask(v)
	}
	if item && p.wholeLists() {
		p.items, p.listed = append(p.items, v), true
		return nil
	}
	if p.query != nil {
		return p.filter(kind, v)
	}
	return p.write(kind, v, item)
}

// wholeLists reports whether a list is written, and filtered by jq, as one value.
func (p *printer) wholeLists() bool { return p.format == "json" || p.format == "yaml" }

// filter writes what the jq expression makes of v.
func (p *printer) filter(kind *resource, v any) error {
	results := p.query.Run(v)
	for {
		result, more := results.Next()
		if !more {
			return nil
		}
		if err, failed := result.(error); failed {
			if halt, ok := errors.AsType[*gojq.HaltError](err); ok && halt.Value() == nil {
				return nil
			}
			return fmt.Errorf("--jq: %w", err)
		}
		if text, ok := result.(string); ok && p.format == "ndjson" {
			if _, err := fmt.Fprintln(p.out, text); err != nil {
				return err
			}
			continue
		}
		if err := p.write(kind, result, false); err != nil {
			return err
		}
	}
}

func (p *printer) write(kind *resource, v any, item bool) error {
	switch p.format {
	case "id":
		fields, _ := v.(map[string]any)
		id, ok := fields["id"]
		if !ok {
			return errors.New("--output id: this has no id")
		}
		_, err := fmt.Fprintln(p.out, id)
		return err
	case "ndjson":
		return p.json(v, "")
	case "csv":
		return p.csv(v)
	case "json", "yaml":
		return p.whole(v)
	}
	if fields, ok := v.(map[string]any); ok {
		if item && kind != nil {
			return p.row(kind, fields)
		}
		return p.fields(fields)
	}
	return p.json(v, "  ")
}

func (p *printer) whole(v any) error {
	if p.format == "json" {
		return p.json(v, "  ")
	}
	text, err := yaml.Marshal(v)
	if err == nil {
		_, err = p.out.Write(text)
	}
	return err
}

func (p *printer) json(v any, indent string) error {
	enc := json.NewEncoder(p.out)
	enc.SetEscapeHTML(false)
	enc.SetIndent("", indent)
	return enc.Encode(v)
}

// list begins a list: one without items is then written as an empty one.
func (p *printer) list() { p.listed = true }

// flushRows writes the rows of a list that goes on.
func (p *printer) flushRows() error { return p.writeRows(true) }

func (p *printer) writeRows(live bool) error {
	if p.table == nil {
		return nil
	}
	return p.table.write(p.out, p.screen, live)
}

// flush writes what was kept back until the end of a list.
func (p *printer) flush() error {
	if err := p.writeRows(false); err != nil {
		return err
	}
	p.table = nil
	if !p.listed || !p.wholeLists() {
		return nil
	}
	p.listed = false
	list := append([]any{}, p.items...)
	if p.query != nil {
		return p.filter(nil, list)
	}
	return p.whole(list)
}

// secretFields are the names under which the API sends or takes secrets.
func secretFields() []string {
	return []string{
		"token", "secret", "password", "code", "credentials", "signed_url", "signed_urls",
		"private_key",
	}
}

// mask replaces every secret in v.
func mask(v any) any {
	switch v := v.(type) {
	case map[string]any:
		masked := make(map[string]any, len(v))
		for name, item := range v {
			if item != nil && item != "" && slices.Contains(secretFields(), strings.ToLower(name)) {
				masked[name] = redacted
				continue
			}
			masked[name] = mask(item)
		}
		return masked
	case []any:
		masked := make([]any, len(v))
		for i, item := range v {
			masked[i] = mask(item)
		}
		return masked
	}
	return v
}
