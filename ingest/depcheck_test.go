package ingest_test

import (
	"testing"

	"github.com/reincubate/ricloud-go/internal/depcheck"
)

// Apart from the SDK's own modules, these are an embedded NATS server and its client.
func TestRunTimeDependencies(t *testing.T) {
	t.Parallel()
	depcheck.Modules(t,
		"github.com/antithesishq/antithesis-sdk-go",
		"github.com/hashicorp/go-cleanhttp",
		"github.com/hashicorp/go-retryablehttp",
		"github.com/klauspost/compress",
		"github.com/minio/highwayhash",
		"github.com/nats-io/jwt/v2",
		"github.com/nats-io/nats-server/v2",
		"github.com/nats-io/nats.go",
		"github.com/nats-io/nkeys",
		"github.com/nats-io/nuid",
		"golang.org/x/crypto",
		"golang.org/x/sys",
		"golang.org/x/time",
	)
}
