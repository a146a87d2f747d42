package ricloud

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"time"

	"github.com/reincubate/ricloud-go/internal/backoff"
)

// lookups is how often Login looks for a session that may have been created,
// the shortest polling interval apart: the API may still be at it.
const lookups = 3

// createOnce is Create for Login. When its outcome is unknown it looks for the
// session that was created all the same, and returns that: another login to
// the same account would prompt its owner again, and may lock it. known are
// the sessions of this Login's earlier rounds. What is not found stays a
// *CallError: a second login is the caller's decision.
func (s *SessionsService) createOnce(ctx context.Context, params SessionCreateParams, known []ID, opts []CallOption) (*Session, error) {
	began := time.Now()
	session, err := s.Create(ctx, params, opts...)
	call, ok := errors.AsType[*CallError](err)
	// Without an identifier (Relay), another device's session cannot be told from this one's.
	if !ok || !call.MaybeApplied() || params.Source.Identifier == "" || ctx.Err() != nil {
		return session, err
	}
	for range lookups {
		found, lookErr := s.createdSince(ctx, params.Source, began, known)
		if found != nil {
			return found, nil
		}
		if lookErr != nil || backoff.Sleep(ctx, s.client.waits.sessions.rhythm.Shortest) != nil {
			return nil, errors.Join(err, lookErr)
		}
	}
	return nil, fmt.Errorf("%w; Sessions.Login looked and found none", err)
}

// createdSince returns the newest session on source that was created after
// began and is not known, or nil.
func (s *SessionsService) createdSince(ctx context.Context, source SourceParams, began time.Time, known []ID) (*Session, error) {
	var newest *Session
	for found, err := range s.client.Sources.All(ctx, SourceListParams{User: source.User, Identifier: source.Identifier}) {
		if err != nil {
			return nil, err
		}
		if found.Type != source.Type || found.Identifier != source.Identifier {
			continue
		}
		var answer Response
		page, err := s.List(ctx, SessionListParams{Source: found.ID}, WithResponse(&answer))
		if err != nil {
			return nil, err
		}
		for i := range page.Data {
			session := &page.Data[i]
			recent := answer.now().Sub(session.DateCreated) <= time.Since(began)
			if recent && !slices.Contains(known, session.ID) && (newest == nil || session.DateCreated.After(newest.DateCreated)) {
				newest = session
			}
		}
	}
	return newest, nil
}

// now is the time of the API's clock, by which it dates resources; where the
// answer does not say, this machine's.
func (r *Response) now() time.Time {
	if date, err := http.ParseTime(r.Header.Get("Date")); err == nil {
		return date
	}
	return time.Now()
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
		session, err = last(s.client.waits.sessions.watch(ctx, "Sessions.Login", created.ID, created, nil))
		if err == nil || !errors.Is(err, ErrCodeRequired) || code == nil {
			return session, err
		}
		if attempt > MaxCodeAttempts {
			return session, fmt.Errorf("ricloud: Sessions.Login: %d codes were refused: %w", MaxCodeAttempts, err)
		}
		answer, err := code(ctx, CodeChallenge{Attempt: attempt, Session: session})
		if err == nil && answer.IsZero() {
			err = invalid("code", "is empty")
		}
		if err != nil {
			return session, fmt.Errorf("ricloud: Sessions.Login: asking for code %d: %w", attempt, err)
		}
		params.Payload.Code = answer
	}
}
