package ingest_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
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

// steps is a hook that records steps and the API calls within them.
type steps struct {
	mu   sync.Mutex
	seen []string
	dump strings.Builder // everything that it was given
}

type stepKey struct{}

func (s *steps) addf(show any, format string, args ...any) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.seen = append(s.seen, fmt.Sprintf(format, args...))
	fmt.Fprintf(&s.dump, "%+v\n", show)
}

// leaderFirst returns the leader's steps and then the handler's calls, because a call may begin
// before the step that caused it has ended.
func (s *steps) leaderFirst() []string {
	slices.SortStableFunc(s.seen, func(a, b string) int {
		return strings.Count(a, " result ") - strings.Count(b, " result ")
	})
	return s.seen
}

func (s *steps) Step(
	ctx context.Context, info ricloud.StepInfo,
) (context.Context, func(ricloud.StepResult)) {
	name := fmt.Sprintf("%s %s", info.Account, info.Step)
	if info.Attempt > 0 {
		name += fmt.Sprintf(" %d", info.Attempt)
	}
	s.addf(info, "%s", name)
	return context.WithValue(ctx, stepKey{}, name), func(r ricloud.StepResult) {
		s.addf(r, "%s: %s", name, strings.TrimSuffix(string(r.Outcome)+", "+r.State, ", "))
	}
}

func (s *steps) Call(
	ctx context.Context, info ricloud.CallInfo,
) (context.Context, func(ricloud.CallResult)) {
	if step, ok := ctx.Value(stepKey{}).(string); ok {
		s.addf(info, "%s / %s", step, info.Operation)
	}
	return ctx, nil
}

func (s *steps) Download(
	ctx context.Context, info ricloud.DownloadInfo,
) (context.Context, func(ricloud.DownloadResult)) {
	s.addf(info, "%v / %s", ctx.Value(stepKey{}), info.Operation)
	return ctx, nil
}

// The hook sees each step of one account from its login with a code to its end, and the calls
// within each step.
func TestHooksSeeTheStepsOfAnAccount(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		there, here := fleet(1)
		there[0].Code = "731994"
		b := newBench(t, ingest.Config{Memory: true}, ricloudtest.WithAccounts(there...),
			ricloudtest.WithDelays(delays()))
		seen := new(steps)
		b.client = b.sandbox.Client(ricloud.WithPacer(b.engine.Pacer()), ricloud.WithHooks(seen))
		h := b.handlers()
		h.Hooks = []ricloud.Hook{seen}
		failed := false
		h.Result = func(ctx context.Context, r *ingest.Result) error {
			if !failed {
				failed = true
				return errors.New("not now")
			}
			return read(ctx, r)
		}
		stop := b.run(h)
		b.submit(here...)
		b.wait(1, ingest.CodeNeeded)
		require.NoError(t, b.engine.Code(t.Context(), here[0].Key, ricloud.NewSecret("731994")))
		b.wait(1, ingest.Done)
		stop()
		assert.Equal(t, strings.Split(strings.TrimSpace(`
customer-0 submitted
customer-0 submitted / Users.Create
customer-0 submitted / Sessions.Create
customer-0 submitted: done, connecting
customer-0 connecting
customer-0 connecting: done, code-needed
customer-0 code-needed
customer-0 code-needed / Sessions.Create
customer-0 code-needed: done, connecting
customer-0 connecting
customer-0 connecting / Polls.Create
customer-0 connecting: done, polling
customer-0 polling
customer-0 polling: done, handling
customer-0 handling
customer-0 handling: done, done
customer-0 result 1
customer-0 result 1: again
customer-0 result 2
customer-0 result 2 / Results.Open
customer-0 result 2: done`), "\n"), seen.leaderFirst())
		for _, secret := range []string{password, "731994", "Signature", b.sandbox.Token()} {
			assert.NotContains(t, seen.dump.String(), secret)
		}
	})
}

