package ingest

import (
	"context"
	"encoding/json"
	"time"

	ricloud "github.com/reincubate/ricloud-go"
)

// behindWait is the time between two looks whether the watch has caught up.
const behindWait = 10 * time.Millisecond

// codeGiven is a code on its way to a login. It is in memory alone.
type codeGiven struct {
	code ricloud.Secret
	used chan error
}

// takeCode gives a code to the account that waits for it, and returns why not,
// or nothing once a login was made with it.
func (l *leader) takeCode(ctx context.Context, data []byte) []byte {
	var q codeQuestion
	if err := json.Unmarshal(data, &q); err != nil {
		return []byte("the question cannot be read")
	}
	given := &codeGiven{ricloud.NewSecret(q.Code), make(chan error, 1)}
	for began := time.Now(); l.isBehind(&q) && time.Since(began) < l.cfg.lease; {
		if sleep(ctx, behindWait) != nil {
			break
		}
	}
	l.mu.Lock()
	it := l.items[escape(q.Key)]
	switch {
	case it == nil:
		l.mu.Unlock()
		return []byte("no such account: " + q.Key)
	case it.state != CodeNeeded || it.busy || it.news().code != nil:
		state := it.state
		l.mu.Unlock()
		return []byte(q.Key + " is " + string(state) + ": no code is wanted now")
	}
	it.seen.code = given
	l.schedule(it)
	l.mu.Unlock()
	select {
	case err := <-given.used:
		if err != nil {
			return []byte(err.Error())
		}
		return nil
	case <-ctx.Done():
		return []byte("this process stops; the code may not have been used: look at the account's state")
	}
}

// isBehind reports whether the leader has yet to learn that an account asks for a code.
func (l *leader) isBehind(q *codeQuestion) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	it := l.items[escape(q.Key)]
	return it == nil || it.revision < max(q.Revision, it.written) || it.busy
}
