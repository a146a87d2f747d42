package ricloud

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/jarcoal/httpmock"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/reincubate/ricloud-go/internal/transport"
	"github.com/reincubate/ricloud-go/internal/wire"
)

// pages serves n users, at most 4 on a page. inclusive says whether a page starts with after_id
// itself.
func pages(n int, inclusive bool) httpmock.Responder {
	return func(req *http.Request) (*http.Response, error) {
		q := req.URL.Query()
		limit, _ := strconv.Atoi(q.Get("limit"))
		limit = min(limit, 4)
		first := 1
		if after := q.Get("after_id"); after != "" {
			first, _ = strconv.Atoi(after)
			if !inclusive {
				first++
			}
		}
		page := List[map[string]any]{TotalCount: 0, Data: []map[string]any{}}
		for i := first; i <= n && len(page.Data) < limit; i++ {
			page.Data = append(page.Data, map[string]any{"id": i})
		}
		page.HasMore = first+limit <= n
		return httpmock.NewJsonResponse(http.StatusOK, page)
	}
}

func TestAllReadsEveryPageOnce(t *testing.T) {
	t.Parallel()
	for _, inclusive := range []bool{false, true} {
		for _, n := range []int{0, 1, 4, 5, 8, 23} {
			t.Run(fmt.Sprintf("%d users, inclusive %v", n, inclusive), func(t *testing.T) {
				t.Parallel()
				c, api := newTestClient(t)
				api.RegisterResponder(http.MethodGet, "=~/users", pages(n, inclusive))
				var ids, want []ID
				for i := range n {
					want = append(want, ID(strconv.Itoa(i+1)))
				}
				for user, err := range c.Users.All(t.Context(), UserListParams{}) {
					require.NoError(t, err)
					ids = append(ids, user.ID)
				}
				assert.Equal(t, want, ids)
				assert.Contains(t, api.all()[0].Query, "limit=1000", "big pages by itself")
			})
		}
	}
}

func TestAllIsLazy(t *testing.T) {
	t.Parallel()
	c, api := newTestClient(t)
	api.RegisterResponder(http.MethodGet, "=~/users", pages(100, false))
	users := c.Users.All(t.Context(), UserListParams{ListParams: ListParams{Limit: 2}})
	assert.Empty(t, api.all())
	for user, err := range users {
		require.NoError(t, err)
		if user.ID == "3" {
			break
		}
	}
	assert.Len(t, api.all(), 2)
	n, err := drain(users) // an iterator can be used again
	require.NoError(t, err)
	assert.Equal(t, 100, n)
}

func TestListTakesEveryLimitThereIs(t *testing.T) {
	t.Parallel()
	c, api := newTestClient(t)
	for limit, query := range map[int]string{0: "", 1: "limit=1", 1000: "limit=1000"} {
		_, err := c.Users.List(t.Context(), UserListParams{ListParams: ListParams{Limit: limit}})
		require.NoError(t, err)
		assert.Equal(t, query, api.last().Query)
	}
	_, err := drain(c.Users.All(t.Context(), UserListParams{}, WithQuery("limit", "7")))
	require.NoError(t, err)
	assert.Equal(t, "limit=7", api.last().Query, "the caller's word is the last")
}

func TestAListReadsIntoOneThatWasUsed(t *testing.T) {
	t.Parallel()
	l := List[User]{Data: []User{{ID: "1"}}, HasMore: true, TotalCount: 9, URL: "/users"}
	require.NoError(t, json.Unmarshal([]byte(`[{"id":2}]`), &l))
	assert.Equal(t, List[User]{Data: []User{{ID: "2"}}}, l)
}

func TestAllSaysWhenAPageBringsNothingNew(t *testing.T) {
	t.Parallel()
	c, api := newTestClient(t)
	api.RegisterResponder(http.MethodGet, "=~/users",
		jsonResponder(200, `{"data":[{"id":1},{"id":2}],"has_more":true}`))
	n, err := drain(c.Users.All(t.Context(), UserListParams{}))
	assert.Equal(t, 2, n)
	require.ErrorContains(t, err, `ricloud: Users.List: the list does not end`)
	assert.Len(t, api.all(), 3, "after the last item, before it, and no further")
}

