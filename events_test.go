package ricloud_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/jarcoal/httpmock"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/reincubate/ricloud-go"
)

const pollEvent = `{"id":"0e7a0c1e-5a5e-4d0b-9b1e-3f1c2a4d5e6f","resource":"event","type":"poll","action":"completed",` +
	`"data":{"id":"p1","resource":"poll","tasks_completed":["t1"],"state":"succeeded"},` +
	`"state":"pending","retries":1,"date_created":"2020-02-25T10:25:05.123456Z","date_delivered":null,"new_field":{}}`

func TestParseEvent(t *testing.T) {
	t.Parallel()
	asString, err := json.Marshal(pollEvent)
	require.NoError(t, err)
	for name, body := range map[string]string{
		"plain":               pollEvent,
		"spaced":              "\r\n " + pollEvent + "\n",
		"string of JSON":      string(asString),
		"data as JSON string": `{"id":"0e7a0c1e-5a5e-4d0b-9b1e-3f1c2a4d5e6f","type":"poll","action":"completed","retries":1,"state":"pending","date_created":"2020-02-25 10:25:05.123456Z","data":"{\"id\":\"p1\",\"state\":\"completed\",\"tasks_succeeded\":[\"t1\"]}"}`,
	} {
		event, err := ricloud.ParseEvent([]byte(body))
		require.NoError(t, err, name)
		assert.Equal(t, ricloud.ID("0e7a0c1e-5a5e-4d0b-9b1e-3f1c2a4d5e6f"), event.ID, name)
		assert.Equal(t, ricloud.EventPollCompleted, event.Name(), name)
		assert.Equal(t, ricloud.EventPending, event.State, name)
		assert.Equal(t, 1, event.Retries, name)
		assert.Equal(t, time.Date(2020, 2, 25, 10, 25, 5, 123456000, time.UTC), event.DateCreated, name)
		poll, ok := event.Poll()
		require.True(t, ok, name)
		assert.Equal(t, ricloud.ID("p1"), poll.ID, name)
		assert.Equal(t, ricloud.PollCompleted, poll.State, name)
		assert.Equal(t, []ricloud.ID{"t1"}, poll.TasksSucceeded, name)
		_, ok = event.Session()
		assert.False(t, ok, name)
	}
}

func TestParseEventIDs(t *testing.T) {
	t.Parallel()
	event, err := ricloud.ParseEvent([]byte(`{"id":17,"type":"task","action":"failed","data":{"id":4,"error":"code-required","state":"failed"}}`))
	require.NoError(t, err)
	assert.Equal(t, ricloud.ID("17"), event.ID)
	task, ok := event.Task()
	require.True(t, ok)
	assert.Equal(t, ricloud.ID("4"), task.ID)
	assert.Equal(t, ricloud.CodeTwoFactorRequired, task.Error)
}

// Each type the API has comes as its Go type, through Resource and accessor.
func TestEventResource(t *testing.T) {
	t.Parallel()
	for name, want := range map[string]func(*ricloud.Event) (any, bool){
		"organisation":             func(e *ricloud.Event) (any, bool) { v, ok := e.Organisation(); return v, ok },
		"key":                      func(e *ricloud.Event) (any, bool) { v, ok := e.Key(); return v, ok },
		"permissions":              func(e *ricloud.Event) (any, bool) { v, ok := e.Permissions(); return v, ok },
		"organisation_permissions": func(e *ricloud.Event) (any, bool) { v, ok := e.Permissions(); return v, ok },
		"user":                     func(e *ricloud.Event) (any, bool) { v, ok := e.User(); return v, ok },
		"source":                   func(e *ricloud.Event) (any, bool) { v, ok := e.Source(); return v, ok },
		"session":                  func(e *ricloud.Event) (any, bool) { v, ok := e.Session(); return v, ok },
		"poll":                     func(e *ricloud.Event) (any, bool) { v, ok := e.Poll(); return v, ok },
		"task":                     func(e *ricloud.Event) (any, bool) { v, ok := e.Task(); return v, ok },
		"result":                   func(e *ricloud.Event) (any, bool) { v, ok := e.Result(); return v, ok },
		"subscription":             func(e *ricloud.Event) (any, bool) { v, ok := e.Subscription(); return v, ok },
		"storage_config":           func(e *ricloud.Event) (any, bool) { v, ok := e.StorageConfig(); return v, ok },
		"webhook_config":           func(e *ricloud.Event) (any, bool) { v, ok := e.WebhookConfig(); return v, ok },
	} {
		event := &ricloud.Event{ID: "1", Type: name, Data: []byte(`{"id":"7"}`)}
		got, ok := want(event)
		require.True(t, ok, name)
		assert.Equal(t, got, event.Resource(), name)

		event.Type = "other"
		_, ok = want(event)
		assert.False(t, ok, name)
		assert.Equal(t, event.Data, event.Resource(), "%s: what is unknown stays raw", name)

		for _, odd := range []string{``, `null`, `[1]`, `{"id":[]}`, `{"id"`} {
			event = &ricloud.Event{ID: "1", Type: name, Data: []byte(odd)}
			_, ok = want(event)
			assert.False(t, ok && odd != "null", "%s: %q does not fit", name, odd)
		}
	}
}

func TestParseEventRefuses(t *testing.T) {
	t.Parallel()
	for _, body := range []string{
		``, ` `, `null`, `[]`, `{}`, `1`, `"`, `""`, `"x"`, `"\"x\""`, `{"id":"1"}`, `{"type":"poll"}`, pollEvent + "{}", pollEvent[:80],
		`{"id":"1","type":7}`, `{"id":"1","type":"webhook_config","data":{"secret":"canary"},"action":["canary"]}`,
		`{"id":"1","type":"webhook_config","data":"{\"secret\":\"canary\"}",`,
		`"{\"secret\":\"canary`,
	} {
		event, err := ricloud.ParseEvent([]byte(body))
		var d *ricloud.DecodeError
		require.ErrorAs(t, err, &d, body)
		assert.Nil(t, event, body)
		assert.NotContains(t, err.Error(), "canary", "no error repeats an event")
	}
}

