package ingest

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	ricloud "github.com/reincubate/ricloud-go"
	"github.com/reincubate/ricloud-go/ingest/internal/store"
)

// WebhookHandler returns a handler for the API's deliveries, in any number of
// processes. An event is durable before it is answered 200, and one that is
// stored already is answered 200 at once. When the store has no room or does
// not answer, the delivery is answered 503, and the API tries again.
//
//	handler, err := engine.WebhookHandler(ricloud.WithWebhookSecrets(secret))
//	mux.Handle("/webhooks/", handler)
//
// Signed URLs and other secrets of an event are taken out before it is stored.
// The options are those of ricloud.NewWebhookHandler, without a deduplicator.
func (e *Engine) WebhookHandler(opts ...ricloud.WebhookOption) (*ricloud.WebhookHandler, error) {
	if e.closed.Load() {
		return nil, storeError("WebhookHandler", store.ErrClosed)
	}
	return ricloud.NewWebhookHandler(e.receive,
		append(opts, ricloud.WithWebhookDeduplicator(eachTime{}))...)
}

// receive stores an event.
func (e *Engine) receive(ctx context.Context, event *ricloud.Event) error {
	stored, urls, err := distill(event)
	if err != nil {
		return err
	}
	if urls != nil {
		e.shareURLs(ctx, urls) // first: the event's handler may need them at once
	}
	if err := e.store.Publish(ctx, escape(string(event.ID)), stored); err != nil {
		return &notStoredError{event.ID, err}
	}
	return nil
}

// notStoredError is that of an event that could not be stored. The receiver answers 503 to it, as
// to an event in progress.
type notStoredError struct {
	event ricloud.ID
	err   error
}

func (e *notStoredError) Error() string {
	return fmt.Sprintf("ingest: event %s is not stored: %v", e.event, e.err)
}

func (e *notStoredError) Unwrap() error { return e.err }

// Is reports whether the error is ricloud.ErrEventInProgress.
func (e *notStoredError) Is(target error) bool { return target == ricloud.ErrEventInProgress }

// eachTime is the deduplicator of a receiver whose store tells events apart.
type eachTime struct{}

// Begin lets every delivery through.
func (eachTime) Begin(_ context.Context, id ricloud.ID) (ricloud.Lease, error) {
	return ricloud.Lease{Event: id}, nil
}

// Done does nothing.
func (eachTime) Done(context.Context, ricloud.Lease) error { return nil }

// Failed does nothing.
func (eachTime) Failed(context.Context, ricloud.Lease) error { return nil }

// distill returns what is stored of an event: what the engine and waits act
// on, and no signed URL. Those come beside it.
func distill(event *ricloud.Event) ([]byte, *pollURLs, error) {
	var urls *pollURLs
	resource, _ := event.Resource() // nil if its data does not decode: only the ID is stored
	switch r := resource.(type) {
	case *ricloud.Poll:
		urls = urlsOf(r)
		r.Results.Data = unsigned(r.Results.Data)
		r.Errors = ricloud.List[ricloud.PollFailure]{HasMore: len(r.Errors.Data) > 0 || r.Errors.HasMore}
	case *ricloud.Task:
		r.Results.Data = unsigned(r.Results.Data)
	case *ricloud.Session, *ricloud.Subscription:
	default: // it may hold a secret anywhere
		var id struct {
			ID ricloud.ID `json:"id"`
		}
		_ = json.Unmarshal([]byte(event.Data), &id)
		resource = id
	}
	data, err := json.Marshal(resource)
	if poll, ok := resource.(*ricloud.Poll); ok && len(data) > maxMessage {
		poll.Results = ricloud.List[ricloud.Result]{HasMore: true} // the leader asks the API for them
		data, err = json.Marshal(poll)
	}
	if err != nil {
		return nil, nil, err
	}
	stored, err := json.Marshal(struct {
		ID     ricloud.ID      `json:"id"`
		Type   string          `json:"type"`
		Action string          `json:"action"`
		Data   json.RawMessage `json:"data"`
		Date   time.Time       `json:"date_created"`
	}{event.ID, event.Type, event.Action, data, event.DateCreated})
	return stored, urls, err
}

// unsigned returns results without their signed URLs.
func unsigned(results []ricloud.Result) []ricloud.Result {
	for i := range results {
		results[i].SignedURL = ricloud.SignedURL{}
	}
	return results
}

// pollURLs are the signed URLs of a poll's results. They go from process to
// process in memory, and are never stored.
type pollURLs struct {
	Poll    ricloud.ID               `json:"poll"`
	Results map[ricloud.ID]signedURL `json:"results"`
}

type signedURL struct {
	URL     string    `json:"url"`
	Expires time.Time `json:"expires,omitzero"`
}

func urlsOf(poll *ricloud.Poll) *pollURLs {
	urls := &pollURLs{Poll: poll.ID, Results: map[ricloud.ID]signedURL{}}
	for i := range poll.Results.Data {
		r := &poll.Results.Data[i]
		urls.Results[r.ID] = urlOf(r)
	}
	return urls
}

func urlOf(r *ricloud.Result) signedURL {
	return signedURL{r.SignedURL.URL.Reveal(), r.SignedURL.DateExpires}
}

const (
	urlSubject    = "urls"
	wantedSubject = "urls-wanted" // a new leader asks for those that came before it led
	maxURLs       = 2000          // polls
	maxMessage    = 512 << 10
	urlsKept      = 2 * time.Minute // by who received them
)

