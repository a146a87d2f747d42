package ricloud

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"net/http"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// secondary lists the JSON paths of the fields that no wait and no call depends on, including
// nested ones.
func secondary(t reflect.Type, prefix string, depth int) (paths []string) {
	for t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	if t.Kind() != reflect.Struct || depth == 0 {
		return nil
	}
	for f := range t.Fields() {
		name, _, _ := strings.Cut(f.Tag.Get("json"), ",")
		if name == "" || name == "-" || prefix == "" && f.Tag.Get("wire") == "strict" {
			continue
		}
		paths = append(paths, prefix+name)
		inner := f.Type
		if data := itemTypeOf(inner); data != nil {
			paths = append(paths, secondary(data, prefix+name+".data[]", depth-1)...)
			inner = reflect.TypeFor[List[ID]]()
		}
		paths = append(paths, secondary(inner, prefix+name+".", depth-1)...)
	}
	return paths
}

// itemTypeOf returns the type of the items of a List, or nil for any other type.
func itemTypeOf(t reflect.Type) reflect.Type {
	if t.Kind() != reflect.Struct {
		return nil
	}
	data, ok := t.FieldByName("Data")
	if !ok || data.Type.Kind() != reflect.Slice {
		return nil
	}
	return data.Type.Elem()
}

// answerWith returns a resource whose value at path is odd.
func answerWith(path, odd string) string {
	for {
		i := strings.LastIndexAny(path, ".]")
		name := path[i+1:]
		odd = fmt.Sprintf(`{%q:%s}`, name, odd)
		if i < 0 {
			return odd
		}
		if path = path[:i]; strings.HasSuffix(path, "[") {
			path, odd = path[:len(path)-1], "["+odd+"]"
		}
	}
}

func TestAnOddSecondaryFieldNeverFailsAnAnswer(t *testing.T) {
	t.Parallel()
	odds := []string{
		`"3"`, `""`, `"x"`, `7`, `-0.5`, `1e300`, `true`, `null`, `{}`, `[]`, `{"a":1}`, `[1]`, `[[]]`,
		`["x",null]`, `{"data":7}`, `{"data":[true]}`,
		`{"data":[{"id":[]}],"has_more":{},"total_count":"3"}`, `"yesterday"`, `{"url":{}}`, `{"id":{}}`,
		`[{"id":false}]`,
	}
	for _, resource := range []any{
		Organisation{},
		Key{},
		Permissions{},
		User{},
		Source{},
		Session{},
		Poll{},
		Task{},
		Result{},
		Subscription{},
		Event{},
		StorageConfig{},
		WebhookConfig{},
	} {
		typ := reflect.TypeOf(resource)
		t.Run(typ.Name(), func(t *testing.T) {
			t.Parallel()
			paths := secondary(typ, "", 3)
			require.NotEmpty(t, paths)
			// These names are known only to an UnmarshalJSON, or to nothing.
			paths = append(paths, "tasks_completed", "org", "unknown")
			for _, path := range paths {
				for _, odd := range odds {
					body := strings.Replace(answerWith(path, odd), "{",
						`{"id":"the-id","state":"the-state","type":"a","action":"b",`, 1)
					body = strings.Replace(body, `"type":"a","action":"b","type"`, `"action":"b","type"`, 1)
					v := reflect.New(typ)
					require.NoError(t, decode("x", []byte(body), v.Interface()), body)
					assert.EqualValues(t, "the-id", v.Elem().FieldByName("ID").Interface(), body)
					if state := v.Elem().FieldByName("State"); state.IsValid() && path != "state" {
						assert.Equal(t, "the-state", state.String(), body)
					}
				}
			}
		})
	}
}

func TestOddValuesAreReportedOnce(t *testing.T) {
	t.Parallel()
	var logs bytes.Buffer
	c, api := newTestClient(t,
		WithLogger(slog.New(slog.NewTextHandler(&logs, &slog.HandlerOptions{Level: slog.LevelInfo}))))
	api.RegisterResponder(http.MethodGet, "=~/results", jsonResponder(200,
		`{"data":[{"id":"1","size":"12"},{"id":"2","size":"canary"},{"id":"3","size":["canary"]}],`+
			`"has_more":"no","total_count":"3"}`))
	for range 3 {
		page, err := c.Results.List(t.Context(), ResultListParams{})
		require.NoError(t, err)
		require.Len(t, page.Data, 3)
		assert.Equal(t, int64(12), page.Data[0].Size)
		assert.Equal(t, 3, page.TotalCount)
	}
	assert.Equal(t, 1, strings.Count(logs.String(), "odd value"), "%s", logs.String())
	assert.Contains(t, logs.String(),
		`operation=Results.List path=data[1].size reason="got string, want number"`)
	assert.NotContains(t, logs.String(), "canary")
}

// An event accepts fields of odd types itself. They are reported, from a list and from
// a delivery.
func TestOddFieldsOfEventsAreReportedOnce(t *testing.T) {
	t.Parallel()
	var told []DecodeInfo
	c, api := newTestClient(t, WithHooks(
		decodeHook(func(_ context.Context, info DecodeInfo) { told = append(told, info) })))
	const odd = `{"id":"2","type":"poll","data":{"id":"7"},"retries":["canary"]}`
	api.RegisterResponder(http.MethodGet, "=~/events", jsonResponder(200,
		`{"data":[{"id":"1","type":"poll","retries":1},`+odd+`]}`))
	handler, err := NewWebhookHandler(func(context.Context, *Event) error { return nil },
		WithWebhookSecrets(NewSecret("whsec_one")), WithWebhookClient(c))
	require.NoError(t, err)
	event, err := ParseEvent([]byte(odd))
	require.NoError(t, err)
	for range 2 {
		page, err := c.Events.List(t.Context(), EventListParams{})
		require.NoError(t, err)
		require.Len(t, page.Data, 2)
		require.NoError(t, handler.Handle(t.Context(), event))
	}
	const reason = "got array, want number"
	assert.Equal(t, []DecodeInfo{
		{Operation: "Events.List", Path: "data[1].retries", Reason: reason},
		{Operation: "WebhookHandler", Path: "retries", Reason: reason},
	}, told)
}

