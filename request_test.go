package ricloud

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"net"
	"net/http"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/jarcoal/httpmock"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/reincubate/ricloud-go/internal/transport"
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
		{
			name: "a password in Latin-1",
			call: login(func(p *SessionCreateParams) {
				p.Payload.Password = NewSecret("p\xe9z")
			}),
			field: "Payload.Password",
		},
		{
			name:  "a cut code",
			call:  login(func(p *SessionCreateParams) { p.Payload.Code = NewSecret("12\xf0\x9f") }),
			field: "Payload.Code",
		},
		{
			name: "an identifier",
			call: login(func(p *SessionCreateParams) {
				p.Source.Identifier = "jos\xe9@example.com"
			}),
			field: "Source.Identifier",
		},
		{
			name: "a masked password",
			call: login(func(p *SessionCreateParams) {
				p.Payload.Password = NewSecret("[redacted]")
			}),
			field: "Payload.Password",
		},
		{
			name:  "a masked code",
			call:  login(func(p *SessionCreateParams) { p.Payload.Code = NewSecret("[redacted]") }),
			field: "Payload.Code",
		},
		{
			name: "credentials",
			call: func(ctx context.Context, c *Client) error {
				return result(c.StorageConfigs.Create(ctx, StorageConfigCreateParams{
					URL: "s3://b/p", Credentials: Credentials{
						"access_key_id":     NewSecret("AKIA1"),
						"secret_access_key": NewSecret("\xff"),
					},
				}))
			},
			field: `Credentials["secret_access_key"]`,
		},
		{
			name: "the name of a credential",
			call: func(ctx context.Context, c *Client) error {
				return result(c.StorageConfigs.Create(ctx, StorageConfigCreateParams{
					URL: "s3://b/p", Credentials: Credentials{"access_key_id\xff": NewSecret("AKIA1")},
				}))
			},
			field: `Credentials["access_key_id\xff"]`,
		},
		{
			name: "a user",
			call: func(ctx context.Context, c *Client) error {
				return result(c.Users.Create(ctx, UserCreateParams{Identifier: "\xc3"}))
			},
			field: "Identifier",
		},
		{
			name: "a data type in a list",
			call: func(ctx context.Context, c *Client) error {
				return result(c.Polls.Create(ctx,
					PollCreateParams{Session: "s", Payload: PollPayload{DataTypes: []string{"a", "\x80"}}}))
			},
			field: "Payload.DataTypes[1]",
		},
		{
			name: "a body of Call's",
			call: func(ctx context.Context, c *Client) error {
				return c.Call(ctx, http.MethodPost, "/x",
					map[string]any{"a": []any{1, map[string]string{"b": "\xfe"}}}, nil)
			},
			field: `["a"][1]["b"]`,
		},
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
	params.Payload.Password = NewSecret("p\uFFFDz \\ufffd") // a password may contain any of these
	_, err := c.Sessions.Create(t.Context(), params)
	require.NoError(t, err)
	assert.Contains(t, api.last().Body, "p\uFFFDz \\\\ufffd")
}

