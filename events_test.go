package ricloud_test

import (
	"bytes"
	"context"
	"encoding/gob"
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

	ricloud "github.com/reincubate/ricloud-go"
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
		poll, err := event.Poll()
		require.NoError(t, err, name)
		assert.Equal(t, ricloud.ID("p1"), poll.ID, name)
		assert.Equal(t, ricloud.PollCompleted, poll.State, name)
		assert.Equal(t, []ricloud.ID{"t1"}, poll.TasksSucceeded, name)
		_, err = event.Session()
		require.ErrorIs(t, err, ricloud.ErrEventType, name)
	}
}

func TestParseEventIDs(t *testing.T) {
	t.Parallel()
	event, err := ricloud.ParseEvent([]byte(`{"id":17,"type":"task","action":"failed","data":{"id":4,"error":"code-required","state":"failed"}}`))
	require.NoError(t, err)
	assert.Equal(t, ricloud.ID("17"), event.ID)
	task, err := event.Task()
	require.NoError(t, err)
	assert.Equal(t, ricloud.ID("4"), task.ID)
	assert.Equal(t, ricloud.CodeTwoFactorRequired, task.Error)
}

// Each type the API has comes as its Go type, through Resource and accessor.
func TestEventResource(t *testing.T) {
	t.Parallel()
	for name, want := range map[string]func(*ricloud.Event) (any, error){
		"organisation":             func(e *ricloud.Event) (any, error) { return e.Organisation() },
		"key":                      func(e *ricloud.Event) (any, error) { return e.Key() },
		"permissions":              func(e *ricloud.Event) (any, error) { return e.Permissions() },
		"organisation_permissions": func(e *ricloud.Event) (any, error) { return e.Permissions() },
		"user":                     func(e *ricloud.Event) (any, error) { return e.User() },
		"source":                   func(e *ricloud.Event) (any, error) { return e.Source() },
		"session":                  func(e *ricloud.Event) (any, error) { return e.Session() },
		"poll":                     func(e *ricloud.Event) (any, error) { return e.Poll() },
		"task":                     func(e *ricloud.Event) (any, error) { return e.Task() },
		"result":                   func(e *ricloud.Event) (any, error) { return e.Result() },
		"subscription":             func(e *ricloud.Event) (any, error) { return e.Subscription() },
		"storage_config":           func(e *ricloud.Event) (any, error) { return e.StorageConfig() },
		"webhook_config":           func(e *ricloud.Event) (any, error) { return e.WebhookConfig() },
	} {
		event := &ricloud.Event{ID: "1", Type: name, Data: []byte(`{"id":"7"}`)}
		got, err := want(event)
		require.NoError(t, err, name)
		resource, err := event.Resource()
		require.NoError(t, err, name)
		assert.Equal(t, got, resource, name)

		event.Type = "other"
		_, err = want(event)
		require.ErrorIs(t, err, ricloud.ErrEventType, name)
		resource, err = event.Resource()
		require.NoError(t, err, name)
		assert.Equal(t, event.Data, resource, "%s: what is unknown stays raw", name)

		for _, odd := range []string{``, `null`, `[1]`, `{"id":[]}`, `{"id"`, `"[redacted]"`, `[redacted]`} {
			event = &ricloud.Event{ID: "1", Type: name, Data: []byte(odd)}
			_, err = want(event)
			_, isDecodeError := errors.AsType[*ricloud.DecodeError](err)
			require.True(t, isDecodeError, "%s: %q does not decode: %v", name, odd, err)
			require.NotErrorIs(t, err, ricloud.ErrEventType)
			_, err = event.Resource()
			require.Error(t, err)
		}
	}
}

func TestParseEventRefuses(t *testing.T) {
	t.Parallel()
	for _, body := range []string{
		``, ` `, `null`, `[]`, `{}`, `1`, `"`, `""`, `"x"`, `"\"x\""`, `{"id":"1"}`, `{"type":"poll"}`, pollEvent + "{}", pollEvent[:80],
		`{"id":"1","type":"webhook_config","data":"{\"secret\":\"canary\"}",`,
		`"{\"secret\":\"canary`,
		`{"id":["canary"],"type":"poll"}`, `{"id":"1","type":{"canary":1}}`,
		`{"id":"1","type":"poll","data":"[redacted]"}`,
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
	config, err := event.WebhookConfig()
	require.NoError(t, err)
	assert.Equal(t, ricloud.NewSecret("canary"), config.Secret)

	resource, err := event.Resource()
	require.NoError(t, err)

	var logged bytes.Buffer
	type job struct{ Event *ricloud.Event }
	for _, h := range []slog.Handler{slog.NewTextHandler(&logged, nil), slog.NewJSONHandler(&logged, nil)} {
		slog.New(h).Info("event", slog.Any("event", event), slog.Any("value", *event), slog.Any("data", event.Data),
			slog.Any("body", event.Body), slog.Any("resource", resource), slog.Any("job", job{event}))
	}
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%x", "%q", "%d", "%a"} {
		for _, v := range []any{event, *event, event.Data, event.Body, job{event}, []*ricloud.Event{event}} {
			logged.WriteString(fmt.Sprintf(verb, v))
		}
	}
	for _, spelling := range []string{"canary", fmt.Sprintf("%x", "canary"), fmt.Sprintf("%d", []byte("canary"))} {
		assert.NotContains(t, logged.String(), strings.Trim(spelling, "[]"))
	}
	assert.JSONEq(t, `{"id":"2","secret":"canary"}`, string([]byte(event.Data)), "the content is a conversion away")
}

