package ricloud

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/reincubate/ricloud-go/internal/backoff"
	"github.com/reincubate/ricloud-go/internal/login"
	"github.com/reincubate/ricloud-go/internal/transport"
	"github.com/reincubate/ricloud-go/internal/watch"
)

// CodeChallenge describes a two-factor code that the account asks for.
type CodeChallenge struct {
	Attempt  int      // the number of this code, from 1
	Rejected bool     // the code that was sent before was not accepted
	Session  *Session // the session that failed because a code is required
}

// MaxCodeAttempts is how many codes Login asks for before it gives up with
// ErrCodeRejected. More wrong codes can lock the account.
const MaxCodeAttempts = 3

const maxAwait = 10 * time.Second // the API's limit

// Login creates a session and waits until it is active. If the account asks for
// a two-factor code, Login calls code and creates a new session with what it
// returns. After a wrong code it calls code again, at most MaxCodeAttempts
// times in all. If code is nil, Login ends at the first challenge with
// ErrCodeRequired.
//
// When the outcome of a create is unknown, Login calls Find for up to half a
// minute and continues with the session that the create made. If it finds none,
// it returns the *CallError and does not try again, because a second login may
// prompt the account's owner again. The Logins of a client to one source take
// turns until the session of each is known.
//
// With an error, Login still returns the last session it saw, or nil if it saw
// none. It ends at once with an error of code or of ctx. The API holds the answer
// to a create back for up to 10 seconds, so a ctx that ends sooner has nothing sent,
// unless WithAwait asks for less. If ctx ends during a create, the outcome is unknown
// and Login does not search: call Find later.
//
// Login uses only Create, Wait and Find. A backend that gets the code in a
// later request calls Create and Wait itself, and Find after a create of
// unknown outcome.
func (s *SessionsService) Login(
	ctx context.Context, params SessionCreateParams,
	code func(context.Context, CodeChallenge) (Secret, error), opts ...CallOption,
) (*Session, error) {
	opts = slices.Concat([]CallOption{WithAwait(maxAwait)}, opts)
	var session *Session
	for attempt := 1; ; attempt++ {
		created, err := s.createOnce(ctx, params, opts)
		if err != nil {
			return session, err
		}
		session, err = last(
			clientFor(s).waits.sessions.watch(ctx, "Sessions.Login", created.ID, created, nil),
		)
		sent := params.code() != ""
		err = withCodeSent(err, sent)
		if err == nil || !errors.Is(err, ErrCodeRequired) || code == nil {
			return session, err
		}
		if attempt > MaxCodeAttempts {
			return session, fmt.Errorf(
				"ricloud: Sessions.Login: %d codes were not accepted: %w", MaxCodeAttempts, err,
			)
		}
		challenge := CodeChallenge{Attempt: attempt, Rejected: sent, Session: session}
		params.Payload.Code, err = code(ctx, challenge)
		if err == nil && params.code() == "" {
			err = invalid("code", "is empty")
		}
		if err != nil {
			return session, fmt.Errorf(
				"ricloud: Sessions.Login: asking for code %d: %w", attempt, err,
			)
		}
	}
}

// withCodeSent notes in a *StateError that the login had a code: if a code is
// required again, that one was wrong.
func withCodeSent(err error, sent bool) error {
	state, ok := errors.AsType[*StateError](err)
	if !ok || !sent {
		return err
	}
	c := *state
	c.CodeSent = true
	return &c
}

// createOnce is Create for Login. When the outcome is unknown it looks for the
// session that was created nevertheless. It does not take one of an earlier round of
// this Login: Create has remembered those.
//
// The Logins of a client to one source take turns here, until the session of
// each is known: a search could not tell their sessions apart.
func (s *SessionsService) createOnce(
	ctx context.Context, params SessionCreateParams, opts []CallOption,
) (*Session, error) {
	done, err := clientFor(s).waits.logins.Turn(ctx, params.Source.account())
	if err != nil {
		return nil, &CallError{Operation: "Sessions.Login", Err: err, notSent: true}
	}
	defer done()
	began := time.Now()
	session, err := s.Create(ctx, params, opts...)
	call, ok := errors.AsType[*CallError](err)
	// Without an identifier (Relay), it is not known which device's session it is.
	unknown := ok && call.MaybeApplied()
	if !unknown || params.Source.Identifier == "" || ctx.Err() != nil {
		return session, err
	}
	find := SessionFindParams{Source: params.Source, Since: began}
	for {
		found, findErr := s.Find(ctx, find)
		switch {
		case findErr == nil && clientFor(s).waits.logins.Add(string(found.ID)):
			return found, nil
		case findErr == nil: // another Login has taken it since
			find.Known = append(find.Known, found.ID)
		case errors.Is(findErr, ErrNotFound):
			return nil, fmt.Errorf("%w; Sessions.Login searched for the session and found none", err)
		default:
			return nil, errors.Join(err, findErr)
		}
	}
}