// A first page that is empty is not the whole list if it says that there are more. Behind a cursor
// an empty page is the end, whatever has_more says.
func TestAllSaysWhenTheFirstPageIsEmptyAndHasMore(t *testing.T) {
	t.Parallel()
	for _, data := range []string{"null", "[]"} {
		c, api := newTestClient(t)
		api.RegisterResponder(http.MethodGet, "=~/(users|named)",
			jsonResponder(200, `{"data":`+data+`,"has_more":true}`))
		for name, read := range map[string]func() (int, error){
			"All": func() (int, error) { return drain(c.Users.All(t.Context(), UserListParams{})) },
			"All of a list": func() (int, error) {
				list := &List[User]{URL: "/users", HasMore: true}
				return drain(list.All(t.Context(), c))
			},
			"All of a type of the caller's": func() (int, error) {
				list := &List[map[string]any]{URL: "/named", HasMore: true}
				return drain(list.All(t.Context(), c))
			},
		} {
			n, err := read()
			require.ErrorContains(t, err, ": the list has more items, but its first page has none", name)
			assert.Zero(t, n)
		}
		assert.Len(t, api.all(), 3)
		for _, cursor := range []ListParams{{AfterID: "1"}, {BeforeID: "1"}} {
			n, err := drain(c.Users.All(t.Context(), UserListParams{ListParams: cursor}))
			require.NoError(t, err)
			assert.Zero(t, n)
		}
	}
}

func TestAllStopsAtTheFirstError(t *testing.T) {
	t.Parallel()
	c, api := newTestClient(t)
	api.RegisterResponder(http.MethodGet, "=~/users",
		jsonResponder(200, `{"data":[{"id":1}],"has_more":true}`).
			Then(jsonResponder(403, `{"error":"missing-scope","message":"no"}`)))
	var seen []ID
	var last error
	for user, err := range c.Users.All(t.Context(), UserListParams{}) {
		if err != nil {
			last = err
			continue // a consumer that ignores the error gets nothing more
		}
		seen = append(seen, user.ID)
	}
	assert.Equal(t, []ID{"1"}, seen)
	require.ErrorIs(t, last, ErrMissingScope)
	assert.Len(t, api.all(), 2)
}

func TestNestedListFollowsItsURL(t *testing.T) {
	t.Parallel()
	c, api := newTestClient(t, WithBaseURL("https://api.example.com/prefix"))
	api.RegisterResponder(http.MethodGet, "=~/prefix/sources/31/children",
		jsonResponder(200, `{"data":[{"id":32},{"id":33}],"has_more":false}`))
	var source Source
	require.NoError(t,
		json.Unmarshal([]byte(`{"id":31,"children":{"data":[{"id":32}],"has_more":true,"total_count":0,`+
			`"url":"/sources/31/children"}}`), &source))
	var ids []ID
	for child, err := range source.Children.All(t.Context(), c) {
		require.NoError(t, err)
		ids = append(ids, child.ID)
	}
	assert.Equal(t, []ID{"32", "33"}, ids)
	require.Len(t, api.all(), 1)
	assert.Equal(t, "limit=1000", api.last().Query)

	whole := List[Source]{Data: []Source{{ID: "1"}}}
	n, err := drain(whole.All(t.Context(), c))
	require.NoError(t, err)
	assert.Equal(t, 1, n)
	assert.Len(t, api.all(), 1, "a whole list needs no request")

	n, err = drain(c.Sources.AllChildren(t.Context(), "31", ListParams{}))
	require.NoError(t, err)
	assert.Equal(t, 2, n)
}

func TestNestedListGoesOnBehindWhatItHas(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		c, api := newTestClient(t)
		api.RegisterResponder(http.MethodGet, "=~/users", httpmock.NewErrorResponder(io.ErrUnexpectedEOF).
			Then(jsonResponder(200, `{"data":[{"id":1}],"has_more":true}`)).
			Then(jsonResponder(200, `{"data":[{"id":2}],"has_more":false}`)))
		l := List[User]{Data: []User{{ID: "1"}}, HasMore: true, URL: "/users"}
		n, err := drain(l.All(t.Context(), c))
		require.NoError(t, err, "a first page that repeats the list, and one that is lost, are no end")
		assert.Equal(t, 2, n)
		assert.Len(t, api.all(), 3)
		assert.Contains(t, api.last().Query, "after_id=1")
	})
}

