package ingest

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"runtime/debug"
	"slices"
	"strings"
	"time"

	ricloud "github.com/reincubate/ricloud-go"
)

// login logs in to an account.
func (l *leader) login(ctx context.Context, r *stored, code ricloud.Secret) error {
	if r.User == "" {
		turn, err := l.turn(ctx)
		if err != nil {
			return err
		}
		user, err := l.client.Users.Create(turn, ricloud.UserCreateParams{Identifier: r.Account.Key})
		if err != nil {
			return err
		}
		r.User = user.ID
	}
	password, err := l.secretOf(ctx, r.Account.Key)
	if err != nil {
		return err
	}
	note, codes := "", r.Codes
	if !code.IsZero() {
		r.Codes++
		note = fmt.Sprintf("with code %d", r.Codes)
	}
	from := r.State
	create, cancel, err := l.begin(ctx, r, LoggingIn, note)
	if err != nil {
		r.Codes = codes
		return err
	}
	defer cancel()
	source := r.Account.Source
	source.User = r.User
	session, err := l.client.Sessions.Create(create, ricloud.SessionCreateParams{
		Source: source, Payload: ricloud.SessionPayload{Password: password, Code: code},
	})
	err = masked(err, password, code)
	if mayBeApplied(err) {
		return l.unknown(ctx, r, err)
	}
	if _, unsent := errors.AsType[*ricloud.ParamError](err); unsent {
		r.Codes = codes
		err = errors.New("the password or the code cannot be sent: " + err.Error()) // not final
	}
	if err != nil {
		r.State = from
		return err
	}
	return l.adopt(ctx, r, session, "")
}

// secretOf asks for a password, within a time. The text of an error holds no password. That of a
// panic leaves out its value, which may hold it.
func (l *leader) secretOf(ctx context.Context, key string) (ricloud.Secret, error) {
	ctx, cancel := context.WithTimeout(ctx, secretTimeout)
	defer cancel()
	type answer struct {
		password ricloud.Secret
		failed   error
	}
	a, err := call(ctx, l.runner, &l.secretCalls, secretTimeout+callbackGrace, func() (a answer) {
		defer func() {
			if p := recover(); p != nil {
				a.failed = fmt.Errorf("Handlers.Secret: it panicked with a %T", p)
				l.log(ctx, "Handlers.Secret panicked", slog.String("account", key),
					slog.String("stack", string(debug.Stack())))
			}
		}()
		password, err := l.h.Secret(ctx, key)
		if err == nil && strings.TrimSpace(password.Reveal()) == "" {
			err = errors.New("it returned an empty password")
		}
		if err != nil { // its methods are the user's; an API's error says nothing of the account
			a.failed = errors.New("Handlers.Secret: " + maskedText(err.Error(), password))
		}
		a.password = password
		return a
	})()
	if err != nil {
		return a.password, fmt.Errorf("Handlers.Secret %w", err)
	}
	return a.password, a.failed
}

// adopt records a session as the account's.
func (l *leader) adopt(
	ctx context.Context, r *stored, session *ricloud.Session, note string,
) error {
	r.progress()
	r.Session = session.ID
	r.Known = append(r.Known, session.ID)
	r.Known = slices.Clone(r.Known[max(0, len(r.Known)-maxKnown):])
	if session.State.Ended() {
		r.State = Connecting
		return l.connected(ctx, r, session)
	}
	return l.saveMade(ctx, r, Connecting, note)
}

// findLogin looks for the session of a login whose outcome is not known.
func (l *leader) findLogin(ctx context.Context, r *stored) error {
	session, err := l.findSession(ctx, r)
	if err != nil {
		if isFinal(err) {
			return dead(Submitted, "a login was begun, and whether it was made cannot be found out: %v; "+
				"look for a session of the account, then Retry, which logs in again", err)
		}
		return err
	}
	if session != nil {
		return l.adopt(ctx, r, session, "found after a login of unknown outcome")
	}
	return l.notFound(ctx, r, Submitted, "login")
}

// findSession returns the newest session of the account that was made since the
// login was begun and is not known yet, or nil.
func (l *leader) findSession(ctx context.Context, r *stored) (*ricloud.Session, error) {
	sessions, ok, err := l.newSessions.read(ctx, l, r, l.sessionList,
		func(s *ricloud.Session) (ricloud.Session, ricloud.ID, time.Time) {
			l.observeSession(s)
			return *s, s.ID, s.DateCreated
		})
	if err != nil {
		return nil, err
	}
	if ok {
		if newest, certain := newestOf(sessions, r); certain {
			return newest, nil
		}
	}
	return l.findSessionAlone(ctx, r)
}

