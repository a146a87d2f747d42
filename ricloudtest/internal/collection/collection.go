// Package collection keeps the sandbox's resources of one kind and answers list requests: filters,
// cursors and pages.
package collection

import (
	"errors"
	"fmt"
	"net/url"
	"slices"
	"sort"
	"strconv"
	"strings"
	"time"
)

// Head is what every resource has.
type Head struct {
	ID      string    `json:"id"`
	Seq     int       `json:"seq"` // the order of creation within its collection
	Created time.Time `json:"created"`
}

// Meta returns the head itself, which makes whatever embeds it an Entity.
func (h *Head) Meta() *Head { return h }

// Entity is a pointer to a resource that embeds a Head.
type Entity interface {
	comparable
	Meta() *Head
}

// Filter reads the value that a list filter compares. The value of an indexed filter changes only
// through Reindex.
type Filter[T Entity] struct {
	Value   func(T) string
	Indexed bool
}

// ErrNoItem reports that a collection has no resource with an ID.
var ErrNoItem = errors.New("no such resource")

// ParamError reports a query parameter that cannot be used.
type ParamError struct{ Name, Why string }

// Error returns the parameter and what is wrong with it.
func (e *ParamError) Error() string { return e.Name + " " + e.Why }

// Collection holds all resources of a kind in the order of their creation.
type Collection[T Entity] struct {
	Name    string
	Filters map[string]Filter[T]
	Hidden  func(T) bool // left out of lists that do not filter by state

	byID  map[string]T
	all   []T
	seq   int
	index map[string][]T // by "filter=value"
}

// New returns an empty collection. The name appears in messages such as "names no poll".
func New[T Entity](name string, filters map[string]Filter[T]) *Collection[T] {
	return &Collection[T]{
		Name: name, Filters: filters, byID: map[string]T{}, index: map[string][]T{},
	}
}

// Add appends a new resource.
func (c *Collection[T]) Add(item T) {
	c.seq++
	item.Meta().Seq = c.seq
	c.byID[item.Meta().ID] = item
	c.all = append(c.all, item)
	for name, f := range c.Filters {
		if value := f.Value(item); f.Indexed && value != "" {
			c.index[name+"="+value] = append(c.index[name+"="+value], item)
		}
	}
}

// Restore adds a resource that has its order already. Resources come in that order.
func (c *Collection[T]) Restore(item T) {
	seq := item.Meta().Seq
	c.Add(item)
	item.Meta().Seq, c.seq = seq, max(seq, c.seq)
}

// All returns every resource, the oldest first. The caller must not change the slice.
func (c *Collection[T]) All() []T { return c.all }

// Lookup returns the resource with an ID.
func (c *Collection[T]) Lookup(id string) (T, bool) {
	item, ok := c.byID[id]
	return item, ok
}

// Get returns the resource with an ID, or an error that wraps ErrNoItem.
func (c *Collection[T]) Get(id string) (T, error) {
	item, ok := c.byID[id]
	if !ok {
		return item, fmt.Errorf("%s %q: %w", c.Name, id, ErrNoItem)
	}
	return item, nil
}

// Remove forgets a resource.
func (c *Collection[T]) Remove(item T) {
	delete(c.byID, item.Meta().ID)
	drop := func(items []T) []T {
		if i := slices.Index(items, item); i >= 0 {
			return slices.Delete(items, i, i+1)
		}
		return items
	}
	c.all = drop(c.all)
	for name, f := range c.Filters {
		if f.Indexed {
			key := name + "=" + f.Value(item)
			c.index[key] = drop(c.index[key])
		}
	}
}

// Reindex runs change, which may alter indexed values of a resource.
func (c *Collection[T]) Reindex(item T, change func()) {
	seq := item.Meta().Seq
	c.Remove(item)
	change()
	c.byID[item.Meta().ID] = item
	insert := func(items []T) []T { return slices.Insert(items, older(items, seq, false), item) }
	c.all = insert(c.all)
	for name, f := range c.Filters {
		if value := f.Value(item); f.Indexed && value != "" {
			c.index[name+"="+value] = insert(c.index[name+"="+value])
		}
	}
}

// Find returns the newest resource with a value of an indexed filter.
func (c *Collection[T]) Find(name, value string) (T, bool) {
	items := c.index[name+"="+value]
	if len(items) == 0 {
		var none T
		return none, false
	}
	return items[len(items)-1], true
}

