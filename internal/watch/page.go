package watch

import (
	"encoding/json"
	"hash/maphash"
	"sync"
	"weak"

	"github.com/reincubate/ricloud-go/internal/wire"
)

// Page is a page of a list.
type Page[R any] struct {
	Wanted []*R   // the resources on it that are wanted
	Depth  int    // the number of all resources on it down to the last that is wanted
	Len    int    // the number of all resources on it
	Last   string // the id of the last one
	More   bool   // more follow
}

// Pages makes Pages of what a list shows. It remembers the resources that the last
// two reads of the list have shown: most have not changed when they are shown again,
// and are not decoded again (a page costs a third of the allocations). It keeps no
// resource that nothing else keeps. It is safe for concurrent use.
type Pages[R any] struct {
	seed   maphash.Seed
	mu     sync.Mutex
	before map[string]shown[R]
	now    map[string]shown[R]
}

type shown[R any] struct {
	sum   uint64 // of the JSON
	value weak.Pointer[R]
}

// NewPages returns Pages of a list.
func NewPages[R any]() *Pages[R] { return &Pages[R]{seed: maphash.MakeSeed()} }

// Page returns the page of a list that has the given items and follows the item
// with the id after. It decodes only what is wanted: most of a page belongs to
// others, or has ended. decode returns nil for an item that cannot be decoded,
// which then counts as one that the list does not show. ok is false if no item has
// an id, so that the list cannot be continued.
func (p *Pages[R]) Page(
	after string, items []json.RawMessage, wanted func(id string) bool, decode func([]byte) *R,
) (page Page[R], ok bool) {
	if after == "" {
		p.begin()
	}
	page.Len = len(items)
	for i, raw := range items {
		id := wire.ID(raw)
		if id == "" { // nothing can wait for it
			continue
		}
		if page.Last = id; !wanted(id) {
			continue
		}
		r := p.get(id, raw)
		if r == nil {
			r = decode(raw)
		}
		if r == nil {
			continue
		}
		page.Wanted, page.Depth = append(page.Wanted, r), i+1
		p.put(id, raw, r)
	}
	return page, page.Len == 0 || page.Last != ""
}

// begin notes that the list is read from its beginning.
func (p *Pages[R]) begin() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.before, p.now = p.now, make(map[string]shown[R], len(p.now))
}

// get returns the resource if the list has shown the same JSON of it, else nil.
func (p *Pages[R]) get(id string, raw []byte) *R {
	p.mu.Lock()
	defer p.mu.Unlock()
	if item, ok := p.before[id]; ok && item.sum == maphash.Bytes(p.seed, raw) {
		return item.value.Value()
	}
	return nil
}

func (p *Pages[R]) put(id string, raw []byte, r *R) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.now == nil { // the list was not read from its beginning
		p.now = map[string]shown[R]{}
	}
	p.now[id] = shown[R]{maphash.Bytes(p.seed, raw), weak.Make(r)}
}
