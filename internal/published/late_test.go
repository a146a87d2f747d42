package published

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestLate(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		until int  // how many looks it takes until nothing is missing
		stop  bool // at the first look
		looks int
		after time.Duration
	}{
		"nothing is missing": {},
		"once":               {until: 1, looks: 1, after: time.Second},
		"for a while":        {until: 3, looks: 3, after: 15 * time.Second},
		"for ever":           {until: 99, looks: 5, after: time.Minute},
		"stopped":            {until: 99, stop: true, looks: 1, after: time.Second},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				looks, began := 0, time.Now()
				err := Late(t.Context(), func() bool { return looks < tc.until }, func() bool {
					looks++
					return !tc.stop
				})
				require.NoError(t, err)
				assert.Equal(t, tc.looks, looks)
				assert.Equal(t, tc.after, time.Since(began))
			})
		})
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	err := Late(ctx, func() bool { return true }, func() bool { return true })
	require.ErrorIs(t, err, context.Canceled)
}

func TestTasksMissing(t *testing.T) {
	t.Parallel()
	tasks := []string{"a", "b", "c"}
	assert.Equal(t, tasks, Tasks[string]{}.Missing(tasks))
	assert.Equal(t, []string{"c"}, Tasks[string]{"a": 1, "b": 3}.Missing(tasks))
	assert.Equal(t, []string{"c"}, Tasks[string]{"a": 1, "": 1}.Missing(tasks), "one may be of b")
	assert.Empty(t, Tasks[string]{"": 4}.Missing(tasks))
}
