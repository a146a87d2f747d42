package ricloud_test

import (
	"context"
	"errors"
	"fmt"
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

	ricloud "github.com/reincubate/ricloud-go"
)

func TestReplayHandsOverWhatWasMissed(t *testing.T) {
	t.Parallel()
	client, _ := record(t, map[string][]string{
		// deliberately unordered
		"failed": {
			recorded("f9", 9), recorded("f3", 3), recorded("f5", 5), recorded("old", -1),
			recorded("f1", 1),
		},
		"pending": {
			recorded("p4", 4), recorded("p2", 2),
			`{"id":"undated","type":"poll","action":"created"}`,
		},
		"delivered": {recorded("d6", 6)},
		"":          {recorded("d6", 6)},
	})
	var got []ricloud.ID
	bad := errors.New("bad")
	n, err := client.Events.Replay(t.Context(), epoch,
		func(_ context.Context, e *ricloud.Event) error {
			got = append(got, e.ID)
			if e.ID == "f3" {
				return bad
			}
			return nil
		})
	require.ErrorIs(t, err, bad)
	require.ErrorContains(t, err, "f3 (poll.completed)")
	assert.Equal(t, []ricloud.ID{"undated", "f1", "p2", "f3", "p4", "f5", "f9"}, got)
	assert.Equal(t, 6, n)
}

// An API that ignores the filter also shows events that were delivered, which are not handled.
func TestReplayLeavesOutWhatWasDelivered(t *testing.T) {
	t.Parallel()
	delivered := strings.Replace(recorded("d2", 2), "{", `{"state":"delivered",`, 1)
	client, _ := record(t, map[string][]string{
		"failed": {recorded("f3", 3), delivered, recorded("f1", 1)}, "pending": {delivered},
	})
	var got []ricloud.ID
	n, err := client.Events.Replay(t.Context(), epoch,
		func(_ context.Context, e *ricloud.Event) error {
			got = append(got, e.ID)
			return nil
		})
	require.NoError(t, err)
	assert.Equal(t, []ricloud.ID{"f1", "f3"}, got)
	assert.Equal(t, 2, n)
}

func TestReplayEnds(t *testing.T) {
	t.Parallel()
	client, _ := record(t, map[string][]string{"failed": {recorded("b", 2), recorded("a", 1)}})
	ctx, cancel := context.WithCancelCause(t.Context())
	stop := errors.New("stop")
	n, err := client.Events.Replay(ctx, time.Time{}, func(context.Context, *ricloud.Event) error {
		cancel(stop)
		return nil
	})
	require.ErrorIs(t, err, stop)
	assert.Equal(t, 1, n)
}

// If the API lists the newest events first, years of failed events cost one page. In any other
// order Replay reads more pages, and still finds every event.
func TestReplayReadsNoFurtherThanItMust(t *testing.T) {
	t.Parallel()
	var newestFirst, oldestFirst []string
	for i := range 10_000 {
		newestFirst = append(newestFirst, recorded(strconv.Itoa(i), 2-i))
		oldestFirst = append(oldestFirst, recorded(strconv.Itoa(i), 2+i-9_999))
	}
	for name, tt := range map[string]struct {
		events   []string
		requests int
	}{
		"newest first": {events: newestFirst, requests: 3},
		"oldest first": {
			events:   oldestFirst,
			requests: 12,
		}, // the last page is full, so another is read
	} {
		client, requests := record(t, map[string][]string{"failed": tt.events})
		n, err := client.Events.Replay(t.Context(), epoch, func(context.Context, *ricloud.Event) error {
			return nil
		})
		require.NoError(t, err, name)
		assert.Equal(t, 3, n, name)
		assert.LessOrEqual(t, requests(), tt.requests, name)
	}
}

// An event whose delivery fails during Replay moves from one list to the other, and is still found.
func TestReplayFindsAnEventThatFailsMeanwhile(t *testing.T) {
	t.Parallel()
	state := "pending"
	api := &lists{list: func(query url.Values, _ int) (events []string) {
		if query.Get("state") == state {
			events = []string{recorded("moving", 1)}
		}
		state = "failed" // after the first request
		return events
	}}
	var got ids
	n, err := api.client(t).Events.Replay(t.Context(), epoch, got.take)
	require.NoError(t, err)
	assert.Equal(t, 1, n)
	assert.Equal(t, ids{"moving"}, got)

	// An event that is in both lists is handled once.
	api = &lists{list: func(url.Values, int) []string { return []string{recorded("both", 1)} }}
	got = nil
	n, err = api.client(t).Events.Replay(t.Context(), epoch, got.take)
	require.NoError(t, err)
	assert.Equal(t, 1, n)
	assert.Equal(t, ids{"both"}, got)
}

