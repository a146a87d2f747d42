package ingest_test

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"regexp"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	ricloud "github.com/reincubate/ricloud-go"
	"github.com/reincubate/ricloud-go/ingest"
	"github.com/reincubate/ricloud-go/ricloudtest"
)

// calls are the attempts of all calls of a handler, in order.
type calls struct {
	mu       sync.Mutex
	attempts []int
}

func (c *calls) add(r *ingest.Result) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.attempts = append(c.attempts, r.Attempt)
}

func (c *calls) all() []int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.attempts
}

// What goes wrong once the time of a call is over is the handler's failure, never the storage's.
// So is a handler that ends its goroutine, which does not wait for the end of that time.
func TestFailuresOfTheHandlerItself(t *testing.T) {
	t.Parallel()
	read := func(ctx context.Context, r *ingest.Result) error {
		file, err := r.Open(ctx)
		if err != nil {
			return err
		}
		return file.Close()
	}
	const timeout = time.Minute
	for name, c := range map[string]struct {
		result func(context.Context, *ingest.Result) error
		reason string
		within time.Duration // beside the login and the poll
	}{
		"nil, too late": {
			result: func(context.Context, *ingest.Result) error {
				<-time.NewTimer(timeout + time.Second).C
				return nil
			},
			reason: "failed 2 times: the handler did not return in time, and has not read the file",
			within: 2*timeout + 10*time.Second,
		},
		"the error of its context": {
			result: func(ctx context.Context, r *ingest.Result) error {
				<-ctx.Done()
				return read(ctx, r)
			},
			reason: "failed 2 times: the handler did not return in time: ricloud: result",
			within: 2*timeout + 10*time.Second,
		},
		"runtime.Goexit": {
			result: func(context.Context, *ingest.Result) error {
				runtime.Goexit()
				return nil
			},
			reason: "failed 2 times: the handler ended its goroutine",
			within: 10 * time.Second,
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				there, here := fleet(1)
				b := newBench(t, ingest.Config{Memory: true}, ricloudtest.WithAccounts(there...))
				b.poll = time.Second
				var made calls
				h := b.handlers()
				h.Timeout, h.Attempts, h.RetryWait = timeout, 2, 10*time.Millisecond
				h.Result = func(ctx context.Context, r *ingest.Result) error {
					made.add(r)
					return c.result(ctx, r)
				}
				stop := b.run(h)
				b.submit(here...)
				began := time.Now()
				b.wait(1, ingest.Dead)
				assert.Less(t, time.Since(began), c.within+time.Minute)
				status, err := b.engine.Account(t.Context(), here[0].Key)
				require.NoError(t, err)
				assert.Contains(t, status.Reason, c.reason)
				assert.Equal(t, []int{1, 2}, made.all())
				stop()
			})
		})
	}
}

// A handler that has read the whole file and returns nil late is done: it is not called again.
func TestAHandlerThatIsDoneLate(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		there, here := fleet(1)
		b := newBench(t, ingest.Config{Memory: true}, ricloudtest.WithAccounts(there...))
		var made calls
		h := b.handlers()
		h.Timeout = time.Minute
		h.Result = func(ctx context.Context, r *ingest.Result) error {
			made.add(r)
			err := b.handlers().Result(ctx, r)
			<-time.NewTimer(h.Timeout + time.Second).C
			return err
		}
		stop := b.run(h)
		b.submit(here...)
		b.wait(1, ingest.Done)
		stop()
		assert.Equal(t, []int{1}, made.all())
	})
}

