package ingest_test

import (
	"context"
	"errors"
	"log/slog"
	"runtime"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	ricloud "github.com/reincubate/ricloud-go"
	"github.com/reincubate/ricloud-go/ingest"
	"github.com/reincubate/ricloud-go/ricloudtest"
)

// typedNil is an error whose methods panic when it is nil, as a *MyError that is returned for nil.
type typedNil struct{ err error }

func (e *typedNil) Error() string { return e.err.Error() }
func (e *typedNil) Unwrap() error { return e.err }

// misbehaviours are what a callback may do wrong, until release is closed.
func misbehaviours(release <-chan struct{}) map[string]func(context.Context) error {
	return map[string]func(context.Context) error{
		"hangs": func(context.Context) error { <-release; return nil },
		"is slow": func(context.Context) error {
			select {
			case <-time.NewTimer(11 * time.Minute).C:
			case <-release:
			}
			return nil
		},
		"panics": func(context.Context) error { panic(password) },
		"panics with an odd error": func(context.Context) error {
			panic(error((*typedNil)(nil)))
		},
		"ends its goroutine": func(context.Context) error { runtime.Goexit(); return nil },
		"returns an odd error": func(context.Context) error {
			return (*typedNil)(nil)
		},
		"fails with an error of the API": func(context.Context) error {
			return &ricloud.Error{StatusCode: 401, Code: "unauthorized"}
		},
		"returns late": func(ctx context.Context) error { <-ctx.Done(); return context.Cause(ctx) },
	}
}

// oddHook is a hook that does something wrong, at the beginning or at the end of a step.
type oddHook struct {
	begin, end func(context.Context)
	ctx        func(context.Context) context.Context
}

func (h oddHook) Step(
	ctx context.Context, _ ricloud.StepInfo,
) (context.Context, func(ricloud.StepResult)) {
	if h.begin != nil {
		h.begin(ctx)
	}
	inner := ctx
	if h.ctx != nil {
		inner = h.ctx(ctx)
	}
	return inner, func(ricloud.StepResult) {
		if h.end != nil {
			h.end(ctx)
		}
	}
}

// Whatever a callback does wrong with the first of many accounts, or with all where it only
// observes, it holds up nothing but that account, and not the end of Run. Its text is told without
// secrets.
func TestCallbacksThatMisbehave(t *testing.T) {
	t.Parallel()
	const accounts = 30
	ignored := func(fn func(context.Context) error) func(context.Context) {
		return func(ctx context.Context) { _ = fn(ctx) }
	}
	for callback, set := range map[string]struct {
		handlers func(h *ingest.Handlers, odd func(context.Context) error)
		observes bool
	}{
		"Secret": {handlers: func(h *ingest.Handlers, odd func(context.Context) error) {
			h.Secret = func(ctx context.Context, key string) (ricloud.Secret, error) {
				if key == "customer-0" {
					return ricloud.NewSecret(password), odd(ctx)
				}
				return secret(ctx, key)
			}
		}},
		"Result": {handlers: func(h *ingest.Handlers, odd func(context.Context) error) {
			result := h.Result
			h.Timeout = time.Minute
			h.Result = func(ctx context.Context, r *ingest.Result) error {
				if r.Account == "customer-0" {
					return odd(ctx)
				}
				return result(ctx, r)
			}
		}},
		"Step": {observes: true, handlers: func(h *ingest.Handlers, odd func(context.Context) error) {
			h.Step = func(ctx context.Context, _ string, _ ingest.Step) { _ = odd(ctx) }
		}},
		"a hook's beginning": {
			observes: true, handlers: func(h *ingest.Handlers, odd func(context.Context) error) {
				h.Hooks = []ricloud.Hook{oddHook{begin: ignored(odd)}}
			},
		},
		"a hook's end": {
			observes: true, handlers: func(h *ingest.Handlers, odd func(context.Context) error) {
				h.Hooks = []ricloud.Hook{oddHook{end: ignored(odd)}}
			},
		},
	} {
		for wrong := range misbehaviours(nil) {
			t.Run(callback+" "+wrong, func(t *testing.T) {
				t.Parallel()
				synctest.Test(t, func(t *testing.T) {
					there, here := fleet(accounts)
					b := newBench(t, ingest.Config{Memory: true}, ricloudtest.WithAccounts(there...))
					release := make(chan struct{})
					odd := misbehaviours(release)[wrong]
					var logged lockedText
					h := b.handlers()
					h.Logger = slog.New(slog.NewTextHandler(&logged, nil))
					set.handlers(&h, odd)
					stop := b.run(h)
					b.submit(here...)
					done := accounts
					if !set.observes {
						done--
					}
					b.patience = time.Hour
					b.wait(done, ingest.Done)
					began := time.Now()
					stop()
					assert.Less(t, time.Since(began), 20*time.Second)
					close(release)
					assert.Equal(t, accounts > done && callback == "Secret",
						b.sandbox.CountCalls("Sessions.Create") == accounts-1)
					if !set.observes { // those may be called before the engine knows a password
						assert.NotContains(t, logged.String(), password)
					}
					if wrong == "hangs" && callback != "Result" {
						assert.Contains(t, logged.String(), "no longer waited for")
					}
				})
			})
		}
	}
}