// Every event is found if the one behind which the next page begins leaves the list meanwhile,
// whatever the API then answers.
func TestReplayFindsEverythingInAListThatChanges(t *testing.T) {
	t.Parallel()
	const pageSize, events = 20, 60
	for name, lost := range map[string]func() (status int, page []string){
		"the list from its beginning": nil,
		"an empty page":               func() (int, []string) { return http.StatusOK, nil },
		"not found":                   func() (int, []string) { return http.StatusNotFound, nil },
		"a bad request":               func() (int, []string) { return http.StatusBadRequest, nil },
	} {
		lists, requests := map[string][]string{}, 0
		for i := range events {
			lists["pending"] = append(lists["pending"], strconv.Itoa(i))
		}
		api := roundTripper(func(r *http.Request) (*http.Response, error) {
			requests++
			query := r.URL.Query()
			state, after, status := query.Get("state"), query.Get("after_id"), http.StatusOK
			list := lists[state]
			if i := slices.Index(list, after); i >= 0 {
				list = list[i+1:]
			} else if after != "" && lost != nil {
				status, list = lost()
			}
			page := list[:min(pageSize, len(list))]
			var data []string
			for _, id := range page {
				minute, _ := strconv.Atoi(id)
				data = append(data, recorded(id, minute))
			}
			body := fmt.Sprintf(`{"data":[%s],"has_more":%t,"error":"invalid"}`,
				strings.Join(data, ","), len(page) < len(list))
			if requests == 2 { // the last event of the second page fails to be delivered
				last := page[len(page)-1]
				lists["failed"] = append(lists["failed"], last)
				lists["pending"] = slices.DeleteFunc(slices.Clone(lists["pending"]),
					func(id string) bool { return id == last })
			}
			return httpmock.NewStringResponse(status, body), nil
		})
		client, err := ricloud.NewClient("token", ricloud.WithTransport(api))
		require.NoError(t, err)
		var got ids
		n, err := client.Events.Replay(t.Context(), epoch, got.take)
		require.NoError(t, err, name)
		assert.Equal(t, events, n, name)
		slices.Sort(got)
		assert.Len(t, slices.Compact(got), events, "%s: each once", name)
	}
}

// An entry that is not an event is reported by its ID, and the other events are handled.
func TestReplayReportsTheOddAndGoesOn(t *testing.T) {
	t.Parallel()
	for _, odd := range []string{
		`{"id":"odd","type":7,"date_created":"2020-02-25T00:02:00Z"}`,
		`{"id":"odd"}`,
		`{"id":"odd","type":null,"data":"canary"}`,
		`{"id":"odd","type":["canary"]}`,
		`{"id":"odd","type":"poll","data":"[redacted]"}`,
	} {
		client, _ := record(t, map[string][]string{"failed": {recorded("a", 3), odd, recorded("b", 1)}})
		var got ids
		n, err := client.Events.Replay(t.Context(), epoch, got.take)
		require.ErrorContains(t, err, "event odd", odd)
		assert.NotContains(t, err.Error(), "canary")
		assert.Equal(t, ids{"b", "a"}, got, odd)
		assert.Equal(t, 2, n, odd)
	}
	for _, odd := range []string{`7`, `"x"`, `null`, `[]`, `{}`} {
		client, _ := record(t, map[string][]string{"failed": {recorded("a", 3), odd, recorded("b", 1)}})
		var got ids
		_, err := client.Events.Replay(t.Context(), epoch, got.take)
		require.Error(t, err, odd)
		assert.Equal(t, ids{"b", "a"}, got, odd)
	}
	// Odd types in secondary fields are not errors.
	fine := `{"id":"c","type":"poll","data":{"id":"p"},"retries":"5",` +
		`"date_created":"2020-02-25 00:02:00","state":3,"action":null}`
	client, _ := record(t, map[string][]string{"failed": {recorded("a", 3), fine, recorded("b", 1)}})
	var got ids
	_, err := client.Events.Replay(t.Context(), epoch, got.take)
	require.NoError(t, err)
	assert.Equal(t, ids{"b", "c", "a"}, got)
}