// Storage that is away costs no attempt, whether the handler reads the file or the engine does.
// The engine's own reading has its own time, so storage that hangs is not the handler's failure.
func TestStorageThatIsAwayCostsNoAttempt(t *testing.T) {
	t.Parallel()
	for name, fault := range map[string]ricloudtest.Fault{
		"503":    {Operation: ricloudtest.StorageGet, Status: 503, Count: -1},
		"403":    {Operation: ricloudtest.StorageGet, Status: 403, Count: -1},
		"400":    {Operation: ricloudtest.StorageGet, Status: 400, Count: -1},
		"429":    {Operation: ricloudtest.StorageGet, Status: 429, Count: -1},
		"resets": {Operation: ricloudtest.StorageGet, Reset: true, Count: -1},
		"hangs":  {Operation: ricloudtest.StorageGet, Hang: true, Count: -1},
	} {
		for reader, reads := range map[string]bool{"the handler": true, "the engine": false} {
			if reads && fault.Hang {
				continue // its time is over then, which is its own failure
			}
			t.Run(name+", "+reader+" reads", func(t *testing.T) {
				t.Parallel()
				synctest.Test(t, func(t *testing.T) {
					there, here := fleet(1)
					b := newBench(t, ingest.Config{Memory: true}, ricloudtest.WithAccounts(there...),
						ricloudtest.WithFaults(fault))
					var made calls
					h := b.handlers()
					h.Timeout, h.Attempts = 10*time.Second, 2
					h.Result = func(ctx context.Context, r *ingest.Result) error {
						made.add(r)
						if !reads {
							return nil
						}
						return b.handlers().Result(ctx, r)
					}
					stop := b.run(h)
					b.submit(here...)
					after(5 * time.Minute)
					status, err := b.engine.Account(t.Context(), here[0].Key)
					require.NoError(t, err)
					assert.Equal(t, ingest.Handling, status.State)
					assert.Regexp(t, `^result \S+ \(callkit.calls\): .*ricloud: result`, status.Reason)
					require.NoError(t, b.sandbox.SetFaults())
					b.wait(1, ingest.Done)
					stop()
					attempts := made.all()
					if !reads { // it has returned nil: it is not called again
						assert.Equal(t, []int{1}, attempts)
						return
					}
					assert.Greater(t, len(attempts), 3)
					for _, attempt := range attempts {
						assert.Equal(t, 1, attempt)
					}
				})
			})
		}
	}
}

// unsigning is an API that answers for a result as if its signed URL had expired.
type unsigning struct {
	next http.RoundTripper
	on   atomic.Bool
}

func (u *unsigning) RoundTrip(r *http.Request) (*http.Response, error) {
	resp, err := u.next.RoundTrip(r)
	if err != nil || !u.on.Load() || !strings.HasPrefix(r.URL.Path, "/results/") &&
		!strings.HasPrefix(r.URL.Path, "/polls") {
		return resp, err
	}
	body, err := io.ReadAll(resp.Body) //nolint:forbidigo // of the sandbox
	if err != nil {
		return nil, err
	}
	body = signedPattern.ReplaceAll(body, []byte(`"signed_url":null`))
	resp.Body, resp.ContentLength = io.NopCloser(bytes.NewReader(body)), int64(len(body))
	resp.Header.Del("Content-Length")
	return resp, resp.Body.Close()
}

var signedPattern = regexp.MustCompile(`"signed_url":\s*\{[^}]*\}`)

