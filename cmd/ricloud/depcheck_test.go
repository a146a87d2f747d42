package main

import (
	"testing"

	"github.com/reincubate/ricloud-go/internal/depcheck"
)

func TestRunTimeDependencies(t *testing.T) {
	t.Parallel()
	depcheck.Modules(t,
		"github.com/VividCortex/ewma",
		"github.com/acarl005/stripansi",
		"github.com/antithesishq/antithesis-sdk-go",
		"github.com/clipperhouse/uax29/v2",
		"github.com/godbus/dbus/v5",
		"github.com/hashicorp/go-cleanhttp",
		"github.com/hashicorp/go-retryablehttp",
		"github.com/itchyny/gojq",
		"github.com/itchyny/timefmt-go",
		"github.com/klauspost/compress",
		"github.com/mattn/go-runewidth",
		"github.com/minio/highwayhash",
		"github.com/nats-io/jwt/v2",
		"github.com/nats-io/nats-server/v2",
		"github.com/nats-io/nats.go",
		"github.com/nats-io/nkeys",
		"github.com/nats-io/nuid",
		"github.com/spf13/cobra",
		"github.com/spf13/pflag",
		"github.com/vbauerster/cupwriter",
		"github.com/vbauerster/mpb/v8",
		"github.com/zalando/go-keyring",
		"go.yaml.in/yaml/v3",
		"golang.org/x/crypto",
		"golang.org/x/sys",
		"golang.org/x/term",
		"golang.org/x/time",
	)
}
