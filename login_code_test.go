package ricloud

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"testing"
	"testing/synctest"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// account is an API with one iCloud account that requires the code 123456.
func account(t *testing.T, api *recorder) {
	t.Helper()
	n := 0
	api.RegisterResponder(http.MethodPost, "=~/sessions", func(*http.Request) (*http.Response, error) {
		n++
		return jsonResponder(201, fmt.Sprintf(`{"id":"s%d","state":"pending","source":{"id":1}}`, n))(nil)
	})
	api.RegisterResponder(http.MethodGet, "=~/sessions/s",
		func(req *http.Request) (*http.Response, error) {
			id := req.URL.Path[len("/sessions/"):]
			body := fmt.Sprintf(`{"id":%q,"state":"failed","error":"code-required","source":{"id":1}}`, id)
			posts := 0
			for _, call := range api.all() {
				if call.Method == http.MethodPost {
					if posts++; fmt.Sprintf("s%d", posts) == id && call.Body == loginBody("123456") {
						body = fmt.Sprintf(`{"id":%q,"state":"active","source":{"id":1}}`, id)
					}
				}
			}
			return jsonResponder(200, body)(nil)
		})
}

func loginBody(code string) string {
	return fmt.Sprintf(`{"source":{"user":"1","type":"icloud.account",`+
		`"identifier":"jane@example.com"},"payload":{"password":"hunter2","code":%q}}`, code)
}

func janesLogin() SessionCreateParams {
	return SessionCreateParams{
		Source:  SourceParams{User: "1", Type: SourceICloudAccount, Identifier: "jane@example.com"},
		Payload: SessionPayload{Password: NewSecret("hunter2")},
	}
}

func TestLoginAsksForTheCodeUntilItIsRight(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		c, api := newTestClient(t)
		account(t, api)
		var asked []CodeChallenge
		session, err := c.Sessions.Login(t.Context(), janesLogin(),
			func(_ context.Context, ch CodeChallenge) (Secret, error) {
				asked = append(asked, ch)
				return []Secret{NewSecret("000000"), NewSecret("123456")}[ch.Attempt-1], nil
			})
		require.NoError(t, err)
		assert.Equal(t, ID("s3"), session.ID)
		assert.Equal(t, SessionActive, session.State)
		require.Len(t, asked, 2)
		assert.Equal(t, []int{1, 2}, []int{asked[0].Attempt, asked[1].Attempt})
		assert.Equal(t, []ID{"s1", "s2"}, []ID{asked[0].Session.ID, asked[1].Session.ID})
		assert.Equal(t, "10", api.all()[0].Header.Get("Ricloud-Await"))
		assert.Empty(t, api.all()[1].Header.Get("Ricloud-Await"))
	})
}

func TestLoginIsBounded(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		c, api := newTestClient(t)
		account(t, api)
		asked := 0
		session, err := c.Sessions.Login(t.Context(), janesLogin(),
			func(context.Context, CodeChallenge) (Secret, error) {
				asked++
				return NewSecret("000000"), nil
			})
		require.ErrorIs(t, err, ErrCodeRequired)
		assert.Equal(t, MaxCodeAttempts, asked)
		assert.Equal(t, ID("s4"), session.ID)
	})
}

func TestLoginEndsWithItsCallback(t *testing.T) {
	t.Parallel()
	gone := errors.New("the user is gone")
	tests := map[string]struct {
		code func(context.Context, CodeChallenge) (Secret, error)
		is   error
		text string
	}{
		"no callback": {
			code: nil,
			is:   ErrCodeRequired,
			text: "ricloud: session s1 is failed: code-required",
		},
		"error": {code: func(context.Context, CodeChallenge) (Secret, error) {
			return NewSecret(""), gone
		}, is: gone, text: "ricloud: Sessions.Login: asking for code 1: the user is gone"},
		"empty code": {
			code: func(context.Context, CodeChallenge) (Secret, error) { return NewSecret(""), nil },
			is:   nil,
			text: "ricloud: Sessions.Login: asking for code 1: ricloud: code is empty",
		},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				c, api := newTestClient(t)
				account(t, api)
				session, err := c.Sessions.Login(t.Context(), janesLogin(), tc.code)
				require.EqualError(t, err, tc.text)
				if tc.is != nil {
					require.ErrorIs(t, err, tc.is)
				}
				require.NotNil(t, session, "the session so far")
				assert.Equal(t, ID("s1"), session.ID)
				posts := 0
				for _, call := range api.all() {
					if call.Method == http.MethodPost {
						posts++
					}
				}
				assert.Equal(t, 1, posts, "the owner is prompted once")
			})
		})
	}
}

// A login that failed for another reason than a code asks for none, and is not repeated.
func TestLoginAsksForNoCodeThatIsNotRequired(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		c, api := newTestClient(t)
		api.RegisterResponder(http.MethodPost, "=~/sessions", jsonResponder(201,
			`{"id":"s1","state":"failed","error":"wrong-password","source":{"id":1}}`))
		session, err := c.Sessions.Login(t.Context(), janesLogin(),
			func(context.Context, CodeChallenge) (Secret, error) {
				t.Error("the callback was called")
				return NewSecret("123456"), nil
			})
		require.EqualError(t, err, "ricloud: session s1 is failed: wrong-password")
		assert.Equal(t, ID("s1"), session.ID)
		assert.Len(t, api.all(), 1)
	})
}

func TestLoginKeepsTheSessionWhenTheNextCreateFails(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		c, api := newTestClient(t)
		account(t, api)
		session, err := c.Sessions.Login(t.Context(), janesLogin(),
			func(context.Context, CodeChallenge) (Secret, error) {
				api.RegisterResponder(http.MethodPost, "=~/sessions",
					jsonResponder(403, `{"error":"limit-exceeded"}`))
				return NewSecret("123456"), nil
			})
		require.ErrorIs(t, err, ErrLimitExceeded)
		require.NotNil(t, session)
		assert.Equal(t, ID("s1"), session.ID)
	})
}

func TestLoginEndsWhenCancelledInTheCallback(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		c, api := newTestClient(t)
		account(t, api)
		ctx, cancel := context.WithCancel(t.Context())
		session, err := c.Sessions.Login(ctx, janesLogin(),
			func(ctx context.Context, _ CodeChallenge) (Secret, error) {
				cancel()
				return NewSecret(""), ctx.Err()
			})
		require.ErrorIs(t, err, context.Canceled)
		assert.Equal(t, ID("s1"), session.ID)
	})
}
