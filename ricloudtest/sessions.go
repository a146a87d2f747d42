package ricloudtest

import (
	"fmt"
	"net/http"
	"slices"

	"github.com/reincubate/ricloud-go"
)

func (s *Server) createSession(c *call) (render, error) {
	c.params.require("source", "payload")
	payload := c.params.object("payload")
	password, code := payload.text("password"), payload.text("code")
	from, err := s.openSource(c, c.params.object("source"), code)
	if err != nil {
		return nil, err
	}
	x := &session{head: s.unique(), key: c.key, source: from, state: statePending}
	s.sessions.add(x)
	t := s.newTask(&task{key: c.key, session: x, kind: "session.create", state: stateProcessing})
	s.after(s.delays.Session.draw(s.random), func() { s.settle(x, t, password, code) })
	c.status, c.wait = http.StatusCreated, x.ended.wait()
	return one(view.session, x)
}

// openSource reads the "source" of a session and finds or makes it.
func (s *Server) openSource(c *call, p *params, code string) (*source, error) {
	p.require("user", "type")
	kind, identifier := p.text("type"), p.text("identifier")
	owner, known := s.users.byID[p.ref("user")]
	if p.has("user") && !known {
		p.note("user", "names no user")
	}
	if kind != "" && !slices.Contains([]string{iCloudAccount, relayInstance, mocksMock}, kind) {
		p.note("type", "is not a source that a session can be made for")
	}
	if kind != relayInstance {
		p.require("identifier")
	}
	if err := p.err(); err != nil {
		return nil, err
	}
	if owner.state != stateActive {
		return nil, forbidden(codeForbidden, "The user is "+owner.state+".")
	}
	acc := s.lookUp(kind, identifier, code)
	if kind == relayInstance {
		identifier = "" // the app has its own, known once it is paired
		if acc != nil {
			identifier = acc.Identifier
		}
	}
	return s.sourceOf(c.key, owner, kind, identifier, acc)
}

func (s *Server) lookUp(kind, identifier, code string) *account {
	if kind == relayInstance {
		return s.known[kind+" code "+code]
	}
	if acc := s.known[kind+" "+identifier]; acc != nil {
		return acc
	}
	return s.known[kind+" "] // one that takes any identifier
}

func (s *Server) sourceOf(k *key, owner *user, kind, identifier string, acc *account) (*source, error) {
	if x, ok := s.sources.find("login", sourceLogin(owner.id, kind, identifier)); ok {
		if x.state == stateDeactivated {
			return nil, forbidden(codeForbidden, "The source is deactivated.")
		}
		x.account = acc
		return x, nil
	}
	if err := s.allow(k, owner, "source_type:"+kind); err != nil {
		return nil, err
	}
	return s.newSource(&source{user: owner, kind: kind, identifier: identifier, state: stateUnvalidated, account: acc}), nil
}

func (s *Server) newSource(x *source) *source {
	x.head = s.numbered("source")
	s.sources.add(x)
	return x
}

// settle ends a session's pending time with what the service says.
func (s *Server) settle(x *session, t *task, password, code string) {
	if x.state != statePending {
		s.finish(t, x.err)
		return
	}
	x.err = refusal(x.source, password, code)
	if x.err == codeLocked {
		x.source.state = stateLocked
	}
	if x.err != "" {
		x.state = stateFailed
		x.ended.end()
		s.finish(t, x.err)
		return
	}
	x.state, x.source.state = stateActive, stateActive
	x.ended.end()
	if x.source.kind == relayInstance {
		s.reveal(x.source)
	}
	if s.lifetime > 0 {
		s.after(s.lifetime, func() { s.expire(x, "api") })
	}
	s.finish(t, "")
}

// refusal is why the service lets nobody in, empty if it does. The right
// password alone makes it ask for a code, and a wrong code ask again.
func refusal(x *source, password, code string) string {
	acc := x.account
	switch {
	case acc == nil && x.kind == relayInstance:
		return codeInvalid
	case acc == nil, acc.Password != "" && acc.Password != password:
		return codeCredentials
	case acc.SessionFail != "":
		return acc.SessionFail
	case acc.Locked:
		return codeLocked
	case acc.Deactivated:
		return codeSourceDeactivated
	case acc.Code != "" && acc.Code != code:
		return codeRequired
	}
	return ""
}

// reveal adds the child sources that the account has.
func (s *Server) reveal(x *source) {
	if x.account == nil {
		return
	}
	for _, kid := range x.account.kids {
		if slices.ContainsFunc(x.children, func(child *source) bool { return child.identifier == kid.Identifier }) {
			continue
		}
		info := object{"name": kid.Identifier, "apple_model_id": "iPhone10,4", "apple_serial": kid.Identifier, "ios_version": "13.2", "is_encrypted": true}
		child := s.newSource(&source{user: x.user, kind: string(kid.Service), identifier: kid.Identifier, info: info, parent: x, state: stateActive, account: kid})
		x.children = append(x.children, child)
	}
}

// expire ends a session.
func (s *Server) expire(x *session, cause string) {
	if x.state != statePending && x.state != stateActive {
		return
	}
	x.state, x.err, x.expired = stateExpired, cause, s.clock.now()
	x.ended.end()
	s.emit(x.key, "session", "expired", func(v view) object { return v.session(x) })
}

// deleteSession answers with the session, expired by its organisation.
// Assumption: the state and the cause.
func (s *Server) deleteSession(c *call) (render, error) {
	x, err := s.sessions.get(c.id)
	if err != nil {
		return nil, err
	}
	s.expire(x, "organisation")
	return one(view.session, x)
}

// ExpireSession ends a session as the service would: cause is one of the API's
// "service", "api", "organisation" and "admin".
func (s *Server) ExpireSession(id ricloud.ID, cause string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	x, err := s.sessions.get(string(id))
	if err != nil {
		return fmt.Errorf("ricloudtest: expire session %s: %w", id, err)
	}
	s.expire(x, cause)
	return nil
}

// LockAccount has the service lock an account, or unlock it: its sources
// change state at once, and later sessions fail while it is locked.
func (s *Server) LockAccount(service ricloud.SourceType, identifier string, locked bool) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	acc := s.known[string(service)+" "+identifier]
	if acc == nil {
		return fmt.Errorf("ricloudtest: lock account: no %s account %q", service, identifier)
	}
	acc.Locked = locked
	for _, x := range s.sources.all {
		switch {
		case x.account != acc:
		case locked:
			x.state = stateLocked
		case x.state == stateLocked:
			x.state = stateActive
		}
	}
	return nil
}