// As long as the API does not renew a signed URL that storage refuses, or is away itself, that
// costs no attempt. That storage does not know the file is the handler's failure.
func TestASignedURLThatIsNotRenewed(t *testing.T) {
	t.Parallel()
	refused := ricloudtest.Fault{Operation: ricloudtest.StorageGet, Status: 403, Count: -1}
	for name, c := range map[string]struct {
		fault  ricloudtest.Fault // of storage
		api    []ricloudtest.Fault
		signed bool // the API goes on to sign
		never  bool // it does not end
		dead   string
		within time.Duration
	}{
		"no URL": {fault: refused},
		"the API is away": {
			fault: refused, signed: true,
			api: []ricloudtest.Fault{{Operation: "Results.Get", Status: 503, Count: -1}},
		},
		"the API breaks": {
			fault: refused, signed: true,
			api: []ricloudtest.Fault{{Operation: "Results.Get", Reset: true, Count: -1}},
		},
		"the file is gone": {
			fault:  ricloudtest.Fault{Operation: ricloudtest.StorageGet, Status: 404, Count: -1},
			signed: true, never: true, within: time.Hour, dead: "failed 2 times",
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				there, here := fleet(1)
				b := newBench(t, ingest.Config{Memory: true, Lease: 10 * time.Minute, ReadEvery: time.Minute},
					ricloudtest.WithAccounts(there...), ricloudtest.WithFaults(c.fault))
				api := &unsigning{next: b.sandbox}
				b.client = b.sandbox.Client(ricloud.WithTransport(api),
					ricloud.WithPacer(b.engine.Pacer()))
				var made calls
				h := b.handlers()
				h.Attempts = 2
				h.Result = func(ctx context.Context, r *ingest.Result) error {
					made.add(r)
					return b.handlers().Result(ctx, r)
				}
				stop := b.run(h)
				b.submit(here...)
				began := time.Now()
				if c.never {
					after(time.Minute)
					api.on.Store(!c.signed)
					b.patience, b.poll = 30*time.Hour, 10*time.Minute
					b.wait(1, ingest.Dead)
					assert.Less(t, time.Since(began), c.within)
					status, err := b.engine.Account(t.Context(), here[0].Key)
					require.NoError(t, err)
					assert.Contains(t, status.Reason, c.dead)
					stop()
					return
				}
				after(10 * time.Minute)
				api.on.Store(!c.signed)
				require.NoError(t, b.sandbox.SetFaults(append(c.api, c.fault)...))
				after(30 * time.Minute) // signed URLs last an hour
				api.on.Store(false)
				require.NoError(t, b.sandbox.SetFaults())
				b.wait(1, ingest.Done)
				stop()
				for _, attempt := range made.all() {
					assert.Equal(t, 1, attempt)
				}
			})
		})
	}
}

// expiring is an API whose signed URLs last ten minutes, and are signed anew in each answer.
type expiring struct {
	next    http.RoundTripper
	refused atomic.Int32
}

const urlLife = 10 * time.Minute

func (e *expiring) RoundTrip(r *http.Request) (*http.Response, error) {
	query := r.URL.Query()
	signed, err := time.Parse(time.RFC3339, query.Get("signed"))
	if err == nil && time.Since(signed) > urlLife {
		e.refused.Add(1)
		return &http.Response{
			StatusCode: http.StatusForbidden, Request: r, Body: http.NoBody, Header: http.Header{},
		}, nil
	}
	r = r.Clone(r.Context())
	query.Del("signed")
	r.URL.RawQuery = query.Encode()
	return e.next.RoundTrip(r)
}

// A result whose signed URL expires while it waits for its handler, or while its handler waits, is
// read with a new URL, and costs no attempt. If the API says when URLs expire, storage is not asked
// with an old one.
func TestSignedURLsThatExpireWhileResultsWait(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct{ dated, before bool }{
		"dated, the handler waits":   {dated: true, before: true},
		"dated, the result waits":    {dated: true},
		"undated, the handler waits": {before: true},
		"undated, the result waits":  {},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				there, here := fleet(1)
				here[0].Poll.DataTypes = append(here[0].Poll.DataTypes, "a.a", "b.b", "c.c")
				b := newBench(t, ingest.Config{Memory: true}, ricloudtest.WithAccounts(there...))
				for config, err := range b.client.StorageConfigs.All(t.Context(),
					ricloud.StorageConfigListParams{}) {
					require.NoError(t, err)
					_, err = b.client.StorageConfigs.Update(t.Context(), config.ID,
						ricloud.StorageConfigUpdateParams{SignedURLsExpiry: 24 * time.Hour})
					require.NoError(t, err)
				}
				storage := &expiring{next: b.sandbox}
				b.client = b.sandbox.Client(ricloud.WithPacer(b.engine.Pacer()),
					ricloud.WithTransport(odd{storage, "result", func(r object) {
						if signed, ok := r["signed_url"].(object); ok {
							now := time.Now().UTC()
							signed["url"] = fmt.Sprint(signed["url"], "&signed=", now.Format(time.RFC3339))
							if signed["date_expires"] = nil; c.dated {
								signed["date_expires"] = now.Add(urlLife).Format(time.RFC3339)
							}
						}
					}}))
				var made calls
				h := b.handlers()
				h.Timeout = time.Hour
				result := h.Result
				h.Result = func(ctx context.Context, r *ingest.Result) error {
					made.add(r)
					if c.before {
						after(15 * time.Minute)
						return result(ctx, r)
					}
					err := result(ctx, r)
					after(15 * time.Minute)
					return err
				}
				stop := b.run(h)
				b.submit(here...)
				b.wait(1, ingest.Done)
				stop()
				assert.Equal(t, []int{1, 1, 1, 1}, made.all())
				assert.Len(t, b.handled.results, 4)
				assert.Equal(t, c.dated, storage.refused.Load() == 0)
			})
		})
	}
}

