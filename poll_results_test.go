package ricloud

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// growing is a poll whose results grow with each read. Its nested list shows the first ten of them,
// newest or oldest first.
type growing struct {
	sizes       []int
	newestFirst bool
	reads       int
	pages       int // requests for further pages
	shown       int // results on those pages
}

func (g *growing) size() int { return g.sizes[min(max(g.reads-1, 0), len(g.sizes)-1)] }

func (g *growing) page(after string, limit int) (data []string, more bool) {
	for i := range g.size() {
		data = append(data, "r"+strconv.Itoa(i))
	}
	if g.newestFirst {
		slices.Reverse(data)
	}
	if i := slices.Index(data, after); i >= 0 {
		data = data[i+1:]
	}
	if len(data) <= limit {
		return data, false
	}
	return data[:limit], true
}

func nestedList(data []string, more bool) string {
	for i, id := range data {
		data[i] = fmt.Sprintf(`{"id":%q}`, id)
	}
	return fmt.Sprintf(`{"data":[%s],"has_more":%t,"total_count":0,"url":"/results?poll=p"}`,
		strings.Join(data, ","), more)
}

func (g *growing) RoundTrip(req *http.Request) (*http.Response, error) {
	if req.URL.Path == "/results" {
		limit, err := strconv.Atoi(req.URL.Query().Get("limit"))
		if err != nil {
			return nil, err
		}
		data, more := g.page(req.URL.Query().Get("after_id"), limit)
		g.pages++
		g.shown += len(data)
		return jsonResponder(200, nestedList(data, more))(req)
	}
	g.reads++
	state, processing := "processing", `["a"]`
	if g.reads >= len(g.sizes) {
		state, processing = "completed", "[]"
	}
	body := fmt.Sprintf(`{"id":"p","state":%q,"tasks_processing":%s,"tasks_succeeded":%s,`+
		`"results":%s}`,
		state, processing, strings.ReplaceAll(fmt.Sprintf("%q", make([]string, g.reads)), " ", ","),
		nestedList(g.page("", 10)))
	return jsonResponder(200, body)(req)
}

func TestPollResultsFollowsPagesWithoutReadingThemAgain(t *testing.T) {
	t.Parallel()
	for _, newestFirst := range []bool{true, false} {
		t.Run(fmt.Sprintf("newest first %t", newestFirst), func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				api := &growing{sizes: []int{0, 5, 10, 25, 400, 1700, 2500, 2500}, newestFirst: newestFirst}
				c, err := NewClient("token", WithTransport(api))
				require.NoError(t, err)
				seen := map[ID]int{}
				late := 0 // results that came only after the poll had ended
				for r, err := range c.Polls.Results(t.Context(), "p") {
					require.NoError(t, err)
					seen[r.ID]++
					if api.reads == len(api.sizes) {
						late++
					}
				}
				assert.Len(t, seen, 2500)
				for id, n := range seen {
					require.Equal(t, 1, n, "%s comes once", id)
				}
				assert.Zero(t, late, "all came while the poll ran")
				assert.LessOrEqual(t, api.shown, 3*2500+2000, "a page is not read at each change")
				assert.LessOrEqual(t, api.pages, 12)
			})
		})
	}
}

func TestPollResultsEndsWithItsConsumer(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		api := &growing{sizes: []int{25, 400}, newestFirst: true}
		c, err := NewClient("token", WithTransport(api))
		require.NoError(t, err)
		n := 0
		for _, err := range c.Polls.Results(t.Context(), "p") {
			require.NoError(t, err)
			if n++; n == 15 {
				break
			}
		}
		assert.Equal(t, 1, api.reads)
		assert.Equal(t, 1, api.pages)
	})
}

