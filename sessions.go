package ricloud

import (
	"context"
	"encoding/json"
	"iter"
	"net/url"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/reincubate/ricloud-go/internal/login"
	"github.com/reincubate/ricloud-go/internal/transport"
)

// Session is access to a source.
type Session struct {
	ID           ID           `json:"id" wire:"strict"`
	Organisation ID           `json:"organisation"`
	Key          ID           `json:"key,omitempty"`
	User         ID           `json:"user"`
	Source       Source       `json:"source"` // older APIs give its ID only
	State        SessionState `json:"state" wire:"strict"`
	Error        ErrorCode    `json:"error,omitempty"` // why it failed or expired
	DateCreated  time.Time    `json:"date_created,omitzero"`
	DateExpired  time.Time    `json:"date_expired,omitzero"`
}

func (s *Session) ident() (kind string, id ID) { return "session", s.ID }

// SessionState is the state of a session. The API may send states that this
// package does not know.
type SessionState string

// The states of a session.
const (
	SessionPending SessionState = "pending"
	SessionActive  SessionState = "active" // also where the API says "succeeded"
	SessionFailed  SessionState = "failed"
	SessionExpired SessionState = "expired"
)

// UnmarshalJSON reads a state. The older word "succeeded" reads as
// SessionActive.
func (s *SessionState) UnmarshalJSON(b []byte) error {
	err := json.Unmarshal(b, (*string)(s))
	if *s == "succeeded" {
		*s = SessionActive
	}
	return err
}

// Ended reports whether a wait for the session is over: the session is active,
// or it failed or expired and will never be active.
func (s SessionState) Ended() bool {
	return s == SessionActive || s == SessionFailed || s == SessionExpired
}

// Why a session expired, in Session.Error.
const (
	ExpiredByService      ErrorCode = "service"      // the third party ended it, or a new password
	ExpiredByAPI          ErrorCode = "api"          // it was not used for a long time
	ExpiredByOrganisation ErrorCode = "organisation" // you ended it
	ExpiredByAdmin        ErrorCode = "admin"        // the API's administrators ended it
)

// SourceParams names the source that a session logs in to.
type SourceParams struct {
	User       ID         `json:"user"`                 // required
	Type       SourceType `json:"type"`                 // required
	Identifier string     `json:"identifier,omitempty"` // an account's username; not for Relay
}

func (p SourceParams) account() login.Account {
	return login.Account{User: string(p.User), Type: string(p.Type), Identifier: p.Identifier}
}

// SessionPayload holds the credentials that the source asks for. An iCloud
// account asks for its password and, with two-factor authentication, for a
// code. Relay asks for its pairing code.
type SessionPayload struct {
	Password Secret // sent as it is; it must be valid UTF-8
	Code     Secret // spaces, and the dashes between digits, are not sent
}

// SessionCreateParams describes a session.
type SessionCreateParams struct {
	Source  SourceParams
	Payload SessionPayload
}

func (p SessionCreateParams) check() error {
	err := required("Source.User", string(p.Source.User), "Source.Type", string(p.Source.Type))
	if err != nil {
		return err
	}
	for _, text := range []struct{ field, value string }{
		{"Source.Identifier", p.Source.Identifier},
		{"Payload.Password", p.Payload.Password.Reveal()},
		{"Payload.Code", p.Payload.Code.Reveal()},
	} {
		if !utf8.ValidString(text.value) {
			return invalid(text.field, "is not valid UTF-8; JSON cannot carry it unchanged")
		}
	}
	code := p.code()
	if !p.Payload.Code.IsZero() && code == "" {
		return invalid("Payload.Code", "holds only blanks")
	}
	switch p.Source.Type {
	case SourceICloudAccount:
		return required(
			"Source.Identifier", p.Source.Identifier, "Payload.Password", p.Payload.Password.Reveal(),
		)
	case SourceRelayInstance:
		return required("Payload.Code", code)
	default:
		return nil
	}
}

// code returns the code as it is sent.
func (p SessionCreateParams) code() string {
	return cleanCode(p.Payload.Code.Reveal(), p.Source.Type != SourceRelayInstance)
}

// cleanCode removes what may be pasted together with a code: spaces, line ends
// and invisible characters. It writes digits of any script as ASCII. If dashes
// is set, it also removes dashes between digits. It is not set for Relay, whose
// codes are not documented.
func cleanCode(code string, dashes bool) string {
	code = strings.Map(func(r rune) rune {
		switch {
		case unicode.IsSpace(r), unicode.Is(unicode.Cc, r), unicode.Is(unicode.Cf, r):
			return -1
		case unicode.IsDigit(r):
			return '0' + digit(r)
		}
		return r
	}, code)
	digits := strings.Map(func(r rune) rune {
		if unicode.Is(unicode.Pd, r) || r == '\u2212' { // a minus sign
			return -1
		}
		return r
	}, code)
	if dashes && strings.Trim(digits, "0123456789") == "" {
		return digits
	}
	return code
}

