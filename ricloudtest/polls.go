package ricloudtest

import (
	"net/http"
	"slices"
	"time"
)

// wanted is one thing a poll asks for: a task of its own.
type wanted struct{ kind, target string }

func (s *Server) createPoll(c *call) (render, error) {
	wants, payload := readPayload(c.params, "payload")
	p := &poll{key: c.key, kind: c.params.text("type")}
	if err := s.aim(p, c.params); err != nil {
		return nil, err
	}
	if err := s.startable(p); err != nil {
		return nil, err
	}
	if err := s.allowPoll(p, wants); err != nil {
		return nil, err
	}
	if p.kind == "" {
		p.kind = "data"
		if _, ok := payload["files"]; ok {
			p.kind = "files"
		}
	}
	s.startPoll(p, wants)
	c.status = http.StatusCreated
	return one(view.poll, p)
}

// readPayload reads what a poll is to retrieve. An empty list is nothing to
// do, which is allowed: the vendor's own client sends one.
func readPayload(p *params, name string) ([]wanted, object) {
	p.require(name)
	payload := p.object(name)
	var wants []wanted
	asked := false
	for _, list := range []struct{ name, kind string }{
		{"info_types", "info"}, {"data_types", "data"}, {"files", "files"}, {"file_ids", "files"},
	} {
		asked = asked || payload.has(list.name)
		for _, target := range payload.list(list.name) {
			wants = append(wants, wanted{list.kind, target})
		}
	}
	payload.when("since")
	payload.when("until")
	if p.has(name) && !asked {
		p.note(name, "asks for nothing: give info_types, data_types or files")
	}
	return wants, payload.values
}

// aim finds the poll's subscription, session and source.
func (s *Server) aim(p *poll, from *params) error {
	if from.has("subscription") {
		sub, ok := s.subscriptions.byID[from.ref("subscription")]
		if !ok {
			from.note("subscription", "names no subscription")
			return from.err()
		}
		p.subscription, p.session, p.source = sub, sub.session, sub.source
		return from.err()
	}
	from.require("session")
	p.session, p.source = s.readSession(from)
	return from.err()
}

// readSession reads "session" and the optional child "source" of its source.
func (s *Server) readSession(p *params) (*session, *source) {
	x, ok := s.sessions.byID[p.ref("session")]
	if !ok {
		if p.has("session") {
			p.note("session", "names no session")
		}
		return nil, nil
	}
	if !p.has("source") {
		return x, x.source
	}
	from, ok := s.sources.byID[p.ref("source")]
	if !ok || from != x.source && from.parent != x.source {
		p.note("source", "is neither the session's source nor a child of it")
	}
	return x, from
}

// startable checks that the poll's session is good and its results have
// somewhere to go.
func (s *Server) startable(p *poll) error {
	switch p.session.state {
	case stateActive:
	case stateExpired:
		return badRequest(codeSessionExpired, "The session has expired; create a new one.")
	default:
		return invalid("session", "is "+p.session.state+", not active")
	}
	if p.source.kind == relayInstance || p.source.kind == relayDevice && p.subscription == nil {
		return invalid("subscription", "is required: Relay data needs a subscription on a child source")
	}
	if p.subscription != nil && p.subscription.state != stateActive {
		return invalid("subscription", "is "+p.subscription.state+", not active")
	}
	if s.destination(p.key) == nil {
		return badRequest(codeUnconfigured, "The organisation has no valid storage config to publish to.")
	}
	if s.inFlight > 0 && p.session.open >= s.inFlight {
		return &apiError{http.StatusTooManyRequests, codeRateLimited, "The session has too many polls in flight.", nil}
	}
	return nil
}

func (s *Server) allowPoll(p *poll, wants []wanted) error {
	var scopes []string
	for _, want := range wants {
		scope := want.kind + "_type:" + want.target
		if want.kind == "files" {
			scope = "file_type:*"
		}
		scopes = append(scopes, "task_type:"+want.kind, scope)
	}
	return s.allow(p.key, p.source.user, scopes...)
}

// startPoll makes the poll and its tasks, and lets them run.
func (s *Server) startPoll(p *poll, wants []wanted) {
	p.head, p.state = s.unique(), statePending
	s.polls.add(p)
	p.session.open++
	s.emit(p.key, "poll", "created", func(v view) object { return v.poll(p) })
	for _, want := range wants {
		p.tasks = append(p.tasks, s.newTask(&task{key: p.key, session: p.session, poll: p, kind: want.kind, target: want.target, state: statePending}))
	}
	p.open = len(p.tasks)
	s.after(s.delays.Poll.draw(s.random), func() {
		p.state, p.started = stateProcessing, s.clock.now()
		for _, t := range p.tasks {
			s.runTask(t)
		}
		s.completePoll(p)
	})
}

