package ricloudtest

import (
	"net/url"

	"github.com/reincubate/ricloud-go/ricloudtest/internal/collection"
	"github.com/reincubate/ricloud-go/ricloudtest/internal/reply"
)

type webhookConfig struct {
	collection.Head

	URL, Secret string
	State       string
}

func newWebhookConfigs() *collection.Collection[*webhookConfig] {
	return collection.New("webhook config", map[string]collection.Filter[*webhookConfig]{
		"state": {Value: func(x *webhookConfig) string { return x.State }},
	})
}

func (v view) webhookConfig(x *webhookConfig) object {
	return object{
		"id": v.number(x.ID), "resource": "webhook_config",
		"organisation": v.number(v.server.org.ID), "url": x.URL, "secret": x.Secret,
		"state": x.State, "date_created": stamp(x.Created),
	}
}

// readWebhookRef reads a reference to a webhook config. Null clears it.
func (s *Server) readWebhookRef(p *params, name string, to **webhookConfig) {
	value, named := p.values[name]
	if !named {
		return
	}
	found, ok := s.webhooks.Lookup(p.ref(name))
	if !ok && value != nil {
		p.note(name, "names no webhook config")
	}
	*to = found
}

func (s *Server) createWebhook(c *call) (answerer, error) {
	c.params.require("url")
	x := &webhookConfig{}
	if err := readWebhook(c.params, x); err != nil {
		return nil, err
	}
	s.newWebhook(x)
	s.checkWebhook(c.key, x, s.delays.firstTest())
	c.created()
	return answerWith(view.webhookConfig, x)
}

func (s *Server) newWebhook(x *webhookConfig) {
	x.Head, x.Secret, x.State = s.numbered("webhook_config"), s.newSecret("whsec_"), stateNew
	s.webhooks.Add(x)
}

func (s *Server) updateWebhook(c *call) (answerer, error) {
	x, err := s.webhooks.Get(c.id)
	if err != nil {
		return nil, err
	}
	changed := *x
	if err := readWebhook(c.params, &changed); err != nil {
		return nil, err
	}
	*x = changed
	s.checkWebhook(c.key, x, s.delays.Config)
	return answerWith(view.webhookConfig, x)
}

func readWebhook(p *params, x *webhookConfig) error {
	if to := p.text("url"); to != "" {
		x.URL = to
		if !isHTTP(to) {
			p.note("url", "must be an absolute http or https URL")
		}
	}
	x.State = stateNew
	return p.err()
}

func isHTTP(raw string) bool {
	parsed, err := url.Parse(raw)
	return err == nil && parsed.Host != "" &&
		(parsed.Scheme == "https" || parsed.Scheme == "http")
}

func (s *Server) testWebhookConfig(c *call) (answerer, error) {
	x, err := s.webhooks.Get(c.id)
	if err != nil {
		return nil, err
	}
	t := s.checkWebhook(c.key, x, s.delays.Config)
	c.wait = t.ended.wait()
	return answerWith(view.task, t)
}

// checkWebhook starts the task that tests a webhook config, and returns the task. The test posts an
// event to the receiver.
//
// Assumption (webhook-test): the test's event is sent once and never again.
func (s *Server) checkWebhook(k *key, x *webhookConfig, delay Delay) *task {
	t := s.newTask(&task{
		Key: k, Kind: "webhook_config.test", Target: x.ID, State: stateProcessing,
	})
	s.after(delay.draw(s.random), job{Do: testWebhook, ID: t.ID})
	return t
}

func (s *Server) runWebhookTest(t *task) {
	x, ok := s.webhooks.Lookup(t.Target)
	if !ok {
		s.finish(t, codeTestFailed)
		return
	}
	data := reply.Encode(s.newView(s.publicStorage()).webhookConfig(x))
	e := s.record("webhook_config", "test", data)
	s.post(e, x, delivery{}, func(ok bool) { s.endWebhookTest(t, x, e, ok) })
}

func (s *Server) endWebhookTest(t *task, x *webhookConfig, e *event, ok bool) {
	if !ok {
		x.State, e.State = stateInvalid, stateFailed
		s.finish(t, codeTestFailed)
		return
	}
	x.State, e.State, e.Delivered = stateValid, stateDelivered, s.clock.Now()
	if s.org.WebhookDefault == nil {
		s.org.WebhookDefault = x
	}
	s.finish(t, "")
}

func (s *Server) deleteWebhook(c *call) (answerer, error) {
	x, err := s.webhooks.Get(c.id)
	if err != nil {
		return nil, err
	}
	x.State = stateDeactivated
	s.webhooks.Remove(x)
	for _, k := range s.keys.All() {
		if k.Webhook == x {
			k.Webhook = nil
		}
	}
	if s.org.WebhookDefault == x {
		s.org.WebhookDefault = nil
	}
	return answerWith(view.webhookConfig, x)
}

// receiverOf returns the webhook config that a key's events go to: its own before the
// organisation's, or nil if neither is valid.
func (s *Server) receiverOf(k *key) *webhookConfig {
	for _, x := range []*webhookConfig{k.Webhook, s.org.WebhookDefault} {
		if x != nil && x.State == stateValid {
			return x
		}
	}
	return nil
}

func (s *Server) validWebhooks() []*webhookConfig {
	var valid []*webhookConfig
	for _, x := range s.webhooks.All() {
		if x.State == stateValid {
			valid = append(valid, x)
		}
	}
	return valid
}