// What is odd in the resource of an event is reported wherever the event comes from.
func TestNotifyReportsOddData(t *testing.T) {
	t.Parallel()
	const body = `{"id":"1","retries":[],"type":%q,"data":{"id":%s,"state":"canary",%q:["canary"]}}`
	var told []DecodeInfo
	c, api := newTestClient(t, WithHooks(
		decodeHook(func(_ context.Context, info DecodeInfo) { told = append(told, info) })))
	handler, err := NewWebhookHandler(func(context.Context, *Event) error { return nil },
		WithWebhookSecrets(NewSecret("whsec_one")), WithWebhookClient(c))
	require.NoError(t, err)
	for _, text := range []string{
		fmt.Sprintf(body, "session", "7", "date_expired"),
		fmt.Sprintf(body, "poll", "7", "date_completed"),
		fmt.Sprintf(body, "subscription", "7", "date_end"),
		fmt.Sprintf(body, "task", "7", "date_started"),
		fmt.Sprintf(body, "poll", `["canary"]`, "date_completed"),
		`{"id":"1","type":"poll","data":"canary"}`,
		fmt.Sprintf(body, "user", "7", "date_created"), // no wait can use it
	} {
		event, err := ParseEvent([]byte(text))
		require.NoError(t, err)
		c.Notify(event)
		require.NoError(t, handler.Handle(t.Context(), event))
	}
	api.RegisterResponder(http.MethodGet, "=~/events", jsonResponder(200,
		`{"data":[`+fmt.Sprintf(body, "poll", "7", "date_completed")+`]}`))
	for _, err := range c.Events.Watch(t.Context(),
		EventWatchParams{Since: time.Unix(1, 0), Notify: true}) {
		require.NoError(t, err)
		break
	}
	var got []string
	for _, info := range told {
		got = append(got, info.Operation+" "+info.Path+": "+info.Reason)
	}
	var want []string
	for _, operation := range []string{"Notify", "WebhookHandler"} {
		for _, field := range []string{
			"retries: got array, want number",
			"data.date_expired: got array, want a date", "data.date_completed: got array, want a date",
			"data.date_end: got array, want a date", "data.date_started: got array, want a date",
			"data.id: got array, want string", "data: got string, want object",
		} {
			want = append(want, operation+" "+field)
		}
	}
	want = append(want, "Events.List data[0].retries: got array, want number",
		"Events.Watch data.date_completed: got array, want a date")
	assert.ElementsMatch(t, want, got)
}

func TestOddValuesThatAreRememberedAreBounded(t *testing.T) {
	t.Parallel()
	c, _ := newTestClient(t, WithLogger(slog.New(slog.DiscardHandler)))
	for i := range 10 * maxOddities {
		require.NoError(t,
			c.decode(t.Context(), fmt.Sprint("Operation", i), []byte(`{"state":{}}`), new(User)))
	}
	assert.Len(t, c.oddities.told, maxOddities)
}

func TestANumericAPIVersionIsRead(t *testing.T) {
	t.Parallel()
	for body, want := range map[string]string{
		`3`: "3", `"3.1"`: "3.1", `3.0`: "3.0", `null`: "",
		`{"major":3}`: "",
	} {
		var o Organisation
		require.NoError(t, decode("x", []byte(`{"id":1,"api_version":`+body+`}`), &o), body)
		assert.Equal(t, want, o.APIVersion)
	}
}

func TestHasMoreIsTrueUnlessItSaysNo(t *testing.T) {
	t.Parallel()
	for body, want := range map[string]bool{
		`true`: true, `"true"`: true, `1`: true, `"1"`: true, `"yes"`: true, `7`: true, `{"a":1}`: true,
		`false`: false, `"false"`: false, `0`: false, `"0"`: false, `null`: false, `""`: false,
		`{}`: false, `[]`: false,
	} {
		var l List[User]
		require.NoError(t, json.Unmarshal([]byte(`{"data":[],"has_more":`+body+`}`), &l), body)
		assert.Equal(t, want, l.HasMore, body)
	}
}

type decodeHook func(context.Context, DecodeInfo)

func (f decodeHook) Decode(ctx context.Context, info DecodeInfo) { f(ctx, info) }

func TestAHookIsToldOfOddValuesOnce(t *testing.T) {
	t.Parallel()
	var told []DecodeInfo
	c, api := newTestClient(t, WithHooks(
		decodeHook(func(context.Context, DecodeInfo) { panic("a hook's own fault") }),
		decodeHook(func(_ context.Context, info DecodeInfo) { told = append(told, info) }),
	))
	api.RegisterResponder(http.MethodGet, "=~/users/",
		jsonResponder(200, `{"id":1,"identifier":{},"state":[]}`))
	for range 3 {
		user, err := c.Users.Get(t.Context(), "1")
		require.NoError(t, err)
		assert.Equal(t, &User{ID: "1"}, user)
	}
	assert.Equal(t, []DecodeInfo{
		{Operation: "Users.Get", Path: "identifier", Reason: "got object, want string"},
		{Operation: "Users.Get", Path: "state", Reason: "got array, want string"},
	}, told)
}
