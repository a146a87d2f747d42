package ricloudtest

import (
	"slices"
	"strings"

	ricloud "github.com/reincubate/ricloud-go"
	"github.com/reincubate/ricloud-go/ricloudtest/internal/collection"
)

// States returns the states of the contract for a kind of resource, such as "session", or nil for a
// kind that has none.
func States(resource string) []string {
	return map[string][]string{
		"organisation": {stateUnconfigured, stateActive, stateDeactivated, stateBlocked},
		"key":          {stateActive, stateDeactivated, stateBlocked, stateExpired},
		"user":         {stateActive, stateDeactivated, stateBlocked},
		"source": {
			stateUnvalidated, stateActive, stateDeactivated, stateBlocked, stateLocked,
		},
		"session": {statePending, stateActive, stateSucceeded, stateFailed, stateExpired},
		"poll":    {statePending, stateProcessing, stateCompleted, stateFailed},
		"task": {
			statePending, stateProcessing, stateSuspended, stateSucceeded, stateFailed,
		},
		"result":         {stateAvailable, stateConsumed, stateExpired},
		"subscription":   {statePending, stateActive, stateDeleted},
		"event":          {statePending, stateDelivered, stateFailed},
		"storage_config": {stateNew, stateValid, stateInvalid, stateDeactivated},
		"webhook_config": {stateNew, stateValid, stateInvalid, stateDeactivated},
	}[resource]
}

// SetState moves a resource to a state of the contract, with the events that belong to it: a
// session that expires, a task or a poll that ends. The resource is named as in its "resource"
// field, and the ID of the organisation may be empty. It refuses states that only
// the sandbox's own work brings about, such as a task's "succeeded" or a session's "pending".
func (s *Server) SetState(resource string, id ricloud.ID, state string) error {
	states := States(resource)
	if states == nil {
		return refuse("set state: there is no kind of resource %q", resource)
	}
	if !slices.Contains(states, state) {
		return refuse("set state of a %s: there is no state %q; there are %s", resource, state,
			strings.Join(states, ", "))
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	known, set := s.setState(resource, string(id), state)
	switch {
	case !known:
		return refuse("set state: there is no %s %q", resource, id)
	case !set:
		return refuse("set state of %s %s: it cannot become %s by hand", resource, id, state)
	}
	return nil
}

// setState reports whether the resource is known, and whether it was set.
func (s *Server) setState(resource, id, state string) (known, set bool) {
	switch resource {
	case "organisation":
		return true, s.setOrganisation(state)
	case "key":
		return change(s.keys, id, func(k *key) { k.State = state })
	case "user":
		return change(s.users, id, func(u *user) { u.State = state })
	case "source":
		return change(s.sources, id, func(x *source) { x.State = state })
	case "storage_config":
		return change(s.storages, id, func(x *storageConfig) { x.State = state })
	case "webhook_config":
		return change(s.webhooks, id, func(x *webhookConfig) { x.State = state })
	case "event":
		return change(s.events, id, func(e *event) { e.State, e.Dropped = state, state == stateFailed })
	case "subscription":
		return change(s.subscriptions, id, func(x *subscription) {
			if state == stateActive {
				s.activate(x)
			} else {
				x.State = state
			}
		})
	case "session":
		return move(s.sessions, id, state, s.setSession)
	case "poll":
		return move(s.polls, id, state, s.setPoll)
	case "task":
		return move(s.tasks, id, state, s.setTask)
	case "result":
		return move(s.results, id, state, s.setResult)
	}
	return false, false
}

// change sets a state of a resource that can be set to any.
func change[T collection.Entity](
	in *collection.Collection[T], id string, set func(T),
) (known, done bool) {
	x, known := in.Lookup(id)
	if known {
		set(x)
	}
	return known, known
}

// move sets a state that set may refuse.
func move[T collection.Entity](
	in *collection.Collection[T], id, state string, set func(T, string) bool,
) (known, done bool) {
	x, known := in.Lookup(id)
	return known, known && set(x, state)
}

// setOrganisation forces a state, or returns to the one that the configs give.
func (s *Server) setOrganisation(state string) bool {
	switch state {
	case stateDeactivated, stateBlocked:
		s.org.Forced = state
	default:
		s.org.Forced = ""
	}
	return state != stateUnconfigured || !s.configured()
}

func (s *Server) setSession(x *session, state string) bool {
	switch state {
	case stateExpired:
		s.expire(x, "service")
		return x.State == stateExpired
	case stateFailed:
		if x.State == statePending {
			x.State, x.Err = stateFailed, "init_failed"
			x.ended.end()
			return true
		}
	case stateActive, stateSucceeded:
		if x.State == statePending {
			x.State = stateActive
			x.Source.State = stateActive
			x.ended.end()
		}
		return x.State == stateActive
	}
	return false
}

func (s *Server) setPoll(p *poll, state string) bool {
	if p.State == stateCompleted || p.State == stateFailed {
		return p.State == state
	}
	switch state {
	case stateFailed:
		s.endPoll(p, codeInternal)
		return true
	case stateProcessing:
		s.run(p)
		return true
	}
	return false
}

func (s *Server) setTask(t *task, state string) bool {
	if t.ended.done {
		return t.State == state
	}
	switch state {
	case stateFailed:
		s.finish(t, codeInternal)
		return true
	case stateSuspended:
		t.State = stateSuspended
		return true
	case stateProcessing:
		if t.State == stateSuspended {
			s.resume(t, 0)
			return true
		}
	}
	return false
}

func (s *Server) setResult(r *result, state string) bool {
	switch state {
	case stateConsumed:
		s.consume(r)
	case stateExpired:
		s.expireResult(r)
	}
	return r.State == state
}
