package watch

import (
	"testing"

	"github.com/stretchr/testify/assert"
)

// deep has each kind of field that two copies could share.
type deep struct {
	Name     string
	IDs      []string
	Nested   []deep
	Labels   map[string][]int
	Next     *deep
	Any      any
	Pair     [2][]byte
	Nil      []string
	NilMap   map[string]int
	unseen   []string
	Anything map[string]any
}

func deepExample() *deep {
	return &deep{
		Name: "a", IDs: []string{"1", "2"}, Nested: []deep{{IDs: []string{"3"}}},
		Labels: map[string][]int{"x": {1}}, Next: &deep{IDs: []string{"4"}},
		Any: &deep{IDs: []string{"5"}}, Pair: [2][]byte{{6}, {7}}, unseen: []string{"8"},
		Anything: map[string]any{"y": []string{"9"}},
	}
}

func TestCloneSharesNothingThatACallerCanChange(t *testing.T) {
	t.Parallel()
	original := deepExample()
	c := Clone(original)
	assert.Equal(t, original, c)
	assert.Nil(t, c.Nil)
	assert.Nil(t, c.NilMap)

	c.IDs[0], c.Nested[0].IDs[0], c.Next.IDs[0] = "changed", "changed", "changed"
	c.Labels["x"][0], c.Pair[0][0] = 0, 0
	c.Labels["new"] = nil
	c.Any.(*deep).IDs[0] = "changed"          //nolint:forcetypeassert // the example has it
	c.Anything["y"].([]string)[0] = "changed" //nolint:forcetypeassert // the example has it
	assert.Equal(t, deepExample(), original, "no change of the copy reaches it")
}