// SessionFindParams says which session Find looks for.
type SessionFindParams struct {
	// Source is what was given to Create. User, Type and Identifier are
	// required. Find cannot be used for Relay, whose sources have no
	// Identifier.
	Source SourceParams
	// Since is the time just before Create was called, by this machine's clock.
	// Find allows for the difference to the API's clock. It is required.
	Since time.Time
	// Known are the sessions of other logins to the same source. Find does not
	// return them.
	Known []ID
}

func (p SessionFindParams) check() error {
	switch {
	case p.Since.IsZero():
		return invalid("Since", "is required")
	case p.Since.After(time.Now()):
		return invalid("Since", "is in the future; it is the time just before Create was called")
	}
	err := required(
		"Source.User", string(p.Source.User), "Source.Type", string(p.Source.Type),
		"Source.Identifier", p.Source.Identifier,
	)
	if err == nil && p.Source.Type == SourceRelayInstance {
		err = invalid("Source.Type", "is Relay, whose sessions cannot be told apart")
	}
	return err
}

// looks is how often Find looks, at 0, 1, 3, 7, 15 and 31 times the shortest
// interval of WithPolling: lists can lag behind a create.
const looks = 6

// Find looks for the session that a Create of unknown outcome has made, so that
// no second login prompts the account's owner. It returns the newest session on
// the source that was created since params.Since, except those in params.Known
// and those that the Client's other creates returned. It looks at the newest 100
// on each source. The session may be in any state: call Wait.
//
// errors.Is(err, ErrNotFound) means that no list showed such a session for half
// a minute, plus the time that the answers take: the API most probably did not
// act on the create. After any other error, the outcome is still unknown: the
// lists could not be read, or the date of a session was missing or could not be
// compared.
//
// Find ignores case and surrounding spaces when it compares identifiers. It
// estimates the difference between the API's clock and this machine's from the
// Date headers of all answers; without one, it takes the clocks to agree, and a
// session that is dated up to a day before params.Since leaves the outcome
// unknown. The estimate is uncertain by about the time that an answer takes. So
// Find may return a session that another process created just before
// params.Since, by less than that time. Find waits for the creates of this Client on the same
// source that are in progress, and does not return what they make.
//
// Find searches up to 6 times, within 31 seconds by default (31 times the
// shortest interval of WithPolling) plus the time that the answers take. A new
// Client may search up to 6 more times to measure the API's clock. A search takes
// one request, and the first and the last take one or two more. None of them is
// retried.
//
// GET /sources, GET /sessions
func (s *SessionsService) Find(
	ctx context.Context, params SessionFindParams, opts ...CallOption,
) (*Session, error) {
	if err := params.check(); err != nil {
		return nil, forOperation("Sessions.Find", err)
	}
	search := search{sessions: s, params: params, opts: slices.Concat(opts, []CallOption{oneAttempt})}
	var failure error // of the last look
	pause := clientFor(s).waits.sessions.rhythm.Shortest
	for n := range looks {
		if n > 0 {
			if err := backoff.Sleep(ctx, pause); err != nil {
				return nil, errors.Join(err, failure)
			}
			pause *= 2
		}
		if n == looks-1 {
			search.sources = nil // there may be a new one by now
		}
		var session *Session
		session, failure = search.look(ctx)
		if session != nil {
			return session, nil
		}
		verdict := watch.Retry
		if failure != nil {
			verdict = clientFor(s).waits.sessions.Classify(failure)
		}
		if verdict != watch.Retry && verdict != watch.Missing { // a list may be missing for a while
			break
		}
	}
	switch {
	case failure == nil:
		return nil, fmt.Errorf("ricloud: Sessions.Find: no list showed the session: %w", ErrNotFound)
	case errors.Is(failure, ErrNotFound): // it is the list that was not found
		return nil, &CallError{
			Operation: "Sessions.Find",
			Err:       errors.New("the lists cannot be read: " + failure.Error()),
		}
	}
	return nil, renamed("Sessions.Find", failure)
}

// maxClockError is how far a clock may be wrong that nothing is known of: a day
// is more than the difference of any two time zones that clocks are set to.
const maxClockError = 24 * time.Hour

// search looks for a session. Its requests are not retried: Find is the loop.
type search struct {
	sessions *SessionsService
	params   SessionFindParams
	opts     []CallOption
	sources  []ID // that the login can have used; nil: not known yet
}

