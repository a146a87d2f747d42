package main

import (
	"bufio"
	"cmp"
	"encoding/json"
	"errors"
	"os"
	"sync"

	"github.com/reincubate/ricloud-go"
)

// How an account ends.
const (
	done      = "done"
	needsCode = "waiting for a code" // a person must log in: see examples/twofactor
)

// record is what the state file holds of an account: enough to go on.
type record struct {
	Account string     `json:"account"`
	Begun   bool       `json:"begun,omitempty"` // a login may have been made
	Session ricloud.ID `json:"session,omitempty"`
	Poll    ricloud.ID `json:"poll,omitempty"`
	Outcome string     `json:"outcome,omitempty"`
}

// journal is the state file: a line for each step, the last one of an account
// counts. A line that a crash cut off does not.
type journal struct {
	mu      sync.Mutex
	file    *os.File // nil: none
	records map[string]record
}

func openJournal(name string) (*journal, error) {
	j := &journal{records: map[string]record{}}
	if name == "" {
		return j, nil
	}
	f, err := os.OpenFile(name, os.O_RDWR|os.O_CREATE|os.O_APPEND, 0o600) //nolint:gosec // the user names the file
	if err != nil {
		return nil, err
	}
	lines := bufio.NewScanner(f)
	for lines.Scan() {
		var r record
		if json.Unmarshal(lines.Bytes(), &r) == nil {
			j.records[r.Account] = r
		}
	}
	err = lines.Err() // what was not read would be done again
	if err == nil {
		_, err = f.WriteString("\n") // in case the last line was cut off
	}
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	j.file = f
	return j, nil
}

func (j *journal) get(identifier string) record {
	j.mu.Lock()
	defer j.mu.Unlock()
	r := j.records[identifier]
	r.Account = identifier
	return r
}

func (j *journal) put(r record) error {
	line, err := json.Marshal(r)
	if err != nil {
		return err
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	j.records[r.Account] = r
	if j.file != nil {
		_, err = j.file.Write(append(line, '\n'))
	}
	return err
}

func (j *journal) close() error {
	if j.file == nil {
		return nil
	}
	return j.file.Close()
}

// outcomes counts accounts by how they ended.
func (j *journal) outcomes() map[string]int {
	j.mu.Lock()
	defer j.mu.Unlock()
	n := map[string]int{}
	for _, r := range j.records {
		n[cmp.Or(r.Outcome, "interrupted")]++
	}
	return n
}
