package main

import (
	"io"
	"os"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestTheJourneyShowsEveryStep(t *testing.T) {
	t.Setenv("RICLOUD_TOKEN", "")
	read, write, err := os.Pipe()
	require.NoError(t, err)
	stdout := os.Stdout
	os.Stdout = write
	done := make(chan string)
	go func() {
		var b strings.Builder
		_, _ = io.Copy(&b, read)
		done <- b.String()
	}()
	err = run(t.Context())
	os.Stdout = stdout
	require.NoError(t, write.Close())
	output := <-done
	require.NoError(t, err)
	for _, line := range []string{
		"Organisation.Get       Getting started is unconfigured",
		"Users.Create           user ",
		"ended in code-required: code asked for, attempt 1",
		"Sessions.Login         session ",
		"StorageConfigs.Test    task ",
		"Organisation.Update    Getting started is active",
		"Polls.Create           poll ",
		"Polls.Results          callkit.calls, ",
		"Results.Save           size and MD5 ",
		"Results.Acknowledge    result ",
		"webhook                signature verified: poll.completed, event ",
	} {
		assert.Contains(t, output, line)
	}
}
