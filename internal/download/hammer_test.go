//go:build unix

package download

import (
	"bytes"
	"context"
	"encoding/hex"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// hammerEnv holds the system, the folder and the report of a process that
// TestHammer starts: this very program.
const hammerEnv = "RICLOUD_TEST_HAMMER"

const hammered = 40 // files; few, so that processes meet

// Two processes with eight goroutines each save the same files, while half of
// the opens fail, users take finished files away, and processes are killed and
// stopped wherever they are. No Save may succeed for anything but the whole file,
// nothing else may stand under a name, and no taken file may change.
func TestHammer(t *testing.T) {
	t.Parallel()
	if job := os.Getenv(hammerEnv); job != "" {
		system, rest, _ := strings.Cut(job, "|")
		dir, report, _ := strings.Cut(rest, "|")
		hammer(t, system, dir, report)
		return
	}
	rounds := 12
	if testing.Short() {
		rounds = 4
	}
	for name := range breaks {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir, report := t.TempDir(), filepath.Join(t.TempDir(), "report")
			require.NoError(t, os.MkdirAll(filepath.Join(dir, "taken"), 0o700))
			var group sync.WaitGroup
			for range 2 {
				group.Go(func() { startAndKill(t, rounds, name, dir, report) })
			}
			group.Wait()
			told, err := os.ReadFile(report)
			if err == nil {
				assert.Empty(t, string(told), "wrong successes")
			}
			requireOnlyWholeFiles(t, dir)
			requireOnlyWholeFiles(t, filepath.Join(dir, "taken"))

			f, err := OpenFolder(dir, "")
			require.NoError(t, err)
			defer func() { _ = f.Close() }()
			breaks[name](&f.sys)
			for i := range hammered {
				requireSaved(t, f, dir, hammerName(i), &object{content: hammerContent(i)})
			}
			_, err = RemovePartials(t.Context(), dir, time.Now().Add(time.Hour))
			require.NoError(t, err)
			assert.Len(t, names(t, dir), hammered+1)
		})
	}
}

func hammerName(i int) string    { return fmt.Sprintf("file-%d", i) }
func hammerContent(i int) []byte { return random(1 + i*i*1000) }

// startAndKill runs a process again and again, and ends each wherever it is.
func startAndKill(t *testing.T, rounds int, system, dir, report string) {
	t.Helper()
	for range rounds {
		//nolint:gosec // this very program
		child := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestHammer$", "-test.count=1")
		child.Env = append(os.Environ(), hammerEnv+"="+system+"|"+dir+"|"+report)
		if !assert.NoError(t, child.Start()) { //nolint:testifylint // require is for the test's goroutine
			return
		}
		for range 3 {
			rest(50*time.Millisecond + rand.N(150*time.Millisecond))
			_ = child.Process.Signal(syscall.SIGSTOP)
			rest(rand.N(50 * time.Millisecond))
			_ = child.Process.Signal(syscall.SIGCONT)
		}
		_ = child.Process.Kill()
		_ = child.Wait()
	}
}

func rest(d time.Duration) {
	timer := time.NewTimer(d)
	<-timer.C
}

// requireOnlyWholeFiles checks every file that has a file's name.
func requireOnlyWholeFiles(t *testing.T, dir string) {
	t.Helper()
	for _, name := range names(t, dir) {
		var i int
		if _, err := fmt.Sscanf(name, "file-%d", &i); err != nil {
			continue
		}
		content, err := os.ReadFile(filepath.Join(dir, name))
		require.NoError(t, err)
		if len(content) == 0 { // a claim that was not finished, where there is nothing better
			continue
		}
		require.True(t, bytes.Equal(hammerContent(i), content), "%s: %d bytes", name, len(content))
	}
}

// hammer is what a started process does until it is killed.
func hammer(t *testing.T, system, dir, report string) {
	t.Helper()
	var contents [hammered][]byte
	for i := range contents {
		contents[i] = hammerContent(i)
	}
	var group sync.WaitGroup
	for range 8 {
		group.Go(func() {
			f, err := OpenFolder(dir, "")
			if err != nil {
				return
			}
			defer func() { _ = f.Close() }()
			breaks[system](&f.sys)
			for range 10_000 {
				i := rand.IntN(hammered)
				if told := hammerOnce(f, dir, i, contents[i]); told != "" {
					tell(report, told)
				}
			}
		})
	}
	group.Wait()
}

// hammerOnce saves a file once and returns what is wrong with a success.
func hammerOnce(f *Folder, dir string, i int, content []byte) string {
	o := &object{content: content}
	o.open = func(_ int, req Request) (*Object, error) {
		switch rand.IntN(4) {
		case 0:
			return nil, errBroken
		case 1:
			return o.broken(req.Offset, rand.IntN(len(content)-int(req.Offset)+1)), nil
		}
		return o.from(req.Offset), nil
	}
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	kept, err := f.Save(ctx, hammerName(i), Limits{
		Open: time.Second, Stall: time.Second, Retries: 1,
		FirstWait: 1, LongestWait: 1,
	}, o.file())
	if err != nil {
		return ""
	}
	path := filepath.Join(dir, kept.Name)
	got, err := os.ReadFile(path) //nolint:gosec // in the test's own folder
	switch {
	case err != nil:
		return "" // taken by another goroutine
	case !bytes.Equal(got, content):
		return fmt.Sprintf("%s holds %d of %d bytes", kept.Name, len(got), len(content))
	}
	if rand.IntN(4) == 0 { // the user archives it
		taken := fmt.Sprintf("%s~%s", hammerName(i), hex.EncodeToString(fmt.Append(nil, rand.Uint64())))
		_ = os.Rename(path, filepath.Join(dir, "taken", taken)) //nolint:gosec // in the test's own folder
	}
	return ""
}

func tell(report, text string) {
	//nolint:gosec // in the test's own folder
	file, err := os.OpenFile(report, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err == nil {
		_, _ = fmt.Fprintln(file, text)
		_ = file.Close()
	}
}
