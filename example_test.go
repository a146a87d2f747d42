package ricloud_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"time"

	ricloud "github.com/reincubate/ricloud-go"
	"github.com/reincubate/ricloud-go/ricloudtest"
)

// The examples use the sandbox. Your program calls ricloud.NewClient(token) instead.

// login returns a session with an account that has no two-factor
// authentication.
func login(ctx context.Context, client *ricloud.Client) (*ricloud.Session, error) {
	user, err := client.Users.Create(ctx, ricloud.UserCreateParams{Identifier: "customer-42"})
	if err != nil {
		return nil, err
	}
	return client.Sessions.Login(ctx, ricloud.SessionCreateParams{
		Source: ricloud.SourceParams{
			User: user.ID, Type: ricloud.SourceICloudAccount,
			Identifier: "john.appleseed@example.com",
		},
		Payload: ricloud.SessionPayload{Password: ricloud.NewSecret("hunter2")},
	}, nil)
}

// The whole journey: create a user, log in, poll, save the results and acknowledge them.
func Example() {
	sandbox := ricloudtest.NewServer()
	defer sandbox.Close()
	ctx, client := context.Background(), sandbox.Client()
	dir, err := os.MkdirTemp("", "example")
	if err != nil {
		fmt.Println(err)
		return
	}
	defer func() { _ = os.RemoveAll(dir) }()

	session, err := login(ctx, client)
	if err != nil {
		fmt.Println(err)
		return
	}
	poll, err := client.Polls.Create(ctx, ricloud.PollCreateParams{
		Session: session.ID,
		Payload: ricloud.PollPayload{DataTypes: []string{"callkit.calls"}},
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	for result, err := range client.Polls.Results(ctx, poll.ID) { // yields while the poll is running
		if err != nil {
			fmt.Println(err)
			return
		}
		saved, err := client.Results.Save(ctx, result, dir) // verifies size and MD5
		if err != nil {
			fmt.Println(err)
			return
		}
		if _, err := client.Results.Acknowledge(ctx, result.ID); err != nil {
			fmt.Println(err)
			return
		}
		fmt.Println(filepath.Base(saved.Path))
	}
	// Output: callkit.calls
}

func ExampleNewClient() {
	client, err := ricloud.NewClient("sandbox-token",
		ricloud.WithUserAgent("acme-safety/2.1"),
		ricloud.WithRateLimit(10_000, time.Hour), // the organisation's quota
	)
	if err != nil {
		fmt.Println(err)
		return
	}
	defer client.Close()
	fmt.Println(ricloud.NewSecret("sandbox-token")) // a Secret never prints its value
	// Output: [redacted]
}

func ExampleClient_Call() {
	sandbox := ricloudtest.NewServer()
	defer sandbox.Close()
	client := sandbox.Client()

	// Call reaches endpoints and fields that this package does not define.
	var organisation struct {
		Slug string `json:"slug"`
	}
	err := client.Call(context.Background(), "GET", "/organisation", nil, &organisation)
	fmt.Println(organisation.Slug, err)
	// Output: getting-started <nil>
}

func ExampleOrganisationService_Get() {
	sandbox := ricloudtest.NewServer()
	defer sandbox.Close()
	client := sandbox.Client()

	organisation, err := client.Organisation.Get(context.Background())
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(organisation.State)
	// Output: active
}

func ExampleKeysService_Rotate() {
	sandbox := ricloudtest.NewServer()
	defer sandbox.Close()
	ctx, client := context.Background(), sandbox.Client()

	key, err := client.Keys.Current(ctx)
	if err != nil {
		fmt.Println(err)
		return
	}
	rotated, err := client.Keys.Rotate(ctx, key.ID, ricloud.KeyRotateParams{})
	if err != nil {
		fmt.Println(err)
		return
	}
	store := rotated.Token.Reveal() // Reveal returns the token; printing a Secret shows [redacted]
	_, err = client.Organisation.Get(ctx)
	fmt.Println(rotated.Token, store != "", errors.Is(err, ricloud.ErrUnauthorized))
	// Output: [redacted] true true
}

func ExamplePermissionsService_Create() {
	sandbox := ricloudtest.NewServer()
	defer sandbox.Close()
	client := sandbox.Client()

	permissions, err := client.Permissions.Create(context.Background(),
		ricloud.PermissionsCreateParams{
			Scopes: map[string][]ricloud.ScopeLimit{
				// at most three accounts for each user
				"source_type:icloud.account": {{Level: "user", Type: "count", Value: 3}},
				"data_type:*":                nil, // nil: no limit
			},
		})
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(permissions.Scopes["source_type:icloud.account"])
	// Output: [{user count 3}]
}

func ExampleUsersService_Create() {
	sandbox := ricloudtest.NewServer()
	defer sandbox.Close()
	ctx, client := context.Background(), sandbox.Client()

	user, err := client.Users.Create(ctx, ricloud.UserCreateParams{Identifier: "customer-42"})
	if err != nil {
		fmt.Println(err)
		return
	}
	again, err := client.Users.Create(ctx, ricloud.UserCreateParams{Identifier: "customer-42"})
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(user.State, user.ID == again.ID)
	// Output: active true
}

func ExampleUsersService_All() {
	sandbox := ricloudtest.NewServer()
	defer sandbox.Close()
	ctx, client := context.Background(), sandbox.Client()

	for i := range 3 {
		params := ricloud.UserCreateParams{Identifier: fmt.Sprintf("customer-%d", i)}
		if _, err := client.Users.Create(ctx, params); err != nil {
			fmt.Println(err)
			return
		}
	}
	// All reads as many pages as there are.
	for user, err := range client.Users.All(ctx, ricloud.UserListParams{}) {
		if err != nil {
			fmt.Println(err)
			return
		}
		fmt.Println(user.Identifier)
	}
	// Output:
	// customer-2
	// customer-1
	// customer-0
}

func ExampleSourcesService_List() {
	sandbox := ricloudtest.NewServer()
	defer sandbox.Close()
	ctx, client := context.Background(), sandbox.Client()

	session, err := login(ctx, client)
	if err != nil {
		fmt.Println(err)
		return
	}
	sources, err := client.Sources.List(ctx, ricloud.SourceListParams{User: session.User})
	if err != nil {
		fmt.Println(err)
		return
	}
	for _, source := range sources.Data {
		fmt.Println(source.Type, source.Identifier, source.State)
	}
	// Output: icloud.account john.appleseed@example.com active
}

func ExampleSessionsService_Login() {
	sandbox := ricloudtest.NewServer()
	defer sandbox.Close()
	ctx, client := context.Background(), sandbox.Client()

	user, err := client.Users.Create(ctx, ricloud.UserCreateParams{Identifier: "customer-42"})
	if err != nil {
		fmt.Println(err)
		return
	}
	session, err := client.Sessions.Login(ctx, ricloud.SessionCreateParams{
		Source: ricloud.SourceParams{
			User: user.ID, Type: ricloud.SourceICloudAccount,
			Identifier: "jane.appleseed@example.com",
		},
		Payload: ricloud.SessionPayload{Password: ricloud.NewSecret("hunter2")},
	}, func(_ context.Context, c ricloud.CodeChallenge) (ricloud.Secret, error) {
		fmt.Println("code, please; attempt", c.Attempt)
		return ricloud.NewSecret("123456"), nil
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(session.State)
	// Output:
	// code, please; attempt 1
	// active
}

func ExampleSessionsService_Wait() {
	sandbox := ricloudtest.NewServer()
	defer sandbox.Close()
	ctx, client := context.Background(), sandbox.Client()

	user, err := client.Users.Create(ctx, ricloud.UserCreateParams{Identifier: "customer-42"})
	if err != nil {
		fmt.Println(err)
		return
	}
	params := ricloud.SessionCreateParams{
		Source: ricloud.SourceParams{
			User: user.ID, Type: ricloud.SourceICloudAccount,
			Identifier: "jane.appleseed@example.com",
		},
		Payload: ricloud.SessionPayload{Password: ricloud.NewSecret("hunter2")},
	}
	session, err := client.Sessions.Create(ctx, params)
	if err != nil {
		fmt.Println(err)
		return
	}
	session, err = client.Sessions.Wait(ctx, session.ID)
	fmt.Println(session.State, errors.Is(err, ricloud.ErrCodeRequired))

	// Later, in another request, create a new session with the password and the code.
	params.Payload.Code = ricloud.NewSecret("123456")
	if session, err = client.Sessions.Create(ctx, params); err != nil {
		fmt.Println(err)
		return
	}
	session, err = client.Sessions.Wait(ctx, session.ID)
	fmt.Println(session.State, err)
	// Output:
	// failed true
	// active <nil>
}

func ExamplePollsService_Results() {
	sandbox := ricloudtest.NewServer()
	defer sandbox.Close()
	ctx, client := context.Background(), sandbox.Client()

	session, err := login(ctx, client)
	if err != nil {
		fmt.Println(err)
		return
	}
	poll, err := client.Polls.Create(ctx, ricloud.PollCreateParams{
		Session: session.ID,
		Payload: ricloud.PollPayload{DataTypes: []string{"callkit.calls"}},
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	for result, err := range client.Polls.Results(ctx, poll.ID) { // yields as results are published
		if err != nil {
			fmt.Println(err)
			return
		}
		fmt.Println(result.Identifier, result.State)
	}
	// Output: callkit.calls available
}

func ExampleTasksService_Wait() {
	sandbox := ricloudtest.NewServer()
	defer sandbox.Close()
	ctx, client := context.Background(), sandbox.Client()

	session, err := login(ctx, client)
	if err != nil {
		fmt.Println(err)
		return
	}
	poll, err := client.Polls.Create(ctx, ricloud.PollCreateParams{
		Session: session.ID,
		Payload: ricloud.PollPayload{DataTypes: []string{"callkit.calls"}},
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	if poll, err = client.Polls.Wait(ctx, poll.ID); err != nil {
		fmt.Println(err)
		return
	}
	task, err := client.Tasks.Wait(ctx, poll.TasksSucceeded[0])
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(task.Type, task.Target, task.State)
	// Output: data callkit.calls succeeded
}

func ExampleResultsService_Acknowledge() {
	sandbox := ricloudtest.NewServer()
	defer sandbox.Close()
	ctx, client := context.Background(), sandbox.Client()

	session, err := login(ctx, client)
	if err != nil {
		fmt.Println(err)
		return
	}
	poll, err := client.Polls.Create(ctx, ricloud.PollCreateParams{
		Session: session.ID,
		Payload: ricloud.PollPayload{DataTypes: []string{"callkit.calls"}},
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	for result, err := range client.Polls.Results(ctx, poll.ID) {
		if err != nil {
			fmt.Println(err)
			return
		}
		// Acknowledge a result only after it is saved and verified.
		if result, err = client.Results.Acknowledge(ctx, result.ID); err != nil {
			fmt.Println(err)
			return
		}
		fmt.Println(result.State)
	}
	// Output: consumed
}

func ExampleSubscriptionsService_Create() {
	sandbox := ricloudtest.NewServer()
	defer sandbox.Close()
	ctx, client := context.Background(), sandbox.Client()

	session, err := login(ctx, client)
	if err != nil {
		fmt.Println(err)
		return
	}
	subscription, err := client.Subscriptions.Create(ctx, ricloud.SubscriptionCreateParams{
		Session:     session.ID,
		PollPayload: ricloud.PollPayload{DataTypes: []string{"callkit.calls"}},
		Interval:    24 * time.Hour,
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	if subscription, err = client.Subscriptions.Wait(ctx, subscription.ID); err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(subscription.State, subscription.Interval)
	// Output: active 24h0m0s
}

func ExampleStorageConfigsService_Test() {
	sandbox := ricloudtest.NewServer(ricloudtest.WithUnconfigured())
	defer sandbox.Close()
	ctx, client := context.Background(), sandbox.Client()

	config, err := client.StorageConfigs.Create(ctx, ricloud.StorageConfigCreateParams{
		URL: "s3://my-bucket/results",
		Credentials: ricloud.Credentials{
			"access_key_id":     ricloud.NewSecret("AKIAEXAMPLE"),
			"secret_access_key": ricloud.NewSecret("…"),
		},
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	task, err := client.StorageConfigs.Test(ctx, config.ID, ricloud.WithAwait(10*time.Second))
	if err != nil {
		fmt.Println(err)
		return
	}
	if _, err = client.Tasks.Wait(ctx, task.ID); err != nil {
		fmt.Println(err)
		return
	}
	config, err = client.StorageConfigs.Get(ctx, config.ID)
	fmt.Println(config.State, err)
	// Output: valid <nil>
}

func ExampleWebhookConfigsService_Test() {
	// A program uses the handler that NewWebhookHandler returns.
	receiver := http.HandlerFunc(func(http.ResponseWriter, *http.Request) {})
	sandbox := ricloudtest.NewServer(ricloudtest.WithReceiver("https://example.com/ricloud", receiver))
	defer sandbox.Close()
	ctx, client := context.Background(), sandbox.Client()

	config, err := client.WebhookConfigs.Create(ctx,
		ricloud.WebhookConfigCreateParams{URL: "https://example.com/ricloud"})
	if err != nil {
		fmt.Println(err)
		return
	}
	task, err := client.WebhookConfigs.Test(ctx, config.ID, ricloud.WithAwait(10*time.Second))
	if err != nil {
		fmt.Println(err)
		return
	}
	if _, err = client.Tasks.Wait(ctx, task.ID); err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println("deliveries are signed with", config.Secret)
	// Output: deliveries are signed with [redacted]
}

func ExampleEventsService_All() {
	receiver := http.HandlerFunc(func(http.ResponseWriter, *http.Request) {})
	sandbox := ricloudtest.NewServer(ricloudtest.WithReceiver("https://example.com/ricloud", receiver))
	defer sandbox.Close()
	ctx, client := context.Background(), sandbox.Client()

	config, err := client.WebhookConfigs.Create(ctx,
		ricloud.WebhookConfigCreateParams{URL: "https://example.com/ricloud"})
	if err != nil {
		fmt.Println(err)
		return
	}
	if _, err = client.WebhookConfigs.Test(ctx, config.ID, ricloud.WithAwait(10*time.Second)); err !=
		nil {
		fmt.Println(err)
		return
	}
	session, err := login(ctx, client)
	if err != nil {
		fmt.Println(err)
		return
	}
	if _, err = client.Sessions.Delete(ctx, session.ID); err != nil {
		fmt.Println(err)
		return
	}
	for event, err := range client.Events.All(ctx, ricloud.EventListParams{Type: "session"}) {
		if err != nil {
			fmt.Println(err)
			return
		}
		if session, err := event.Session(); err == nil {
			fmt.Println(event.Name(), session.Error)
		}
	}
	// Output: session.expired organisation
}
