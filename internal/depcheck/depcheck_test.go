package depcheck

import (
	"testing"

	"github.com/stretchr/testify/assert"
)

func TestModules(t *testing.T) {
	t.Parallel()
	Modules(t) // no arguments: this package uses the standard library only
}

func TestCompare(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name             string
		modules, allowed []string
		added, gone      []string
	}{
		{name: "own", modules: []string{own, own + "/storage/s3"}},
		{name: "exact", modules: []string{"a.org/x", "a.org/x"}, allowed: []string{"a.org/x"}},
		{
			name: "added", modules: []string{"b.org/y", "a.org/x"}, allowed: []string{"a.org/x"},
			added: []string{"b.org/y"},
		},
		{
			name: "gone", modules: []string{"a.org/x"}, allowed: []string{"a.org/x", "b.org/y"},
			gone: []string{"b.org/y"},
		},
		{
			name: "below a prefix", modules: []string{"a.org/x/v2", "a.org/x"},
			allowed: []string{"a.org/x/..."},
		},
		{
			name: "beside a prefix", modules: []string{"a.org/xy"}, allowed: []string{"a.org/x/..."},
			added: []string{"a.org/xy"}, gone: []string{"a.org/x/..."},
		},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			added, gone := compare(test.modules, test.allowed)
			assert.Equal(t, test.added, added, "added")
			assert.Equal(t, test.gone, gone, "gone")
		})
	}
}
