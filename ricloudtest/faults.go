package ricloudtest

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/reincubate/ricloud-go/internal/jsonerror"
	"github.com/reincubate/ricloud-go/ricloudtest/internal/reply"
)

// Fault makes calls go wrong. The first fields say which calls, and must all match. The fields from
// Delay on say what happens; they combine in that order.
type Fault struct {
	// Operation is a name of Operations. Empty matches every call.
	Operation string `json:"operation,omitempty"`
	// Request is a method and a path, such as "POST /polls". A path that ends in "*" matches every
	// path that begins with what comes before.
	Request string `json:"request,omitempty"`
	// Account is the identifier of an account. It matches the calls about its sources, sessions,
	// polls, tasks, results, objects and subscriptions.
	Account string `json:"account,omitempty"`
	// ID is the ID in the path, or the path of a stored object.
	ID string `json:"id,omitempty"`

	Nth   int     `json:"nth,omitempty"`   // the first of these calls to go wrong, counted from 1
	Count int     `json:"count,omitempty"` // how many of them; 0 is one, negative is all
	Rate  float64 `json:"rate,omitempty"`  // with this probability; 0 is always

	After bool `json:"after,omitempty"` // act on the request, then damage the answer

	Delay time.Duration `json:"-"`               // before anything else
	Hang  bool          `json:"hang,omitempty"`  // no answer until the client gives up
	Reset bool          `json:"reset,omitempty"` // the connection breaks instead of an answer

	Status int         `json:"status,omitempty"` // answer with this status
	Header http.Header `json:"header,omitempty"` // added to the answer
	Body   string      `json:"body,omitempty"`   // instead of the answer's; "<" begins HTML

	Drip          time.Duration `json:"-"`                        // a pause before each byte
	Truncate      int64         `json:"truncate,omitempty"`       // break after so many bytes
	ContentLength int64         `json:"content_length,omitempty"` // declare this length
	Corrupt       bool          `json:"corrupt,omitempty"`        // flip a bit of the body
}

// plainFault is a Fault without its methods.
type plainFault Fault

type faultJSON struct {
	plainFault

	Delay duration `json:"delay,omitzero"`
	Drip  duration `json:"drip,omitzero"`
}

// MarshalJSON writes the fields in snake case, and durations as strings such as "1.5s".
func (f Fault) MarshalJSON() ([]byte, error) {
	return json.Marshal(faultJSON{plainFault(f), duration(f.Delay), duration(f.Drip)})
}

// UnmarshalJSON reads what MarshalJSON writes, and refuses unknown fields.
func (f *Fault) UnmarshalJSON(data []byte) error {
	var read faultJSON
	if err := decodeStrictly(data, &read); err != nil {
		return err
	}
	*f = Fault(read.plainFault)
	f.Delay, f.Drip = time.Duration(read.Delay), time.Duration(read.Drip)
	return nil
}

// duration is a time.Duration that JSON writes as a string.
type duration time.Duration

// MarshalText writes the duration as Go does.
func (d duration) MarshalText() ([]byte, error) { return []byte(time.Duration(d).String()), nil }

// UnmarshalText reads a duration such as "1.5s".
func (d *duration) UnmarshalText(text []byte) error {
	parsed, err := time.ParseDuration(string(text))
	if err != nil { // an error of this type learns the name of the field
		return &json.UnmarshalTypeError{
			Value: strconv.Quote(string(text)), Type: reflect.TypeFor[duration](),
		}
	}
	*d = duration(parsed)
	return nil
}

// JSON says what a duration is read from.
func (d duration) JSON() string { return `a duration such as "1.5s"` }

// decodeStrictly reads one JSON value. It refuses unknown fields, null, text that is not UTF-8, and
// text after the value.
func decodeStrictly(data []byte, to any) error {
	if !utf8.Valid(data) {
		return errors.New("it is not UTF-8")
	}
	decoder := json.NewDecoder(bytes.NewReader(data))
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(to); err != nil {
		return err // jsonerror.InWords says it to people
	}
	if _, err := decoder.Token(); !errors.Is(err, io.EOF) {
		return errors.New("there is more text after the JSON")
	}
	if string(bytes.TrimSpace(data)) == "null" {
		return errors.New("it is null")
	}
	return nil
}

