// Package observer calls the hooks that a user has written. It nests the
// contexts that they return, and contains what they do wrong. It does not know
// what they observe.
package observer

import (
	"context"
	"runtime/debug"
	"slices"
)

// Add adds hook to a list if it is of the list's kind.
func Add[H any](list *[]H, hook any) bool {
	h, ok := hook.(H)
	if ok {
		*list = append(*list, h)
	}
	return ok
}

// Panicked is told of a hook's panic. It may be nil.
type Panicked func(ctx context.Context, value any, stack string)

// Begin shows info to the hooks of one kind, by their method start. It returns
// the context for the work, and the function that ends all of them, in the
// reverse order.
//
// A context that a hook returns is used if it comes from the one that the hook
// was given. With another, the work would not end with its caller.
func Begin[H, I, R any](
	ctx context.Context, panicked Panicked, list []H, info I,
	start func(H, context.Context, I) (context.Context, func(R)),
) (context.Context, func(R)) {
	if len(list) == 1 { // most clients have one, which costs an allocation less
		ctx, ended := begin(ctx, panicked, list[0], info, start)
		return ctx, func(result R) { end(ctx, panicked, ended, result) }
	}
	ends := make([]func(R), len(list))
	for i, hook := range list {
		ctx, ends[i] = begin(ctx, panicked, hook, info, start) //nolint:fatcontext // each adds to it
	}
	return ctx, func(result R) {
		for _, ended := range slices.Backward(ends) {
			end(ctx, panicked, ended, result)
		}
	}
}

// begin calls the begin of one hook. ended may be nil.
func begin[H, I, R any](
	ctx context.Context, panicked Panicked, hook H, info I,
	start func(H, context.Context, I) (context.Context, func(R)),
) (inner context.Context, ended func(R)) {
	inner = ctx // also after a panic
	defer contain(ctx, panicked)
	given := &given{ctx}
	nested, ended := start(hook, given, info)
	if nested != nil && given.ends(nested) {
		inner = nested
	}
	return inner, ended
}

// end calls the end of one hook.
func end[R any](ctx context.Context, panicked Panicked, ended func(R), result R) {
	if ended == nil {
		return
	}
	defer contain(ctx, panicked)
	ended(result)
}

// Call calls a hook that has no end.
func Call(ctx context.Context, panicked Panicked, hook func()) {
	defer contain(ctx, panicked)
	hook()
}

// contain, deferred, keeps a hook's panic from losing the answer.
func contain(ctx context.Context, panicked Panicked) {
	if p := recover(); p != nil && panicked != nil {
		panicked(ctx, p, string(debug.Stack()))
	}
}

// given is the context that a hook is given.
type given struct {
	context.Context //nolint:containedctx // it is one
}

type givenKey struct{}

// Value returns the context itself for its own key.
func (g *given) Value(key any) any {
	if key == (givenKey{}) {
		return g
	}
	return g.Context.Value(key)
}

// ends reports whether inner ends with g.
func (g *given) ends(inner context.Context) bool {
	return inner.Value(givenKey{}) == g && (inner.Done() != nil || g.Done() == nil)
}
