package watch

import (
	"context"
	"errors"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

var errLarge = errors.New("the answer is too large")

// large is an api whose lists exceed the client's limit if they have more than most items.
type large struct {
	*api

	most int
}

func (l large) List(
	ctx context.Context, after string, limit int, wanted func(string) bool,
) (Page[job], error) {
	page, err := l.api.List(ctx, after, limit, wanted)
	if err == nil && page.Len > l.most {
		return Page[job]{}, errLarge
	}
	return page, err
}

func (l large) Classify(err error) Verdict {
	if errors.Is(err, errLarge) {
		return TooLarge
	}
	return l.api.Classify(err)
}

// If a page is too large, smaller pages are requested, and the size is remembered.
func TestAPageThatIsTooLargeIsAskedForSmaller(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		a := newAPI()
		h := New(Source[job](large{a, 20}), rhythm, nil)
		var all sync.WaitGroup
		for range 100 {
			id := a.create(5 * time.Minute)
			all.Go(func() {
				_, err := wait(t.Context(), h, id, a.job(id))
				assert.NoError(t, err)
			})
		}
		all.Wait()
		require.NotEmpty(t, a.limits)
		last := slices.IndexFunc(a.limits, func(n int) bool { return n <= 20 })
		require.Positive(t, last)
		assert.LessOrEqual(t, slices.Max(a.limits[last:]), 20, "what was too large is not asked again")
	})
}
