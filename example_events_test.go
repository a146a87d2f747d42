package ricloud_test

import (
	"context"
	"fmt"

	ricloud "github.com/reincubate/ricloud-go"
	"github.com/reincubate/ricloud-go/ricloudtest"
)

// A program that no webhook can reach reads the API's record of events.
func ExampleEventsService_Watch() {
	sandbox := ricloudtest.NewServer()
	defer sandbox.Close()
	ctx, client := context.Background(), sandbox.Client()
	if _, err := login(ctx, client); err != nil {
		fmt.Println(err)
		return
	}
	if err := watch(ctx, client); err != nil {
		fmt.Println(err)
	}
	// Output: task.succeeded
}

func watch(ctx context.Context, client *ricloud.Client) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	dedupe := ricloud.NewMemoryDeduplicator(0, 0) // dedupe/sql survives a restart
	handler, err := ricloud.NewWebhookHandler(func(_ context.Context, event *ricloud.Event) error {
		if event.Name() == ricloud.EventTaskSucceeded {
			fmt.Println(event.Name())
			cancel() // the example has seen enough
		}
		return nil
	}, ricloud.WithWebhookDeduplicator(dedupe), ricloud.WithWebhookClient(client))
	if err != nil {
		return err
	}
	key, err := client.Keys.Current(ctx)
	if err != nil {
		return err
	}
	for event, err := range client.Events.Watch(ctx, ricloud.EventWatchParams{
		Cursor: dedupe, Since: key.DateCreated,
	}) {
		switch {
		case ctx.Err() != nil:
			return nil
		case event == nil: // an event that cannot be read, or the end
			return err
		}
		if err := handler.Handle(ctx, event); err != nil {
			return err // the position stays, and the next Watch yields the event again
		}
	}
	return nil
}

// The signed body is what a queue keeps: encoding/json fails on an Event.
func ExampleParseEvent() {
	queue := make(chan []byte, 1) // a durable one in a program
	handler, err := ricloud.NewWebhookHandler(func(_ context.Context, event *ricloud.Event) error {
		queue <- event.Body // return the error if this fails: the API delivers again
		return nil
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	delivered, err := ricloud.ParseEvent([]byte(
		`{"id":"e1","type":"poll","action":"completed","data":{"id":"p1","state":"completed"}}`))
	if err != nil {
		fmt.Println(err)
		return
	}
	if err := handler.Handle(context.Background(), delivered); err != nil {
		fmt.Println(err)
		return
	}

	event, err := ricloud.ParseEvent(<-queue) // in the worker
	if err != nil {
		fmt.Println(err)
		return
	}
	poll, err := event.Poll()
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(event.Name(), poll.ID, poll.State)
	// Output: poll.completed p1 completed
}
