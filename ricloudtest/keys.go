package ricloudtest

import (
	"strings"
	"time"

	ricloud "github.com/reincubate/ricloud-go"
	"github.com/reincubate/ricloud-go/ricloudtest/internal/collection"
)

type key struct {
	collection.Head

	Token        string
	Type         string // standard or trial
	State        string
	Storage      *storageConfig
	Webhook      *webhookConfig
	Permission   *permission
	PublishFiles *bool
	Expires      time.Time
}

func newKeys() *collection.Collection[*key] {
	return collection.New("key", map[string]collection.Filter[*key]{
		"state": {Value: func(k *key) string { return k.State }},
	})
}

func (v view) key(k *key) object {
	out := object{
		"id": v.number(k.ID), "resource": "key", "organisation": v.number(v.server.org.ID),
		"type":           k.Type,
		"storage_config": v.reference(idOf(k.Storage)),
		"webhook_config": v.reference(idOf(k.Webhook)),
		"token":          k.Token, "state": k.State,
		"date_created": stamp(k.Created), "date_expires": stamp(k.Expires),
	}
	if !v.guide() {
		config := object{}
		if k.PublishFiles != nil {
			config["publish_source_files"] = *k.PublishFiles
		}
		out["config"] = config
	}
	return out
}

// authenticate returns the key that a request's token belongs to.
//
// Assumption (isolation): every key of an organisation reads and changes all of its resources.
func (s *Server) authenticate(header string) (*key, error) {
	scheme, token, _ := strings.Cut(header, " ")
	k, ok := s.tokens[token]
	if ok && !k.Expires.IsZero() && !s.clock.Now().Before(k.Expires) {
		k.State = stateExpired
	}
	const status = 401
	switch {
	case !ok || scheme != "Token":
		const message = "The token is missing or not valid."
		return nil, &apiError{status, codeUnauthorised, message, nil}
	case k.State != stateActive:
		message := "The key is " + k.State + "."
		return nil, &apiError{status, codeUnauthorised, message, nil}
	}
	return k, nil
}

func (s *Server) newKey(k *key) *key {
	k.Head, k.State = s.numbered("key"), stateActive
	if k.Type == "" {
		k.Type = "standard"
	}
	if k.Token == "" {
		k.Token = s.newSecret("key_")
	}
	s.tokens[k.Token] = k
	s.keys.Add(k)
	return k
}

// createKey makes a standard key. Trial keys come from an administrator, see AddTrialKey.
func (s *Server) createKey(c *call) (answerer, error) {
	k := &key{}
	s.readStorageRef(c.params, "storage_config", &k.Storage)
	s.readWebhookRef(c.params, "webhook_config", &k.Webhook)
	k.PublishFiles = c.params.object("config").flag("publish_source_files")
	if err := c.params.err(); err != nil {
		return nil, err
	}
	s.newKey(k)
	c.created()
	return answerWith(view.key, k)
}

func (s *Server) currentKey(c *call) (answerer, error) { return answerWith(view.key, c.key) }

// updateKey updates the key in the path, or the caller's own.
func (s *Server) updateKey(c *call) (answerer, error) {
	k := c.key
	if c.id != "" {
		var err error
		if k, err = s.keys.Get(c.id); err != nil {
			return nil, err
		}
	}
	storage, webhook := k.Storage, k.Webhook
	s.readStorageRef(c.params, "storage_config", &storage)
	s.readWebhookRef(c.params, "webhook_config", &webhook)
	publish := c.params.object("config").flag("publish_source_files")
	state := readState(c.params)
	if err := c.params.err(); err != nil {
		return nil, err
	}
	k.Storage, k.Webhook = storage, webhook
	if publish != nil {
		k.PublishFiles = publish
	}
	if state != "" {
		k.State = state
	}
	return answerWith(view.key, k)
}

// readState reads the "state" parameter of a key, user or source.
//
// Assumption (state-updates): an organisation may set "active" and "deactivated" and nothing else.
func readState(p *params) string {
	state := p.text("state")
	if state != "" && state != stateActive && state != stateDeactivated {
		p.note("state", "cannot be set to this")
	}
	return state
}

// rotateKey gives a key a new token.
//
// Assumption (rotation): the old token ends at once, or after the seconds in "expire", which the
// vendor's client sends.
func (s *Server) rotateKey(c *call) (answerer, error) {
	k, err := s.keys.Get(c.id)
	if err != nil {
		return nil, err
	}
	grace := c.params.seconds("expire")
	if err := c.params.err(); err != nil {
		return nil, err
	}
	old := k.Token
	k.Token = s.newSecret("key_")
	s.tokens[k.Token] = k
	if grace == 0 {
		delete(s.tokens, old)
	} else {
		s.after(grace, job{Do: endToken, ID: old})
	}
	return answerWith(view.key, k)
}

// AddTrialKey makes a trial key, as an administrator of the API does, and returns its token. The
// key expires after lifetime.
func (s *Server) AddTrialKey(lifetime time.Duration) (ricloud.Secret, error) {
	if lifetime <= 0 {
		return ricloud.NewSecret(""), refuse("add trial key: lifetime %v is not positive", lifetime)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	k := s.newKey(&key{Type: "trial", Expires: s.clock.Now().Add(s.scale(lifetime))})
	return ricloud.NewSecret(k.Token), nil
}
