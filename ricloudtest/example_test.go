package ricloudtest_test

import (
	"context"
	"fmt"
	"os"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	ricloud "github.com/reincubate/ricloud-go"
	"github.com/reincubate/ricloud-go/ricloudtest"
)

// countCalls is the service under test.
func countCalls(
	ctx context.Context, client *ricloud.Client, username string, password ricloud.Secret,
) (int64, error) {
	user, err := client.Users.Create(ctx, ricloud.UserCreateParams{Identifier: username})
	if err != nil {
		return 0, err
	}
	session, err := client.Sessions.Create(ctx, ricloud.SessionCreateParams{
		Source: ricloud.SourceParams{
			User: user.ID, Type: ricloud.SourceICloudAccount,
			Identifier: username,
		},
		Payload: ricloud.SessionPayload{Password: password},
	})
	if err != nil {
		return 0, err
	}
	if _, err = client.Sessions.Wait(ctx, session.ID); err != nil {
		return 0, err
	}
	poll, err := client.Polls.Create(ctx, ricloud.PollCreateParams{
		Session: session.ID,
		Payload: ricloud.PollPayload{DataTypes: []string{"callkit.calls"}},
	})
	if err != nil {
		return 0, err
	}
	poll, err = client.Polls.Wait(ctx, poll.ID)
	return int64(len(poll.Results.Data)), err
}

// A service is tested with accounts that the test defines.
func Example() {
	srv := ricloudtest.NewServer(ricloudtest.WithAccounts(ricloudtest.Account{
		Identifier: "ada@example.com", Password: "lovelace",
		Data: map[string]ricloudtest.Content{
			"callkit.calls": ricloudtest.Records(map[string]any{"address": "+441632960001"}),
		},
	}))
	defer srv.Close()

	n, err := countCalls(context.Background(), srv.Client(), "ada@example.com",
		ricloud.NewSecret("lovelace"))
	fmt.Println(n, err)
	_, err = countCalls(context.Background(), srv.Client(), "ada@example.com",
		ricloud.NewSecret("babbage"))
	fmt.Println(err != nil, srv.CountCalls("Sessions.Create"))
	// Output:
	// 1 <nil>
	// true 2
}

// run runs a test within an example. With -v, package testing prints that it
// does, which must not count as the example's output.
func run(test func(*testing.T)) bool {
	stdout := os.Stdout
	defer func() { os.Stdout = stdout }()
	os.Stdout = os.Stderr
	return testing.RunTests(func(string, string) (bool, error) { return true, nil },
		[]testing.InternalTest{{Name: "Virtual", F: test}})
}

// In a synctest bubble, an hour of the API's work takes no time.
func ExampleServer_virtualTime() {
	var took time.Duration
	test := func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			srv := ricloudtest.NewServer(
				ricloudtest.WithDelays(ricloudtest.Delays{Task: ricloudtest.Fixed(time.Hour)}),
			)
			defer srv.Close()
			client := srv.Client(ricloud.WithPolling(time.Second, time.Minute))

			began := time.Now()
			_, err := countCalls(t.Context(), client, "john.appleseed@example.com",
				ricloud.NewSecret("hunter2"))
			require.NoError(t, err)
			took = time.Since(began)
			assert.InDelta(t, time.Hour, took, float64(2*time.Minute))
		})
	}
	fmt.Println(run(test), took > time.Hour) // go test runs yours
	// Output: true true
}