// A result without an ID is yielded once, like any other.
func TestPollResultsWithoutAnID(t *testing.T) {
	t.Parallel()
	const first, second, third = `{"task":"t","identifier":"a","url":"s3://b/a"}`,
		`{"task":"t","identifier":"b","url":"s3://b/b"}`, `{"id":"r","identifier":"c"}`
	shown := [][]string{
		{first}, {first, second}, {first, second, third}, {second, first, first, third},
	}
	for name, page := range map[string]int{"in the poll": 10, "on pages": 2} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				reads := 0
				c := clientOf(t, func(r *http.Request) (*http.Response, error) {
					last := len(shown) - 1
					if r.URL.Path == "/results" {
						data := strings.Join(shown[min(reads-1, last)], ",")
						return answer(200, `{"data":[`+data+`],"has_more":false}`)
					}
					now := shown[min(reads, last)]
					state := "processing"
					if reads++; reads > last {
						state = "completed"
					}
					return answer(200, fmt.Sprintf(
						`{"id":"p","state":%q,"tasks_succeeded":[%s],"results":`+
							`{"data":[%s],"has_more":%t,"url":"/results?poll=p"}}`,
						state, strings.TrimSuffix(strings.Repeat(`"t",`, reads), ","),
						strings.Join(now[:min(len(now), page)], ","), len(now) > page))
				})
				var got []string
				for r, err := range c.Polls.Results(t.Context(), "p") {
					require.NoError(t, err)
					got = append(got, r.Identifier)
				}
				slices.Sort(got)
				assert.Equal(t, []string{"a", "a", "b", "c"}, got)
			})
		})
	}
}

func TestPollResultsAsTheyArePublished(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		c, api := newTestClient(t)
		api.RegisterResponder(http.MethodGet, "=~/polls/p$", states(
			`{"id":"p","state":"processing","tasks_processing":["a"],"results":[]}`,
			`{"id":"p","state":"processing","tasks_processing":["a"],"results":[{"id":"r1"}]}`,
			`{"id":"p","state":"processing","tasks_processing":["a"],"results":{"data":[{"id":"r1"},`+
				`{"id":"r2"}],"has_more":true,"url":"/polls/p/results"}}`,
			`{"id":"p","state":"completed","tasks_succeeded":["a"],"tasks_failed":["b"],`+
				`"results":{"data":[{"id":"r1"},{"id":"r2"}],"has_more":true,"url":"/polls/p/results"}}`,
		))
		api.RegisterResponder(http.MethodGet, "=~/polls/p/results",
			states(`[{"id":"r3"}]`, `[{"id":"r3"},{"id":"r4"}]`))
		var ids []ID
		var end error
		for r, err := range c.Polls.Results(t.Context(), "p") {
			if err != nil {
				end = err
				break
			}
			ids = append(ids, r.ID)
		}
		assert.Equal(t, []ID{"r1", "r2", "r3", "r4"}, ids, "each once")
		state, ok := errors.AsType[*StateError](end)
		require.True(t, ok, "%v", end)
		assert.Equal(t, []ID{"b"}, state.Failed, "after every result of the good tasks")
	})
}

func TestPollResultsOfAPollThatShowsNone(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		c, api := newTestClient(t)
		api.RegisterResponder(http.MethodGet, "=~/polls/p$",
			states(`{"id":"p","state":"completed","tasks_succeeded":["a","b"]}`))
		api.RegisterResponder(http.MethodGet, "=~/results",
			func(req *http.Request) (*http.Response, error) {
				return jsonResponder(200, fmt.Sprintf(`{"data":[{"id":"r-%s"}]}`, req.URL.Query().Get("task")))(
					nil,
				)
			})
		var ids []ID
		for r, err := range c.Polls.Results(t.Context(), "p") {
			require.NoError(t, err)
			ids = append(ids, r.ID)
		}
		assert.Equal(t, []ID{"r-a", "r-b"}, ids)
	})
}

