package ingest

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"
	"unicode"
	"unicode/utf8"

	ricloud "github.com/reincubate/ricloud-go"
	"github.com/reincubate/ricloud-go/ingest/internal/store"
)

// behindWait is the time between two looks whether the watch has caught up.
const behindWait = 10 * time.Millisecond

// codePatience is how many leases Code waits for a process that leads.
const codePatience = 4

// Code hands in the two-factor code of an account that is CodeNeeded. It can be
// called in any process. The code is passed on to the leader and never stored.
// Code returns when the leader has logged in with the code, which may wait for
// the quota. The state then tells whether the code was right: a wrong one leads
// back to CodeNeeded, and three wrong ones lead to Dead.
//
// It returns a *ricloud.ParamError for an account in any other state,
// ricloud.ErrNotFound for one that was not submitted, and an error when no
// process has Run for four leases, or when the one that took the code is gone. If
// ctx ends meanwhile, the code may have been used.
func (e *Engine) Code(ctx context.Context, key string, code ricloud.Secret) error {
	switch {
	case isBlank(code):
		return invalid("Code", "code", "is empty")
	case !utf8.ValidString(code.Reveal()):
		return invalid("Code", "code", "is not valid UTF-8")
	}
	if ctx.Err() != nil {
		return fmt.Errorf("ingest: Code: the code was not used: %w", context.Cause(ctx))
	}
	r, err := e.load(ctx, key)
	if err != nil {
		return err
	}
	if r.State != CodeNeeded {
		return invalid("Code", "key", fmt.Sprintf("%q is %s: no code is wanted now", key, r.State))
	}
	question, err := json.Marshal(codeQuestion{key, code.Reveal(), r.revision})
	if err != nil {
		return err
	}
	for range codePatience * 4 {
		answer, err := e.askForLogin(ctx, question)
		switch {
		case errors.Is(err, store.ErrNobody): // another process becomes the leader, or none runs
			if err := sleep(ctx, e.cfg.lease/4); err != nil {
				return fmt.Errorf("ingest: Code: no process runs that could use the code: %w", err)
			}
		case ctx.Err() != nil:
			return fmt.Errorf("ingest: Code: %w; the code may have been used: look at the account's state",
				context.Cause(ctx))
		case err != nil:
			return fmt.Errorf("ingest: Code: %w", err)
		case len(answer) > 0:
			return fmt.Errorf("ingest: Code: %s", answer)
		default:
			return nil
		}
	}
	return fmt.Errorf("ingest: Code: no process has led for %v: the code was not used; is Run called?",
		codePatience*e.cfg.lease)
}

var errLeaderGone = errors.New("the process that took the code is gone, perhaps after using it: " +
	"look at the account's state")

// askForLogin gives the leader a code and returns its answer, or errLeaderGone if it leads no more.
func (e *Engine) askForLogin(ctx context.Context, question []byte) ([]byte, error) {
	var watching sync.WaitGroup
	defer watching.Wait()
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	watching.Go(func() {
		var asked, leads string
		synced := false
		_ = e.store.Watch(ctx, leaderKey, func(entry store.Entry) { // or the answer tells what is wrong
			if synced = synced || entry.Key == ""; entry.Key != "" {
				var p Process
				_ = json.Unmarshal(entry.Value, &p) // nobody leads if there is none
				leads = p.ID
			}
			switch {
			case synced && asked == "":
				asked = leads
			case synced && leads != asked:
				cancel(errLeaderGone)
			}
		})
	})
	answer, err := e.store.Ask(ctx, codeSubject, question)
	if cause := context.Cause(ctx); err != nil && cause != nil {
		return nil, cause
	}
	return answer, err
}

// isBlank reports whether nothing of a secret would be sent.
func isBlank(code ricloud.Secret) bool {
	return !strings.ContainsFunc(code.Reveal(), func(r rune) bool {
		return unicode.IsLetter(r) || unicode.IsDigit(r)
	})
}

const codeSubject = "code"

type codeQuestion struct {
	Key      string `json:"key"`
	Code     string `json:"code"`
	Revision uint64 `json:"revision"` // of the record that asks for a code
}

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
