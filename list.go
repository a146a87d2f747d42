package ricloud

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"iter"
	"net/url"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/reincubate/ricloud-go/internal/transport"
	"github.com/reincubate/ricloud-go/internal/wire"
)

// List is one page of resources, or a list inside a resource. Data is nil only if
// the API sent no list at all, or null for it.
type List[T any] struct {
	Data       []T    `json:"data" wire:"strict"`
	HasMore    bool   `json:"has_more"`      // the API says that the list goes on; All checks it
	TotalCount int    `json:"total_count"`   // as the API sends it, which can be wrong
	URL        string `json:"url,omitempty"` // where the list can be read, relative to the base URL
}

func (l *List[T]) hasNoData() bool { return l.Data == nil }

func (l *List[T]) hidesItems() bool { return len(l.Data) == 0 && l.HasMore }

// oddities returns what items that decode themselves found odd.
func (l *List[T]) oddities() (odd []wire.Oddity) {
	for i := range l.Data {
		item, ok := any(&l.Data[i]).(decodesItself)
		if !ok {
			return nil
		}
		for _, o := range item.oddities() {
			odd = append(odd, wire.Oddity{Path: fmt.Sprintf("data[%d].%s", i, o.Path), Reason: o.Reason})
		}
	}
	return odd
}

// UnmarshalJSON reads a list object, a plain array or null.
func (l *List[T]) UnmarshalJSON(b []byte) error {
	*l = List[T]{}
	if b[0] == '[' {
		return json.Unmarshal(b, &l.Data)
	}
	type plain List[T]
	aux := struct {
		*plain
		HasMore flag `json:"has_more"`
	}{plain: (*plain)(l)}
	err := json.Unmarshal(b, &aux)
	l.HasMore = bool(aux.HasMore)
	return err
}

// flag is a boolean that is true unless the value clearly means false. A
// has_more that cannot be read then costs one request, instead of the rest of
// the list.
type flag bool

// UnmarshalJSON accepts any value.
func (f *flag) UnmarshalJSON(b []byte) error {
	yes, err := strconv.ParseBool(wire.Unquote(b))
	*f = flag(yes || err != nil && !slices.Contains([]string{"null", `""`, "{}", "[]"}, string(b)))
	return nil
}

// All iterates over the items of the list. If HasMore is set, it also reads the
// pages that follow, from URL. Otherwise it makes no request and yields Data,
// also if Data is a full page. It stops at the first error and yields it. T may be
// a type of your own.
//
// A page that All has read is not the last as long as it is full, whatever its
// has_more says. All asks for the page behind it, which costs one request more if
// there is none. The All of every service does the same.
//
//	for child, err := range source.Children.All(ctx, client) { … }
func (l *List[T]) All(
	ctx context.Context, client *Client, opts ...CallOption,
) iter.Seq2[*T, error] {
	return func(yield func(*T, error) bool) {
		p := newPager[T](client, len(l.Data))
		if !l.HasMore {
			p.yieldNew(itemsOf(l.Data), yield)
			return
		}
		if l.URL == "" {
			if _, ok := p.yieldNew(itemsOf(l.Data), yield); ok {
				yield(nil,
					errors.New("ricloud: List.All: the list has more items, but no URL to read them from"))
			}
			return
		}
		// The list is read again from its beginning, because it may be ordered
		// differently at its URL. Items without an ID are yielded only then.
		if isIdentified[T]() {
			if _, ok := p.yieldNew(itemsOf(l.Data), yield); !ok {
				return
			}
		}
		p.run(ctx, l.behind(""), opts, yield)
	}
}

// behind returns the request for the items after an item, or for all of them.
func (l *List[T]) behind(id ID) request {
	return request{op: transport.ListURL, url: l.URL, list: ListParams{AfterID: id}}
}

// ListParams selects a page. The params of every list have it.
type ListParams struct {
	Limit    int // items on a page, at most 1,000; 0: 10 for List, 1,000 for All
	AfterID  ID  // begin after this item
	BeforeID ID  // end before this item
}

const maxLimit = 1000 // see docs/contract.md#lists

// listParams is what the params of every list have: ListParams by itself, or
// embedded in a type that adds its own filters to values.
type listParams interface {
	check() error
	values() url.Values
}

func (p ListParams) check() error {
	if p.Limit < 0 || p.Limit > maxLimit {
		return invalid("Limit", "must be 0 to "+strconv.Itoa(maxLimit))
	}
	return nil
}

