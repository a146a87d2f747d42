package ricloud_test

import (
	"bytes"
	"encoding/gob"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	ricloud "github.com/reincubate/ricloud-go"
)

const pollEvent = `{"id":"0e7a0c1e-5a5e-4d0b-9b1e-3f1c2a4d5e6f","resource":"event","type":"poll",` +
	`"action":"completed",` +
	`"data":{"id":"p1","resource":"poll","tasks_completed":["t1"],"state":"succeeded"},` +
	`"state":"pending","retries":1,"date_created":"2020-02-25T10:25:05.123456Z",` +
	`"date_delivered":null,"new_field":{}}`

func TestParseEvent(t *testing.T) {
	t.Parallel()
	asString, err := json.Marshal(pollEvent)
	require.NoError(t, err)
	for name, body := range map[string]string{
		"plain":          pollEvent,
		"spaced":         "\r\n " + pollEvent + "\n",
		"string of JSON": string(asString),
		"data as JSON string": `{"id":"0e7a0c1e-5a5e-4d0b-9b1e-3f1c2a4d5e6f","type":"poll",` +
			`"action":"completed","retries":1,"state":"pending",` +
			`"date_created":"2020-02-25 10:25:05.123456Z","data":"{\"id\":\"p1\",\"state\":\"completed\",` +
			`\"tasks_succeeded\":[\"t1\"]}"}`,
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
	event, err := ricloud.ParseEvent([]byte(`{"id":17,"type":"task","action":"failed",` +
		`"data":{"id":4,"error":"code-required","state":"failed"}}`))
	require.NoError(t, err)
	assert.Equal(t, ricloud.ID("17"), event.ID)
	task, err := event.Task()
	require.NoError(t, err)
	assert.Equal(t, ricloud.ID("4"), task.ID)
	assert.Equal(t, ricloud.CodeTwoFactorRequired, task.Error)
}

// Event.Resource and the accessors return the Go type that belongs to each event type.
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
		assert.Equal(t, event.Data, resource, "%s: unknown types stay raw", name)

		for _, odd := range []string{
			``, `null`, `[1]`, `{"id":[]}`, `{"id"`, `"[redacted]"`,
			`[redacted]`,
		} {
			event = &ricloud.Event{ID: "1", Type: name, Data: []byte(odd)}
			_, err = want(event)
			_, isDecodeError := errors.AsType[*ricloud.DecodeError](err)
			require.True(t, isDecodeError, "%s: %q does not decode: %v", name, odd, err)
			require.NotErrorIs(t, err, ricloud.ErrEventType)
			resource, err = event.Resource()
			require.Error(t, err)
			assert.Equal(t, "<nil>", fmt.Sprintf("%T", resource), "a typed nil would match a type switch")
		}
	}
}

