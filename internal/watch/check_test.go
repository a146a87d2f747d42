package watch

import (
	"context"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// frozen is an api whose list shows some jobs as they were at first, for ever.
type frozen struct {
	*api

	ids func(id string) bool
}

func (f frozen) List(
	ctx context.Context, after string, limit int, wanted func(string) bool,
) (Page[job], error) {
	page, err := f.api.List(ctx, after, limit, wanted)
	for _, j := range page.Wanted {
		if f.ids(j.id) {
			j.step = 0
		}
	}
	return page, err
}

// A list that lags for ever is found out, whether it is wrong about all jobs or about one.
func TestAListThatLagsForEver(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		frozen func(id string) bool
		within time.Duration
	}{
		"about all": {frozen: func(string) bool { return true }, within: 3 * time.Minute},
		"about one": {
			frozen: func(id string) bool { return id == "job-3" }, within: time.Hour + time.Minute,
		},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				a, began := newAPI(), time.Now()
				h := New[job](frozen{a, tc.frozen}, rhythm, nil)
				ctx, cancel := context.WithCancel(t.Context())
				var stuck, all sync.WaitGroup
				for range 40 {
					id, group := a.create(2*time.Hour), &all
					if tc.frozen(id) {
						a.change(func(a *api) { a.lasts[id] = time.Minute })
						group = &stuck
					}
					group.Go(func() {
						_, err := wait(ctx, h, id, nil)
						if group == &stuck {
							assert.NoError(t, err)
						}
					})
				}
				stuck.Wait()
				assert.Less(t, time.Since(began), tc.within)
				cancel()
				all.Wait()
			})
		})
	}
}

// Checks of a list that is right are rare: 18 an hour, and one an hour for each wait.
func TestChecksOfTheListAreRare(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		a := newAPI()
		h := New[job](a, rhythm, nil)
		ctx, cancel := context.WithCancel(t.Context())
		var all sync.WaitGroup
		for range 300 {
			id := a.create(24 * time.Hour)
			all.Go(func() { _, _ = wait(ctx, h, id, a.job(id)) })
		}
		<-time.NewTimer(55 * time.Minute).C
		gets, _ := a.requests()
		assert.LessOrEqual(t, gets, 18)
		assert.GreaterOrEqual(t, gets, 15)
		<-time.NewTimer(3 * time.Hour).C
		more, _ := a.requests()
		assert.LessOrEqual(t, more-gets, 1000)
		cancel()
		all.Wait()
	})
}

// What the list shows although the API says that it is gone ends the wait.
func TestAListThatShowsWhatIsGone(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		a := newAPI()
		a.fault = func(kind, id string) error {
			if kind == "get" && id == "job-0" {
				return errMissing
			}
			return nil
		}
		h := New[job](a, rhythm, nil)
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		gone, others := a.create(3*time.Hour), sync.WaitGroup{}
		for range 4 {
			id := a.create(3 * time.Hour)
			others.Go(func() { _, _ = wait(ctx, h, id, a.job(id)) })
		}
		_, err := wait(ctx, h, gone, a.job(gone))
		require.ErrorIs(t, err, errMissing)
		cancel()
		others.Wait()
	})
}