// values returns the query of the fields that are set.
func (p ListParams) values() url.Values {
	q := url.Values{}
	if p.Limit > 0 {
		q.Set("limit", strconv.Itoa(p.Limit))
	}
	setFilter(q, "after_id", p.AfterID)
	setFilter(q, "before_id", p.BeforeID)
	return q
}

// setFilter adds a filter to q unless its value is empty.
func setFilter[S ~string](q url.Values, name string, value S) {
	if value != "" {
		q.Set(name, string(value))
	}
}

// setCreated adds the filters of a list by date of creation to q.
func setCreated(q url.Values, since, before time.Time) {
	if !since.IsZero() {
		q.Set("date_created__gte", formatTime(since))
	}
	if !before.IsZero() {
		q.Set("date_created__lt", formatTime(before))
	}
}

// checkCreated refuses dates of creation between which nothing can lie.
func checkCreated(since, before time.Time) error {
	if !since.IsZero() && !before.IsZero() && !since.Before(before) {
		return invalid("CreatedBefore", "must be later than the beginning of the period")
	}
	return nil
}

// formatTime writes a time as the API's documents and the vendor's client do:
// in UTC, to the millisecond.
func formatTime(t time.Time) string { return t.UTC().Format("2006-01-02T15:04:05.000Z") }

// list reads one page.
func list[T any](
	ctx context.Context, c *Client, op transport.Operation, params listParams, opts []CallOption,
) (*List[T], error) {
	return do[List[T]](ctx, c, request{op: op, list: params}, opts)
}

// all iterates over the items of every page.
func all[T any](
	ctx context.Context, c *Client, op transport.Operation, params listParams, opts []CallOption,
) iter.Seq2[*T, error] {
	return paginate[T](ctx, c, request{op: op, list: params}, opts)
}

// paginate iterates over the items of every page of the list that r reads.
func paginate[T any](
	ctx context.Context, c *Client, r request, opts []CallOption,
) iter.Seq2[*T, error] {
	return func(yield func(*T, error) bool) { newPager[T](c, 0).run(ctx, r, opts, yield) }
}

// item is one item of a page.
type item[T any] struct {
	id    ID // empty: it has none
	value *T
}

// identified is what every resource of this package is.
type identified interface{ ident() (kind string, id ID) }

func isIdentified[T any]() bool {
	_, ok := any(new(T)).(identified)
	return ok
}

func itemsOf[T any](data []T) []item[T] {
	items := make([]item[T], len(data))
	for i := range data {
		items[i].value = &data[i]
		if r, ok := any(&data[i]).(identified); ok {
			_, items[i].id = r.ident()
		}
	}
	return items
}

// pager reads a list page by page. It relies on no rule for cursors, because
// none is documented: a cursor may or may not be part of the page it asks for,
// pages may overlap, and has_more and total_count may be wrong.
type pager[T any] struct {
	client *Client
	seen   window
	cursor ID   // the last new item that has an ID
	tail   []*T // the items without an ID behind it

	checkpoint ID // an earlier cursor; a list that returns to it repeats itself
	steps, lap int

	pages  int  // that were read
	broken bool // it ended, or repeats itself, where more was promised
}

// newPager returns a pager that also remembers the known items which come first.
func newPager[T any](c *Client, known int) *pager[T] {
	return &pager[T]{client: c, seen: window{size: windowSize + known}, lap: 1}
}

