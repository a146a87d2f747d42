package ricloudtest_test

import (
	"fmt"
	"net/http"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	ricloud "github.com/reincubate/ricloud-go"
	"github.com/reincubate/ricloud-go/ricloudtest"
)

// Ten thousand accounts log in and retrieve their data at the same time.
func TestTenThousandInFlight(t *testing.T) {
	t.Parallel()
	accounts := 10_000
	if raceDetector {
		accounts = 1000 // the race detector allows 8128 goroutines
	}
	synctest.Test(t, func(t *testing.T) {
		srv := newServer(t,
			ricloudtest.WithAccounts(ricloudtest.MockAccounts(accounts, "callkit.calls")...),
			ricloudtest.WithDelays(ricloudtest.Delays{
				Session: ricloudtest.Delay{Min: 3 * time.Second, Max: 40 * time.Second},
				Task:    ricloudtest.Delay{Min: 30 * time.Second, Max: 600 * time.Second},
			}))
		c, ctx := srv.Client(), t.Context()
		user := newUser(ctx, t, c)
		polls := make([]ricloud.ID, accounts)
		var work sync.WaitGroup
		for i := range polls {
			work.Go(func() {
				session, err := c.Sessions.Create(ctx, ricloud.SessionCreateParams{
					Source: ricloud.SourceParams{
						User: user.ID, Type: ricloud.SourceICloudAccount,
						Identifier: fmt.Sprintf("user-%d@example.com", i),
					},
					Payload: ricloud.SessionPayload{Password: ricloud.NewSecret("hunter2")},
				})
				if err != nil {
					t.Error(err)
					return
				}
				time.Sleep(time.Minute) //nolint:forbidigo // virtual time
				poll, err := c.Polls.Create(ctx, ricloud.PollCreateParams{
					Session: session.ID,
					Payload: ricloud.PollPayload{DataTypes: []string{"callkit.calls"}},
				})
				if assert.NoError(t, err) {
					polls[i] = poll.ID
				}
			})
		}
		work.Wait()
		pass(15 * time.Minute)
		for _, i := range []int{0, accounts / 2, accounts - 1} {
			poll, err := c.Polls.Get(ctx, polls[i])
			require.NoError(t, err)
			assert.Equal(t, ricloud.PollCompleted, poll.State)
			assert.Len(t, poll.Results.Data, 1)
		}
	})
}

// crowd returns a server with many unfinished polls of one session.
func crowd(b *testing.B, polls int) (*ricloudtest.Server, ricloud.ID) {
	b.Helper()
	srv := ricloudtest.NewServer(ricloudtest.WithDelays(ricloudtest.Delays{Task: ricloudtest.Fixed(24 *
		time.Hour)}))
	b.Cleanup(srv.Close)
	c, ctx := srv.Client(), b.Context()
	user, err := c.Users.Create(ctx, ricloud.UserCreateParams{Identifier: "u"})
	require.NoError(b, err)
	var last ricloud.ID
	for _, name := range []string{"many", "few"} {
		session, err := c.Sessions.Create(ctx, ricloud.SessionCreateParams{
			Source:  ricloud.SourceParams{User: user.ID, Type: ricloud.SourceMock, Identifier: name},
			Payload: ricloud.SessionPayload{Password: ricloud.NewSecret("x")},
		})
		require.NoError(b, err)
		_, err = c.Sessions.Wait(ctx, session.ID)
		require.NoError(b, err)
		for range polls {
			_, err := c.Polls.Create(ctx, ricloud.PollCreateParams{
				Session: session.ID,
				Payload: ricloud.PollPayload{DataTypes: []string{"callkit.calls"}},
			})
			require.NoError(b, err)
		}
		last, polls = session.ID, 10
	}
	return srv, last
}

// BenchmarkServer measures a request to a server that has 50,000 polls.
func BenchmarkServer(b *testing.B) {
	srv, session := crowd(b, 50_000)
	for name, path := range map[string]string{
		"key": "/key", "page of 10": "/polls", "page of 1000": "/polls?limit=1000",
		"by session": "/polls?session=" + string(session), "by state": "/polls?state=processing",
	} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				r, err := http.NewRequestWithContext(b.Context(), http.MethodGet,
					"https://api.ricloud.test"+path, http.NoBody)
				if err != nil {
					b.Fatal(err)
				}
				r.Header.Set("Authorization", "Token sandbox-token")
				res, err := srv.RoundTrip(r)
				if err != nil || res.StatusCode != http.StatusOK {
					b.Fatal(res, err)
				}
				_ = res.Body.Close() // cannot fail
			}
		})
	}
}
