package transport

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"math"
	"net/http"
	"testing"
	"testing/synctest"
	"time"

	"github.com/jarcoal/httpmock"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// after answers 200 after d, unless the request's context ends first.
func after(d time.Duration, body io.Reader) httpmock.Responder {
	return func(req *http.Request) (*http.Response, error) {
		select {
		case <-time.After(d): //nolint:forbidigo // virtual time
		case <-req.Context().Done():
			return nil, req.Context().Err()
		}
		return &http.Response{
			StatusCode: http.StatusOK, ContentLength: -1,
			Body: io.NopCloser(withContext{req.Context(), body}),
		}, nil
	}
}

// withContext is a body that fails when its request's context ends, as that of a socket does.
type withContext struct {
	ctx context.Context //nolint:containedctx // a fake of net/http's body
	r   io.Reader
}

func (b withContext) Read(p []byte) (int, error) {
	if b.r == nil {
		return 0, io.EOF
	}
	type result struct {
		n   int
		err error
	}
	done := make(chan result, 1)
	go func() {
		n, err := b.r.Read(p)
		done <- result{n, err}
	}()
	select {
	case r := <-done:
		return r.n, r.err
	case <-b.ctx.Done():
		if closer, ok := b.r.(io.Closer); ok {
			closer.Close()
			<-done
		}
		return 0, b.ctx.Err()
	}
}

// drip is a body of n bytes, one after each gap.
func drip(n int, gap time.Duration) io.Reader {
	r, w := io.Pipe()
	go func() {
		for range n {
			timer := time.NewTimer(gap)
			<-timer.C
			if _, err := w.Write([]byte("x")); err != nil {
				return
			}
		}
		_ = w.Close()
	}()
	return r
}

func TestTimeouts(t *testing.T) {
	t.Parallel()
	const never = 24 * time.Hour
	for _, tt := range []struct {
		name  string
		op    Operation
		await time.Duration
		step  func() httpmock.Responder
		limit string // "": the call succeeds
		took  time.Duration
	}{
		{
			name: "an answer just in time", op: PollsCreate, await: 0,
			step: func() httpmock.Responder {
				return after(30*time.Second-1, nil)
			},
			limit: "", took: 30*time.Second - 1,
		},
		{
			name: "no headers", op: PollsCreate, await: 0,
			step:  func() httpmock.Responder { return after(never, nil) },
			limit: "attempt", took: 30 * time.Second,
		},
		{
			name: "an await stretches the attempt", op: SessionsCreate, await: 10 * time.Second,
			step: func() httpmock.Responder {
				return after(40*time.Second-1, nil)
			},
			limit: "", took: 40*time.Second - 1,
		},
		{
			name: "but not for ever", op: SessionsCreate, await: 10 * time.Second,
			step: func() httpmock.Responder {
				return after(never, nil)
			},
			limit: "attempt", took: 40 * time.Second,
		},
		{
			name: "an await nobody honours does not", op: PollsCreate, await: 10 * time.Second,
			step: func() httpmock.Responder {
				return after(never, nil)
			},
			limit: "attempt", took: 30 * time.Second,
		},
		{
			name: "a slow body is not a silent one", op: PollsCreate, await: 0,
			step: func() httpmock.Responder {
				return after(0, drip(5, 20*time.Second))
			},
			limit: "", took: 100 * time.Second,
		},
		{
			name: "a silent body is", op: PollsCreate, await: 0,
			step: func() httpmock.Responder {
				return after(29*time.Second, drip(1, never))
			},
			limit: "stall", took: 59 * time.Second,
		},
		{
			name: "an endless body", op: PollsCreate, await: 0,
			step: func() httpmock.Responder {
				return after(0, drip(1000, 20*time.Second))
			},
			limit: "call", took: 2 * time.Minute,
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				req := request(tt.op)
				req.Await = tt.await
				began := time.Now()
				resp, err := newClient(t, play(tt.step()), func(c *Config) {
					c.MaxRetries = -1
				}).Do(t.Context(), req)
				assert.Equal(t, tt.took, time.Since(began))
				if tt.limit == "" {
					require.NoError(t, err)
					assert.Equal(t, tt.took, resp.Duration)
					return
				}
				timeout, ok := errors.AsType[*Timeout](err)
				require.True(t, ok, err)
				assert.Equal(t, tt.limit, timeout.Limit)
				assert.True(t, timeout.Timeout())
				require.ErrorIs(t, err, context.DeadlineExceeded)
				require.NotErrorIs(t, err, context.Canceled)
				assert.Contains(t, err.Error(), tt.limit+" timeout")
				f := failure(t, err)
				assert.True(t, f.MaybeApplied)
				assert.Equal(t, tt.took, f.Attempts[0].Duration)
				time.Sleep(never) //nolint:forbidigo // virtual: lets the fake's writer end
			})
		})
	}
}