// lockedText is a text that several goroutines write.
type lockedText struct {
	mu   sync.Mutex
	text strings.Builder
}

func (l *lockedText) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(p)
}

func (l *lockedText) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}

// While 16 calls of a callback have hung for too long, no more are made. Once they return, it is
// called again.
func TestACallbackThatHangsIsNotCalledForever(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		const accounts = 100
		there, here := fleet(2 * accounts)
		b := newBench(t, ingest.Config{Memory: true}, ricloudtest.WithAccounts(there...))
		release := make(chan struct{})
		var mu sync.Mutex
		secrets, steps := 0, 0
		h := b.handlers()
		h.Secret = func(ctx context.Context, key string) (ricloud.Secret, error) {
			mu.Lock()
			secrets++
			mu.Unlock()
			<-release
			return secret(ctx, key)
		}
		h.Step = func(context.Context, string, ingest.Step) {
			mu.Lock()
			steps++
			mu.Unlock()
			<-release
		}
		stop := b.run(h)
		b.submit(here[:accounts]...)
		after(time.Hour)
		mu.Lock()
		assert.Less(t, secrets, 2*16) // of which up to 15 began before the others were late
		assert.Less(t, steps, 2*16)
		mu.Unlock()
		status, err := b.engine.Account(t.Context(), here[accounts-1].Key)
		require.NoError(t, err)
		assert.Contains(t, status.Reason, "Secret is not called: 16 of its calls have not returned")
		close(release)
		b.wait(accounts, ingest.Done)
		b.submit(here[accounts:]...)
		b.wait(2*accounts, ingest.Done)
		stop()
		assert.Greater(t, steps, 6*accounts)
		assert.Equal(t, 2*accounts, b.sandbox.CountCalls("Sessions.Create"))
	})
}

// A hook's context gives its values to the step, and neither ends it nor outlives it.
func TestContextsOfHooks(t *testing.T) {
	t.Parallel()
	type key struct{}
	for name, c := range map[string]struct {
		ctx  func(context.Context) context.Context
		want any
	}{
		"another": {ctx: func(context.Context) context.Context { return context.Background() }},
		"a value": {want: 7, ctx: func(ctx context.Context) context.Context {
			return context.WithValue(ctx, key{}, 7)
		}},
		"one that has ended": {want: 7, ctx: func(ctx context.Context) context.Context {
			ctx, cancel := context.WithCancelCause(context.WithValue(ctx, key{}, 7))
			cancel(errors.New("the hook's"))
			return ctx
		}},
		"one that ends": {want: 7, ctx: func(ctx context.Context) context.Context {
			ctx, cancel := context.WithTimeout(context.WithValue(ctx, key{}, 7), time.Millisecond)
			context.AfterFunc(ctx, cancel)
			return ctx
		}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				there, here := fleet(2)
				b := newBench(t, ingest.Config{Memory: true}, ricloudtest.WithAccounts(there...))
				h := b.handlers()
				h.Hooks = []ricloud.Hook{oddHook{ctx: c.ctx}}
				h.Step = func(ctx context.Context, _ string, s ingest.Step) {
					assert.Equal(t, c.want, ctx.Value(key{}), s.State)
				}
				h.Result = func(ctx context.Context, r *ingest.Result) error {
					assert.Equal(t, c.want, ctx.Value(key{}))
					if err := read(ctx, r); r.Account == "customer-1" || err != nil {
						return err
					}
					<-ctx.Done() // the end of Run
					return context.Cause(ctx)
				}
				stop := b.run(h)
				b.submit(here...)
				b.wait(1, ingest.Done)
				began := time.Now()
				stop()
				assert.Less(t, time.Since(began), 10*time.Second)
				assert.Equal(t, 2, b.sandbox.CountCalls("Sessions.Create"))
			})
		})
	}
}
