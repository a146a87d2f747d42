package ricloud_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/jarcoal/httpmock"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	ricloud "github.com/reincubate/ricloud-go"
)

// Watch yields every event of the record once, in whatever order the record lists them, including
// late ones.
func TestWatchYieldsNewEvents(t *testing.T) {
	t.Parallel()
	orders := map[string]func([]string){
		"newest first": slices.Reverse[[]string],
		"oldest first": func([]string) {},
		"in no order": func(s []string) {
			rand.Shuffle(len(s), func(i, j int) { s[i], s[j] = s[j], s[i] })
		},
	}
	for name, order := range orders {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				var log []string // the API's record, oldest first
				api := &lists{list: func(url.Values, int) []string {
					events := slices.Clone(log)
					order(events)
					return events
				}}
				add := func(id string, ago time.Duration) {
					api.mu.Lock()
					defer api.mu.Unlock()
					log = append(log, dated(id, time.Now().Add(-ago)))
				}
				for i := range 150 {
					add(fmt.Sprint("before", i), time.Hour)
				}
				ctx, cancel := context.WithTimeout(t.Context(), 45*time.Minute)
				defer cancel()
				want := []ricloud.ID{}
				go func() {
					time.Sleep(time.Minute) //nolint:forbidigo // virtual
					for i := range 8 {
						for j := range 30 { // many events in the same second
							add(fmt.Sprint(i, "-", j), 0)
						}
						if i == 4 {
							add("late", 20*time.Minute)
						}
						time.Sleep(4 * time.Minute) //nolint:forbidigo // virtual
					}
				}()
				for i := range 8 {
					for j := range 30 {
						want = append(want, ricloud.ID(fmt.Sprint(i, "-", j)))
					}
				}
				var got []ricloud.ID
				var err error
				for event, failure := range api.client(t).Events.Watch(ctx, ricloud.EventWatchParams{}) {
					if err = failure; failure == nil {
						got = append(got, event.ID)
					}
				}
				require.ErrorIs(t, err, context.DeadlineExceeded)
				assert.ElementsMatch(t, append(want, "late"), got, "each once")
			})
		})
	}
}

// A watch that is interrupted resumes from its cursor and misses no event. With a handler, no event
// is handled twice.
func TestWatchResumes(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var log []string
		api := &lists{list: func(url.Values, int) []string {
			events := slices.Clone(log)
			slices.Reverse(events)
			return events
		}}
		client, dedupe := api.client(t), ricloud.NewMemoryDeduplicator(0, 0)
		var got ids
		handler := newWebhook(t, got.take, ricloud.WithWebhookDeduplicator(dedupe))
		made := 0
		add := func() {
			api.mu.Lock()
			defer api.mu.Unlock()
			made++
			log = append(log, dated(strconv.Itoa(made), time.Now()))
		}
		run := func(d time.Duration) {
			ctx, cancel := context.WithTimeout(t.Context(), d)
			defer cancel()
			params := ricloud.EventWatchParams{Cursor: dedupe}
			for event, err := range client.Events.Watch(ctx, params) {
				if err == nil {
					require.NoError(t, handler.Handle(ctx, event))
				}
			}
		}
		go func() {
			for range 100 {
				time.Sleep(time.Minute) //nolint:forbidigo // virtual
				add()
			}
		}()
		run(10*time.Minute + 30*time.Second)
		time.Sleep(50 * time.Minute) //nolint:forbidigo // virtual: an outage
		run(2 * time.Hour)
		assert.Len(t, got, 100)
		slices.Sort(got)
		assert.Len(t, slices.Compact(got), 100)
	})
}

// Watch tolerates temporary failures and answers that are not the API's, reports entries that it
// cannot read, and ends on a permanent failure.
func TestWatchFailures(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var mu sync.Mutex
		status := http.StatusOK
		var log []string
		set := func(code int, events ...string) {
			mu.Lock()
			defer mu.Unlock()
			status, log = code, append(log, events...)
		}
		api := httpmock.NewMockTransport()
		api.RegisterResponder(http.MethodGet, `=~/events\b`, func(*http.Request) (*http.Response, error) {
			mu.Lock()
			defer mu.Unlock()
			switch status {
			case http.StatusForbidden:
				return httpmock.NewStringResponse(status, `{"error":"permission_denied"}`), nil
			case http.StatusNotFound:
				return httpmock.NewStringResponse(status, "<html>no such host</html>"), nil
			}
			return httpmock.NewStringResponse(status, `{"data":[`+strings.Join(log, ",")+`]}`), nil
		})
		client, err := ricloud.NewClient("token", ricloud.WithTransport(api))
		require.NoError(t, err)
		go func() {
			time.Sleep(time.Minute) //nolint:forbidigo // virtual
			set(http.StatusBadGateway)
			time.Sleep(5 * time.Minute) //nolint:forbidigo // virtual
			set(http.StatusNotFound)    // a proxy's
			time.Sleep(4 * time.Minute) //nolint:forbidigo // virtual
			set(http.StatusOK, `{"id":"odd","type":8}`, dated("a", time.Now()))
			time.Sleep(time.Minute) //nolint:forbidigo // virtual
			set(http.StatusForbidden)
		}()
		var got []string
		for event, err := range client.Events.Watch(t.Context(), ricloud.EventWatchParams{}) {
			if err != nil {
				got = append(got, err.Error())
				continue
			}
			got = append(got, string(event.ID))
		}
		require.Len(t, got, 3)
		assert.Contains(t, got[0], "event odd")
		assert.Equal(t, "a", got[1])
		assert.Contains(t, got[2], "403")
	})
}

