package ricloudtest

import (
	"slices"
	"time"

	"github.com/reincubate/ricloud-go/ricloudtest/internal/collection"
)

type poll struct {
	collection.Head

	Key          *key
	Session      *session
	Source       *source
	Subscription *subscription
	Automatic    bool
	Kind         string // "data" or "files", which only the guide's answers show
	Payload      object
	Tasks        []*task
	State        string
	Err          string
	Started      time.Time
	Completed    time.Time

	open int // tasks that have not ended
}

func newPolls() *collection.Collection[*poll] {
	return collection.New("poll", map[string]collection.Filter[*poll]{
		"session": {Value: func(p *poll) string { return p.Session.ID }, Indexed: true},
		"source":  {Value: func(p *poll) string { return p.Source.ID }, Indexed: true},
		"subscription": {
			Value: func(p *poll) string { return idOf(p.Subscription) }, Indexed: true,
		},
		"requestor": {Value: requestor, Indexed: true},
		"user":      {Value: func(p *poll) string { return p.Source.User.ID }},
		"state":     {Value: func(p *poll) string { return p.State }},
		"key":       {Value: func(p *poll) string { return p.Key.ID }},
	})
}

// requestor says who asked for a poll.
func requestor(p *poll) string {
	if p.Automatic {
		return "subscription"
	}
	return "key"
}

func (v view) poll(p *poll) object {
	out := object{
		"id": p.ID, "resource": "poll", "organisation": v.server.org.ID, "key": p.Key.ID,
		"user": p.Source.User.ID, "source": p.Source.ID, "session": p.Session.ID,
		"state": p.State, "date_created": stamp(p.Created), "date_started": stamp(p.Started),
		"date_completed": stamp(p.Completed),
	}
	tasks := map[string][]string{
		statePending: {}, stateProcessing: {}, stateSuspended: {}, stateSucceeded: {},
		stateFailed: {},
	}
	var results []*result
	for _, t := range p.Tasks {
		tasks[t.State] = append(tasks[t.State], t.ID)
		results = append(results, t.Results...)
	}
	slices.SortFunc(results, func(a, b *result) int { return a.Seq - b.Seq })
	out["tasks_pending"], out["tasks_processing"] = tasks[statePending], tasks[stateProcessing]
	out["results"] = nested(v, results, allResults("poll", p.ID), view.result)
	if v.guide() {
		out["type"] = p.Kind
		out["tasks_processing"] = slices.Concat(tasks[stateProcessing], tasks[stateSuspended])
		out["tasks_completed"] = slices.Concat(tasks[stateSucceeded], tasks[stateFailed])
		if p.State == stateCompleted {
			out["state"] = stateProcessing // as the guide's finished poll still says
		}
		return out
	}
	out["tasks_suspended"] = tasks[stateSuspended]
	out["tasks_succeeded"] = tasks[stateSucceeded]
	out["tasks_failed"] = tasks[stateFailed]
	out["subscription"] = optional(idOf(p.Subscription))
	if p.State == stateFailed {
		out["error"] = p.Err
	}
	if !v.arrays() {
		out["errors"] = v.pollErrors(p)
	}
	return out
}

// pollErrors writes poll.errors: all of it, since its items have no ID to page by. The list has no
// "resource", which the vendor's client 3.2.0 would take for a list of resources.
//
// Assumption (poll-errors): items have "task", "error" and "message", and the list's url answers
// with the same list.
func (v view) pollErrors(p *poll) object {
	failures := []object{}
	for _, t := range p.Tasks {
		if t.Err != "" {
			failures = append(failures, object{
				"task": t.ID, "error": t.Err, "message": "The task for " + t.Target + " failed.",
			})
		}
	}
	list := v.list(failures, false, len(failures), "/polls/"+p.ID+"/errors")
	delete(list, "resource")
	return list
}

func (s *Server) listPollErrors(c *call) (answerer, error) {
	p, err := s.polls.Get(c.id)
	if err != nil {
		return nil, err
	}
	return func(v view) any { return v.pollErrors(p) }, nil
}

// wanted is one thing that a poll asks for. Each has a task of its own.
type wanted struct{ kind, target string }

// createPoll starts a poll.
//
// Assumption (poll-tasks): each data type, info type and file has one task, which publishes one
// result.
func (s *Server) createPoll(c *call) (answerer, error) {
	wants, payload := readPayload(c.params, "payload")
	p := &poll{Key: c.key, Kind: c.params.text("type"), Payload: payload}
	if err := s.aim(p, c.params); err != nil {
		return nil, err
	}
	if err := s.startable(p); err != nil {
		return nil, err
	}
	if err := s.allowPoll(p, wants); err != nil {
		return nil, err
	}
	if p.Kind == "" {
		p.Kind = "data"
		if payload["files"] != nil || payload["file_ids"] != nil {
			p.Kind = "files"
		}
	}
	s.startPoll(p, wants)
	c.created()
	return answerWith(view.poll, p)
}

// readPayload reads what a poll is to retrieve. An empty list is allowed and asks for nothing: the
// vendor's client sends one. The guide called files "file_ids".
func readPayload(p *params, name string) ([]wanted, object) {
	p.require(name)
	payload := p.object(name)
	asked := false
	for _, list := range []string{"info_types", "data_types", "files", "file_ids"} {
		asked = asked || payload.has(list)
		payload.list(list)
	}
	since, until := payload.when("since"), payload.when("until")
	if !since.IsZero() && !until.IsZero() && until.Before(since) {
		payload.note("until", "is before since")
	}
	payload.flag("publish_source_files")
	if p.has(name) && !asked {
		p.note(name, "asks for nothing: give info_types, data_types or files")
	}
	return wantsOf(payload.values), payload.values
}

