package ricloudtest

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"time"
)

// Fault makes calls go wrong. What strikes is said by the fields from Delay on;
// they combine, in that order.
type Fault struct {
	Operation string  `json:"operation"` // a name of Operations; empty: every one
	Nth       int     `json:"nth"`       // the first call of the operation it strikes, from 1; 0: the first
	Count     int     `json:"count"`     // how many from there; 0: one; negative: all
	Rate      float64 `json:"rate"`      // strikes with this probability; 0: always

	After bool `json:"after"` // the request is processed, then the fault strikes its answer

	Delay time.Duration `json:"-"`     // before anything else
	Hang  bool          `json:"hang"`  // no answer until the client gives up
	Reset bool          `json:"reset"` // the connection breaks instead of an answer

	Status int         `json:"status"` // answer with this
	Header http.Header `json:"header"` // added to the answer
	Body   string      `json:"body"`   // in place of the answer's; HTML where it begins with "<"

	Drip          time.Duration `json:"-"`              // a pause before each byte of the body
	Truncate      int64         `json:"truncate"`       // the connection breaks after so many bytes of the body
	ContentLength int64         `json:"content_length"` // declare this length
	Corrupt       bool          `json:"corrupt"`        // flip a bit in the middle of the body
}

// ReadFaults reads faults from JSON: an array of objects with the fields of
// Fault in snake case, where "delay" and "drip" are strings such as "1.5s".
func ReadFaults(r io.Reader) ([]Fault, error) {
	var rows []struct {
		Fault

		Delay string `json:"delay"`
		Drip  string `json:"drip"`
	}
	decoder := json.NewDecoder(r)
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(&rows); err != nil {
		return nil, fmt.Errorf("ricloudtest: read faults: %w", err)
	}
	faults := make([]Fault, len(rows))
	for i, row := range rows {
		faults[i] = row.Fault
		for text, to := range map[string]*time.Duration{row.Delay: &faults[i].Delay, row.Drip: &faults[i].Drip} {
			if text == "" {
				continue
			}
			var err error
			if *to, err = time.ParseDuration(text); err != nil {
				return nil, fmt.Errorf("ricloudtest: read faults: fault %d: %w", i, err)
			}
		}
	}
	return faults, nil
}

// SetFaults replaces the faults, and counts calls from here.
func (s *Server) SetFaults(faults ...Fault) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.faults = faults
	clear(s.struck)
}

// strike counts a call and returns the fault that it suffers, if any.
func (s *Server) strike(operation string) (Fault, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.struck[operation]++
	s.struck[""]++
	for _, f := range s.faults {
		if f.Operation != "" && f.Operation != operation {
			continue
		}
		n := s.struck[f.Operation]
		first, count := max(f.Nth, 1), max(f.Count, 1)
		if n >= first && (f.Count < 0 || n < first+count) && (f.Rate == 0 || s.draw(f.Rate)) {
			return f, true
		}
	}
	return Fault{}, false
}

// disturb answers a call, with whatever fault strikes it.
func (s *Server) disturb(ctx context.Context, operation string, process func() *answer) *answer {
	f, struck := s.strike(operation)
	if !struck {
		return process()
	}
	if f.Delay > 0 {
		s.await(ctx, nil, f.Delay)
	}
	a := &answer{header: http.Header{}, body: http.NoBody}
	if f.processes() {
		a = process()
	}
	f.spoil(a)
	a.over = s.ctx.Done()
	return a
}

// processes says whether the request is acted upon.
func (f Fault) processes() bool {
	return f.After || !f.Hang && !f.Reset && f.Status == 0 && f.Body == ""
}

// spoil makes an answer what the fault says.
func (f Fault) spoil(a *answer) {
	a.hang, a.reset = f.Hang, f.Reset
	if f.Status != 0 {
		a.status = f.Status
	}
	if a.status == 0 {
		a.status = http.StatusOK
	}
	if f.Body != "" || f.Status != 0 && !f.After {
		a.replace(f.Body)
	}
	for name, values := range f.Header {
		a.header[http.CanonicalHeaderKey(name)] = values
	}
	if f.Corrupt {
		a.body = &flipped{Reader: a.body, at: a.size / 2}
	}
	if f.Truncate > 0 {
		a.body = io.LimitReader(a.body, f.Truncate)
	}
	if f.ContentLength > 0 {
		a.declared = f.ContentLength
	}
	a.drip = f.Drip
}

func (a *answer) replace(body string) {
	a.header.Set("Content-Type", "application/json")
	if len(body) > 0 && body[0] == '<' {
		a.header.Set("Content-Type", "text/html; charset=utf-8")
	}
	a.body = bytes.NewReader([]byte(body))
	a.size = int64(len(body))
	a.declared = a.size
}

// flipped is a body with one bit flipped.
type flipped struct {
	io.Reader
	at int64
}

func (f *flipped) Read(p []byte) (int, error) {
	n, err := f.Reader.Read(p)
	if f.at >= 0 && f.at < int64(n) {
		p[f.at] ^= 1
	}
	f.at -= int64(n)
	return n, err
}
