package ingest_test

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	ricloud "github.com/reincubate/ricloud-go"
	"github.com/reincubate/ricloud-go/ingest"
	"github.com/reincubate/ricloud-go/ricloudtest"
)

// deliver sends a signed event to the engine and returns the status of the answer.
func (b *bench) deliver(body string) int {
	b.t.Helper()
	r := httptest.NewRequestWithContext(b.t.Context(), http.MethodPost, hookURL,
		strings.NewReader(body))
	r.Header.Set(ricloud.SignatureHeader,
		ricloudtest.SignWebhook(b.secret.Reveal(), time.Now(), []byte(body)))
	w := httptest.NewRecorder()
	b.hook.Load().ServeHTTP(w, r)
	return w.Code
}

// An event whose data cannot be read is accepted, and does not stop the leader.
func TestEventsThatCannotBeRead(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		there, here := fleet(3)
		b := newBench(t, ingest.Config{Memory: true}, ricloudtest.WithAccounts(there...),
			ricloudtest.WithDelays(delays()))
		b.receive()
		stop := b.run(b.handlers())
		n := 0
		for _, kind := range []string{"session", "poll", "task", "subscription", "user", "of tomorrow"} {
			for _, data := range []string{
				`null`, `[]`, `[1]`, `17`, `"an-id"`, `{"id":"x","state":5}`, `{"id":{"id":{}}}`,
			} {
				n++
				body := fmt.Sprintf(`{"id":"e%d","type":%q,"action":"expired","data":%s}`, n, kind, data)
				assert.Equal(t, http.StatusOK, b.deliver(body), body)
			}
		}
		b.submit(here...)
		b.wait(3, ingest.Done)
		stats, err := b.engine.Stats(t.Context())
		require.NoError(t, err)
		assert.GreaterOrEqual(t, stats.Events, uint64(n))
		stop()
	})
}

// The event of a poll with very many results is stored without them. The leader asks the API.
func TestAnEventTooLargeForTheStore(t *testing.T) {
	t.Parallel()
	b := newBench(t, ingest.Config{Dir: t.TempDir()})
	b.receive()
	before, err := b.engine.Stats(t.Context())
	require.NoError(t, err)
	result := `{"id":"r-%d","url":"https://storage.example.com/` + strings.Repeat("x", 300) + `"}`
	results := make([]string, 5000)
	for i := range results {
		results[i] = fmt.Sprintf(result, i)
	}
	assert.Equal(t, http.StatusOK, b.deliver(
		`{"id":"e1","type":"poll","action":"completed","data":{"id":"p1","state":"completed","results":[`+
			strings.Join(results, ",")+`]}}`))
	after, err := b.engine.Stats(t.Context())
	require.NoError(t, err)
	assert.Equal(t, before.Events+1, after.Events)
	assert.Less(t, after.EventBytes-before.EventBytes, uint64(2<<10))
	require.NoError(t, b.engine.Close())
}

// A panic of one of the handlers is a failure of the account's step, and does not stop the leader.
// What it was called with is not written down.
func TestHandlersThatPanic(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		there, here := fleet(2)
		b := newBench(t, ingest.Config{Memory: true}, ricloudtest.WithAccounts(there...),
			ricloudtest.WithDelays(delays()))
		var panics atomic.Int32
		h := b.handlers()
		h.Secret = func(ctx context.Context, key string) (ricloud.Secret, error) {
			if key == here[0].Key && panics.Add(1) <= 3 {
				panic(password)
			}
			return secret(ctx, key)
		}
		h.Step = func(context.Context, string, ingest.Step) { panic("in Step") }
		stop := b.run(h)
		b.submit(here...)
		b.wait(2, ingest.Done)
		status, err := b.engine.Account(t.Context(), here[0].Key)
		require.NoError(t, err)
		history := fmt.Sprint(status.History)
		assert.Contains(t, history, "failure 3: Handlers.Secret: it panicked with a string")
		assert.NotContains(t, history, password)
		stop()
		assert.Equal(t, 2, b.sandbox.CountCalls("Sessions.Create"))
	})
}

// A password that is blank, or does not come, is a failure like others, and does not hold up the
// end of Run.
func TestSecretsThatDoNotCome(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		there, here := fleet(2)
		b := newBench(t, ingest.Config{Memory: true}, ricloudtest.WithAccounts(there...),
			ricloudtest.WithDelays(delays()))
		release := make(chan struct{})
		h := b.handlers()
		h.Secret = func(_ context.Context, key string) (ricloud.Secret, error) {
			if key == here[0].Key {
				return ricloud.NewSecret(" "), nil
			}
			<-release
			return ricloud.Secret{}, nil
		}
		stop := b.run(h)
		b.submit(here...)
		<-time.NewTimer(5 * time.Minute).C
		for i, want := range []string{"it returned an empty password", "Secret did not return"} {
			status, err := b.engine.Account(t.Context(), here[i].Key)
			require.NoError(t, err)
			assert.Equal(t, ingest.Submitted, status.State)
			assert.Contains(t, status.Reason, want)
			assert.Less(t, time.Since(status.Since), 6*time.Minute)
			assert.GreaterOrEqual(t, time.Since(status.Since), 5*time.Minute)
		}
		began := time.Now()
		stop()
		assert.Less(t, time.Since(began), 20*time.Second)
		close(release)
	})
}

// A poll whose event does not show its results is read before it is done.
func TestAnEventWithoutTheResults(t *testing.T) {
	t.Parallel()
	for name, results := range map[string]string{
		"none, though a task succeeded": `[]`,
		"ids":                           `["r1"]`,
		"a count":                       `{"data":[],"has_more":false,"total_count":1}`,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				there, here := fleet(1)
				b := newBench(t, ingest.Config{Memory: true, ReadEvery: time.Hour},
					ricloudtest.WithAccounts(there...), ricloudtest.WithDelays(delays()))
				b.receive()
				stop := b.run(b.handlers())
				b.submit(here...)
				b.wait(1, ingest.Polling)
				status, err := b.engine.Account(t.Context(), here[0].Key)
				require.NoError(t, err)
				handler := b.hook.Swap(nil) // the events of the API get lost
				<-time.NewTimer(11 * time.Minute).C
				b.hook.Store(handler)
				body := fmt.Sprintf(`{"id":"e1","type":"poll","action":"completed","data":{"id":%q,`+
					`"state":"completed","tasks_succeeded":["t1"],"results":%s}}`, status.Poll, results)
				assert.Equal(t, http.StatusOK, b.deliver(body))
				b.wait(1, ingest.Done)
				assert.Len(t, b.handled.results, 1)
				stop()
			})
		})
	}
}
