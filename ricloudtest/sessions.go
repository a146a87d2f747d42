package ricloudtest

import (
	"slices"
	"time"

	ricloud "github.com/reincubate/ricloud-go"
	"github.com/reincubate/ricloud-go/ricloudtest/internal/collection"
)

type session struct {
	collection.Head

	Key      *key
	Source   *source
	State    string
	Err      string
	Expired  time.Time
	Password string
	Code     string

	ended signal // closed when the session is no longer pending
	open  int    // its polls that have not ended
}

func newSessions() *collection.Collection[*session] {
	return collection.New("session", map[string]collection.Filter[*session]{
		"source": {Value: func(x *session) string { return x.Source.ID }, Indexed: true},
		"user":   {Value: func(x *session) string { return x.Source.User.ID }, Indexed: true},
		"state":  {Value: func(x *session) string { return x.State }},
		"key":    {Value: func(x *session) string { return x.Key.ID }},
	})
}

func (v view) session(x *session) object {
	out := object{
		"id": x.ID, "resource": "session", "organisation": v.server.org.ID,
		"user":  x.Source.User.ID,
		"state": x.State, "error": optional(x.Err),
		"date_created": stamp(x.Created), "date_expired": stamp(x.Expired),
	}
	if v.server.succeeded && x.State == stateActive {
		out["state"] = stateSucceeded
	}
	if v.guide() {
		out["source"] = x.Source.ID
		return out
	}
	out["key"] = x.Key.ID
	out["source"] = v.source(x.Source)
	return out
}

// createSession starts a session, and the task that logs in.
//
// Assumption (session-task): the task is of type "session.create".
func (s *Server) createSession(c *call) (answerer, error) {
	c.params.require("source", "payload")
	payload := c.params.object("payload")
	password, code := payload.text("password"), payload.text("code")
	if err := s.operating(); err != nil {
		return nil, err
	}
	from, err := s.openSource(c, c.params.object("source"), code)
	if err != nil {
		return nil, err
	}
	x := &session{
		Head: s.unique(), Key: c.key, Source: from, State: statePending,
		Password: password, Code: code,
	}
	s.sessions.Add(x)
	t := s.newTask(&task{Key: c.key, Session: x, Kind: "session.create", State: stateProcessing})
	s.after(s.delays.Session.draw(s.random), job{Do: settleSession, ID: x.ID, Other: t.ID})
	c.created()
	c.wait = x.ended.wait()
	return answerWith(view.session, x)
}

// settle ends a session's pending time with what the service says.
func (s *Server) settle(x *session, t *task) {
	if x.State != statePending {
		s.finish(t, x.Err)
		return
	}
	x.Err = refusal(x)
	x.Password, x.Code = "", "" // not needed again
	if x.Err == codeLocked {
		x.Source.State = stateLocked
	}
	if x.Err != "" {
		x.State = stateFailed
		x.ended.end()
		s.finish(t, x.Err)
		return
	}
	x.State, x.Source.State = stateActive, stateActive
	x.ended.end()
	if isRelayInstance(x.Source.Kind) {
		s.reveal(x.Source)
	}
	if s.lifetime > 0 {
		s.after(s.lifetime, job{Do: expireSession, ID: x.ID})
	}
	s.finish(t, "")
}

// refusal returns the error code with which the service refuses a login, or "". A right password
// without a code gets codeRequired, and so does a wrong code.
func refusal(x *session) string {
	acc := x.Source.Account
	switch {
	case acc == nil && isRelayInstance(x.Source.Kind):
		return codeInvalid
	case acc == nil, acc.Password != "" && acc.Password != x.Password:
		return codeCredentials
	case acc.SessionFail != "":
		return acc.SessionFail
	case acc.Locked:
		return codeLocked
	case acc.Deactivated:
		return codeSourceDeactivated
	case acc.Code != "" && x.Code != "" && acc.WrongCodes > 0:
		acc.WrongCodes--
		if isRelayInstance(x.Source.Kind) {
			return codeInvalid
		}
		return codeRequired
	case acc.Code != "" && acc.Code != x.Code:
		return codeRequired
	}
	return ""
}

// expire ends a session and emits the event for it.
func (s *Server) expire(x *session, cause string) {
	if x.State != statePending && x.State != stateActive {
		return
	}
	x.State, x.Err, x.Expired = stateExpired, cause, s.clock.Now()
	x.ended.end()
	s.emit(x.Key, "session", "expired", func(v view) object { return v.session(x) })
}

// deleteSession expires a session.
//
// Assumption (session-delete): the answer is the session, expired with the cause "organisation".
func (s *Server) deleteSession(c *call) (answerer, error) {
	x, err := s.sessions.Get(c.id)
	if err != nil {
		return nil, err
	}
	s.expire(x, "organisation")
	return answerWith(view.session, x)
}

// ExpireSession ends a session as the service would. The cause is one of the API's: "service",
// "api", "organisation" or "admin".
func (s *Server) ExpireSession(id ricloud.ID, cause string) error {
	if !slices.Contains([]string{"service", "api", "organisation", "admin"}, cause) {
		return refuse("expire session %s: cause %q: want service, api, organisation or admin",
			id, cause)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	x, ok := s.sessions.Lookup(string(id))
	if !ok {
		return refuse("expire session %s: there is no such session", id)
	}
	s.expire(x, cause)
	return nil
}

// usable refuses new work on a session that cannot do any.
func usable(x *session) error {
	switch x.State {
	case stateActive:
		return nil
	case stateExpired:
		return badRequest(codeSessionExpired, "The session has expired; create a new one.")
	}
	return invalid("session", "is "+x.State+", not active")
}
