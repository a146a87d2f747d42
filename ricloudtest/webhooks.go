package ricloudtest

import (
	"bytes"
	"cmp"
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/reincubate/ricloud-go"
)

// WebhookFaults disturbs deliveries of events. The numbers are probabilities
// from 0 to 1, drawn from the server's seed; tests of webhook configs are left
// alone.
type WebhookFaults struct {
	Drop           float64 // never sent, yet the API holds it delivered
	Duplicate      float64 // sent twice
	Reorder        float64 // held back by HoldBack, so that later ones overtake it
	WrongSignature float64 // signed with another secret, and then retried
	OldTimestamp   float64 // signed an hour in the past, and then retried

	HoldBack time.Duration // 5 s if zero
}

// SignWebhook is the value of the Ricloud-Signature header for a body sent at t.
func SignWebhook(secret string, t time.Time, body []byte) string {
	at := strconv.FormatInt(t.Unix(), 10)
	mac := hmac.New(sha256.New, []byte(secret))
	mac.Write([]byte(at + "."))
	mac.Write(body)
	return "t=" + at + ",s=" + base64.StdEncoding.EncodeToString(mac.Sum(nil))
}

// delivery is how one attempt is sent.
type delivery struct{ wrong, old bool }

// receiverOf is the webhook config that a key's events go to, nil for none.
func (s *Server) receiverOf(k *key) *webhookConfig {
	for _, x := range []*webhookConfig{k.webhook, s.org.webhookDefault} {
		if x != nil && x.state == stateValid {
			return x
		}
	}
	return nil
}

// publicOrigin is where receivers of events read stored objects.
func (s *Server) publicOrigin() string {
	return cmp.Or(s.urls[1], "https://"+memoryStorage)
}

// emit makes an event and sends it, where there is somebody to send it to.
// Assumption: without a valid webhook config no event is recorded.
func (s *Server) emit(k *key, kind, action string, data func(view) object) {
	to := s.receiverOf(k)
	if to == nil {
		return
	}
	e := s.record(kind, action, encode(data(s.view(s.publicOrigin()))))
	wait := s.delays.Delivery.draw(s.random)
	if s.draw(s.noise.Drop) {
		e.state, e.delivered = stateDelivered, s.clock.now()
		return
	}
	if s.draw(s.noise.Reorder) {
		wait += cmp.Or(s.noise.HoldBack, 5*time.Second)
	}
	if s.draw(s.noise.Duplicate) {
		s.after(wait, func() { s.post(e, to, delivery{}, func(bool) {}) })
	}
	s.after(wait, func() { s.attempt(e, to) })
}

func (s *Server) record(kind, action string, data []byte) *event {
	e := &event{head: s.unique(), kind: kind, action: action, data: data, state: statePending}
	s.events.add(e)
	return e
}

// attempt delivers an event, and plans the next attempt if that fails.
func (s *Server) attempt(e *event, to *webhookConfig) {
	how := delivery{wrong: s.draw(s.noise.WrongSignature), old: s.draw(s.noise.OldTimestamp)}
	s.post(e, to, how, func(ok bool) {
		switch {
		case ok:
			e.state, e.delivered = stateDelivered, s.clock.now()
		case e.retries >= len(s.retries):
			e.state = stateFailed
		default:
			pause := s.retries[e.retries]
			e.retries++
			s.after(pause, func() { s.attempt(e, to) })
		}
	})
}

// post sends an event once and calls done, with s.mu held, with whether the
// receiver took it. Assumption: any 2xx within 10 seconds takes it.
func (s *Server) post(e *event, to *webhookConfig, how delivery, done func(ok bool)) {
	body := encode(s.view(s.publicOrigin()).event(e))
	secret, at := to.secret, s.clock.now()
	if how.wrong {
		secret += "-wrong"
	}
	if how.old {
		at = at.Add(-time.Hour)
	}
	target := strings.TrimSuffix(to.url, "/") + "/" + e.id
	s.spawn(func() {
		status, err := s.send(target, SignWebhook(secret, at, body), body)
		s.logger.DebugContext(s.ctx, "The sandbox delivered an event.", slog.String("event", e.kind+"."+e.action), slog.Int("status", status))
		s.mu.Lock()
		defer s.mu.Unlock()
		done(err == nil && status >= 200 && status < 300)
	})
}

// send makes one POST, in memory where a receiver of the test's own has the URL.
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
		return answerOf(func(w http.ResponseWriter) { h.ServeHTTP(w, r) }).final(), nil
	}
	res, err := s.webhookTransport().RoundTrip(r)
	if err != nil {
		return 0, err
	}
	defer res.Body.Close()
	_, err = io.Copy(io.Discard, io.LimitReader(res.Body, 64<<10))
	return res.StatusCode, err
}

// receiver is the handler with the longest prefix of the URL.
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
		s.deliverer = &http.Transport{ResponseHeaderTimeout: 10 * time.Second, IdleConnTimeout: time.Minute}
	}
	return s.deliverer
}

// Deliver sends an event of any type and action to every valid webhook config,
// now, with data as its resource, and returns the event's ID. It is for events
// that a test cannot wait for, or that the API does not have yet.
func (s *Server) Deliver(kind, action string, data any) (ricloud.ID, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	e := s.record(kind, action, encode(data))
	sent := false
	for _, to := range s.webhooks.all {
		if to.state == stateValid {
			sent = true
			s.attempt(e, to)
		}
	}
	if !sent {
		return "", fmt.Errorf("ricloudtest: deliver %s.%s: %w", kind, action, errNoReceiver)
	}
	return ricloud.ID(e.id), nil
}

var errNoReceiver = errors.New("no valid webhook config")
