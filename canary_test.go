package ricloud_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"iter"
	"log/slog"
	"net/http"
	"net/url"
	"reflect"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/jarcoal/httpmock"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	ricloud "github.com/reincubate/ricloud-go"
	"github.com/reincubate/ricloud-go/internal/transport"
)

// canary is part of every secret in this test. An output that contains it leaks a secret.
const canary = "CANARY"

const (
	canaryToken = canary + "-token"
	canaryQuery = canary + "-signature"
)

// plant puts a canary into every Secret that v contains.
func plant(v reflect.Value) {
	if v.Type() == reflect.TypeFor[ricloud.Secret]() {
		v.Set(reflect.ValueOf(ricloud.NewSecret(canary + `-"secret\/ü`)))
		return
	}
	switch v.Kind() {
	case reflect.Struct:
		for field, value := range v.Fields() {
			if field.IsExported() {
				plant(value)
			}
		}
	case reflect.Slice:
		for i := range v.Len() {
			plant(v.Index(i))
		}
	case reflect.Map:
		for _, key := range v.MapKeys() {
			value := reflect.New(v.Type().Elem()).Elem()
			plant(value)
			if !value.IsZero() {
				v.SetMapIndex(key, value)
			}
		}
	case reflect.Pointer:
		if !v.IsNil() {
			plant(v.Elem())
		}
	}
}

// leaky is an API that echoes the token and the body of each request.
type leaky func(req *http.Request, echo string) (*http.Response, error)

func (l leaky) RoundTrip(req *http.Request) (*http.Response, error) {
	var body []byte
	if req.Body != nil {
		body, _ = io.ReadAll(req.Body) //nolint:forbidigo // our own request
	}
	return l(req, fmt.Sprintf("%s %s", req.Header.Get("Authorization"), body))
}

func says(status int, format func(echo string) string, header ...string) leaky {
	return func(_ *http.Request, echo string) (*http.Response, error) {
		resp := httpmock.NewStringResponse(status, format(echo))
		for i := 0; i < len(header); i += 2 {
			resp.Header.Set(header[i], header[i+1])
		}
		return resp, nil
	}
}

func asIs(echo string) string { return "<html>" + echo }

func asError(echo string) string {
	//nolint:errchkjson // strings
	text, _ := json.Marshal(map[string]any{
		"error": echo, "message": echo,
		"params": map[string]string{"payload": echo},
	})
	return string(text)
}

func asValue(field string) func(string) string {
	return func(echo string) string {
		text, _ := json.Marshal(map[string]any{"id": "1", field: []any{echo}})
		return string(text)
	}
}

// resource is an answer with every secret that the API gives out.
const resource = `{"id":"1","state":"active","token":"CANARY-key","secret":"CANARY-webhook",
	"url":"https://example.com",
	"webhook_configs":[{"id":1,"secret":"CANARY-webhook"}],
	"storage_configs":[{"id":1,"credentials":{"private_key":"CANARY-private"}}],
	"signed_url":{"url":"https://s.test/f?CANARY-signature","date_expires":"2026-01-01T00:00:00Z"},
	"results":[{"id":"r","signed_url":{"url":"https://s.test/f?CANARY-signature"}}],
	"credentials":{"private_key":"CANARY-private"}`

func leaks() map[string]leaky {
	whole := func(string) string { return resource + "}" }
	return map[string]leaky{
		"success": says(200, whole),
		"list": says(200, func(string) string {
			return `{"data":[` + resource + `}],"has_more":false}`
		}),
		"truncated resource": says(200, func(string) string { return resource + `,"date_created":` }),
		"misfit beside secrets": says(200, func(string) string {
			return resource + `,"date_created":[7],"data":[` + resource + `,"state":[]}]}`
		}),
		"misfit secrets": says(200, func(string) string {
			return `{"token":["CANARY-key"],"secret":["CANARY-webhook"],"signed_url":["CANARY"]}`
		}),
		"400":         says(400, asError),
		"401":         says(401, asError),
		"403 as text": says(403, asIs),
		"429":         says(429, asError),
		"500":         says(500, asIs),
		"503":         says(503, asError, "Retry-After", "1"),
		"long error": says(502, func(echo string) string {
			return strings.Repeat(echo+" ", 70<<10/len(echo))
		}),
		"HTML":              says(200, asIs),
		"misfit id":         says(200, asValue("id")),
		"misfit state":      says(200, asValue("state")),
		"misfit time":       says(200, asValue("date_created")),
		"redirect":          says(302, asIs, "Location", "https://elsewhere.test/?"+canaryQuery),
		"unusable redirect": says(302, asIs, "Location", "https://%zz?"+canaryQuery),
		"transport error": func(_ *http.Request, echo string) (*http.Response, error) {
			return nil, fmt.Errorf("malformed answer %q %s", echo, echo)
		},
		"URL in the error": func(req *http.Request, _ string) (*http.Response, error) {
			return nil, &url.Error{
				Op: "Get", URL: req.URL.String() + "?" + canaryQuery,
				Err: errors.New("reset"),
			}
		},
		"cut short": func(_ *http.Request, echo string) (*http.Response, error) {
			resp := httpmock.NewStringResponse(200, echo)
			resp.ContentLength *= 2
			return resp, nil
		},
		"silence": func(req *http.Request, _ string) (*http.Response, error) {
			<-req.Context().Done()
			return nil, req.Context().Err()
		},
	}
}

