package login

import (
	"net/http"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"

	"github.com/reincubate/ricloud-go/internal/transport"
)

// Each answer narrows the range that the API's clock is in. Without a date, the clocks agree.
func TestClock(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		const ahead, latency = 90*time.Second + 123*time.Millisecond, 10 * time.Millisecond
		var c Clock
		read := func(date string) {
			<-time.NewTimer(latency).C
			c.Read(&transport.Response{
				Header: http.Header{"Date": {date}}, Ended: time.Now(),
				Attempts: []transport.Attempt{{Duration: latency}},
			})
		}
		read("no date")
		least, most := c.Ahead(time.Now())
		assert.Zero(t, most)
		assert.Zero(t, least)
		assert.False(t, c.Known())
		for range 10 {
			read(time.Now().Add(ahead).UTC().Format(http.TimeFormat))
			least, most = c.Ahead(time.Now())
			assert.LessOrEqual(t, least, ahead)
			assert.GreaterOrEqual(t, most, ahead-latency)
			<-time.NewTimer(Pause(time.Now(), least, most)).C
		}
		assert.Less(t, most-least, Exact)
		assert.True(t, c.Known())
		later, latest := c.Ahead(time.Now().Add(24 * time.Hour))
		assert.Less(t, later, least, "clocks drift")
		assert.Greater(t, latest, most)
		read(time.Now().Add(-time.Hour).UTC().Format(http.TimeFormat))
		_, most = c.Ahead(time.Now())
		assert.Less(t, most, -59*time.Minute, "a clock was set")
	})
}
