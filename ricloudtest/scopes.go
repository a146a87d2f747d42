package ricloudtest

import (
	"maps"
	"slices"
	"strings"
)

// Scopes are what a permission allows: a scope such as "data_type:callkit.*"
// to the limits on it, none meaning unlimited.
type Scopes map[string][]ScopeLimit

// ScopeLimit is at most Value of something: for source_type scopes, sources that
// exist; for the others, tasks ever made.
// Assumption: what is counted; the contract only says that it is counted.
type ScopeLimit struct {
	Level string `json:"level"` // organisation, key or user
	Type  string `json:"type"`  // count
	Value int    `json:"value"`
}

func everything() Scopes {
	return Scopes{"source_type:*": nil, "task_type:*": nil, "data_type:*": nil, "info_type:*": nil, "file_type:*": nil}
}

// match returns the limits of all scopes that cover name. A scope type that no
// scope mentions is not restricted.
// Assumption: the last sentence.
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

// allow checks the scopes that one request needs against the organisation's
// base and the key's own permissions, and counts them once all are granted.
func (s *Server) allow(k *key, u *user, names ...string) error {
	for _, p := range []*permission{s.org.base, k.permission} {
		if p == nil {
			continue
		}
		asked := map[string]int{}
		for _, name := range names {
			asked[name]++
			limits, ok := p.scopes.match(name)
			if !ok {
				return forbidden(codeMissingScope, "The scope "+name+" is missing.")
			}
			for _, limit := range limits {
				if err := s.within(limit, name, asked[name], k, u); err != nil {
					return err
				}
			}
		}
	}
	for _, name := range names {
		for _, holder := range []string{"organisation ", "key " + k.id, "user " + idOf(u)} {
			s.counts[name+" "+holder]++
		}
	}
	return nil
}

// within checks that n more of name stay within one limit.
func (s *Server) within(limit ScopeLimit, name string, n int, k *key, u *user) error {
	holder := map[string]string{"organisation": "organisation ", "key": "key " + k.id, "user": "user " + idOf(u)}[limit.Level]
	if s.counts[name+" "+holder]+n > limit.Value {
		return forbidden(codeLimitExceeded, "The limit of "+name+" for the "+limit.Level+" is reached.")
	}
	return nil
}

// readScopes reads the "scopes" parameter.
func readScopes(p *params) Scopes {
	nested := p.object("scopes")
	scopes := Scopes{}
	for _, name := range slices.Sorted(maps.Keys(nested.values)) {
		if kind, rest, _ := strings.Cut(name, ":"); rest == "" || !strings.HasSuffix(kind, "_type") {
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
		if !ok || !slices.Contains([]string{"organisation", "key", "user"}, limit.text("level")) {
			p.note(name, "has a limit without a level")
		}
		limits = append(limits, ScopeLimit{limit.text("level"), "count", count})
	}
	return limits
}
