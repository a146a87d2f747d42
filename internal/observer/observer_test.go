package observer

import (
	"context"
	"fmt"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// hook is a hook of the kind that the tests use.
type hook interface {
	Start(ctx context.Context, info string) (context.Context, func(result int))
}

// fake is a hook that does what its function does.
type fake func(ctx context.Context, info string) (context.Context, func(result int))

func (f fake) Start(ctx context.Context, info string) (context.Context, func(result int)) {
	return f(ctx, info)
}

// panics collects the panics that were contained.
type panics []string

func (p *panics) add(_ context.Context, value any, stack string) {
	*p = append(*p, fmt.Sprint(value, stack != ""))
}

func TestAdd(t *testing.T) {
	t.Parallel()
	var list []hook
	assert.True(t, Add(&list, any(fake(nil))))
	assert.False(t, Add(&list, any("a string")))
	assert.False(t, Add(&list, nil))
	assert.Len(t, list, 1)
}

type nameKey struct{}

// Each hook is given the context of the hook before it. They end in the reverse order.
func TestBeginNests(t *testing.T) {
	t.Parallel()
	for n := range 4 {
		var list []hook
		var seen []string
		for i := range n {
			list = append(list, fake(func(ctx context.Context, info string) (context.Context, func(int)) {
				seen = append(seen, fmt.Sprint(info, i, ctx.Value(nameKey{})))
				return context.WithValue(ctx, nameKey{}, i), func(result int) {
					seen = append(seen, fmt.Sprint("end ", i, result))
				}
			}))
		}
		ctx, ended := Begin(t.Context(), nil, list, "begin ", hook.Start)
		ended(7)
		want := []string{"begin 0 <nil>", "begin 1 0", "begin 2 1"}[:n]
		for i := range n {
			want = append(want, fmt.Sprint("end ", n-1-i, 7))
		}
		assert.Equal(t, want, append([]string{}, seen...), "%d hooks", n)
		if n > 0 {
			assert.Equal(t, n-1, ctx.Value(nameKey{}))
		}
	}
}

// What a hook panics with is told, and the other hooks are called as if it had done nothing.
func TestBeginContainsPanics(t *testing.T) {
	t.Parallel()
	var got panics
	ends := 0
	list := []hook{
		fake(func(context.Context, string) (context.Context, func(int)) { panic("begin") }),
		fake(func(context.Context, string) (context.Context, func(int)) {
			return nil, func(int) { panic("end") }
		}),
		fake(func(ctx context.Context, _ string) (context.Context, func(int)) {
			return context.WithValue(ctx, nameKey{}, "kept"), func(int) { ends++ }
		}),
		fake(nil), // panics, too
		fake(func(context.Context, string) (context.Context, func(int)) {
			return (*given)(nil), func(int) { ends++ } // a nil in an interface
		}),
	}
	for range 2 { // told, and told to nobody
		ctx, ended := Begin(t.Context(), got.add, list, "", hook.Start)
		ended(1)
		assert.Equal(t, "kept", ctx.Value(nameKey{}))
		list = list[:4]
	}
	assert.Equal(t, 3, ends)
	assert.Len(t, got, 6)
	assert.Contains(t, got, "begintrue")
	assert.Contains(t, got, "endtrue")

	Call(t.Context(), nil, func() { panic("told to nobody") })
	_, ended := Begin(t.Context(), nil, list[:1], "", hook.Start)
	ended(1)
}

// A context that does not end with the work's is ignored.
func TestBeginIgnoresForeignContexts(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		returned func(context.Context) context.Context
		used     bool
	}{
		"nil":             {returned: func(context.Context) context.Context { return nil }},
		"another":         {returned: func(context.Context) context.Context { return t.Context() }},
		"without its end": {returned: context.WithoutCancel},
		"the same":        {returned: func(ctx context.Context) context.Context { return ctx }},
		"with a value": {used: true, returned: func(ctx context.Context) context.Context {
			return context.WithValue(ctx, nameKey{}, "used")
		}},
		"with an end of its own": {used: true, returned: func(ctx context.Context) context.Context {
			ctx, cancel := context.WithCancel(context.WithValue(ctx, nameKey{}, "used"))
			t.Cleanup(cancel)
			return ctx
		}},
	} {
		base, cancel := context.WithCancel(t.Context())
		ctx, ended := Begin(base, nil, []hook{
			fake(func(ctx context.Context, _ string) (context.Context, func(int)) {
				return tt.returned(ctx), nil
			}),
		}, "", hook.Start)
		assert.Equal(t, tt.used, ctx.Value(nameKey{}) != nil, name)
		require.NoError(t, ctx.Err(), name)
		cancel()
		require.ErrorIs(t, ctx.Err(), context.Canceled, name)
		ended(1)
	}
}
