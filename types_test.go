package ricloud

import (
	"bytes"
	"context"
	"encoding/gob"
	"encoding/json"
	"encoding/xml"
	"fmt"
	"html/template"
	"log/slog"
	"strings"
	"testing"
	texttemplate "text/template"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// hidden holds a secret in every kind of field.
type hidden struct {
	Field   Secret
	Pointer *Secret
	Slice   []Secret
	Map     map[string]Secret
	Any     any
	private Secret
	inner   *hidden
}

func newHidden(value string) hidden {
	s := NewSecret(value)
	h := hidden{
		Field: s, Pointer: &s, Slice: []Secret{s}, Map: map[string]Secret{"k": s}, Any: s,
		private: s,
	}
	inner := h
	h.inner = &inner
	return h
}

// failing records what a failed assertion prints.
type failing struct{ strings.Builder }

func (f *failing) Errorf(format string, args ...any) { fmt.Fprintf(&f.Builder, format, args...) }

func TestNothingShowsASecret(t *testing.T) {
	t.Parallel()
	const canary = "canary-7f3a"
	h, other := newHidden(canary), newHidden("another")
	var shown failing
	for _, v := range []any{
		h.Field, &h.Field, h, &h,
		[]hidden{h},
		map[string]*hidden{"k": &h},
		Key{Token: h.Field},
		[]*Key{{Token: h.Field}},
	} {
		for _, verb := range []string{"%v", "%+v", "%#v", "%q", "%s", "%x", "%X", "%d", "%t", "%p"} {
			_, _ = fmt.Fprintf(&shown, verb, v)
		}
		slog.New(slog.NewTextHandler(&shown, nil)).Info("", slog.Any("v", v))
		slog.New(slog.NewJSONHandler(&shown, nil)).Info("", slog.Any("v", v))
		require.NoError(t,
			texttemplate.Must(texttemplate.New("").Parse(`{{.}} {{printf "%s" .}} {{html .}}`)).Execute(
				&shown, v,
			))
		require.NoError(t,
			template.Must(template.New("").Parse(`<p title="{{.}}">{{.}}</p>`)).Execute(&shown, v))
	}
	assert.Equal(&shown, h, other, "a test that fails prints both")
	assert.Equal(&shown, h.Field, other.Field)
	assert.Equal(&shown, Key{Token: h.Field}, Key{Token: other.Field})
	assert.Contains(&shown, h.Slice, other.Field)
	assert.NotContains(t, shown.String(), canary)
	assert.NotContains(t, shown.String(), fmt.Sprintf("%x", canary))
	assert.NotContains(t, shown.String(), fmt.Sprintf("%d", []byte(canary)))
	assert.Contains(t, shown.String(), "[redacted]")
}

func TestEncodersFailOnASecret(t *testing.T) {
	t.Parallel()
	const canary = "canary-7f3a"
	h := newHidden(canary)
	encoders := map[string]func(any) ([]byte, error){
		"json": json.Marshal,
		"xml":  xml.Marshal,
		"gob": func(v any) ([]byte, error) {
			var b bytes.Buffer
			err := gob.NewEncoder(&b).Encode(v)
			return b.Bytes(), err
		},
	}
	for name, encode := range encoders {
		for _, v := range []any{
			h.Field, &h.Field,
			Key{Token: h.Field},
			SessionPayload{Password: h.Field},
			Result{SignedURL: SignedURL{URL: h.Field}},
			WebhookConfig{Secret: h.Field},
		} {
			out, err := encode(v)
			require.ErrorContains(t, err, "ricloud: a Secret is never encoded", "%s %T", name, v)
			assert.NotContains(t, string(out)+err.Error(), canary)
		}
	}
	_, err := json.Marshal(map[Secret]int{h.Field: 1})
	require.Error(t, err, "as a key")
	_, err = json.Marshal(Event{Data: Raw(canary)})
	require.ErrorContains(t, err, "ricloud: an Event is not encoded as JSON")

	out, err := json.Marshal(Key{ID: "1"})
	require.NoError(t, err, "nothing is lost with an empty one")
	assert.Contains(t, string(out), `"token":""`)
	var read, empty Secret
	var b bytes.Buffer
	require.NoError(t, gob.NewEncoder(&b).Encode(&empty))
	require.NoError(t, gob.NewDecoder(&b).Decode(&read))
	assert.True(t, read.IsZero())
}

func TestASecretIsReadAndCompared(t *testing.T) {
	t.Parallel()
	var key Key
	require.NoError(t, json.Unmarshal([]byte(`{"token":"a\u0062c"}`), &key))
	assert.Equal(t, "abc", key.Token.Reveal())
	assert.Equal(t, NewSecret("abc"), key.Token)
	//nolint:testifylint // secrets can be compared with ==
	assert.True(t, key.Token == NewSecret("abc"))
	assert.NotEqual(t, NewSecret("abd"), key.Token)
	assert.False(t, key.Token.IsZero())
	require.NoError(t, json.Unmarshal([]byte(`{"token":""}`), &key))
	assert.Equal(t, Secret{}, key.Token)
	require.NoError(t, decode("x", []byte(`{"id":1,"token":123}`), &key))
	assert.Equal(t, "123", key.Token.Reveal(), "an API may write a token of digits as a number")
}

// A program that printed a secret and reads the output back must not use the printed word as a
// secret.
func TestTheWordRedactedIsNoSecret(t *testing.T) {
	t.Parallel()
	for name, read := range map[string]func() error{
		"Secret": func() error { return json.Unmarshal([]byte(`"[redacted]"`), new(Secret)) },
		"text":   func() error { return new(Secret).UnmarshalText([]byte(" [redacted]\n")) },
		//nolint:musttag // it is written as it is
		"payload": func() error {
			return json.Unmarshal([]byte(`{"Password":"[redacted]"}`), new(SessionPayload))
		},
		"key": func() error { return json.Unmarshal([]byte(`{"token":"[redacted]"}`), new(Key)) },
		"webhook": func() error {
			return json.Unmarshal([]byte(`{"secret":"[redacted]"}`), new(WebhookConfig))
		},
		"Raw":      func() error { return json.Unmarshal([]byte(`{"data":"[redacted]"}`), new(Event)) },
		"token":    func() error { return result(NewClient("[redacted]")) },
		"verifier": func() error { return VerifyWebhook("t=1,s=", nil, NewSecret("[redacted]")) },
		"receiver": func() error {
			return result(NewWebhookHandler(func(context.Context, *Event) error { return nil },
				WithWebhookSecrets(NewSecret("[redacted]"))))
		},
		"access key": func() error { return result(CredentialsFromKey("AK", NewSecret("[redacted]"))) },
	} {
		require.ErrorContains(t, read(), "[redacted]", name)
	}

	c, api := newTestClient(t)
	secret := NewSecret("[redacted]")
	source := SourceParams{User: "1", Type: SourceICloudAccount, Identifier: "jane"}
	for name, err := range map[string]error{
		"password": result(c.Sessions.Create(t.Context(),
			SessionCreateParams{Source: source, Payload: SessionPayload{Password: secret}})),
		"code": result(c.Sessions.Login(t.Context(),
			SessionCreateParams{
				Source:  source,
				Payload: SessionPayload{Password: NewSecret("p"), Code: secret},
			}, nil)),
		"credential": result(c.StorageConfigs.Create(t.Context(),
			StorageConfigCreateParams{URL: "s3://b/p", Credentials: Credentials{"k": secret}})),
		"update": result(c.StorageConfigs.Update(t.Context(), "1",
			StorageConfigUpdateParams{Credentials: Credentials{"k": secret}})),
		"ensure": result(c.StorageConfigs.Ensure(t.Context(),
			StorageConfigEnsureParams{URL: "s3://b/p", Credentials: Credentials{"k": secret}})),
		"Call": c.Call(t.Context(), "POST", "/x", map[string]Secret{"k": NewSecret("canary")}, nil),
	} {
		var invalid *ParamError
		require.ErrorAs(t, err, &invalid, name)
	}
	assert.Empty(t, api.all(), "nothing is sent")

	var key Key
	require.NoError(t, decode("x", []byte(`{"id":1,"token":"[redacted]"}`), &key),
		"an API that hides tokens itself is no reason to fail")
	assert.True(t, key.Token.IsZero())
}

func TestDurationsAreSecondsInJSON(t *testing.T) {
	t.Parallel()
	for body, want := range map[string]time.Duration{
		`3600`: time.Hour, `0.5`: 500 * time.Millisecond, `"3600"`: time.Hour, `null`: 0, `1e300`: 0,
		`"1 h"`: 0, `{}`: 0, `-1`: -time.Second,
	} {
		var s Subscription
		require.NoError(t, decode("x", []byte(`{"id":"1","org":2,"interval":`+body+`}`), &s), body)
		assert.Equal(t, want, s.Interval, body)
		var c StorageConfig
		require.NoError(t, decode("x", []byte(`{"id":"1","signed_urls_expiry":`+body+`}`), &c), body)
		assert.Equal(t, want, c.SignedURLsExpiry, body)

		stored, err := json.Marshal([]any{s, c})
		require.NoError(t, err)
		read := []any{new(Subscription), new(StorageConfig)}
		require.NoError(t, json.Unmarshal(stored, &read))
		assert.Equal(t, []any{&s, &c}, read, "%s", stored)
	}
}