// An event can be printed: what its data holds does not show.
func TestEventPrintsNoSecret(t *testing.T) {
	t.Parallel()
	event, err := ricloud.ParseEvent([]byte(`{"id":"1","type":"webhook_config","action":"test","data":{"id":"2","secret":"canary"}}`))
	require.NoError(t, err)
	config, ok := event.WebhookConfig()
	require.True(t, ok)
	assert.Equal(t, ricloud.NewSecret("canary"), config.Secret)

	var logged bytes.Buffer
	for _, h := range []slog.Handler{slog.NewTextHandler(&logged, nil), slog.NewJSONHandler(&logged, nil)} {
		slog.New(h).Info("event", slog.Any("event", event), slog.Any("value", *event), slog.Any("data", event.Data), slog.Any("resource", event.Resource()))
	}
	encoded, err := json.Marshal(event)
	require.Error(t, err, "what cannot be kept is not written")
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%x", "%q", "%d"} {
		logged.WriteString(fmt.Sprintf(verb, event) + fmt.Sprintf(verb, *event) + fmt.Sprintf(verb, event.Data))
	}
	assert.NotContains(t, logged.String()+string(encoded), "canary")
	assert.NotContains(t, logged.String(), fmt.Sprintf("%x", "canary"))
	assert.NotContains(t, logged.String(), fmt.Sprintf("%d", []byte("canary")))
	assert.JSONEq(t, `{"id":"2","secret":"canary"}`, string([]byte(event.Data)), "the content is a conversion away")
}

func FuzzParseEvent(f *testing.F) {
	f.Add([]byte(pollEvent))
	f.Add([]byte(`"{\"id\":1,\"type\":\"poll\",\"data\":\"{}\"}"`))
	f.Add([]byte(`{"id":{"id":{"id":1}},"type":"session","data":[[[[]]]]}`))
	f.Fuzz(func(t *testing.T, body []byte) {
		event, err := ricloud.ParseEvent(body)
		if err != nil {
			var d *ricloud.DecodeError
			require.ErrorAs(t, err, &d)
			return
		}
		require.NotEmpty(t, event.ID)
		if _, raw := event.Resource().(ricloud.Raw); !raw {
			require.NotNil(t, event.Resource())
		}
		if _, err = json.Marshal(event); err != nil {
			require.ErrorContains(t, err, "a Raw is never encoded")
		}
	})
}

// record is an API whose lists of events hold these, page by page.
func record(t *testing.T, byState map[string][]string) (client *ricloud.Client, requests func() int) {
	t.Helper()
	api := httpmock.NewMockTransport()
	api.RegisterResponder(http.MethodGet, `=~/events\b`, func(r *http.Request) (*http.Response, error) {
		events := byState[r.URL.Query().Get("state")]
		after := r.URL.Query().Get("after_id")
		for i, e := range events {
			if after != "" && strings.Contains(e, `"id":"`+after+`"`) {
				events = events[i+1:]
				break
			}
		}
		limit, err := strconv.Atoi(r.URL.Query().Get("limit"))
		if err != nil {
			return nil, err
		}
		page := events[:min(limit, len(events))]
		raw := make([]json.RawMessage, len(page))
		for i := range page {
			raw[i] = json.RawMessage(page[i])
		}
		return httpmock.NewJsonResponse(http.StatusOK, map[string]any{"data": raw, "has_more": len(page) < len(events)})
	})
	client, err := ricloud.NewClient("token", ricloud.WithTransport(api))
	require.NoError(t, err)
	return client, api.GetTotalCallCount
}

var epoch = time.Date(2020, 2, 25, 0, 0, 0, 0, time.UTC) //nolint:gochecknoglobals // a constant in all but name

func recorded(id string, minute int) string {
	return fmt.Sprintf(`{"id":%q,"type":"poll","action":"completed","data":{"id":"p"},"date_created":%q}`,
		id, epoch.Add(time.Duration(minute)*time.Minute).Format(time.RFC3339))
}

func TestReplayHandsOverWhatWasMissed(t *testing.T) {
	t.Parallel()
	client, _ := record(t, map[string][]string{
		"failed":    {recorded("f9", 9), recorded("f3", 3), recorded("f5", 5), recorded("old", -1), recorded("f1", 1)}, // in no order
		"pending":   {recorded("p4", 4), recorded("p2", 2), `{"id":"undated","type":"poll","action":"created"}`},
		"delivered": {recorded("d6", 6)},
		"":          {recorded("d6", 6)},
	})
	var got []ricloud.ID
	bad := errors.New("bad")
	n, err := client.Events.Replay(t.Context(), epoch, func(_ context.Context, e *ricloud.Event) error {
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

// Years of failed events cost one page, if the API lists the newest first; if
// it does not, they cost requests, never an event.
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
		"newest first": {newestFirst, 3},
		"oldest first": {oldestFirst, 12}, // one behind the last page, which is full
	} {
		client, requests := record(t, map[string][]string{"failed": tt.events})
		n, err := client.Events.Replay(t.Context(), epoch, func(context.Context, *ricloud.Event) error { return nil })
		require.NoError(t, err, name)
		assert.Equal(t, 3, n, name)
		assert.LessOrEqual(t, requests(), tt.requests, name)
	}
}
