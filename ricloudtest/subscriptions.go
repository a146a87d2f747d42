package ricloudtest

import (
	"time"

	"github.com/reincubate/ricloud-go/ricloudtest/internal/collection"
)

// The shortest interval for Relay and the interval of a subscription without one are the
// contract's.
//
// Assumption (interval): other services accept an interval of a minute or more, and a subscription
// polls first as soon as it is active. However short the scaled interval, a tenth of a second lies
// between two of its polls.
const (
	minRelayInterval = time.Hour
	minInterval      = time.Minute
	standardInterval = 24 * time.Hour
	shortestPause    = 100 * time.Millisecond
)

type subscription struct {
	collection.Head

	Key        *key
	Session    *session
	Source     *source
	Payload    object
	Interval   time.Duration
	Start, End time.Time
	State      string
}

func newSubscriptions() *collection.Collection[*subscription] {
	return collection.New("subscription", map[string]collection.Filter[*subscription]{
		"session": {Value: func(x *subscription) string { return x.Session.ID }, Indexed: true},
		"source":  {Value: func(x *subscription) string { return x.Source.ID }, Indexed: true},
		"state":   {Value: func(x *subscription) string { return x.State }},
	})
}

func (v view) subscription(x *subscription) object {
	owner := "org" // the documented name, which no other resource uses
	if v.guide() {
		owner = "organisation"
	}
	return object{
		"id": x.ID, "resource": "subscription", owner: v.server.org.ID,
		"source": x.Source.ID, "session": x.Session.ID, "poll_payload": x.Payload,
		"interval":   optional(x.Interval.Seconds()),
		"date_start": stamp(x.Start), "date_end": stamp(x.End), "state": x.State,
		"date_created": stamp(x.Created),
	}
}

func (s *Server) createSubscription(c *call) (answerer, error) {
	c.params.require("session")
	x := &subscription{
		Key: c.key, State: statePending, Interval: c.params.seconds("interval"),
		Start: c.params.when("date_start"), End: c.params.when("date_end"),
	}
	_, x.Payload = readPayload(c.params, "poll_payload")
	x.Session, x.Source = s.readSession(c.params)
	checkSubscription(c.params, x)
	if err := c.params.err(); err != nil {
		return nil, err
	}
	if err := s.operating(); err != nil {
		return nil, err
	}
	if x.Session.State == stateExpired {
		return nil, usable(x.Session)
	}
	if s.destination(c.key) == nil || s.unconfigured && s.receiverOf(c.key) == nil {
		const message = "A subscription needs a valid storage config and a valid webhook config."
		return nil, badRequest(codeUnconfigured, message)
	}
	x.Head = s.unique()
	s.subscriptions.Add(x)
	if x.Start.IsZero() {
		x.Start = x.Created
	}
	pause := max(0, x.Start.Sub(x.Created))
	s.after(pause+s.delays.Subscription.draw(s.random), job{Do: startSubscription, ID: x.ID})
	c.created()
	return answerWith(view.subscription, x)
}

// checkSubscription notes what is wrong beyond the types of the parameters.
func checkSubscription(p *params, x *subscription) {
	if x.Source != nil && isRelayInstance(x.Source.Kind) {
		p.note("source", "is required: a child of the Relay instance")
	}
	if p.has("interval") && x.Interval < minInterval {
		p.note("interval", "must be at least 60 seconds")
	}
	relay := x.Source != nil && isRelayDevice(x.Source.Kind)
	if relay && p.has("interval") && x.Interval < minRelayInterval {
		p.note("interval", "must be at least 3600 seconds for Relay")
	}
	if !x.End.IsZero() && x.End.Before(x.Start) {
		p.note("date_end", "is before date_start")
	}
}

func (s *Server) activate(x *subscription) {
	if x.State == statePending {
		x.State = stateActive
		s.pollFor(x)
	}
}

// pollFor makes a subscription's automatic poll and plans the next. It makes none while the session
// is not active or nothing may be published.
func (s *Server) pollFor(x *subscription) {
	if x.State != stateActive || !x.End.IsZero() && !s.clock.Now().Before(x.End) {
		return
	}
	p := &poll{
		Key: x.Key, Session: x.Session, Source: x.Source, Subscription: x, Automatic: true,
		Kind: "data", Payload: x.Payload,
	}
	wants := wantsOf(x.Payload)
	if s.startable(p) == nil && s.allowPoll(p, wants) == nil {
		s.startPoll(p, wants)
	}
	interval := x.Interval
	if interval <= 0 {
		interval = standardInterval
	}
	s.clock.After(max(shortestPause, s.scale(interval)), job{Do: pollSubscription, ID: x.ID})
}

func (s *Server) deleteSubscription(c *call) (answerer, error) {
	x, err := s.subscriptions.Get(c.id)
	if err != nil {
		return nil, err
	}
	x.State = stateDeleted
	return answerWith(view.subscription, x)
}
