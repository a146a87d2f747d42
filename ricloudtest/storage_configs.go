package ricloudtest

import (
	"bytes"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/reincubate/ricloud-go/ricloudtest/internal/collection"
)

type storageConfig struct {
	collection.Head

	URL         string
	Credentials object
	Signed      bool
	SignedFor   time.Duration
	State       string
	Own         bool // the sandbox's own, which needs no credentials
}

func newStorageConfigs() *collection.Collection[*storageConfig] {
	return collection.New("storage config", map[string]collection.Filter[*storageConfig]{
		"state": {Value: func(x *storageConfig) string { return x.State }},
	})
}

// storageConfig never shows the credentials.
func (v view) storageConfig(x *storageConfig) object {
	out := object{
		"id": v.number(x.ID), "resource": "storage_config",
		"organisation": v.number(v.server.org.ID), "type": scheme(x.URL), "url": x.URL,
		"credentials": nil, "state": x.State, "date_created": stamp(x.Created),
	}
	if !v.guide() {
		out["signed_urls_enabled"] = x.Signed
		out["signed_urls_expiry"] = x.SignedFor.Seconds()
	}
	return out
}

// readStorageRef reads a reference to a storage config. Null clears it.
func (s *Server) readStorageRef(p *params, name string, to **storageConfig) {
	value, named := p.values[name]
	if !named {
		return
	}
	found, ok := s.storages.Lookup(p.ref(name))
	if !ok && value != nil {
		p.note(name, "names no storage config")
	}
	*to = found
}

func (s *Server) createStorage(c *call) (answerer, error) {
	c.params.require("url")
	x := &storageConfig{SignedFor: time.Hour}
	if err := s.readStorage(c.params, x); err != nil {
		return nil, err
	}
	x.Head = s.numbered("storage_config")
	s.storages.Add(x)
	s.checkStorage(c.key, x, s.delays.firstTest())
	c.created()
	return answerWith(view.storageConfig, x)
}

func (s *Server) updateStorage(c *call) (answerer, error) {
	x, err := s.storages.Get(c.id)
	if err != nil {
		return nil, err
	}
	changed := *x
	if err := s.readStorage(c.params, &changed); err != nil {
		return nil, err
	}
	*x = changed
	s.checkStorage(c.key, x, s.delays.Config)
	return answerWith(view.storageConfig, x)
}

// readStorage reads what a create or an update gives.
func (s *Server) readStorage(p *params, x *storageConfig) error {
	if to := p.text("url"); to != "" {
		x.Own = x.Own && to == x.URL
		x.URL = to
		if why := s.wrongStorage(to); why != "" {
			p.note("url", why)
		}
	}
	if p.has("credentials") {
		x.Credentials = p.object("credentials").values
		x.Own = false
	}
	if value := p.flag("signed_urls_enabled"); value != nil {
		x.Signed = *value
	}
	if p.has("signed_urls_expiry") {
		x.SignedFor = p.seconds("signed_urls_expiry")
	}
	x.State = stateNew
	return p.err()
}

// wrongStorage returns what is wrong with a storage URL, or "" if nothing is.
func (s *Server) wrongStorage(to string) string {
	kind, rest, _ := strings.Cut(to, "://")
	switch {
	case rest == "" || strings.HasPrefix(rest, "/") && kind != "local":
		return "must look like s3://bucket/path or gs://bucket/path"
	case kind == "s3", kind == "gs":
		return ""
	case kind != "local":
		return "must begin with s3:// or gs://"
	case s.localDir == "" || !within(s.localDir, rest):
		return "must be below the sandbox's own folder"
	}
	return ""
}

func within(dir, path string) bool {
	rel, err := filepath.Rel(dir, path)
	return err == nil && filepath.IsLocal(rel)
}

// checkStorage starts the task that tests a storage config, and returns the task. The test writes
// an object with the config's credentials.
func (s *Server) checkStorage(k *key, x *storageConfig, delay Delay) *task {
	t := s.newTask(&task{
		Key: k, Kind: "storage_config.test", Target: x.ID, State: stateProcessing,
	})
	s.after(delay.draw(s.random), job{Do: testStorage, ID: t.ID})
	return t
}

func (s *Server) runStorageTest(t *task) {
	x, ok := s.storages.Lookup(t.Target)
	if !ok {
		s.finish(t, codeTestFailed)
		return
	}
	write := s.writer(x.URL)
	if !s.accepts(x) || write == nil {
		s.endStorageTest(t, x, s.accepts(x))
		return
	}
	to := strings.TrimSuffix(x.URL, "/") + "/ricloud-test"
	s.inBackground(func() func() {
		err := write(s.ctx, to, bytes.NewReader([]byte("ricloud")))
		return func() { s.endStorageTest(t, x, err == nil) }
	})
}

// accepts reports whether a bucket lets the config's credentials in.
//
// Assumption (credentials): a bucket accepts credentials that have the fields of their kind, unless
// WithStorageKey names the only ones that it accepts.
func (s *Server) accepts(x *storageConfig) bool {
	if x.Own {
		return true
	}
	required := map[string][]string{
		"s3": {"access_key_id", "secret_access_key"},
		"gs": {"client_email", "private_key"},
	}[scheme(x.URL)]
	given := make([]string, len(required))
	for i, name := range required {
		given[i], _ = x.Credentials[name].(string)
	}
	if slices.Contains(given, "") {
		return false
	}
	return len(given) == 0 || s.storageKey == nil || slices.Equal(given, s.storageKey)
}

// endStorageTest decides a config's state.
//
// Assumption (first-config): the first valid storage or webhook config becomes the organisation's
// default where there is none.
func (s *Server) endStorageTest(t *task, x *storageConfig, ok bool) {
	if !ok {
		x.State = stateInvalid
		s.finish(t, codeTestFailed)
		return
	}
	x.State = stateValid
	if s.org.StorageDefault == nil {
		s.org.StorageDefault = x
	}
	s.finish(t, "")
}

func (s *Server) testStorageConfig(c *call) (answerer, error) {
	x, err := s.storages.Get(c.id)
	if err != nil {
		return nil, err
	}
	t := s.checkStorage(c.key, x, s.delays.Config)
	c.wait = t.ended.wait()
	return answerWith(view.task, t)
}

// deleteStorage deletes a storage config.
//
// Assumption (config-delete): the answer is the config, deactivated. It is gone from lists, and no
// key or organisation refers to it any more.
func (s *Server) deleteStorage(c *call) (answerer, error) {
	x, err := s.storages.Get(c.id)
	if err != nil {
		return nil, err
	}
	x.State = stateDeactivated
	s.storages.Remove(x)
	for _, k := range s.keys.All() {
		if k.Storage == x {
			k.Storage = nil
		}
	}
	if s.org.StorageDefault == x {
		s.org.StorageDefault = nil
	}
	return answerWith(view.storageConfig, x)
}

// destination returns the storage config that a key publishes to: its own before the
// organisation's, or nil if neither is valid.
func (s *Server) destination(k *key) *storageConfig {
	for _, x := range []*storageConfig{k.Storage, s.org.StorageDefault} {
		if x != nil && x.State == stateValid {
			return x
		}
	}
	return nil
}

func (s *Server) configured() bool {
	return slices.ContainsFunc(s.storages.All(), func(x *storageConfig) bool {
		return x.State == stateValid
	})
}

func scheme(raw string) string {
	kind, _, _ := strings.Cut(raw, "://")
	return kind
}
