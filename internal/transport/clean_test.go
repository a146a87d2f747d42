package transport

import (
	"errors"
	"fmt"
	"net/url"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestCleanKeepsWhatIsSafe(t *testing.T) {
	t.Parallel()
	cause := errors.New("the cause")
	hide := func(text string) string { return strings.ReplaceAll(text, "hunter2", redacted) }
	require.NoError(t, Clean(nil, nil))
	assert.Same(t, cause, Clean(cause, hide), "nothing to hide")

	long := fmt.Errorf("%s: %w", strings.Repeat("long\n", 200), cause)
	cleaned := Clean(long, hide)
	require.ErrorIs(t, cleaned, cause, "only the text changes")
	assert.LessOrEqual(t, len(cleaned.Error()), maxErrorText+len("…"))
	assert.NotContains(t, cleaned.Error(), "\n")

	for name, err := range map[string]error{
		"a secret":  fmt.Errorf("password hunter2: %w", cause),
		"a query":   fmt.Errorf("https://s.test/a?X-Signature=hunter2: %w", cause),
		"a wrapper": &url.Error{Op: "Get", URL: "https://s.test/?hunter2", Err: errors.New("hunter2")},
	} {
		cleaned := Clean(err, hide)
		assert.NotContains(t, fmt.Sprintf("%v %+v %#v", cleaned, cleaned, cleaned), "hunter2", name)
		assert.NotErrorIs(t, cleaned, cause, "%s: it would be reached through what is wrapped", name)
	}
}
