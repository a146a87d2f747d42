package transport

import (
	"log/slog"
	"time"
)

// shownTurnWait is the shortest wait for a turn that a record shows.
const shownTurnWait = time.Millisecond

// log writes one record for an attempt: Debug, or Warn with the wait when it will be repeated. The
// documentation of ricloud.WithLogger lists the fields: never a body, a header or a query. The
// cause is cleaned like the text of an error.
func (c *call) log(attempt *Attempt, again bool) {
	logger, level := c.client.cfg.Logger, slog.LevelDebug
	if again {
		level = slog.LevelWarn
	}
	if logger == nil || !logger.Enabled(c.Context, level) {
		return
	}
	name, path := c.req.Operation.Shown()
	attrs := []slog.Attr{
		slog.String("operation", name),
		slog.String("method", c.req.Operation.Method),
		slog.String("path", path),
		slog.String("host", c.client.base.Host),
		slog.Int("attempt", len(c.attempts)),
		slog.Int("status", attempt.StatusCode),
		slog.Duration("duration", attempt.Duration),
	}
	if c.turnWait >= shownTurnWait {
		attrs = append(attrs, slog.Duration("turn_wait", c.turnWait))
	}
	if again {
		attrs = append(attrs, slog.Duration("wait", attempt.Wait))
	}
	if attempt.Err != nil {
		attrs = append(attrs, slog.String("cause", attempt.Err.Error()))
	}
	logger.LogAttrs(c.Context, level, "ricloud attempt", attrs...)
}
