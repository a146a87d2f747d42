package cli

import (
	"fmt"
	"time"
)

// moment parses a point in time: RFC 3339, a date, or a time ago such as 24h.
func moment(text string) (time.Time, error) {
	if text == "" {
		return time.Time{}, nil
	}
	if ago, err := time.ParseDuration(text); err == nil {
		return now().Add(-ago), nil
	}
	for _, layout := range []string{time.RFC3339, time.DateTime, time.DateOnly} {
		if t, err := time.Parse(layout, text); err == nil {
			return t, nil
		}
	}
	return time.Time{}, fmt.Errorf("%q is not a moment: use 2026-01-31, 2026-01-31T12:00:00Z or a "+
		"time ago such as 24h", text)
}
