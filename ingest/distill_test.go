package ingest

import (
	"encoding/json"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	ricloud "github.com/reincubate/ricloud-go"
)

// The stored event of a poll says whether the poll had errors, and leaves out which.
func TestAStoredEventSaysWhetherThereWereErrors(t *testing.T) {
	t.Parallel()
	const failed = "poll 1 completed with errors"
	for errs, want := range map[string]string{
		`{"object":"list","data":[],"has_more":false,"url":"/polls/1/errors"}`: "",
		`{"object":"list","data":[{"error":"the-secret"}],"has_more":false}`:   failed,
		`null`: "",
	} {
		var event ricloud.Event
		require.NoError(t, json.Unmarshal([]byte(`{"id":"2","type":"poll","action":"completed","data":`+
			`{"id":"1","state":"completed","errors":`+errs+`}}`), &event))
		stored, _, err := distill(&event)
		require.NoError(t, err)
		assert.NotContains(t, string(stored), "the-secret")
		var again ricloud.Event
		require.NoError(t, json.Unmarshal(stored, &again))
		resource, err := again.Resource()
		require.NoError(t, err)
		poll, ok := resource.(*ricloud.Poll)
		require.True(t, ok)
		assert.Equal(t, want, failureOf(poll), errs)
	}
}
