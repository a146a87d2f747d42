package ricloud

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"iter"
	"net/url"
	"slices"
	"time"

	"github.com/reincubate/ricloud-go/internal/transport"
	"github.com/reincubate/ricloud-go/internal/watch"
)

// Session is access to a source.
type Session struct {
	ID           ID           `json:"id" wire:"strict"`
	Organisation ID           `json:"organisation"`
	Key          ID           `json:"key,omitempty"`
	User         ID           `json:"user"`
	Source       Source       `json:"source"` // at least its ID
	State        SessionState `json:"state" wire:"strict"`
	Error        ErrorCode    `json:"error,omitempty"` // why it failed or expired
	DateCreated  time.Time    `json:"date_created,omitzero"`
	DateExpired  time.Time    `json:"date_expired,omitzero"`
}

func (s *Session) ident() ID { return s.ID }

// SessionState is the state of a session.
type SessionState string

// The states of a session (contract §8).
const (
	SessionPending SessionState = "pending"
	SessionActive  SessionState = "active" // also where the API says "succeeded"
	SessionFailed  SessionState = "failed"
	SessionExpired SessionState = "expired"
)

// UnmarshalJSON reads a state; the older "succeeded" reads as SessionActive.
func (s *SessionState) UnmarshalJSON(b []byte) error {
	err := json.Unmarshal(b, (*string)(s))
	if *s == "succeeded" {
		*s = SessionActive
	}
	return err
}

// Terminal reports whether waiting is over: the session is active, or will
// never be.
func (s SessionState) Terminal() bool {
	return s == SessionActive || s == SessionFailed || s == SessionExpired
}

// Why a session expired (contract §8), in Session.Error.
const (
	ExpiredByService      ErrorCode = "service"      // the third party ended it, or credentials changed
	ExpiredByAPI          ErrorCode = "api"          // it was not used for long
	ExpiredByOrganisation ErrorCode = "organisation" // you ended it
	ExpiredByAdmin        ErrorCode = "admin"        // the API's administrators ended it
)

// SourceParams names the source a session logs in to.
type SourceParams struct {
	User       ID         `json:"user"`                 // required
	Type       SourceType `json:"type"`                 // required
	Identifier string     `json:"identifier,omitempty"` // an account's username; not for Relay
}

// SessionPayload holds what the source asks for: an iCloud account its
// password and, with two-factor authentication, the code; Relay its pairing
// code.
type SessionPayload struct {
	Password Secret
	Code     Secret
}

// SessionCreateParams describes a session.
type SessionCreateParams struct {
	Source  SourceParams
	Payload SessionPayload
}

func (p SessionCreateParams) check() error {
	err := required("Source.User", string(p.Source.User), "Source.Type", string(p.Source.Type))
	switch {
	case err != nil:
		return err
	case p.Source.Type == SourceICloudAccount:
		return required("Source.Identifier", p.Source.Identifier, "Payload.Password", string(p.Payload.Password))
	case p.Source.Type == SourceRelayInstance:
		return required("Payload.Code", string(p.Payload.Code))
	}
	return nil
}

func (p SessionCreateParams) secrets() []Secret { return []Secret{p.Payload.Password, p.Payload.Code} }

func (p SessionCreateParams) wire() any {
	type payload struct {
		Password string `json:"password,omitempty"`
		Code     string `json:"code,omitempty"`
	}
	return struct {
		Source  SourceParams `json:"source"`
		Payload payload      `json:"payload"`
	}{p.Source, payload{string(p.Payload.Password), string(p.Payload.Code)}}
}

// SessionListParams filters and pages a list of sessions.
type SessionListParams struct {
	ListParams

	Source ID
	State  SessionState
}

func (p SessionListParams) values() url.Values {
	q := p.ListParams.values()
	setFilter(q, "source", p.Source)
	setFilter(q, "state", p.State)
	return q
}

// SessionsService logs in to sources.
type SessionsService service

// Create begins a session. The answer is mostly still pending, and an answer
// without an error says nothing of the login: Wait does. WithAwait lets the
// API hold its answer until the session is decided, up to 10 seconds.
//
// It is never sent twice: each create may prompt the account's owner. When the
// outcome is unknown, the *CallError's MaybeApplied is true.
//
// POST /sessions
func (s *SessionsService) Create(ctx context.Context, params SessionCreateParams, opts ...CallOption) (*Session, error) {
	session, err := do[Session](ctx, s.client, request{op: transport.SessionsCreate, body: params}, opts)
	if err == nil {
		s.client.waits.sessions.hub.Know(session)
	}
	return session, err
}

// Get returns a session.
//
// GET /sessions/{id}
func (s *SessionsService) Get(ctx context.Context, id ID, opts ...CallOption) (*Session, error) {
	return do[Session](ctx, s.client, request{op: transport.SessionsGet, id: id}, opts)
}

