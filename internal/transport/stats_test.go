package transport

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
)

func TestStatsCountWhatCameBack(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		client := newClient(t, play(
			status(200), status(404), status(429), fails(errReset), status(503), status(200),
		), func(c *Config) { c.MaxRetries = -1 })
		for range 6 {
			_, _ = client.Do(t.Context(), request(PollsList))
		}
		want := Stats{
			Sent: 6, Succeeded: 2, Refused: 1, RateLimited: 1, ServerError: 1, NoAnswer: 1, LastHour: 6,
		}
		assert.Equal(t, want, client.Stats())
		<-time.NewTimer(59 * time.Minute).C
		_, _ = client.Do(t.Context(), request(PollsList))
		<-time.NewTimer(5 * time.Minute).C
		stats := client.Stats()
		assert.EqualValues(t, 7, stats.Sent)
		assert.EqualValues(t, 1, stats.LastHour)
	})
}

func TestAnHourHasSixtyMinutes(t *testing.T) {
	t.Parallel()
	var h hour
	at := time.Unix(0, 0).Add(1000 * time.Hour)
	h.add(at)
	assert.EqualValues(t, 1, h.count(at.Add(59*time.Minute+59*time.Second)))
	assert.Zero(t, h.count(at.Add(time.Hour)))
}