// prints yields v as each verb, encoder, logger and panic would print it.
func prints(v any) iter.Seq2[string, string] {
	return func(yield func(string, string) bool) {
		for _, verb := range []string{"%v", "%+v", "%#v", "%q", "%s", "%x", "%d"} {
			if !yield(verb, fmt.Sprintf(verb, v)) {
				return
			}
		}
		text, err := json.Marshal(v)
		if !yield("json", fmt.Sprint(string(text), err)) {
			return
		}
		var log bytes.Buffer
		slog.New(slog.NewTextHandler(&log, nil)).Info("", slog.Any("v", v))
		slog.New(slog.NewJSONHandler(&log, nil)).Info("", slog.Any("v", v))
		if !yield("slog", log.String()) {
			return
		}
		func() {
			defer func() { yield("panic", fmt.Sprintf("%v %+v", recover(), v)) }()
			panic(v)
		}()
	}
}

func assertSilent(t *testing.T, what string, v any) {
	t.Helper()
	for how, text := range prints(v) {
		assert.NotContains(t, text, canary, "%s printed as %s", what, how)
		assert.NotContains(t, text, fmt.Sprintf("%x", canary), "%s printed as %s", what, how)
	}
	err, _ := v.(error)
	for ; err != nil; err = errors.Unwrap(err) {
		assert.NotContains(t, err.Error(), canary, "%s unwrapped to %T", what, err)
	}
}

// dumper is a hook that records everything it is given.
type dumper struct {
	mu  sync.Mutex
	out strings.Builder
}

func (d *dumper) dump(v ...any) {
	d.mu.Lock()
	defer d.mu.Unlock()
	fmt.Fprintf(&d.out, "%+v\n%#v\n", v, v)
}

func (d *dumper) Call(
	ctx context.Context, info ricloud.CallInfo,
) (context.Context, func(ricloud.CallResult)) {
	d.dump(info)
	return ctx, func(r ricloud.CallResult) { d.dump(r, r.Err) }
}

func (d *dumper) Attempt(
	ctx context.Context, info ricloud.AttemptInfo,
) (context.Context, func(ricloud.AttemptResult)) {
	d.dump(info)
	return ctx, func(r ricloud.AttemptResult) { d.dump(r, r.Err) }
}

func (d *dumper) Decode(_ context.Context, info ricloud.DecodeInfo) { d.dump(info) }

