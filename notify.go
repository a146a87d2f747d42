package ricloud

// Notify tells the client's waits what an event says, so that they end or go
// on at once, without a request. Give it every event that arrives, in whatever
// order and however often: a resource never moves backwards. While events
// flow, waits ask the API rarely, in case one was lost; without them they
// poll. An event that no wait could use is ignored.
//
//	handler, err := ricloud.NewWebhookHandler(func(ctx context.Context, event *ricloud.Event) error {
//		client.Notify(event)
//		return nil
//	})
func (c *Client) Notify(event *Event) {
	switch event.Type {
	case "session":
		notify(c.waits.sessions, event)
	case "poll":
		notify(c.waits.polls, event)
	case "subscription":
		notify(c.waits.subscriptions, event)
	case "task":
		if task := notify(c.waits.tasks, event); task != nil {
			c.notifyOwner(task)
		}
	}
}

// notify returns what the event is about, or nil.
func notify[T any](w *waiter[T], event *Event) *T {
	v := new(T)
	if decode("Notify", event.Data, v) != nil || w.look(v).ID == "" {
		return nil
	}
	w.hub.Notify(v)
	return v
}

// notifyOwner tells what a task means to what it was made for. The contract
// names no event for a session that becomes active or fails, but a session's
// creation is a task (§8): the one of a session and of no poll, whose end is
// the session's.
func (c *Client) notifyOwner(task *Task) {
	switch {
	case task.Poll != "":
		c.waits.polls.hub.NotifyChange(string(task.Poll), func(p *Poll) { applyToPoll(p, task) })
	case task.Session != "" && task.State.Terminal():
		c.waits.sessions.hub.NotifyChange(string(task.Session), func(s *Session) { s.apply(task) })
	}
}