// look looks once for a session that no other create of the Client returns.
func (f *search) look(ctx context.Context) (*Session, error) {
	logins := clientFor(f.sessions).waits.logins
	for {
		session, err := f.lookClosely(ctx)
		if session == nil || err != nil {
			return nil, err
		}
		// A create in progress may be about to return it.
		if err := logins.Settle(ctx, f.params.Source.account()); err != nil {
			return nil, err
		}
		if !logins.Has(string(session.ID)) {
			return session, nil
		}
	}
}

// lookClosely looks once. If it depends on the API's clock whether the newest
// session is a later one, it looks again when that shows more of the clock.
func (f *search) lookClosely(ctx context.Context) (*Session, error) {
	clock, since := clientFor(f.sessions).clock, f.params.Since
	for range looks {
		newest, err := f.newest(ctx)
		if newest == nil || err != nil {
			return nil, err
		}
		now := time.Now()
		least, most := clock.Ahead(now)
		if most-least < login.Exact || !newest.DateCreated.Before(since.Add(most)) {
			return newest, nil
		}
		if err := backoff.Sleep(ctx, login.Pause(now, least, most)); err != nil {
			return nil, err
		}
	}
	return f.newest(ctx)
}

// newest returns the newest session on the source that is not known to be of
// another login, or nil.
func (f *search) newest(ctx context.Context) (*Session, error) {
	if len(f.sources) == 0 {
		sources, err := f.sessions.sourcesOf(ctx, f.params.Source, f.opts)
		if err != nil {
			return nil, err
		}
		f.sources = sources
	}
	var newest, undated *Session
	for _, source := range f.sources {
		params := SessionListParams{Source: source, ListParams: ListParams{Limit: 100}}
		read := request{op: transport.SessionsList, list: params, needsList: true}
		page, err := do[List[Session]](ctx, clientFor(f.sessions), read, f.opts)
		if err != nil {
			return nil, err
		}
		for i := range page.Data {
			s := &page.Data[i]
			switch {
			case !f.mayBe(s, source):
			case s.DateCreated.IsZero():
				undated = s
			case newest == nil || s.DateCreated.After(newest.DateCreated):
				newest = s
			}
		}
	}
	found := f.created(newest)
	if found == nil && newest != nil && !clientFor(f.sessions).clock.Known() &&
		f.params.Since.Sub(newest.DateCreated) < maxClockError {
		return nil, &CallError{Operation: "Sessions.Find", Err: fmt.Errorf(
			"session %s is dated earlier, and without a Date header the API's clock may be behind",
			quote(newest.ID, maxWord))}
	}
	if found == nil && undated != nil {
		return nil, &DecodeError{
			Operation: "Sessions.List", Path: "data[].date_created",
			Err: fmt.Errorf("without it, session %s may be an earlier login's", quote(undated.ID, maxWord)),
		}
	}
	return found, nil
}

// created returns s if it may have been created since the login began, else nil.
func (f *search) created(s *Session) *Session {
	if s == nil {
		return nil
	}
	latest := s.DateCreated
	if latest.Nanosecond() == 0 { // the API may cut it to the second
		latest = latest.Add(time.Second - 1)
	}
	least, _ := clientFor(f.sessions).clock.Ahead(time.Now())
	if latest.Before(f.params.Since.Add(least)) {
		return nil
	}
	return s
}

// mayBe reports whether a session on a source may be the one that is looked for,
// as far as it says. An API that does not know the filter also lists others.
func (f *search) mayBe(s *Session, source ID) bool {
	wanted := f.params.Source
	return !slices.Contains(f.params.Known, s.ID) &&
		!clientFor(f.sessions).waits.logins.Has(string(s.ID)) &&
		isOrUnknown(s.Source.ID, source) && isOrUnknown(s.User, wanted.User) &&
		isOrUnknown(s.Source.Identifier, wanted.Identifier)
}

// isOrUnknown reports whether a name that the API sent is the wanted one, or is
// missing.
func isOrUnknown[S ~string](name, wanted S) bool {
	return name == "" || login.SameName(string(name), string(wanted))
}

// sourcesOf returns the sources that a login to source can have used. The API
// may write an identifier in another way than it was given, so that its own
// filter does not find it.
func (s *SessionsService) sourcesOf(
	ctx context.Context, source SourceParams, opts []CallOption,
) (ids []ID, err error) {
	for _, identifier := range []string{source.Identifier, ""} {
		params := SourceListParams{User: source.User, Identifier: identifier}
		read := request{op: transport.SourcesList, list: params, needsList: true}
		for found, err := range paginate[Source](ctx, clientFor(s), read, opts) {
			if err != nil {
				return nil, err
			}
			if found.Type == source.Type && isOrUnknown(found.User, source.User) &&
				login.SameName(found.Identifier, source.Identifier) {
				ids = append(ids, found.ID)
			}
		}
		if len(ids) > 0 {
			break
		}
	}
	return ids, nil
}
