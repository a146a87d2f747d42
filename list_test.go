package ricloud

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"testing"
	"testing/synctest"
	"time"

	"github.com/jarcoal/httpmock"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func jsonResponder(status int, body string) httpmock.Responder {
	return httpmock.NewStringResponder(status, body).HeaderSet(http.Header{"Content-Type": {"application/json"}})
}

// pages serves n users, after_id inclusive or not, at most 4 a page.
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
	n, err := drain(users) // an iterator can be run again
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
	api.RegisterResponder(http.MethodGet, "=~/users", jsonResponder(200, `{"data":[{"id":1},{"id":2}],"has_more":true}`))
	n, err := drain(c.Users.All(t.Context(), UserListParams{}))
	assert.Equal(t, 2, n)
	require.ErrorContains(t, err, `ricloud: Users.List: the page after "2" brought nothing new`)
	assert.Len(t, api.all(), 2)
}

func TestAllEndsAtAnEmptyPage(t *testing.T) {
	t.Parallel()
	c, api := newTestClient(t)
	api.RegisterResponder(http.MethodGet, "=~/users", jsonResponder(200, `{"data":null,"has_more":true}`))
	n, err := drain(c.Users.All(t.Context(), UserListParams{}))
	require.NoError(t, err)
	assert.Zero(t, n)
	assert.Len(t, api.all(), 1)
}

func TestAllStopsAtTheFirstError(t *testing.T) {
	t.Parallel()
	c, api := newTestClient(t)
	api.RegisterResponder(http.MethodGet, "=~/users", jsonResponder(200, `{"data":[{"id":1}],"has_more":true}`).
		Then(jsonResponder(403, `{"error":"missing-scope","message":"no"}`)))
	var seen []ID
	var last error
	for user, err := range c.Users.All(t.Context(), UserListParams{}) {
		if err != nil {
			last = err
			continue // a consumer that goes on gets nothing more
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
	api.RegisterResponder(http.MethodGet, "=~/prefix/sources/31/children", jsonResponder(200, `{"data":[{"id":32},{"id":33}],"has_more":false}`))
	var source Source
	require.NoError(t, json.Unmarshal([]byte(`{"id":31,"children":{"data":[{"id":32}],"has_more":true,"total_count":0,"url":"/sources/31/children"}}`), &source))
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
	const period = "date_created__gte=2026-01-02T03:04:05.678Z&date_created__lt=2026-01-03T03:04:05.678Z"
	tests := []struct {
		name   string
		params listParams
		query  string
	}{
		{name: "no filters", params: PollListParams{}, query: ""},
		{
			name:   "polls",
			params: PollListParams{Source: "x", State: PollCompleted, CreatedSince: since, CreatedBefore: before},
			query:  period + "&source=x&state=completed",
		},
		{
			name:   "tasks",
			params: TaskListParams{Poll: "p", Session: "s", State: TaskFailed, CreatedSince: since, CreatedBefore: before},
			query:  period + "&poll=p&session=s&state=failed",
		},
		{name: "results", params: ResultListParams{Poll: "p"}, query: "poll=p"},
		{name: "events", params: EventListParams{CreatedSince: since, CreatedBefore: before}, query: period},
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
