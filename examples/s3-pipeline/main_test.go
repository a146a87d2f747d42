package main

import (
	"errors"
	"net/http"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	ricloud "github.com/reincubate/ricloud-go"
)

func TestPipeline(t *testing.T) {
	t.Setenv("RICLOUD_TOKEN", "")
	require.NoError(t, run(t.Context(), nil))
	p := pipeline{committed: map[string]int{}}
	require.NoError(t, offline(t.Context(), &p))
	assert.Len(t, p.committed, 2)
	for identifier, n := range p.committed {
		assert.Positive(t, n, identifier)
	}
}

func TestNothingIsCommittedOrAcknowledgedOnFailure(t *testing.T) {
	t.Parallel()
	client, err := ricloud.NewClient("token", ricloud.WithTransport(nowhere{}), ricloud.WithRetries(0))
	require.NoError(t, err)
	p := pipeline{client: client, committed: map[string]int{}}
	err = p.handle(t.Context(), &ricloud.Result{
		ID: "r", State: ricloud.ResultAvailable, URL: "s3://b/k", Checksum: strings.Repeat("0", 32),
		SignedURL: ricloud.SignedURL{URL: ricloud.NewSecret("https://storage.test/k")},
	})
	require.ErrorIs(t, err, errNowhere)
	assert.Empty(t, p.committed)
}

var errNowhere = errors.New("nowhere")

type nowhere struct{}

func (nowhere) RoundTrip(*http.Request) (*http.Response, error) { return nil, errNowhere }