func TestCallRefusesAnOutThatCannotBeFilledBeforeItSends(t *testing.T) {
	t.Parallel()
	for name, out := range map[string]any{
		"a value": Session{}, "a map": map[string]any{}, "a nil pointer": (*Session)(nil),
		"a func": func() {},
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
			"json.RawMessage": new(json.RawMessage), "Raw": new(Raw), "any": new(any),
			"a struct": new(Session),
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

// The outcome is unknown if a successful answer lacks the ID that makes it a success, or says that
// it is something else.
func TestASuccessWithoutAnIDIsNoSuccess(t *testing.T) {
	t.Parallel()
	bodies := map[string]string{
		"empty object": `{}`, "null": `null`, "list": `[]`, "nothing": ``, "blank": " \n", "OK": `OK`,
		"string": `"OK"`,
		"HTML":   `<!DOCTYPE html><title>Sign in</title>`, "id null": `{"id":null}`,
		"id empty":          `{"id":""}`,
		"id blank":          `{"id":" "}`,
		"id of a path":      `{"id":".."}`,
		"id in an envelope": `{"data":{"id":"s"}}`, "a proxy's own": `{"status":"ok"}`,
		"an error":      `{"error":"x","message":"y"}`,
		"a list object": `{"data":[],"has_more":false}`, "true": `true`, "number": `7`,
		"another kind": `{"id":"1","resource":"event","token":"t"}`,
	}
	for _, op := range []struct {
		name  string
		reads bool
		call  func(context.Context, *Client) error
	}{
		{
			name:  "Sessions.Create",
			reads: false,
			call: func(ctx context.Context, c *Client) error {
				return result(c.Sessions.Create(ctx, janesLogin()))
			},
		},
		{
			name:  "Polls.Create",
			reads: false,
			call: func(ctx context.Context, c *Client) error {
				return result(c.Polls.Create(ctx,
					PollCreateParams{Session: "s", Payload: PollPayload{DataTypes: []string{"x"}}}))
			},
		},
		{
			name:  "Users.Create",
			reads: false,
			call: func(ctx context.Context, c *Client) error {
				return result(c.Users.Create(ctx, UserCreateParams{Identifier: "x"}))
			},
		},
		{
			name:  "Keys.Rotate",
			reads: false,
			call: func(ctx context.Context, c *Client) error {
				return result(c.Keys.Rotate(ctx, "1", KeyRotateParams{}))
			},
		},
		{
			name:  "StorageConfigs.Test",
			reads: false,
			call: func(ctx context.Context, c *Client) error {
				return result(c.StorageConfigs.Test(ctx, "1"))
			},
		},
		{
			name:  "Sessions.Get",
			reads: true,
			call: func(ctx context.Context, c *Client) error {
				return result(c.Sessions.Get(ctx, "s"))
			},
		},
	} {
		for name, body := range bodies {
			for _, status := range []int{http.StatusOK, http.StatusCreated, http.StatusAccepted} {
				c, api := newTestClient(t)
				api.RegisterNoResponder(httpmock.NewStringResponder(status, body))
				err := op.call(t.Context(), c)
				require.Error(t, err, "%s: %d %s", op.name, status, name)
				_, ok := errors.AsType[*DecodeError](err)
				assert.True(t, ok, "%s: %d %s: %v", op.name, status, name, err)
				call, ok := errors.AsType[*CallError](err)
				assert.Equal(t, !op.reads, ok && call.MaybeApplied(), "%s: %d %s: %v", op.name, status, name,
					err)
				assert.Len(t, api.all(), 1, "it is not sent again")
			}
		}
	}
	c, api := newTestClient(t)
	api.RegisterNoResponder(httpmock.NewStringResponder(http.StatusOK, `{"date_created":null}`))
	_, err := c.Users.Update(t.Context(), "1", UserUpdateParams{Identifier: "x"})
	require.NoError(t, err, "an update may answer with what it changed")
}

// The API shows the token of a key only once, so an answer without it is an error.
func TestAKeyWithoutItsTokenIsNoSuccess(t *testing.T) {
	t.Parallel()
	for _, body := range []string{
		`{"id":"k"}`, `{"id":"k","token":null}`, `{"id":"k","token":""}`, `{"id":"k","secret":"canary"}`,
		`{"id":"k","value":"canary"}`,
	} {
		c, api := newTestClient(t)
		api.RegisterNoResponder(httpmock.NewStringResponder(http.StatusCreated, body))
		for operation, err := range map[string]error{
			"Keys.Create": result(c.Keys.Create(t.Context(), KeyCreateParams{})),
			"Keys.Rotate": result(c.Keys.Rotate(t.Context(), "k", KeyRotateParams{})),
		} {
			call, ok := errors.AsType[*CallError](err)
			require.True(t, ok, "%s: %v", operation, err)
			assert.True(t, call.MaybeApplied())
			require.ErrorContains(t, err, operation+": ")
			require.ErrorContains(t, err, "token")
			assert.NotContains(t, err.Error(), "canary")
		}
		_, err := c.Keys.Get(t.Context(), "k")
		require.NoError(t, err, "a read may leave it out")
	}
}

func TestACallThatIsNotSentSaysSo(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		c, api := newTestClient(t, WithRateLimit(1, time.Minute), WithRetries(0))
		api.RegisterNoResponder(jsonResponder(429, `{"error":"slow-down"}`))
		_, err := c.Users.Get(t.Context(), "1")
		require.ErrorIs(t, err, ErrRateLimited)
		ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
		defer cancel()
		_, err = c.Sessions.Create(ctx, janesLogin(), WithAwait(10*time.Second))
		call, ok := errors.AsType[*CallError](err)
		require.True(t, ok)
		assert.False(t, call.MaybeApplied())
		assert.Empty(t, call.Attempts)
		require.ErrorIs(t, err, context.DeadlineExceeded)
		require.ErrorIs(t, err, ErrRateLimited)
		apiErr, ok := errors.AsType[*Error](err)
		require.True(t, ok)
		assert.Equal(t, "Users.Get", apiErr.Operation)
		assert.Equal(t, ErrorCode("slow-down"), apiErr.Code)
		require.EqualError(t, err,
			"ricloud: Sessions.Create: not sent: its turn comes in 1m0s, and must come within 19s "+
				"for an answer in time: too late to be answered: context deadline exceeded; the last "+
				"answer was: "+
				"ricloud: Users.Get: 429 Too Many Requests: slow-down")

		_, err = c.Sessions.Create(ctx, janesLogin(), WithAwait(10*time.Second), WithQuery("x", "y"))
		require.ErrorContains(t, err, "not sent")
		short, cancel := context.WithTimeout(t.Context(), 5*time.Second)
		defer cancel()
		_, err = c.Sessions.Create(short, janesLogin(), WithAwait(10*time.Second))
		require.ErrorContains(t, err,
			"not sent: the API may hold its answer back for 10s (Ricloud-Await), "+
				"and the call must end in 5s")
		assert.Len(t, api.all(), 1)
	})
}

