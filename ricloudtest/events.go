package ricloudtest

import (
	"bytes"
	"cmp"
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"io"
	"log/slog"
	"net/http"
	"strconv"
	"strings"
	"time"

	ricloud "github.com/reincubate/ricloud-go"
	"github.com/reincubate/ricloud-go/ricloudtest/internal/collection"
	"github.com/reincubate/ricloud-go/ricloudtest/internal/reply"
)

// WebhookFaults disturbs the delivery of events. The numbers are probabilities from 0 to 1; the
// server's seed decides which deliveries they affect. The test of a webhook config is never
// disturbed.
type WebhookFaults struct {
	Drop           float64 `json:"drop,omitempty"`            // not sent, but shown as "delivered"
	Duplicate      float64 `json:"duplicate,omitempty"`       // sent twice
	Reorder        float64 `json:"reorder,omitempty"`         // held back, so others overtake it
	WrongSignature float64 `json:"wrong_signature,omitempty"` // another secret; then retried
	OldTimestamp   float64 `json:"old_timestamp,omitempty"`   // an hour old; then retried

	HoldBack time.Duration `json:"-"` // for Reorder; 5 s if zero
}

func (f WebhookFaults) check() error {
	for _, rate := range []float64{
		f.Drop, f.Duplicate, f.Reorder, f.WrongSignature, f.OldTimestamp,
	} {
		if !(rate >= 0 && rate <= 1) {
			return refuse("webhook faults: %v is not a probability from 0 to 1", rate)
		}
	}
	if f.HoldBack < 0 {
		return refuse("webhook faults: HoldBack %v is negative", f.HoldBack)
	}
	return nil
}

// SetWebhookFaults replaces the faults of deliveries.
func (s *Server) SetWebhookFaults(f WebhookFaults) error {
	if err := f.check(); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.noise = f
	return nil
}

type event struct {
	collection.Head

	Kind, Action string
	Data         json.RawMessage
	State        string
	Retries      int
	Delivered    time.Time
	Dropped      bool
	Unsent       bool // no receiver was there when it was made
}

func newEvents() *collection.Collection[*event] {
	return collection.New("event", map[string]collection.Filter[*event]{
		"type":   {Value: func(e *event) string { return e.Kind }, Indexed: true},
		"action": {Value: func(e *event) string { return e.Action }},
		"state":  {Value: func(e *event) string { return e.State }},
	})
}

func (v view) event(e *event) object {
	return object{
		"id": e.ID, "resource": "event", "type": e.Kind, "action": e.Action, "data": e.Data,
		"state": e.State, "retries": e.Retries, "date_created": stamp(e.Created),
		"date_delivered": stamp(e.Delivered),
	}
}

// SignWebhook returns the value of the Ricloud-Signature header for a body that is sent at t.
func SignWebhook(secret string, t time.Time, body []byte) string {
	at := strconv.FormatInt(t.Unix(), 10)
	mac := hmac.New(sha256.New, []byte(secret))
	mac.Write([]byte(at + "."))
	mac.Write(body)
	return "t=" + at + ",s=" + base64.StdEncoding.EncodeToString(mac.Sum(nil))
}

// emit makes an event and sends it to the key's receiver.
//
// Assumption (event-receivers): an event without a valid webhook config is recorded and stays
// pending; a config that becomes valid later does not receive it. Events of one moment may arrive
// in any order.
func (s *Server) emit(k *key, kind, action string, data func(view) object) {
	to := s.receiverOf(k)
	if to == nil && s.onlyDelivered {
		return
	}
	e := s.record(kind, action, reply.Encode(data(s.newView(s.publicStorage()))))
	if to == nil {
		e.Unsent = true
		return
	}
	wait := s.delays.Delivery.draw(s.random)
	if s.draw(s.noise.Drop) {
		e.State, e.Delivered = stateDelivered, s.clock.Now()
		return
	}
	if s.draw(s.noise.Reorder) {
		wait += cmp.Or(s.noise.HoldBack, 5*time.Second)
	}
	if s.draw(s.noise.Duplicate) {
		s.after(wait, job{Do: repeatEvent, ID: e.ID, Other: to.ID})
	}
	s.after(wait, job{Do: deliverEvent, ID: e.ID, Other: to.ID})
}

func (s *Server) record(kind, action string, data []byte) *event {
	e := &event{Head: s.unique(), Kind: kind, Action: action, Data: data, State: statePending}
	s.events.Add(e)
	return e
}

// attempt delivers an event, and plans the next attempt if that fails.
//
// Assumption (webhook-retries): retries come after 1, 10, 30 and 120 minutes. The contract only
// says that there are five attempts.
func (s *Server) attempt(e *event, to *webhookConfig) {
	if e.Dropped || e.State != statePending {
		return
	}
	how := delivery{wrong: s.draw(s.noise.WrongSignature), old: s.draw(s.noise.OldTimestamp)}
	s.post(e, to, how, func(ok bool) {
		switch {
		case e.State != statePending:
		case ok:
			e.State, e.Delivered = stateDelivered, s.clock.Now()
		case e.Retries >= len(s.retries):
			e.State = stateFailed
		default:
			pause := s.retries[e.Retries]
			e.Retries++
			s.after(pause, job{Do: deliverEvent, ID: e.ID, Other: to.ID})
		}
	})
}

