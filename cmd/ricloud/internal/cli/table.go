package cli

import (
	"cmp"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"golang.org/x/term"
)

// screen is what standard output can show.
type screen struct {
	terminal bool
	colour   bool
	width    int // 0: unbounded
}

func screenOf(out io.Writer) screen {
	f, ok := out.(*os.File)
	if !ok || !term.IsTerminal(int(f.Fd())) {
		return screen{}
	}
	s := screen{terminal: true, colour: os.Getenv("NO_COLOR") == "" && os.Getenv("TERM") != "dumb"}
	if width, _, err := term.GetSize(int(f.Fd())); err == nil {
		s.width = width
	}
	return s
}

// column is one column of a resource's table.
type column struct {
	title string
	value func(fields map[string]any) string
	least int // its width in a list that goes on, whose later rows are not known
}

// table collects rows, since their widths are known at the end only.
type table struct {
	columns []column
	rows    [][]string
	widths  []int // of what was written so far; nil: nothing
}

func (p *printer) row(kind *resource, fields map[string]any) error {
	if p.table == nil {
		p.table = &table{columns: kind.columns}
	}
	row := make([]string, len(kind.columns))
	for i, c := range kind.columns {
		row[i] = oneLine(c.value(fields))
	}
	p.table.rows = append(p.table.rows, row)
	return nil
}

// write writes the rows that were not yet written, cut to the screen's width: the widest columns
// give way.
func (t *table) write(out io.Writer, s screen) error {
	widths, rows := slices.Clone(t.widths), t.rows
	t.rows = nil
	if widths == nil {
		titles := make([]string, len(t.columns))
		for i, c := range t.columns {
			titles[i] = strings.ToUpper(c.title)
		}
		widths, rows = make([]int, len(t.columns)), slices.Insert(rows, 0, titles)
	}
	for i := range t.columns {
		widths[i] = max(widths[i], t.columns[i].least)
		for _, row := range rows {
			widths[i] = max(widths[i], utf8.RuneCountInString(row[i]))
		}
	}
	const gap = 2
	for s.width > 0 && sum(widths)+gap*(len(widths)-1) > s.width {
		widest := slices.Index(widths, slices.Max(widths))
		if widths[widest] <= 4 {
			break
		}
		widths[widest]--
	}
	t.widths = widths
	var b strings.Builder
	for _, row := range rows {
		for i, cell := range row {
			text := cut(cell, widths[i])
			if t.columns[i].title == "path" { // whose end tells it apart
				text = reversed(cut(reversed(cell), widths[i]))
			}
			pad := widths[i] - utf8.RuneCountInString(text)
			if s.colour {
				text = coloured(t.columns[i].title, text)
			}
			b.WriteString(text)
			if i < len(row)-1 {
				b.WriteString(strings.Repeat(" ", pad+gap))
			}
		}
		b.WriteByte('\n')
	}
	_, err := io.WriteString(out, b.String())
	return err
}

func sum(numbers []int) (total int) {
	for _, n := range numbers {
		total += n
	}
	return total
}

func cut(s string, width int) string {
	if utf8.RuneCountInString(s) <= width {
		return s
	}
	return string([]rune(s)[:max(width-1, 0)]) + "…"
}

func reversed(s string) string {
	runes := []rune(s)
	slices.Reverse(runes)
	return string(runes)
}

// coloured shows at a glance which states are good, bad and open.
func coloured(title, text string) string {
	if title != "state" || text == "STATE" {
		return text
	}
	colour := "33" // yellow
	switch text {
	case "active", "valid", "completed", "succeeded", "delivered", "available", "ok", "verified":
		colour = "32" // green
	case "failed", "invalid", "blocked", "expired", "locked", "deactivated":
		colour = "31" // red
	case "consumed", "deleted":
		colour = "2" // dim
	}
	return "\x1b[" + colour + "m" + text + "\x1b[0m"
}

// fields writes one value as lines of names and values.
func (p *printer) fields(fields map[string]any) error {
	names := make([]string, 0, len(fields))
	width := 0
	for name := range fields {
		names = append(names, name)
		width = max(width, utf8.RuneCountInString(name))
	}
	slices.SortFunc(names, func(a, b string) int {
		return cmp.Or(rank(a)-rank(b), strings.Compare(a, b))
	})
	for _, name := range names {
		if fields[name] == nil || name == "resource" {
			continue
		}
		text := oneLine(show(fields[name]))
		if strings.HasPrefix(name, "date_") {
			if ago := age(fields[name], time.Now()); ago != "" {
				text += " (" + ago + ")"
			}
		}
		if p.screen.colour {
			text = coloured(name, text)
		}
		if _, err := fmt.Fprintf(p.out, "%-*s  %s\n", width, name, text); err != nil {
			return err
		}
	}
	return nil
}

// rank puts what identifies a resource before the rest, and dates last.
func rank(name string) int {
	switch {
	case name == "id":
		return 0
	case name == "identifier", name == "type", name == "name":
		return 1
	case name == "state":
		return 2
	case name == "error":
		return 3
	case strings.HasPrefix(name, "date_"):
		return 5
	}
	return 4
}

// show returns a value as a person reads it.
func show(v any) string {
	switch v := v.(type) {
	case nil:
		return ""
	case string:
		return v
	case map[string]any:
		if id, ok := v["id"]; ok {
			return show(id)
		}
		if data, ok := v["data"].([]any); ok {
			return show(data)
		}
	case []any:
		parts := make([]string, len(v))
		for i, item := range v {
			parts[i] = show(item)
		}
		return strings.Join(parts, ", ")
	case int, float64, bool:
		return fmt.Sprint(v)
	}
	raw, err := json.Marshal(v)
	if err != nil {
		return fmt.Sprint(v)
	}
	return string(raw)
}

// age returns how long ago a date was, or how far ahead it is: "3m ago", "in 2h".
func age(v any, now time.Time) string {
	text, _ := v.(string)
	when, err := time.Parse(time.RFC3339, text)
	if err != nil {
		return ""
	}
	d := now.Sub(when)
	if d < 0 {
		return "in " + span(-d)
	}
	return span(d) + " ago"
}

func span(d time.Duration) string {
	switch {
	case d < time.Minute:
		return fmt.Sprintf("%ds", int(d.Seconds()))
	case d < time.Hour:
		return fmt.Sprintf("%dm", int(d.Minutes()))
	case d < 48*time.Hour:
		return fmt.Sprintf("%dh", int(d.Hours()))
	}
	return fmt.Sprintf("%dd", int(d.Hours()/24))
}