// Page is one page of a list, the newest first.
type Page[T Entity] struct {
	Items []T
	More  bool
	Total int
}

// List answers a list request. It walks the shortest index that the filters name, from the newest
// resource or the cursor, and stops when the page is full. Cursors are exclusive unless inclusive
// is set. The error is a *ParamError.
func (c *Collection[T]) List(query url.Values, inclusive bool) (Page[T], error) {
	limit, err := pageSize(query)
	if err != nil {
		return Page[T]{}, err
	}
	candidates, keep, err := c.plan(query)
	if err != nil {
		return Page[T]{}, err
	}
	after, err := c.cursor(query, "after_id")
	if err != nil {
		return Page[T]{}, err
	}
	before, err := c.cursor(query, "before_id")
	if err != nil {
		return Page[T]{}, err
	}
	from, to := len(candidates), 0
	if after != nil {
		from = older(candidates, *after, inclusive)
	}
	if before != nil {
		to = older(candidates, *before, !inclusive)
	}
	found := Page[T]{Total: len(candidates)}
	for i := from - 1; i >= to; i-- {
		if !keep(candidates[i]) {
			continue
		}
		if len(found.Items) == limit {
			found.More = true
			break
		}
		found.Items = append(found.Items, candidates[i])
	}
	return found, nil
}

// cursor returns the order of the resource that a cursor names, or nil without a cursor.
func (c *Collection[T]) cursor(query url.Values, name string) (*int, error) {
	if !query.Has(name) {
		return nil, nil //nolint:nilnil // no cursor is not an error
	}
	at, ok := c.byID[query.Get(name)]
	if !ok {
		return nil, &ParamError{name, "names no " + c.Name}
	}
	return new(at.Meta().Seq), nil
}

// older counts the items created before seq, or up to seq.
func older[T Entity](items []T, seq int, upTo bool) int {
	if upTo {
		seq++
	}
	return sort.Search(len(items), func(i int) bool { return items[i].Meta().Seq >= seq })
}

// plan chooses the candidates and combines all filters into one test.
func (c *Collection[T]) plan(query url.Values) ([]T, func(T) bool, error) {
	candidates := c.all
	var tests []func(T) bool
	for name, values := range query {
		if f, ok := c.Filters[name]; ok {
			items := c.index[name+"="+values[0]]
			if f.Indexed && len(values) == 1 && len(items) <= len(candidates) {
				candidates = items
			}
			tests = append(tests, func(item T) bool {
				return slices.Contains(values, f.Value(item))
			})
			continue
		}
		keep, err := dateFilter(name, values[0])
		if err != nil {
			return nil, nil, err
		}
		if keep != nil {
			tests = append(tests, func(item T) bool { return keep(item.Meta().Created) })
		}
	}
	if c.Hidden != nil && !query.Has("state") {
		tests = append(tests, func(item T) bool { return !c.Hidden(item) })
	}
	return candidates, func(item T) bool {
		for _, test := range tests {
			if !test(item) {
				return false
			}
		}
		return true
	}, nil
}

// dateFilter reads a filter such as "date_created__gt". It returns nil for any other name.
func dateFilter(name, value string) (func(time.Time) bool, error) {
	field, comparison, suffixed := strings.Cut(name, "__")
	if field != "date_created" || !suffixed {
		return nil, nil //nolint:nilnil // unknown filters are ignored
	}
	bound, ok := ParseTime(value)
	if !ok {
		return nil, &ParamError{name, "must be an ISO 8601 time"}
	}
	switch comparison {
	case "gt":
		return bound.Before, nil
	case "gte":
		return func(t time.Time) bool { return !t.Before(bound) }, nil
	case "lt":
		return bound.After, nil
	case "lte":
		return func(t time.Time) bool { return !t.After(bound) }, nil
	}
	return nil, &ParamError{name, "must end in __gt, __gte, __lt or __lte"}
}

// ParseTime reads an ISO 8601 time. A time without a zone is UTC.
func ParseTime(text string) (time.Time, bool) {
	const zoneless = "2006-01-02T15:04:05.999999999"
	for _, layout := range []string{time.RFC3339Nano, zoneless, time.DateTime, time.DateOnly} {
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
		return 0, &ParamError{"limit", "must be a number from 1 to " + strconv.Itoa(most)}
	}
	return limit, nil
}