func TestNestedListNeverLeavesTheHost(t *testing.T) {
	t.Parallel()
	for _, url := range []string{"https://evil.example.com/users", "//evil.example.com/users", ""} {
		c, api := newTestClient(t)
		l := List[User]{Data: []User{{ID: "1"}}, HasMore: true, URL: url}
		_, err := drain(l.All(t.Context(), c))
		require.Error(t, err, url)
		assert.Empty(t, api.all(), url)
	}
}

func TestListFilters(t *testing.T) {
	t.Parallel()
	since := time.Date(2026, 1, 2, 4, 4, 5, 678_901_234, time.FixedZone("", 3600))
	before := since.Add(24 * time.Hour)
	const period = "date_created__gte=2026-01-02T03:04:05.678Z&" +
		"date_created__lt=2026-01-03T03:04:05.678Z"
	tests := []struct {
		name   string
		params listParams
		query  string
	}{
		{name: "no filters", params: PollListParams{}, query: ""},
		{
			name: "polls",
			params: PollListParams{
				Source: "x", State: PollCompleted, CreatedSince: since,
				CreatedBefore: before,
			},
			query: period + "&source=x&state=completed",
		},
		{
			name: "tasks",
			params: TaskListParams{
				Poll: "p", Session: "s", State: TaskFailed, CreatedSince: since,
				CreatedBefore: before,
			},
			query: period + "&poll=p&session=s&state=failed",
		},
		{name: "results", params: ResultListParams{Poll: "p"}, query: "poll=p"},
		{
			name: "events", params: EventListParams{CreatedSince: since, CreatedBefore: before},
			query: period,
		},
		{
			name:   "the page comes first",
			params: TaskListParams{ListParams: ListParams{Limit: 3, AfterID: "a", BeforeID: "b"}, Poll: "p"},
			query:  "after_id=a&before_id=b&limit=3&poll=p",
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			require.NoError(t, tt.params.check())
			query, err := url.QueryUnescape(tt.params.values().Encode())
			require.NoError(t, err)
			assert.Equal(t, tt.query, query)
		})
	}
}

func TestListRefusesAPeriodThatEndsBeforeItBegins(t *testing.T) {
	t.Parallel()
	since := time.Date(2026, 1, 2, 0, 0, 0, 0, time.UTC)
	for _, params := range []listParams{
		PollListParams{CreatedSince: since, CreatedBefore: since},
		TaskListParams{CreatedSince: since, CreatedBefore: since.Add(-time.Second)},
		EventListParams{CreatedSince: since, CreatedBefore: since},
	} {
		invalid, ok := errors.AsType[*ParamError](params.check())
		require.True(t, ok, "%T", params)
		assert.Equal(t, "CreatedBefore", invalid.Field)
	}
}

// row is a caller's type that does not keep the ID.
type row struct {
	Name string `json:"name"`
}

// shelf is an API that lists things under /things, with configurable paging.
type shelf struct {
	things    []string // each is JSON with an "id"
	most      int      // items on a page, whatever is asked for; 0: as many as asked
	inclusive bool     // a page starts with its cursor
	overlap   int      // items before the cursor that are repeated
	newer     bool     // in a newest-first list, after_id means newer; before_id reads on
	ignore    bool     // cursors are ignored
	circle    bool     // the list starts again after its end
	hasMore   func(more bool) any
	requests  int
}

func (s *shelf) serve(req *http.Request) (*http.Response, error) {
	s.requests++
	q := req.URL.Query()
	limit, err := strconv.Atoi(q.Get("limit"))
	if err != nil {
		limit = 10
	}
	if s.most > 0 {
		limit = min(limit, s.most)
	}
	find := func(id string) int {
		return slices.IndexFunc(s.things, func(thing string) bool {
			return id != "" && wire.ID([]byte(thing)) == id
		})
	}
	first, end := 0, len(s.things)
	after, before := find(q.Get("after_id")), find(q.Get("before_id"))
	if s.newer {
		after, before = before, after
	}
	switch {
	case s.ignore:
	case after >= 0 && s.inclusive:
		first = max(0, after-s.overlap)
	case after >= 0:
		first = max(0, after+1-s.overlap)
	}
	if before >= 0 && !s.ignore {
		end = before
	}
	if s.circle && first >= end {
		first = 0
	}
	page := s.things[first:max(first, min(end, first+limit))]
	hasMore := any(first+limit < end || s.circle)
	if s.hasMore != nil {
		hasMore = s.hasMore(first+limit < end)
	}
	more, err := json.Marshal(hasMore)
	if err != nil {
		return nil, err
	}
	return jsonResponder(200,
		fmt.Sprintf(`{"data":[%s],"has_more":%s,"total_count":0}`, strings.Join(page, ","), more))(req)
}

