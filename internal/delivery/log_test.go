package delivery

import (
	"bytes"
	"context"
	"errors"
	"log"
	"log/slog"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
)

// serverContext returns the context of a request, and what its server logs.
func serverContext(t *testing.T) (context.Context, *bytes.Buffer) {
	t.Helper()
	var logged bytes.Buffer
	server := &http.Server{ErrorLog: log.New(&logged, "", 0)}
	return context.WithValue(t.Context(), http.ServerContextKey, server), &logged
}

// The same refusal is logged once a minute, with the number of those that were
// left out.
func TestLogRefused(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		ctx, logged := serverContext(t)
		var l Log
		refused := &Refusal{http.StatusUnauthorized, "no", errors.New("ricloud: the clock is slow")}
		for range 5 {
			l.Refused(ctx, refused)
		}
		l.Refused(ctx, Refuse(http.StatusServiceUnavailable, "busy"))
		time.Sleep(logEvery) //nolint:forbidigo // virtual
		l.Refused(ctx, refused)
		assert.Equal(t, []string{
			"ricloud: webhook delivery refused with 401: the clock is slow",
			"ricloud: webhook delivery refused with 503: busy",
			"ricloud: webhook delivery refused with 401: the clock is slow " +
				"(and 4 more since the last such message)",
			"",
		}, strings.Split(logged.String(), "\n"))
	})
}

// A failure is logged with its event and its stack. Only net/http's log, which
// has no levels, is spared a flood of them.
func TestLogFailed(t *testing.T) {
	t.Parallel()
	ctx, logged := serverContext(t)
	var l Log
	for range 3 {
		l.Failed(ctx, "event panicked", "17", "poll.completed", errors.New("away"), "the stack")
	}
	assert.Equal(t, "ricloud: event panicked: event 17 (poll.completed): away\nthe stack\n",
		logged.String())

	logged.Reset()
	for range 3 {
		l.Panicked(ctx, "hook panicked", "oh", "the stack")
	}
	assert.Equal(t, "hook panicked: oh\nthe stack\n", logged.String())

	var records bytes.Buffer
	l.Logger = slog.New(slog.NewTextHandler(&records, nil))
	for range 3 {
		l.Failed(ctx, "event failed", "17", "poll.completed", errors.New("away"), "")
	}
	l.Failed(ctx, "event panicked", "17", "poll.completed", errors.New("away"), "the stack")
	for range 3 {
		l.Refused(ctx, Refuse(http.StatusUnauthorized, "no"))
	}
	l.Panicked(ctx, "hook panicked", "oh", "the stack")
	assert.Contains(t, records.String(), `msg="hook panicked" panic=oh stack="the stack"`)
	assert.Equal(t, 4, strings.Count(records.String(), "event=17 name=poll.completed error=away"))
	assert.Equal(t, 2, strings.Count(records.String(), `stack="the stack"`))
	assert.Equal(t, 1, strings.Count(records.String(), "status=401 error=no skipped=0"))
}
