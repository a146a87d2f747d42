package ricloud_test

import (
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"reflect"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jarcoal/httpmock"
	"github.com/stretchr/testify/require"

	ricloud "github.com/reincubate/ricloud-go"
	"github.com/reincubate/ricloud-go/internal/transport"
	"github.com/reincubate/ricloud-go/ricloudtest"
)

// fileAccount has n messages. Each refers to a file of its own, twice.
func fileAccount(n int) ricloudtest.Account {
	a := ricloudtest.Account{
		Identifier: "john.appleseed@example.com", Password: "hunter2",
		Files: map[string]ricloudtest.File{}, Fail: map[string]string{},
	}
	var records []any
	for i := range n {
		id := fmt.Sprintf("file-%03d", i)
		a.Files[id] = ricloudtest.File{
			Type:    "jpg",
			Content: bytes.NewReader([]byte("the content of " + id)),
		}
		records = append(records,
			map[string]any{"files": []any{map[string]any{"id": id}}},
			map[string]any{"attachments": []any{
				map[string]any{"file_id": id},
				map[string]any{"file_id": "dtouch-1"},
			}})
	}
	a.Data = map[string]ricloudtest.Content{"ios_messages.messages": ricloudtest.Records(records...)}
	return a
}

func pollMessages(t *testing.T, client *ricloud.Client) *ricloud.Poll {
	t.Helper()
	session, err := login(t.Context(), client)
	require.NoError(t, err)
	poll, err := client.Polls.Create(t.Context(), ricloud.PollCreateParams{
		Session: session.ID, Type: "data",
		Payload: ricloud.PollPayload{DataTypes: []string{"ios_messages.messages"}},
	})
	require.NoError(t, err)
	return poll
}

// messagesAndFiles polls for messages and returns the results, with those of the files.
func messagesAndFiles(t *testing.T, client *ricloud.Client) []*ricloud.Result {
	t.Helper()
	var results []*ricloud.Result
	poll := pollMessages(t, client)
	for r, err := range client.Polls.Results(t.Context(), poll.ID, ricloud.WithFiles()) {
		require.NoError(t, err)
		results = append(results, r)
	}
	return results
}

func sequence(results []*ricloud.Result) func(func(*ricloud.Result, error) bool) {
	return func(yield func(*ricloud.Result, error) bool) {
		for _, r := range results {
			if !yield(r, nil) {
				return
			}
		}
	}
}

// perform calls the method of op and returns its results without the error. If edit is not nil, it
// may change each argument first.
func perform(
	ctx context.Context, t *testing.T, client *ricloud.Client, op transport.Operation,
	edit func(reflect.Value), opts ...ricloud.CallOption,
) ([]any, error) {
	t.Helper()
	service, verb, _ := strings.Cut(op.Name, ".")
	method := reflect.ValueOf(client).Elem().FieldByName(service).MethodByName(verb)
	require.True(t, method.IsValid(), op.Name)
	args := []reflect.Value{reflect.ValueOf(ctx)}
	for i := 1; i < method.Type().NumIn()-1; i++ {
		arg := filled(t, method.Type().In(i))
		if edit != nil {
			edit(arg)
		}
		args = append(args, arg)
	}
	for _, opt := range opts {
		args = append(args, reflect.ValueOf(opt))
	}
	out := method.Call(args)
	var results []any
	for _, v := range out[:len(out)-1] {
		results = append(results, v.Interface())
	}
	err, _ := reflect.TypeAssert[error](out[len(out)-1])
	return results, err
}