// A date may lack its fraction of a second, so Replay includes the whole second of since.
func TestReplaySinceIsBySecond(t *testing.T) {
	t.Parallel()
	client, _ := record(t, map[string][]string{"failed": {recorded("a", 0)}})
	n, err := client.Events.Replay(t.Context(), epoch.Add(900*time.Millisecond), (&ids{}).take)
	require.NoError(t, err)
	assert.Equal(t, 1, n)
}

func TestReplayRefuses(t *testing.T) {
	t.Parallel()
	client, requests := record(t, nil)
	_, err := client.Events.Replay(t.Context(), epoch, nil)
	var p *ricloud.ParamError
	require.ErrorAs(t, err, &p)
	assert.Equal(t, "fn", p.Field)
	_, err = newWebhook(t, ignore).Replay(t.Context(), nil)
	require.ErrorAs(t, err, &p)
	assert.Zero(t, requests(), "before anything is read")
	require.ErrorAs(t, newWebhook(t, ignore).Handle(t.Context(), nil), &p)
	lost := &ricloud.Event{ID: "1", Type: "poll", Data: []byte(`"[redacted]"`)}
	require.ErrorAs(t, newWebhook(t, ignore).Handle(t.Context(), lost), &p)
	client.Notify(nil) // nil is ignored
}

// Replay counts only events that were not handled before.
func TestReplayCountsWhatIsNew(t *testing.T) {
	t.Parallel()
	events := map[string][]string{
		"failed":  {recorded("a", 1), recorded("b", 2)},
		"pending": {recorded("c", 3)},
	}
	client, _ := record(t, events)
	handler := newWebhook(t, ignore)
	require.NoError(t, handler.Handle(t.Context(), &ricloud.Event{ID: "b", Type: "poll"}))
	wrapped := func(ctx context.Context, e *ricloud.Event) error { return handler.Handle(ctx, e) }
	n, err := client.Events.Replay(t.Context(), epoch, wrapped)
	require.NoError(t, err)
	assert.Equal(t, 2, n)
	n, err = client.Events.Replay(t.Context(), epoch, wrapped)
	require.NoError(t, err)
	assert.Zero(t, n)
	done := func(context.Context, *ricloud.Event) error { return ricloud.ErrEventDone }
	n, err = client.Events.Replay(t.Context(), epoch, done)
	require.NoError(t, err, "the caller's own deduplication may say so, too")
	assert.Zero(t, n)
}

// If a page of events is larger than the limit of a body, Replay asks for smaller pages.
func TestReplayReadsLargeEvents(t *testing.T) {
	t.Parallel()
	var events []string
	for i := range 30 {
		e := recorded(strconv.Itoa(i), 30-i)
		events = append(events,
			strings.Replace(e, `"data":{`, `"data":{"padding":"`+strings.Repeat("x", 20_000)+`",`, 1))
	}
	api := &lists{list: func(q url.Values, _ int) []string {
		if q.Get("state") == "failed" {
			return events
		}
		return nil
	}}
	n, err := api.client(t, ricloud.WithMaxBody(100_000)).Events.Replay(t.Context(), epoch,
		(&ids{}).take)
	require.NoError(t, err)
	assert.Equal(t, 30, n)
}

// A receiver that calls Replay on a timer handles an event once, with the default settings, even if
// the API lists it as failed for ever.
func TestReplayOnATimerHandlesAnEventOnce(t *testing.T) {
	t.Parallel()
	for name, replay := range map[string]func(*ricloud.WebhookHandler, *ricloud.Client) (int, error){
		"with a date of its own": func(h *ricloud.WebhookHandler, c *ricloud.Client) (int, error) {
			return c.Events.Replay(context.Background(), time.Now().Add(-3*24*time.Hour), h.Handle)
		},
		"with the handler's": func(h *ricloud.WebhookHandler, c *ricloud.Client) (int, error) {
			return h.Replay(context.Background(), c)
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				created := time.Now().Add(time.Hour)
				api := &lists{}
				api.list = func(q url.Values, _ int) []string {
					if time.Now().Before(created) || q.Get("state") != "failed" {
						return nil
					}
					return []string{dated("a", created)}
				}
				client, calls := api.client(t), 0
				handler := newWebhook(t, func(context.Context, *ricloud.Event) error { calls++; return nil })
				for range 20 * 24 {
					api.mu.Lock()
					api.now = time.Now()
					api.mu.Unlock()
					_, err := replay(handler, client)
					require.NoError(t, err)
					time.Sleep(time.Hour) //nolint:forbidigo // virtual
				}
				assert.Equal(t, 1, calls)
			})
		})
	}
}

