package cli

import (
	"bytes"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

const (
	someID  = "e14c3607-0740-4df2-b233-27fc2cde032a"
	otherID = "1bbb16a9-9fef-4e97-8c45-f7a688198f2b"
)

// longest returns an item that fills every column of every resource.
func longest() map[string]any {
	return map[string]any{
		"id": someID, "name": "Getting started with a long name", "type": "icloud.account",
		"action": "completed", "state": "processing", "error": "credentials-invalid", "user": "1000",
		"source": "1000", "identifier": "somebody.with.a.long.name@example.com", "session": otherID,
		"poll": otherID, "target": "ios_messages.messages", "size": 1234567890, "retries": 10,
		"interval": 86400, "url": "https://receiver.example.com/webhooks/of/ours",
		"storage_config": "1", "webhook_config": "1", "date_created": "2020-01-01T00:00:00Z",
		"date_expires": "2020-01-01T00:00:00Z", "data": map[string]any{"id": otherID},
		"scopes": map[string]any{"a": 1}, "children": []any{1}, "results": []any{1, 2},
		"tasks_succeeded": []any{1}, "tasks_failed": []any{2}, "path": "out/data/callkit.calls",
		"duration": "12ms", "status": 200, "answer": "a long answer of a receiver, on one line",
	}
}

// tables returns every table that has rows of the API's resources.
func tables() []*resource {
	return append(resources(), deliveries(), fleetAccounts(), files("out"),
		verified("out", "id", "path", "state", "found"))
}

func printed(t *testing.T, kind *resource, width int, items ...map[string]any) string {
	t.Helper()
	var out bytes.Buffer
	p := &printer{out: &out, format: "table", screen: screen{terminal: true, width: width}}
	for _, item := range items {
		require.NoError(t, p.value(kind, item, true))
	}
	require.NoError(t, p.flush())
	return out.String()
}

func TestTablesFitTheScreenAndShowWholeIDs(t *testing.T) {
	t.Parallel()
	for _, width := range []int{40, 60, 80, 100, 120} {
		for _, kind := range tables() {
			text := printed(t, kind, width, longest(), longest())
			for line := range strings.Lines(text) {
				assert.LessOrEqual(t, utf8.RuneCountInString(strings.TrimSuffix(line, "\n")), width,
					"%s at %d:\n%s", kind.name, width, text)
			}
			if slices.ContainsFunc(kind.columns, func(c column) bool { return c.title == "state" }) {
				assert.Contains(t, text, "processing", "%s at %d: a state is never cut", kind.name, width)
			}
			if kind.columns[0].spare == 0 && !kind.columns[0].text {
				assert.Equal(t, 2, strings.Count(text, someID), "%s at %d:\n%s", kind.name, width, text)
			}
		}
	}
}

func TestTableLeavesOutWhatCanBeSpared(t *testing.T) {
	t.Parallel()
	kind := resourceNamed("results")
	item := longest()
	item["size"] = 383
	titles, _, _ := strings.Cut(printed(t, kind, 200, item), "\n")
	assert.Equal(t, []string{"ID", "IDENTIFIER", "TYPE", "SIZE", "STATE", "POLL", "CREATED"},
		strings.Fields(titles))
	titles, rows, _ := strings.Cut(printed(t, kind, 80, item), "\n")
	assert.Equal(t, []string{"ID", "IDENTIFIER", "SIZE", "STATE", "CREATED"}, strings.Fields(titles))
	assert.Contains(t, rows, "somebody.wit…", "the room of the columns that were left out is used")
	assert.Equal(t, someID+`
  identifier  somebody.with.a.long.name…
  type        icloud.account
  size        383
  state       processing
  poll        1bbb16a9-9fef-4e97-8c45-f…
  created     `+age(item["date_created"], now())+"\n", printed(t, kind, 40, item))
}

// TestTableThatGoesOnHasRoomForLaterRows compares a list with one whose rows come one by one.
func TestTableThatGoesOnHasRoomForLaterRows(t *testing.T) {
	t.Parallel()
	kind := resourceNamed("events")
	short, long := longest(), longest()
	delete(short, "name")
	delete(long, "name")
	short["type"], short["action"], short["state"] = "task", "failed", "pending"
	long["type"], long["action"], long["state"] = "session", "expired", "delivered"

	var out bytes.Buffer
	p := &printer{out: &out, format: "table", screen: screen{terminal: true, width: 200}}
	for _, item := range []map[string]any{short, long} {
		require.NoError(t, p.value(kind, item, true))
		require.NoError(t, p.flushRows())
	}
	require.NoError(t, p.flush())
	lines := strings.Split(out.String(), "\n")
	require.Len(t, lines, 4, "the titles are written once")
	assert.Contains(t, lines[1], "task.failed      "+otherID)
	assert.Contains(t, lines[2], "session.expired  "+otherID+"  delivered  ")

	assert.Contains(t, printed(t, kind, 200, short), "task.failed  "+otherID,
		"a list that has ended needs no more room")
}

func TestAge(t *testing.T) {
	t.Parallel()
	at := now()
	for _, row := range []struct {
		date any
		want string
	}{
		{date: at.Add(-5 * 1e9).Format("2006-01-02T15:04:05.999999999Z07:00"), want: "5s ago"},
		{date: at.Add(-90 * 1e9).Format("2006-01-02T15:04:05Z07:00"), want: "1m ago"},
		{date: at.Add(-7200 * 1e9).Format("2006-01-02T15:04:05Z07:00"), want: "2h ago"},
		{date: at.Add(-7 * 86400 * 1e9).Format("2006-01-02T15:04:05Z07:00"), want: "7d ago"},
		{date: at.Add(7 * 86400 * 1e9).Format("2006-01-02T15:04:05.999999999Z07:00"), want: "in 7d"},
		{date: "yesterday", want: ""},
		{date: nil, want: ""},
	} {
		assert.Equal(t, row.want, age(row.date, at), "%v", row.date)
	}
}

func TestFieldsSayWhatIsEmpty(t *testing.T) {
	t.Parallel()
	text := printed(t, nil, 80, map[string]any{
		"id": 1, "children": []any{}, "config": map[string]any{}, "error": nil, "resource": "source",
	})
	assert.Equal(t, "id        1\nchildren  none\nconfig    none\n", text)
}

func TestColoursOfStates(t *testing.T) {
	t.Parallel()
	for state, colour := range map[string]string{
		"active": "32", "failed": "31", "consumed": "2", "pending": "33",
	} {
		assert.Equal(t, "\x1b["+colour+"m"+state+"\x1b[0m", coloured("state", state))
	}
	assert.Equal(t, "active", coloured("name", "active"))
	assert.Equal(t, "STATE", coloured("state", "STATE"))
}

func TestOneLineKeepsNothingThatMovesTheCursor(t *testing.T) {
	t.Parallel()
	assert.Equal(t, "a b c[2Jd é", oneLine("a\nb\tc\x1b[2Jd\u009b \u00e9"))
}
