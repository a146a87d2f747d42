package transport

import (
	"context"
	"net/http"
	"testing"
	"testing/synctest"
	"time"

	"github.com/jarcoal/httpmock"
	"github.com/stretchr/testify/assert"
)

// Calls are retried at the beginning of an outage, then no more until it ends, and again
// afterwards.
func TestRetriesEndInALongOutage(t *testing.T) {
	t.Parallel()
	for name, down := range map[string]httpmock.Responder{
		"server errors": status(http.StatusServiceUnavailable),
		"no answers":    fails(errReset),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				began, up := time.Now(), false
				mock := play(func(r *http.Request) (*http.Response, error) {
					if up {
						return status(http.StatusOK)(r)
					}
					return down(r)
				})
				client := newClient(t, mock)
				attempts := func() int {
					before := len(mock.seen)
					_, _ = client.Do(t.Context(), request(PollsList))
					return len(mock.seen) - before
				}
				for time.Since(began) < hopelessAfter {
					assert.Equal(t, 1+DefaultMaxRetries, attempts(), "after %v", time.Since(began))
					<-time.NewTimer(5 * time.Second).C
				}
				for range 5 { // a minute without failures would end the outage
					assert.Equal(t, 1, attempts(), "after %v", time.Since(began))
					<-time.NewTimer(45 * time.Second).C
				}
				up = true
				assert.Equal(t, 1, attempts())
				up = false
				assert.Equal(t, 1+DefaultMaxRetries, attempts(), "a new outage")
				<-time.NewTimer(10 * time.Minute).C
				assert.Equal(t, 1+DefaultMaxRetries, attempts(), "the last failure is long ago")
			})
		})
	}
}

// A call's own retries are not reduced by an outage that began with the call itself.
func TestRetriesThatTakeLongAreMade(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		mock := play(status(http.StatusBadGateway))
		client := newClient(t, mock, func(c *Config) {
			c.MaxRetries, c.RetryWaitMin, c.CallTimeout = 10, time.Minute, time.Hour
		})
		_, _ = client.Do(t.Context(), request(PollsList))
		assert.Len(t, mock.seen, 11)
		_, _ = client.Do(t.Context(), request(PollsList))
		assert.Len(t, mock.seen, 22, "a quarter of the time in which retries are made")
	})
}

// Cancelled calls and 429s say nothing about an outage: they count neither as a failure nor as a
// success.
func TestWhatIsNoOutage(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		mock := play(status(http.StatusTooManyRequests))
		client := newClient(t, mock)
		for range 20 {
			_, _ = client.Do(cancelled(errReset), request(PollsList))
			_, _ = client.Do(t.Context(), request(PollsList))
			<-time.NewTimer(10 * time.Second).C
		}
		assert.False(t, client.outage.lasts(time.Now()))

		client = newClient(t, play(hangs))
		for range 20 {
			ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
			_, err := client.Do(ctx, request(PollsList))
			assert.Len(t, failure(t, err).Attempts, 1)
			cancel()
		}
		assert.False(t, client.outage.lasts(time.Now()), "the callers ended them")
	})
}