func (s *Server) runTask(t *task) {
	t.state, t.started = stateProcessing, s.clock.now()
	acc := t.poll.source.account
	length := s.delays.Task.draw(s.random)
	if acc == nil || !acc.Suspend[t.target] {
		s.after(length, func() { s.conclude(t) })
		return
	}
	s.after(length/2, func() {
		t.state = stateSuspended
		s.after(s.delays.Suspend.draw(s.random), func() {
			t.state = stateProcessing
			s.after(length-length/2, func() { s.conclude(t) })
		})
	})
}

// conclude is the end of a task's work: it fails, or what it found is published.
// A session that expired meanwhile fails it.
func (s *Server) conclude(t *task) {
	acc := t.poll.source.account
	if t.session.state != stateActive {
		s.finish(t, codeSessionExpired)
		return
	}
	if acc == nil {
		s.finish(t, codeNotFound)
		return
	}
	if code := acc.Fail[t.target]; code != "" {
		s.finish(t, code)
		return
	}
	found, kind, ok := acc.find(t.kind, t.target)
	if !ok {
		s.finish(t, codeNotFound)
		return
	}
	if t.kind == "info" {
		s.reveal(t.poll.source)
	}
	s.publish(t, found, kind)
}

func (s *Server) newTask(t *task) *task {
	t.head = s.unique()
	if t.state == stateProcessing {
		t.started = t.created
	}
	s.tasks.add(t)
	s.emit(t.key, "task", "created", func(v view) object { return v.task(t) })
	return t
}

// finish ends a task, well where code is empty, and with it perhaps its poll.
func (s *Server) finish(t *task, code string) {
	if t.ended.done {
		return
	}
	t.state, t.err, t.completed = stateSucceeded, code, s.clock.now()
	if code != "" {
		t.state = stateFailed
	}
	t.ended.end()
	s.emit(t.key, "task", t.state, func(v view) object { return v.task(t) })
	if t.poll != nil {
		t.poll.open--
		s.completePoll(t.poll)
	}
}

func (s *Server) completePoll(p *poll) {
	if p.open > 0 || p.state == stateCompleted {
		return
	}
	p.state, p.completed = stateCompleted, s.clock.now()
	p.session.open--
	s.emit(p.key, "poll", "completed", func(v view) object { return v.poll(p) })
}

// minRelayInterval is the contract's; Relay's app refuses shorter ones.
const (
	minRelayInterval = time.Hour
	standardInterval = 24 * time.Hour
)

func (s *Server) createSubscription(c *call) (render, error) {
	c.params.require("session")
	x := &subscription{
		key: c.key, state: statePending, interval: c.params.seconds("interval"),
		start: c.params.when("date_start"), end: c.params.when("date_end"),
	}
	wants, payload := readPayload(c.params, "poll_payload")
	x.session, x.source = s.readSession(c.params)
	x.payload = payload
	if x.source != nil && x.source.kind == relayInstance {
		c.params.note("source", "is required: a child of the Relay instance")
	}
	if x.source != nil && x.source.kind == relayDevice && c.params.has("interval") && x.interval < minRelayInterval {
		c.params.note("interval", "must be at least 3600 seconds for Relay")
	}
	if err := c.params.err(); err != nil {
		return nil, err
	}
	if x.session.state == stateExpired {
		return nil, badRequest(codeSessionExpired, "The session has expired; create a new one.")
	}
	if s.destination(c.key) == nil || s.unconfigured && s.receiverOf(c.key) == nil {
		return nil, badRequest(codeUnconfigured, "A subscription needs a valid storage config and a valid webhook config.")
	}
	x.head = s.unique()
	s.subscriptions.add(x)
	if x.start.IsZero() {
		x.start = x.created
	}
	s.after(max(0, x.start.Sub(x.created))+s.delays.Subscription.draw(s.random), func() {
		if x.state == statePending {
			x.state = stateActive
			s.pollFor(x, wants)
		}
	})
	c.status = http.StatusCreated
	return one(view.subscription, x)
}

// pollFor makes a subscription's automatic poll, and plans the next.
// Assumption: the first is made at once, and none while the session is not
// active or nothing may be published.
func (s *Server) pollFor(x *subscription, wants []wanted) {
	if x.state != stateActive || !x.end.IsZero() && !s.clock.now().Before(x.end) {
		return
	}
	p := &poll{key: x.key, session: x.session, source: x.source, subscription: x, automatic: true, kind: "data"}
	if s.startable(p) == nil && s.allowPoll(p, wants) == nil {
		s.startPoll(p, slices.Clone(wants))
	}
	interval := x.interval
	if interval <= 0 {
		interval = standardInterval
	}
	s.after(interval, func() { s.pollFor(x, wants) })
}

func (s *Server) deleteSubscription(c *call) (render, error) {
	x, err := s.subscriptions.get(c.id)
	if err != nil {
		return nil, err
	}
	x.state = stateDeleted
	return one(view.subscription, x)
}
