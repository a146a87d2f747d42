package main

import (
	"context"
	"encoding/json"
	"io"
	"net/http"
	"os"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// Every metric that the dashboard uses is served.
func TestDashboard(t *testing.T) {
	t.Parallel()
	raw, err := os.ReadFile("dashboard.json")
	require.NoError(t, err)
	var dashboard struct {
		Panels []struct {
			Title   string `json:"title"`
			Targets []struct {
				Expr string `json:"expr"`
			} `json:"targets"`
		} `json:"panels"`
	}
	require.NoError(t, json.Unmarshal(raw, &dashboard))

	ctx, cancel := context.WithCancel(t.Context())
	urls, done := make(chan string, 1), make(chan error, 1)
	go func() {
		done <- run(ctx, 2, "127.0.0.1:0", func(text string) (int, error) {
			urls <- strings.TrimSpace(strings.TrimPrefix(text, "metrics: "))
			return len(text), nil
		})
	}()
	url := <-urls
	metric := regexp.MustCompile(`(ricloud|http)_[a-z_]+`)
	require.EventuallyWithT(t, func(c *assert.CollectT) {
		served := get(t, url)
		for _, panel := range dashboard.Panels {
			for _, target := range panel.Targets {
				assert.Contains(c, served, metric.FindString(target.Expr), panel.Title)
			}
		}
		assert.Contains(c, served, `tenant="tenant-02"`)
	}, 60*time.Second, 200*time.Millisecond)
	cancel()
	require.NoError(t, <-done)
}

func get(t *testing.T, url string) string {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, http.NoBody)
	require.NoError(t, err)
	resp, err := http.DefaultClient.Do(req) //nolint:forbidigo // a scraper is no client of the API
	require.NoError(t, err)
	defer func() { _ = resp.Body.Close() }()
	body, err := io.ReadAll(io.LimitReader(resp.Body, 16<<20)) //nolint:forbidigo // bounded
	require.NoError(t, err)
	return string(body)
}
