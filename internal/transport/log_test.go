package transport

import (
	"bytes"
	"context"
	"encoding/json"
	"log/slog"
	"maps"
	"net/url"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestLogSaysWhatIsOnTheListAndNothingElse(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var out bytes.Buffer
		client := newClient(t, play(fails(errReset), status(429, "Retry-After", "7"), status(200)),
			func(c *Config) {
				c.Logger = slog.New(slog.NewJSONHandler(&out, &slog.HandlerOptions{Level: slog.LevelDebug}))
				c.RetryWaitMin, c.RetryWaitMax = 1, 1
			})
		req := requestWithID(PollsGet, "secret-id")
		req.Query = url.Values{"secret": {"q"}}
		_, err := client.Do(t.Context(), req)
		require.NoError(t, err)

		var records []map[string]any
		for line := range strings.SplitSeq(strings.TrimSpace(out.String()), "\n") {
			record := map[string]any{}
			require.NoError(t, json.Unmarshal([]byte(line), &record))
			delete(record, "time")
			records = append(records, record)
		}
		common := func(level string, attempt, status float64, more map[string]any) map[string]any {
			record := map[string]any{
				"level": level, "msg": "ricloud attempt", "operation": "Polls.Get", "method": "GET",
				"path": "/polls/{id}",
				"host": "api.test", "attempt": attempt, "status": status, "duration": 0.0,
			}
			maps.Copy(record, more)
			return record
		}
		require.Len(t, records, 3)
		assert.Contains(t, []any{0.0, 1.0}, records[0]["wait"])
		delete(records[0], "wait")
		assert.Equal(t, common("WARN", 1, 0, map[string]any{"cause": errReset.Error()}), records[0])
		assert.Equal(t, common("WARN", 2, 429, map[string]any{"wait": float64(7 * time.Second)}),
			records[1])
		assert.Equal(t, common("DEBUG", 3, 200, nil), records[2])
	})
}

func TestLogIsSilentBelowItsLevel(t *testing.T) {
	t.Parallel()
	var out bytes.Buffer
	client := newClient(t, play(status(200)), func(c *Config) {
		c.Logger = slog.New(slog.NewTextHandler(&out, nil))
	})
	_, err := client.Do(t.Context(), request(PollsList))
	require.NoError(t, err)
	assert.Empty(t, out.String())
}

// A record shows how long the attempt waited for its turn, from a millisecond on.
func TestLogShowsTheWaitForATurn(t *testing.T) {
	t.Parallel()
	for took, shown := range map[time.Duration]bool{
		999 * time.Microsecond: false, time.Millisecond: true, time.Minute: true,
	} {
		synctest.Test(t, func(t *testing.T) {
			var out bytes.Buffer
			client := newClient(t, play(status(200)), func(c *Config) {
				c.Logger = slog.New(slog.NewTextHandler(&out, &slog.HandlerOptions{Level: slog.LevelDebug}))
				c.Pacer = slowPacer(took)
			})
			_, err := client.Do(t.Context(), request(PollsList))
			require.NoError(t, err)
			assert.Equal(t, shown, strings.Contains(out.String(), "turn_wait="+took.String()), out.String())
		})
	}
}

// slowPacer takes some time for each turn.
type slowPacer time.Duration

func (p slowPacer) Wait(context.Context, Priority) error {
	<-time.NewTimer(time.Duration(p)).C
	return nil
}

func (slowPacer) Pause(time.Duration) {}
