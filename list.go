package ricloud

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"iter"
	"net/url"
	"slices"
	"strconv"
	"time"

	"github.com/reincubate/ricloud-go/internal/transport"
	"github.com/reincubate/ricloud-go/internal/wire"
)

// List is one page of resources, or the list inside a resource. It reads a
// list object, a bare array or null. Data is nil only when the API said
// nothing at all.
type List[T any] struct {
	Data       []T    `json:"data" wire:"strict"`
	HasMore    bool   `json:"has_more"`      // there is more behind the last item
	TotalCount int    `json:"total_count"`   // as the API says; known to be wrong at times
	URL        string `json:"url,omitempty"` // where the list can be read, relative to the base URL
}

// UnmarshalJSON reads a list object, an array or null.
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

// flag is a boolean that is true unless it is some way of saying no: a list
// ends a request later where its has_more cannot be read, not a page too early.
type flag bool

// UnmarshalJSON accepts any value.
func (f *flag) UnmarshalJSON(b []byte) error {
	yes, err := strconv.ParseBool(wire.Unquote(b))
	*f = flag(yes || err != nil && !slices.Contains([]string{"null", `""`, "{}", "[]"}, string(b)))
	return nil
}

// All iterates over the list's items and, if HasMore is set, over the pages
// that its URL still has. It makes no request for a list that is whole. It
// stops at the first error and yields it.
//
//	for child, err := range source.Children.All(ctx, client) { … }
func (l *List[T]) All(ctx context.Context, client *Client, opts ...CallOption) iter.Seq2[*T, error] {
	return func(yield func(*T, error) bool) {
		p := pager[T]{client: client, seen: map[ID]bool{}}
		if p.yieldNew(l.Data, yield) < 0 || !l.HasMore {
			return
		}
		if l.URL == "" {
			yield(nil, errors.New("ricloud: List.All: the list has more items but no URL to read them from"))
			return
		}
		// From the start: whether both lists have the same order is not known,
		// and what is repeated is a page at most.
		p.run(ctx, l.behind(""), opts, yield)
	}
}

// behind asks for what the list has behind an item, or for all of it.
func (l *List[T]) behind(id ID) request {
	return request{op: transport.ListURL, url: l.URL, list: ListParams{AfterID: id}}
}

// ListParams selects a page. Every list takes it.
type ListParams struct {
	Limit    int // items a page, 1 to 1000; 0: the API's 10 for List, 1000 for All
	AfterID  ID  // begin behind this item
	BeforeID ID  // end before this item
}

const maxLimit = 1000 // contract §1.8

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

// checkPeriod refuses a period that ends before it begins.
func checkPeriod(since, before time.Time, name string) error {
	if !since.IsZero() && !before.IsZero() && !since.Before(before) {
		return invalid(name, "must be later than the beginning of the period")
	}
	return nil
}

// formatTime writes a time as the API's documents and the vendor's client do:
// in UTC, to the millisecond.
func formatTime(t time.Time) string { return t.UTC().Format("2006-01-02T15:04:05.000Z") }

// list reads one page.
func list[T any](ctx context.Context, c *Client, op transport.Operation, params listParams, opts []CallOption) (*List[T], error) {
	return do[List[T]](ctx, c, request{op: op, list: params}, opts)
}

// all iterates over the items of every page.
func all[T any](ctx context.Context, c *Client, op transport.Operation, params listParams, opts []CallOption) iter.Seq2[*T, error] {
	return paginate[T](ctx, c, request{op: op, list: params}, opts)
}

// paginate iterates over the items of every page of the list that r reads.
func paginate[T any](ctx context.Context, c *Client, r request, opts []CallOption) iter.Seq2[*T, error] {
	return func(yield func(*T, error) bool) {
		p := pager[T]{client: c, seen: map[ID]bool{}}
		p.run(ctx, r, opts, yield)
	}
}

// pager reads a list page by page. It trusts neither total_count nor the
// cursor: what came before is left out, so it does not matter whether
// after_id is inclusive.
type pager[T any] struct {
	client *Client
	seen   map[ID]bool
	last   ID

	repeats int // how much of what was seen may come again before it ends; 0: any
}

// run yields every item from r's page on.
func (p *pager[T]) run(ctx context.Context, r request, opts []CallOption, yield func(*T, error) bool) {
	r.query = url.Values{}
	if !r.list.values().Has("limit") {
		r.query.Set("limit", strconv.Itoa(maxLimit))
	}
	for repeated := 0; ; {
		page, err := do[List[T]](ctx, p.client, r, opts)
		if err != nil {
			yield(nil, err)
			return
		}
		fresh := p.yieldNew(page.Data, yield)
		repeated += len(page.Data) - fresh
		if fresh < 0 || !page.HasMore || len(page.Data) == 0 || p.repeats > 0 && repeated > p.repeats {
			return
		}
		if fresh == 0 && r.query.Has("after_id") {
			yield(nil, fmt.Errorf("ricloud: %s: the page after %q brought nothing new, yet the API says there is more", r.op.Name, p.last))
			return
		}
		r.query.Set("after_id", string(p.last))
	}
}

// yieldNew yields the items not seen before and returns how many, or -1 when
// the consumer had enough.
func (p *pager[T]) yieldNew(items []T, yield func(*T, error) bool) (fresh int) {
	for i := range items {
		if r, ok := any(&items[i]).(interface{ ident() ID }); ok {
			p.last = r.ident()
			if p.seen[p.last] {
				continue
			}
			p.seen[p.last] = true
		}
		fresh++
		if !yield(&items[i], nil) {
			return -1
		}
	}
	return fresh
}
