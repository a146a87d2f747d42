package published

import (
	"errors"
	"slices"
	"strconv"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

type item struct{ id, content string }

func newList() *List[item] {
	return &List[item]{
		ID:      func(i *item) string { return i.id },
		Content: func(i *item) string { return i.content },
	}
}

// An item with an ID is new once. Of equal ones without an ID, as many are new as one look shows.
func TestAdd(t *testing.T) {
	t.Parallel()
	l := newList()
	add := func(i item) bool { return l.Add(&i) }
	l.Look()
	assert.False(t, l.Has(&item{id: "1"}))
	assert.True(t, add(item{id: "1"}))
	assert.True(t, l.Has(&item{id: "1"}))
	assert.False(t, add(item{id: "1"}))
	assert.True(t, add(item{content: "a"}))
	assert.True(t, add(item{content: "a"}))
	assert.True(t, add(item{content: "b"}))
	l.Look()
	assert.False(t, add(item{id: "1"}))
	assert.False(t, add(item{content: "a"}))
	assert.False(t, add(item{content: "a"}))
	assert.True(t, add(item{content: "a"}), "a third one appeared")
	assert.False(t, add(item{content: "b"}))
}

// server has a list of items, whose beginning it shows.
type server struct {
	items []item
	shown int
	limit int
	asked []string // the items after which pages were asked for
	err   error
}

func (s *server) first() []item { return s.items[:min(s.shown, len(s.items))] }

func (s *server) page(after string) ([]item, bool, error) {
	s.asked = append(s.asked, after)
	if s.err != nil {
		return nil, false, s.err
	}
	begin := 0
	if after != "" {
		begin = 1 + slices.IndexFunc(s.items, func(i item) bool { return i.id == after })
	}
	end := min(begin+s.limit, len(s.items))
	return s.items[begin:end], end < len(s.items), nil
}

func (s *server) read(t *testing.T, l *List[item]) []string {
	t.Helper()
	s.asked = nil
	l.Look()
	var ids []string
	for i, err := range l.Read(s.first(), s.page) {
		require.NoError(t, err)
		if l.Add(i) {
			ids = append(ids, i.id+i.content)
		}
	}
	return ids
}

func numbered(from, to int) (items []item) {
	for n := from; n <= to; n++ {
		items = append(items, item{id: strconv.Itoa(n)})
	}
	return items
}

// Where new items come last, only the pages behind the known ones are read again.
func TestReadNewItemsAtTheEnd(t *testing.T) {
	t.Parallel()
	l, s := newList(), &server{items: numbered(1, 6), shown: 2, limit: 3}
	assert.Equal(t, []string{"1", "2", "3", "4", "5", "6"}, s.read(t, l))
	assert.Equal(t, []string{"", "3"}, s.asked)
	s.items = numbered(1, 8)
	assert.Equal(t, []string{"7", "8"}, s.read(t, l))
	assert.Equal(t, []string{"6"}, s.asked)
	assert.Empty(t, s.read(t, l))
	assert.Equal(t, []string{"8"}, s.asked)
}

// Where new items come first, pages are read until they show known items.
func TestReadNewItemsAtTheBeginning(t *testing.T) {
	t.Parallel()
	l, s := newList(), &server{items: numbered(5, 12), shown: 1, limit: 2}
	assert.Len(t, s.read(t, l), 8)
	s.items = numbered(2, 12)
	assert.Equal(t, []string{"2", "3", "4"}, s.read(t, l))
	assert.Equal(t, []string{"", "3"}, s.asked, "5 is known")
}

// After a page that ends with an item without an ID, no page can be asked for.
func TestReadItemsWithoutAnID(t *testing.T) {
	t.Parallel()
	l := newList()
	s := &server{items: []item{{content: "a"}, {content: "a"}, {content: "b"}}, shown: 1, limit: 2}
	assert.Equal(t, []string{"a", "a"}, s.read(t, l))
	assert.Equal(t, []string{""}, s.asked)
}

func TestReadEnds(t *testing.T) {
	t.Parallel()
	l, s := newList(), &server{items: numbered(1, 6), shown: 2, limit: 3}
	for _, err := range l.Read(s.first(), nil) {
		require.NoError(t, err)
	}
	assert.Empty(t, s.asked, "there are no pages")
	for taken := range 4 {
		n := 0
		for _, err := range l.Read(s.first(), s.page) {
			require.NoError(t, err)
			if n++; n > taken {
				break
			}
		}
		assert.Equal(t, taken+1, n, "the consumer had enough")
	}
	s.err = errors.New("refused")
	var errs []error
	for _, err := range l.Read(s.first(), s.page) {
		errs = append(errs, err)
	}
	assert.Equal(t, []error{nil, nil, s.err}, errs)
}
