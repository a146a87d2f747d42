package delivery

import (
	"context"
	"fmt"
	"log"
	"log/slog"
	"strings"
	"sync"
	"time"
)

// Log writes to a Logger, or else where net/http logs the panics of handlers. It
// is safe for concurrent use.
type Log struct {
	Logger *slog.Logger // nil: none

	throttle throttle
}

// Refused logs a delivery that was refused, unless the same has just been
// logged: anyone can send what is refused, as often as they like.
func (l *Log) Refused(ctx context.Context, refused *Refusal) {
	skipped, ok := l.throttle.allow(refused.Answer)
	switch {
	case !ok:
	case l.Logger != nil:
		l.Logger.LogAttrs(ctx, slog.LevelWarn, "webhook delivery refused",
			slog.Int("status", refused.Status), slog.Any("error", refused.Detail),
			slog.Int("skipped", skipped))
	default:
		serverLog(ctx).Printf("ricloud: webhook delivery refused with %d: %s%s", refused.Status,
			strings.TrimPrefix(refused.Detail.Error(), "ricloud: "), andSkipped(skipped))
	}
}

// Failed logs an event that could not be handled or recorded. stack may be
// empty. Without a Logger, the same message is not logged again at once.
func (l *Log) Failed(ctx context.Context, msg, event, name string, err error, stack string) {
	if l.Logger != nil {
		attrs := []slog.Attr{
			slog.String("event", event), slog.String("name", name), slog.Any("error", err),
		}
		if stack != "" {
			attrs = append(attrs, slog.String("stack", stack))
		}
		l.Logger.LogAttrs(ctx, slog.LevelError, msg, attrs...) //nolint:sloglint // constants
		return
	}
	if skipped, ok := l.throttle.allow(msg); ok {
		line := fmt.Sprintf("ricloud: %s: event %s (%s): %v%s", msg, event, name, err,
			andSkipped(skipped))
		serverLog(ctx).Print(strings.TrimSpace(line + "\n" + stack))
	}
}

// Panicked logs the panic of something that is no part of handling an event.
// Without a Logger, the same message is not logged again at once.
func (l *Log) Panicked(ctx context.Context, msg string, value any, stack string) {
	if l.Logger != nil {
		l.Logger.LogAttrs(ctx, slog.LevelError, msg, //nolint:sloglint // constants
			slog.Any("panic", value), slog.String("stack", stack))
		return
	}
	if skipped, ok := l.throttle.allow(msg); ok {
		serverLog(ctx).Printf("%s: %v%s\n%s", msg, value, andSkipped(skipped), stack)
	}
}

// serverLog is where net/http logs the panics of handlers.
func serverLog(ctx context.Context) *log.Logger {
	if server := serverOf(ctx); server != nil && server.ErrorLog != nil {
		return server.ErrorLog
	}
	return log.Default()
}

func andSkipped(n int) string {
	if n == 0 {
		return ""
	}
	return fmt.Sprintf(" (and %d more since the last such message)", n)
}

// logEvery is how often the same message is logged.
const logEvery = time.Minute

// throttle lets one message of each kind through in logEvery. The kinds are
// constants, so that it stays small.
type throttle struct {
	mu    sync.Mutex
	kinds map[string]*throttled
}

type throttled struct {
	last    time.Time
	skipped int
}

// allow reports whether to log a message, and how many of its kind were skipped.
func (t *throttle) allow(kind string) (skipped int, ok bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.kinds == nil {
		t.kinds = map[string]*throttled{}
	}
	k := t.kinds[kind]
	if k == nil {
		k = &throttled{}
		t.kinds[kind] = k
	}
	now := time.Now()
	if !k.last.IsZero() && now.Sub(k.last) < logEvery {
		k.skipped++
		return 0, false
	}
	skipped = k.skipped
	*k = throttled{last: now}
	return skipped, true
}
