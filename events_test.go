package ricloud_test

import (
	"bytes"
	"context"
	"encoding/gob"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
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
			_, err = event.Resource()
			require.Error(t, err)
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

// record returns a client of an API whose lists of events hold these, by state and page by page.
func record(
	t *testing.T, byState map[string][]string,
) (client *ricloud.Client, requests func() int) {
	t.Helper()
	api := httpmock.NewMockTransport()
	api.RegisterResponder(http.MethodGet, `=~/events\b`,
		func(r *http.Request) (*http.Response, error) {
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
			return httpmock.NewJsonResponse(http.StatusOK,
				map[string]any{"data": raw, "has_more": len(page) < len(events)})
		})
	client, err := ricloud.NewClient("token", ricloud.WithTransport(api))
	require.NoError(t, err)
	return client, api.GetTotalCallCount
}

//nolint:gochecknoglobals // a constant in all but name
var epoch = time.Date(2020, 2, 25, 0, 0, 0, 0, time.UTC)

func recorded(id string, minute int) string {
	return fmt.Sprintf(`{"id":%q,"type":"poll","action":"completed","data":{"id":"p"},`+
		`"date_created":%q}`,
		id, epoch.Add(time.Duration(minute)*time.Minute).Format(time.RFC3339))
}

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

// lists is an API whose lists of events are computed by the test. now is its clock; if it is zero,
// answers have no Date header.
type lists struct {
	mu      sync.Mutex
	now     time.Time
	queries []url.Values
	list    func(query url.Values, n int) []string // n counts requests, from 0
}

func (l *lists) RoundTrip(r *http.Request) (*http.Response, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	query := r.URL.Query()
	l.queries = append(l.queries, query)
	events := l.list(query, len(l.queries)-1)
	if after := query.Get("after_id"); after != "" {
		for i, e := range events {
			if strings.Contains(e, `"id":"`+after+`"`) {
				events = events[i+1:]
				break
			}
		}
	}
	limit, err := strconv.Atoi(query.Get("limit"))
	if err != nil {
		return nil, err
	}
	page := events[:min(limit, len(events))]
	body := fmt.Sprintf(`{"data":[%s],"has_more":%t}`, strings.Join(page, ","),
		len(page) < len(events))
	resp := httpmock.NewStringResponse(http.StatusOK, body)
	if !l.now.IsZero() {
		resp.Header.Set("Date", l.now.UTC().Format(http.TimeFormat))
	}
	return resp, nil
}

func (l *lists) client(t *testing.T, opts ...ricloud.Option) *ricloud.Client {
	t.Helper()
	client, err := ricloud.NewClient("token",
		append([]ricloud.Option{ricloud.WithTransport(l)}, opts...)...)
	require.NoError(t, err)
	return client
}

// ids collects the IDs of the events that it is given.
type ids []ricloud.ID

func (g *ids) take(_ context.Context, e *ricloud.Event) error {
	*g = append(*g, e.ID)
	return nil
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

// Replay finds every event, whatever the order of the list and however many events share one
// second.
func TestReplayReadsPastOldEventsOfOneSecond(t *testing.T) {
	t.Parallel()
	var oneSecond, twoSeconds, jitter []string
	for i := range 1_500 {
		oneSecond = append(oneSecond, recorded(fmt.Sprint("old", i), -60))
		twoSeconds = append(twoSeconds, recorded(fmt.Sprint("old", i), -60+i/750))
		jitter = append(jitter, recorded(fmt.Sprint("old", i), -3_000+i-(i%2)*2))
	}
	missed := []string{recorded("m1", 1), recorded("m2", 1), recorded("m3", 2)}
	shuffled := slices.Concat(jitter, missed)
	rand.Shuffle(len(shuffled), func(i, j int) { shuffled[i], shuffled[j] = shuffled[j], shuffled[i] })
	for name, events := range map[string][]string{
		"one second":  slices.Concat(oneSecond, missed),
		"two seconds": slices.Concat(twoSeconds, missed),
		"with jitter": slices.Concat(jitter, missed),
		"shuffled":    shuffled,
		"one newer":   slices.Concat([]string{recorded("old newer", -50)}, oneSecond, missed),
		"undated": slices.Concat(oneSecond,
			[]string{`{"id":"undated","type":"poll","date_created":null}`}, missed),
		"missed behind": slices.Concat(missed[:1], oneSecond, missed[1:]),
	} {
		client, _ := record(t, map[string][]string{"failed": events})
		got := map[ricloud.ID]int{}
		_, err := client.Events.Replay(t.Context(), epoch,
			func(_ context.Context, e *ricloud.Event) error {
				got[e.ID]++
				return nil
			})
		require.NoError(t, err, name)
		delete(got, "undated")
		assert.Equal(t, map[ricloud.ID]int{"m1": 1, "m2": 1, "m3": 1}, got, name)
	}
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

func dated(id string, at time.Time) string {
	return fmt.Sprintf(`{"id":%q,"type":"poll","action":"completed","data":{"id":"p"},`+
		`"date_created":%q}`,
		id, at.UTC().Format(time.RFC3339))
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

// Watch tolerates temporary failures, reports entries that it cannot read, and ends on a permanent
// failure.
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
			return httpmock.NewStringResponse(status, `{"data":[`+strings.Join(log, ",")+`]}`), nil
		})
		client, err := ricloud.NewClient("token", ricloud.WithTransport(api))
		require.NoError(t, err)
		go func() {
			time.Sleep(time.Minute) //nolint:forbidigo // virtual
			set(http.StatusBadGateway)
			time.Sleep(5 * time.Minute) //nolint:forbidigo // virtual
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