// things returns n things with an ID and a name.
func things(n int) (all, names []string) {
	for i := range n {
		all = append(all, fmt.Sprintf(`{"id":%d,"name":"n%d"}`, i+1, i+1))
		names = append(names, fmt.Sprintf("n%d", i+1))
	}
	return all, names
}

func always(v any) func(bool) any { return func(bool) any { return v } }

func TestListsEndAndLoseNothing(t *testing.T) {
	t.Parallel()
	three, names3 := things(3)
	many, names25 := things(25)
	without := []string{
		`{"name":"a"}`, `{"id":1,"name":"b"}`, `{"name":"c"}`, `{"name":"c"}`,
		`{"id":2,"name":"d"}`, `{"name":"e"}`, `{"id":3,"name":"f"}`,
	}
	namesWithout := []string{"a", "b", "c", "c", "d", "e", "f"}
	tests := []struct {
		name  string
		shelf shelf
		limit int
		want  []string
		most  int // requests, at most
		err   string
	}{
		{name: "two pages", shelf: shelf{things: three, most: 2}, want: names3, most: 2},
		{name: "one at a time", shelf: shelf{things: three}, limit: 1, want: names3, most: 4},
		{
			name: "one at a time, inclusive", shelf: shelf{things: three, inclusive: true}, limit: 1,
			want: names3, most: 5,
		},
		{
			name: "two at a time, inclusive", shelf: shelf{things: many, inclusive: true}, limit: 2,
			want: names25, most: 26,
		},
		{
			name: "overlapping pages", shelf: shelf{things: many, overlap: 3}, limit: 4, want: names25,
			most: 26,
		},
		{
			name: "pages that overlap whole", shelf: shelf{things: many, overlap: 4}, limit: 4,
			want: names25, most: 12,
		},
		{
			name: "after means newer", shelf: shelf{things: many, newer: true, most: 10}, want: names25,
			most: 4,
		},
		{
			name: "after means newer, one at a time", shelf: shelf{things: three, newer: true}, limit: 1,
			want: names3, most: 14,
		},
		{
			name: "has_more is always true", shelf: shelf{things: many, most: 10, hasMore: always(true)},
			want: names25, most: 4,
		},
		{name: "has_more is always true, inclusive", shelf: shelf{
			things: many, most: 10, inclusive: true,
			hasMore: always(true),
		}, want: names25, most: 4},
		{
			name: "has_more is always false", shelf: shelf{things: many, hasMore: always(false)}, limit: 10,
			want: names25, most: 3,
		},
		{
			name:  "has_more is always false, of whole pages",
			shelf: shelf{things: many, hasMore: always(false)}, limit: 5, want: names25, most: 6,
		},
		{name: "has_more is a word", shelf: shelf{things: many, most: 10, hasMore: func(more bool) any {
			return strconv.FormatBool(more)
		}}, want: names25, most: 3},
		{
			name: "has_more is null", shelf: shelf{things: many, hasMore: always(nil)}, limit: 10,
			want: names25, most: 3,
		},
		{name: "items without an id", shelf: shelf{things: without}, want: namesWithout, most: 1},
		{
			name: "items without an id, on pages", shelf: shelf{things: without, most: 3},
			want: namesWithout, most: 4,
		},
		{
			name: "items without an id, inclusive", shelf: shelf{things: without, most: 4, inclusive: true},
			want: namesWithout, most: 4,
		},
		{name: "no id at all", shelf: shelf{things: []string{
			`{"name":"a"}`, `{"name":"a"}`,
			`{"name":"b"}`,
		}}, want: []string{"a", "a", "b"}, most: 1},
		{
			name: "no id at all, on pages", shelf: shelf{things: []string{
				`{"name":"a"}`, `{"name":"a"}`,
				`{"name":"b"}`,
			}, most: 2},
			want: []string{"a", "a"}, most: 1, err: "have no id to go on from",
		},
		{
			name: "cursors are ignored", shelf: shelf{things: many, most: 10, ignore: true},
			want: names25[:10], most: 3, err: "does not end",
		},
		{
			name: "cursors are ignored in a list of one", shelf: shelf{
				things: three, most: 1, ignore: true,
			},
			want: names3[:1], most: 4, err: "does not end",
		},
		{
			name: "the list begins again", shelf: shelf{things: many, most: 10, circle: true}, want: names25,
			most: 8, err: "does not end",
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			c, api := newTestClient(t)
			api.RegisterResponder(http.MethodGet, "=~/things", tt.shelf.serve)
			op := transport.Operation{Name: "Things.List", Method: http.MethodGet, Path: "/things"}
			check := func(names []string, err error) {
				assert.Equal(t, tt.want, names)
				if tt.err != "" {
					require.ErrorContains(t, err, "ricloud: Things.List: the list ")
					require.ErrorContains(t, err, tt.err)
				} else {
					require.NoError(t, err)
				}
				assert.LessOrEqual(t, tt.shelf.requests, tt.most)
				tt.shelf.requests = 0
			}
			var names []string
			var last error
			for r, err := range all[row](t.Context(), c, op, ListParams{Limit: tt.limit}, nil) {
				if last = err; err == nil {
					names = append(names, r.Name)
				}
			}
			check(names, last)

			names, last = nil, nil // a type that keeps the ID
			for u, err := range all[named](t.Context(), c, op, ListParams{Limit: tt.limit}, nil) {
				if last = err; err == nil {
					names = append(names, u.Name)
				}
			}
			check(names, last)
		})
	}
}

