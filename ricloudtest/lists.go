package ricloudtest

import (
	"net/url"
	"slices"
	"sort"
	"strings"
	"time"
)

// head is what every resource has.
type head struct {
	id      string
	seq     int // the order of creation within its collection
	created time.Time
}

func (h *head) meta() *head { return h }

type entity interface {
	comparable
	meta() *head
}

// filter reads the value that a list filter compares. The value of an indexed
// one never changes.
type filter[T entity] struct {
	value   func(T) string
	indexed bool
}

// collection is all resources of a kind, in order of creation.
type collection[T entity] struct {
	name    string
	filters map[string]filter[T]
	hidden  func(T) bool // left out unless "state" is asked for
	byID    map[string]T
	all     []T
	seq     int
	index   map[string][]T // by "filter=value"
}

func newCollection[T entity](name string, filters map[string]filter[T]) *collection[T] {
	return &collection[T]{name: name, filters: filters, byID: map[string]T{}, index: map[string][]T{}}
}

func (c *collection[T]) add(item T) {
	c.seq++
	item.meta().seq = c.seq
	c.byID[item.meta().id] = item
	c.all = append(c.all, item)
	for name, f := range c.filters {
		if value := f.value(item); f.indexed && value != "" {
			c.index[name+"="+value] = append(c.index[name+"="+value], item)
		}
	}
}

func (c *collection[T]) get(id string) (T, error) {
	item, ok := c.byID[id]
	if !ok {
		return item, notFound(c.name)
	}
	return item, nil
}

// remove forgets a resource. Its place in the indexes is found by its order.
func (c *collection[T]) remove(item T) {
	delete(c.byID, item.meta().id)
	drop := func(items []T) []T {
		if i := slices.Index(items, item); i >= 0 {
			return slices.Delete(items, i, i+1)
		}
		return items
	}
	c.all = drop(c.all)
	for name, f := range c.filters {
		if f.indexed {
			key := name + "=" + f.value(item)
			c.index[key] = drop(c.index[key])
		}
	}
}

// find returns the newest resource with that value of an indexed filter.
func (c *collection[T]) find(name, value string) (T, bool) {
	items := c.index[name+"="+value]
	if len(items) == 0 {
		var none T
		return none, false
	}
	return items[len(items)-1], true
}

// page is one page of a list, newest first.
type page[T entity] struct {
	items []T
	more  bool
	total int
}

// list answers a list request. It walks the shortest index that the filters
// name, from the newest or the cursor, and stops when the page is full.
//
// Assumption: filters that are not known are ignored, total_count counts what
// the indexed filters leave, and the cursors are exclusive unless inclusive.
func (c *collection[T]) list(query url.Values, inclusive bool) (page[T], error) {
	limit, err := pageSize(query)
	if err != nil {
		return page[T]{}, err
	}
	candidates, keep := c.plan(query)
	after, err := c.cursor(query, "after_id")
	if err != nil {
		return page[T]{}, err
	}
	before, err := c.cursor(query, "before_id")
	if err != nil {
		return page[T]{}, err
	}
	from, to := len(candidates), 0
	if after != nil {
		from = older(candidates, *after, inclusive)
	}
	if before != nil {
		to = older(candidates, *before, !inclusive)
	}
	found := page[T]{total: len(candidates)}
	for i := from - 1; i >= to; i-- {
		if !keep(candidates[i]) {
			continue
		}
		if len(found.items) == limit {
			found.more = true
			break
		}
		found.items = append(found.items, candidates[i])
	}
	return found, nil
}

// cursor is the order of the resource that a cursor names, nil without one.
func (c *collection[T]) cursor(query url.Values, name string) (*int, error) {
	if !query.Has(name) {
		return nil, nil //nolint:nilnil // no cursor is not an error
	}
	at, ok := c.byID[query.Get(name)]
	if !ok {
		return nil, invalid(name, "names no "+c.name)
	}
	return new(at.meta().seq), nil
}

// older counts the items created before seq, or before and with it.
func older[T entity](items []T, seq int, orWith bool) int {
	if orWith {
		seq++
	}
	return sort.Search(len(items), func(i int) bool { return items[i].meta().seq >= seq })
}

// plan chooses the candidates and makes one test of all filters.
func (c *collection[T]) plan(query url.Values) ([]T, func(T) bool) {
	candidates := c.all
	var tests []func(T) bool
	for name, values := range query {
		if f, ok := c.filters[name]; ok {
			if items := c.index[name+"="+values[0]]; f.indexed && len(values) == 1 && len(items) <= len(candidates) {
				candidates = items
			}
			tests = append(tests, func(item T) bool { return slices.Contains(values, f.value(item)) })
		} else if keep, ok := dateFilter(name, values[0]); ok && strings.HasPrefix(name, "date_created") {
			tests = append(tests, func(item T) bool { return keep(item.meta().created) })
		}
	}
	if c.hidden != nil && !query.Has("state") {
		tests = append(tests, func(item T) bool { return !c.hidden(item) })
	}
	return candidates, func(item T) bool {
		for _, test := range tests {
			if !test(item) {
				return false
			}
		}
		return true
	}
}

// reindex changes an indexed value of a resource.
func (c *collection[T]) reindex(item T, change func()) {
	seq := item.meta().seq
	c.remove(item)
	change()
	c.byID[item.meta().id] = item
	insert := func(items []T) []T { return slices.Insert(items, older(items, seq, false), item) }
	c.all = insert(c.all)
	for name, f := range c.filters {
		if value := f.value(item); f.indexed && value != "" {
			c.index[name+"="+value] = insert(c.index[name+"="+value])
		}
	}
}
