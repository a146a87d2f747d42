package observer

import (
	"testing"

	"github.com/stretchr/testify/assert"
)

func TestLinks(t *testing.T) {
	t.Parallel()
	var links Links
	assert.Empty(t, links.Of("a"))
	removeA, again := links.Add(t.Context(), "a"), links.Add(t.Context(), "a")
	removeB := links.Add(t.Context(), "b")
	assert.Len(t, links.Of("a"), 2)
	assert.Len(t, links.Of("b"), 1)
	assert.Len(t, links.Of(""), 3)
	removeA()
	assert.Len(t, links.Of("a"), 1, "one of two with the same context")
	again()
	removeB()
	assert.Empty(t, links.Of(""))
	assert.Empty(t, links.byID, "nothing is kept")

	for range 2 * maxLinks {
		links.Add(t.Context(), "a")
		links.Add(t.Context(), "b")
	}
	assert.Len(t, links.Of("a"), maxLinks)
	assert.Len(t, links.Of(""), maxLinks)
}