// An event may show fewer results than a poll has. The poll is then read once, and if that does not
// help, the lists of its tasks or its own.
func TestPollResultsOfAnEventThatShowsTooFew(t *testing.T) {
	t.Parallel()
	const (
		whole = `"tasks_succeeded":["a"],"results":[{"id":"r1","state":"available"},` +
			`{"id":"r2","state":"available"}]`
		none   = `"tasks_succeeded":["a"],"results":[]`
		read   = "/polls/p"
		byTask = "/results?limit=1000&task=a"
	)
	for _, tt := range []struct {
		name, shown, got string
		requests         []string
		wantErr          bool
	}{
		{name: "all", shown: whole},
		{name: "all, of an API without states", shown: `"tasks_succeeded":["a"],"results":[{` +
			`"id":"r1","url":"s3://b/1"},{"id":"r2","url":"s3://b/2"}]`},
		{name: "none", shown: none, got: whole, requests: []string{read}},
		{
			name: "none of several", shown: `"tasks_succeeded":["a"],"results":{"data":[],"total_count":2}`,
			got: whole, requests: []string{read},
		},
		{
			name:  "one of two",
			shown: `"tasks_succeeded":["a"],"results":{"data":[{"id":"r1","url":"u"}],"total_count":2}`,
			got:   whole, requests: []string{read},
		},
		{
			name:  "more, and no URL",
			shown: `"tasks_succeeded":["a"],"results":{"data":[{"id":"r1","url":"u"}],"has_more":true}`,
			got:   whole, requests: []string{read},
		},
		{name: "no list", shown: `"tasks_succeeded":["a"]`, got: whole, requests: []string{read}},
		{name: "no list and no task", shown: `"results":null`, got: whole, requests: []string{read}},
		{
			name: "only IDs", shown: `"tasks_succeeded":["a"],"results":["r1","r2"]`, got: whole,
			requests: []string{read},
		},
		{
			name: "only IDs, like the poll", shown: `"tasks_succeeded":["a"],"results":["r1","r2"]`,
			got:      `"tasks_succeeded":["a"],"results":[{"id":"r1"},{"id":"r2"}]`,
			requests: []string{read},
		},
		{name: "none, like the poll", shown: none, got: none, requests: []string{read, byTask}},
		{
			name: "no list, like the poll", shown: `"tasks_succeeded":["a"]`, got: `"tasks_succeeded":["a"]`,
			requests: []string{read, byTask},
		},
		{
			name:  "one of two, like the poll",
			shown: none, got: `"tasks_succeeded":["a"],"results":{"data":[{"id":"r1"}],"total_count":2}`,
			requests: []string{read, byTask},
		},
		{
			name:  "one of two, and more at a URL",
			shown: none, got: `"results":{"data":[{"id":"r1"}],"total_count":2,"url":"/results?poll=p"}`,
			requests: []string{read, "/results?limit=1000&poll=p"},
		},
		{
			name:  "one of three, more at a URL, and fewer there",
			shown: none, got: `"tasks_succeeded":["a"],"results":{"data":[{"id":"r1"}],` +
				`"total_count":3,"has_more":true,"url":"/results?poll=p"}`,
			requests: []string{read, "/results?limit=1000&poll=p", byTask},
		},
		{
			name: "none, and the poll has failed in part", shown: none, got: whole + `,"tasks_failed":["b"]`,
			requests: []string{read}, wantErr: true,
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			c, api := newTestClient(t)
			state := `{"id":"p","state":"completed",`
			api.RegisterResponder(http.MethodGet, "=~/polls/p$", jsonResponder(200, state+tt.got+`}`))
			api.RegisterResponder(http.MethodGet, "=~/results",
				jsonResponder(200, `{"data":[{"id":"r1"},{"id":"r2"}],"has_more":false}`))
			c.Notify(event("poll", state+tt.shown+`}`))
			var ids []ID
			var end error
			for r, err := range c.Polls.Results(t.Context(), "p") {
				if end = err; err == nil {
					ids = append(ids, r.ID)
				}
			}
			assert.Equal(t, []ID{"r1", "r2"}, ids)
			assert.Equal(t, tt.wantErr, isStateError(end), "%v", end)
			var requests []string
			for _, r := range api.all() {
				requests = append(requests, strings.TrimSuffix(r.Path+"?"+r.Query, "?"))
			}
			assert.Equal(t, tt.requests, requests)
		})
	}
}