// newestOf returns the account's newest session among those of all accounts. certain is false if
// one does not say whose it is, as those of older APIs.
func newestOf(sessions []ricloud.Session, r *stored) (newest *ricloud.Session, certain bool) {
	want, since := r.Account.Source, r.Begun.Add(-clockSkew)
	for i := range sessions {
		s := &sessions[i]
		of := s.Source
		if !s.DateCreated.IsZero() && s.DateCreated.Before(since) ||
			slices.Contains(r.Known, s.ID) || !isOrUnknown(s.User, r.User) ||
			of.Type != "" && of.Type != want.Type ||
			of.Identifier != "" && !sameIdentifier(of.Identifier, want.Identifier) {
			continue
		}
		if s.User == "" || of.Type == "" || of.Identifier == "" {
			return nil, false
		}
		if newest == nil || s.DateCreated.After(newest.DateCreated) {
			newest = s
		}
	}
	return newest, true
}

// findSessionAlone is findSession with lists of the account's own.
func (l *leader) findSessionAlone(ctx context.Context, r *stored) (*ricloud.Session, error) {
	const page = 100
	var newest *ricloud.Session
	want := r.Account.Source
	turn, err := l.turn(ctx)
	if err != nil {
		return nil, err
	}
	for source, err := range l.client.Sources.All(turn, ricloud.SourceListParams{User: r.User}) {
		if err != nil {
			return nil, err
		}
		if source.Type != want.Type || !sameIdentifier(source.Identifier, want.Identifier) ||
			!isOrUnknown(source.User, r.User) {
			continue
		}
		since, earlier := r.Begun.Add(-clockSkew), 0
		params := ricloud.SessionListParams{
			Source: source.ID, ListParams: ricloud.ListParams{Limit: page},
		}
		for s, err := range l.client.Sessions.All(ctx, params) {
			if err != nil {
				return nil, err
			}
			if !s.DateCreated.IsZero() && s.DateCreated.Before(since) {
				// The newest come first: after a page of earlier ones there are no more.
				if earlier++; earlier == page {
					break
				}
				continue
			}
			if !slices.Contains(r.Known, s.ID) && isOf(s, r.User, source) &&
				(newest == nil || s.DateCreated.After(newest.DateCreated)) {
				newest = s
			}
		}
	}
	return newest, nil
}

// isOf reports whether a session may be the user's on a source, as far as it says.
// An API that does not know the filter also lists others.
func isOf(s *ricloud.Session, user ricloud.ID, source *ricloud.Source) bool {
	return isOrUnknown(s.User, user) && isOrUnknown(s.Source.ID, source.ID) &&
		(s.Source.Identifier == "" || sameIdentifier(s.Source.Identifier, source.Identifier))
}

// isOrUnknown reports whether an id that the API sent is the wanted one, or is missing.
func isOrUnknown(id, wanted ricloud.ID) bool { return id == "" || id == wanted }

// sameIdentifier compares account names as services do: the API may have
// trimmed one, or lower-cased it.
func sameIdentifier(a, b string) bool {
	return strings.EqualFold(strings.TrimSpace(a), strings.TrimSpace(b))
}

// connected continues once the API has ended the login of a session, well or not.
func (l *leader) connected(ctx context.Context, r *stored, session *ricloud.Session) error {
	failed := &ricloud.StateError{
		Resource: "session", ID: session.ID, State: string(session.State),
		Code: session.Error,
	}
	switch {
	case session.State == ricloud.SessionActive:
		r.progress()
		r.Codes = 0
		r.State = Connected
		return l.request(ctx, r)
	case errors.Is(failed, ricloud.ErrCodeRequired) && r.Codes >= maxCodes:
		return dead(Submitted, "%d codes were refused: more could lock the account", r.Codes)
	case errors.Is(failed, ricloud.ErrCodeRequired):
		r.progress()
		return l.saveStep(ctx, r, CodeNeeded, "")
	case session.State == ricloud.SessionExpired:
		return l.loginAgain(ctx, r, "the session has expired")
	}
	return dead(Submitted, "the login failed: %v", failed)
}

// loginAgain logs in anew after a session that was good has ended.
func (l *leader) loginAgain(ctx context.Context, r *stored, why string) error {
	r.Failures++
	if r.Failures > maxExpired {
		return dead(Submitted, "%s, %d times in a row", why, r.Failures)
	}
	r.Due = time.Now().UTC().Add(firstRetry << r.Failures)
	return l.saveStep(ctx, r, Submitted, why)
}