// check returns what is wrong with a fault.
func (f Fault) check() error {
	method, path, _ := strings.Cut(f.Request, " ")
	switch {
	case f.Operation != "" && !slices.Contains(Operations(), f.Operation):
		return refuse("fault: there is no operation %q, see Operations", f.Operation)
	case f.Request != "" && (method == "" || !strings.HasPrefix(path, "/")):
		return refuse("fault: request %q: want a method and a path, as in POST /polls", f.Request)
	case f.Nth < 0:
		return refuse("fault: nth %d is negative", f.Nth)
	case !(f.Rate >= 0 && f.Rate <= 1):
		return refuse("fault: rate %v is not a probability from 0 to 1", f.Rate)
	case f.Delay < 0 || f.Drip < 0 || f.Truncate < 0 || f.ContentLength < 0:
		return refuse("fault: delay, drip, truncate and content_length must not be negative")
	case f.Status != 0 && (f.Status < 200 || f.Status > 599):
		return refuse("fault: status %d: want 200 to 599", f.Status)
	case f.Body != "" && (f.Status == http.StatusNoContent || f.Status == http.StatusNotModified):
		return refuse("fault: an answer with status %d has no body", f.Status)
	case !validHeader(f.Header):
		return refuse("fault: header: want names of letters, digits and hyphens, and values " +
			"without control characters")
	case !f.hasEffect():
		return refuse("fault: it says which calls but not what happens to them")
	}
	return nil
}

func validHeader(header http.Header) bool {
	for name, values := range header {
		bad := func(r rune) bool {
			return r > '~' || r <= ' ' || strings.ContainsRune(`"(),/:;<=>?@[\]{}`, r)
		}
		if name == "" || strings.ContainsFunc(name, bad) {
			return false
		}
		control := func(r rune) bool { return r < ' ' && r != '\t' || r == 0x7f }
		for _, value := range values {
			if strings.ContainsFunc(value, control) {
				return false
			}
		}
	}
	return true
}

func (f Fault) hasEffect() bool {
	return f.Delay > 0 || f.Hang || f.Reset || f.Status != 0 || len(f.Header) > 0 || f.Body != "" ||
		f.Drip > 0 || f.Truncate > 0 || f.ContentLength > 0 || f.Corrupt
}

// ReadFaults reads faults from JSON: an array of objects with the fields of Fault in snake case,
// where "delay" and "drip" are strings such as "1.5s". It refuses a fault that cannot work.
func ReadFaults(r io.Reader) ([]Fault, error) {
	const most = 64 << 20
	raw, err := readUpTo(r, most)
	if err != nil {
		return nil, fmt.Errorf("ricloudtest: read faults: %w", err)
	}
	var faults []Fault
	if err := decodeStrictly(raw, &faults); err != nil {
		return nil, fmt.Errorf("ricloudtest: read faults: %w", jsonerror.InWords(err))
	}
	for i, f := range faults {
		if err := f.check(); err != nil {
			return nil, fmt.Errorf("ricloudtest: read faults: number %d: %w", i, err)
		}
	}
	return faults, nil
}

