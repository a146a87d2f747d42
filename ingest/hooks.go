package ingest

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	ricloud "github.com/reincubate/ricloud-go"
	"github.com/reincubate/ricloud-go/ingest/internal/store"
)

// stepOfResult is the step that a call of Handlers.Result is.
const stepOfResult = "result"

// stepHook is a hook that observes steps.
type stepHook struct {
	hook  ricloud.StepHook
	calls callback
}

// stepHooks returns the hooks that observe steps.
func stepHooks(all []ricloud.Hook) ([]*stepHook, error) {
	var found []*stepHook
	for i, hook := range all {
		h, ok := hook.(ricloud.StepHook)
		if !ok {
			return nil, invalid("Run", "Handlers.Hooks",
				fmt.Sprintf("hook %d is a %T, which is no ricloud.StepHook", i, hook))
		}
		found = append(found, &stepHook{h, callback{name: fmt.Sprintf("hook %d, a %T", i, hook)}})
	}
	return found, nil
}

// beginStep tells the hooks that a step begins. It returns the context for the step, and what tells
// them how it ended.
func (r *runner) beginStep(
	ctx context.Context, info ricloud.StepInfo,
) (context.Context, func(ricloud.StepResult)) {
	if len(r.hooks) == 0 {
		return ctx, func(ricloud.StepResult) {}
	}
	began, step := time.Now(), ctx
	ends := make([]func(ricloud.StepResult), len(r.hooks))
	for i, h := range r.hooks {
		given := step
		begun, _ := call(ctx, r, &h.calls, observeTimeout, func() begunStep {
			inner, ended := h.hook.Step(given, info)
			return begunStep{inner, ended}
		})()
		if ends[i] = begun.ended; begun.ctx != nil {
			step = valuesOf(begun.ctx, ctx) //nolint:fatcontext // each adds to it
		}
	}
	return step, func(result ricloud.StepResult) {
		result.Duration = time.Since(began)
		for i, h := range slices.Backward(r.hooks) {
			if ended := ends[i]; ended != nil {
				_, _ = call(ctx, r, &h.calls, observeTimeout, func() any {
					ended(result)
					return nil
				})()
			}
		}
	}
}

// begunStep is what a hook returns of a step that begins.
type begunStep struct {
	ctx   context.Context //nolint:containedctx // it is passed on
	ended func(ricloud.StepResult)
}

// valuesOf returns a context with the values of a hook's. It ends with the step's, whatever the
// hook's comes from: Run must be able to end the step, and the hook must not.
func valuesOf(hooks, step context.Context) context.Context {
	if hooks.Done() == step.Done() {
		return hooks
	}
	return stepContext{step, hooks}
}

type stepContext struct {
	context.Context //nolint:containedctx // it is one

	values context.Context //nolint:containedctx // as above
}

// Value returns a value of the hook's context.
func (c stepContext) Value(key any) any { return c.values.Value(key) }

// outcomeOf says what became of a step that left its account in a state.
func outcomeOf(ctx context.Context, state State, err error) ricloud.StepResult {
	result := ricloud.StepResult{Outcome: ricloud.StepDone, State: string(state), Err: err}
	switch {
	case isInterrupted(ctx, err):
		result.Outcome = ricloud.StepInterrupted
	case state == Dead:
		result.Outcome = ricloud.StepDead
	case err != nil:
		result.Outcome = ricloud.StepAgain
	}
	return result
}

// isInterrupted reports whether a step ended because the account was changed by another process, or
// because the next leader goes on with it.
func isInterrupted(ctx context.Context, err error) bool {
	return err != nil && (errors.Is(err, store.ErrConflict) || errors.Is(err, errLeaseLost) ||
		errors.Is(err, errDraining) || ctx.Err() != nil)
}
