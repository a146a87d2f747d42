package ricloudtest

import (
	"net/http"
	"slices"
)

func (s *Server) getOrganisation(*call) (render, error) {
	return one(view.organisation, s.org)
}

func (s *Server) updateOrganisation(c *call) (render, error) {
	name := c.params.text("name")
	storage, webhook := s.org.storageDefault, s.org.webhookDefault
	s.readConfigs(c.params, "storage_config_default", &storage, "webhook_config_default", &webhook)
	publish := readPublish(c.params)
	if err := c.params.err(); err != nil {
		return nil, err
	}
	if name != "" {
		s.org.name = name
	}
	if publish != nil {
		s.org.publishFiles = *publish
	}
	s.org.storageDefault, s.org.webhookDefault = storage, webhook
	return one(view.organisation, s.org)
}

// readConfigs reads two references to configs; null clears one.
func (s *Server) readConfigs(p *params, storageName string, storage **storageConfig, webhookName string, webhook **webhookConfig) {
	if value, named := p.values[storageName]; named {
		found, ok := s.storages.byID[p.ref(storageName)]
		if !ok && value != nil {
			p.note(storageName, "names no storage config")
		}
		*storage = found
	}
	if value, named := p.values[webhookName]; named {
		found, ok := s.webhooks.byID[p.ref(webhookName)]
		if !ok && value != nil {
			p.note(webhookName, "names no webhook config")
		}
		*webhook = found
	}
}

func readPublish(p *params) *bool {
	config := p.object("config")
	value, ok := config.values["publish_source_files"].(bool)
	if !ok && config.has("publish_source_files") {
		config.note("publish_source_files", "must be true or false")
	}
	if !ok {
		return nil
	}
	return &value
}

func (s *Server) createKey(c *call) (render, error) {
	k := &key{state: stateActive}
	s.readConfigs(c.params, "storage_config", &k.storage, "webhook_config", &k.webhook)
	if err := c.params.err(); err != nil {
		return nil, err
	}
	k.head, k.token = s.numbered("key"), s.newSecret("key_")
	s.tokens[k.token] = k
	s.keys.add(k)
	c.status = http.StatusCreated
	return one(view.key, k)
}

func (s *Server) currentKey(c *call) (render, error) { return one(view.key, c.key) }

// updateKey updates the key named, or the caller's own.
func (s *Server) updateKey(c *call) (render, error) {
	k := c.key
	if c.id != "" {
		var err error
		if k, err = s.keys.get(c.id); err != nil {
			return nil, err
		}
	}
	storage, webhook := k.storage, k.webhook
	s.readConfigs(c.params, "storage_config", &storage, "webhook_config", &webhook)
	publish := readPublish(c.params)
	state := readState(c.params, stateActive, stateDeactivated)
	if err := c.params.err(); err != nil {
		return nil, err
	}
	k.storage, k.webhook = storage, webhook
	if publish != nil {
		k.publishFiles = publish
	}
	if state != "" {
		k.state = state
	}
	return one(view.key, k)
}

// readState reads the "state" parameter, which may be one of those.
func readState(p *params, allowed ...string) string {
	state := p.text("state")
	if state != "" && !slices.Contains(allowed, state) {
		p.note("state", "cannot be set to this")
	}
	return state
}

// rotateKey gives a key a new token.
// Assumption: the old one stops at once, or after "expire" seconds where the
// body says so, as the vendor's own client does.
func (s *Server) rotateKey(c *call) (render, error) {
	k, err := s.keys.get(c.id)
	if err != nil {
		return nil, err
	}
	grace := c.params.seconds("expire")
	if err := c.params.err(); err != nil {
		return nil, err
	}
	old := k.token
	k.token = s.newSecret("key_")
	s.tokens[k.token] = k
	if grace == 0 {
		delete(s.tokens, old)
	} else {
		s.after(grace, func() { delete(s.tokens, old) })
	}
	return one(view.key, k)
}

// createPermission makes a permission and, where "key" names one, puts that key
// under it. Assumption: both parameters.
func (s *Server) createPermission(c *call) (render, error) {
	c.params.require("scopes")
	p := &permission{scopes: readScopes(c.params)}
	holder, known := s.keys.byID[c.params.ref("key")]
	if c.params.has("key") && !known {
		c.params.note("key", "names no key")
	}
	if err := s.checkScopes(c.params, p.scopes); err != nil {
		return nil, err
	}
	p.head = s.numbered("permissions")
	s.permissions.add(p)
	if known {
		holder.permission = p
	}
	c.status = http.StatusCreated
	return one(view.permission, p)
}

// checkScopes refuses what exceeds the organisation's base.
func (s *Server) checkScopes(p *params, scopes Scopes) error {
	if err := p.err(); err != nil {
		return err
	}
	for name := range scopes {
		if _, ok := s.org.base.scopes.match(name); !ok {
			return forbidden(codeMissingScope, "The organisation lacks the scope "+name+".")
		}
	}
	return nil
}

func (s *Server) updatePermission(c *call) (render, error) {
	p, err := s.permissions.get(c.id)
	if err != nil {
		return nil, err
	}
	if p == s.org.base {
		return nil, forbidden(codeForbidden, "The organisation's base permissions cannot be changed.")
	}
	c.params.require("scopes")
	scopes := readScopes(c.params)
	if err := s.checkScopes(c.params, scopes); err != nil {
		return nil, err
	}
	p.scopes = scopes
	return one(view.permission, p)
}

// createUser is get-or-create by identifier.
// Assumption: identifiers are unique in the organisation, whatever the key.
func (s *Server) createUser(c *call) (render, error) {
	c.params.require("identifier")
	identifier := c.params.text("identifier")
	holder := c.key
	if c.params.has("key") {
		var known bool
		if holder, known = s.keys.byID[c.params.ref("key")]; !known {
			c.params.note("key", "names no key")
		}
	}
	if err := c.params.err(); err != nil {
		return nil, err
	}
	if u, ok := s.users.find("identifier", identifier); ok {
		return one(view.user, u)
	}
	u := &user{head: s.numbered("user"), key: holder, identifier: identifier, state: stateActive}
	s.users.add(u)
	c.status = http.StatusCreated
	return one(view.user, u)
}

func (s *Server) updateUser(c *call) (render, error) {
	u, err := s.users.get(c.id)
	if err != nil {
		return nil, err
	}
	identifier := c.params.text("identifier")
	state := readState(c.params, stateActive, stateDeactivated)
	if other, taken := s.users.find("identifier", identifier); taken && other != u {
		c.params.note("identifier", "belongs to another user")
	}
	if err := c.params.err(); err != nil {
		return nil, err
	}
	if identifier != "" {
		s.users.reindex(u, func() { u.identifier = identifier })
	}
	if state != "" {
		u.state = state
	}
	return one(view.user, u)
}

func (s *Server) updateSource(c *call) (render, error) {
	x, err := s.sources.get(c.id)
	if err != nil {
		return nil, err
	}
	state := readState(c.params, stateActive, stateDeactivated)
	if err := c.params.err(); err != nil {
		return nil, err
	}
	if state != "" {
		x.state = state
	}
	return one(view.source, x)
}

func (s *Server) sourceChildren(c *call) (render, error) {
	if _, err := s.sources.get(c.id); err != nil {
		return nil, err
	}
	c.query.Set("parent", c.id)
	return lister(func(s *Server) *collection[*source] { return s.sources }, view.source)(s, c)
}