func TestTheCallTimeoutEndsTheLastAttempt(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		mock := play(hangs)
		began := time.Now()
		_, err := newClient(t, mock, func(c *Config) { c.CallTimeout = 45 * time.Second }).Do(t.Context(),
			request(PollsList))
		assert.Equal(t, 45*time.Second, time.Since(began))
		timeout, ok := errors.AsType[*Timeout](err)
		require.True(t, ok, err)
		assert.Equal(t, Timeout{"call", 45 * time.Second}, *timeout)
		f := failure(t, err)
		require.Len(t, f.Attempts, 2)
		first, ok := errors.AsType[*Timeout](f.Attempts[0].Err)
		require.True(t, ok)
		assert.Equal(t, "attempt", first.Limit)
		assert.Equal(t, 30*time.Second, f.Attempts[0].Duration, "the back-off is not the attempt's")
	})
}

func TestTheCallersContextIsTheCauseNotATimeout(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		cause := errors.New("shutting down")
		ctx, cancel := context.WithTimeoutCause(t.Context(), 5*time.Second, cause)
		defer cancel()
		_, err := newClient(t, play(hangs)).Do(ctx, request(PollsCreate))
		require.ErrorIs(t, err, cause)
		f := failure(t, err)
		assert.Equal(t, 5*time.Second, f.Duration)
		assert.True(t, f.MaybeApplied)
		assert.Nil(t, f.Last)
	})
}

// Each hop has its own timeout, and the call has one for all hops.
func TestTimeoutsOfARedirect(t *testing.T) {
	t.Parallel()
	hop := func(body time.Duration) httpmock.Responder {
		return func(req *http.Request) (*http.Response, error) {
			resp, err := after(0, drip(int(body/time.Second), time.Second))(req)
			resp.StatusCode, resp.Header = http.StatusFound, http.Header{"Location": {"/other"}}
			return resp, err
		}
	}
	for _, tt := range []struct {
		name  string
		steps []httpmock.Responder
		limit string
		took  time.Duration
	}{
		{
			name:  "longer than an attempt, together",
			steps: []httpmock.Responder{hop(25 * time.Second), after(10*time.Second, nil)},
			limit: "", took: 35 * time.Second,
		},
		{
			name:  "the second hangs",
			steps: []httpmock.Responder{hop(5 * time.Second), after(time.Hour, nil)},
			limit: "attempt", took: 35 * time.Second,
		},
		{
			name:  "the call ends while the second hangs",
			steps: []httpmock.Responder{hop(35 * time.Second), after(time.Hour, nil)},
			limit: "call", took: 40 * time.Second,
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				client := newClient(t, play(tt.steps...), func(c *Config) {
					c.MaxRetries, c.CallTimeout = -1, 40*time.Second
				})
				began := time.Now()
				_, err := client.Do(t.Context(), request(PollsList))
				assert.Equal(t, tt.took, time.Since(began))
				if tt.limit == "" {
					require.NoError(t, err)
					return
				}
				timeout, ok := errors.AsType[*Timeout](err)
				require.True(t, ok, err)
				assert.Equal(t, tt.limit, timeout.Limit)
			})
		})
	}
}

func TestAnAwaitOverflowsNoTimeout(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		req := request(SessionsCreate)
		req.Await = time.Second
		client := newClient(t, play(status(http.StatusOK)), func(c *Config) {
			c.AttemptTimeout = math.MaxInt64
		})
		_, err := client.Do(t.Context(), req)
		require.NoError(t, err)
	})
}

// closesLate is a body whose Close blocks until its request ends, as it may do with HTTP/2.
type closesLate struct{ withContext }

func (b closesLate) Close() error { <-b.ctx.Done(); return nil }

func TestAnAttemptEndsBeforeItsBodyIsClosed(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		began := time.Now()
		_, err := newClient(t, play(func(req *http.Request) (*http.Response, error) {
			return &http.Response{
				StatusCode: http.StatusOK,
				Body:       closesLate{withContext{ctx: req.Context()}},
			}, nil
		})).Do(t.Context(), request(PollsList))
		require.NoError(t, err)
		assert.Zero(t, time.Since(began))
	})
}

func TestAFinishedAttemptKeepsNoTimer(t *testing.T) {
	t.Parallel()
	client := newClient(t, play(status(http.StatusOK)))
	g := new(attemptTimer)
	ctx := g.begin(&call{Context: t.Context(), client: client, began: time.Now()})
	g.set(client.attemptTimeout, time.Now())
	g.finish()
	g.ring() // the timer was already firing
	assert.False(t, g.timer.Stop())
	assert.Equal(t, context.Canceled, context.Cause(ctx))
}

// If a slow logger leaves no time for another attempt, the call returns the last answer.
func TestALoggerThatTakesItsTime(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		mock := play(status(http.StatusServiceUnavailable, "Retry-After", "10"))
		client := newClient(t, mock, func(c *Config) {
			c.CallTimeout, c.Logger = 12*time.Second, slog.New(slowly{slog.DiscardHandler})
		})
		resp, err := client.Do(t.Context(), request(PollsList))
		require.NoError(t, err)
		assert.Equal(t, http.StatusServiceUnavailable, resp.StatusCode)
		require.Len(t, resp.Attempts, 1)
		assert.Zero(t, resp.Attempts[0].Wait)
		assert.Equal(t, 5*time.Second, resp.Duration)
	})
}

type slowly struct{ slog.Handler }

func (slowly) Enabled(context.Context, slog.Level) bool { return true }

func (slowly) Handle(context.Context, slog.Record) error {
	time.Sleep(5 * time.Second) //nolint:forbidigo // virtual
	return nil
}
