package natsstore

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/reincubate/ricloud-go/ingest/internal/store"
)

const movedFile = "moved"

// Moved returns where the state of a folder has moved to, if it has.
func Moved(dir string) (where string, moved bool) {
	//nolint:gosec // the user names the folder
	content, err := os.ReadFile(filepath.Join(dir, movedFile))
	return strings.TrimSpace(string(content)), err == nil
}

// markMoved keeps the state of a folder from being used again.
func markMoved(dir, where string) error {
	return os.WriteFile(filepath.Join(dir, movedFile), []byte(where+"\n"), 0o600)
}

// Move copies the state of a folder to a cluster, and then closes the folder
// for good. What is there already must be the same, so it can be repeated. It
// returns how many records and events it copied.
func Move(
	ctx context.Context, dir string, to *Store, where string, o Options,
) (records, events int, err error) {
	from, err := Embed(ctx, dir, o)
	if err != nil {
		return 0, 0, err
	}
	defer func() { err = errors.Join(err, from.Close()) }()
	// Leases are left behind: they are of processes that have ended.
	for _, prefix := range []string{"acct.", "work.", "quota."} {
		n, err := copyRecords(ctx, from, to, prefix)
		if records += n; err != nil {
			return records, 0, err
		}
	}
	if events, err = copyEvents(ctx, from, to); err != nil {
		return records, events, err
	}
	return records, events, markMoved(dir, where)
}

func copyRecords(ctx context.Context, from, to *Store, prefix string) (n int, err error) {
	watch, cancel := context.WithCancel(ctx)
	defer cancel()
	var failed error
	complete := false
	err = from.Watch(watch, prefix, func(e store.Entry) {
		switch {
		case complete || failed != nil || e.Key != "" && e.Value == nil:
			return
		case e.Key == "":
			complete = true
			cancel()
			return
		}
		if failed = putNew(ctx, to, e); failed != nil {
			cancel()
			return
		}
		n++
	})
	switch {
	case failed != nil:
		return n, failed
	case err == nil && !complete:
		err = context.Cause(ctx)
	}
	return n, err
}

// putNew writes a record that is not there, or is the same.
func putNew(ctx context.Context, to *Store, e store.Entry) error {
	_, err := to.Put(ctx, store.Entry{Key: e.Key, Value: e.Value}, 0)
	if !errors.Is(err, store.ErrConflict) {
		return err
	}
	if strings.HasPrefix(e.Key, "quota.") {
		return nil // what is there is newer
	}
	there, err := to.Get(ctx, e.Key)
	if err == nil && !bytes.Equal(there.Value, e.Value) {
		err = fmt.Errorf("%s is in the cluster already, and differs: move into a new Name", e.Key)
	}
	return err
}

func copyEvents(ctx context.Context, from, to *Store) (n int, err error) {
	u, err := from.Usage(ctx)
	if err != nil || u.Events == 0 {
		return 0, err
	}
	follow, cancel := context.WithCancel(ctx)
	defer cancel()
	var failed error
	err = from.Subscribe(follow, time.Time{}, func(data []byte) {
		if failed != nil || uint64(n) >= u.Events { //nolint:gosec // it is not negative
			return
		}
		var e struct {
			ID string `json:"id"`
		}
		if failed = json.Unmarshal(data, &e); failed == nil {
			failed = to.Publish(ctx, store.Token(e.ID), data)
		}
		if n++; failed != nil || uint64(n) == u.Events { //nolint:gosec // it is not negative
			cancel()
		}
	})
	return n, errors.Join(failed, err, ctx.Err())
}
