package ingest

import (
	"context"
	"encoding/json"
	"errors"
	"hash/maphash"
	"maps"
	"slices"
	"time"

	"github.com/reincubate/ricloud-go/ingest/internal/store"
)

// Stats counts the accounts, the quota, the processes and the store.
type Stats struct {
	Accounts map[State]int // by state
	Results  int           // that wait to be handled, or are being handled

	// The quota that all processes share.
	NextSlot  time.Time // the next slot that is free; in the past if there is no queue
	Paused    time.Time // no request before, after a 429; zero or past if none
	Waiting   int       // requests of this process that wait for their slot
	Processes []Process // that are alive, this one included, with what each has used

	Events          uint64 // stored, of the last 72 hours
	Bytes, MaxBytes uint64 // of accounts and work
	EventBytes      uint64
	Full            bool // Submit returns ErrStoreFull
}

// Stats counts the accounts and asks the store. It reads all accounts: call it
// every few seconds at most.
func (e *Engine) Stats(ctx context.Context) (*Stats, error) {
	s := &Stats{Accounts: map[State]int{}}
	seed, seen := maphash.MakeSeed(), map[uint64]State{} // one that changes meanwhile is seen twice
	for account, err := range e.Accounts(ctx) {
		if err != nil {
			return nil, err
		}
		key := maphash.String(seed, account.Account.Key)
		if before, ok := seen[key]; ok {
			s.Accounts[before]--
		}
		seen[key] = account.State
		s.Accounts[account.State]++
	}
	maps.DeleteFunc(s.Accounts, func(_ State, n int) bool { return n == 0 })
	err := e.each(ctx, workPrefix, func(entry store.Entry) {
		if j, err := decodeJob(entry); err == nil {
			for i := range j.Tasks {
				if j.Tasks[i].open() {
					s.Results++
				}
			}
		}
	})
	if err != nil {
		return nil, err
	}
	processes := map[string]Process{} // one may be seen twice, when it changes meanwhile
	err = e.each(ctx, processPrefix, func(entry store.Entry) {
		var p Process
		if json.Unmarshal(entry.Value, &p) == nil {
			processes[p.ID] = p
		}
	})
	if err != nil {
		return nil, err
	}
	s.Processes = slices.SortedFunc(maps.Values(processes), func(a, b Process) int {
		return a.Since.Compare(b.Since)
	})
	s.Waiting, s.Paused = e.pacer.state()
	entry, err := e.store.Get(ctx, slotsKey)
	if err == nil {
		var taken slots
		_ = json.Unmarshal(entry.Value, &taken)
		o, err := e.pacer.opening(ctx, taken.Next)
		if err != nil {
			return nil, storeError("Stats", err)
		}
		s.NextSlot = o.clock.toOwn(o.first).UTC()
	} else if !errors.Is(err, store.ErrNotFound) {
		return nil, storeError("Stats", err)
	}
	u, err := e.store.Usage(ctx)
	if err != nil {
		return nil, storeError("Stats", err)
	}
	s.Events, s.Bytes, s.MaxBytes, s.EventBytes = u.Events, u.Bytes, u.MaxBytes, u.EventBytes
	if s.Full, err = e.isFull(ctx); err != nil {
		return nil, storeError("Stats", err)
	}
	return s, nil
}

// each calls fn for each value whose key begins with prefix.
func (e *Engine) each(ctx context.Context, prefix string, fn func(store.Entry)) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	complete := false
	err := e.store.Watch(ctx, prefix, func(entry store.Entry) {
		switch {
		case complete:
		case entry.Key == "":
			complete = true
			cancel()
		case entry.Value != nil:
			fn(entry)
		}
	})
	if err == nil && !complete {
		err = context.Cause(ctx)
	}
	return storeError("reading "+prefix, err)
}
