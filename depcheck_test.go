package ricloud_test

import (
	"testing"

	"github.com/reincubate/ricloud-go/internal/depcheck"
)

// The SDK, the sandbox and its command depend on these modules only.
func TestRunTimeDependencies(t *testing.T) {
	t.Parallel()
	depcheck.Modules(t,
		"github.com/hashicorp/go-cleanhttp",
		"github.com/hashicorp/go-retryablehttp",
		"golang.org/x/time",
	)
}
