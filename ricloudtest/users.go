package ricloudtest

import "github.com/reincubate/ricloud-go/ricloudtest/internal/collection"

type user struct {
	collection.Head

	Key        *key
	Identifier string
	State      string
}

func newUsers() *collection.Collection[*user] {
	return collection.New("user", map[string]collection.Filter[*user]{
		"identifier": {Value: func(u *user) string { return u.Identifier }, Indexed: true},
		"state":      {Value: func(u *user) string { return u.State }},
		"key":        {Value: func(u *user) string { return u.Key.ID }},
	})
}

func (v view) user(u *user) object {
	return object{
		"id": u.ID, "resource": "user", "organisation": v.server.org.ID, "key": u.Key.ID,
		"identifier": u.Identifier, "state": u.State, "date_created": stamp(u.Created),
	}
}

// createUser returns the user with an identifier, and makes it if there is none: 201 for a new user
// and 200 for a known one.
//
// Assumption (user-identity): identifiers are unique in an organisation, whatever the key.
func (s *Server) createUser(c *call) (answerer, error) {
	c.params.require("identifier")
	identifier := c.params.text("identifier")
	k := c.key
	if c.params.has("key") {
		var known bool
		if k, known = s.keys.Lookup(c.params.ref("key")); !known {
			c.params.note("key", "names no key")
		}
	}
	if err := c.params.err(); err != nil {
		return nil, err
	}
	if u, ok := s.users.Find("identifier", identifier); ok {
		return answerWith(view.user, u)
	}
	if err := s.operating(); err != nil {
		return nil, err
	}
	u := &user{Head: s.numbered("user"), Key: k, Identifier: identifier, State: stateActive}
	s.users.Add(u)
	c.created()
	return answerWith(view.user, u)
}

func (s *Server) updateUser(c *call) (answerer, error) {
	u, err := s.users.Get(c.id)
	if err != nil {
		return nil, err
	}
	identifier := c.params.text("identifier")
	state := readState(c.params)
	if other, taken := s.users.Find("identifier", identifier); taken && other != u {
		c.params.note("identifier", "belongs to another user")
	}
	if err := c.params.err(); err != nil {
		return nil, err
	}
	if identifier != "" {
		s.users.Reindex(u, func() { u.Identifier = identifier })
	}
	if state != "" {
		u.State = state
	}
	return answerWith(view.user, u)
}
