package store_test

import (
	"testing"

	"github.com/stretchr/testify/assert"

	"github.com/reincubate/ricloud-go/ingest/internal/store"
)

// A key becomes one token of a subject, and no two become the same.
func TestToken(t *testing.T) {
	t.Parallel()
	seen := map[string]string{}
	for _, key := range []string{
		"customer-42", "a.b", "a b", "a*", "a>", "", "é", "%", "a%2Eb", "A", "a_", "_",
	} {
		token := store.Token(key)
		assert.NotContains(t, token, ".")
		assert.NotContains(t, token, " ")
		assert.NotContains(t, token, "*")
		assert.NotContains(t, token, ">")
		assert.Empty(t, seen[token], "%q", key)
		seen[token] = key
	}
}