// filled returns a value of typ that passes validation. Its IDs need escaping, and its texts are
// also valid URLs.
func filled(t *testing.T, typ reflect.Type) reflect.Value {
	t.Helper()
	v := reflect.New(typ).Elem()
	switch {
	case typ == reflect.TypeFor[ricloud.ID]():
		v.SetString("a/b")
	case typ == reflect.TypeFor[ricloud.Secret]():
		v.Set(reflect.ValueOf(ricloud.NewSecret("a secret")))
	case typ == reflect.TypeFor[ricloud.PollCreateParams](): // the fields exclude each other
		v.Set(reflect.ValueOf(ricloud.PollCreateParams{
			Session: "1",
			Payload: ricloud.PollPayload{InfoTypes: []string{"*"}},
		}))
	case typ.Kind() == reflect.String:
		v.SetString("https://example.com/hook")
	case typ.Kind() == reflect.Struct:
		for field, value := range v.Fields() {
			if field.IsExported() {
				value.Set(filled(t, field.Type))
			}
		}
	case typ.Kind() == reflect.Slice:
		v.Set(reflect.Append(v, filled(t, typ.Elem())))
	case typ.Kind() == reflect.Map:
		v.Set(reflect.MakeMap(typ))
		v.SetMapIndex(filled(t, typ.Key()), filled(t, typ.Elem()))
	case typ.Kind() == reflect.Pointer:
		v.Set(reflect.New(typ.Elem()))
		v.Elem().Set(filled(t, typ.Elem()))
	}
	return v
}

func maybeApplied(err error) bool {
	call, ok := errors.AsType[*ricloud.CallError](err)
	return ok && call.MaybeApplied()
}

const webhookSecret = "s3cr3t-canary"

// sign builds a signature as docs/contract.md section 13 describes. It deliberately shares no code
// with the SDK.
func sign(secret string, at time.Time, body []byte) string {
	t := strconv.FormatInt(at.Unix(), 10)
	mac := hmac.New(sha256.New, []byte(secret))
	mac.Write([]byte(t + "."))
	mac.Write(body)
	return "t=" + t + ",s=" + base64.StdEncoding.EncodeToString(mac.Sum(nil))
}

// eventBody returns the body of an event.
func eventBody(id string) []byte {
	return fmt.Appendf(nil,
		`{"id":%q,"resource":"event","type":"poll","action":"completed","data":{"id":"p1",`+
			`"state":"completed"},"state":"pending","retries":0}`, id)
}

// delivery returns a request as the API would send it now.
func delivery(t *testing.T, body []byte) *http.Request {
	t.Helper()
	r := httptest.NewRequestWithContext(t.Context(), http.MethodPost, "/webhooks/e1",
		bytes.NewReader(body))
	r.Header.Set("Content-Type", "application/json")
	r.Header.Set(ricloud.SignatureHeader, sign(webhookSecret, time.Now(), body))
	return r
}

func serve(h http.Handler, r *http.Request) *httptest.ResponseRecorder {
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	return w
}

// newWebhook returns a handler with the test's secret.
func newWebhook(
	t *testing.T, fn func(context.Context, *ricloud.Event) error, opts ...ricloud.WebhookOption,
) *ricloud.WebhookHandler {
	t.Helper()
	h, err := ricloud.NewWebhookHandler(fn,
		append([]ricloud.WebhookOption{ricloud.WithWebhookSecrets(ricloud.NewSecret(webhookSecret))},
			opts...)...)
	require.NoError(t, err)
	return h
}

func ignore(context.Context, *ricloud.Event) error { return nil }

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

// record returns a client of an API whose lists of events hold these, by state and page by page.
func record(
	t *testing.T, byState map[string][]string,
) (client *ricloud.Client, requests func() int) {
	t.Helper()
	api := &lists{list: func(q url.Values, _ int) []string { return byState[q.Get("state")] }}
	return api.client(t), func() int { return len(api.queries) }
}

// ids collects the IDs of the events that it is given.
type ids []ricloud.ID

func (g *ids) take(_ context.Context, e *ricloud.Event) error {
	*g = append(*g, e.ID)
	return nil
}

//nolint:gochecknoglobals // a constant in all but name
var epoch = time.Date(2020, 2, 25, 0, 0, 0, 0, time.UTC)

func recorded(id string, minute int) string {
	return fmt.Sprintf(`{"id":%q,"type":"poll","action":"completed","data":{"id":"p"},`+
		`"date_created":%q}`,
		id, epoch.Add(time.Duration(minute)*time.Minute).Format(time.RFC3339))
}

func dated(id string, at time.Time) string {
	return fmt.Sprintf(`{"id":%q,"type":"poll","action":"completed","data":{"id":"p"},`+
		`"date_created":%q}`,
		id, at.UTC().Format(time.RFC3339))
}