// SetFaults replaces the faults. Fault.Nth and Fault.Count then count the calls from here on. If a
// fault cannot work, SetFaults returns an error and changes nothing.
func (s *Server) SetFaults(faults ...Fault) error {
	for _, f := range faults {
		if err := f.check(); err != nil {
			return err
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.faults = slices.Clone(faults)
	clear(s.faultMatches)
	return nil
}

// Faults returns the faults that are set.
func (s *Server) Faults() []Fault {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.faults)
}

// target is a call, as faults see it.
type target struct {
	operation string
	id        string // in the path
	body      []byte
}

// inject counts a call and returns the fault that applies to it, if any.
func (s *Server) inject(r *http.Request, at target) (Fault, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	chosen := -1
	for i, f := range s.faults {
		if !s.matches(f, r, at) {
			continue
		}
		s.faultMatches[i]++
		n, first, count := s.faultMatches[i], max(f.Nth, 1), max(f.Count, 1)
		due := n >= first && (f.Count < 0 || n < first+count)
		if chosen < 0 && due && (f.Rate == 0 || s.draw(f.Rate)) {
			chosen = i
		}
	}
	if chosen < 0 {
		return Fault{}, false
	}
	return s.faults[chosen], true
}

func (s *Server) matches(f Fault, r *http.Request, at target) bool {
	if f.Operation != "" && f.Operation != at.operation || f.ID != "" && f.ID != at.id {
		return false
	}
	if f.Request != "" {
		asked := r.Method + " " + r.URL.Path
		prefix, wild := strings.CutSuffix(f.Request, "*")
		if asked != f.Request && !(wild && strings.HasPrefix(asked, prefix)) {
			return false
		}
	}
	return f.Account == "" || f.Account == s.accountOf(at)
}

// accountOf returns the identifier of the account that a call is about, or "".
func (s *Server) accountOf(at target) string {
	if from := s.sourceOfID(at.id); from != nil {
		return from.Identifier
	}
	var body struct {
		Source       json.RawMessage `json:"source"`
		Session      json.RawMessage `json:"session"`
		Subscription json.RawMessage `json:"subscription"`
	}
	_ = json.Unmarshal(at.body, &body) // a body of another shape names no account
	var login struct {
		Identifier string `json:"identifier"`
	}
	if json.Unmarshal(body.Source, &login) == nil && login.Identifier != "" {
		return login.Identifier
	}
	for _, raw := range []json.RawMessage{body.Source, body.Session, body.Subscription} {
		id := strings.Trim(string(raw), `"`)
		if from := s.sourceOfID(id); id != "" && from != nil {
			return from.Identifier
		}
	}
	return ""
}

// sourceOfID returns the source that a resource or a stored object belongs to, or nil.
func (s *Server) sourceOfID(id string) *source {
	if object := s.objects[id]; object != nil {
		id = id[strings.LastIndex(id, "/")+1:] // objects are named after their results
	}
	if x, ok := s.sessions.Lookup(id); ok {
		return x.Source
	} else if p, ok := s.polls.Lookup(id); ok {
		return p.Source
	} else if t, ok := s.tasks.Lookup(id); ok {
		return t.source()
	} else if r, ok := s.results.Lookup(id); ok {
		return r.Task.source()
	} else if x, ok := s.subscriptions.Lookup(id); ok {
		return x.Source
	} else if x, ok := s.sources.Lookup(id); ok {
		return x
	}
	return nil
}

// disturb answers a call, with whatever fault applies to it.
func (s *Server) disturb(r *http.Request, at target, process func() *reply.Answer) *reply.Answer {
	f, faulty := s.inject(r, at)
	if !faulty {
		return process()
	}
	if f.Delay > 0 {
		s.await(r.Context(), nil, f.Delay)
	}
	a := &reply.Answer{Header: http.Header{}, Body: http.NoBody}
	if f.processes() {
		a = process()
	}
	f.apply(a)
	a.Closed = s.ctx.Done()
	return a
}

// processes reports whether the request is acted upon.
func (f Fault) processes() bool {
	return f.After || !f.Hang && !f.Reset && f.Status == 0 && f.Body == ""
}

// apply changes an answer as the fault says.
func (f Fault) apply(a *reply.Answer) {
	a.Hang, a.Reset = f.Hang, f.Reset
	if f.Status != 0 {
		a.Status = f.Status
	}
	if a.Status == 0 {
		a.Status = http.StatusOK
	}
	if f.Body != "" || f.Status != 0 && !f.After {
		contentType := "application/json"
		if strings.HasPrefix(f.Body, "<") {
			contentType = "text/html; charset=utf-8"
		}
		a.Replace(contentType, f.Body)
	}
	for name, values := range f.Header {
		a.Header[http.CanonicalHeaderKey(name)] = values
	}
	if f.Corrupt {
		a.Corrupt()
	}
	if f.Truncate > 0 {
		a.Body = io.LimitReader(a.Body, f.Truncate)
	}
	if f.ContentLength > 0 {
		a.Declared = f.ContentLength
	}
	a.Drip = f.Drip
}
