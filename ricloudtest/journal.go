package ricloudtest

import (
	"maps"
	"net/http"
	"net/url"
	"slices"
	"sync"
	"time"

	"github.com/reincubate/ricloud-go/ricloudtest/internal/reply"
)

// Call is one request that reached the sandbox, faults included. It holds nothing secret: no
// header, no query of a signed URL, and bodies with their secrets masked.
type Call struct {
	Operation string        `json:"operation,omitempty"` // one of Operations, or "" if unknown
	Method    string        `json:"method"`
	Path      string        `json:"path"`
	Query     url.Values    `json:"query,omitempty"` // nil for StorageGet
	Status    int           `json:"status"`          // 0: not answered yet, or never
	Time      time.Time     `json:"time"`
	Duration  time.Duration `json:"duration"` // until the answer began
}

// journalBodies is the number of calls whose bodies the journal keeps.
const journalBodies = 1000

// record is a call with its bodies, which are nil where they are not kept.
type record struct {
	Call

	number            int
	request, response []byte
}

// journal lists what was asked. It has a mutex of its own, so that it never waits for work.
type journal struct {
	mu      sync.Mutex
	records []*record
	counted map[string]int
	cleared int // how many records were cleared
}

func (j *journal) begin(operation string, r *http.Request, body []byte) *record {
	entry := &record{request: body, Call: Call{
		Operation: operation, Method: r.Method, Path: r.URL.Path, Time: time.Now(),
	}}
	if operation != StorageGet && r.URL.RawQuery != "" {
		entry.Query = r.URL.Query()
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.counted == nil {
		j.counted = map[string]int{}
	}
	j.counted[operation]++
	j.records = append(j.records, entry)
	entry.number = j.cleared + len(j.records)
	if old := len(j.records) - journalBodies - 1; old >= 0 {
		j.records[old].request, j.records[old].response = nil, nil
	}
	return entry
}

func (j *journal) end(entry *record, a *reply.Answer) {
	j.mu.Lock()
	defer j.mu.Unlock()
	entry.Duration = time.Since(entry.Time)
	if a.Hang || a.Reset {
		return
	}
	entry.Status = a.Status
	if entry.Operation != StorageGet {
		entry.response = a.Sent
	}
}

// Calls returns every request so far, in the order in which they came.
func (s *Server) Calls() []Call {
	s.journal.mu.Lock()
	defer s.journal.mu.Unlock()
	calls := make([]Call, len(s.journal.records))
	for i, entry := range s.journal.records {
		calls[i] = entry.Call
	}
	return calls
}

// CountCalls returns how many requests came for an operation, such as "Polls.Create", or for all if
// it is empty. For a name that is not one of Operations it returns -1.
func (s *Server) CountCalls(operation string) int {
	s.journal.mu.Lock()
	defer s.journal.mu.Unlock()
	n, counted := s.journal.counted[operation]
	switch {
	case operation == "":
		return len(s.journal.records)
	case !counted && !slices.Contains(Operations(), operation):
		return -1
	}
	return n
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
	s.journal.cleared += len(s.journal.records)
	s.journal.records = nil
	clear(s.journal.counted)
}

// page lists calls with their masked bodies, the oldest first: those after a number, or the newest.
func (j *journal) page(operation string, after, limit int, forward bool) object {
	found, total, counts := j.find(operation, after, limit, forward)
	calls, mask := make([]object, len(found)), newMasker()
	for i, entry := range found {
		calls[i] = object{
			"number": entry.number, "operation": entry.Operation, "method": entry.Method,
			"path": entry.Path, "query": entry.Query, "status": entry.Status,
			"time": stamp(entry.Time), "seconds": entry.Duration.Seconds(),
			"request": mask.json(entry.request), "response": mask.json(entry.response),
		}
	}
	return object{"calls": calls, "total_count": total, "counts": counts}
}

// find copies the calls of a page, so that no request waits while they are masked.
func (j *journal) find(
	operation string, after, limit int, forward bool,
) (found []record, total int, counts map[string]int) {
	j.mu.Lock()
	defer j.mu.Unlock()
	for _, entry := range j.records {
		if entry.number > after && (operation == "" || entry.Operation == operation) {
			found = append(found, *entry)
		}
	}
	total = len(found)
	if total > limit {
		if forward {
			found = found[:limit]
		} else {
			found = found[total-limit:]
		}
	}
	return found, total, maps.Clone(j.counted)
}