// What a wait has read by itself is not read again, and no trace of that is in a poll.
func TestPollResultsOfAPollThatWasRead(t *testing.T) {
	t.Parallel()
	c, api := newTestClient(t)
	api.RegisterResponder(http.MethodGet, "=~/polls/p$",
		jsonResponder(200, `{"id":"p","state":"completed","tasks_succeeded":["a"],"results":[]}`))
	api.RegisterResponder(http.MethodGet, "=~/results", jsonResponder(200, `{"data":[]}`))
	for _, err := range c.Polls.Results(t.Context(), "p") {
		require.NoError(t, err)
	}
	assert.Len(t, api.all(), 2, "the poll, and the list of its task")

	got, err := c.Polls.Get(t.Context(), "p")
	require.NoError(t, err)
	waited, err := c.Polls.Wait(t.Context(), "p")
	require.NoError(t, err)
	assert.Equal(t, got, waited)
}

// A poll that cannot be read yields what its event shows, and the error. One that has not ended yet
// by its own word is not believed.
func TestPollResultsOfAPollThatCannotBeReadAgain(t *testing.T) {
	t.Parallel()
	for name, responder := range map[string]func(*http.Request) (*http.Response, error){
		"gone":        jsonResponder(404, `{"error":"not-found"}`),
		"still going": jsonResponder(200, `{"id":"p","state":"processing","results":[]}`),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c, api := newTestClient(t)
			api.RegisterResponder(http.MethodGet, "=~/polls/p$", responder)
			api.RegisterResponder(http.MethodGet, "=~/results", jsonResponder(200, `{"data":[{"id":"r2"}]}`))
			c.Notify(event("poll", `{"id":"p","state":"completed","tasks_succeeded":["a"],`+
				`"results":{"data":[{"id":"r1"}],"total_count":2}}`))
			var ids []ID
			var end error
			for r, err := range c.Polls.Results(t.Context(), "p") {
				if end = err; err == nil {
					ids = append(ids, r.ID)
				}
			}
			assert.Equal(t, []ID{"r1", "r2"}, ids)
			assert.Equal(t, name == "gone", errors.Is(end, ErrNotFound), "%v", end)
			if end != nil {
				require.ErrorContains(t, end, "Polls.Results")
			}
		})
	}
}

// A task that has just succeeded and shows no result is looked at again for a minute: what the API
// shows of a poll, or lists, may be behind. What is still missing then is reported.
func TestPollResultsThatAreLate(t *testing.T) {
	t.Parallel()
	type row struct {
		lag     time.Duration
		running bool // when it is first seen
		ago     time.Duration
		ids     int
		after   time.Duration
	}
	for name, tc := range map[string]row{
		"not late":          {running: true, ids: 2, after: 5 * time.Second},
		"half a second":     {lag: time.Second / 2, running: true, ids: 2, after: 6 * time.Second},
		"half a minute":     {lag: 30 * time.Second, running: true, ids: 2, after: 40 * time.Second},
		"for ever":          {lag: time.Hour, running: true, ids: 1, after: 65 * time.Second},
		"just ended":        {lag: 30 * time.Second, ids: 2, after: 35 * time.Second},
		"ended long before": {lag: time.Hour, ago: time.Hour, ids: 1},
	} {
		for _, shows := range []bool{true, false} {
			t.Run(fmt.Sprintf("%s, shown by the poll %t", name, shows), func(t *testing.T) {
				t.Parallel()
				synctest.Test(t, func(t *testing.T) {
					began := time.Now()
					completed := began.Add(-tc.ago)
					if tc.running {
						completed = began.Add(5 * time.Second)
					}
					results := func() string {
						if time.Now().Before(completed) {
							return `[{"id":"r-a","task":"a"}]`
						}
						if tc.ago > 0 || time.Since(completed) < tc.lag {
							return `[{"id":"r-a","task":"a"}]`
						}
						return `[{"id":"r-a","task":"a"},{"id":"r-b","task":"b"}]`
					}
					var told []DecodeInfo
					hook := decodeHook(func(_ context.Context, info DecodeInfo) { told = append(told, info) })
					requests := 0
					c := clientOf(t, RoundTripFunc(func(req *http.Request) (*http.Response, error) {
						requests++
						if req.URL.Path == "/results" {
							if req.URL.Query().Get("task") == "a" || !strings.Contains(results(), "r-b") {
								return jsonResponder(200, `{"data":[{"id":"r-a","task":"a"}]}`)(req)
							}
							return jsonResponder(200, `{"data":[{"id":"r-b","task":"b"}]}`)(req)
						}
						state, tasks := "completed", `"tasks_succeeded":["a","b"]`
						if time.Now().Before(completed) {
							state, tasks = "processing", `"tasks_processing":["b"],"tasks_succeeded":["a"]`
						}
						shown := "null"
						if shows {
							shown = `{"data":` + results() + `}`
						}
						return jsonResponder(200, fmt.Sprintf(
							`{"id":"p","state":%q,%s,"results":%s,"date_completed":%q}`, state, tasks, shown,
							completed.Format(time.RFC3339)))(req)
					}), WithPolling(time.Second, time.Second), WithHooks(hook))
					var ids []ID
					for r, err := range c.Polls.Results(t.Context(), "p") {
						require.NoError(t, err)
						ids = append(ids, r.ID)
					}
					assert.Len(t, ids, tc.ids)
					assert.InDelta(t, tc.after.Seconds(), time.Since(began).Seconds(), 1.5)
					assert.Less(t, requests, 30)
					var missing []DecodeInfo
					if tc.ids == 1 && tc.ago == 0 {
						missing = []DecodeInfo{{
							Operation: "Polls.Results", Path: "tasks_succeeded", Reason: "task b shows no result",
						}}
					}
					assert.Equal(t, missing, told)
				})
			})
		}
	}
}