// Every operation runs against APIs that echo its secrets in many ways, with a debug log and a
// hook. No output may contain a secret.
func TestNothingSecretComesOut(t *testing.T) {
	t.Parallel()
	for name, api := range leaks() {
		for _, op := range transport.Operations() {
			if name == "long error" && op.Name != "Sessions.Create" {
				continue // one operation is enough: this case prints 64 KiB
			}
			t.Run(name+"/"+op.Name, func(t *testing.T) {
				t.Parallel()
				synctest.Test(t, func(t *testing.T) {
					var logs bytes.Buffer
					var hook dumper
					client, err := ricloud.NewClient(canaryToken, ricloud.WithTransport(api),
						ricloud.WithRetries(1), ricloud.WithHooks(&hook),
						ricloud.WithLogger(slog.New(slog.NewMultiHandler(
							slog.NewTextHandler(&logs, &slog.HandlerOptions{Level: slog.LevelDebug - 10}),
							slog.NewJSONHandler(&logs, &slog.HandlerOptions{Level: slog.LevelDebug - 10}),
						))))
					require.NoError(t, err)
					var params []any
					keep := func(v reflect.Value) {
						plant(v)
						params = append(params, v.Interface())
					}
					results, err := perform(t.Context(), t, client, op, keep,
						ricloud.WithQuery("signature", canaryQuery))

					if name == "success" { // these do not depend on the answer, so one case is enough
						assertSilent(t, "the client", client)
						assertSilent(t, "the client by value", *client)
						for _, v := range params {
							assertSilent(t, "the params", v)
						}
					}
					for _, v := range results {
						assertSilent(t, "the result", v)
						if r := reflect.ValueOf(v); r.Kind() == reflect.Pointer && !r.IsNil() {
							assertSilent(t, "the result by value", r.Elem().Interface())
						}
					}
					if err != nil {
						assertSilent(t, "the error", err)
						assertDetailsSilent(t, err)
					}
					assert.NotContains(t, logs.String(), canary, "the log")
					assert.NotEmpty(t, logs.String())
					assert.NotContains(t, hook.out.String(), canary, "the hook")
					assert.Contains(t, hook.out.String(), op.Name)
				})
			})
		}
	}
}

// assertDetailsSilent checks each error type that errors.AsType finds in err.
func assertDetailsSilent(t *testing.T, err error) {
	t.Helper()
	if e, ok := errors.AsType[*ricloud.Error](err); ok {
		assertSilent(t, "the Error", *e)
		assert.NotContains(t, string(e.Body), canary)
	}
	if e, ok := errors.AsType[*ricloud.DecodeError](err); ok {
		assertSilent(t, "the DecodeError", *e)
	}
	if e, ok := errors.AsType[*ricloud.CallError](err); ok {
		assertSilent(t, "the CallError", *e)
		for _, attempt := range e.Attempts {
			assertSilent(t, "an attempt", attempt)
			if attempt.Err != nil {
				assertSilent(t, "an attempt's error", attempt.Err)
			}
		}
	}
}

// The canary test would notice a leak: requests do contain the canaries, and prints shows them.
func TestTheCanaryTestWouldNotice(t *testing.T) {
	t.Parallel()
	var mu sync.Mutex
	sentSecrets := map[string]bool{}
	for _, op := range transport.Operations() {
		api := leaky(func(req *http.Request, echo string) (*http.Response, error) {
			mu.Lock()
			defer mu.Unlock()
			assert.Equal(t, "Token "+canaryToken, req.Header.Get("Authorization"))
			sentSecrets[op.Name] = strings.Contains(echo, canary+`-\"secret`)
			id := "1"
			if of, found := strings.CutPrefix(req.URL.Path, "/results/"); found {
				id = strings.TrimSuffix(of, "/ack")
			}
			return httpmock.NewStringResponse(200, fmt.Sprintf(`{"id":%q,"token":"x","data":[]}`, id)), nil
		})
		client, err := ricloud.NewClient(canaryToken, ricloud.WithTransport(api))
		require.NoError(t, err)
		_, err = perform(t.Context(), t, client, op, plant)
		require.NoError(t, err)
	}
	for _, op := range []string{"Sessions.Create", "StorageConfigs.Create", "StorageConfigs.Update"} {
		assert.True(t, sentSecrets[op], "%s sends a secret", op)
	}
	found := 0
	for _, text := range prints(map[string]string{"a": canary}) {
		found += strings.Count(text, canary)
	}
	assert.Positive(t, found)
}

func TestALoginThatFailsKeepsItsSecrets(t *testing.T) {
	t.Parallel()
	for name, api := range leaks() {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				client, err := ricloud.NewClient(canaryToken, ricloud.WithTransport(api),
					ricloud.WithRetries(1))
				require.NoError(t, err)
				params := ricloud.SessionCreateParams{
					Source: ricloud.SourceParams{
						User: "1", Type: ricloud.SourceICloudAccount,
						Identifier: "jane@example.com",
					},
					Payload: ricloud.SessionPayload{
						Password: ricloud.NewSecret(canary + "-password"),
						Code:     ricloud.NewSecret(canary + "-code"),
					},
				}
				ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
				defer cancel()
				session, err := client.Sessions.Login(ctx, params, nil)
				if err != nil {
					assertSilent(t, "the error", err)
				}
				assertSilent(t, "the session", session)
			})
		})
	}
}
