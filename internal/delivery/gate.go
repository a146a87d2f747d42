// Package delivery receives deliveries by HTTP that nobody has verified yet. It
// refuses what it can before it reads a body, bounds the memory that bodies
// take, and logs sparingly what anybody can cause. It knows no event.
package delivery

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"sync/atomic"
	"time"
)

const (
	retryAfter = "30" // seconds

	// bodyTimeout bounds the reading of a body where the server sets no
	// ReadTimeout.
	bodyTimeout = 30 * time.Second
	// leastBuffer is the size of the first buffer for a body.
	leastBuffer = 512
	// freeBody is how much of each body is read without counting. Beyond it,
	// all bodies that are read together share MaxBody*sharedBodies bytes.
	freeBody     = 16 << 10
	sharedBodies = 2
)

// Refusal is an answer other than 200.
type Refusal struct {
	Status int
	Answer string // for the sender: a constant
	Detail error  // for the operator
}

// Error returns the answer.
func (f *Refusal) Error() string { return f.Answer }

// Unwrap returns the detail.
func (f *Refusal) Unwrap() error { return f.Detail }

// Refuse returns a refusal whose answer says everything.
func Refuse(status int, answer string) *Refusal {
	return &Refusal{status, answer, errors.New(answer)}
}

// Reply writes the refusal as the answer.
func (f *Refusal) Reply(w http.ResponseWriter) {
	switch f.Status {
	case http.StatusMethodNotAllowed:
		w.Header().Set("Allow", http.MethodPost)
	case http.StatusServiceUnavailable:
		w.Header().Set("Retry-After", retryAfter)
	}
	http.Error(w, f.Answer, f.Status)
}

// Gate admits deliveries. It is safe for concurrent use.
type Gate struct {
	maxBody int64
	slots   chan struct{} // nil: no limit
	reading atomic.Int64  // bytes of bodies that are being read, beyond freeBody each
}

// NewGate returns a Gate for bodies of at most maxBody bytes, and for at most
// maxConcurrent deliveries that are handled at a time; 0: no limit.
func NewGate(maxBody int64, maxConcurrent int) *Gate {
	g := &Gate{maxBody: maxBody}
	if maxConcurrent > 0 {
		g.slots = make(chan struct{}, maxConcurrent)
	}
	return g
}

// Check refuses a request by its method and its length. It bounds the reading of
// the body, by Read and by net/http, which reads on behind a refusal.
func (g *Gate) Check(w http.ResponseWriter, r *http.Request) error {
	setReadDeadline(w, r, time.Now().Add(bodyTimeout))
	switch {
	case r.Method != http.MethodPost:
		return Refuse(http.StatusMethodNotAllowed, "the request is not a POST")
	case r.ContentLength > g.maxBody:
		return g.tooLarge()
	}
	return nil
}

// Enter takes a slot, or refuses. leave gives it back.
func (g *Gate) Enter() (leave func(), err error) {
	if g.slots == nil {
		return func() {}, nil
	}
	select {
	case g.slots <- struct{}{}:
		return func() { <-g.slots }, nil
	default:
		return nil, tooBusy()
	}
}

// Read reads a body, or refuses. Senders that never finish can neither exhaust
// the memory nor, after Check, keep their connections. It reads nothing while no
// slot is free.
func (g *Gate) Read(w http.ResponseWriter, r *http.Request) ([]byte, error) {
	if g.slots != nil && len(g.slots) == cap(g.slots) {
		return nil, tooBusy()
	}
	reserved := int64(0)
	defer func() { g.reading.Add(-reserved) }()
	from := http.MaxBytesReader(w, bodyOf(r), g.maxBody)
	body := make([]byte, 0, max(leastBuffer, min(r.ContentLength+1, freeBody)))
	for {
		if size := int64(cap(body)); len(body) == cap(body) {
			more := min(size, g.maxBody+1-size)
			if size+more > freeBody {
				reserved += more
				if g.reading.Add(more) > sharedBodies*g.maxBody {
					return nil, tooBusy()
				}
			}
			body = append(make([]byte, 0, size+more), body...)
		}
		n, err := from.Read(body[len(body):cap(body)])
		body = body[:len(body)+n]
		if _, ok := errors.AsType[*http.MaxBytesError](err); ok {
			return nil, g.tooLarge()
		}
		switch {
		case errors.Is(err, io.EOF):
			setReadDeadline(w, r, time.Time{}) // the handling may take longer
			return body, nil
		case err != nil:
			return nil, &Refusal{
				http.StatusBadRequest, "the body could not be read",
				fmt.Errorf("cannot read the body: %w", err),
			}
		}
	}
}

func tooBusy() *Refusal {
	return Refuse(http.StatusServiceUnavailable, "too many events at a time")
}

func (g *Gate) tooLarge() *Refusal {
	return &Refusal{
		http.StatusRequestEntityTooLarge, "the event is too large",
		fmt.Errorf("the event has more than %d bytes: see WithWebhookMaxBody", g.maxBody),
	}
}

// setReadDeadline sets the deadline of reads, unless the server has one of its own.
func setReadDeadline(w http.ResponseWriter, r *http.Request, at time.Time) {
	if server := serverOf(r.Context()); server == nil || server.ReadTimeout == 0 {
		_ = http.NewResponseController(w).SetReadDeadline(at) // not every writer has deadlines
	}
}

// bodyOf returns a request's body, which is nil in a request that no server made.
func bodyOf(r *http.Request) io.ReadCloser {
	if r.Body == nil {
		return http.NoBody
	}
	return r.Body
}

// serverOf returns the server that serves a request; nil: another than net/http's.
func serverOf(ctx context.Context) *http.Server {
	server, _ := ctx.Value(http.ServerContextKey).(*http.Server)
	return server
}
