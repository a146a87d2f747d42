package transport

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"strconv"
	"testing"

	"github.com/hashicorp/go-retryablehttp"
	"github.com/stretchr/testify/assert"
)

const pollJSON = `{"id":"0b5c1f2e-6a3d-4f57-8f5e-0d9a3f6f2a11","resource":"poll",` +
	`"state":"processing","tasks_pending":3,"tasks_succeeded":1}`

type poll struct {
	ID             string `json:"id"`
	State          string `json:"state"`
	TasksPending   int    `json:"tasks_pending"`
	TasksSucceeded int    `json:"tasks_succeeded"`
}

// memory answers every request from memory, at the lowest possible cost.
type memory struct{ header http.Header }

func (m memory) RoundTrip(req *http.Request) (*http.Response, error) {
	return &http.Response{
		StatusCode: http.StatusOK, Header: m.header, Request: req,
		Body: io.NopCloser(bytes.NewReader([]byte(pollJSON))), ContentLength: int64(len(pollJSON)),
	}, nil
}

type doer interface {
	Do(req *http.Request) (*http.Response, error)
}

// byHand makes the call with net/http alone: no retries, no timeouts, no limits.
func byHand(ctx context.Context, client doer, base string) (*poll, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, base+"/polls/1", nil)
	if err != nil {
		return nil, err
	}
	req.Header.Set("Authorization", "Token "+testToken)
	req.Header.Set("Accept", "application/json")
	req.Header.Set("User-Agent", "ricloud-go/test")
	resp, err := client.Do(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	body, err := read(resp.Body, resp.ContentLength, DefaultMaxBody)
	if err != nil {
		return nil, err
	}
	var p poll
	return &p, json.Unmarshal(body, &p)
}

func ours(ctx context.Context, client *Client) (*poll, error) {
	resp, err := client.Do(ctx, &Request{Operation: PollsGet, ID: "1"})
	if err != nil {
		return nil, err
	}
	var p poll
	return &p, json.Unmarshal(resp.Body, &p)
}

// standardClient wraps client in go-retryablehttp's StandardClient.
func standardClient(client *http.Client) *http.Client {
	return (&retryablehttp.Client{ //nolint:forbidigo // what we compare with
		HTTPClient: client, CheckRetry: retryablehttp.DefaultRetryPolicy,
		Backoff: retryablehttp.DefaultBackoff, RetryMax: DefaultMaxRetries,
	}).StandardClient()
}

// BenchmarkCall compares one GET of a poll on net/http, with and without its Timeout, on
// go-retryablehttp's StandardClient, and on this package.
func BenchmarkCall(b *testing.B) {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		_, _ = io.WriteString(w, pollJSON)
	}))
	defer server.Close()
	pool := newTransport(nil)
	defer pool.CloseIdleConnections()
	for _, wire := range []struct {
		name, base string
		transport  http.RoundTripper
	}{
		{
			name:      "memory",
			base:      testBase,
			transport: memory{http.Header{"Content-Type": {"application/json"}}},
		},
		{name: "loopback", base: server.URL, transport: pool},
	} {
		bare := &http.Client{Transport: wire.transport}
		timed := &http.Client{Transport: wire.transport, Timeout: DefaultAttemptTimeout}
		standard := standardClient(bare)
		client := newClient(b, wire.transport, func(c *Config) { c.BaseURL = wire.base })
		for _, bench := range []struct {
			name string
			call func(context.Context) (*poll, error)
		}{
			{
				name: "bare",
				call: func(ctx context.Context) (*poll, error) { return byHand(ctx, bare, wire.base) },
			},
			{name: "bare-with-timeout", call: func(ctx context.Context) (*poll, error) {
				return byHand(ctx, timed, wire.base)
			}},
			{name: "standard-client", call: func(ctx context.Context) (*poll, error) {
				return byHand(ctx, standard, wire.base)
			}},
			{
				name: "ours",
				call: func(ctx context.Context) (*poll, error) { return ours(ctx, client) },
			},
		} {
			b.Run(wire.name+"/"+bench.name, func(b *testing.B) {
				b.ReportAllocs()
				for b.Loop() {
					if p, err := bench.call(b.Context()); err != nil || p.TasksPending != 3 {
						b.Fatal(p, err)
					}
				}
			})
		}
	}
}

// TestACallCostsFewAllocations compares the allocations of a call with those of the same call on
// net/http and on StandardClient.
//
//nolint:paralleltest // counts the process's allocations
func TestACallCostsFewAllocations(t *testing.T) {
	transport := memory{http.Header{}}
	bare, client := &http.Client{Transport: transport}, newClient(t, transport)
	standard := standardClient(bare)
	count := func(call func() (*poll, error)) float64 {
		return testing.AllocsPerRun(200, func() {
			_, err := call()
			assert.NoError(t, err)
		})
	}
	manual := count(func() (*poll, error) { return byHand(t.Context(), bare, testBase) })
	onStandard := count(func() (*poll, error) { return byHand(t.Context(), standard, testBase) })
	here := count(func() (*poll, error) { return ours(t.Context(), client) })
	assert.LessOrEqual(t, here, manual+4)
	assert.Less(t, here, onStandard)
}

// BenchmarkMask compares masking two secrets in a page full of escapes with one scan of the page
// for each spelling of a secret. The MB/s of all sizes should be alike, because the time should
// grow linearly with the page.
func BenchmarkMask(b *testing.B) {
	for _, size := range []int{100, 1000, 10_000} {
		page := []byte(escapedPage(size))
		call := &call{header: http.Header{}, req: &Request{Secrets: []string{"a secret", "another one"}}}
		var needles [][]byte
		for _, secret := range call.req.Secrets {
			needles = append(needles, spellings(secret)...)
		}
		kilobytes := strconv.Itoa(len(page)/1000) + "KB"
		b.Run("scan/"+kilobytes, func(b *testing.B) {
			b.SetBytes(int64(len(page)))
			for b.Loop() {
				for _, needle := range needles {
					if bytes.Contains(page, needle) {
						b.Fatal("the page holds no secret")
					}
				}
			}
		})
		b.Run("mask/"+kilobytes, func(b *testing.B) {
			b.SetBytes(int64(len(page)))
			for b.Loop() {
				if len(call.mask(page)) != len(page) {
					b.Fatal("the page holds no secret")
				}
			}
		})
	}
}
