//go:build unix

package download

import (
	"bytes"
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// hammerEnv holds the job of a process that TestHammer starts from the test binary. hammerFullEnv
// selects the full size.
const (
	hammerEnv     = "RICLOUD_TEST_HAMMER"
	hammerFullEnv = "RICLOUD_TEST_HAMMER_FULL"
)

// hammerJob says what to test and in which folders.
type hammerJob struct {
	System string `json:"system"` // a key of breaks
	Dir    string `json:"dir"`
	Told   string `json:"told"`  // where the processes write their reports
	Files  int    `json:"files"` // few, so that processes compete for the same ones
}

// Two processes with eight goroutines each save the same files. Opens and flushes fail, flushes
// lose bytes, finished files are moved away, and the processes are stopped and killed at random.
// Save must succeed only with the whole file. No other content may appear under a file's name, no
// moved file may change, and every file that may be acknowledged exists.
//
// The short version uses 40 files and 8 kills for each process and system.
// RICLOUD_TEST_HAMMER_FULL=1 uses 500 files and 100 kills.
func TestHammer(t *testing.T) {
	t.Parallel()
	if text := os.Getenv(hammerEnv); text != "" {
		var job hammerJob
		require.NoError(t, json.Unmarshal([]byte(text), &job))
		job.run(t)
		return
	}
	files, kills := 40, 8
	if os.Getenv(hammerFullEnv) != "" {
		files, kills = 500, 100
	} else {
		t.Logf("the small form; %s=1 runs the full one", hammerFullEnv)
	}
	for name := range breaks {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			job := hammerJob{System: name, Dir: t.TempDir(), Told: t.TempDir(), Files: files}
			require.NoError(t, os.MkdirAll(job.taken(), 0o700))
			var group sync.WaitGroup
			for range 2 {
				group.Go(func() { job.startAndKill(t, kills) })
			}
			group.Wait()
			assert.Empty(t, job.told(t, wrong), "wrong successes")
			require.NotEmpty(t, job.told(t, right), "no Save succeeded")
			there := job.requireOnlyWholeFiles(t)
			acknowledged := job.told(t, acknowledgeable)
			for i := range strings.FieldsSeq(acknowledged) {
				require.True(t, there["file-"+i], "file-%s is acknowledged, and not there", i)
			}
			t.Logf("%d kills, %d successes, %d acknowledgeable, %d failed syncs", 2*kills,
				strings.Count(job.told(t, right), "\n"), strings.Count(acknowledged, "\n"),
				strings.Count(job.told(t, unsynced), "\n"))

			f, err := OpenFolder(job.Dir, "")
			require.NoError(t, err)
			defer func() { _ = f.Close() }()
			breaks[name](&f.sys)
			for i := range files {
				requireSaved(t, f, job.Dir, hammerName(i), &object{content: hammerContent(i)})
			}
			_, err = RemovePartials(t.Context(), job.Dir, time.Now().Add(time.Hour))
			require.NoError(t, err)
			assert.Len(t, names(t, job.Dir), files+1)
		})
	}
}

func hammerName(i int) string    { return fmt.Sprintf("file-%d", i) }
func hammerContent(i int) []byte { return random(1 + i + (i%40)*(i%40)*1000) }

func (j hammerJob) taken() string { return filepath.Join(j.Dir, "taken") }

// claims reports whether this system claims a name with an empty file, because it has no better
// way.
func (j hammerJob) claims() bool { return strings.Contains(j.System, "rename") }

// Each report of the processes is a file of its own.
const (
	wrong           = "wrong"           // Save succeeded, but the file differs
	right           = "right"           // Save succeeded with the whole file
	acknowledgeable = "acknowledgeable" // the file's name is on disk too
	unsynced        = "unsynced"        // a flush failed
)