func TestParseEventRefuses(t *testing.T) {
	t.Parallel()
	for _, body := range []string{
		``, ` `, `null`, `[]`, `{}`, `1`, `"`, `""`, `"x"`, `"\"x\""`, `{"id":"1"}`, `{"type":"poll"}`,
		pollEvent + "{}", pollEvent[:80],
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

// Printing an event does not show the secrets in its data.
func TestEventPrintsNoSecret(t *testing.T) {
	t.Parallel()
	event, err := ricloud.ParseEvent([]byte(`{"id":"1","type":"webhook_config","action":"test",` +
		`"data":{"id":"2","secret":"canary"}}`))
	require.NoError(t, err)
	config, err := event.WebhookConfig()
	require.NoError(t, err)
	assert.Equal(t, ricloud.NewSecret("canary"), config.Secret)

	resource, err := event.Resource()
	require.NoError(t, err)

	var logged bytes.Buffer
	type job struct{ Event *ricloud.Event }
	for _, h := range []slog.Handler{
		slog.NewTextHandler(&logged, nil),
		slog.NewJSONHandler(&logged, nil),
	} {
		slog.New(h).Info("event", slog.Any("event", event), slog.Any("value", *event),
			slog.Any("data", event.Data),
			slog.Any("body", event.Body), slog.Any("resource", resource), slog.Any("job", job{event}))
	}
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%x", "%q", "%d", "%a"} {
		for _, v := range []any{
			event, *event, event.Data, event.Body,
			job{event},
			[]*ricloud.Event{event},
		} {
			fmt.Fprintf(&logged, verb, v)
		}
	}
	for _, spelling := range []string{
		"canary", fmt.Sprintf("%x", "canary"),
		fmt.Sprintf("%d", []byte("canary")),
	} {
		assert.NotContains(t, logged.String(), strings.Trim(spelling, "[]"))
	}
	assert.JSONEq(t, `{"id":"2","secret":"canary"}`, string([]byte(event.Data)),
		"the content is a conversion away")
}

// An event's Body survives a queue unchanged. Encodings that would lose something return an error.
func TestAnEventSurvivesAQueue(t *testing.T) {
	t.Parallel()
	asString, err := json.Marshal(pollEvent)
	require.NoError(t, err)
	for name, body := range map[string]string{
		"plain":  pollEvent,
		"spaced": "\r\n " + pollEvent + "\n",
		"string": string(asString),
		"odd fields": `{"id":"1","type":"poll","action":"completed","data":{"id":"p1"},"retries":"5",` +
			`"odd":{"b":1,"a":2}}`,
	} {
		event, err := ricloud.ParseEvent([]byte(body))
		require.NoError(t, err, name)
		assert.Equal(t, body, string(event.Body), "%s: the body is unchanged", name)
		back, err := ricloud.ParseEvent(event.Body)
		require.NoError(t, err, name)
		assert.Equal(t, event, back, name)
		poll, err := back.Poll()
		require.NoError(t, err, name)
		assert.Equal(t, ricloud.ID("p1"), poll.ID, name)

		for _, v := range []any{
			event, *event, struct{ E *ricloud.Event }{event}, []ricloud.Event{*event},
		} {
			_, err = json.Marshal(v)
			require.ErrorContains(t, err, "event.Body", name)
		}
		var queue bytes.Buffer
		require.NoError(t, gob.NewEncoder(&queue).Encode(event))
		var decoded ricloud.Event
		require.NoError(t, gob.NewDecoder(&queue).Decode(&decoded))
		assert.Equal(t, *event, decoded, "%s: gob keeps everything", name)
	}
	// ParseEvent copies its buffer: later changes to it do not change the event.
	buffer := []byte(pollEvent)
	event, err := ricloud.ParseEvent(buffer)
	require.NoError(t, err)
	clear(buffer)
	assert.True(t, pollEvent == string(event.Body)) //nolint:testifylint // byte by byte
	_, err = event.Poll()
	require.NoError(t, err)

	// An event that was read from the API's record also has its Body.
	client, _ := record(t, map[string][]string{"": {pollEvent}})
	for event, err := range client.Events.All(t.Context(), ricloud.EventListParams{}) {
		require.NoError(t, err)
		assert.True(t, pollEvent == string(event.Body)) //nolint:testifylint // byte by byte
	}
}

// Fields other than the ID, type and data may have any JSON type.
func TestParseEventToleratesOddFields(t *testing.T) {
	t.Parallel()
	created := time.Date(2020, 2, 25, 10, 25, 5, 0, time.UTC)
	for field, values := range map[string][]string{
		"retries": {`"5"`, `5.0`, `"5.0"`},
		"date_created": {
			`"2020-02-25 10:25:05"`, `1582626305`, `"1582626305"`, `1582626305.0`,
			`"2020-02-25T10:25:05+00:00"`,
		},
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
			if data, unknown := resource.(ricloud.Raw); unknown {
				require.Equal(t, event.Data, data)
			} else {
				require.NotNil(t, resource)
			}
		}
		back, err := ricloud.ParseEvent(event.Body)
		require.NoError(t, err)
		require.Equal(t, event, back)
	})
}
