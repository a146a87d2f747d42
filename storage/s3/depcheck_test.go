package s3_test

import (
	"testing"

	"github.com/reincubate/ricloud-go/internal/depcheck"
)

func TestRunTimeDependencies(t *testing.T) {
	t.Parallel()
	depcheck.Modules(t,
		"github.com/aws/aws-sdk-go-v2/...",
		"github.com/aws/smithy-go",
		"github.com/hashicorp/go-cleanhttp",
		"github.com/hashicorp/go-retryablehttp",
		"golang.org/x/time",
	)
}
