package otel_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"reflect"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	ricloud "github.com/reincubate/ricloud-go"
	"github.com/reincubate/ricloud-go/internal/transport"
	"github.com/reincubate/ricloud-go/ricloudtest"
)

// canary is part of every secret in these tests. An output that contains it leaks a secret.
const canary = "CANARY"

// debugLog returns a logger that keeps everything, and its output.
func debugLog() (*slog.Logger, *bytes.Buffer) {
	var log bytes.Buffer
	return slog.New(slog.NewJSONHandler(&log, &slog.HandlerOptions{Level: slog.LevelDebug - 10})), &log
}

// filled returns a value that the client accepts, with canaries for secrets.
func filled(t reflect.Type) reflect.Value {
	v := reflect.New(t).Elem()
	switch {
	case t == reflect.TypeFor[ricloud.ID]():
		v.SetString("1")
	case t == reflect.TypeFor[ricloud.Secret]():
		v.Set(reflect.ValueOf(ricloud.NewSecret(canary + `-"secret\/ü`)))
	case t == reflect.TypeFor[ricloud.PollCreateParams](): // the fields exclude each other
		v.Set(reflect.ValueOf(ricloud.PollCreateParams{
			Session: "1", Payload: ricloud.PollPayload{InfoTypes: []string{"*"}},
		}))
	case t.Kind() == reflect.String:
		v.SetString("https://example.com/hook")
	case t.Kind() == reflect.Struct:
		for field, value := range v.Fields() {
			if field.IsExported() {
				value.Set(filled(field.Type))
			}
		}
	case t.Kind() == reflect.Slice:
		v.Set(reflect.Append(v, filled(t.Elem())))
	case t.Kind() == reflect.Map:
		v.Set(reflect.MakeMap(t))
		v.SetMapIndex(filled(t.Key()), filled(t.Elem()))
	case t.Kind() == reflect.Pointer:
		v.Set(reflect.New(t.Elem()))
		v.Elem().Set(filled(t.Elem()))
	}
	return v
}

// perform calls the method of an operation.
func perform(ctx context.Context, client *ricloud.Client, op transport.Operation) {
	service, verb, _ := strings.Cut(op.Name, ".")
	method := reflect.ValueOf(client).Elem().FieldByName(service).MethodByName(verb)
	args := []reflect.Value{reflect.ValueOf(ctx)}
	for i := 1; i < method.Type().NumIn()-1; i++ {
		args = append(args, filled(method.Type().In(i)))
	}
	method.Call(append(args, reflect.ValueOf(ricloud.WithQuery("signature", canary+"-query"))))
}

// api answers a request. body is the body of that request.
type api func(r *http.Request, body string) (int, string, error)

func (a api) RoundTrip(r *http.Request) (*http.Response, error) {
	var body bytes.Buffer
	if r.Body != nil {
		_, _ = body.ReadFrom(r.Body)
	}
	status, answer, err := a(r, body.String())
	if err != nil {
		return nil, err
	}
	return &http.Response{
		StatusCode: status, Header: http.Header{}, ContentLength: int64(len(answer)),
		Body: io.NopCloser(strings.NewReader(answer)),
	}, nil
}

// answers returns APIs that echo what they were sent, or return secrets of their own.
func answers() map[string]api {
	with := func(status int, text func(echo string) string) api {
		return func(r *http.Request, body string) (int, string, error) {
			return status, text(r.Header.Get("Authorization") + " " + body), nil
		}
	}
	const resource = `{"id":"1","state":"active","token":"CANARY-key","secret":"CANARY-hook",
		"signed_url":{"url":"https://s.test/f?CANARY"},"credentials":{"private_key":"CANARY"}`
	return map[string]api{
		"a success": with(http.StatusOK, func(string) string { return resource + "}" }),
		"an odd field": with(http.StatusOK, func(string) string {
			return resource + `,"date_created":[7]}`
		}),
		"an odd secret": with(http.StatusOK, func(string) string {
			return `{"id":"1","token":["CANARY"],"secret":{"CANARY":1},"signed_url":["CANARY"]}`
		}),
		"no JSON": with(http.StatusOK, func(echo string) string { return "<html>" + echo }),
		"an error": with(http.StatusBadRequest, func(echo string) string {
			text, _ := json.Marshal(map[string]any{
				"error": echo, "message": echo, "params": map[string]string{"payload": echo},
			})
			return string(text)
		}),
		"a crash": with(http.StatusInternalServerError, func(echo string) string { return echo }),
		"a broken connection": func(r *http.Request, _ string) (int, string, error) {
			return 0, "", &url.Error{Op: r.Method, URL: r.URL.String(), Err: io.ErrUnexpectedEOF}
		},
	}
}

// Every operation runs against APIs that echo its secrets. No span, metric or log record contains
// one.
func TestNothingSecretIsRecordedOfAnyOperation(t *testing.T) {
	t.Parallel()
	for name, answer := range answers() {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				s := newSeen(t)
				logger, log := debugLog()
				client, err := ricloud.NewClient(canary+"-token", ricloud.WithTransport(answer),
					ricloud.WithHooks(s.hooks), ricloud.WithLogger(logger), ricloud.WithRetries(1))
				require.NoError(t, err)
				for _, op := range transport.Operations() {
					perform(t.Context(), client, op)
				}
				_ = client.Call(t.Context(), http.MethodPost, "/things/1?q=CANARY", nil, nil)

				recorded := s.dump(t) + log.String()
				for _, op := range transport.Operations() {
					assert.Contains(t, recorded, "ricloud "+op.Name, "a span of it")
					assert.Contains(t, log.String(), `"operation":"`+op.Name+`"`)
				}
				assert.NotContains(t, recorded, canary)
				assert.NotContains(t, recorded, fmt.Sprintf("%x", canary))
			})
		})
	}
}