// List returns one page of sessions, newest first.
//
// GET /sessions
func (s *SessionsService) List(ctx context.Context, params SessionListParams, opts ...CallOption) (*List[Session], error) {
	return list[Session](ctx, s.client, transport.SessionsList, params, opts)
}

// All iterates over all sessions, newest first, page by page.
//
// GET /sessions
func (s *SessionsService) All(ctx context.Context, params SessionListParams, opts ...CallOption) iter.Seq2[*Session, error] {
	return all[Session](ctx, s.client, transport.SessionsList, params, opts)
}

// Delete ends a session and returns it.
//
// DELETE /sessions/{id}
func (s *SessionsService) Delete(ctx context.Context, id ID, opts ...CallOption) (*Session, error) {
	return do[Session](ctx, s.client, request{op: transport.SessionsDelete, id: id}, opts)
}

// Watch yields the session at each change of its state, and ends when it is
// terminal. A session that failed or expired is yielded with a *StateError.
func (s *SessionsService) Watch(ctx context.Context, id ID, opts ...CallOption) iter.Seq2[*Session, error] {
	return s.client.waits.sessions.watch(ctx, id, nil, opts)
}

// Wait returns the session once it is active. A session that failed or expired
// comes with a *StateError: errors.Is(err, ErrCodeRequired) asks for a code.
// The last session seen
// is returned whatever the error, nil if there was none.
func (s *SessionsService) Wait(ctx context.Context, id ID, opts ...CallOption) (*Session, error) {
	return last(s.Watch(ctx, id, opts...))
}

func sessionStatus(s *Session) watch.Status {
	st := watch.Status{ID: string(s.ID), State: string(s.State), Version: string(s.State), Terminal: s.State.Terminal()}
	if st.Terminal {
		st.Progress = over
	}
	if st.Terminal && s.State != SessionActive {
		st.Err = &StateError{Resource: "session", ID: s.ID, State: string(s.State), Code: s.Error}
	}
	return st
}

// apply takes over what the end of the session's own task says.
func (s *Session) apply(task *Task) {
	if s.State != SessionPending {
		return
	}
	s.State, s.Error = SessionActive, task.Error
	if task.State == TaskFailed {
		s.State = SessionFailed
	}
}

// CodeChallenge is a two-factor code that is asked for.
type CodeChallenge struct {
	Attempt int      // 1 for the first code, 2 after a wrong one, and so on
	Session *Session // the session that ended in code-required
}

// MaxCodeAttempts is how many codes Login asks for before it gives up with
// ErrCodeRequired: further wrong codes can lock the account.
const MaxCodeAttempts = 3

const maxAwait = 10 * time.Second // contract §1.7

// Login creates a session and waits until it is active. Where the account asks
// for a two-factor code, code is called, and a new session is created with
// what it returns; after a wrong code it is called again, at most
// MaxCodeAttempts times. A nil code gives up at the first challenge, with
// ErrCodeRequired.
//
// When the outcome of a create is unknown, Login looks for the session it may
// have made and goes on with that. If there is none, it returns the *CallError
// and leaves it to the caller to log in to a real account a second time.
//
// Login returns the last session it saw whatever the error, nil if it saw none.
// An error of code or of ctx ends it at once; one of ctx within a create, whose
// answer the API holds back for up to 10 seconds, leaves its outcome unknown. A backend that gets the code in a later request
// calls Create and Wait itself: but for that search, Login does nothing else.
func (s *SessionsService) Login(
	ctx context.Context, params SessionCreateParams,
	code func(context.Context, CodeChallenge) (Secret, error), opts ...CallOption,
) (*Session, error) {
	opts = slices.Concat([]CallOption{WithAwait(maxAwait)}, opts)
	var session *Session
	var known []ID
	for attempt := 1; ; attempt++ {
		created, err := s.createOnce(ctx, params, known, opts)
		if err != nil {
			return session, err
		}
		known = append(known, created.ID)
		session, err = last(s.client.waits.sessions.watch(ctx, created.ID, created, nil))
		if err == nil || !errors.Is(err, ErrCodeRequired) || code == nil {
			return session, err
		}
		if attempt > MaxCodeAttempts {
			return session, fmt.Errorf("ricloud: Sessions.Login: %d codes were refused: %w", MaxCodeAttempts, err)
		}
		answer, err := code(ctx, CodeChallenge{Attempt: attempt, Session: session})
		if err == nil && answer == "" {
			err = invalid("code", "is empty")
		}
		if err != nil {
			return session, fmt.Errorf("ricloud: Sessions.Login: asking for code %d: %w", attempt, err)
		}
		params.Payload.Code = answer
	}
}