// Watch sends few requests while nothing happens.
func TestWatchIsModest(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		api := &lists{list: func(url.Values, int) []string { return nil }}
		ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
		defer cancel()
		for _, err := range api.client(t).Events.Watch(ctx, ricloud.EventWatchParams{}) {
			require.ErrorIs(t, err, context.DeadlineExceeded)
		}
		assert.Less(t, len(api.queries), 500, "of 10,000 an hour")
		assert.Greater(t, len(api.queries), 100)
	})
}

// The events of a watch can end the client's waits: here, the API never shows the poll as
// completed.
func TestWatchFeedsTheWaits(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		begun := time.Now()
		api := httpmock.NewMockTransport()
		api.RegisterResponder(http.MethodGet, `=~/polls\b`,
			httpmock.NewStringResponder(http.StatusOK, `{"id":"p","state":"processing"}`))
		api.RegisterResponder(http.MethodGet, `=~/events\b`, func(*http.Request) (*http.Response, error) {
			if time.Since(begun) < time.Minute {
				return httpmock.NewStringResponse(http.StatusOK, `{"data":[]}`), nil
			}
			e := strings.Replace(dated("e", begun.Add(time.Minute)), `{"id":"p"}`,
				`{"id":"p","state":"completed"}`, 1)
			return httpmock.NewStringResponse(http.StatusOK, `{"data":[`+e+`]}`), nil
		})
		client, err := ricloud.NewClient("token", ricloud.WithTransport(api))
		require.NoError(t, err)
		ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
		defer cancel()
		watched := make(chan struct{})
		go func() {
			defer close(watched)
			for event, err := range client.Events.Watch(ctx, ricloud.EventWatchParams{Notify: true}) {
				if err == nil {
					assert.Equal(t, ricloud.ID("e"), event.ID)
				}
			}
		}()
		poll, err := client.Polls.Wait(ctx, "p")
		require.NoError(t, err)
		assert.Equal(t, ricloud.PollCompleted, poll.State)
		assert.Less(t, time.Since(begun), 2*time.Minute)
		cancel()
		<-watched
	})
}

// brokenCursor fails to load or to store a position.
type brokenCursor struct{ get, set error }

func (c brokenCursor) Cursor(context.Context) (time.Time, error)  { return epoch, c.get }
func (c brokenCursor) SetCursor(context.Context, time.Time) error { return c.set }

// Watch reports a position that cannot be loaded or stored. Events that were yielded before stay
// yielded.
func TestWatchSaysThatItsPositionIsLost(t *testing.T) {
	t.Parallel()
	broken := errors.New("the database is away")
	for name, test := range map[string]struct {
		cursor brokenCursor
		says   string
		events int
	}{
		"reading": {cursor: brokenCursor{get: broken}, says: "reading the position"},
		"storing": {cursor: brokenCursor{set: broken}, says: "storing the position", events: 1},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				client, _ := record(t, map[string][]string{"": {recorded("a", 1)}})
				events := 0
				var failure error
				params := ricloud.EventWatchParams{Cursor: test.cursor}
				for event, err := range client.Events.Watch(t.Context(), params) {
					if err != nil {
						failure = err
						continue
					}
					assert.Equal(t, ricloud.ID("a"), event.ID)
					events++
				}
				require.ErrorIs(t, failure, broken)
				require.ErrorContains(t, failure, "Events.Watch: "+test.says)
				assert.Equal(t, test.events, events)
			})
		})
	}
}

// Breaking out of the loop ends the watch, after an event and after an error.
func TestWatchStopsWithItsConsumer(t *testing.T) {
	t.Parallel()
	for name, event := range map[string]string{
		"an event": recorded("a", 1), "an odd one": `{"id":"odd","type":8}`,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				client, _ := record(t, map[string][]string{"": {event}})
				n := 0
				params := ricloud.EventWatchParams{Since: epoch}
				for range client.Events.Watch(t.Context(), params) { //nolint:errcheck // counted only
					n++
					break
				}
				assert.Equal(t, 1, n)
			})
		})
	}
}

// Every page that a watch reads counts towards the fifth of the quota that waits may use.
func TestWatchOfABusyRecordKeepsToTheQuota(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		began := time.Now()
		api := &lists{list: func(q url.Values, _ int) []string {
			n := int(time.Since(began) / (250 * time.Millisecond)) // four events a second
			first := n
			if after := q.Get("after_id"); after != "" {
				first, _ = strconv.Atoi(after)
			}
			var page []string
			for i := first - 1; i >= 0 && len(page) < 5; i-- {
				page = append(page,
					dated(strconv.Itoa(i), began.Add(time.Duration(i)*250*time.Millisecond)))
			}
			return page
		}}
		ctx, cancel := context.WithTimeout(t.Context(), 30*time.Minute)
		defer cancel()
		for _, err := range api.client(t).Events.Watch(ctx, ricloud.EventWatchParams{}) {
			if err != nil {
				require.ErrorIs(t, err, context.DeadlineExceeded)
			}
		}
		assert.Less(t, len(api.queries), 1000*11/10, "a fifth of 10,000 an hour, within a tenth")
	})
}
