package main

import (
	"context"
	"net/http"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/go-chi/chi/v5"
	"github.com/go-chi/chi/v5/middleware"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	ricloud "github.com/reincubate/ricloud-go"
	"github.com/reincubate/ricloud-go/ricloudtest"
)

// The handler works with every way of mounting it in chi.
func TestTheHandlerOnChi(t *testing.T) {
	t.Parallel()
	for name, mount := range map[string]func(chi.Router, http.Handler){
		"mounted":    func(r chi.Router, h http.Handler) { r.Mount("/ricloud", h) },
		"a wildcard": func(r chi.Router, h http.Handler) { r.Handle("/ricloud/*", h) },
		"a pattern": func(r chi.Router, h http.Handler) {
			r.Method(http.MethodPost, "/ricloud/{event}", h)
		},
		"a subrouter": func(r chi.Router, h http.Handler) {
			r.Route("/ricloud", func(r chi.Router) { r.Handle("/*", h) })
		},
		"in middleware": func(r chi.Router, h http.Handler) {
			r.With(middleware.Timeout(time.Minute)).Mount("/ricloud", h)
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				var mu sync.Mutex
				handled, names := map[ricloud.ID]int{}, map[string]bool{}
				hook, err := ricloud.NewWebhookHandler(func(_ context.Context, e *ricloud.Event) error {
					mu.Lock()
					defer mu.Unlock()
					handled[e.ID]++
					names[e.Name()] = true
					return nil
				})
				require.NoError(t, err)
				router := chi.NewRouter()
				router.Use(middleware.RequestID, middleware.Recoverer)
				mount(router, hook)
				sandbox := ricloudtest.NewServer(
					ricloudtest.WithReceiver("https://example.com/", router),
					ricloudtest.WithWebhookFaults(ricloudtest.WebhookFaults{Duplicate: 1}),
				)
				defer sandbox.Close()
				client := sandbox.Client()
				_, err = client.WebhookConfigs.Ensure(t.Context(), ricloud.WebhookConfigEnsureParams{
					URL: "https://example.com/ricloud", BeforeTest: hook.SetSecrets, MakeKeyDefault: true,
				})
				require.NoError(t, err)
				require.NoError(t, cause(t.Context(), client))
				time.Sleep(time.Hour) //nolint:forbidigo // virtual: every delivery is over
				mu.Lock()
				defer mu.Unlock()
				assert.True(t, names[ricloud.EventPollCompleted], "%v", names)
				for id, times := range handled {
					assert.Equal(t, 1, times, "event %s", id)
				}
			})
		})
	}
}
