package dedupesql_test

import (
	"testing"

	"github.com/reincubate/ricloud-go/internal/depcheck"
)

// The caller chooses the driver, so only the tests import drivers.
func TestRunTimeDependencies(t *testing.T) {
	t.Parallel()
	depcheck.Modules(t,
		"github.com/hashicorp/go-cleanhttp",
		"github.com/hashicorp/go-retryablehttp",
		"golang.org/x/time",
	)
}
