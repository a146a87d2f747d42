package collection_test

import (
	"net/url"
	"strconv"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/reincubate/ricloud-go/ricloudtest/internal/collection"
)

type thing struct {
	collection.Head

	color, state string
}

func noon() time.Time { return time.Date(2020, 2, 25, 12, 0, 0, 0, time.UTC) }

// things is a collection of n items. "1" is the oldest, created at noon, and the others follow a
// minute apart. Even items are red, odd items are blue, and every tenth is deleted and hidden.
func things(n int) *collection.Collection[*thing] {
	c := collection.New("thing", map[string]collection.Filter[*thing]{
		"color": {Value: func(t *thing) string { return t.color }, Indexed: true},
		"state": {Value: func(t *thing) string { return t.state }},
	})
	c.Hidden = func(t *thing) bool { return t.state == "deleted" }
	for i := 1; i <= n; i++ {
		item := &thing{
			Head: collection.Head{
				ID: strconv.Itoa(i), Created: noon().Add(time.Duration(i-1) * time.Minute),
			},
			color: "blue", state: "active",
		}
		if i%2 == 0 {
			item.color = "red"
		}
		if i%10 == 0 {
			item.state = "deleted"
		}
		c.Add(item)
	}
	return c
}

func ids(items []*thing) []string {
	out := []string{}
	for _, item := range items {
		out = append(out, item.ID)
	}
	return out
}

func TestList(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name, query string
		inclusive   bool
		want        []string
		more        bool
	}{
		{
			name: "ten, the newest first", query: "",
			want: []string{"12", "11", "9", "8", "7", "6", "5", "4", "3", "2"}, more: true,
		},
		{name: "limit", query: "limit=2", want: []string{"12", "11"}, more: true},
		{name: "the end", query: "after_id=3&limit=2", want: []string{"2", "1"}},
		{name: "after", query: "after_id=11&limit=2", want: []string{"9", "8"}, more: true},
		{
			name: "after, inclusive", query: "after_id=11&limit=2", inclusive: true,
			want: []string{"11", "9"}, more: true,
		},
		{name: "before", query: "before_id=9", want: []string{"12", "11"}},
		{
			name: "before, inclusive", query: "before_id=9", inclusive: true,
			want: []string{"12", "11", "9"},
		},
		{name: "between", query: "after_id=6&before_id=3", want: []string{"5", "4"}},
		{name: "between, the wrong way", query: "after_id=3&before_id=6", want: []string{}},
		{name: "after a hidden one", query: "after_id=10&limit=1", want: []string{"9"}, more: true},
		{name: "indexed", query: "color=red", want: []string{"12", "8", "6", "4", "2"}},
		{name: "indexed, after", query: "color=red&after_id=7", want: []string{"6", "4", "2"}},
		{name: "no such value", query: "color=green", want: []string{}},
		{name: "one of two", query: "color=red&color=green&limit=1", want: []string{"12"}, more: true},
		{name: "by state", query: "state=deleted", want: []string{"10"}},
		{name: "both", query: "state=deleted&color=blue", want: []string{}},
		{name: "unknown filters", query: "shape=round&limit=1", want: []string{"12"}, more: true},
		{
			name: "date, gt", query: "date_created__gt=2020-02-25T12:10:00Z", want: []string{"12"},
		},
		{
			name: "date, gte", query: "date_created__gte=2020-02-25T12:10:00Z",
			want: []string{"12", "11"},
		},
		{name: "date, lt", query: "date_created__lt=2020-02-25 12:01:00", want: []string{"1"}},
		{
			name: "date, lte", query: "date_created__lte=2020-02-25T12:01:00", want: []string{"2", "1"},
		},
		{name: "date, day", query: "date_created__lt=2020-02-25", want: []string{}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			query, err := url.ParseQuery(tt.query)
			require.NoError(t, err)
			page, err := things(12).List(query, tt.inclusive)
			require.NoError(t, err)
			assert.Equal(t, tt.want, ids(page.Items))
			assert.Equal(t, tt.more, page.More)
		})
	}
	page, err := things(12).List(url.Values{"color": {"red"}, "limit": {"1"}}, false)
	require.NoError(t, err)
	assert.Equal(t, 6, page.Total, "of those that the index names")
}

func TestListRefuses(t *testing.T) {
	t.Parallel()
	for query, want := range map[string]string{
		"limit=0":                       "limit must be a number from 1 to 1000",
		"limit=1001":                    "limit must be a number from 1 to 1000",
		"limit=ten":                     "limit must be a number from 1 to 1000",
		"limit=":                        "limit must be a number from 1 to 1000",
		"after_id=13":                   "after_id names no thing",
		"before_id=":                    "before_id names no thing",
		"date_created__gt=yesterday":    "date_created__gt must be an ISO 8601 time",
		"date_created__near=2020-02-25": "date_created__near must end in __gt, __gte, __lt or __lte",
	} {
		values, err := url.ParseQuery(query)
		require.NoError(t, err)
		_, err = things(12).List(values, false)
		var refused *collection.ParamError
		require.ErrorAs(t, err, &refused, query)
		require.EqualError(t, refused, want, query)
	}
	page, err := things(1).List(url.Values{"limit": {"1000"}}, false)
	require.NoError(t, err)
	assert.Len(t, page.Items, 1)
}

func TestOneItem(t *testing.T) {
	t.Parallel()
	c := things(4)
	item, err := c.Get("3")
	require.NoError(t, err)
	found, ok := c.Lookup("3")
	assert.True(t, ok)
	assert.Same(t, item, found)
	newest, ok := c.Find("color", "blue")
	assert.True(t, ok)
	assert.Same(t, item, newest)
	_, ok = c.Find("color", "green")
	assert.False(t, ok)

	c.Remove(item)
	_, err = c.Get("3")
	require.ErrorIs(t, err, collection.ErrNoItem)
	require.EqualError(t, err, `thing "3": no such resource`)
	assert.Equal(t, []string{"1", "2", "4"}, ids(c.All()))
	newest, _ = c.Find("color", "blue")
	assert.Equal(t, "1", newest.ID)
	c.Remove(item) // removing it again has no effect
	assert.Len(t, c.All(), 3)
}

// Reindex moves an item to the index of its new value, and keeps its position in the order.
func TestReindex(t *testing.T) {
	t.Parallel()
	c := things(6)
	item, err := c.Get("3")
	require.NoError(t, err)
	c.Reindex(item, func() { item.color = "red" })
	for color, want := range map[string][]string{"red": {"6", "4", "3", "2"}, "blue": {"5", "1"}} {
		page, err := c.List(url.Values{"color": {color}}, false)
		require.NoError(t, err)
		assert.Equal(t, want, ids(page.Items), color)
	}
	c.Reindex(item, func() { item.color = "" })
	page, err := c.List(url.Values{"color": {"red"}}, false)
	require.NoError(t, err)
	assert.Equal(t, []string{"6", "4", "2"}, ids(page.Items))
	assert.Equal(t, []string{"1", "2", "3", "4", "5", "6"}, ids(c.All()))
}

// Restored items keep their order, and new items follow them.
func TestRestore(t *testing.T) {
	t.Parallel()
	from, c := things(5), things(0)
	for _, item := range from.All()[2:] {
		c.Restore(item)
	}
	c.Add(&thing{Head: collection.Head{ID: "new"}})
	seqs := []int{}
	for _, item := range c.All() {
		seqs = append(seqs, item.Seq)
	}
	assert.Equal(t, []int{3, 4, 5, 6}, seqs)
}
