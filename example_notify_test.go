package ricloud_test

import (
	"context"
	"fmt"
	"time"

	ricloud "github.com/reincubate/ricloud-go"
	"github.com/reincubate/ricloud-go/ricloudtest"
)

// Events end waits at once and save nearly all requests.
func ExampleClient_Notify() {
	if err := waitByEvents(context.Background()); err != nil {
		fmt.Println(err)
	}
	// Output:
	// the poll is completed
	// requests for it: 0
}

func waitByEvents(ctx context.Context) error {
	var client *ricloud.Client
	handler, err := ricloud.NewWebhookHandler(func(_ context.Context, event *ricloud.Event) error {
		client.Notify(event)
		return nil
	})
	if err != nil {
		return err
	}
	sandbox := ricloudtest.NewServer(ricloudtest.WithReceiver("https://hooks.example.com", handler))
	defer sandbox.Close()
	// Polling alone would take a minute.
	client = sandbox.Client(ricloud.WithPolling(time.Minute, time.Hour))
	_, err = client.WebhookConfigs.Ensure(ctx, ricloud.WebhookConfigEnsureParams{
		URL: "https://hooks.example.com", BeforeTest: handler.SetSecrets, MakeKeyDefault: true,
	})
	if err != nil {
		return err
	}

	user, err := client.Users.Create(ctx, ricloud.UserCreateParams{Identifier: "customer-42"})
	if err != nil {
		return err
	}
	session, err := client.Sessions.Login(ctx, ricloud.SessionCreateParams{
		Source: ricloud.SourceParams{
			User: user.ID, Type: ricloud.SourceICloudAccount,
			Identifier: "john.appleseed@example.com",
		},
		Payload: ricloud.SessionPayload{Password: ricloud.NewSecret("hunter2")},
	}, nil)
	if err != nil {
		return err
	}
	poll, err := client.Polls.Create(ctx, ricloud.PollCreateParams{
		Session: session.ID, Payload: ricloud.PollPayload{DataTypes: []string{"callkit.calls"}},
	})
	if err != nil {
		return err
	}
	poll, err = client.Polls.Wait(ctx, poll.ID)
	if err != nil {
		return err
	}
	fmt.Println("the poll is", poll.State)
	fmt.Println("requests for it:", sandbox.CountCalls("Polls.Get")+sandbox.CountCalls("Polls.List"))
	return nil
}