// The outcome tells permanent failures from those that are retried.
func TestHooksSeeFailures(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		there, here := fleet(1)
		there[0].Locked = true
		b := newBench(t, ingest.Config{Memory: true}, ricloudtest.WithAccounts(there...),
			ricloudtest.WithDelays(delays()))
		seen := new(steps)
		h := b.handlers()
		h.Hooks = []ricloud.Hook{seen}
		asked := 0
		h.Secret = func(ctx context.Context, key string) (ricloud.Secret, error) {
			if asked++; asked == 1 {
				return ricloud.Secret{}, errors.New("the vault is sealed")
			}
			return secret(ctx, key)
		}
		stop := b.run(h)
		b.submit(here...)
		b.wait(1, ingest.Dead)
		stop()
		assert.Contains(t, seen.seen, "customer-0 submitted: again, submitted")
		assert.Contains(t, seen.seen[len(seen.seen)-1], ": dead, dead")
	})
}

// panicking is a hook that panics whenever it is called.
type panicking struct{ atEnd bool }

func (p panicking) Step(
	context.Context, ricloud.StepInfo,
) (context.Context, func(ricloud.StepResult)) {
	if p.atEnd {
		return nil, func(ricloud.StepResult) { panic("at the end") }
	}
	panic("at the start")
}

func TestAHookThatPanicsLosesNoStep(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		there, here := fleet(1)
		b := newBench(t, ingest.Config{Memory: true}, ricloudtest.WithAccounts(there...),
			ricloudtest.WithDelays(delays()))
		seen := new(steps)
		h := b.handlers()
		h.Hooks = []ricloud.Hook{panicking{}, seen, panicking{atEnd: true}}
		stop := b.run(h)
		b.submit(here...)
		b.wait(1, ingest.Done)
		stop()
		assert.Contains(t, seen.seen, "customer-0 handling: done, done")
	})
}

func TestRunRefusesOtherHooks(t *testing.T) {
	t.Parallel()
	engine, err := ingest.Open(t.Context(), ingest.Config{Memory: true})
	require.NoError(t, err)
	defer func() { assert.NoError(t, engine.Close()) }()
	sandbox := ricloudtest.NewServer()
	defer sandbox.Close()
	for _, hook := range []ricloud.Hook{nil, "a string", struct{}{}} {
		h := ingest.Handlers{
			Secret: secret, Result: func(context.Context, *ingest.Result) error { return nil },
			Hooks: []ricloud.Hook{new(steps), hook},
		}
		err := engine.Run(t.Context(), sandbox.Client(), h)
		_, refused := errors.AsType[*ricloud.ParamError](err)
		assert.True(t, refused, "%v", err)
		require.ErrorContains(t, err, "hook 1")
	}
}

// Before and after Run, every method returns a result or an error within a minute.
func TestNothingHangsWithoutRun(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		there, here := fleet(2)
		there[0].Code = "731994"
		b := newBench(t, ingest.Config{Memory: true}, ricloudtest.WithAccounts(there...),
			ricloudtest.WithDelays(delays()))
		ctx, code := t.Context(), ricloud.NewSecret("731994")
		refused := func(err error) {
			t.Helper()
			_, ok := errors.AsType[*ricloud.ParamError](err)
			assert.True(t, ok, "%v", err)
		}
		require.ErrorIs(t, b.engine.Retry(ctx, "nobody"), ricloud.ErrNotFound)
		require.ErrorIs(t, b.engine.Forget(ctx, "nobody"), ricloud.ErrNotFound)
		require.ErrorIs(t, b.engine.Code(ctx, "nobody", code), ricloud.ErrNotFound)
		b.submit(here[0])
		refused(b.engine.Retry(ctx, here[0].Key))
		refused(b.engine.Forget(ctx, here[0].Key))
		refused(b.engine.Code(ctx, here[0].Key, code))

		again, cancel := context.WithCancel(ctx)
		ended := make(chan error, 1)
		go func() { ended <- b.engine.Run(again, b.client, b.handlers()) }()
		b.wait(1, ingest.CodeNeeded)
		cancel()
		require.NoError(t, <-ended)
		began := time.Now()
		require.ErrorContains(t, b.engine.Code(ctx, here[0].Key, code), "no process has led")
		assert.LessOrEqual(t, time.Since(began), time.Minute)

		stop := b.run(b.handlers())
		require.NoError(t, b.engine.Code(ctx, here[0].Key, code))
		b.wait(1, ingest.Done)
		stop()
	})
}
