package sandboxprogram

import (
	"context"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	ricloud "github.com/reincubate/ricloud-go"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// The program prints its URL, serves a client, and ends when its context does.
func TestRun(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	out, in := io.Pipe()
	ended := make(chan error, 1)
	go func() {
		ended <- Run(ctx, []string{
			"-addr", "127.0.0.1:0", "-token", "tok-abc", "-speed", "100",
			"-storage-dir", dir,
		}, in, io.Discard)
	}()
	banner := make([]byte, 1024)
	n, err := out.Read(banner)
	require.NoError(t, err)
	found := regexp.MustCompile(`URL\s+(\S+)\nToken\s+(\S+)\n`).FindStringSubmatch(string(banner[:n]))
	require.Len(t, found, 3, "%s", banner[:n])

	client, err := ricloud.NewClient(found[2], ricloud.WithBaseURL(found[1]))
	require.NoError(t, err)
	org, err := client.Organisation.Get(ctx)
	require.NoError(t, err)
	require.Len(t, org.StorageConfigs.Data, 1)
	assert.Equal(t, "local://"+dir, org.StorageConfigs.Data[0].URL)
	client.Close()
	cancel()
	require.NoError(t, <-ended)
}

func TestRunRefuses(t *testing.T) {
	t.Parallel()
	faults := filepath.Join(t.TempDir(), "faults.json")
	require.NoError(t, os.WriteFile(faults, []byte(`[{"operation":7}]`), 0o600))
	for flags, want := range map[string]string{
		"-addr 0.0.0.0:0": "-public",
		"-addr :0":        "-public",
		"-addr 127.0.0.1:0 -storage-addr 192.0.2.1:0": "-public",
		"-addr nowhere":    "missing port",
		"-generation 2017": "2018",
		"-addr 127.0.0.1:0 -state nowhere/state.json":         "-state",
		"-addr 127.0.0.1:0 -public-url https://a.example?b=c": "public URL",
		"-addr 127.0.0.1:0 -speed 0":                          "more than 0",
		"-faults nothing.json":                                "nothing.json",
		"-faults " + faults:                                   "read faults",
		"extra":                                               "extra",
		"-unknown":                                            "unknown",
	} {
		err := Run(t.Context(), strings.Fields(flags), io.Discard, io.Discard)
		require.ErrorContains(t, err, want, flags)
	}
}

func TestHelp(t *testing.T) {
	t.Parallel()
	var help strings.Builder
	require.Error(t, Run(t.Context(), []string{"-help"}, io.Discard, &help))
	for _, account := range []string{
		"john.appleseed@example.com", "jane.appleseed@example.com",
		"123456", "PAIR-1234", "mocks.mock",
	} {
		assert.Contains(t, help.String(), account)
	}
}
