package gcs_test

import (
	"testing"

	"github.com/reincubate/ricloud-go/internal/depcheck"
)

// The modules below the first line are dependencies of Google's client.
func TestRunTimeDependencies(t *testing.T) {
	t.Parallel()
	depcheck.Modules(t,
		"cloud.google.com/go/...",
		"cel.dev/expr",
		"github.com/GoogleCloudPlatform/opentelemetry-operations-go/...",
		"github.com/cespare/xxhash/v2",
		"github.com/cncf/xds/go",
		"github.com/envoyproxy/go-control-plane/envoy",
		"github.com/envoyproxy/protoc-gen-validate",
		"github.com/felixge/httpsnoop",
		"github.com/go-jose/go-jose/v4",
		"github.com/go-logr/logr",
		"github.com/go-logr/stdr",
		"github.com/google/s2a-go",
		"github.com/google/uuid",
		"github.com/googleapis/enterprise-certificate-proxy",
		"github.com/googleapis/gax-go/v2",
		"github.com/hashicorp/go-cleanhttp",
		"github.com/hashicorp/go-retryablehttp",
		"github.com/spiffe/go-spiffe/v2",
		"go.opentelemetry.io/auto/sdk",
		"go.opentelemetry.io/contrib/...",
		"go.opentelemetry.io/otel/...",
		"golang.org/x/crypto",
		"golang.org/x/net",
		"golang.org/x/oauth2",
		"golang.org/x/sync",
		"golang.org/x/sys",
		"golang.org/x/text",
		"golang.org/x/time",
		"google.golang.org/api",
		"google.golang.org/genproto/...",
		"google.golang.org/grpc",
		"google.golang.org/protobuf",
	)
}