// A Step or a hook that ends its goroutine, every time, holds nothing up.
func TestAStepHandlerThatEndsItsGoroutine(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		there, here := fleet(3)
		b := newBench(t, ingest.Config{Memory: true}, ricloudtest.WithAccounts(there...))
		h := b.handlers()
		h.Step = func(context.Context, string, ingest.Step) { runtime.Goexit() }
		h.Hooks = []ricloud.Hook{endingHook{}}
		stop := b.run(h)
		b.submit(here...)
		b.wait(3, ingest.Done)
		stop()
		assert.Equal(t, 3, b.sandbox.CountCalls("Sessions.Create"))
	})
}

// endingHook ends its goroutine.
type endingHook struct{}

func (endingHook) Step(
	ctx context.Context, _ ricloud.StepInfo,
) (context.Context, func(ricloud.StepResult)) {
	runtime.Goexit()
	return ctx, nil
}

// A Step that takes longer than a login may take to be sent holds only its account up, and is told
// of all states in order. No login is given up for it.
func TestAStepHandlerThatIsSlow(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		there, here := fleet(1)
		b := newBench(t, ingest.Config{Memory: true}, ricloudtest.WithAccounts(there...))
		h := b.handlers()
		var mu sync.Mutex
		var told []ingest.State
		h.Step = func(_ context.Context, _ string, s ingest.Step) {
			after(time.Minute)
			mu.Lock()
			defer mu.Unlock()
			told = append(told, s.State)
		}
		stop := b.run(h)
		b.submit(here...)
		b.wait(1, ingest.Done)
		after(time.Minute) // the last call; Run does not wait so long for it
		stop()
		assert.Equal(t, []ingest.State{
			ingest.LoggingIn, ingest.Connecting, ingest.Requesting, ingest.Polling, ingest.Handling,
			ingest.Done,
		}, told)
		assert.Equal(t, 1, b.sandbox.CountCalls("Sessions.Create"))
	})
}

// A handler may change its Result: what the engine verifies and acknowledges is its own.
func TestAHandlerThatChangesItsResult(t *testing.T) {
	t.Parallel()
	for name, change := range map[string]func(*ingest.Result){
		"all of it": func(r *ingest.Result) { *r = ingest.Result{} },
		"its parts": func(r *ingest.Result) { r.ID, r.Size, r.Checksum, r.URL = "x", 1, "x", "x" },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				there, here := fleet(1)
				b := newBench(t, ingest.Config{Memory: true}, ricloudtest.WithAccounts(there...))
				var made calls
				h := b.handlers()
				h.Result = func(_ context.Context, r *ingest.Result) error {
					made.add(r)
					change(r)
					return nil
				}
				stop := b.run(h)
				b.submit(here...)
				b.wait(1, ingest.Done)
				stop()
				assert.Equal(t, []int{1}, made.all())
			})
		})
	}
}

// A Result that is not the engine's opens nothing.
func TestAResultOfNobody(t *testing.T) {
	t.Parallel()
	var r ingest.Result
	_, err := r.Open(t.Context())
	require.ErrorContains(t, err, "no Result that Handlers.Result was called with")
	_, err = r.Save(t.Context(), t.TempDir())
	require.ErrorContains(t, err, "no Result that Handlers.Result was called with")
}
