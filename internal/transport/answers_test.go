package transport

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestAnswerTimes(t *testing.T) {
	t.Parallel()
	var answers answerTimes
	assert.Equal(t, time.Second, answers.typical(), "nothing is known")
	for _, step := range []struct{ took, want time.Duration }{
		{took: time.Millisecond, want: time.Second},
		{took: 9 * time.Second, want: 9 * time.Second},
		{took: time.Second, want: 8 * time.Second},
		{took: 8 * time.Second, want: 8 * time.Second},
		{took: 0, want: 7 * time.Second},
	} {
		answers.add(step.took)
		assert.Equal(t, step.want, answers.typical())
	}
}

// The time for which the API was asked to hold its answer back does not count.
func TestTimeToAwaitIsNoTimeToAnswer(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		client := newClient(t, slow(11*time.Second))
		_, err := client.Do(t.Context(), createAwaiting(8*time.Second))
		require.NoError(t, err)
		assert.Equal(t, 3*time.Second, client.answers.typical())
	})
}