// run yields every item, beginning with the page that r asks for.
func (p *pager[T]) run(
	ctx context.Context, r request, opts []CallOption, yield func(*T, error) bool,
) {
	limit, err := strconv.Atoi(r.list.values().Get("limit"))
	if err != nil {
		limit = maxLimit
	}
	by, promised, moved := "after_id", false, false
	for asked := false; ; asked = true {
		r.query = url.Values{"limit": {strconv.Itoa(limit)}}
		if asked {
			r.query.Set(by, string(p.cursor))
		}
		p.pages++
		items, hasMore, err := p.read(ctx, r, opts)
		if err != nil {
			yield(nil, err)
			return
		}
		before := p.cursor
		fresh, ok := p.yieldNew(items, yield)
		full, stuck := len(items) >= limit, asked && p.cursor == before
		switch {
		case !ok:
			return
		case stuck && hasMore && full && limit < maxLimit:
			limit = min(2*limit, maxLimit) // more fit into a page than come again
			continue
		case stuck && promised && !moved && by == "after_id" && !hasCursor(r.list):
			by = "before_id" // "after" may mean "newer" in a list of the newest first
			continue
		case len(items) == 0 && hasMore && !asked && !hasCursor(r.list):
			yield(nil, fmt.Errorf(
				"ricloud: %s: the list has more items, but its first page has none", r.op.Name))
			return
		case len(items) == 0, !hasMore && (stuck || !full || p.cursor == ""):
			p.broken = promised && len(items) == 0
			return // a full page may have more behind it even where has_more is false
		case p.cursor == "":
			yield(nil, fmt.Errorf(
				"ricloud: %s: the list has more items, but those of its first page have no id to go on from",
				r.op.Name))
			return
		case !stuck && !p.inCircles():
			promised, moved = hasMore, asked
		case moved && fresh == 0 && len(items) == 1 && items[0].id == p.cursor:
			return // the cursor itself is all that is left, in a list that cursors move on in
		default:
			p.broken = true
			yield(nil,
				fmt.Errorf("ricloud: %s: the list does not end: has_more is true, but the page at %q has no "+
					"new items",
					r.op.Name, p.cursor))
			return
		}
	}
}

// hasCursor reports whether the caller has set a cursor.
func hasCursor(params listParams) bool {
	q := params.values()
	return q.Has("after_id") || q.Has("before_id")
}

// read returns a page. A type that is not of this package may not keep the id
// that the API sent, so it is taken from the JSON.
func (p *pager[T]) read(
	ctx context.Context, r request, opts []CallOption,
) (items []item[T], hasMore bool, err error) {
	if isIdentified[T]() {
		page, err := do[List[T]](ctx, p.client, r, opts)
		if err != nil {
			return nil, false, err
		}
		return itemsOf(page.Data), page.HasMore, nil
	}
	page, err := do[List[json.RawMessage]](ctx, p.client, r, opts)
	if err != nil {
		return nil, false, err
	}
	for i, raw := range page.Data {
		v := new(T)
		if err := p.client.decode(ctx, r.op.Name, raw, v); err != nil {
			if e, ok := errors.AsType[*DecodeError](err); ok {
				e.Path = strings.TrimSuffix(fmt.Sprintf("data[%d].%s", i, e.Path), ".")
			}
			return nil, false, err
		}
		items = append(items, item[T]{ID(wire.ID(raw)), v})
	}
	return items, page.HasMore, nil
}

// yieldNew yields the items that were not yielded before and returns how many
// there were. It returns false when the consumer has stopped.
func (p *pager[T]) yieldNew(items []item[T], yield func(*T, error) bool) (fresh int, ok bool) {
	again := p.tail // may come again behind the cursor
	for _, it := range items {
		switch {
		case it.id == "" && len(again) > 0 && reflect.DeepEqual(it.value, again[0]):
			again = again[1:]
			continue
		case it.id == "":
			again = nil
			p.tail = append(p.tail, it.value)
		case !p.seen.add(it.id):
			continue
		default:
			again, p.tail, p.cursor = nil, nil, it.id
		}
		fresh++
		if !yield(it.value, nil) {
			return fresh, false
		}
	}
	return fresh, true
}

// inCircles reports whether the list has returned to an earlier cursor. It
// compares it with one earlier cursor, which moves on after 1, 2, 4, 8, … pages
// (Brent's algorithm).
func (p *pager[T]) inCircles() bool {
	if p.cursor == p.checkpoint {
		return true
	}
	if p.steps++; p.steps == p.lap {
		p.checkpoint, p.steps, p.lap = p.cursor, 0, 2*p.lap
	}
	return false
}

// windowSize is how many items a pager remembers to leave out repeats: ten of
// the largest pages, far more than pages can overlap, in about a megabyte. An
// iteration over a million items needs no more.
const windowSize = 10 * maxLimit

// window is the set of the latest IDs.
type window struct {
	size  int
	set   map[ID]struct{}
	order []ID // oldest first from next on, in a circle
	next  int
}

// add adds an ID and reports whether it was new.
func (w *window) add(id ID) bool {
	if _, ok := w.set[id]; ok {
		return false
	}
	if w.set == nil {
		w.set = map[ID]struct{}{}
	}
	w.set[id] = struct{}{}
	if len(w.order) < w.size {
		w.order = append(w.order, id)
		return true
	}
	delete(w.set, w.order[w.next])
	w.order[w.next] = id
	w.next = (w.next + 1) % w.size
	return true
}
