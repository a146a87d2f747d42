package ingest_test

import (
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"

	"github.com/reincubate/ricloud-go/ingest"
	"github.com/reincubate/ricloud-go/ricloudtest"
)

// lookFor loses the answer to the first create of each of n accounts, or the create itself, and
// returns how many lists were read until all accounts were done.
func lookFor(t *testing.T, n int, made bool) (lists int) {
	t.Helper()
	there, here := fleet(n)
	lost := func(operation string) ricloudtest.Fault {
		return ricloudtest.Fault{Operation: operation, Count: n, After: made, Reset: true}
	}
	b := newBench(t, ingest.Config{Memory: true, Requests: 10_000_000},
		ricloudtest.WithAccounts(there...), ricloudtest.WithDelays(ricloudtest.Delays{
			Session: ricloudtest.Delay{Min: 20 * time.Second, Max: 20 * time.Second},
			Poll:    ricloudtest.Delay{Min: time.Minute, Max: time.Minute},
		}),
		ricloudtest.WithFaults(lost("Sessions.Create"), lost("Polls.Create")))
	stop := b.run(b.handlers())
	b.submit(here...)
	b.wait(n, ingest.Done)
	stop()
	creates := n
	if !made {
		creates = 2 * n // the first of each did not reach the API
	}
	assert.Equal(t, creates, b.sandbox.CountCalls("Sessions.Create"))
	assert.Equal(t, creates, b.sandbox.CountCalls("Polls.Create"))
	return b.sandbox.CountCalls("Sources.List") + b.sandbox.CountCalls("Sessions.List") +
		b.sandbox.CountCalls("Polls.List")
}

// However many creates have an unknown outcome at the same time, what they made is looked for in
// the same few lists.
func TestLostCreatesShareTheirLists(t *testing.T) {
	t.Parallel()
	for _, made := range []bool{true, false} {
		t.Run(fmt.Sprintf("made %v", made), func(t *testing.T) {
			t.Parallel()
			var few, many int
			synctest.Test(t, func(t *testing.T) { few = lookFor(t, 20, made) })
			synctest.Test(t, func(t *testing.T) { many = lookFor(t, 200, made) })
			assert.LessOrEqual(t, many, few+10)
		})
	}
}
