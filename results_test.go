package ricloud

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestDataTypeIsTheSameInEveryGeneration(t *testing.T) {
	t.Parallel()
	for identifier, want := range map[string]string{
		"callkit.calls": "callkit.calls", "data:callkit.calls": "callkit.calls",
		"photo_library://1": "photo_library://1", "": "",
	} {
		assert.Equal(t, want, (&Result{Identifier: identifier}).DataType())
	}
}

func newAcknowledger(t *testing.T, api http.RoundTripper, params AcknowledgerParams) *Acknowledger {
	t.Helper()
	c, err := NewClient("token", WithTransport(api), WithRetries(0))
	require.NoError(t, err)
	a, err := c.Results.Acknowledger(t.Context(), params)
	require.NoError(t, err)
	return a
}

func TestAcknowledgerBatchesAcrossAccounts(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		api := &acks{batch: 200}
		a := newAcknowledger(t, api, AcknowledgerParams{})
		var group sync.WaitGroup
		for account := range 50 {
			group.Go(func() {
				for i := range 7 {
					assert.NoError(t, a.Add(ID("r"+strconv.Itoa(account*7+i))))
				}
			})
		}
		group.Wait()
		assert.Empty(t, api.seen().batches, "they wait for others")
		rest(11 * time.Second)
		synctest.Wait()
		require.Len(t, api.seen().batches, 1, "50 accounts, one request")
		assert.Len(t, api.seen().acked, 350)

		require.NoError(t, a.Add(names(1000)...))
		synctest.Wait()
		rest(time.Millisecond)
		synctest.Wait()
		assert.Len(t, api.seen().batches, 2, "a full batch waits for nothing")
		require.NoError(t, a.Add(names(2500)...))
		require.NoError(t, a.Close(t.Context()))
		assert.Len(t, api.seen().batches, 5)
		assert.Len(t, api.seen().acked, 350+1000+2500)
		require.ErrorIs(t, a.Add("late"), ErrClosed)
		require.NoError(t, a.Close(t.Context()))
	})
}

func rest(d time.Duration) {
	timer := time.NewTimer(d)
	<-timer.C
}

func TestAcknowledgerReportsWhatRemains(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		api := &acks{batch: 500}
		var reported []error
		done := 0
		a := newAcknowledger(t, api,
			AcknowledgerParams{MaxDelay: time.Second, Report: func(ids []ID, err error) {
				done += len(ids)
				reported = append(reported, err)
			}})
		require.NoError(t, a.Add("r0", "r1", "r2", "r1"))
		err := a.Flush(t.Context())
		var failed *AcknowledgeError
		require.ErrorAs(t, err, &failed)
		assert.Equal(t, []ID{"r0", "r1", "r2"}, failed.Remaining)
		require.ErrorIs(t, err, ErrServer)

		api.heal("r1") // the API works again
		rest(10 * time.Second)
		synctest.Wait()
		assert.Equal(t, []string{"r0", "r2"}, api.seen().acked, "what waited is acknowledged by itself")
		assert.Equal(t, 2, done)
		err = a.Close(t.Context())
		require.ErrorAs(t, err, &failed)
		assert.Equal(t, []ID{"r1"}, failed.Remaining)
		require.ErrorIs(t, err, ErrNotFound)
		assert.Len(t, reported, len(api.seen().batches))
	})
}

// A batch that is full is sent at once, but after a failure not before its delay is over.
func TestAcknowledgerRetriesAFullBatchAfterItsDelay(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		api := &acks{batch: 500}
		a := newAcknowledger(t, api, AcknowledgerParams{MaxResults: 2, MaxDelay: time.Minute})
		require.NoError(t, a.Add("r0", "r1"))
		for minute := range 3 {
			rest(time.Second)
			synctest.Wait()
			require.Len(t, api.seen().batches, minute+1)
			rest(59 * time.Second)
			synctest.Wait()
		}
		require.Error(t, a.Close(t.Context()))
	})
}

// A result that the API shows as available stays queued: it may be behind.
func TestAcknowledgerRetriesWhatIsStillAvailable(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		state := "available"
		api := RoundTripFunc(func(req *http.Request) (*http.Response, error) {
			if req.URL.Path == "/results/ack" {
				return jsonResponder(200, `{"results":["r0"]}`)(req)
			}
			return jsonResponder(200, fmt.Sprintf(`{"id":"r1","state":%q}`, state))(req)
		})
		a := newAcknowledger(t, api, AcknowledgerParams{MaxDelay: time.Minute})
		require.NoError(t, a.Add("r0", "r1"))
		err := a.Flush(t.Context())
		var failed *AcknowledgeError
		require.ErrorAs(t, err, &failed)
		assert.Equal(t, []ID{"r1"}, failed.Remaining)
		state = "consumed"
		require.NoError(t, a.Close(t.Context()))
	})
}

// hanging does not answer until the request's context ends.
type hanging struct{}

func (hanging) RoundTrip(req *http.Request) (*http.Response, error) {
	<-req.Context().Done()
	return nil, req.Context().Err()
}

func TestAcknowledgerCloseEndsWithItsContext(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		a := newAcknowledger(t, hanging{}, AcknowledgerParams{MaxDelay: time.Millisecond})
		require.NoError(t, a.Add("r0"))
		rest(time.Second)
		why := errors.New("shutting down")
		ctx, cancel := context.WithCancelCause(t.Context())
		time.AfterFunc(time.Second, func() { cancel(why) })
		began := time.Now()
		err := a.Close(ctx)
		var failed *AcknowledgeError
		require.ErrorAs(t, err, &failed)
		assert.Equal(t, []ID{"r0"}, failed.Remaining)
		assert.Equal(t, time.Second, time.Since(began))
	})
}

func TestTheZeroAcknowledgerIsClosed(t *testing.T) {
	t.Parallel()
	var a Acknowledger
	require.ErrorIs(t, a.Add("r1"), ErrClosed)
	require.NoError(t, a.Flush(t.Context()))
	require.NoError(t, a.Close(t.Context()))
}

func TestAcknowledgerParams(t *testing.T) {
	t.Parallel()
	c, err := NewClient("token")
	require.NoError(t, err)
	for field, params := range map[string]AcknowledgerParams{
		"MaxResults": {MaxResults: 1001}, "MaxDelay": {MaxDelay: -1},
	} {
		_, err := c.Results.Acknowledger(t.Context(), params)
		var refused *ParamError
		require.ErrorAs(t, err, &refused)
		assert.Equal(t, field, refused.Field)
	}
	a, err := c.Results.Acknowledger(t.Context(), AcknowledgerParams{})
	require.NoError(t, err)
	require.EqualError(t, a.Add("a", ""), "ricloud: Acknowledger.Add: ids[1] is empty")
	require.NoError(t, a.Close(t.Context()))
}
