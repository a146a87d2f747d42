package ricloud_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"sync/atomic"
	"time"

	ricloud "github.com/reincubate/ricloud-go"
	"github.com/reincubate/ricloud-go/ricloudtest"
)

// Mount a receiver, register it with the API, and receive events.
func ExampleNewWebhookHandler() {
	completed := make(chan ricloud.ID, 1)
	handler, err := ricloud.NewWebhookHandler(func(_ context.Context, event *ricloud.Event) error {
		resource, err := event.Resource()
		if err != nil {
			return err
		}
		switch r := resource.(type) {
		case *ricloud.Poll:
			if event.Name() == ricloud.EventPollCompleted {
				completed <- r.ID
			}
		case *ricloud.Session: // r.State, r.Error
		}
		return nil // if it returns an error, the API delivers the event again
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	mux := http.NewServeMux()
	mux.Handle("/ricloud/", handler) // a program calls server.ListenAndServe before Ensure
	sandbox := ricloudtest.NewServer(ricloudtest.WithReceiver("https://example.com/", mux))
	defer sandbox.Close()
	ctx, client := context.Background(), sandbox.Client()

	config, err := client.WebhookConfigs.Ensure(ctx, ricloud.WebhookConfigEnsureParams{
		URL:            "https://example.com/ricloud",
		BeforeTest:     handler.SetSecrets, // if the secret is known, use WithWebhookSecrets instead
		MakeKeyDefault: true,
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println("the webhook is", config.State)

	session, err := login(ctx, client)
	if err != nil {
		fmt.Println(err)
		return
	}
	poll, err := client.Polls.Create(ctx, ricloud.PollCreateParams{
		Session: session.ID, Payload: ricloud.PollPayload{DataTypes: []string{"callkit.calls"}},
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println("the poll is completed:", <-completed == poll.ID)
	// Output:
	// the webhook is valid
	// the poll is completed: true
}

// With a framework other than net/http, verify the raw body before parsing it.
func ExampleVerifyWebhook() {
	secret := ricloud.NewSecret("whsec_example") // WebhookConfig.Secret
	body := []byte(`{"id":"4f0c","type":"session","action":"expired","data":{"id":"9d21",` +
		`"error":"service"}}`)
	// The request's SignatureHeader.
	header := ricloudtest.SignWebhook(secret.Reveal(), time.Now(), body)

	if err := ricloud.VerifyWebhook(header, body, secret); err != nil {
		fmt.Println(err) // answer 401
		return
	}
	event, err := ricloud.ParseEvent(body)
	if err != nil {
		fmt.Println(err) // answer 400
		return
	}
	if session, err := event.Session(); err == nil {
		fmt.Printf("%s: session %s: %s\n", event.Name(), session.ID, session.Error)
	}

	err = ricloud.VerifyWebhook(header, append(body, ' '), secret)
	fmt.Println(errors.Is(err, ricloud.ErrSignatureMismatch))
	// Output:
	// session.expired: session 9d21: service
	// true
}

// Replace a secret without a restart. Both secrets are valid for a while.
func ExampleWebhookHandler_SetSecrets() {
	handler, err := ricloud.NewWebhookHandler(
		func(context.Context, *ricloud.Event) error { return nil },
		ricloud.WithWebhookSecrets(ricloud.NewSecret("former")),
	)
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(handler.SetSecrets(ricloud.NewSecret("next"), ricloud.NewSecret("former")))
	// Output: <nil>
}

// Replace a config by one with a new secret. No delivery is refused.
func ExampleWebhookHandler_AddSecrets() {
	handler, err := ricloud.NewWebhookHandler(
		func(context.Context, *ricloud.Event) error { return nil })
	if err != nil {
		fmt.Println(err)
		return
	}
	sandbox := ricloudtest.NewServer(ricloudtest.WithReceiver("https://example.com/", handler))
	defer sandbox.Close()
	ctx, client := context.Background(), sandbox.Client()
	former, err := client.WebhookConfigs.Ensure(ctx, ricloud.WebhookConfigEnsureParams{
		URL: "https://example.com/ricloud", BeforeTest: handler.AddSecrets, MakeKeyDefault: true,
	})
	if err != nil {
		fmt.Println(err)
		return
	}

	if err := rotate(ctx, client, handler, former); err != nil {
		fmt.Println(err)
	}
	// Output: the new config is valid
}

func rotate(
	ctx context.Context, client *ricloud.Client, handler *ricloud.WebhookHandler,
	former *ricloud.WebhookConfig,
) error {
	next, err := client.WebhookConfigs.Create(ctx,
		ricloud.WebhookConfigCreateParams{URL: former.URL})
	if err != nil {
		return err
	}
	if err := handler.AddSecrets(next.Secret); err != nil { // in every replica of the receiver
		return err
	}
	task, err := client.WebhookConfigs.Test(ctx, next.ID)
	if err != nil {
		return err
	}
	if _, err := client.Tasks.Wait(ctx, task.ID); err != nil {
		return err
	}
	_, err = client.Keys.UpdateCurrent(ctx, ricloud.KeyUpdateParams{WebhookConfig: &next.ID})
	if err != nil {
		return err
	}

	// After a day, no delivery of the former config is retried any more.
	if _, err := client.WebhookConfigs.Delete(ctx, former.ID); err != nil {
		return err
	}
	if err := handler.SetSecrets(next.Secret); err != nil { // in every replica of the receiver
		return err
	}
	next, err = client.WebhookConfigs.Get(ctx, next.ID)
	if err == nil {
		fmt.Println("the new config is", next.State)
	}
	return err
}

func ExampleWebhookConfigsService_Ensure() {
	closed := http.NotFoundHandler() // the receiver is mounted at another path
	sandbox := ricloudtest.NewServer(ricloudtest.WithReceiver("https://example.com/", closed))
	defer sandbox.Close()

	config, err := sandbox.Client().WebhookConfigs.Ensure(context.Background(),
		ricloud.WebhookConfigEnsureParams{
			URL: "https://example.com/ricloud",
		})
	failed, ok := errors.AsType[*ricloud.StateError](err)
	fmt.Println(config.State, ok)
	if ok {
		_ = failed.Detail // Detail says what to check
	}
	// Output: invalid true
}

// Replay fetches the events that were not delivered, and handles them like deliveries.
func ExampleWebhookHandler_Replay() {
	handler, err := ricloud.NewWebhookHandler(func(_ context.Context, event *ricloud.Event) error {
		if poll, err := event.Poll(); err == nil {
			fmt.Println("poll", poll.ID, "is", poll.State)
		}
		return nil
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	var down atomic.Bool
	receiver := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if down.Load() {
			w.WriteHeader(http.StatusBadGateway)
			return
		}
		handler.ServeHTTP(w, r)
	})
	sandbox := ricloudtest.NewServer(ricloudtest.WithReceiver("https://example.com/", receiver))
	defer sandbox.Close()
	ctx, client := context.Background(), sandbox.Client()
	_, err = client.WebhookConfigs.Ensure(ctx, ricloud.WebhookConfigEnsureParams{
		URL: "https://example.com/ricloud", BeforeTest: handler.SetSecrets,
	})
	if err != nil {
		fmt.Println(err)
		return
	}

	down.Store(true)
	if _, err = sandbox.Deliver("poll", "completed",
		map[string]string{"id": "4f0c", "state": "completed"}); err != nil {
		fmt.Println(err)
		return
	}
	if _, err = handler.Replay(ctx, client); err != nil {
		fmt.Println(err)
	}
	// Output: poll 4f0c is completed
}