type named struct {
	ID   ID     `json:"id"`
	Name string `json:"name"`
}

func (n *named) ident() (kind string, id ID) { return "", n.ID }

func TestNestedListsOfAnyTypeEnd(t *testing.T) {
	t.Parallel()
	all, want := things(3)
	for _, newest := range []int{1, 2} {
		c, api := newTestClient(t)
		s := shelf{things: all, most: 2}
		api.RegisterResponder(http.MethodGet, "=~/things", s.serve)
		var rows List[row]
		require.NoError(t,
			json.Unmarshal([]byte(`{"data":[`+strings.Join(all[:newest], ",")+`],"has_more":true,`+
				`"url":"/things"}`), &rows))
		var names []string
		for r, err := range rows.All(t.Context(), c) {
			require.NoError(t, err)
			names = append(names, r.Name)
		}
		assert.Equal(t, want, names)
		assert.LessOrEqual(t, s.requests, 3)
	}

	c, api := newTestClient(t)
	failures := shelf{things: []string{`{"code":"a"}`, `"b"`, `{"code":"a"}`}}
	api.RegisterResponder(http.MethodGet, "=~/things", failures.serve)
	var poll Poll
	require.NoError(t,
		json.Unmarshal([]byte(`{"id":"p","errors":{"data":[{"code":"a"},"b"],"has_more":true,`+
			`"url":"/things"}}`), &poll))
	var codes []ErrorCode
	for f, err := range poll.Errors.All(t.Context(), c) {
		require.NoError(t, err)
		codes = append(codes, f.Code)
	}
	assert.Equal(t, []ErrorCode{"a", "b", "a"}, codes)
	assert.Equal(t, 1, failures.requests)
}

func TestALongListIsReadInBoundedMemory(t *testing.T) {
	t.Parallel()
	w := window{size: 3}
	for i := range 100 {
		id := ID(strconv.Itoa(i))
		assert.True(t, w.add(id))
		assert.False(t, w.add(id))
		assert.LessOrEqual(t, len(w.set), 3)
		assert.LessOrEqual(t, len(w.order), 3)
	}
	assert.False(t, w.add("97"), "the latest are remembered")
	assert.True(t, w.add("96"), "an old one is not")
}

