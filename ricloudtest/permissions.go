package ricloudtest

import (
	"maps"
	"slices"
	"strings"

	"github.com/reincubate/ricloud-go/ricloudtest/internal/collection"
)

// Scopes are what a permission allows: from a scope such as "data_type:callkit.*" to the limits on
// it. A scope without limits is unlimited.
type Scopes map[string][]ScopeLimit

// ScopeLimit allows at most Value of something at one level.
//
// Assumption (limits): a limit on a source_type scope counts the sources that were made; limits on
// other scopes count tasks.
type ScopeLimit struct {
	Level string `json:"level"` // organisation, key or user
	Type  string `json:"type"`  // count
	Value int    `json:"value"`
}

type permission struct {
	collection.Head

	Scopes Scopes
}

func newPermissions() *collection.Collection[*permission] {
	return collection.New("permission", map[string]collection.Filter[*permission]{})
}

func (v view) permission(p *permission) object {
	scopes := object{}
	for name, limits := range p.Scopes {
		if limits == nil {
			limits = []ScopeLimit{}
		}
		scopes[name] = limits
	}
	out := object{
		"id": v.number(p.ID), "resource": "permissions", "organisation": v.server.org.ID,
		"scopes": scopes, "date_created": stamp(p.Created),
	}
	if v.arrays() {
		out["resource"] = "permission"
	}
	return out
}

// basePermission writes an organisation's own permissions, which the guide shows in another form.
func (v view) basePermission(p *permission) object {
	out := v.permission(p)
	if v.guide() {
		out["resource"] = "organisation_permissions"
		out["identifier"] = "default"
		delete(out, "organisation")
	}
	return out
}

// createPermission makes a permission and, where "key" names one, applies it to that key.
//
// Assumption (permission-params): a permission is created with "scopes" and, optionally, "key".
func (s *Server) createPermission(c *call) (answerer, error) {
	c.params.require("scopes")
	p := &permission{Scopes: readScopes(c.params)}
	holder, known := s.keys.Lookup(c.params.ref("key"))
	if c.params.has("key") && !known {
		c.params.note("key", "names no key")
	}
	if err := s.checkScopes(c.params, p.Scopes); err != nil {
		return nil, err
	}
	p.Head = s.numbered("permissions")
	s.permissions.Add(p)
	if known {
		holder.Permission = p
	}
	c.created()
	return answerWith(view.permission, p)
}

func (s *Server) updatePermission(c *call) (answerer, error) {
	p, err := s.permissions.Get(c.id)
	if err != nil {
		return nil, err
	}
	if p == s.org.Base {
		const message = "The organisation's base permissions cannot be changed."
		return nil, forbidden(codeForbidden, message)
	}
	c.params.require("scopes")
	scopes := readScopes(c.params)
	if err := s.checkScopes(c.params, scopes); err != nil {
		return nil, err
	}
	p.Scopes = scopes
	return answerWith(view.permission, p)
}

// checkScopes refuses scopes that exceed the organisation's base permissions.
func (s *Server) checkScopes(p *params, scopes Scopes) error {
	if err := p.err(); err != nil {
		return err
	}
	for name := range scopes {
		if _, ok := s.org.Base.Scopes.match(name); !ok {
			return forbidden(codeMissingScope, "The organisation lacks the scope "+name+".")
		}
	}
	return nil
}

func everything() Scopes {
	return Scopes{
		"source_type:*": nil, "task_type:*": nil, "data_type:*": nil, "info_type:*": nil,
		"file_type:*": nil,
	}
}

// check returns what is wrong with scopes that were given in Go or in a scenario.
func (s Scopes) check() error {
	for name, limits := range s {
		if !isScope(name) {
			return refuse("scope %q: want a name such as data_type:callkit.*", name)
		}
		for _, limit := range limits {
			if !isLevel(limit.Level) || limit.Value < 0 {
				return refuse("scope %s: limit %+v: want a level of organisation, key or user, "+
					"and a value of at least 0", name, limit)
			}
		}
	}
	return nil
}

func isScope(name string) bool {
	kind, rest, _ := strings.Cut(name, ":")
	kinds := []string{"source_type", "task_type", "data_type", "info_type", "file_type"}
	return rest != "" && slices.Contains(kinds, kind)
}

func isLevel(level string) bool {
	return level == "organisation" || level == "key" || level == "user"
}

// match returns the limits of all scopes that cover name.
//
// Assumption (unmentioned-scopes): a scope type that no scope mentions is not restricted.
func (s Scopes) match(name string) ([]ScopeLimit, bool) {
	kind, _, _ := strings.Cut(name, ":")
	mentioned, covered := false, false
	var limits []ScopeLimit
	for scope, those := range s {
		mentioned = mentioned || strings.HasPrefix(scope, kind+":")
		prefix, wild := strings.CutSuffix(scope, "*")
		if scope == name || wild && strings.HasPrefix(name, prefix) {
			covered = true
			limits = append(limits, those...)
		}
	}
	return limits, covered || !mentioned
}

// allow checks the scopes that a request needs against the organisation's and the key's
// permissions, and counts them once all are granted.
func (s *Server) allow(k *key, u *user, names ...string) error {
	for _, p := range []*permission{s.org.Base, k.Permission} {
		if p == nil {
			continue
		}
		asked := map[string]int{}
		for _, name := range names {
			asked[name]++
			limits, ok := p.Scopes.match(name)
			if !ok {
				return forbidden(codeMissingScope, "The scope "+name+" is missing.")
			}
			for _, limit := range limits {
				if s.counts[name+" "+holder(limit.Level, k, u)]+asked[name] > limit.Value {
					message := "The limit of " + name + " for the " + limit.Level + " is reached."
					return forbidden(codeLimitExceeded, message)
				}
			}
		}
	}
	for _, name := range names {
		for _, level := range []string{"organisation", "key", "user"} {
			s.counts[name+" "+holder(level, k, u)]++
		}
	}
	return nil
}

// holder names whose use a limit counts.
func holder(level string, k *key, u *user) string {
	switch level {
	case "key":
		return "key " + k.ID
	case "user":
		return "user " + u.ID
	}
	return "organisation"
}

// readScopes reads the "scopes" parameter.
func readScopes(p *params) Scopes {
	nested := p.object("scopes")
	scopes := Scopes{}
	for _, name := range slices.Sorted(maps.Keys(nested.values)) {
		if !isScope(name) {
			nested.note(name, "is not a scope")
		}
		scopes[name] = readLimits(nested, name)
	}
	return scopes
}

func readLimits(p *params, name string) []ScopeLimit {
	values, ok := p.values[name].([]any)
	if !ok {
		p.note(name, "must be a list of limits")
	}
	limits := make([]ScopeLimit, 0, len(values))
	for _, value := range values {
		fields, ok := value.(object)
		limit := params{prefix: p.prefix + name + ".", values: fields, wrong: p.wrong}
		count := int(limit.seconds("value").Seconds())
		if !ok || !isLevel(limit.text("level")) {
			p.note(name, "has a limit without a level")
		}
		limits = append(limits, ScopeLimit{limit.text("level"), "count", count})
	}
	return limits
}
