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
		assert.Contains(t, history, "failure 3: the step panicked")
		assert.NotContains(t, history, password)
		stop()
		assert.Equal(t, 2, b.sandbox.CountCalls("Sessions.Create"))
	})
}
