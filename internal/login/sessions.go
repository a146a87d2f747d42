package login

import (
	"context"
	"slices"
	"strings"
	"sync"

	"github.com/reincubate/ricloud-go/internal/backoff"
)

// SameName reports whether two names that the API may trim or write in another
// case are the same.
func SameName(a, b string) bool { return normal(a) == normal(b) }

func normal(name string) string { return strings.ToLower(strings.TrimSpace(name)) }

// Account is what logins log in to.
type Account struct {
	User, Type string
	Identifier string // empty for Relay, whose sessions are not searched for
}

func (a Account) key() Account {
	a.Identifier = normal(a.Identifier)
	return a
}

// maxKnown is how many sessions are remembered.
const maxKnown = 4096

// Sessions are the sessions that a client's own creates have returned or found:
// no other login's search may take them. It remembers the last 4096. It is safe
// for concurrent use; the zero value is ready for use.
type Sessions struct {
	mu    sync.Mutex
	known map[string]bool
	order []string
	turns map[Account]*turn
	// creating are the creates in progress. Each channel is closed at the end.
	creating map[Account][]chan struct{}
}

// Begin notes a create. The caller calls done at its end, after Add.
func (s *Sessions) Begin(account Account) (done func()) {
	if account.Identifier == "" {
		return func() {}
	}
	key, ended := account.key(), make(chan struct{})
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.creating == nil {
		s.creating = map[Account][]chan struct{}{}
	}
	s.creating[key] = append(s.creating[key], ended)
	return func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		close(ended)
		left := slices.DeleteFunc(s.creating[key], func(c chan struct{}) bool { return c == ended })
		if s.creating[key] = left; len(left) == 0 {
			delete(s.creating, key)
		}
	}
}

// Settle waits until the creates for an account that are in progress have ended.
func (s *Sessions) Settle(ctx context.Context, account Account) error {
	s.mu.Lock()
	creating := slices.Clone(s.creating[account.key()])
	s.mu.Unlock()
	for _, ended := range creating {
		select {
		case <-ended:
		case <-ctx.Done():
			return backoff.Cause(ctx)
		}
	}
	return nil
}

// turn is held by the login that creates a session for an account.
type turn struct {
	held  chan struct{}
	users int // that hold it or wait for it
}

// Turn waits until no other login creates a session for the account. done ends
// the turn.
func (s *Sessions) Turn(ctx context.Context, account Account) (done func(), err error) {
	if account.Identifier == "" {
		return func() {}, nil
	}
	key := account.key()
	s.mu.Lock()
	t := s.turns[key]
	if t == nil {
		t = &turn{held: make(chan struct{}, 1)}
		if s.turns == nil {
			s.turns = map[Account]*turn{}
		}
		s.turns[key] = t
	}
	t.users++
	s.mu.Unlock()
	leave := func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		if t.users--; t.users == 0 {
			delete(s.turns, key)
		}
	}
	select {
	case t.held <- struct{}{}:
		return func() {
			<-t.held
			leave()
		}, nil
	case <-ctx.Done():
		leave()
		return nil, backoff.Cause(ctx)
	}
}

// Add remembers a session and reports whether it is new.
func (s *Sessions) Add(id string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.known[id] {
		return false
	}
	if s.known == nil {
		s.known = map[string]bool{}
	}
	s.known[id] = true
	s.order = append(s.order, id)
	if len(s.order) > maxKnown {
		delete(s.known, s.order[0])
		s.order = s.order[1:]
	}
	return true
}

// Has reports whether a session is remembered.
func (s *Sessions) Has(id string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.known[id]
}
