package ingest_test

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	ricloud "github.com/reincubate/ricloud-go"
	"github.com/reincubate/ricloud-go/ingest"
	"github.com/reincubate/ricloud-go/ricloudtest"
)

// The test kills processes that run in the test binary.
const childVariable = "INGEST_TEST_CHILD"

type childSettings struct {
	Dir   string `json:"dir"`
	URL   string `json:"url"`
	Token string `json:"token"`
}

func (c childSettings) config() ingest.Config {
	return ingest.Config{
		Dir: c.Dir, Requests: 500, Per: time.Second,
		ReadEvery: 200 * time.Millisecond,
	}
}

// child runs an engine until the process is killed.
func child() int {
	var c childSettings
	err := json.Unmarshal([]byte(os.Getenv(childVariable)), &c)
	ctx := context.Background()
	var engine *ingest.Engine
	if err == nil {
		engine, err = ingest.Open(ctx, c.config())
	}
	var client *ricloud.Client
	if err == nil {
		client, err = ricloud.NewClient(c.Token, ricloud.WithBaseURL(c.URL),
			ricloud.WithPacer(engine.Pacer()))
	}
	if err == nil {
		err = engine.Run(ctx, client, ingest.Handlers{Secret: secret, Result: read})
	}
	fmt.Fprintln(os.Stderr, err)
	return 1
}

// A process that is killed several times loses neither submitted accounts nor completed work.
func TestKilledAgainAndAgain(t *testing.T) {
	t.Parallel()
	const accounts = 60
	there, here := fleet(accounts)
	sandbox := ricloudtest.NewServer(ricloudtest.WithAccounts(there...),
		ricloudtest.WithDelays(delays()), ricloudtest.WithSpeed(100))
	t.Cleanup(sandbox.Close)
	require.NoError(t, sandbox.Start())
	c := childSettings{t.TempDir(), sandbox.URL(), sandbox.Token()}
	b := &bench{t: t, sandbox: sandbox, poll: 100 * time.Millisecond, patience: 5 * time.Minute}
	b.open(c.config())
	b.submit(here...)
	require.NoError(t, b.engine.Close())
	body, err := json.Marshal(c)
	require.NoError(t, err)
	for i := range 6 {
		cmd := exec.CommandContext(t.Context(), os.Args[0]) //nolint:gosec // this test itself
		cmd.Env = append(os.Environ(), childVariable+"="+string(body))
		require.NoError(t, cmd.Start())
		before := sandbox.CountCalls("")
		for sandbox.CountCalls("") < before+20+10*i {
			<-time.NewTimer(10 * time.Millisecond).C
		}
		require.NoError(t, cmd.Process.Kill())
		_ = cmd.Wait()
	}
	b.open(c.config())
	stop := b.run(b.handlers())
	b.wait(accounts, ingest.Done)
	stop()
	sessions := 0
	for _, err := range sandbox.Client().Sessions.All(t.Context(), ricloud.SessionListParams{}) {
		require.NoError(t, err)
		sessions++
	}
	assert.Equal(t, accounts, sessions, "each account is logged in to once")
}