func (j hammerJob) tell(about, text string) {
	file, err := os.OpenFile(filepath.Join(j.Told, about), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err == nil {
		_, _ = file.WriteString(text + "\n")
		_ = file.Close()
	}
}

func (j hammerJob) told(t *testing.T, about string) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(j.Told, about))
	if !errors.Is(err, fs.ErrNotExist) {
		require.NoError(t, err)
	}
	return string(text)
}

// startAndKill starts a process again and again, and kills each at a random moment.
func (j hammerJob) startAndKill(t *testing.T, kills int) {
	t.Helper()
	text, err := json.Marshal(j)
	if !assert.NoError(t, err) { //nolint:testifylint // require is for the test's goroutine
		return
	}
	for range kills {
		//nolint:gosec // this very program
		child := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestHammer$", "-test.count=1")
		child.Env = append(os.Environ(), hammerEnv+"="+string(text))
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

// requireOnlyWholeFiles checks every finished file, including moved ones, and returns which files
// exist.
func (j hammerJob) requireOnlyWholeFiles(t *testing.T) map[string]bool {
	t.Helper()
	there := map[string]bool{}
	for _, dir := range []string{j.Dir, j.taken()} {
		for _, name := range names(t, dir) {
			var i int
			if _, err := fmt.Sscanf(name, "file-%d", &i); err != nil {
				continue
			}
			content, err := os.ReadFile(filepath.Join(dir, name))
			require.NoError(t, err)
			if len(content) == 0 && j.claims() {
				continue
			}
			require.True(t, bytes.Equal(hammerContent(i), content), "%s: %d bytes", name, len(content))
			there[hammerName(i)] = true
		}
	}
	return there
}

// run is the work of a started process, until it is killed.
func (j hammerJob) run(t *testing.T) {
	t.Helper()
	var group sync.WaitGroup
	for range 8 {
		group.Go(func() {
			f, err := OpenFolder(j.Dir, "")
			if err != nil {
				return
			}
			defer func() { _ = f.Close() }()
			breaks[j.System](&f.sys)
			f.sys.sync = j.forgetfulSync
			for range 10_000 {
				j.save(f, rand.IntN(j.Files))
			}
		})
	}
	group.Wait()
}

// forgetfulSync fails in one of eight calls, and then loses what was written.
func (j hammerJob) forgetfulSync(file *os.File) error {
	if rand.IntN(8) > 0 {
		return nil // killing a process does not lose unflushed data
	}
	j.tell(unsynced, file.Name())
	if info, err := file.Stat(); err == nil {
		_, _ = file.WriteAt(make([]byte, min(info.Size(), 4096)), 0)
	}
	return &fs.PathError{Op: "sync", Path: file.Name(), Err: syscall.EIO}
}

// save saves a file once and reports the outcome.
func (j hammerJob) save(f *Folder, i int) {
	o := &object{content: hammerContent(i)}
	o.open = func(_ int, req Request) (*Object, error) {
		switch rand.IntN(4) {
		case 0:
			return nil, errBroken
		case 1:
			return o.broken(req.Offset, rand.IntN(len(o.content)-int(req.Offset)+1)), nil
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
		return
	}
	path := filepath.Join(j.Dir, kept.Name)
	got, err := os.ReadFile(path)
	switch {
	case err != nil, len(got) == 0 && j.claims():
		return // another goroutine has moved it
	case !bytes.Equal(got, o.content):
		j.tell(wrong, fmt.Sprintf("%s holds %d of %d bytes", kept.Name, len(got), len(o.content)))
		return
	}
	j.tell(right, kept.Name)
	if _, err := f.Sync(kept); err == nil {
		j.tell(acknowledgeable, strconv.Itoa(i))
	}
	if rand.IntN(4) == 0 { // move it away, as a user might
		taken := fmt.Sprintf("%s~%s", hammerName(i), hex.EncodeToString(fmt.Append(nil, rand.Uint64())))
		_ = os.Rename(path, filepath.Join(j.taken(), taken))
	}
}
