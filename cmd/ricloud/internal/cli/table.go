package cli

import (
	"cmp"
	"encoding/json"
	"fmt"
	"io"
	"maps"
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
	least int  // its width in a list that goes on, whose later rows are not known
	text  bool // it may be cut: what is cut of an id, a state or a date is of no use
	spare int  // it is left out of a screen that is too narrow, the highest number first; 0: never
}

// spared returns the column as one that a narrow screen can do without.
func (c column) spared(order int) column {
	c.spare = order
	return c
}

// cuttable returns the column as one that may be cut.
func (c column) cuttable() column {
	c.text = true
	return c
}

// table collects rows, since their widths are known at the end only.
type table struct {
	columns []column
	rows    [][]string
	widths  []int // of what was written so far, -1: left out; nil: nothing
	blocks  bool  // the screen is too narrow for a row per item
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

// gap is between two columns.
const gap = 2

// leastText is how far a column is cut before others are left out.
const leastText = 12

// write writes the rows that were not yet written. live says that more may follow.
func (t *table) write(out io.Writer, s screen, live bool) error {
	rows := t.rows
	t.rows = nil
	if t.widths == nil {
		t.layOut(rows, s.width, live)
		if !t.blocks {
			titles := make([]string, len(t.columns))
			for i, c := range t.columns {
				titles[i] = strings.ToUpper(c.title)
			}
			rows = slices.Insert(rows, 0, titles)
		}
	}
	var b strings.Builder
	for _, row := range rows {
		if t.blocks {
			t.block(&b, row, s)
		} else {
			t.line(&b, row, s)
		}
	}
	_, err := io.WriteString(out, b.String())
	return err
}

// layOut sets the widths of the columns. If they are too wide for the screen, what may be cut is
// cut, then columns that can be spared are left out. If that is not enough, each item is written
// as a block of lines.
func (t *table) layOut(rows [][]string, screen int, live bool) {
	t.widths = make([]int, len(t.columns))
	for i, c := range t.columns {
		t.widths[i] = utf8.RuneCountInString(c.title)
		if live {
			t.widths[i] = max(t.widths[i], c.least)
		}
		for _, row := range rows {
			t.widths[i] = max(t.widths[i], utf8.RuneCountInString(row[i]))
		}
	}
	for screen > 0 && t.width() > screen {
		widest, spare := -1, -1
		for i, c := range t.columns {
			if c.text && t.widths[i] > leastText && (widest < 0 || t.widths[i] > t.widths[widest]) {
				widest = i
			}
			if t.widths[i] >= 0 && c.spare > 0 && (spare < 0 || c.spare > t.columns[spare].spare) {
				spare = i
			}
		}
		switch {
		case widest >= 0:
			t.widths[widest]--
		case spare >= 0:
			t.widths[spare] = -1
			t.widen(rows, screen)
		default:
			t.blocks = true
			return
		}
	}
}

// widen gives the room of a column that was left out to those that were cut.
func (t *table) widen(rows [][]string, screen int) {
	for i, c := range t.columns {
		if !c.text || t.widths[i] < 0 {
			continue
		}
		whole := t.widths[i]
		for _, row := range rows {
			whole = max(whole, utf8.RuneCountInString(row[i]))
		}
		t.widths[i] = min(whole, t.widths[i]+max(0, screen-t.width()))
	}
}

// width returns how wide a line is.
func (t *table) width() int {
	total := -gap
	for _, width := range t.widths {
		if width >= 0 {
			total += width + gap
		}
	}
	return total
}

func (t *table) line(b *strings.Builder, row []string, s screen) {
	pad := 0
	for i, cell := range row {
		if t.widths[i] < 0 {
			continue
		}
		text := cut(cell, t.widths[i])
		b.WriteString(strings.Repeat(" ", pad))
		pad = t.widths[i] - utf8.RuneCountInString(text) + gap
		if s.colour {
			text = coloured(t.columns[i].title, text)
		}
		b.WriteString(text)
	}
	b.WriteByte('\n')
}

// block writes an item as lines: what identifies it, and below it what else it has.
func (t *table) block(b *strings.Builder, row []string, s screen) {
	b.WriteString(cut(row[0], s.width) + "\n")
	titles := 0
	for _, c := range t.columns[1:] {
		titles = max(titles, utf8.RuneCountInString(c.title))
	}
	for i, c := range t.columns[1:] {
		if row[i+1] == "" {
			continue
		}
		text := cut(row[i+1], max(s.width-titles-2*gap, leastText))
		if s.colour {
			text = coloured(c.title, text)
		}
		fmt.Fprintf(b, "%*s%-*s%*s%s\n", gap, "", titles, c.title, gap, "", text)
	}
}

func cut(s string, width int) string {
	if utf8.RuneCountInString(s) <= width {
		return s
	}
	return string([]rune(s)[:max(width-1, 0)]) + "…"
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
	width := 0
	for name := range fields {
		width = max(width, utf8.RuneCountInString(name))
	}
	inOrder := func(a, b string) int { return cmp.Or(rank(a)-rank(b), strings.Compare(a, b)) }
	for _, name := range slices.SortedFunc(maps.Keys(fields), inOrder) {
		if fields[name] == nil || name == "resource" {
			continue
		}
		text := cmp.Or(oneLine(show(fields[name])), "none")
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
		if len(v) == 0 {
			return ""
		}
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