// encode writes URLs as a message: the poll's ID, a line feed, and the URLs, so that a process
// without use for them need not decode them. It is nil when there is nothing to send.
func (urls *pollURLs) encode() []byte {
	if len(urls.Results) == 0 {
		return nil
	}
	body, err := json.Marshal(urls)
	if err != nil || len(body) > maxMessage {
		return nil
	}
	return slices.Concat([]byte(urls.Poll), []byte{'\n'}, body)
}

// shareURLs gives signed URLs to the process that leads, which hands them on with the job. One that
// misses them asks the API.
func (e *Engine) shareURLs(ctx context.Context, urls *pollURLs) {
	message := urls.encode()
	if message == nil {
		return
	}
	e.received.add(message)
	_ = e.store.Send(ctx, urlSubject, message)
}

// repeatURLs gives a new leader the URLs that came while nobody led, until ctx ends.
func (e *Engine) repeatURLs(ctx context.Context) {
	for ctx.Err() == nil {
		_ = e.store.Listen(ctx, wantedSubject, func(data []byte) {
			if data == nil {
				return
			}
			for _, message := range e.received.recent() {
				_ = e.store.Send(ctx, urlSubject, message)
			}
		})
		_ = sleep(ctx, storeRetry)
	}
}

// recentURLs are the messages that this process has sent in the last minutes.
type recentURLs struct {
	mu       sync.Mutex
	messages []recentMessage
}

type recentMessage struct {
	at   time.Time
	body []byte
}

func (r *recentURLs) add(body []byte) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.prune()
	r.messages = append(r.messages, recentMessage{time.Now(), body})
}

func (r *recentURLs) prune() {
	keep := max(0, len(r.messages)-maxURLs+1)
	for keep < len(r.messages) && time.Since(r.messages[keep].at) > urlsKept {
		keep++
	}
	r.messages = slices.Delete(r.messages, 0, keep)
}

func (r *recentURLs) recent() (bodies [][]byte) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.prune()
	for _, m := range r.messages {
		bodies = append(bodies, m.body)
	}
	return bodies
}

// urlCache remembers signed URLs of the latest polls, as they came until one is asked for.
type urlCache struct {
	mu      sync.Mutex
	encoded map[ricloud.ID][]byte
	polls   map[ricloud.ID]map[ricloud.ID]signedURL
	order   []ricloud.ID
}

func newURLCache() *urlCache {
	return &urlCache{
		encoded: map[ricloud.ID][]byte{}, polls: map[ricloud.ID]map[ricloud.ID]signedURL{},
	}
}

func (c *urlCache) add(urls *pollURLs) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.decode(urls.Poll)
	c.merge(urls)
}

// addEncoded keeps a message of encode.
func (c *urlCache) addEncoded(message []byte) {
	poll, body, ok := bytes.Cut(message, []byte{'\n'})
	if !ok {
		return
	}
	id := ricloud.ID(poll)
	c.mu.Lock()
	defer c.mu.Unlock()
	c.decode(id) // what came before stays
	c.note(id)
	c.encoded[id] = body
}

// message returns what is known of a poll, as a message: nil if that is nothing.
func (c *urlCache) message(poll ricloud.ID) []byte {
	c.mu.Lock()
	defer c.mu.Unlock()
	if body, ok := c.encoded[poll]; ok && c.polls[poll] == nil {
		return slices.Concat([]byte(poll), []byte{'\n'}, body)
	}
	c.decode(poll)
	return (&pollURLs{Poll: poll, Results: c.polls[poll]}).encode()
}

// decode decodes what addEncoded has kept of a poll. c.mu is held.
func (c *urlCache) decode(poll ricloud.ID) {
	body, ok := c.encoded[poll]
	if !ok {
		return
	}
	var urls pollURLs
	if json.Unmarshal(body, &urls) == nil && urls.Poll == poll {
		c.merge(&urls)
	}
	delete(c.encoded, poll)
}

// merge adds URLs. c.mu is held.
func (c *urlCache) merge(urls *pollURLs) {
	c.note(urls.Poll)
	if c.polls[urls.Poll] == nil {
		c.polls[urls.Poll] = map[ricloud.ID]signedURL{}
	}
	maps.Copy(c.polls[urls.Poll], urls.Results)
}

// note adds a poll to those that are remembered, and forgets the oldest beyond maxURLs. c.mu is
// held.
func (c *urlCache) note(poll ricloud.ID) {
	if c.polls[poll] != nil || c.encoded[poll] != nil {
		return
	}
	c.order = append(c.order, poll)
	for len(c.order) > maxURLs {
		delete(c.polls, c.order[0])
		delete(c.encoded, c.order[0])
		c.order = c.order[1:]
	}
}

// get returns what is known of a result, and whether anything is.
func (c *urlCache) get(poll, result ricloud.ID) (signedURL, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.decode(poll)
	url, ok := c.polls[poll][result]
	return url, ok
}

// listenURLs fills the cache until ctx ends, with what came shortly before too.
func (e *Engine) listenURLs(ctx context.Context) error {
	return e.store.Listen(ctx, urlSubject, func(message []byte) {
		if message == nil {
			_ = e.store.Send(ctx, wantedSubject, []byte{'?'})
			return
		}
		e.urls.addEncoded(message)
	})
}

// followEvents calls fn for each event that was stored since a time.
func (e *Engine) followEvents(ctx context.Context, since time.Time, fn func(*ricloud.Event)) error {
	err := e.store.Subscribe(ctx, since, func(data []byte) {
		if event, err := ricloud.ParseEvent(data); err == nil {
			fn(event)
		}
	})
	if errors.Is(err, store.ErrNotFound) {
		return nil
	}
	return err
}
