package otel_test

import (
	"testing"

	"github.com/reincubate/ricloud-go/internal/depcheck"
)

func TestRunTimeDependencies(t *testing.T) {
	t.Parallel()
	depcheck.Modules(t,
		"github.com/cespare/xxhash/v2",
		"github.com/go-logr/logr",
		"github.com/go-logr/stdr",
		"github.com/hashicorp/go-cleanhttp",
		"github.com/hashicorp/go-retryablehttp",
		"go.opentelemetry.io/auto/sdk",
		"go.opentelemetry.io/otel",
		"go.opentelemetry.io/otel/log",
		"go.opentelemetry.io/otel/metric",
		"go.opentelemetry.io/otel/trace",
		"golang.org/x/time",
	)
}