// delivery is how one attempt is signed.
type delivery struct{ wrong, old bool }

// post sends an event once, and then calls done with whether the receiver took it. s.mu is held
// during both.
//
// Assumption (webhook-success): any 2xx within ten seconds takes an event.
func (s *Server) post(e *event, to *webhookConfig, how delivery, done func(ok bool)) {
	body := reply.Encode(s.newView(s.publicStorage()).event(e))
	secret, at := to.Secret, s.clock.Now()
	if how.wrong {
		secret += "-wrong"
	}
	if how.old {
		at = at.Add(-time.Hour)
	}
	signature := SignWebhook(secret, at, body)
	if s.stringDeliveries {
		body = reply.Encode(string(body)) // signed before it is wrapped
	}
	target := strings.TrimSuffix(to.URL, "/") + "/" + e.ID
	slug := e.Kind + "." + e.Action
	s.inBackground(func() func() {
		status, err := s.send(target, signature, body)
		s.logger.DebugContext(s.ctx, "The sandbox delivered an event.",
			slog.String("event", slug), slog.Int("status", status))
		return func() { done(err == nil && status >= 200 && status < 300) }
	})
}

// send makes one POST, in memory where the test has its own receiver for the URL.
func (s *Server) send(target, signature string, body []byte) (int, error) {
	select {
	case s.slots <- struct{}{}:
		defer func() { <-s.slots }()
	case <-s.ctx.Done():
		return 0, context.Cause(s.ctx)
	}
	ctx, cancel := context.WithTimeout(s.ctx, 10*time.Second)
	defer cancel()
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, target, bytes.NewReader(body))
	if err != nil {
		return 0, err
	}
	r.Header.Set("Content-Type", "application/json")
	r.Header.Set("Ricloud-Signature", signature)
	if h := s.receiver(target); h != nil {
		return reply.Of(func(w http.ResponseWriter) { h.ServeHTTP(w, r) }).Status, nil
	}
	res, err := s.webhookTransport().RoundTrip(r)
	if err != nil {
		return 0, err
	}
	defer res.Body.Close()
	_, err = io.Copy(io.Discard, io.LimitReader(res.Body, 64<<10))
	return res.StatusCode, err
}

// receiver returns the handler with the longest prefix of a URL.
func (s *Server) receiver(target string) http.Handler {
	longest, found := -1, http.Handler(nil)
	for prefix, h := range s.receivers {
		if strings.HasPrefix(target, prefix) && len(prefix) > longest {
			longest, found = len(prefix), h
		}
	}
	return found
}

func (s *Server) webhookTransport() http.RoundTripper {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.deliverer == nil {
		s.deliverer = &http.Transport{
			ResponseHeaderTimeout: 10 * time.Second, IdleConnTimeout: time.Minute,
		}
	}
	return s.deliverer
}

// Deliver sends an event of any type and action to every valid webhook config at once, with data as
// its resource, and returns the event's ID. It is for events that a test cannot wait for, or that
// the API does not have yet. It fails where there is no valid webhook config.
func (s *Server) Deliver(kind, action string, data any) (ricloud.ID, error) {
	if kind == "" || action == "" {
		return "", refuse("deliver: an event needs a type and an action")
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	to := s.validWebhooks()
	if len(to) == 0 {
		return "", refuse("deliver %s.%s: there is no valid webhook config", kind, action)
	}
	e := s.record(kind, action, reply.Encode(data))
	for _, x := range to {
		s.attempt(e, x)
	}
	return ricloud.ID(e.ID), nil
}

// ResendEvent sends an event once more to every valid webhook config, whatever its state, as an
// at-least-once delivery may. A failed or dropped event becomes pending again.
func (s *Server) ResendEvent(id ricloud.ID) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	e, ok := s.events.Lookup(string(id))
	if !ok {
		return refuse("resend event %s: there is no such event", id)
	}
	to := s.validWebhooks()
	if len(to) == 0 {
		return refuse("resend event %s: there is no valid webhook config", id)
	}
	again := e.State == stateDelivered
	if !again {
		e.State, e.Dropped = statePending, false
	}
	for _, x := range to {
		if again {
			s.post(e, x, delivery{}, func(bool) {})
			continue
		}
		s.attempt(e, x)
	}
	return nil
}

// DropEvent ends the attempts to deliver an event. The API then shows it as failed.
func (s *Server) DropEvent(id ricloud.ID) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	e, ok := s.events.Lookup(string(id))
	if !ok {
		return refuse("drop event %s: there is no such event", id)
	}
	if e.State != statePending {
		return refuse("drop event %s: it is %s already", id, e.State)
	}
	e.State, e.Dropped = stateFailed, true
	return nil
}
