package natsstore

import (
	"context"
	"errors"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/reincubate/ricloud-go/ingest/internal/store"
)

// Subscribe calls fn for each event.
func (s *Store) Subscribe(ctx context.Context, since time.Time, fn func([]byte)) error {
	return s.follow(ctx, func(ctx context.Context) error {
		for {
			err := s.subscribe(ctx, since, fn)
			if s.pause(ctx, retryWait) != nil {
				return err
			}
		}
	})
}

func (s *Store) subscribe(ctx context.Context, since time.Time, fn func([]byte)) error {
	consumer, err := s.js.OrderedConsumer(ctx, stream(s.name), jetstream.OrderedConsumerConfig{
		DeliverPolicy: jetstream.DeliverByStartTimePolicy, OptStartTime: &since,
	})
	if err != nil {
		return err
	}
	// With the defaults of 30 s, messages wait that long after a quorum returns.
	messages, err := consumer.Messages(jetstream.PullExpiry(4*time.Second),
		jetstream.PullHeartbeat(time.Second))
	if err != nil {
		return err
	}
	stop := context.AfterFunc(ctx, messages.Stop)
	defer stop()
	defer messages.Stop()
	next := jetstream.NextContext(ctx) // Stop alone is lost on a consumer that makes itself anew
	for {
		msg, err := messages.Next(next)
		if errors.Is(err, jetstream.ErrNoHeartbeat) {
			continue // the consumer makes itself anew
		}
		if err != nil {
			return err
		}
		fn(msg.Data())
	}
}

// Send reaches all that listen.
func (s *Store) Send(_ context.Context, subject string, data []byte) error {
	return s.failure(s.conn.Publish(s.live(subject), data))
}

// Listen calls fn with nil, and then for each message.
func (s *Store) Listen(ctx context.Context, subject string, fn func([]byte)) error {
	return s.follow(ctx, func(ctx context.Context) error {
		return s.listen(ctx, subject, func(msg *nats.Msg) { fn(msg.Data) }, func() { fn(nil) })
	})
}

// Answer answers each question with fn.
func (s *Store) Answer(ctx context.Context, subject string, fn func([]byte) []byte) error {
	answer := func(msg *nats.Msg) {
		go func() { _ = msg.Respond(fn(msg.Data)) }() // who asked may be gone
	}
	return s.follow(ctx, func(ctx context.Context) error {
		return s.listen(ctx, subject, answer, func() {})
	})
}

func (s *Store) listen(
	ctx context.Context, subject string, fn func(*nats.Msg), listening func(),
) error {
	subscription, err := s.conn.Subscribe(s.live(subject), fn)
	if err != nil {
		return err
	}
	over := make(chan struct{})
	subscription.SetClosedHandler(func(string) { close(over) })
	listening()
	select {
	case <-ctx.Done():
		return subscription.Unsubscribe()
	case <-over:
		return errors.New("the subscription has ended")
	}
}

// Ask returns the answer of one that answers.
func (s *Store) Ask(ctx context.Context, subject string, data []byte) ([]byte, error) {
	msg, err := s.conn.RequestWithContext(ctx, s.live(subject), data)
	if errors.Is(err, nats.ErrNoResponders) {
		return nil, store.ErrNobody
	}
	if err != nil {
		return nil, s.failure(err)
	}
	return msg.Data, nil
}