// An event goes through a queue as its body, without loss. Encodings that would
// lose something fail.
func TestAnEventSurvivesAQueue(t *testing.T) {
	t.Parallel()
	asString, err := json.Marshal(pollEvent)
	require.NoError(t, err)
	for name, body := range map[string]string{
		"plain":      pollEvent,
		"spaced":     "\r\n " + pollEvent + "\n",
		"string":     string(asString),
		"odd fields": `{"id":"1","type":"poll","action":"completed","data":{"id":"p1"},"retries":"5","odd":{"b":1,"a":2}}`,
	} {
		event, err := ricloud.ParseEvent([]byte(body))
		require.NoError(t, err, name)
		assert.Equal(t, body, string([]byte(event.Body)), "%s: as it came", name)
		back, err := ricloud.ParseEvent(event.Body)
		require.NoError(t, err, name)
		assert.Equal(t, event, back, name)
		poll, err := back.Poll()
		require.NoError(t, err, name)
		assert.Equal(t, ricloud.ID("p1"), poll.ID, name)

		for _, v := range []any{event, *event, struct{ E *ricloud.Event }{event}, []ricloud.Event{*event}} {
			_, err = json.Marshal(v)
			require.ErrorContains(t, err, "event.Body", name)
		}
		var queue bytes.Buffer
		require.NoError(t, gob.NewEncoder(&queue).Encode(event))
		var decoded ricloud.Event
		require.NoError(t, gob.NewDecoder(&queue).Decode(&decoded))
		assert.Equal(t, *event, decoded, "%s: gob keeps everything", name)
	}
	// Changing the buffer that an event was parsed from does not change it.
	buffer := []byte(pollEvent)
	event, err := ricloud.ParseEvent(buffer)
	require.NoError(t, err)
	clear(buffer)
	assert.Equal(t, pollEvent, string([]byte(event.Body)))
	_, err = event.Poll()
	require.NoError(t, err)

	// An event that is read from the record can be queued as well.
	client, _ := record(t, map[string][]string{"": {pollEvent}})
	for event, err := range client.Events.All(t.Context(), ricloud.EventListParams{}) {
		require.NoError(t, err)
		assert.Equal(t, pollEvent, string([]byte(event.Body)))
	}
}

// What an event carries beside its ID, type and data may have any type.
func TestParseEventToleratesOddFields(t *testing.T) {
	t.Parallel()
	created := time.Date(2020, 2, 25, 10, 25, 5, 0, time.UTC)
	for field, values := range map[string][]string{
		"retries":        {`"5"`, `5.0`, `"5.0"`},
		"date_created":   {`"2020-02-25 10:25:05"`, `1582626305`, `"1582626305"`, `1582626305.0`, `"2020-02-25T10:25:05+00:00"`},
		"action":         {`null`, `7`, `true`, `[]`, `{}`, `["x"]`},
		"state":          {`null`, `7`, `true`, `[]`, `{"a":1}`},
		"date_delivered": {`null`, `""`, `0`, `-1`, `false`, `"never"`, `{}`, `[1]`, `1e300`},
	} {
		for _, value := range values {
			body := fmt.Sprintf(`{"id":"1","type":"poll","data":{"id":"p1"},%q:%s}`, field, value)
			event, err := ricloud.ParseEvent([]byte(body))
			require.NoError(t, err, body)
			assert.Equal(t, ricloud.ID("1"), event.ID, body)
			poll, err := event.Poll()
			require.NoError(t, err, body)
			assert.Equal(t, ricloud.ID("p1"), poll.ID, body)
			switch field {
			case "retries":
				assert.Equal(t, 5, event.Retries, body)
			case "date_created":
				assert.True(t, event.DateCreated.Equal(created), "%s: %s", body, event.DateCreated)
			}
		}
	}
	for _, value := range []string{`null`, `"x"`, `[]`, `{}`, `true`, `1e300`, `"1e300"`, `"NaN"`} {
		event, err := ricloud.ParseEvent([]byte(`{"id":"1","type":"poll","retries":` + value + `}`))
		require.NoError(t, err, value)
		assert.GreaterOrEqual(t, event.Retries, 0, value)
	}
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
		if resource, err := event.Resource(); err == nil {
			require.NotNil(t, resource)
		}
		back, err := ricloud.ParseEvent(event.Body)
		require.NoError(t, err)
		require.Equal(t, event, back)
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
