package ricloudtest_test

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"testing"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	ricloud "github.com/reincubate/ricloud-go"
	"github.com/reincubate/ricloud-go/ricloudtest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// eachGeneration runs a test with several generations of the API.
func eachGeneration(t *testing.T, test func(*testing.T, ricloudtest.Option)) {
	t.Helper()
	for name, g := range map[string]ricloudtest.Generation{
		"current": ricloudtest.GenerationCurrent, "2018": ricloudtest.Generation2018,
		"mixed": ricloudtest.GenerationMixed,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			test(t, ricloudtest.WithGeneration(g))
		})
	}
}

// newServer returns a server that is closed at the end of the test.
func newServer(t *testing.T, opts ...ricloudtest.Option) *ricloudtest.Server {
	t.Helper()
	srv := ricloudtest.NewServer(opts...)
	t.Cleanup(srv.Close)
	return srv
}

// newUser creates the user of a test.
func newUser(ctx context.Context, t *testing.T, c *ricloud.Client) *ricloud.User {
	t.Helper()
	user, err := c.Users.Create(ctx, ricloud.UserCreateParams{Identifier: "customer-42"})
	require.NoError(t, err)
	return user
}

// login creates a session for one of the built-in accounts.
func login(
	ctx context.Context, t *testing.T, c *ricloud.Client, identifier, password string,
) *ricloud.Session {
	t.Helper()
	user := newUser(ctx, t, c)
	session, err := c.Sessions.Create(ctx, ricloud.SessionCreateParams{
		Source: ricloud.SourceParams{
			User: user.ID, Type: ricloud.SourceICloudAccount,
			Identifier: identifier,
		},
		Payload: ricloud.SessionPayload{Password: ricloud.NewSecret(password)},
	})
	require.NoError(t, err)
	session, err = c.Sessions.Wait(ctx, session.ID)
	require.NoError(t, err)
	return session
}

func john(ctx context.Context, t *testing.T, c *ricloud.Client) *ricloud.Session {
	t.Helper()
	return login(ctx, t, c, "john.appleseed@example.com", "hunter2")
}

// fetch reads a URL of the sandbox's storage.
func fetch(
	ctx context.Context, rt http.RoundTripper, url string, header http.Header,
) (*http.Response, error) {
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, url, http.NoBody)
	if err != nil {
		return nil, fmt.Errorf("make the request: %w", err)
	}
	if header != nil {
		r.Header = header
	}
	return rt.RoundTrip(r)
}

// readAll reads a small body.
func readAll(res *http.Response) ([]byte, error) {
	var body bytes.Buffer
	_, err := io.Copy(&body, io.LimitReader(res.Body, 1<<20))
	return body.Bytes(), err
}
