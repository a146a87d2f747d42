package ricloudtest_test

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	ricloud "github.com/reincubate/ricloud-go"
	"github.com/reincubate/ricloud-go/ricloudtest"
)

// A subscription requires a session that has not expired, an active organisation and a storage
// config. An organisation that began unconfigured also needs a webhook config.
func TestSubscriptionsAreRefused(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		opts  []ricloudtest.Option
		spoil func(*testing.T, *ricloudtest.Server, ricloud.ID)
		want  error
	}{
		"nothing is wrong": {},
		"an expired session": {
			spoil: func(t *testing.T, srv *ricloudtest.Server, session ricloud.ID) {
				t.Helper()
				require.NoError(t, srv.ExpireSession(session, "api"))
			},
			want: ricloud.ErrSessionExpired,
		},
		"no receiver where the organisation began with nothing": {
			opts: []ricloudtest.Option{ricloudtest.WithUnconfigured()},
			spoil: func(t *testing.T, srv *ricloudtest.Server, _ ricloud.ID) {
				t.Helper()
				own := ricloud.ID("1")
				_, err := srv.Client().StorageConfigs.Create(t.Context(), ricloud.StorageConfigCreateParams{
					URL: "s3://bucket/path", Credentials: ricloud.Credentials{
						"access_key_id": ricloud.NewSecret("a"), "secret_access_key": ricloud.NewSecret("b"),
					},
				})
				require.NoError(t, err)
				pass(time.Minute)
				params := ricloud.KeyUpdateParams{StorageConfig: &own}
				_, err = srv.Client().Keys.UpdateCurrent(t.Context(), params)
				require.NoError(t, err)
			},
			want: ricloud.ErrUnconfigured,
		},
		"nowhere to publish to": {
			spoil: func(t *testing.T, srv *ricloudtest.Server, _ ricloud.ID) {
				t.Helper()
				require.NoError(t, srv.SetState("storage_config", "1", "invalid"))
			},
			want: ricloud.ErrUnconfigured,
		},
		"a blocked organisation": {
			spoil: func(t *testing.T, srv *ricloudtest.Server, _ ricloud.ID) {
				t.Helper()
				require.NoError(t, srv.SetState("organisation", "", "blocked"))
			},
			want: ricloud.ErrForbidden,
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				srv := newServer(t, test.opts...)
				ctx, c := t.Context(), srv.Client()
				session := john(ctx, t, c)
				if test.spoil != nil {
					test.spoil(t, srv, session.ID)
				}
				_, err := c.Subscriptions.Create(ctx, ricloud.SubscriptionCreateParams{
					Session: session.ID, PollPayload: ricloud.PollPayload{DataTypes: []string{"a"}},
				})
				require.ErrorIs(t, err, test.want)
			})
		})
	}
}

// A subscription begins with its first poll, when it is created or at its start date.
func TestSubscriptionsBegin(t *testing.T) {
	t.Parallel()
	for name, later := range map[string]time.Duration{"at once": 0, "later": 2 * time.Hour} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				srv := newServer(t, ricloudtest.WithDelays(ricloudtest.Delays{
					Subscription: ricloudtest.Fixed(time.Minute),
				}))
				ctx, c := t.Context(), srv.Client()
				params := ricloud.SubscriptionCreateParams{
					Session:     john(ctx, t, c).ID,
					PollPayload: ricloud.PollPayload{DataTypes: []string{"callkit.calls"}},
				}
				begin := time.Now()
				if later > 0 {
					params.DateStart = begin.Add(later)
				}
				made, err := c.Subscriptions.Create(ctx, params)
				require.NoError(t, err)
				assert.Equal(t, ricloud.SubscriptionState("pending"), made.State)
				assert.WithinDuration(t, begin.Add(later), made.DateStart, time.Second)
				polls := func(after time.Duration) int {
					pass(time.Until(begin.Add(after)))
					list, err := c.Polls.List(ctx, ricloud.PollListParams{Subscription: made.ID})
					require.NoError(t, err)
					return len(list.Data)
				}
				assert.Zero(t, polls(later+30*time.Second))
				assert.Equal(t, 1, polls(later+2*time.Minute))
				got, err := c.Subscriptions.Get(ctx, made.ID)
				require.NoError(t, err)
				assert.Equal(t, ricloud.SubscriptionState("active"), got.State)
				assert.Equal(t, []string{"callkit.calls"}, got.PollPayload.DataTypes)
			})
		})
	}
}