// wantsOf reads a payload that readPayload has accepted.
func wantsOf(payload object) []wanted {
	var wants []wanted
	for _, list := range []struct{ name, kind string }{
		{"info_types", "info"}, {"data_types", "data"}, {"files", "files"}, {"file_ids", "files"},
	} {
		targets, _ := payload[list.name].([]any)
		for _, target := range targets {
			if text, ok := target.(string); ok {
				wants = append(wants, wanted{list.kind, text})
			}
		}
	}
	return wants
}

// aim finds the poll's subscription, session and source.
func (s *Server) aim(p *poll, from *params) error {
	if from.has("subscription") {
		sub, ok := s.subscriptions.Lookup(from.ref("subscription"))
		if !ok {
			from.note("subscription", "names no subscription")
			return from.err()
		}
		p.Subscription, p.Session, p.Source = sub, sub.Session, sub.Source
		return from.err()
	}
	from.require("session")
	p.Session, p.Source = s.readSession(from)
	return from.err()
}

// readSession reads "session" and the optional child "source" of its source.
func (s *Server) readSession(p *params) (*session, *source) {
	x, ok := s.sessions.Lookup(p.ref("session"))
	if !ok {
		if p.has("session") {
			p.note("session", "names no session")
		}
		return nil, nil
	}
	if !p.has("source") {
		return x, x.Source
	}
	from, ok := s.sources.Lookup(p.ref("source"))
	if !ok || from != x.Source && from.Parent != x.Source {
		p.note("source", "is neither the session's source nor a child of it")
	}
	return x, from
}

// startable checks that the poll's session is good and its results have somewhere to go.
func (s *Server) startable(p *poll) error {
	if err := s.operating(); err != nil {
		return err
	}
	if owner := p.Source.User; owner.State != stateActive {
		return forbidden(codeForbidden, "The user is "+owner.State+".")
	}
	if p.Source.State == stateDeactivated || p.Source.State == stateBlocked {
		return forbidden(codeForbidden, "The source is "+p.Source.State+".")
	}
	if err := usable(p.Session); err != nil {
		return err
	}
	kind := p.Source.Kind
	if isRelayInstance(kind) || isRelayDevice(kind) && p.Subscription == nil {
		const why = "is required: Relay data needs a subscription on a child source"
		return invalid("subscription", why)
	}
	if p.Subscription != nil && p.Subscription.State != stateActive {
		return invalid("subscription", "is "+p.Subscription.State+", not active")
	}
	if s.destination(p.Key) == nil {
		const message = "The organisation has no valid storage config to publish to."
		return badRequest(codeUnconfigured, message)
	}
	if s.inFlight > 0 && p.Session.open >= s.inFlight {
		return tooMany("The session has too many polls in flight.")
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
	return s.allow(p.Key, p.Source.User, scopes...)
}

// startPoll makes a poll and its tasks, and lets them run.
func (s *Server) startPoll(p *poll, wants []wanted) {
	p.Head, p.State = s.unique(), statePending
	s.polls.Add(p)
	p.Session.open++
	s.emit(p.Key, "poll", "created", func(v view) object { return v.poll(p) })
	for _, want := range wants {
		p.Tasks = append(p.Tasks, s.newTask(&task{
			Key: p.Key, Session: p.Session, Poll: p, Kind: want.kind, Target: want.target,
			State: statePending,
		}))
	}
	p.open = len(p.Tasks)
	s.after(s.delays.Poll.draw(s.random), job{Do: runPoll, ID: p.ID})
}

// run starts the tasks of a poll.
func (s *Server) run(p *poll) {
	if p.State != statePending {
		return
	}
	p.State, p.Started = stateProcessing, s.clock.Now()
	for _, t := range p.Tasks {
		s.runTask(t)
	}
	s.endPollIfDone(p)
}

func (s *Server) endPollIfDone(p *poll) {
	if p.open > 0 || p.State == stateCompleted || p.State == stateFailed {
		return
	}
	s.endPoll(p, "")
}

// endPoll completes a poll, or fails it with an error code.
//
// Assumption (poll-failed): a poll that fails as a whole has the state "failed" and an "error", as
// the vendor's samples read it. Its tasks keep their own states. The event is poll.completed.
func (s *Server) endPoll(p *poll, code string) {
	p.State, p.Err, p.Completed = stateCompleted, code, s.clock.Now()
	if p.Err == "" && p.Source.Account != nil {
		p.Err = p.Source.Account.PollFail
	}
	if p.Err != "" {
		p.State = stateFailed
	}
	p.Session.open--
	s.emit(p.Key, "poll", "completed", func(v view) object { return v.poll(p) })
}

// period is the time between a payload's "since" and "until". The zero period is all time.
type period struct{ since, until time.Time }

func (p *poll) period() period {
	read := func(name string) time.Time {
		text, _ := p.Payload[name].(string)
		at, _ := collection.ParseTime(text)
		return at
	}
	return period{read("since"), read("until")}
}