// WebhookHandler.Replay keeps its own position. Events that fail during a downtime are handled,
// whenever they were created and whatever this machine's clock says.
func TestHandlerReplayKeepsItsPosition(t *testing.T) {
	t.Parallel()
	for name, offset := range map[string]time.Duration{
		"clocks agree": 0, "an hour fast": time.Hour, "an hour slow": -time.Hour,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				now := func() time.Time { return time.Now().Add(-offset) } // the API's clock
				var events []string
				api := &lists{list: func(q url.Values, _ int) []string {
					if q.Get("state") == "failed" {
						return events
					}
					return nil
				}}
				client, dedupe := api.client(t), ricloud.NewMemoryDeduplicator(0, 0)
				var got ids
				fail := ricloud.ID("")
				handler := newWebhook(t, func(ctx context.Context, e *ricloud.Event) error {
					if e.ID == fail {
						return errors.New("not yet")
					}
					return got.take(ctx, e)
				}, ricloud.WithWebhookDeduplicator(dedupe))
				replay := func() (int, error) {
					api.now = now()
					return handler.Replay(t.Context(), client)
				}
				_, err := replay()
				require.NoError(t, err)
				position, err := dedupe.Cursor(t.Context())
				require.NoError(t, err)
				assert.False(t, position.IsZero())
				assert.Less(t, position, now().Add(-20*time.Hour), "with room for retries and clocks")

				// One event was created before the stop, and its last retry fails during the downtime.
				stopped := now()
				time.Sleep(5 * 24 * time.Hour) //nolint:forbidigo // virtual
				events = []string{
					dated("during", stopped.Add(48*time.Hour)),
					dated("retried", stopped.Add(-6*time.Hour)),
					dated("ancient", stopped.Add(-60*24*time.Hour)),
				}
				fail = "retried"
				n, err := replay()
				require.ErrorContains(t, err, "not yet")
				assert.Equal(t, 1, n)
				assert.Equal(t, ids{"during"}, got)

				fail = ""                       // the failed event holds the position back
				time.Sleep(10 * 24 * time.Hour) //nolint:forbidigo // virtual
				n, err = replay()
				require.NoError(t, err)
				assert.Equal(t, 1, n)
				assert.Equal(t, ids{"during", "retried"}, got)
				position, err = dedupe.Cursor(t.Context())
				require.NoError(t, err)
				assert.Greater(t, position, now().Add(-25*time.Hour))
			})
		})
	}
}

// The position does not advance if a list cannot be read to its end.
func TestHandlerReplayKeepsItsPositionWhenReadingFails(t *testing.T) {
	t.Parallel()
	api := httpmock.NewMockTransport()
	api.RegisterResponder(http.MethodGet, `=~/events\b`,
		func(r *http.Request) (*http.Response, error) {
			if r.URL.Query().Get("state") == "failed" {
				return httpmock.NewStringResponse(http.StatusForbidden, `{}`), nil
			}
			return httpmock.NewStringResponse(http.StatusOK, `{"data":[`+recorded("a", 1)+`]}`), nil
		})
	client, err := ricloud.NewClient("token", ricloud.WithTransport(api))
	require.NoError(t, err)
	dedupe := ricloud.NewMemoryDeduplicator(0, 0)
	handler := newWebhook(t, ignore, ricloud.WithWebhookDeduplicator(dedupe))
	_, err = handler.Replay(t.Context(), client)
	require.ErrorIs(t, err, ricloud.ErrForbidden)
	position, err := dedupe.Cursor(t.Context())
	require.NoError(t, err)
	assert.True(t, position.IsZero())
}