// A list ends with an error if it is longer than the client remembers and returns to its beginning.
func TestAListThatGoesRoundInCirclesEnds(t *testing.T) {
	t.Parallel()
	c, api := newTestClient(t)
	requests := 0
	api.RegisterResponder(http.MethodGet, "=~/users", func(req *http.Request) (*http.Response, error) {
		requests++
		page := List[map[string]any]{HasMore: true}
		first, _ := strconv.Atoi(req.URL.Query().Get("after_id"))
		for i := range maxLimit {
			page.Data = append(page.Data, map[string]any{"id": (first+i)%(3*windowSize) + 1})
		}
		return httpmock.NewJsonResponse(http.StatusOK, page)
	})
	n, err := drain(c.Users.All(t.Context(), UserListParams{}))
	require.ErrorContains(t, err, "does not end")
	assert.GreaterOrEqual(t, n, 3*windowSize)
	assert.Less(t, requests, 4*3*windowSize/maxLimit)
}

// Every list has an All method that reads all pages.
func TestEveryListHasAnAll(t *testing.T) {
	t.Parallel()
	c, api := newTestClient(t)
	for path, all := range map[string]func() (int, error){
		"/keys":    func() (int, error) { return drain(c.Keys.All(t.Context(), KeyListParams{})) },
		"/sources": func() (int, error) { return drain(c.Sources.All(t.Context(), SourceListParams{})) },
		"/sessions": func() (int, error) {
			return drain(c.Sessions.All(t.Context(), SessionListParams{}))
		},
		"/polls":   func() (int, error) { return drain(c.Polls.All(t.Context(), PollListParams{})) },
		"/tasks":   func() (int, error) { return drain(c.Tasks.All(t.Context(), TaskListParams{})) },
		"/results": func() (int, error) { return drain(c.Results.All(t.Context(), ResultListParams{})) },
		"/events":  func() (int, error) { return drain(c.Events.All(t.Context(), EventListParams{})) },
		"/configs/storage": func() (int, error) {
			return drain(c.StorageConfigs.All(t.Context(), StorageConfigListParams{}))
		},
		"/configs/webhook": func() (int, error) {
			return drain(c.WebhookConfigs.All(t.Context(), WebhookConfigListParams{}))
		},
		"/permissions": func() (int, error) {
			return drain(c.Permissions.All(t.Context(), PermissionsListParams{}))
		},
		"/subscriptions": func() (int, error) {
			return drain(c.Subscriptions.All(t.Context(), SubscriptionListParams{}))
		},
	} {
		api.RegisterResponder(http.MethodGet, "=~"+path+`(\?.*)?$`, pages(9, false))
		n, err := all()
		require.NoError(t, err, path)
		assert.Equal(t, 9, n, path)
	}
}

// A proxy's own JSON does not show that a list is empty. What the API's generations write for an
// empty list does.
func TestAListWithoutDataIsNotEmpty(t *testing.T) {
	t.Parallel()
	for body, isList := range map[string]bool{
		`{"error":"maintenance"}`: false, `{"status":"ok"}`: false, `{}`: false, `{"id":"1"}`: false,
		`{"data":null,"has_more":false}`: true, `{"data":[],"has_more":false}`: true, `[]`: true,
		`{"data":[]}`: true, `{"data":null}`: false, `{"code":0,"data":null,"msg":"busy"}`: false,
		`null`: false,
	} {
		c, api := newTestClient(t)
		api.RegisterResponder(http.MethodGet, "=~.*", httpmock.NewStringResponder(200, body))
		for name, read := range map[string]func() error{
			"List": func() error { return result(c.Users.List(t.Context(), UserListParams{})) },
			"All":  func() error { return result(drain(c.Users.All(t.Context(), UserListParams{}))) },
			"All of a list": func() error {
				list := &List[User]{URL: "/users", HasMore: true}
				return result(drain(list.All(t.Context(), c)))
			},
		} {
			err := read()
			if isList {
				require.NoError(t, err, "%s: %s", name, body)
				continue
			}
			decodeErr, ok := errors.AsType[*DecodeError](err)
			require.True(t, ok, "%s: %s: %v", name, body, err)
			assert.Equal(t, "data", decodeErr.Path)
		}
	}
}
