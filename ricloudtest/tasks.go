package ricloudtest

import (
	"time"

	"github.com/reincubate/ricloud-go/ricloudtest/internal/collection"
)

type task struct {
	collection.Head

	Key       *key
	Session   *session
	Poll      *poll
	Kind      string
	Target    string
	State     string
	Err       string
	Results   []*result
	Started   time.Time
	Completed time.Time

	ended signal
}

func newTasks() *collection.Collection[*task] {
	return collection.New("task", map[string]collection.Filter[*task]{
		"poll":        {Value: func(t *task) string { return idOf(t.Poll) }, Indexed: true},
		"session":     {Value: func(t *task) string { return idOf(t.Session) }, Indexed: true},
		"source":      {Value: func(t *task) string { return idOf(t.source()) }},
		"source_type": {Value: func(t *task) string { return t.sourceType() }},
		"type":        {Value: func(t *task) string { return t.Kind }},
		"target":      {Value: func(t *task) string { return t.Target }},
		"state":       {Value: func(t *task) string { return t.State }},
	})
}

func (t *task) source() *source {
	switch {
	case t.Poll != nil:
		return t.Poll.Source
	case t.Session != nil:
		return t.Session.Source
	}
	return nil
}

func (t *task) sourceType() string {
	if from := t.source(); from != nil {
		return from.Kind
	}
	return ""
}

func (v view) task(t *task) object {
	out := object{
		"id": t.ID, "resource": "task", "organisation": v.server.org.ID, "key": t.Key.ID,
		"user": nil, "source": nil,
		"session": optional(idOf(t.Session)), "poll": optional(idOf(t.Poll)),
		"source_type": optional(t.sourceType()),
		"type":        t.Kind, "target": optional(t.Target), "state": t.State,
		"error":        optional(t.Err),
		"results":      nested(v, t.Results, allResults("task", t.ID), view.result),
		"date_created": stamp(t.Created), "date_started": stamp(t.Started),
		"date_completed": stamp(t.Completed),
	}
	if from := t.source(); from != nil {
		out["user"], out["source"] = from.User.ID, from.ID
	}
	if v.guide() && t.State == stateSuspended {
		out["state"] = stateProcessing
	}
	return out
}

func (s *Server) newTask(t *task) *task {
	t.Head = s.unique()
	if t.State == stateProcessing {
		t.Started = t.Created
	}
	s.tasks.Add(t)
	s.emit(t.Key, "task", "created", func(v view) object { return v.task(t) })
	return t
}

// runTask starts a poll's task, which may be suspended half way.
//
// Assumption (suspended): a suspended task continues by itself.
func (s *Server) runTask(t *task) {
	t.State, t.Started = stateProcessing, s.clock.Now()
	acc := t.Poll.Source.Account
	length := s.delays.Task.draw(s.random)
	if acc == nil || !acc.Suspend[t.Target] {
		s.after(length, job{Do: endTask, ID: t.ID})
		return
	}
	s.after(length/2, job{Do: suspendTask, ID: t.ID, Remaining: length - length/2})
}

func (s *Server) suspend(t *task, rest time.Duration) {
	if t.State == stateProcessing {
		t.State = stateSuspended
		s.after(s.delays.Suspend.draw(s.random), job{Do: resumeTask, ID: t.ID, Remaining: rest})
	}
}

func (s *Server) resume(t *task, rest time.Duration) {
	if t.State == stateSuspended {
		t.State = stateProcessing
		s.after(rest, job{Do: endTask, ID: t.ID})
	}
}

// conclude ends a task's work: it fails, or what it found is published. A session that has expired
// in the meantime fails it.
func (s *Server) conclude(t *task) {
	if t.ended.done || t.State != stateProcessing {
		return
	}
	acc := t.Poll.Source.Account
	if t.Session.State != stateActive {
		s.finish(t, codeSessionExpired)
		return
	}
	if acc == nil {
		s.finish(t, codeNotFound)
		return
	}
	if code := acc.Fail[t.Target]; code != "" {
		s.finish(t, code)
		return
	}
	found, kind, ok := acc.find(t.Kind, t.Target)
	if !ok {
		s.finish(t, codeNotFound)
		return
	}
	if t.Kind == "info" {
		s.reveal(t.Poll.Source)
	}
	if t.Kind == "data" {
		found = found.within(t.Poll.period())
	}
	documents := []document{{t.Target, kind, found}}
	if s.publishesSource(t) {
		documents = append(documents, document{"sms.db", "db", newBlob(sourceFile())})
	}
	s.publish(t, documents)
}

// publishesSource reports whether a task also publishes the database from which it read the
// document. The poll's setting comes before the key's, and the key's before the organisation's.
//
// Assumption (source-files): only ios_messages.messages from Relay has such a file. Its identifier
// is "sms.db" and its type "db".
func (s *Server) publishesSource(t *task) bool {
	if !isRelayDevice(t.Poll.Source.Kind) || t.Target != "ios_messages.messages" {
		return false
	}
	if value, ok := t.Poll.Payload["publish_source_files"].(bool); ok {
		return value
	}
	if t.Key.PublishFiles != nil {
		return *t.Key.PublishFiles
	}
	return s.org.PublishFiles
}

// finish ends a task, and its poll if the task was the last. An empty code is a success.
func (s *Server) finish(t *task, code string) {
	if t.ended.done {
		return
	}
	t.State, t.Err, t.Completed = stateSucceeded, code, s.clock.Now()
	if code != "" {
		t.State = stateFailed
	}
	t.ended.end()
	s.emit(t.Key, "task", t.State, func(v view) object { return v.task(t) })
	if t.Poll != nil {
		t.Poll.open--
		s.endPollIfDone(t.Poll)
	}
}
