package ricloud

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"reflect"
	"testing"

	"github.com/jarcoal/httpmock"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestTextThatCannotBeSentIsRefusedUnsent(t *testing.T) {
	t.Parallel()
	login := func(edit func(*SessionCreateParams)) func(context.Context, *Client) error {
		return func(ctx context.Context, c *Client) error {
			params := janesLogin()
			edit(&params)
			return result(c.Sessions.Create(ctx, params))
		}
	}
	for _, tc := range []struct {
		name  string
		call  func(context.Context, *Client) error
		field string
	}{
		{"a password in Latin-1", login(func(p *SessionCreateParams) { p.Payload.Password = NewSecret("p\xe9z") }), "Payload.Password"},
		{"a cut code", login(func(p *SessionCreateParams) { p.Payload.Code = NewSecret("12\xf0\x9f") }), "Payload.Code"},
		{"an identifier", login(func(p *SessionCreateParams) { p.Source.Identifier = "jos\xe9@example.com" }), "Source.Identifier"},
		{"a masked password", login(func(p *SessionCreateParams) { p.Payload.Password = NewSecret("[redacted]") }), "Payload.Password"},
		{"a masked code", login(func(p *SessionCreateParams) { p.Payload.Code = NewSecret("[redacted]") }), "Payload.Code"},
		{"credentials", func(ctx context.Context, c *Client) error {
			return result(c.StorageConfigs.Create(ctx, StorageConfigCreateParams{
				URL: "s3://b/p", Credentials: Credentials{"access_key_id": NewSecret("AKIA1"), "secret_access_key": NewSecret("\xff")},
			}))
		}, `Credentials["secret_access_key"]`},
		{"a user", func(ctx context.Context, c *Client) error {
			return result(c.Users.Create(ctx, UserCreateParams{Identifier: "\xc3"}))
		}, "Identifier"},
		{"a data type in a list", func(ctx context.Context, c *Client) error {
			return result(c.Polls.Create(ctx, PollCreateParams{Session: "s", Payload: PollPayload{DataTypes: []string{"a", "\x80"}}}))
		}, "Payload.DataTypes[1]"},
		{"a body of Call's", func(ctx context.Context, c *Client) error {
			return c.Call(ctx, http.MethodPost, "/x", map[string]any{"a": []any{1, map[string]string{"b": "\xfe"}}}, nil)
		}, `["a"][1]["b"]`},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			c, api := newTestClient(t)
			err := tc.call(t.Context(), c)
			param, ok := errors.AsType[*ParamError](err)
			require.True(t, ok, "%v", err)
			assert.Equal(t, tc.field, param.Field)
			assert.NotEmpty(t, param.Operation)
			assert.Empty(t, api.all(), "nothing is sent")
		})
	}
}

func TestTheReplacementCharacterItselfCanBeSent(t *testing.T) {
	t.Parallel()
	c, api := newTestClient(t)
	params := janesLogin()
	params.Payload.Password = NewSecret("p\uFFFDz \\ufffd") // what a password may well hold
	_, err := c.Sessions.Create(t.Context(), params)
	require.NoError(t, err)
	assert.Contains(t, api.last().Body, "p\uFFFDz \\\\ufffd")
}

func TestFindTextEndsInAValueThatHoldsItself(t *testing.T) {
	t.Parallel()
	loop := map[string]any{"a.b[c": []byte("\xff"), "n": 1}
	loop["self"] = loop
	assert.Empty(t, findText(reflect.ValueOf(loop), "", 0, isNotUTF8))
	assert.Empty(t, findText(reflect.ValueOf(nil), "", 0, isNotUTF8))
}

func TestCallRefusesAnOutThatCannotBeFilledBeforeItSends(t *testing.T) {
	t.Parallel()
	for name, out := range map[string]any{
		"a value": Session{}, "a map": map[string]any{}, "a nil pointer": (*Session)(nil), "a func": func() {},
	} {
		c, api := newTestClient(t)
		err := c.Call(t.Context(), http.MethodPost, "/x", nil, out)
		param, ok := errors.AsType[*ParamError](err)
		require.True(t, ok, "%s: %v", name, err)
		assert.Equal(t, "out", param.Field)
		assert.Empty(t, api.all(), name)
	}
}

func TestCallAcceptsOnlyJSON(t *testing.T) {
	t.Parallel()
	for _, body := range []string{"<html>sign in</html>", "OK", "{", "{} {}", "\x00"} {
		for name, out := range map[string]any{
			"json.RawMessage": new(json.RawMessage), "Raw": new(Raw), "any": new(any), "a struct": new(Session),
		} {
			c, api := newTestClient(t)
			api.RegisterNoResponder(httpmock.NewStringResponder(http.StatusOK, body))
			err := c.Call(t.Context(), http.MethodGet, "/x", nil, out)
			_, ok := errors.AsType[*DecodeError](err)
			assert.True(t, ok, "%s into %s: %v", body, name, err)

			err = c.Call(t.Context(), http.MethodPost, "/x", nil, out)
			call, ok := errors.AsType[*CallError](err)
			assert.True(t, ok && call.MaybeApplied(), "%s into %s: %v", body, name, err)
		}
	}
	c, api := newTestClient(t)
	api.RegisterNoResponder(httpmock.NewStringResponder(http.StatusOK, ` {"a":1}`))
	var raw json.RawMessage
	require.NoError(t, c.Call(t.Context(), http.MethodGet, "/x", nil, &raw))
	assert.JSONEq(t, `{"a":1}`, string(raw))
}