// While Results looks for late results, it ends with its context, with an error of a look, and with
// its consumer.
func TestPollResultsThatAreLateEnd(t *testing.T) {
	t.Parallel()
	for name, refused := range map[string]bool{"context": false, "error": true, "consumer": false} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				began := time.Now()
				c := clientOf(t, RoundTripFunc(func(req *http.Request) (*http.Response, error) {
					shown := ""
					switch passed := time.Since(began); {
					case req.URL.Path == "/results":
						return jsonResponder(200, `{"data":[]}`)(req)
					case passed > 0 && refused:
						return jsonResponder(403, `{"error":"missing-scope"}`)(req)
					case passed > 0 && name == "consumer":
						shown = `{"id":"r-a","task":"a"}`
					}
					return jsonResponder(200, fmt.Sprintf(
						`{"id":"p","state":"completed","tasks_succeeded":["a"],"results":{"data":[%s]},`+
							`"date_completed":%q}`, shown, began.Format(time.RFC3339)))(req)
				}))
				ctx, cancel := context.WithTimeout(t.Context(), 3*time.Second)
				defer cancel()
				var ids []ID
				var end error
				for r, err := range c.Polls.Results(ctx, "p") {
					if end = err; err == nil {
						ids = append(ids, r.ID)
						break
					}
				}
				switch name {
				case "context":
					require.ErrorIs(t, end, context.DeadlineExceeded)
					require.ErrorContains(t, end, "Polls.Results")
				case "error":
					require.ErrorIs(t, end, ErrForbidden)
					require.ErrorContains(t, end, "Polls.Results")
				default:
					require.NoError(t, end)
					assert.Equal(t, []ID{"r-a"}, ids)
				}
			})
		})
	}
}

// A result holds records if its type says so, in whatever spelling, or if it has no type.
func TestWhichResultsHoldRecords(t *testing.T) {
	t.Parallel()
	for kind, want := range map[string]bool{
		"json": true, "JSON": true, " json": true, "text/json": true, "": true,
		"application/json; charset=utf-8": true, "image": false, "application/geo+json": false,
	} {
		c := cascade{poll: &Poll{}}
		assert.Equal(t, want, c.mayHoldRecords(&Result{Type: kind}), kind)
	}
	files := cascade{poll: &Poll{Type: "files"}}
	assert.False(t, files.mayHoldRecords(&Result{}))
}
