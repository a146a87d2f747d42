package ricloud_test

import (
	"context"
	"fmt"

	ricloud "github.com/reincubate/ricloud-go"
	"github.com/reincubate/ricloud-go/ricloudtest"
)

// A program that cannot receive webhooks reads the API's record of events.
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
	dedupe := ricloud.NewMemoryDeduplicator(0, 0) // use dedupe/sql if it must survive a restart
	handler, err := ricloud.NewWebhookHandler(func(_ context.Context, event *ricloud.Event) error {
		if event.Name() == ricloud.EventTaskSucceeded {
			fmt.Println(event.Name())
			cancel() // the example ends here
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
		case event == nil: // an unreadable event, or the end of the watch
			return err
		}
		if err := handler.Handle(ctx, event); err != nil {
			return err // the position stays, so the next Watch yields the event again
		}
	}
	return nil
}

// Queue the signed body of an event. Encoding the Event itself with encoding/json returns an error.
func ExampleParseEvent() {
	queue := make(chan []byte, 1) // a program uses a durable queue
	handler, err := ricloud.NewWebhookHandler(func(_ context.Context, event *ricloud.Event) error {
		queue <- event.Body // if this fails, return the error: the API then delivers the event again
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