// A body that is not built from the SDK's types may hold secrets that the SDK cannot recognise. If
// the API echoes them, the caller's error may contain them, but nothing that is recorded does.
func TestNothingOfAPlainBodyIsRecorded(t *testing.T) {
	t.Parallel()
	for name, answer := range answers() {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				s := newSeen(t)
				logger, log := debugLog()
				client, err := ricloud.NewClient("token", ricloud.WithTransport(answer),
					ricloud.WithHooks(s.hooks), ricloud.WithLogger(logger), ricloud.WithRetries(1))
				require.NoError(t, err)
				for _, body := range []any{canary, map[string]any{"note": canary}, []string{canary}} {
					_ = client.Call(t.Context(), http.MethodPost, "/things", body, new(ricloud.Session))
				}
				recorded := s.dump(t) + log.String()
				assert.Contains(t, recorded, "ricloud Call")
				assert.NotContains(t, recorded, canary)
			})
		})
	}
}

// Nothing secret is recorded of a login, a poll, or downloads that fail in every way. Metrics do
// not contain IDs.
func TestNothingSecretIsRecordedOfADownload(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := newSeen(t)
		logger, log := debugLog()
		server := newServer(ricloudtest.WithToken(canary+"-token"),
			ricloudtest.WithDelays(ricloudtest.Delays{}))
		defer server.Close()
		client := server.Client(ricloud.WithHooks(s.hooks), ricloud.WithLogger(logger),
			ricloud.WithRetries(1))
		got := session(t.Context(), t, client)
		poll, err := client.Polls.Create(t.Context(), ricloud.PollCreateParams{
			Session: got.ID, Payload: ricloud.PollPayload{DataTypes: []string{"callkit.calls"}},
		})
		require.NoError(t, err)
		secrets := []string{canary, "canary-password", "246813", "X-Amz-Signature"}
		for result, err := range client.Polls.Results(t.Context(), poll.ID) {
			require.NoError(t, err)
			_, query, ok := strings.Cut(result.SignedURL.URL.Reveal(), "?")
			require.True(t, ok)
			secrets = append(secrets, query)
			for _, fault := range []ricloudtest.Fault{
				{Status: http.StatusServiceUnavailable},
				{Status: http.StatusForbidden},
				{Reset: true},
				{Truncate: 10},
				{Corrupt: true},
				{Status: http.StatusFound, Header: http.Header{
					"Location": {"https://elsewhere.test/?" + canary},
				}},
			} {
				for _, count := range []int{1, -1} {
					fault.Operation, fault.Count = ricloudtest.StorageGet, count
					require.NoError(t, server.SetFaults(fault))
					_, _ = client.Results.Save(t.Context(), result, t.TempDir())
				}
			}
			require.NoError(t, server.SetFaults())
			_, err = client.Results.Save(t.Context(), result, t.TempDir())
			require.NoError(t, err)
		}
		recorded := s.dump(t) + log.String()
		assert.Contains(t, recorded, "ricloud download")
		assert.Contains(t, log.String(), "ricloud resume")
		for _, secret := range secrets {
			assert.NotContains(t, recorded, secret)
		}
		for name, m := range s.collected(t) {
			assert.NotContains(t, fmt.Sprintf("%+v", m.Data), string(got.ID), name)
		}
	})
}

// Nothing secret is recorded of deliveries: handled, failed, repeated, forged, too old or too
// large.
func TestNothingSecretIsRecordedOfADelivery(t *testing.T) {
	t.Parallel()
	s := newSeen(t)
	logger, log := debugLog()
	secret, fail := canary+"-webhook", true
	handler, err := ricloud.NewWebhookHandler(func(context.Context, *ricloud.Event) error {
		if fail {
			return errors.New("not now")
		}
		return nil
	}, ricloud.WithWebhookSecrets(ricloud.NewSecret(secret)), ricloud.WithWebhookHooks(s.hooks),
		ricloud.WithWebhookLogger(logger), ricloud.WithWebhookMaxBody(4096))
	require.NoError(t, err)
	body := `{"id":"e1","type":"poll","action":"completed","date_created":"2020-01-02T03:04:05Z",` +
		`"data":{"id":"p1","results":[{"id":"r","signed_url":{"url":"https://s.test/?CANARY"}}]}}`
	deliver := func(signature, body string) int {
		req := httptest.NewRequestWithContext(t.Context(), http.MethodPost, "/?q="+canary,
			strings.NewReader(body))
		req.Header.Set(ricloud.SignatureHeader, signature)
		w := httptest.NewRecorder()
		handler.ServeHTTP(w, req)
		return w.Code
	}
	now := time.Now()
	signature := ricloudtest.SignWebhook(secret, now, []byte(body))
	assert.Equal(t, http.StatusInternalServerError, deliver(signature, body))
	fail = false
	assert.Equal(t, http.StatusOK, deliver(signature, body))
	assert.Equal(t, http.StatusOK, deliver(signature, body))
	forged := ricloudtest.SignWebhook("other", now, []byte(body))
	assert.Equal(t, http.StatusUnauthorized, deliver(forged, body))
	old := ricloudtest.SignWebhook(secret, now.Add(-time.Hour), []byte(body))
	assert.Equal(t, http.StatusUnauthorized, deliver(old, body))
	large := body + strings.Repeat(" ", 8192)
	assert.Equal(t, http.StatusRequestEntityTooLarge, deliver(signature, large))

	recorded := s.dump(t) + log.String()
	for _, outcome := range []string{"handled", "failed", "duplicate", "refused"} {
		assert.Contains(t, recorded, outcome)
	}
	for _, hidden := range []string{canary, signature, forged, old} {
		assert.NotContains(t, recorded, hidden)
	}
}
