package transport

import (
	"context"
	"net/http"
	"slices"
	"strings"
	"time"
)

// Observe is called when an attempt has its turn and is about to be sent. The
// request runs with the context that it returns. If ended is not nil, it is
// called once the attempt has ended.
type Observe func(ctx context.Context, sending Sending) (_ context.Context, ended func(Attempt))

// Sending is an attempt that is about to be sent.
type Sending struct {
	Request  *Request
	Host     string
	Number   int           // 1 for the first
	TurnWait time.Duration // how long it waited for its turn
	Header   http.Header   // fields to add; those that the request has already are kept
}

// observe is the observer's link in the chain. It comes after the pacer, so it
// sees requests that are sent, not requests that wait.
type observe struct{ next http.RoundTripper }

func (o observe) RoundTrip(req *http.Request) (*http.Response, error) {
	call := callFrom(req.Context())
	observer := call.client.cfg.Observe
	if observer == nil {
		return o.next.RoundTrip(req)
	}
	header := http.Header{}
	ctx, ended := observer(req.Context(), Sending{
		Request: call.req, Host: req.URL.Host, Number: len(call.attempts) + 1,
		TurnWait: call.turnWait, Header: header,
	})
	call.ended = ended
	if callFrom(ctx) == call { // else it would not end with the call
		req = req.WithContext(ctx)
	}
	if len(header) > 0 {
		req.Header = merged(req.Header, header)
	}
	return o.next.RoundTrip(req)
}

// merged returns header with those fields of more that it lacks.
func merged(header, more http.Header) http.Header {
	all := header.Clone()
	for name, values := range more {
		name = http.CanonicalHeaderKey(name)
		if _, taken := all[name]; !taken && isField(name, values) {
			all[name] = values
		}
	}
	return all
}

// isField reports whether net/http would send a header field.
func isField(name string, values []string) bool {
	control := func(r rune) bool { return r < ' ' && r != '\t' || r == 0x7f }
	return name != "" && isToken(name) &&
		!slices.ContainsFunc(values, func(v string) bool { return strings.ContainsFunc(v, control) })
}

// observed tells the observer how the attempt ended.
func (c *call) observed(attempt *Attempt) {
	if c.ended != nil {
		c.ended(*attempt)
		c.ended = nil
	}
}
