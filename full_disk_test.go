//go:build linux || darwin

package ricloud

import (
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// fullDisk is an environment variable of the process that TestSaveAllOnAFullDisk starts.
const fullDisk = "RICLOUD_TEST_FULL_DISK"

// Wherever a write ends early and fails, in a result, the log or a manifest, no part stands under a
// name and nothing is acknowledged that is not on disk. When there is room again, the next run
// completes the folder. The limit of the size of a file, which holds for a whole process, takes the
// place of a small disk.
func TestSaveAllOnAFullDisk(t *testing.T) {
	t.Parallel()
	if os.Getenv(fullDisk) == "" {
		//nolint:gosec // this very program
		cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestSaveAllOnAFullDisk$",
			"-test.count=1")
		cmd.Env = append(os.Environ(), fullDisk+"=1")
		out, err := cmd.CombinedOutput()
		require.NoError(t, err, "%s", out)
		return
	}
	signal.Ignore(syscall.SIGXFSZ)
	failed := map[string]int{}
	for limit := uint64(0); limit < 3200; limit += 200 {
		v, dir := newVault(), t.TempDir()
		c := v.client(t)
		var results []*Result
		for i := range 3 {
			results = append(results, v.add(fmt.Sprintf("file-%d", i), random(1+i*400)))
		}
		save := func() ([]Saved, error) {
			return c.Results.SaveAll(t.Context(), each(results...), dir,
				WithManifest(manifestPoll()), WithAcknowledge())
		}
		free := limitFiles(t, limit)
		saved, err := save()
		free()
		acknowledged := []string{}
		for _, s := range saved {
			require.True(t, s.Acknowledged)
			acknowledged = append(acknowledged, string(s.Result.ID))
		}
		require.ElementsMatch(t, v.acked, acknowledged)
		entries, dirErr := os.ReadDir(filepath.Join(dir, "data"))
		require.NoError(t, dirErr)
		require.GreaterOrEqual(t, len(entries), len(acknowledged))
		for i, r := range results {
			if path := filepath.Join(dir, "data", r.Identifier); i < len(entries) {
				assertFile(t, path, v.objects[string(r.ID)])
			}
		}
		if err != nil {
			require.ErrorIs(t, err, syscall.EFBIG)
			failed[fmt.Sprint(len(entries), len(acknowledged))]++
		}

		saved, err = save()
		require.NoError(t, err, "at %d bytes", limit)
		require.Len(t, saved, len(results))
		require.NoError(t, VerifyFolder(t.Context(), dir))
	}
	assert.GreaterOrEqual(t, len(failed), 4, "results, the log and manifests failed: %v", failed)
}

// limitFiles sets the largest size of a file that this process may write, until it is freed.
func limitFiles(t *testing.T, size uint64) (free func()) {
	t.Helper()
	var old syscall.Rlimit
	require.NoError(t, syscall.Getrlimit(syscall.RLIMIT_FSIZE, &old))
	limit := old
	limit.Cur = size
	require.NoError(t, syscall.Setrlimit(syscall.RLIMIT_FSIZE, &limit))
	return func() { require.NoError(t, syscall.Setrlimit(syscall.RLIMIT_FSIZE, &old)) }
}
