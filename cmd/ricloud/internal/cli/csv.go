package cli

import (
	"encoding/csv"
	"encoding/json"
	"errors"
	"maps"
	"slices"
	"strings"
)

// csv writes v as a row. The fields of the first value are the columns of all.
func (p *printer) csv(v any) error {
	fields, ok := v.(map[string]any)
	if !ok {
		return errors.New("--output csv: a value is not an object")
	}
	out := csv.NewWriter(p.out)
	if p.names == nil {
		p.names = slices.Sorted(maps.Keys(fields))
		if err := out.Write(p.names); err != nil {
			return err
		}
	}
	row := make([]string, len(p.names))
	for i, name := range p.names {
		row[i] = cell(fields[name])
	}
	if err := out.Write(row); err != nil {
		return err
	}
	out.Flush()
	return out.Error()
}

// cell writes a value so that a spreadsheet does not take it for a formula.
func cell(v any) string {
	text := ""
	switch v := v.(type) {
	case map[string]any, []any:
		raw, err := json.Marshal(v)
		if err == nil {
			text = string(raw)
		}
	default:
		text = show(v)
	}
	if text != "" && strings.ContainsRune("=+-@\t\r", rune(text[0])) {
		if _, isNumber := v.(int); !isNumber {
			if _, isNumber := v.(float64); !isNumber {
				return "'" + text
			}
		}
	}
	return text
}