// digit returns the value of a decimal digit of any script. Each range of the
// table begins at a zero and holds whole tens.
func digit(r rune) rune {
	for _, tens := range unicode.Nd.R16 {
		if rune(tens.Lo) <= r && r <= rune(tens.Hi) {
			return (r - rune(tens.Lo)) % 10
		}
	}
	for _, tens := range unicode.Nd.R32 {
		//nolint:gosec // a code point is a rune
		if lo, hi := rune(tens.Lo), rune(tens.Hi); lo <= r && r <= hi {
			return (r - lo) % 10
		}
	}
	return r - '0'
}

func (p SessionCreateParams) secrets() []Secret {
	return []Secret{p.Payload.Password, p.Payload.Code, NewSecret(p.code())}
}

func (p SessionCreateParams) wire() any {
	type payload struct {
		Password string `json:"password,omitempty"`
		Code     string `json:"code,omitempty"`
	}
	return struct {
		Source  SourceParams `json:"source"`
		Payload payload      `json:"payload"`
	}{p.Source, payload{p.Payload.Password.Reveal(), p.code()}}
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

// Create begins a session. It usually returns while the session is still
// pending. A nil error does not mean that the login succeeded: call Wait. With
// WithAwait the API holds its answer back until the session is active or has
// failed, for at most 10 seconds.
//
// Create is never sent twice, because each one may prompt the account's owner.
// When the outcome is unknown, CallError.MaybeApplied reports true: call Find
// before you create another.
//
// POST /sessions
func (s *SessionsService) Create(
	ctx context.Context, params SessionCreateParams, opts ...CallOption,
) (*Session, error) {
	logins := clientFor(s).waits.logins
	defer logins.Begin(params.Source.account())()
	r := request{op: transport.SessionsCreate, body: params}
	session, err := do[Session](ctx, clientFor(s), r, opts)
	if err == nil {
		logins.Add(string(session.ID))
		clientFor(s).waits.sessions.hub.Know(session)
	}
	return session, err
}

// Get returns a session.
//
// GET /sessions/{id}
func (s *SessionsService) Get(
	ctx context.Context, id ID, opts ...CallOption,
) (*Session, error) {
	session, err := do[Session](ctx, clientFor(s), request{op: transport.SessionsGet, id: id}, opts)
	if err == nil {
		clientFor(s).waits.sessions.hub.Refresh(string(id), session)
	}
	return session, err
}

// List returns one page of sessions, newest first.
//
// GET /sessions
func (s *SessionsService) List(
	ctx context.Context, params SessionListParams, opts ...CallOption,
) (*List[Session], error) {
	return list[Session](ctx, clientFor(s), transport.SessionsList, params, opts)
}

// All iterates over all sessions, newest first, page by page.
//
// GET /sessions
func (s *SessionsService) All(
	ctx context.Context, params SessionListParams, opts ...CallOption,
) iter.Seq2[*Session, error] {
	return all[Session](ctx, clientFor(s), transport.SessionsList, params, opts)
}

// Delete ends a session and returns it.
//
// DELETE /sessions/{id}
func (s *SessionsService) Delete(
	ctx context.Context, id ID, opts ...CallOption,
) (*Session, error) {
	session, err := do[Session](ctx, clientFor(s), request{op: transport.SessionsDelete, id: id}, opts)
	if err == nil {
		clientFor(s).waits.sessions.hub.Deleted(string(id), func(s *Session) {
			s.State, s.Error = SessionExpired, ExpiredByOrganisation
		})
	}
	return session, err
}

// Watch yields the session at each change of its state. It ends when the
// session is active, failed or expired. A session that failed or expired is
// yielded with a *StateError. Wait describes the other errors.
func (s *SessionsService) Watch(
	ctx context.Context, id ID, opts ...CallOption,
) iter.Seq2[*Session, error] {
	return clientFor(s).waits.sessions.watch(ctx, "Sessions.Watch", id, nil, opts)
}

// Wait returns the session once it is active. For a session that failed or
// expired it returns the session and a *StateError:
//
//   - errors.Is(err, ErrCodeRequired) means that the account asks for a
//     two-factor code. If the session was created with a code, that code was
//     wrong.
//   - errors.Is(err, ErrSessionExpired) means that the session was active and
//     has expired since.
//
// Wait tolerates ten minutes of failed reads. With an error, it still returns
// the last session that it saw, or nil if it saw none. docs/waiting.md explains
// what waits cost.
func (s *SessionsService) Wait(
	ctx context.Context, id ID, opts ...CallOption,
) (*Session, error) {
	return last(clientFor(s).waits.sessions.watch(ctx, "Sessions.Wait", id, nil, opts))
}

func (s *Session) stateError() error {
	return &StateError{
		Resource: "session", ID: s.ID, State: string(s.State), Code: s.Error,
		SourceState: s.Source.State,
	}
}

// apply sets the session's state from the end of its own task.
func (s *Session) apply(task *Task) {
	if s.State != SessionPending {
		return
	}
	s.State, s.Error = SessionActive, task.Error
	if task.State == TaskFailed {
		s.State = SessionFailed
	}
}
