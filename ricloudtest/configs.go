package ricloudtest

import (
	"bytes"
	"net/http"
	"net/url"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

func (s *Server) createStorage(c *call) (render, error) {
	c.params.require("url")
	x := &storageConfig{signedFor: time.Hour}
	if err := s.readStorage(c.params, x); err != nil {
		return nil, err
	}
	x.head = s.numbered("storage_config")
	s.storages.add(x)
	s.checkStorage(c.key, x)
	c.status = http.StatusCreated
	return one(view.storageConfig, x)
}

func (s *Server) updateStorage(c *call) (render, error) {
	x, err := s.storages.get(c.id)
	if err != nil {
		return nil, err
	}
	changed := *x
	if err := s.readStorage(c.params, &changed); err != nil {
		return nil, err
	}
	*x = changed
	s.checkStorage(c.key, x)
	return one(view.storageConfig, x)
}

// readStorage reads what a create or an update gives.
func (s *Server) readStorage(p *params, x *storageConfig) error {
	if to := p.text("url"); to != "" {
		x.url = to
		if why := s.wrongStorage(to); why != "" {
			p.note("url", why)
		}
	}
	if p.has("credentials") {
		x.credentials = p.object("credentials").values
	}
	if value, ok := p.values["signed_urls_enabled"].(bool); ok {
		x.signed = value
	}
	if p.has("signed_urls_expiry") {
		x.signedFor = p.seconds("signed_urls_expiry")
	}
	x.state = stateNew
	return p.err()
}

// wrongStorage is what is wrong with a storage URL, empty if nothing is.
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

// checkStorage starts the task that tests a storage config, which writes an
// object with its credentials, and returns the task.
func (s *Server) checkStorage(k *key, x *storageConfig) *task {
	t := s.newTask(&task{key: k, kind: "storage_config.test", target: x.id, state: stateProcessing})
	s.after(s.delays.Config.draw(s.random), func() {
		write := s.writer(x.url)
		if !plausible(x) || write == nil {
			s.endStorageTest(t, x, plausible(x))
			return
		}
		to := strings.TrimSuffix(x.url, "/") + "/ricloud-test"
		s.spawn(func() {
			err := write(s.ctx, to, bytes.NewReader([]byte("ricloud")))
			s.mu.Lock()
			defer s.mu.Unlock()
			s.endStorageTest(t, x, err == nil)
		})
	})
	return t
}

// plausible says whether the credentials have what their kind must have.
func plausible(x *storageConfig) bool {
	required := map[string][]string{
		"s3": {"access_key_id", "secret_access_key"},
		"gs": {"client_email", "private_key"},
	}[scheme(x.url)]
	return !slices.ContainsFunc(required, func(name string) bool {
		value, _ := x.credentials[name].(string)
		return value == ""
	})
}

// endStorageTest decides a config's state.
// Assumption: the first valid config becomes the default where there is none.
func (s *Server) endStorageTest(t *task, x *storageConfig, ok bool) {
	if !ok {
		x.state = stateInvalid
		s.finish(t, codeTestFailed)
		return
	}
	x.state = stateValid
	if s.org.storageDefault == nil {
		s.org.storageDefault = x
	}
	s.finish(t, "")
}

func (s *Server) testStorage(c *call) (render, error) {
	x, err := s.storages.get(c.id)
	if err != nil {
		return nil, err
	}
	t := s.checkStorage(c.key, x)
	c.wait = t.ended.wait()
	return one(view.task, t)
}

// deleteStorage answers with the config, deactivated.
func (s *Server) deleteStorage(c *call) (render, error) {
	x, err := s.storages.get(c.id)
	if err != nil {
		return nil, err
	}
	x.state = stateDeactivated
	s.storages.remove(x)
	for _, k := range s.keys.all {
		if k.storage == x {
			k.storage = nil
		}
	}
	if s.org.storageDefault == x {
		s.org.storageDefault = nil
	}
	return one(view.storageConfig, x)
}

func (s *Server) createWebhook(c *call) (render, error) {
	c.params.require("url")
	x := &webhookConfig{}
	if err := readWebhook(c.params, x); err != nil {
		return nil, err
	}
	x.head, x.secret = s.numbered("webhook_config"), s.newSecret("whsec_")
	s.webhooks.add(x)
	s.checkWebhook(c.key, x)
	c.status = http.StatusCreated
	return one(view.webhookConfig, x)
}

func (s *Server) updateWebhook(c *call) (render, error) {
	x, err := s.webhooks.get(c.id)
	if err != nil {
		return nil, err
	}
	changed := *x
	if err := readWebhook(c.params, &changed); err != nil {
		return nil, err
	}
	*x = changed
	s.checkWebhook(c.key, x)
	return one(view.webhookConfig, x)
}

func readWebhook(p *params, x *webhookConfig) error {
	if to := p.text("url"); to != "" {
		x.url = to
		parsed, err := url.Parse(to)
		if err != nil || parsed.Host == "" || parsed.Scheme != "https" && parsed.Scheme != "http" {
			p.note("url", "must be an absolute http or https URL")
		}
	}
	x.state = stateNew
	return p.err()
}

func (s *Server) testWebhook(c *call) (render, error) {
	x, err := s.webhooks.get(c.id)
	if err != nil {
		return nil, err
	}
	t := s.checkWebhook(c.key, x)
	c.wait = t.ended.wait()
	return one(view.task, t)
}

// checkWebhook starts the task that tests a webhook config, which posts an
// event to it, once, and returns the task.
func (s *Server) checkWebhook(k *key, x *webhookConfig) *task {
	t := s.newTask(&task{key: k, kind: "webhook_config.test", target: x.id, state: stateProcessing})
	s.after(s.delays.Config.draw(s.random), func() {
		e := s.record("webhook_config", "test", encode(s.view(s.publicOrigin()).webhookConfig(x)))
		s.post(e, x, delivery{}, func(ok bool) { s.endWebhookTest(t, x, e, ok) })
	})
	return t
}

func (s *Server) endWebhookTest(t *task, x *webhookConfig, e *event, ok bool) {
	if !ok {
		x.state, e.state = stateInvalid, stateFailed
		s.finish(t, codeTestFailed)
		return
	}
	x.state, e.state, e.delivered = stateValid, stateDelivered, s.clock.now()
	if s.org.webhookDefault == nil {
		s.org.webhookDefault = x
	}
	s.finish(t, "")
}

func (s *Server) deleteWebhook(c *call) (render, error) {
	x, err := s.webhooks.get(c.id)
	if err != nil {
		return nil, err
	}
	x.state = stateDeactivated
	s.webhooks.remove(x)
	for _, k := range s.keys.all {
		if k.webhook == x {
			k.webhook = nil
		}
	}
	if s.org.webhookDefault == x {
		s.org.webhookDefault = nil
	}
	return one(view.webhookConfig, x)
}
