package ricloudtest

import (
	"net/url"
	"slices"
	"strings"

	"github.com/reincubate/ricloud-go/ricloudtest/internal/collection"
)

type source struct {
	collection.Head

	User       *user
	Kind       string
	Identifier string
	Info       any
	Parent     *source
	Children   []*source `json:"-"`
	State      string
	Account    *account // nil if the service knows no such account
}

func newSources() *collection.Collection[*source] {
	return collection.New("source", map[string]collection.Filter[*source]{
		"user":       {Value: func(x *source) string { return x.User.ID }, Indexed: true},
		"identifier": {Value: func(x *source) string { return x.Identifier }},
		"login": {
			Value: func(x *source) string {
				return loginOf(x.User.ID, x.Kind, x.Identifier)
			},
			Indexed: true,
		},
		"parent": {Value: func(x *source) string { return idOf(x.Parent) }, Indexed: true},
		"type":   {Value: func(x *source) string { return x.Kind }},
		"state":  {Value: func(x *source) string { return x.State }},
	})
}

// loginOf identifies what a session logs in to. A second session for it reuses the source.
func loginOf(user, kind, identifier string) string {
	return user + "\x00" + kind + "\x00" + identifier
}

func (v view) source(x *source) object {
	children := "/sources/" + url.PathEscape(x.ID) + "/children"
	out := object{
		"id": v.number(x.ID), "resource": "source", "user": x.User.ID, "type": x.Kind,
		"identifier": optional(x.Identifier),
		"children":   nested(v, x.Children, children, view.source),
		"state":      x.State, "date_created": stamp(x.Created),
	}
	if x.Parent == nil { // the contract's sample of a child has no such key
		out["parent"] = nil
	} else if v.guide() {
		out["parent"] = x.Parent.ID
	}
	if !v.guide() {
		out["info"] = x.Info
	}
	return out
}

func (s *Server) updateSource(c *call) (answerer, error) {
	x, err := s.sources.Get(c.id)
	if err != nil {
		return nil, err
	}
	state := readState(c.params)
	if err := c.params.err(); err != nil {
		return nil, err
	}
	if state != "" {
		x.State = state
	}
	return answerWith(view.source, x)
}

func (s *Server) sourceChildren(c *call) (answerer, error) {
	if _, err := s.sources.Get(c.id); err != nil {
		return nil, err
	}
	at := listURL("/sources/"+url.PathEscape(c.id)+"/children", c.query)
	c.query.Set("parent", c.id)
	return listPage(s, c, s.sources, at, view.source)
}

// isRelayInstance recognises the service by both names that the API has had for it.
func isRelayInstance(kind string) bool {
	return kind == relayInstance || kind == "asrelay.instance"
}

func isRelayDevice(kind string) bool { return kind == relayDevice || kind == "asrelay.source" }

// openSource reads the "source" of a new session, and finds or makes it.
func (s *Server) openSource(c *call, p *params, code string) (*source, error) {
	p.require("user", "type")
	kind, identifier := p.text("type"), p.text("identifier")
	owner, known := s.users.Lookup(p.ref("user"))
	if p.has("user") && !known {
		p.note("user", "names no user")
	}
	if kind != "" && kind != iCloudAccount && kind != mocksMock && !isRelayInstance(kind) {
		p.note("type", "is not a source that a session can be made for")
	}
	if !isRelayInstance(kind) {
		p.require("identifier")
	}
	if err := p.err(); err != nil {
		return nil, err
	}
	if owner.State != stateActive {
		return nil, forbidden(codeForbidden, "The user is "+owner.State+".")
	}
	acc := s.lookUp(kind, identifier, code)
	if isRelayInstance(kind) {
		identifier = "" // the app has its own, which is known once it is paired
		if acc != nil {
			identifier = acc.Identifier
		}
	}
	return s.sourceOf(c.key, owner, kind, identifier, acc)
}

// lookUp finds the account that a session is for, or nil.
func (s *Server) lookUp(kind, identifier, code string) *account {
	if isRelayInstance(kind) {
		return s.pairing[relayInstance+" "+code]
	}
	if acc := s.known[accountName(kind, identifier)]; acc != nil {
		return acc
	}
	return s.known[accountName(kind, "")] // one that takes any identifier
}

func (s *Server) sourceOf(
	k *key, owner *user, kind, identifier string, acc *account,
) (*source, error) {
	if x, ok := s.sources.Find("login", loginOf(owner.ID, kind, identifier)); ok {
		if x.State == stateDeactivated || x.State == stateBlocked {
			return nil, forbidden(codeForbidden, "The source is "+x.State+".")
		}
		x.Account = acc
		return x, nil
	}
	if err := s.allow(k, owner, "source_type:"+kind); err != nil {
		return nil, err
	}
	return s.newSource(&source{
		User: owner, Kind: kind, Identifier: identifier, State: stateUnvalidated, Account: acc,
	}), nil
}

func (s *Server) newSource(x *source) *source {
	x.Head = s.numbered("source")
	s.sources.Add(x)
	return x
}

// reveal adds the child sources that a source's account has.
func (s *Server) reveal(x *source) {
	if x.Account == nil {
		return
	}
	for _, kid := range x.Account.kids {
		known := func(child *source) bool { return child.Identifier == kid.Identifier }
		if slices.ContainsFunc(x.Children, known) {
			continue
		}
		kind := kid.service()
		if strings.HasPrefix(x.Kind, "asrelay.") {
			kind = strings.Replace(kind, "rirelay.", "asrelay.", 1)
		}
		info := object{
			"name": kid.Identifier, "apple_model_id": "iPhone10,4",
			"apple_serial": kid.Identifier, "ios_version": "13.2", "is_encrypted": true,
		}
		child := s.newSource(&source{
			User: x.User, Kind: kind, Identifier: kid.Identifier, Info: info, Parent: x,
			State: stateActive, Account: kid,
		})
		x.Children = append(x.Children, child)
	}
}