// Where no attempt was sent, the error says so, and a create is sent again as any other call.
func TestAnErrorSaysThatNothingWasSent(t *testing.T) {
	t.Parallel()
	dial := func(err error) error { return &net.OpError{Op: "dial", Net: "tcp", Err: err} }
	for name, tc := range map[string]struct {
		err  error
		want string
	}{
		"a dial": {
			err:  dial(syscall.ECONNREFUSED),
			want: "not sent: dial tcp: connection refused (attempt 2, after ",
		},
		"DNS that fails": {
			err:  dial(&net.DNSError{Err: "server misbehaving", Name: "api.test", IsTemporary: true}),
			want: "not sent: dial tcp: lookup api.test: server misbehaving (attempt 2, after ",
		},
		"an unknown name": {
			err:  dial(&net.DNSError{Err: "no such host", Name: "api.test", IsNotFound: true}),
			want: "not sent: dial tcp: lookup api.test: no such host (attempt 1, after ",
		},
		"a certificate": {
			err:  &tls.CertificateVerificationError{Err: x509.UnknownAuthorityError{}},
			want: "not sent: tls: failed to verify certificate: ",
		},
		"a certificate that the transport has verified": {
			err:  x509.CertificateInvalidError{Cert: &x509.Certificate{}, Reason: x509.Expired},
			want: "not sent: x509: certificate has expired or is not yet valid:  (attempt 1, after ",
		},
		"a proxy": {
			err:  &transport.ProxyError{StatusCode: 407},
			want: "not sent: the proxy refused to connect: 407 Proxy Authentication Required",
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				c, api := newTestClient(t, WithRetries(1))
				api.RegisterNoResponder(httpmock.NewErrorResponder(tc.err))
				_, created := c.Sessions.Create(t.Context(), janesLogin())
				_, read := c.Polls.Get(t.Context(), "1")
				for _, err := range []error{created, read} {
					require.ErrorContains(t, err, tc.want)
					call, ok := errors.AsType[*CallError](err)
					require.True(t, ok)
					assert.False(t, call.MaybeApplied())
				}
			})
		})
	}
}

// What Client.Call and WithQuery are given under the name of a secret is masked as a Secret is.
// A create that was sent, and whose replay was not, is not called unsent.
func TestAReplayThatIsTooLateDoesNotUnsendTheFirst(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		c := clientOf(t, func(*http.Request) (*http.Response, error) { return nil, errors.New("reset") },
			WithRateLimit(1, time.Hour))
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		_, err := c.Polls.Create(ctx, PollCreateParams{
			Session: "1", Payload: PollPayload{DataTypes: []string{"a.b"}},
		}, WithReplay())
		call, ok := errors.AsType[*CallError](err)
		require.True(t, ok, err)
		assert.True(t, call.MaybeApplied())
		require.ErrorContains(t, err, "its turn comes in")
		require.ErrorContains(t, err, "it may have been created")
		require.NotContains(t, err.Error(), "not sent")
	})
}

func TestWhatIsNamedAsASecretIsMasked(t *testing.T) {
	t.Parallel()
	const canary = "canary+value"
	for name, call := range map[string]func(context.Context, *Client) error{
		"a body": func(ctx context.Context, c *Client) error {
			body := map[string]any{"login": map[string]string{"password": canary}}
			return c.Call(ctx, "POST", "/logins", body, nil)
		},
		"raw JSON": func(ctx context.Context, c *Client) error {
			return c.Call(ctx, "PUT", "/x", json.RawMessage(`{"api_key":"canary\u002bvalue"}`), nil)
		},
		"a path": func(ctx context.Context, c *Client) error {
			return c.Call(ctx, "GET", "/x?token=canary%2Bvalue", nil, nil)
		},
		"an option": func(ctx context.Context, c *Client) error {
			return result(c.Users.Get(ctx, "1", WithQuery("access_token", canary)))
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c, api := newTestClient(t, WithRetries(0))
			api.RegisterNoResponder(jsonResponder(400, `{"error":"invalid-parameter",`+
				`"message":"canary+value is wrong","params":{"password":"canary\u002bvalue"}}`))
			err := call(t.Context(), c)
			require.ErrorIs(t, err, ErrInvalidParameter)
			apiErr, ok := errors.AsType[*Error](err)
			require.True(t, ok)
			for _, shown := range []string{err.Error(), apiErr.Message, string(apiErr.Body)} {
				assert.Contains(t, shown, redacted)
				assert.NotContains(t, shown, "canary")
			}
		})
	}
}
