package ingest

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"runtime/debug"
	"slices"
	"time"

	ricloud "github.com/reincubate/ricloud-go"
	"github.com/reincubate/ricloud-go/ingest/internal/store"
)

// stepOfResult is the step that a call of Handlers.Result is.
const stepOfResult = "result"

// stepHooks returns the hooks that observe steps.
func stepHooks(all []ricloud.Hook) ([]ricloud.StepHook, error) {
	var found []ricloud.StepHook
	for i, hook := range all {
		h, ok := hook.(ricloud.StepHook)
		if !ok {
			return nil, invalid("Run", "Handlers.Hooks",
				fmt.Sprintf("hook %d is a %T, which is no ricloud.StepHook", i, hook))
		}
		found = append(found, h)
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
	began := time.Now()
	ends := make([]func(ricloud.StepResult), len(r.hooks))
	for i, hook := range r.hooks {
		<-r.callBack(ctx, "a hook", func() {
			inner, ended := hook.Step(ctx, info)
			if ends[i] = ended; inner != nil {
				ctx = inner //nolint:fatcontext // each adds to it
			}
		})
	}
	return ctx, func(result ricloud.StepResult) {
		result.Duration = time.Since(began)
		for _, ended := range slices.Backward(ends) {
			if ended != nil {
				<-r.callBack(ctx, "a hook", func() { ended(result) })
			}
		}
	}
}

// callBack calls a function of the user's on a goroutine of its own, which it may end or hold up.
// It returns what is closed when that is over.
func (r *runner) callBack(ctx context.Context, who string, call func()) <-chan struct{} {
	over := make(chan struct{})
	go func() {
		defer close(over)
		r.contain(ctx, who, call)
	}()
	return over
}

// contain logs a panic and goes on. One of a hook must not lose a step, and one about something
// that is stored would end the process of every leader.
func (r *runner) contain(ctx context.Context, who string, call func()) {
	defer func() {
		if p := recover(); p != nil {
			r.log(ctx, "a panic", slog.String("in", who),
				slog.String("panic", maskedText(fmt.Sprint(p), r.passwords.all()...)),
				slog.String("stack", string(debug.Stack())))
		}
	}()
	call()
}

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
