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
