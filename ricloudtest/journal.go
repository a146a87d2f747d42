package ricloudtest

import (
	"maps"
	"net/http"
	"net/url"
	"slices"
	"sync"
	"time"
)

// Call is one request that reached the sandbox, faults included. It holds
// nothing secret: no header, no body, and no query of a signed URL.
type Call struct {
	Operation string // as in the endpoint table, StorageGet, or empty where nothing is there
	Method    string
	Path      string
	Query     url.Values // nil for StorageGet
	Status    int        // 0: not answered yet, or never
	Time      time.Time
	Duration  time.Duration // until the answer began
}

// journal lists what was asked. It has a mutex of its own, so that counting
// never waits for work.
type journal struct {
	mu      sync.Mutex
	calls   []*Call
	counted map[string]int
}

func (j *journal) begin(operation string, r *http.Request) *Call {
	entry := &Call{Operation: operation, Method: r.Method, Path: r.URL.Path, Time: time.Now()}
	if operation != StorageGet && r.URL.RawQuery != "" {
		entry.Query = r.URL.Query()
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.counted == nil {
		j.counted = map[string]int{}
	}
	j.counted[operation]++
	j.calls = append(j.calls, entry)
	return entry
}

func (j *journal) end(entry *Call, a *answer) {
	j.mu.Lock()
	defer j.mu.Unlock()
	entry.Duration = time.Since(entry.Time)
	if !a.hang && !a.reset {
		entry.Status = a.status
	}
}

// Calls returns every request so far, in the order they came.
func (s *Server) Calls() []Call {
	s.journal.mu.Lock()
	defer s.journal.mu.Unlock()
	calls := make([]Call, len(s.journal.calls))
	for i, entry := range s.journal.calls {
		calls[i] = *entry
	}
	return calls
}

// CountCalls returns how many requests came for an operation, such as
// "Polls.Create", or for all where it is empty.
func (s *Server) CountCalls(operation string) int {
	s.journal.mu.Lock()
	defer s.journal.mu.Unlock()
	if operation == "" {
		return len(s.journal.calls)
	}
	return s.journal.counted[operation]
}

// CallCounts returns how many requests came for each operation.
func (s *Server) CallCounts() map[string]int {
	s.journal.mu.Lock()
	defer s.journal.mu.Unlock()
	return maps.Clone(s.journal.counted)
}

// ResetCalls empties the journal.
func (s *Server) ResetCalls() {
	s.journal.mu.Lock()
	defer s.journal.mu.Unlock()
	s.journal.calls = slices.Delete(s.journal.calls, 0, len(s.journal.calls))
	clear(s.journal.counted)
}
